"""Traces kept between runs, by the content of the network: all that a forward pass on the meta device can depend on.

Covered are the module tree with every attribute, the shapes, the code that is loaded (not the file, which may have
been edited since) of every class and of what it calls, with the globals it reads, and torch's own settings. Installed
packages are trusted a little more than a user's own files. What can't be compared for certain raises Uncacheable, and
such a network is traced each time.
"""

from __future__ import annotations

import collections
import dis
import enum
import functools
import hashlib
import logging
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secost.kept import cache_folder, kept_file, read_kept, write_kept
from secost.networks import tracing
from secost.networks.tracing import Graph, trace, trace_image

_OWN_KEYS = frozenset(nn.Module().__dict__) | {"training"}
_PLAIN = (int, float, str, bool, bytes, type(None), complex, type(...), torch.dtype, torch.device, torch.layout)
_BUILT_IN_CONTAINERS = (list, tuple, set, frozenset, dict, collections.OrderedDict, collections.deque)
_NOT_IN_FORWARD = frozenset(
    "__init__ __repr__ __str__ extra_repr __doc__ __module__ __dict__ __weakref__ __annotations__ __qualname__ "
    "__firstlineno__ __static_attributes__ __parameters__ __orig_bases__ __abstractmethods__ _abc_impl "
    "__constants__ __jit_unused_properties__ __dataclass_fields__ __dataclass_params__".split()
)
# What makes a forward pass depend on more than the network; a user's code that names them is never cached.
_OUTSIDE = frozenset(
    "environ getenv open eval exec compile __import__ import_module globals locals vars input time perf_counter "
    "monotonic urandom random randint read_text read_bytes".split()
)
_IMPORT = dis.opmap["IMPORT_NAME"]
# Class attributes that are no data: slots, descriptors of C code.
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType)
_LARGEST_TENSOR = 1 << 22  # elements
_ZOOS = ("torch", "timm", "torchvision", "transformers")
_INSTALLED = tuple({*site.getsitepackages(), *sysconfig.get_paths().values()} - {""})


class Uncacheable(Exception):
    """Something in the network has no content that could be compared."""


def cached_trace(net: nn.Module, inputs: tuple[torch.Tensor, ...], dtype: torch.dtype | None = None) -> Graph:
    """The graph of one forward pass (in `dtype`, see `trace`), from the disk where the same was traced before."""
    path = content_file("traces", net, inputs, *([] if dtype is None else [str(dtype)]))
    graph = read_kept(path, Graph.from_dict)
    if graph is None:
        image = inputs[0]
        is_image = len(inputs) == 1 and image.ndim == 4 and image.shape[2] == image.shape[3]
        graph = trace_image(net, image, dtype) if is_image else trace(net, inputs, dtype)
        if path is not None and graph.on_meta:  # on real tensors the values decide as well
            write_kept(path, graph.to_dict())
    return graph


def content_file(kind: str, net: nn.Module, inputs: tuple[torch.Tensor, ...], *conditions: str) -> Path | None:
    """Where what follows from a network's content is kept; None where nothing is, or the content can't be told."""
    try:
        return None if cache_folder() is None else kept_file(kind, "-".join((fingerprint(net, inputs), *conditions)))
    except Uncacheable:
        return None


def fingerprint(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """SHA-256 of everything that a trace depends on. Raises Uncacheable where that can't be told."""
    try:
        return _Fingerprint(net).of(inputs)
    except Uncacheable:
        raise
    except Exception as error:  # other people's objects: reading one may raise anything
        raise Uncacheable(str(error)) from error


class _Fingerprint:
    """Collects the content piece by piece; each object is written once and then referred to by its number."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.names = {id(module): name for name, module in reversed(list(net.named_modules(remove_duplicate=False)))}
        self.numbers: dict[int, int] = {}
        self.kept: list[Any] = []  # holds every numbered object, so that no id is given out twice
        self.code: dict[int, tuple[Any, frozenset[str]]] = {}
        self.waiting: list[tuple[Any, frozenset[str]]] = []

    def of(self, inputs: tuple[torch.Tensor, ...]) -> str:
        digest = hashlib.sha256(repr((_settings(), [_tensor_shape(item) for item in inputs])).encode())
        for name, module in self.net.named_modules(remove_duplicate=False):
            known = self.names[id(module)]
            content = self.module(module) if known == name else f"={known}"
            digest.update(f"{name}:{content}\n".encode())
        while self.waiting:
            value, names = self.waiting.pop()
            digest.update(self.behind(value, names).encode())
        return digest.hexdigest()

    def module(self, module: nn.Module) -> str:
        """One module without its children: its class, tensors, attributes, hooks and the children's names."""
        self.refer(type(module))
        tensors = [(kind, name, None if tensor is None else _tensor_shape(tensor))
                   for kind, table in (("p", module._parameters), ("b", module._buffers))
                   for name, tensor in table.items()]
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        attributes = {key: value for key, value in module.__dict__.items() if key not in _OWN_KEYS}
        flags = [len(module._forward_hooks_with_kwargs), len(module._forward_pre_hooks_with_kwargs)]
        return (f"{_name_of(type(module))}|{tensors}|{self.value(attributes)}|{self.value(hooks)}|{flags}|"
                f"{list(module._modules)}")

    def value(self, value: Any) -> str:
        """A value as text that is equal only for equal values."""
        kind = type(value)
        if kind in _PLAIN or isinstance(value, torch.dtype):
            return repr(value)
        if id(value) in self.numbers:
            return f"#{self.numbers[id(value)]}"
        self.numbers[id(value)] = len(self.numbers)
        self.kept.append(value)
        if kind in _BUILT_IN_CONTAINERS:
            return self.container(value)
        if isinstance(value, torch.Tensor):
            return _tensor_content(value)
        if isinstance(value, nn.Module):
            return self.module_reference(value)
        return self.callable_or_object(value)

    def container(self, value: Any) -> str:
        kind = type(value).__name__
        if isinstance(value, dict):
            return f"{kind}{{{','.join(f'{self.value(key)}:{self.value(item)}' for key, item in value.items())}}}"
        if isinstance(value, set | frozenset):
            if not all(_is_plain(item) for item in value):
                raise Uncacheable("a set whose order is not known")
            return f"{kind}{sorted(map(repr, value))}"
        extra = value.maxlen if isinstance(value, collections.deque) else ""
        return f"{kind}{extra}[{','.join(map(self.value, value))}]"

    def module_reference(self, module: nn.Module) -> str:
        """A module of the tree by its name, one kept outside the tree by its content."""
        if id(module) in self.names:
            return f"module:{self.names[id(module)]}"
        parts = []
        for name, child in module.named_modules():
            self.names.setdefault(id(child), f"outside {id(module)}.{name}")
            parts.append(f"{name}:{self.module(child)}")
        return f"module{parts}"

    def callable_or_object(self, value: Any) -> str:
        if isinstance(value, types.FunctionType):
            self.refer(value)
            return f"function {_name_of(value)} {_code_digest(value.__code__)}"
        if isinstance(value, types.MethodType):
            return f"method({self.value(value.__func__)},{self.value(value.__self__)})"
        if isinstance(value, functools.partial):
            return f"partial({self.value(value.func)},{self.value(value.args)},{self.value(value.keywords)})"
        if isinstance(value, type):
            self.refer(value)
            return _name_of(value)
        if isinstance(value, types.ModuleType):
            return f"import {value.__name__}"
        if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType | type(None)):
            return _name_of(value)
        if isinstance(value, enum.Enum):
            return f"{_name_of(type(value))}.{value.name}"
        if isinstance(value, logging.Logger):
            return "logger"
        return self.object(value)

    def object(self, value: Any) -> str:
        """Any other object by what a copy of it would be made of, where that is all there is to it."""
        kind = type(value)
        self.refer(kind)
        for name in ("__reduce_ex__", "__reduce__", "__getstate__"):
            if isinstance(getattr(kind, name, None), types.FunctionType):
                raise Uncacheable(f"{kind.__name__} decides itself what a copy has")
        parts = value.__reduce_ex__(4)
        if isinstance(parts, str):
            return f"{_name_of(kind)}.{parts}"
        function, arguments, *rest = parts
        # The items of lists and dicts come as iterators.
        state = [list(part) if isinstance(part, Iterator) else part for part in rest]
        return f"{_name_of(kind)}({_name_of(function)},{self.value(tuple(arguments))},{self.value(state)})"

    def refer(self, value: Any, names: frozenset[str] = frozenset()) -> None:
        """Remember a class, a function, or names of an imported module, to be written once."""
        _, known = self.code.get(id(value), (None, None))
        if known is None or not names <= known:
            self.code[id(value)] = (value, names | (known or frozenset()))
            self.waiting.append((value, names - (known or frozenset())))

    def behind(self, value: Any, names: frozenset[str]) -> str:
        if isinstance(value, type):
            return self.class_content(value)
        if isinstance(value, types.FunctionType):
            return self.function_content(value)
        # What code reads as `module.name`.
        installed, members = _is_installed(value.__name__), vars(value)
        return f"\nimport {value.__name__}" + "".join(
            self.global_content(name, members[name], names, installed) for name in sorted(names) if name in members
        )

    def class_content(self, kind: type) -> str:
        parts = [f"\nclass {_name_of(kind)} {[_name_of(base) for base in kind.__mro__]}"]
        for base in kind.__mro__:
            if not _is_trusted(base):
                parts += [f"\n{name}={content}" for name, content in self.class_members(base)]
            elif isinstance(vars(base).get("forward"), types.FunctionType):  # one of torch's that was replaced
                parts.append(f"\nforward={_code_digest(vars(base)['forward'].__code__)}")
        return "".join(parts)

    def class_members(self, kind: type) -> Iterator[tuple[str, str]]:
        installed = _is_installed(kind.__module__)
        for name, value in vars(kind).items():
            if name in _NOT_IN_FORWARD and (installed or name != "__init__"):
                continue
            functions = _functions_of(value)
            for part in functions:
                yield name, self.value(part)
            if not functions and not isinstance(value, _DESCRIPTORS) and (not installed or _is_plain(value)):
                yield name, self.value(value)

    def function_content(self, function: types.FunctionType) -> str:
        if _is_trusted(function):
            return ""
        installed = _is_installed(function.__module__)
        names, imports = _names_in(function.__code__)
        if not installed and (names & _OUTSIDE or not all(map(_is_trusted_import, imports))):
            raise Uncacheable(f"{function.__qualname__} depends on more than the network")
        cells = [_cell_content(cell) for cell in function.__closure__ or ()]
        own = (function.__defaults__, function.__kwdefaults__, cells, vars(function))
        parts = [f"\ndef {_name_of(function)} "]
        parts.append(self.value(own) if not installed or _is_plain(own) else "".join(map(self.code_only, cells)))
        for name in sorted(names):
            if name in function.__globals__:
                parts.append(self.global_content(name, function.__globals__[name], names, installed))
        return "".join(parts)

    def global_content(self, name: str, value: Any, names: frozenset[str], installed: bool) -> str:
        if isinstance(value, types.ModuleType):
            self.refer(value, names)
            return f" {name}:{value.__name__}"
        if installed and not _is_plain(value):
            return f" {name}:{self.code_only(value)}"
        return f" {name}:{self.value(value)}"

    def code_only(self, value: Any) -> str:
        """An installed package's global: its code counts; loggers, registries and tables of names do not."""
        return self.value(value) if isinstance(value, types.FunctionType | type | functools.partial) else ""


def _settings() -> tuple[Any, ...]:
    """What of torch, this machine's packages and secost itself decides how a forward pass runs."""
    hooks = nn.modules.module
    if hooks._global_forward_hooks or hooks._global_forward_pre_hooks:
        raise Uncacheable("a global hook may change any value")
    versions = [getattr(sys.modules.get(name), "__version__", "") for name in _ZOOS]
    autocast = [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")]
    kernels = [getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in ("flash", "mem_efficient", "math")]
    return (
        versions, sys.version_info[:3], _tracer(), autocast, kernels, torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(), str(torch.get_default_device()),
    )


@functools.cache
def _tracer() -> str:
    """The tracer's own code: another secost makes another graph."""
    return hashlib.sha256(Path(tracing.__file__).read_bytes()).hexdigest()


def _tensor_shape(tensor: torch.Tensor) -> tuple[Any, ...]:
    strides = tensor.stride() if tensor.layout is torch.strided else ()
    return type(tensor).__name__, tuple(tensor.shape), strides, str(tensor.dtype), tensor.device.type


def _tensor_content(tensor: torch.Tensor) -> str:
    """A tensor that is neither parameter nor buffer: the forward may read its values."""
    if tensor.device.type == "meta":
        return str(_tensor_shape(tensor))
    plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.device.type == "cpu"
    if not plain or tensor.numel() > _LARGEST_TENSOR:
        raise Uncacheable("a tensor that is large or not on the CPU")
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor
    return f"{_tensor_shape(tensor)}{hashlib.sha256(flat.numpy().tobytes()).hexdigest()}"


def _name_of(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _is_plain(value: Any, depth: int = 0) -> bool:
    if type(value) in _PLAIN:
        return True
    if depth > 3 or type(value) not in _BUILT_IN_CONTAINERS or len(value) > 64:
        return False
    items = (*value.keys(), *value.values()) if isinstance(value, dict) else value
    return all(_is_plain(item, depth + 1) for item in items)


def _functions_of(value: Any) -> list[Any]:
    """The functions behind a class attribute, through property, staticmethod and the like."""
    if isinstance(value, types.FunctionType):
        return [value]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [part for part in (value.fget, value.fset) if part is not None]
    return [value.func] if isinstance(value, functools.cached_property) else []


def _cell_content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The global and attribute names in a function, inner functions included, and what it imports."""
    names: set[str] = set()
    imports: set[str] = set()
    for part in _codes(code):
        names.update(part.co_names)
        if _IMPORT in part.co_code[::2]:
            imports.update(step.argval for step in dis.get_instructions(part) if step.opname == "IMPORT_NAME")
    return frozenset(names), frozenset(imports)


@functools.cache
def _code_digest(code: types.CodeType) -> str:
    """A function's instructions and constants, those of inner functions included; not its line numbers."""
    digest = hashlib.sha256()
    for part in _codes(code):
        constants = ["code" if isinstance(item, types.CodeType) else
                     str(sorted(map(repr, item))) if isinstance(item, frozenset) else repr(item)
                     for item in part.co_consts]
        digest.update(repr((part.co_code, constants, part.co_names, part.co_varnames, part.co_freevars)).encode())
    return digest.hexdigest()[:16]


def _is_trusted(value: Any) -> bool:
    """Torch's own code and built-in code: known by torch's version."""
    return str(getattr(value, "__module__", "") or "").partition(".")[0] in ("torch", "builtins", "typing", "abc")


def _is_trusted_import(name: str) -> bool:
    return name.partition(".")[0] in ("torch", "math", "typing", "itertools", "functools", "operator", "warnings")


def _is_installed(name: str) -> bool:
    """Whether a module belongs to the standard library or an installed package."""
    path = getattr(sys.modules.get(name), "__file__", None)
    return name in sys.builtin_module_names if path is None else str(path).startswith(_INSTALLED)

"""Keeps traces on disk, by the content of the network, so that a second call is fast.

The key covers what a forward pass can depend on: the module tree with every attribute, the code of every class (and,
for a user's own files, of all they import), shapes, and the inputs. What can't be read for certain (a user's hook, an
object without a plain value) makes a network uncacheable: a stale trace is never used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secost.networks.sources import Example, as_inputs
from secost.networks.tracing import Graph, image_input, trace, trace_at

CACHE_VERSION = 1
_OWN_KEYS = frozenset(nn.Module().__dict__) | {"training"}
_PLAIN = (int, float, str, bool, bytes, type(None), complex)


class Uncacheable(Exception):
    """Something in the network has no content that could be compared."""


def inputs_for(net: nn.Module, resolution: int | None, example: Example | None) -> tuple[torch.Tensor, ...]:
    """The inputs to trace with: the example, the network's own `example_input_array`, or a made image."""
    if example is not None:
        return as_inputs(example)
    own = getattr(net, "example_input_array", None)
    if own is not None:
        return as_inputs(own, "example_input_array")
    return image_input(net, resolution or 224)


def cached_trace(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Graph:
    """The graph of one forward pass, from the disk where the same network was traced before."""
    path = _cache_path(net, inputs)
    if path is not None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return Graph.from_dict(json.loads(path.read_text(encoding="utf-8")))
    single = len(inputs) == 1 and inputs[0].ndim == 4 and inputs[0].shape[2] == inputs[0].shape[3]
    graph = trace_at(net, int(inputs[0].shape[2])) if single and inputs[0].shape[1] == 3 else trace(net, inputs)
    if path is not None and graph.on_meta:
        _write(path, json.dumps(graph.to_dict(), separators=(",", ":")))
    return graph


def cache_folder() -> Path:
    """`$SECOST_CACHE`, else the user's cache folder."""
    if os.environ.get("SECOST_CACHE"):
        return Path(os.environ["SECOST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secost"


def fingerprint(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """SHA-256 of everything that a trace depends on. Raises Uncacheable where that can't be told."""
    digest = hashlib.sha256()
    head = [CACHE_VERSION, torch.__version__, [(list(item.shape), str(item.dtype)) for item in inputs]]
    digest.update(json.dumps(head).encode())
    classes: set[type] = set()
    seen: dict[int, str] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if id(module) in seen:
            digest.update(f"{name}={seen[id(module)]}".encode())
            continue
        seen[id(module)] = name
        classes.add(type(module))
        digest.update(f"{name}:{_module_content(module)}\n".encode())
    digest.update(_code_content(classes).encode())
    return digest.hexdigest()


def _cache_path(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Path | None:
    if os.environ.get("SECOST_CACHE") == "":
        return None
    try:
        return cache_folder() / "traces" / f"{fingerprint(net, inputs)}.json"
    except (Uncacheable, OSError):
        return None


def _module_content(module: nn.Module) -> str:
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    tensors = [
        f"{kind}{name}:{None if tensor is None else (tuple(tensor.shape), tensor.dtype)}"
        for kind, table in (("p", module._parameters), ("b", module._buffers))
        for name, tensor in table.items()
    ]
    attributes = {key: value for key, value in module.__dict__.items() if key not in _OWN_KEYS}
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    return f"{kind}|{tensors}|{_content(attributes)}|{[_content(hook) for hook in hooks]}|{list(module._modules)}"


def _content(value: Any, depth: int = 0) -> str:
    """A value as text that is equal only for equal values."""
    if depth > 6:
        raise Uncacheable
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"tensor{tuple(value.shape)}{value.dtype}"
    if isinstance(value, nn.Module):
        return f"module:{type(value).__qualname__}"
    if isinstance(value, torch.dtype | torch.device | torch.Size):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{','.join(_content(item, depth + 1) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"set[{','.join(sorted(_content(item, depth + 1) for item in value))}]"
    if isinstance(value, dict):
        pairs = (f"{_content(key, depth + 1)}:{_content(item, depth + 1)}" for key, item in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, functools.partial):
        return f"partial({_content(value.func, depth + 1)},{_content([value.args, value.keywords], depth + 1)})"
    return _object_content(value, depth)


def _object_content(value: Any, depth: int) -> str:
    if isinstance(value, types.MethodType):
        return f"method({_function_content(value.__func__, depth)})"
    if isinstance(value, types.FunctionType):
        return _function_content(value, depth)
    if isinstance(value, type | types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "__dict__") and not callable(getattr(value, "__getstate__", None) and None):
        kind = type(value)
        return f"{kind.__module__}.{kind.__qualname__}{_content(vars(value), depth + 1)}"
    raise Uncacheable


def _function_content(function: types.FunctionType, depth: int) -> str:
    code = function.__code__
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    constants = [item for item in code.co_consts if isinstance(item, _PLAIN)]
    parts = [code.co_code, constants, list(code.co_names), list(function.__defaults__ or ()), cells]
    return f"{function.__module__}.{function.__qualname__}{_content(parts, depth + 1)}"


def _code_content(classes: Iterable[type]) -> str:
    """The code behind the classes: installed packages by version, everything else by its files' content."""
    modules = {base.__module__ for kind in classes for base in kind.__mro__}
    waiting, seen, parts = sorted(modules), set(), []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in sys.modules:
            continue
        seen.add(name)
        module = sys.modules[name]
        path = getattr(module, "__file__", None)
        if path is None:
            if name == "__main__":
                raise Uncacheable
            continue
        if _is_installed(path):
            top = sys.modules.get(name.partition(".")[0])
            parts.append(f"{name}:{getattr(top, '__version__', '')}:{Path(path).stat().st_mtime_ns}")
            continue
        parts.append(f"{name}:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}")
        waiting += sorted(_imported_by(module) - seen)
    return "\n".join(sorted(parts))


def _imported_by(module: types.ModuleType) -> set[str]:
    """Names of the modules that a module's globals come from."""
    return {
        value.__name__ if isinstance(value, types.ModuleType) else str(getattr(value, "__module__", ""))
        for value in vars(module).values()
    }


def _is_installed(path: str) -> bool:
    return "site-packages" in path or "dist-packages" in path or path.startswith((sys.base_prefix, sys.prefix))


def _write(path: Path, text: str) -> None:
    """Whole or not at all; a cache that can't be written is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)

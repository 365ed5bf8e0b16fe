"""Attention at a site: a module that stands in for the one there, holds it, and runs attention before or after it.

A stand-in is a real module of the tree, so what copies, pickles, trains, compiles, exports, traces with FX, scripts or
fuses the network takes attention along. In the state dict the module held keeps the keys that it had, and attention has
its own beside. Names that secost shows are those of the network as it came: `plain_names`. `surgery` decides what is
attached where.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.ao.quantization import fuser_method_mappings
from torch.nn.modules import module as _module

from secost.errors import SecostError, one_line
from secost.networks.attention_modules import Attention

if TYPE_CHECKING:
    from secost.networks.sites import Site

_HELD = "original"
_GLOBAL_PRE, _GLOBAL = _module._global_forward_pre_hooks, _module._global_forward_hooks
_tracing = torch._C._get_tracing_state
_CALL = nn.Module.__call__  # what patches it (FX, fvcore) looks at every call
_GLOBAL_BACKWARD_PRE, _GLOBAL_BACKWARD = _module._global_backward_pre_hooks, _module._global_backward_hooks
_OWN_TABLES = frozenset(vars(nn.Module()))
_CHILD = {"output": "secost", "input": "secost_input"}


class StandIn(nn.Module):
    """In the place of a module of the network, which it holds; whatever is asked of it that it lacks is asked of that,
    so what is its own has names that no one else gives.

    Keys of the module held are in the state dict as they were before. `secost_first` tells that it does something to
    the inputs of the module held: then its call counts for that module's, whose inputs are gated already.
    """

    secost_first = True
    __jit_unused_properties__ = tuple[str, ...](("original",))

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._modules[_HELD] = module
        self.training = module.training

    @property
    def original(self) -> nn.Module:
        """The module held. A property, as a pass must not pay for `__getattr__`."""
        return self._modules[_HELD]  # type: ignore[return-value]

    def forward(self, *args: Any, **keywords: Any) -> Any:
        return self.original(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        if _HELD not in modules:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(modules[_HELD], name)

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get("_modules", {}).get(_HELD)
        foreign = held is not None and name not in self.__dict__ and name not in self._modules
        if foreign and not hasattr(nn.Module, name) and hasattr(held, name):
            setattr(held, name, value)
        else:
            super().__setattr__(name, value)

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.original)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.original)  # type: ignore[call-overload, no-any-return]

    def __getitem__(self, key: Any) -> Any:
        return self.original[key]  # type: ignore[index]

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        for name, child in self._modules.items():
            assert child is not None
            inside = prefix if name == _HELD else f"{prefix}{name}."
            child.state_dict(destination=destination, prefix=inside, keep_vars=keep_vars)
        return destination

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = tuple(f"{prefix}{name}." for name in self._modules if name != _HELD)
        for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(own)]:
            state_dict[f"{prefix}{_HELD}.{key[len(prefix):]}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Attended(StandIn):
    """A module with attention at the first map (N, C, H, W) among its outputs, or its arguments; in a tuple, list or
    dict too. `keep`, where given, gets that map as it was before the gate."""

    __jit_unused_properties__ = tuple[str, ...](("original", "secost_attention"))

    def __init__(
        self, module: nn.Module, attention: nn.Module, site: Site, kind: str, keep: Keep | None = None
    ) -> None:
        super().__init__(module)
        self.__dict__.update(secost_site=site, secost_kind=kind, secost_keep=keep, secost_nhwc=site.channels_last,
                             secost_first=site.side == "input", secost_name=_CHILD[site.side])
        self._modules[self.secost_name] = attention

    @property
    def secost_attention(self) -> nn.Module:
        attention: nn.Module = self._modules[self.secost_name]  # type: ignore[assignment]
        return attention

    def forward(self, *args: Any, **keywords: Any) -> Any:
        if self.secost_site.side == "output":
            return self._in(self.original(*args, **keywords))
        if self.secost_keep is not None:
            self.secost_keep.map = next(value for value in args if _is_map(value))
        return self.original(*self._in(args), **keywords)

    def _in(self, values: Any) -> Any:
        """The same value or container of values, with its first map gated."""
        if isinstance(values, Tensor):
            return self._gated(values)
        if isinstance(values, dict):  # transformers' outputs too: a copy keeps the class
            name = next(name for name, value in values.items() if _is_map(value))
            changed = copy(values)
            changed[name] = self._gated(values[name])
            return changed
        items = list(values)
        first = next(index for index, value in enumerate(items) if _is_map(value))
        items[first] = self._gated(items[first])
        return type(values)(*items) if hasattr(values, "_fields") else type(values)(items)

    def _gated(self, x: Tensor) -> Tensor:
        # NHWC inside the block: attention is written for (N, C, H, W); the permutations move no data.
        gated: Tensor = self.secost_attention(x.permute(0, 3, 1, 2) if self.secost_nhwc else x)
        return gated.permute(0, 2, 3, 1) if self.secost_nhwc else gated


class _OneTensor(Attended):
    """A module that takes one tensor and gives one, with attention beside: nothing to look up in a pass.

    Where nothing looks at the three (no hook, no tracing, no FX), the two forwards run without what `Module.__call__`
    has for those. A module's call costs as much as an identity does, and a stand-in must not be what is measured: so
    it pays with the held module's call for its own.
    """

    def __call__(self, x: Tensor) -> Tensor:
        parts: Any = self._modules
        held, attention = parts[_HELD], parts[self.secost_name]
        if (
            _GLOBAL_PRE or _GLOBAL or _GLOBAL_BACKWARD_PRE or _GLOBAL_BACKWARD or type(x) is not Tensor
            or type(held).__call__ is not _CALL or type(attention).__call__ is not _CALL
            or self._forward_pre_hooks or self._forward_hooks or self._backward_pre_hooks or self._backward_hooks
            or held._forward_pre_hooks or held._forward_hooks or held._backward_pre_hooks or held._backward_hooks
            or attention._forward_pre_hooks or attention._forward_hooks
            or attention._backward_pre_hooks or attention._backward_hooks or self._compiled_call_impl
            or held._compiled_call_impl or attention._compiled_call_impl or self.secost_nhwc or _tracing()
        ):
            return super().__call__(x)  # type: ignore[no-any-return]
        if self.secost_first:
            return held.forward(attention.forward(x))  # type: ignore[no-any-return]
        return attention.forward(held.forward(x))  # type: ignore[no-any-return]


class AttendedOutput(_OneTensor):
    """With attention after it."""

    __jit_unused_properties__ = ("original", "secost_attention", "secost")

    @property
    def secost(self) -> nn.Module:
        return self._modules["secost"]  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.original(x)
        if self.secost_nhwc:
            y = self.secost(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            y = self.secost(y)
        return y


class AttendedInput(_OneTensor):
    """With attention before it."""

    __jit_unused_properties__ = ("original", "secost_attention", "secost_input")

    @property
    def secost_input(self) -> nn.Module:
        return self._modules["secost_input"]  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        if self.secost_nhwc:
            x = self.secost_input(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            x = self.secost_input(x)
        y: Tensor = self.original(x)
        return y


@dataclass
class Keep:
    """The ungated map on its way from a block's input to the branch (identity integration)."""

    map: Tensor | None = None


class GiveBack(StandIn):
    """Hands the branch the map as it was before the gate."""

    def __init__(self, module: nn.Module, keep: Keep) -> None:
        super().__init__(module)
        self.__dict__.update(secost_keep=keep)

    def forward(self, *args: Any, **keywords: Any) -> Any:
        kept, self.secost_keep.map = self.secost_keep.map, None
        return self.original(*(args if kept is None else (kept, *args[1:])), **keywords)


class Edit(NamedTuple):
    """One place that holds a module: a table of children, or an attribute, list or dict that runs it as well."""

    table: Any
    key: Any
    before: nn.Module
    after: nn.Module


@dataclass
class Placed:
    """One attention module for one site."""

    site: Site
    kind: str
    attention: nn.Module

    def put(self, net: nn.Module) -> list[Edit]:
        """Put the attention into the network; the list is what `undo` takes to take it out again."""
        site, carrier = self.site, net.get_submodule(self.site.path)
        keep = None if site.restore is None else Keep()
        plain = {"output": AttendedOutput, "input": AttendedInput}[site.side]
        kind = plain if site.one_tensor and keep is None else Attended
        edits = replace_module(net, carrier, kind(carrier, self.attention, site, self.kind, keep))
        if site.restore is not None and keep is not None:
            branch = net.get_submodule(site.restore)
            edits += replace_module(net, branch, GiveBack(branch, keep))
        return edits


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4


def replace_module(net: nn.Module, before: nn.Module, after: nn.Module) -> list[Edit]:
    """Put a module in the place of another wherever the network holds it; hooks of others are left alone."""
    edits = [Edit(table, key, before, after) for table in _tables(net)
             for key, value in (table.items() if isinstance(table, dict) else enumerate(table)) if value is before]
    redo(edits)
    return edits


def redo(edits: Iterable[Edit]) -> None:
    for edit in edits:
        edit.table[edit.key] = edit.after


def undo(edits: Sequence[Edit]) -> None:
    for edit in reversed(edits):
        edit.table[edit.key] = edit.before


def _tables(net: nn.Module) -> Iterator[Any]:
    """What may hold a module: each one's children, its attributes, and the lists and dicts among these."""
    for module in list(net.modules()):
        yield module._modules
        yield vars(module)
        yield from (value for name, value in vars(module).items()
                    if type(value) in (list, dict) and name not in _OWN_TABLES)


def stand_ins(net: nn.Module) -> list[StandIn]:
    return [module for module in net.modules() if isinstance(module, StandIn)]


def attended(net: nn.Module) -> list[Attended]:
    """What carries attention that secost attached, in the order of the tree."""
    return [module for module in net.modules() if isinstance(module, Attended)]


def take_out(net: nn.Module, chosen: Iterable[StandIn] | None = None) -> list[Edit]:
    """The modules held in the place of these stand-ins, or of all; `undo` brings them back."""
    return [edit for item in (stand_ins(net) if chosen is None else list(chosen))
            for edit in replace_module(net, item, item.original)]


def attended_at(net: nn.Module, site: Site) -> list[Attended]:
    """What gates the map of a site: it stands for the site's module, on the same side of it."""
    return [item for item in attended(net) if (item.secost_site.path, item.secost_site.side) == (site.path, site.side)]


def attention_at(net: nn.Module, chosen: Sequence[Site]) -> list[nn.Module]:
    """The attention that secost put at these sites, in their order; empty where one of them has none."""
    at_sites = [attended_at(net, site) for site in chosen]
    return [at_site[0].secost_attention for at_site in at_sites] if all(at_sites) else []


def plain_names(net: nn.Module) -> dict[str, nn.Module]:
    """Every module by the names that it would have without stand-ins; attention by its own, beside the module's parts.

    A stand-in and the module that it holds have one name, which the one has that takes the inputs as they came.
    """
    names: dict[str, nn.Module] = {}

    def add(module: nn.Module, name: str) -> None:
        if not isinstance(module, StandIn) or module.secost_first:
            names.setdefault(name, module)
        for child_name, child in module._modules.items():
            if child is not None:
                held = isinstance(module, StandIn) and child_name == _HELD
                add(child, name if held else f"{name}.{child_name}".removeprefix("."))

    add(net, "")
    return names


def kind_of(module: nn.Module) -> str:
    """The name of a module's class, of a stand-in that of what it holds."""
    while isinstance(module, StandIn):
        module = module.original
    return type(module).__name__


def attached_paths(net: nn.Module) -> frozenset[str]:
    """Paths of the attention modules that secost attached."""
    return frozenset(name for name, module in plain_names(net).items() if isinstance(module, Attention) and name)


def standalone(net: nn.Module) -> nn.Module:
    """A copy of the network, sharing the storage of every parameter and buffer.

    Casting or moving the copy leaves the original as it is; writing into a weight in place changes both. Raises
    SecostError for a network that can't be copied.
    """
    memo: dict[int, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            alias = tensor.detach()
            if isinstance(tensor, nn.Parameter):
                alias = nn.Parameter(alias, tensor.requires_grad)
            memo[id(tensor)] = alias
        try:
            return deepcopy(net, memo)
        except Exception as error:  # other people's modules: copying one may raise anything
            raise SecostError(f"{type(net).__name__} can't be copied for a backend: {one_line(error)}") from error


def _fuse_before_attention(is_qat: bool, *parts: nn.Module) -> nn.Module:
    """torch's eager fusion where attention follows the last part: the fused module, with that attention after it."""
    last = parts[-1]
    assert isinstance(last, Attended)
    if last.secost_site.side != "output":
        raise SecostError(f"{last.secost_site.path} can't be fused with what is before it: attention sits between; "
                          "leave it out")
    modules = (*parts[:-1], last.original)
    fuse = fuser_method_mappings.get_fuser_method(tuple(map(type, modules)))  # type: ignore[no-untyped-call]
    fused = fuse(is_qat, *modules)
    for hook in last.original._forward_hooks.values():
        fused.register_forward_hook(hook)
    return type(last)(fused, last.secost_attention, last.secost_site, last.secost_kind)


def _let_eager_fusion_pass() -> None:
    """Teach `torch.ao.quantization.fuse_modules`, which goes by exact types, the sequences that end in attention."""
    table = fuser_method_mappings._DEFAULT_OP_LIST_TO_FUSER_METHOD
    for types in list(table):
        for kind in (Attended, AttendedOutput):
            table[(*types[:-1], kind)] = _fuse_before_attention


_let_eager_fusion_pass()

"""Attention at a site: a module beside the one there, and the hooks that bring it into the forward pass.

Attached attention is a submodule of the module at its site plus a hook on it, so every key of the original state dict
stays as it was, and the network still copies, pickles, trains, compiles and exports. `surgery` decides what is
attached where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secost.errors import SecostError, one_line
from secost.networks.attention_modules import Attention
from secost.networks.sites import Site

_CHILD = {"output": "secost", "input": "secost_input"}
_RUNS_ITS_CHILDREN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
HookTable = dict[int, Any]


@dataclass
class Placed:
    """One attention module for one site, and the hooks that bring it into the forward pass."""

    site: Site
    kind: str
    attention: nn.Module

    def hook_on(self, net: nn.Module) -> list[RemovableHandle]:
        module, site = net.get_submodule(self.site.path), self.site
        if site.restore is not None:
            keep = _Keep(site.channels)
            return [
                module.register_forward_pre_hook(InputHook(site, self.kind, self.attention, keep)),
                net.get_submodule(site.restore).register_forward_pre_hook(GiveBack(keep)),
            ]
        if site.side == "input":
            return [module.register_forward_pre_hook(InputHook(site, self.kind, self.attention))]
        return [module.register_forward_hook(OutputHook(site, self.kind, self.attention))]

    def register(self, net: nn.Module) -> None:
        """The hooks, and the module in the tree, at a place where nothing else runs it."""
        self.hook_on(net)
        _add_beside(net.get_submodule(self.site.path), self.site, self.attention)


@dataclass
class _Keep:
    """The ungated map on its way from a block's input to the branch (identity integration)."""

    channels: int
    map: Tensor | None = None


@dataclass
class MapHook:
    """A hook that passes a module's map through attention. Plain data, so that it copies and pickles."""

    site: Site
    kind: str
    attention: nn.Module

    def apply(self, values: Any) -> Any:
        """The same value or container of values, with its first map gated."""
        if isinstance(values, Tensor):
            return self._on_map(values)
        if isinstance(values, dict):  # transformers' outputs too: a copy keeps the class
            name = next(name for name, value in values.items() if _is_map(value))
            changed = copy(values)
            changed[name] = self._on_map(values[name])
            return changed
        items = list(values)
        first = next(index for index, value in enumerate(items) if _is_map(value))
        items[first] = self._on_map(items[first])
        return type(values)(*items) if hasattr(values, "_fields") else type(values)(items)

    def _on_map(self, x: Tensor) -> Tensor:
        # NHWC inside the block: attention is written for (N, C, H, W); the permutations move no data.
        last = self.site.channels_last
        gated: Tensor = self.attention(x.permute(0, 3, 1, 2) if last else x)
        return gated.permute(0, 2, 3, 1) if last else gated


@dataclass
class OutputHook(MapHook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self.apply(output)


@dataclass
class InputHook(MapHook):
    keep: _Keep | None = None

    def __call__(self, module: nn.Module, args: Any) -> Any:
        if self.keep is not None:
            self.keep.map = next(value for value in args if _is_map(value))
        return self.apply(args)


@dataclass
class GiveBack:
    """Hands the branch the map as it was before the gate."""

    keep: _Keep

    def __call__(self, module: nn.Module, args: Any) -> Any:
        kept, self.keep.map = self.keep.map, None
        return args if kept is None else (kept, *args[1:])


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4


def _add_beside(module: nn.Module, site: Site, attention: nn.Module) -> None:
    """Register attention in a module's tree, by a free name, under the last module there without children of its own.

    A module with children may run all it holds (a Sequential, a loop over `children()`); one without has no such loop.
    """
    ours = [leaf for leaf in module.modules() if any(isinstance(child, Attention) for child in leaf.children())]
    inside = {id(part) for leaf in ours for child in leaf.children() if isinstance(child, Attention)
              for part in child.modules()}
    free = [leaf for leaf in module.modules()
            if not leaf._modules and not isinstance(leaf, _RUNS_ITS_CHILDREN) and id(leaf) not in inside]
    host = free[-1] if free else ours[-1] if ours else module
    name = _CHILD[site.side]
    names = (name, *(f"{name}{number}" for number in range(2, len(host._modules) + 3)))
    host.add_module(next(candidate for candidate in names if candidate not in host._modules), attention)


def hook_tables(net: nn.Module) -> list[tuple[HookTable, HookTable]]:
    """Each module's tables of forward hooks, with a copy of what is in them."""
    return [(table, dict(table)) for _, table in _tables(net)]


def _tables(net: nn.Module) -> Iterator[tuple[nn.Module, HookTable]]:
    return ((module, table) for module in net.modules()
            for table in (module._forward_hooks, module._forward_pre_hooks))


def restore_hooks(tables: list[tuple[HookTable, HookTable]]) -> None:
    for table, content in tables:
        if list(table) != list(content):
            table.clear()
            table.update(content)


def drop_our_hooks(net: nn.Module) -> None:
    for table, content in hook_tables(net):
        for key, hook in content.items():
            if isinstance(hook, MapHook | GiveBack):
                del table[key]


@contextmanager
def hooks_off(net: nn.Module) -> Iterator[None]:
    """The network without what `attach` hooked to it, for a while."""
    tables = hook_tables(net)
    drop_our_hooks(net)
    try:
        yield
    finally:
        restore_hooks(tables)


def our_hooks(net: nn.Module) -> list[tuple[nn.Module, MapHook | GiveBack]]:
    return [(module, hook) for module, table in _tables(net) for hook in table.values()
            if isinstance(hook, MapHook | GiveBack)]


def detach(module: nn.Module, hook: MapHook | GiveBack) -> None:
    """Take one of our hooks off its module, and its attention out of the tree."""
    for table in (module._forward_hooks, module._forward_pre_hooks):
        for key, value in list(table.items()):
            if value is hook:
                del table[key]
    if isinstance(hook, MapHook):
        for parent in list(module.modules()):
            for name, child in list(parent._modules.items()):
                if child is hook.attention:
                    del parent._modules[name]


def hooks_at(net: nn.Module, site: Site) -> list[MapHook]:
    """Our hooks that gate the map of a site: on its module, on the same side of it."""
    carrier = net.get_submodule(site.path)
    return [hook for module, hook in our_hooks(net)
            if module is carrier and isinstance(hook, MapHook) and hook.site.side == site.side]


def attached_paths(net: nn.Module) -> frozenset[str]:
    """Paths of the attention modules that secost attached."""
    return frozenset(name for name, module in net.named_modules() if isinstance(module, Attention) and name)


def set_module(net: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of another; its hooks and names elsewhere are left alone."""
    parent, _, name = path.rpartition(".")
    net.get_submodule(parent)._modules[name] = module


def standalone(net: nn.Module) -> nn.Module:
    """A copy of the network as it runs now, sharing the storage of every parameter and buffer.

    What a `Switch` has selected is in it, as submodules, so that it converts, moves and exports like a network that
    attention was attached to. Casting or moving the copy leaves the original as it is; writing into a weight in place
    changes both. Raises SecostError for a network that can't be copied.
    """
    memo: dict[int, Any] = {}
    parts = [net, *(hook.attention for _, hook in our_hooks(net) if isinstance(hook, MapHook))]
    with torch.inference_mode(False), torch.no_grad():
        for tensor in (tensor for part in parts for tensor in (*part.parameters(), *part.buffers())):
            alias = tensor.detach()
            if isinstance(tensor, nn.Parameter):
                alias = nn.Parameter(alias, tensor.requires_grad)
            memo[id(tensor)] = alias
        try:
            copied = deepcopy(net, memo)
        except Exception as error:  # other people's modules: copying one may raise anything
            raise SecostError(f"{type(net).__name__} can't be copied for a backend: {one_line(error)}") from error
    for module, hook in our_hooks(copied):
        if isinstance(hook, MapHook) and not any(hook.attention is known for known in copied.modules()):
            _add_beside(module, hook.site, hook.attention)
    return copied


def attention_at(net: nn.Module, chosen: Sequence[Site]) -> list[nn.Module]:
    """The attention that secost put at these sites, in their order; empty where one of them has none."""
    hooks = [hooks_at(net, site) for site in chosen]
    return [at_site[0].attention for at_site in hooks] if all(hooks) else []


@contextmanager
def hooks_described(net: nn.Module) -> Iterator[str | None]:
    """The network without what `attach` hooked to it, for a while, and what that is, as text.

    For a hash of the network: what hooks do follows from their sites and from their modules, which stay in the tree.
    None where one of these is no submodule.
    """
    names = {id(module): name for name, module in net.named_modules()}
    keeps: dict[int, int] = {}
    lines: list[tuple[Any, ...]] = []
    for name, module in net.named_modules():
        for table in (module._forward_hooks, module._forward_pre_hooks):
            for place, hook in enumerate(table.values()):
                if isinstance(hook, MapHook | GiveBack):
                    keep = keeps.setdefault(id(getattr(hook, "keep", None)), len(keeps))
                    gate = isinstance(hook, MapHook) and (hook.site, hook.kind, names.get(id(hook.attention)))
                    lines.append((name, place, type(hook).__name__, keep, gate))
    known = all(id(hook.attention) in names for _, hook in our_hooks(net) if isinstance(hook, MapHook))
    with hooks_off(net):
        yield repr(lines) if known else None

"""Puts attention into a network and takes it out: attach, strip, set_reduction, and a switch between variants.

Attached attention is a submodule of the module at its site plus a hook on it, so every key of the original state
dict stays as it was, and the network still copies, pickles, trains, compiles and exports. The network's own
attention is replaced by `nn.Identity()`. `sites` says where, `attention` says what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secost.errors import BadSpecError, NoSiteError
from secost.networks.attention import ATTENTION, Attention, build_attention
from secost.networks.cache import cached_trace, inputs_for
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.sources import Example
from secost.networks.tracing import Graph
from secost.spec import BASELINE, NATIVE

_CHILD = {"output": "secost", "input": "secost_input"}
_RUNS_ITS_CHILDREN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def sites(
    net: nn.Module, placement: str = "auto", integration: str = "standard", stages: Sequence[int] | None = None,
    resolution: int = 224, example: Example | None = None,
) -> list[Site]:
    """The places where attention can sit, in the order of the data; an empty list where there is none.

    The network is traced with an image (1, 3, resolution, resolution), or with `example`, a tensor or a tuple of
    tensors. Raises UnknownNameError for an unknown placement or integration, NoSiteError for a stage that the network
    does not have, BadSpecError where the resolution does not fit it.
    """
    graph = cached_trace(net, inputs_for(net, resolution, example))
    chosen = None if stages is None else tuple(stages)
    return find_sites(graph, placement, integration, chosen, attached_paths(net))


def attach(
    net: nn.Module, attention: str, reduction: int | None = 16, placement: str = "auto", integration: str = "standard",
    stages: Sequence[int] | None = None, resolution: int = 224, example: Example | None = None,
    replace: bool = False, at: Sequence[Site] | None = None,
) -> nn.Module:
    """Put attention into the network, in place, and return it.

    `at` names the sites yourself (from `sites`, filtered); otherwise placement, integration and stages choose them.
    Where attention sits already, the network's own or ours, this is refused unless `replace`. Raises NoSiteError where
    there is no site, BadSpecError for a reduction below 1 or above the channels of a site (naming the sites).
    """
    if attention in (BASELINE, NATIVE):
        raise BadSpecError(f"{attention!r} is not an attention to attach: use strip(net) to take attention out")
    chosen = list(at) if at is not None else sites(net, placement, integration, stages, resolution, example)
    require_sites(chosen, net, placement)
    if replace:
        _clear(net, chosen)
    else:
        _refuse_occupied(net, chosen)
    for placed in build_placed(net, chosen, attention, reduction):
        placed.register(net)
    return net


def strip(net: nn.Module, resolution: int = 224, example: Example | None = None) -> nn.Module:
    """Take all attention out, in place, and return the network: ours, and its own wherever that is a module.

    A module of the network's own is replaced by `nn.Identity()`, so its weights leave the state dict. Attention
    written out in a larger module's forward stays (`FoundAttention.path` is None for it).
    """
    for module in list(net.modules()):
        _remove_hooks(module)
    graph = cached_trace(net, inputs_for(net, resolution, example))
    for path in native_paths(graph):
        set_module(net, path, nn.Identity())
    return net


def set_reduction(net: nn.Module, reduction: int) -> nn.Module:
    """Give all attention that secost attached a new reduction ratio, in place; its weights are drawn anew.

    Raises BadSpecError where nothing is attached, or the attention has no reduction ratio.
    """
    hooks = [hook for _, hook in _our_hooks(net)]
    if not hooks:
        raise BadSpecError("set_reduction found nothing that secost attached: call attach(net, ...) first")
    for name in {hook.kind for hook in hooks}:
        if not ATTENTION.get(name).has_reduction:
            raise BadSpecError(f"{name} has no reduction ratio to set")
    for name in {hook.kind for hook in hooks}:
        chosen = [hook.site for hook in hooks if hook.kind == name]
        check_reduction(chosen, reduction)
        _clear(net, chosen)
        for placed in build_placed(net, chosen, name, reduction):
            placed.register(net)
    return net


class Switch:
    """Several variants of one network on one set of weights; one at a time is the network.

    `none` is the stripped network and `native` the network as it came. Leave the `with` block and the network is as
    it was found.
    """

    def __init__(self, net: nn.Module, natives: Iterable[str]) -> None:
        self.net = net
        self._natives = {path: net.get_submodule(path) for path in natives}
        self._ours = [(module, hook) for module, hook in _our_hooks(net)]
        self._variants: dict[str, list[Placed]] = {BASELINE: [], NATIVE: []}
        self._handles: list[RemovableHandle] = []

    def add(self, label: str, placed: list[Placed]) -> None:
        """Make a variant known. Its attention is built already and is not registered as a submodule."""
        self._variants[label] = placed

    def select(self, label: str) -> nn.Module:
        """Make one variant the network, and return the network."""
        self._release()
        for path, module in self._natives.items():
            set_module(self.net, path, module if label == NATIVE else nn.Identity())
        for placed in self._variants[label]:
            self._handles += placed.hook_on(self.net)
        return self.net

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *reason: object) -> None:
        self._release()
        for path, module in self._natives.items():
            set_module(self.net, path, module)

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def build_placed(net: nn.Module, chosen: Sequence[Site], attention: str, reduction: int | None) -> list[Placed]:
    """New attention modules for the sites, on the network's device and in its dtype and mode."""
    if ATTENTION.get(attention).has_reduction:
        check_reduction(chosen, reduction)
    like = next((parameter for parameter in net.parameters() if parameter.is_floating_point()), None)
    placed = []
    for site in chosen:
        module = build_attention(
            attention, site.channels, reduction=reduction, height=site.height, width=site.width
        ).train(net.training)
        if like is not None:
            module = module.to(like.device, like.dtype)
        placed.append(Placed(site, attention, module))
    return placed


def check_reduction(chosen: Sequence[Site], reduction: int | None) -> None:
    """Raise BadSpecError for a ratio below 1 or above the channels of a site, naming the sites."""
    if not isinstance(reduction, int) or isinstance(reduction, bool) or reduction < 1:
        raise BadSpecError(f"reduction {reduction!r} is not possible: give a whole number of 1 or more")
    narrow = [site for site in chosen if site.channels < reduction]
    if narrow:
        named = ", ".join(f"{site.path} ({site.channels})" for site in narrow[:3])
        more = f" and {len(narrow) - 3} more" if len(narrow) > 3 else ""
        raise BadSpecError(
            f"reduction {reduction} is larger than the channels at {named}{more}: "
            f"give at most {min(site.channels for site in narrow)}, or choose other stages"
        )


def require_sites(chosen: Sequence[Site], net: nn.Module, placement: str) -> None:
    """Raise NoSiteError where there is no site to put attention at."""
    if not chosen:
        raise NoSiteError(
            f"{type(net).__name__} has no {placement} site: list what it has with secost sites, or try another placement"
        )


def native_paths(graph: Graph, ours: frozenset[str] = frozenset()) -> list[str]:
    """Paths of the network's own attention modules, those inside another one left out."""
    found = (attention.path for attention in find_attention(graph, ours))
    return list(dict.fromkeys(path for path in found if path is not None and path not in ours))


def attached_paths(net: nn.Module) -> frozenset[str]:
    """Paths of the attention modules that secost attached."""
    return frozenset(name for name, module in net.named_modules() if isinstance(module, Attention) and name)


def set_module(net: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of another; its hooks and names elsewhere are left alone."""
    parent, _, name = path.rpartition(".")
    net.get_submodule(parent)._modules[name] = module


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
            first = net.get_submodule(site.restore)
            return [
                module.register_forward_pre_hook(_GateInput(site, self.kind, self.attention, keep)),
                first.register_forward_pre_hook(_GiveBack(keep)),
            ]
        if site.side == "input":
            return [module.register_forward_pre_hook(_GateInput(site, self.kind, self.attention, None))]
        return [module.register_forward_hook(_GateOutput(site, self.kind, self.attention))]

    def register(self, net: nn.Module) -> None:
        """The hooks, and the module in the tree, under a module that does not run its children by itself."""
        self.hook_on(net)
        _host(net.get_submodule(self.site.path)).add_module(_CHILD[self.site.side], self.attention)


@dataclass
class _Keep:
    """The ungated map on its way from a block's input to the branch (identity integration)."""

    channels: int
    map: Tensor | None = None


@dataclass
class _Gate:
    """A hook that passes a module's map through attention. Plain data, so that it copies and pickles."""

    site: Site
    kind: str
    attention: nn.Module

    def apply(self, values: Any) -> Any:
        if isinstance(values, Tensor):
            return self._on_map(values)
        done = False
        result = []
        for value in values:
            is_map = not done and isinstance(value, Tensor) and value.ndim == 4
            result.append(self._on_map(value) if is_map else value)
            done = done or is_map
        return tuple(result)

    def _on_map(self, x: Tensor) -> Tensor:
        if not self.site.channels_last:
            gated: Tensor = self.attention(x)
            return gated
        # NHWC inside the block: attention is written for (N, C, H, W); the permutations move no data.
        gated = self.attention(x.permute(0, 3, 1, 2))
        return gated.permute(0, 2, 3, 1)


@dataclass
class _GateOutput(_Gate):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self.apply(output)


@dataclass
class _GateInput(_Gate):
    keep: _Keep | None = None

    def __call__(self, module: nn.Module, args: Any) -> Any:
        if self.keep is not None:
            self.keep.map = next(value for value in args if isinstance(value, Tensor) and value.ndim == 4)
        return self.apply(args)


@dataclass
class _GiveBack:
    """Hands the branch the map as it was before the gate."""

    keep: _Keep

    def __call__(self, module: nn.Module, args: Any) -> Any:
        kept, self.keep.map = self.keep.map, None
        return args if kept is None else (kept, *args[1:])


def _host(module: nn.Module) -> nn.Module:
    """The module to register under: a container runs whatever it holds, so its last leaf takes the place."""
    while isinstance(module, _RUNS_ITS_CHILDREN) and len(module._modules):
        module = list(module.children())[-1]
    return module


def _our_hooks(net: nn.Module) -> Iterator[tuple[nn.Module, _Gate]]:
    for module in net.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            if isinstance(hook, _Gate):
                yield module, hook


def _remove_hooks(module: nn.Module, side: str | None = None) -> None:
    """Take our hooks and what they registered off one module; `side` limits it to its output or input."""
    for table, name in ((module._forward_hooks, "output"), (module._forward_pre_hooks, "input")):
        if side not in (None, name):
            continue
        for key, hook in list(table.items()):
            if isinstance(hook, _Gate | _GiveBack):
                del table[key]
        host = _host(module)
        if isinstance(host._modules.get(_CHILD[name]), Attention):
            del host._modules[_CHILD[name]]


def _clear(net: nn.Module, chosen: Sequence[Site]) -> None:
    """Take out whatever attention sits at these sites."""
    for site in chosen:
        _remove_hooks(net.get_submodule(site.path), site.side)
        if site.restore is not None:
            _remove_hooks(net.get_submodule(site.restore), "input")
        if site.occupied_by in dict(net.named_modules()) and not _is_ours(net, site.occupied_by):
            set_module(net, str(site.occupied_by), nn.Identity())


def _is_ours(net: nn.Module, path: str | None) -> bool:
    return path is None or isinstance(net.get_submodule(path), Attention)


def _refuse_occupied(net: nn.Module, chosen: Sequence[Site]) -> None:
    hooked = {(id(module), hook.site.side) for module, hook in _our_hooks(net)}
    for site in chosen:
        taken = site.occupied_by
        if taken is None and (id(net.get_submodule(site.path)), site.side) in hooked:
            taken = f"{site.path}.{_CHILD[site.side]}"
        if taken is not None:
            raise BadSpecError(
                f"attention sits at {site.path} already ({taken}): give replace=True, or strip the network first"
            )


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Draw weights from a fixed seed and leave torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

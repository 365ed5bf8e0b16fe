"""Puts attention into a network and takes it out: attach, strip, set_reduction, and a switch between variants.

Attached attention is a submodule of the module at its site plus a hook on it, so every key of the original state
dict stays as it was, and the network still copies, pickles, trains, compiles and exports. The network's own
attention is replaced by `nn.Identity()`. `sites` says where, `attention` says what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secost.errors import BadSpecError, NoSiteError, SecostError, one_line
from secost.networks.attention import ATTENTION, Attention, build_attention, check_attention, has_reduction
from secost.networks.cache import cached_trace
from secost.networks.inputs import Example, inputs_for
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.tracing import Graph
from secost.plan.mix import for_sites, is_mix
from secost.plan.spec import BASELINE, NATIVE

_CHILD = {"output": "secost", "input": "secost_input"}
_RUNS_ITS_CHILDREN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_HookTable = dict[int, Any]


def sites(
    net: nn.Module, placement: str = "auto", integration: str = "standard", stages: int | Sequence[int] | None = None,
    resolution: int = 224, example: Example | None = None,
) -> list[Site]:
    """The places where attention can sit, in the order of the data; an empty list where there is none.

    The network is traced with an image (1, 3, resolution, resolution), or with `example`, a tensor or a tuple of
    tensors. Raises UnknownNameError for an unknown placement or integration, NoSiteError for a stage that the network
    does not have, BadSpecError where the resolution does not fit it.
    """
    graph = cached_trace(net, inputs_for(net, resolution, example))
    chosen = (stages,) if isinstance(stages, int) else None if stages is None else tuple(stages)
    return find_sites(graph, placement, integration, chosen, attached_paths(net))


def attach(
    net: nn.Module, attention: str, reduction: int | None = 16, placement: str = "auto", integration: str = "standard",
    stages: int | Sequence[int] | None = None, resolution: int = 224, example: Example | None = None,
    replace: bool = False, at: Sequence[Site] | None = None, spelling: str | None = None,
) -> nn.Module:
    """Put attention into the network, in place, and return it.

    `at` names the sites yourself (from `sites`, filtered); otherwise placement, integration and stages choose them.
    `spelling` is another way to write the same attention (`secost.plan.spelling`), None is secost's own. A mix
    (`mix:2xnone+se/4`, see `secost.plan.mix`) names an attention for each of the sites.
    Where attention sits already, the network's own or ours, this is refused unless `replace`. Raises NoSiteError where
    there is no site, BadSpecError for a reduction below 1 or above the channels of a site (naming the sites).
    """
    if attention in (BASELINE, NATIVE):
        raise BadSpecError(f"{attention!r} is not an attention to attach: use strip(net) to take attention out")
    check_attention(attention)  # an unknown name before the work
    chosen = list(at) if at is not None else sites(net, placement, integration, stages, resolution, example)
    require_sites(chosen, net, placement)
    _check_places(net, chosen)
    _check_occupied(net, chosen, replace)
    placed = build_placed(net, chosen, attention, reduction, spelling)
    if replace:
        _clear(net, chosen)
    for item in placed:
        item.register(net)
    return net


def strip(net: nn.Module, resolution: int = 224, example: Example | None = None) -> nn.Module:
    """Take all attention out, in place, and return the network: ours, and its own wherever that is a module.

    A module of the network's own is replaced by `nn.Identity()`, so its weights leave the state dict. Attention
    written out in a larger module's forward stays (`FoundAttention.path` is None for it).
    """
    ours = _our_hooks(net)
    with _hooks_off(net):
        graph = cached_trace(net, inputs_for(net, resolution, example))
    for module, hook in ours:
        _detach(net, module, hook)
    for path in native_paths(graph):
        set_module(net, path, nn.Identity())
    return net


def set_reduction(net: nn.Module, reduction: int) -> nn.Module:
    """Give all attention that secost attached a new reduction ratio, in place; its weights are drawn anew.

    Raises BadSpecError where nothing is attached, or the attention has no reduction ratio.
    """
    hooks = [hook for _, hook in _our_hooks(net) if isinstance(hook, _Gate)]
    kinds = list(dict.fromkeys(hook.kind for hook in hooks))
    if not hooks:
        raise BadSpecError("set_reduction found nothing that secost attached: call attach(net, ...) first")
    for name in kinds:
        if not ATTENTION.get(name).has_reduction:
            raise BadSpecError(f"{name} has no reduction ratio to set")
    chosen = {name: [hook.site for hook in hooks if hook.kind == name] for name in kinds}
    placed = [item for name in kinds for item in build_placed(net, chosen[name], name, reduction)]
    for module, hook in _our_hooks(net):
        _detach(net, module, hook)
    for item in placed:
        item.register(net)
    return net


class Switch:
    """Several variants of one network on one set of weights; one at a time is the network.

    `none` is the stripped network and `native` the network as it came, with what `attach` put there. Leave the
    `with` block and the network is as it was found.
    """

    def __init__(self, net: nn.Module, natives: Iterable[str]) -> None:
        self.net = net
        self._natives = {path: net.get_submodule(path) for path in natives}
        self._native_hooks = _hook_tables(net)
        self._variants: dict[str, list[Placed]] = {BASELINE: [], NATIVE: []}
        self._handles: list[RemovableHandle] = []

    def add(self, label: str, placed: list[Placed]) -> None:
        """Make a variant known. Its attention is built already and is not registered as a submodule."""
        self._variants[label] = placed

    def select(self, label: str) -> nn.Module:
        """Make one variant the network, and return the network."""
        variant = self._variants[label]
        self._restore()
        if label != NATIVE:
            _drop_our_hooks(self.net)
            for path in self._natives:
                set_module(self.net, path, nn.Identity())
        for placed in variant:
            self._handles += placed.hook_on(self.net)
        return self.net

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *reason: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        _restore_hooks(self._native_hooks)
        for path, module in self._natives.items():
            set_module(self.net, path, module)


def build_placed(
    net: nn.Module, chosen: Sequence[Site], attention: str, reduction: int | None, spelling: str | None = None
) -> list[Placed]:
    """New attention modules for the sites, on the network's device and in its dtype and mode.

    `spelling` names another way to write the attention (`plan.spelling`); None is secost's own. Of a mix, the sites
    that have none are left out.
    """
    check_fits(chosen, attention, reduction)
    if is_mix(attention):
        choices = for_sites(attention, len(chosen))
        return [item for site, (name, r) in zip(chosen, choices, strict=True) if name != BASELINE
                for item in build_placed(net, [site], name, r)]
    placed = []
    for site in chosen:
        with torch.inference_mode(False):  # weights made in inference mode could never be trained
            module = build_attention(
                attention, site.channels, reduction=reduction, height=site.height, width=site.width, spelling=spelling
            )
        carrier = net.get_submodule(site.path)
        like = _first_weight(carrier) or _first_weight(net)
        if like is not None:
            module = module.to(like.device, like.dtype)
        placed.append(Placed(site, attention, module.train(carrier.training)))
    return placed


def _first_weight(module: nn.Module) -> _Like | None:
    weights = (parameter for parameter in module.parameters() if parameter.is_floating_point())
    first = next(weights, None)
    return None if first is None else _Like(first.device, first.dtype)


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


def check_fits(chosen: Sequence[Site], attention: str, reduction: int | None) -> None:
    """Raise BadSpecError for a ratio that does not fit a site, and for a mix that does not name each site."""
    if not is_mix(attention):
        if has_reduction(attention):
            check_reduction(chosen, reduction)
        return
    for site, (name, r) in zip(chosen, for_sites(attention, len(chosen)), strict=True):
        if name != BASELINE:
            check_fits([site], name, r)


def require_sites(chosen: Sequence[Site], net: nn.Module, placement: str) -> None:
    """Raise NoSiteError where there is no site to put attention at."""
    if not chosen:
        raise NoSiteError(
            f"{type(net).__name__} has no {placement} site: list what it has with secost sites, "
            "or try another placement"
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


class _Like(NamedTuple):
    """Where attention is to live, and in which precision: as the weights beside it."""

    device: torch.device
    dtype: torch.dtype


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
        """The hooks, and the module in the tree, at a place where nothing else runs it."""
        self.hook_on(net)
        host, name = _free_place(net.get_submodule(self.site.path), _CHILD[self.site.side])
        host.add_module(name, self.attention)


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
            self.keep.map = next(value for value in args if _is_map(value))
        return self.apply(args)


@dataclass
class _GiveBack:
    """Hands the branch the map as it was before the gate."""

    keep: _Keep

    def __call__(self, module: nn.Module, args: Any) -> Any:
        kept, self.keep.map = self.keep.map, None
        return args if kept is None else (kept, *args[1:])


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4


def _free_place(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """A module to register under and a name free there: the last one without children of its own.

    A module with children may run all it holds (a Sequential, a loop over `children()`); one without has no such loop.
    """
    leaves = [leaf for leaf in module.modules() if not leaf._modules and not isinstance(leaf, _RUNS_ITS_CHILDREN)]
    ours = [leaf for leaf in module.modules() if any(isinstance(child, Attention) for child in leaf.children())]
    inside = {id(part) for leaf in ours for child in leaf.children() if isinstance(child, Attention)
              for part in child.modules()}
    free = [leaf for leaf in leaves if id(leaf) not in inside]
    host = free[-1] if free else ours[-1] if ours else module
    taken = (name, *(f"{name}{number}" for number in range(2, len(host._modules) + 3)))
    return host, next(candidate for candidate in taken if candidate not in host._modules)


def _hook_tables(net: nn.Module) -> list[tuple[_HookTable, _HookTable]]:
    """Each module's tables of forward hooks, with a copy of what is in them."""
    return [
        (table, dict(table)) for module in net.modules() for table in (module._forward_hooks, module._forward_pre_hooks)
    ]


def _restore_hooks(tables: list[tuple[_HookTable, _HookTable]]) -> None:
    for table, content in tables:
        if list(table) != list(content):
            table.clear()
            table.update(content)


def _drop_our_hooks(net: nn.Module) -> None:
    for module in net.modules():
        for table in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(table.items()):
                if isinstance(hook, _Gate | _GiveBack):
                    del table[key]


@contextmanager
def _hooks_off(net: nn.Module) -> Iterator[None]:
    """The network without what `attach` hooked to it, for a while."""
    tables = _hook_tables(net)
    _drop_our_hooks(net)
    try:
        yield
    finally:
        _restore_hooks(tables)


def _our_hooks(net: nn.Module) -> list[tuple[nn.Module, _Gate | _GiveBack]]:
    return [
        (module, hook)
        for module in net.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if isinstance(hook, _Gate | _GiveBack)
    ]


def _detach(net: nn.Module, module: nn.Module, hook: _Gate | _GiveBack) -> None:
    """Take one of our hooks off its module, and its attention out of the tree."""
    for table in (module._forward_hooks, module._forward_pre_hooks):
        for key, value in list(table.items()):
            if value is hook:
                del table[key]
    if isinstance(hook, _Gate):
        for parent in list(module.modules()):
            for name, child in list(parent._modules.items()):
                if child is hook.attention:
                    del parent._modules[name]


def _clear(net: nn.Module, chosen: Sequence[Site]) -> None:
    """Take out whatever attention sits at these sites."""
    for site in chosen:
        gates = [hook for hook in _at_site(net, site) if isinstance(hook, _Gate)]
        keeps = [hook.keep for hook in gates if isinstance(hook, _GateInput) and hook.keep is not None]
        for module, hook in _our_hooks(net):
            if hook in gates or (isinstance(hook, _GiveBack) and any(hook.keep is keep for keep in keeps)):
                _detach(net, module, hook)
        if not gates and site.occupied_by in dict(net.named_modules()):
            set_module(net, str(site.occupied_by), nn.Identity())


def _at_site(net: nn.Module, site: Site) -> list[_Gate | _GiveBack]:
    """Our hooks on the module of a site, on the same side of it."""
    carrier = net.get_submodule(site.path)
    return [
        hook for module, hook in _our_hooks(net)
        if module is carrier and isinstance(hook, _Gate) and hook.site.side == site.side
    ]


def _check_places(net: nn.Module, chosen: Sequence[Site]) -> None:
    known = dict(net.named_modules())
    for site in chosen:
        if site.path not in known:
            raise BadSpecError(
                f"{type(net).__name__} has no module {site.path!r}: give sites that sites(net) found in this network"
            )


def _check_occupied(net: nn.Module, chosen: Sequence[Site], replace: bool) -> None:
    """Refuse sites that carry attention; with `replace` only those whose attention is no module to take out."""
    known = dict(net.named_modules())
    for site in chosen:
        taken = site.occupied_by
        if taken is None and _at_site(net, site):
            taken = "attached by secost"
        if taken is not None and not replace:
            raise BadSpecError(
                f"attention sits at {site.path} already ({taken}): give replace=True, or strip the network first"
            )
        if taken is not None and taken not in known and not _at_site(net, site):
            raise BadSpecError(
                f"the attention at {site.path} ({taken}) is written out in a forward, not a module to take out: "
                "choose other sites"
            )


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Draw weights from a fixed seed and leave torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def standalone(net: nn.Module) -> nn.Module:
    """A copy of the network as it runs now, sharing the storage of every parameter and buffer.

    What a `Switch` has selected is in it, as submodules, so that it converts, moves and exports like a network that
    attention was attached to. Casting or moving the copy leaves the original as it is; writing into a weight in place
    changes both. Raises SecostError for a network that can't be copied.
    """
    memo: dict[int, Any] = {}
    parts = [net, *(hook.attention for _, hook in _our_hooks(net) if isinstance(hook, _Gate))]
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
    for module, hook in _our_hooks(copied):
        if isinstance(hook, _Gate) and not any(hook.attention is known for known in copied.modules()):
            host, name = _free_place(module, _CHILD[hook.site.side])
            host.add_module(name, hook.attention)
    return copied


def attention_at(net: nn.Module, chosen: Sequence[Site]) -> list[nn.Module]:
    """The attention that secost put at these sites, in their order; empty where one of them has none."""
    found = [next((hook.attention for hook in _at_site(net, site) if isinstance(hook, _Gate)), None) for site in chosen]
    return [] if None in found else [item for item in found if item is not None]


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
                if isinstance(hook, _Gate | _GiveBack):
                    keep = keeps.setdefault(id(getattr(hook, "keep", None)), len(keeps))
                    gate = isinstance(hook, _Gate) and (hook.site, hook.kind, names.get(id(hook.attention)))
                    lines.append((name, place, type(hook).__name__, keep, gate))
    known = all(id(hook.attention) in names for _, hook in _our_hooks(net) if isinstance(hook, _Gate))
    with _hooks_off(net):
        yield repr(lines) if known else None

"""Puts attention into a network and takes it out: attach, strip, set_reduction, and a switch between variants.

`sites` says where, `attention` says what, `hooks` how; the network's own attention is replaced by `nn.Identity()`.
Refused is what does not fit: sites that are taken, ratios above the channels, and a spelling that gives, in this very
network, something else than secost's own. On paper all spellings of one function are equal. In a network one that
works in place is not where the map that it overwrites is read elsewhere (a block's input that its shortcut takes too, a
network's own input). Which maps those are is found by running, not by reading code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from secost.errors import BadSpecError, NoSiteError
from secost.networks.attention import ATTENTION, build_attention, check_attention, has_reduction
from secost.networks.cache import cached_trace
from secost.networks.hooks import (
    GiveBack,
    InputHook,
    MapHook,
    Placed,
    attached_paths,
    detach,
    drop_our_hooks,
    hook_tables,
    hooks_at,
    hooks_off,
    our_hooks,
    restore_hooks,
    set_module,
)
from secost.networks.inputs import Example, inputs_for
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.tracing import Graph
from secost.plan.trials import BASELINE, NATIVE
from secost.plan.variants import for_sites, get_spelling, is_mix

# Of the largest output. Sums of other order, layer after layer, differ by 1e-6 to 1e-5; an overwritten map by 1e-2 on.
_TOLERANCE = 1e-3
_ASLEEP, _AWAKE = 1e-3, 0.5


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
    `spelling` is another way to write the same attention (`secost.plan.variants`), None is secost's own. A mix
    (`mix:2xnone+se/4`, see `secost.plan.variants`) names an attention for each of the sites.
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
    ours = our_hooks(net)
    with hooks_off(net):
        graph = cached_trace(net, inputs_for(net, resolution, example))
    for module, hook in ours:
        detach(module, hook)
    for path in native_paths(graph):
        set_module(net, path, nn.Identity())
    return net


def set_reduction(net: nn.Module, reduction: int) -> nn.Module:
    """Give all attention that secost attached a new reduction ratio, in place; its weights are drawn anew.

    Raises BadSpecError where nothing is attached, or the attention has no reduction ratio.
    """
    hooks = [hook for _, hook in our_hooks(net) if isinstance(hook, MapHook)]
    kinds = list(dict.fromkeys(hook.kind for hook in hooks))
    if not hooks:
        raise BadSpecError("set_reduction found nothing that secost attached: call attach(net, ...) first")
    for name in kinds:
        if not ATTENTION.get(name).has_reduction:
            raise BadSpecError(f"{name} has no reduction ratio to set")
    chosen = {name: [hook.site for hook in hooks if hook.kind == name] for name in kinds}
    placed = [item for name in kinds for item in build_placed(net, chosen[name], name, reduction)]
    for module, hook in our_hooks(net):
        detach(module, hook)
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
        self._native_hooks = hook_tables(net)
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
            drop_our_hooks(self.net)
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
        restore_hooks(self._native_hooks)
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
        weights = (weight for part in (carrier, net) for weight in part.parameters() if weight.is_floating_point())
        like = next(weights, None)
        if like is not None:
            module = module.to(like.device, like.dtype)
        placed.append(Placed(site, attention, module.train(carrier.training)))
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
    paths = (attention.path for attention in find_attention(graph, ours))
    return list(dict.fromkeys(path for path in paths if path is not None and path not in ours))


def _clear(net: nn.Module, chosen: Sequence[Site]) -> None:
    """Take out whatever attention sits at these sites."""
    for site in chosen:
        hooks = hooks_at(net, site)
        keeps = [hook.keep for hook in hooks if isinstance(hook, InputHook) and hook.keep is not None]
        for module, hook in our_hooks(net):
            if hook in hooks or (isinstance(hook, GiveBack) and any(hook.keep is keep for keep in keeps)):
                detach(module, hook)
        if not hooks and site.occupied_by in dict(net.named_modules()):
            set_module(net, str(site.occupied_by), nn.Identity())


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
        if taken is None and hooks_at(net, site):
            taken = "attached by secost"
        if taken is not None and not replace:
            raise BadSpecError(
                f"attention sits at {site.path} already ({taken}): give replace=True, or strip the network first"
            )
        if taken is not None and taken not in known and not hooks_at(net, site):
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


def check_outputs(
    net: nn.Module, inputs: Sequence[Any], chosen: Sequence[Site], attention: str, reduction: int | None,
    spelling: str | None, seed: int = 0,
) -> None:
    """Raise BadSpecError where a spelling changes what the network puts out, or writes over the network's input.

    `net` is the network without attention at these sites, in eval mode, and is left as it was; `inputs` are its
    positional arguments, which are copied. Nothing is compared for secost's own spelling, nor for one that is another
    function by design. Takes two passes of the network in eager mode, with branches that start at zero woken up.
    """
    way = get_spelling(attention, spelling)
    if spelling is None or not way.same_function:
        return
    places = [_built(net, chosen, attention, reduction, name, seed) for name in (None, spelling)]
    with _awake(net):
        expected, _ = _outputs(net, places[0], inputs)
        spelled, untouched = _outputs(net, places[1], inputs)
    if untouched and all(_alike(*pair) for pair in zip(expected, spelled, strict=True)):
        return
    reason = "the network's output is another" if untouched else "the network's input is overwritten"
    cause = "it works in place where the map is still read elsewhere" if way.in_place else "it is no equal here"
    raise BadSpecError(
        f"spelling {spelling!r} of {attention} does not fit at the {chosen[0].placement} sites: {reason}, so {cause}; "
        "leave it out, or choose another placement or integration"
    )


def _built(
    net: nn.Module, chosen: Sequence[Site], attention: str, reduction: int | None, spelling: str | None, seed: int,
) -> list[Placed]:
    with torch.inference_mode(False), seeded(seed):
        return build_placed(net, chosen, attention, reduction, spelling)


def _outputs(net: nn.Module, places: Iterable[Placed], inputs: Sequence[Any]) -> tuple[list[Tensor], bool]:
    """All tensors that the network puts out with these attentions in place, and whether its inputs are as before."""
    given = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    with ExitStack() as hooks, torch.inference_mode():
        for placed in places:
            for handle in placed.hook_on(net):
                hooks.callback(handle.remove)
        outputs = [leaf for leaf in tree_leaves(net(*given)) if isinstance(leaf, Tensor)]
    untouched = all(torch.equal(now, before) for now, before in zip(given, inputs, strict=True)
                    if isinstance(before, Tensor))
    return outputs, untouched


@contextmanager
def _awake(net: nn.Module) -> Iterator[None]:
    """Parameters that start at zero, or nearly so, at another value for a while: the norm that ends a branch, a layer
    scale. Behind them nothing that happens in the branch would be seen."""
    floats = [parameter for parameter in net.parameters() if parameter.is_floating_point() and parameter.numel()]
    asleep = [parameter for parameter in floats if float(parameter.detach().abs().max()) < _ASLEEP]
    before = [parameter.detach().clone() for parameter in asleep]
    with torch.no_grad():
        for parameter in asleep:
            parameter.fill_(_AWAKE)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, values in zip(asleep, before, strict=True):
                parameter.copy_(values)


def _alike(expected: Tensor, spelled: Tensor) -> bool:
    if expected.shape != spelled.shape:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, spelled)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(spelled, expected, rtol=0.0, atol=_TOLERANCE * scale + 1e-6, equal_nan=True))

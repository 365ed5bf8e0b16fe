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
from secost.networks import hooks
from secost.networks.attention import ATTENTION, build_attention, check_attention, has_reduction
from secost.networks.cache import cached_trace
from secost.networks.hooks import GiveBack, InputHook, MapHook, Placed, attached_paths, our_hooks, set_module
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.sources import Example, inputs_for
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
    _check_free(net, chosen, replace)
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
    with hooks.hooks_off(net):
        graph = cached_trace(net, inputs_for(net, resolution, example))
    _detach_all(net)
    for path in native_paths(graph):
        set_module(net, path, nn.Identity())
    return net


def set_reduction(net: nn.Module, reduction: int) -> nn.Module:
    """Give all attention that secost attached a new reduction ratio, in place; its weights are drawn anew.

    Raises BadSpecError where nothing is attached, or the attention has no reduction ratio.
    """
    chosen: dict[str, list[Site]] = {}
    for _, hook in our_hooks(net):
        if isinstance(hook, MapHook):
            chosen.setdefault(hook.kind, []).append(hook.site)
    if not chosen:
        raise BadSpecError("set_reduction found nothing that secost attached: call attach(net, ...) first")
    for name in chosen:
        if not ATTENTION.get(name).has_reduction:
            raise BadSpecError(f"{name} has no reduction ratio to set")
    placed = [item for name, at in chosen.items() for item in build_placed(net, at, name, reduction)]
    _detach_all(net)
    for item in placed:
        item.register(net)
    return net


def _detach_all(net: nn.Module) -> None:
    for module, hook in our_hooks(net):
        hooks.detach(module, hook)


class Switch:
    """Several variants of one network on one set of weights; one at a time is the network.

    `none` is the stripped network and `native` the network as it came, with what `attach` put there. Leave the
    `with` block and the network is as it was found.
    """

    def __init__(self, net: nn.Module, natives: Iterable[str]) -> None:
        self.net = net
        self._natives = {path: net.get_submodule(path) for path in natives}
        self._native_hooks = hooks.hook_tables(net)
        self._variants: dict[str, list[Placed]] = {BASELINE: [], NATIVE: []}
        self._handles: list[RemovableHandle] = []

    def add(self, label: str, placed: list[Placed]) -> None:
        """Make a variant known. Its attention is built already and is not registered as a submodule."""
        self._variants[label] = placed

    def select(self, label: str) -> nn.Module:
        """Make one variant the network, and return the network."""
        placed = self._variants[label]
        self._restore()
        if label != NATIVE:
            hooks.drop_our_hooks(self.net)
            for path in self._natives:
                set_module(self.net, path, nn.Identity())
        self._handles = [handle for item in placed for handle in item.hook_on(self.net)]
        return self.net

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *reason: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        hooks.restore_hooks(self._native_hooks)
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
            module = build_attention(attention, site.channels, reduction=reduction, height=site.height,
                                     width=site.width, spelling=spelling)
        carrier = net.get_submodule(site.path)
        like = next((weight for part in (carrier, net) for weight in part.parameters() if weight.is_floating_point()),
                    None)
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
        raise BadSpecError(f"reduction {reduction} is larger than the channels at {named}{more}: give at most "
                           f"{min(site.channels for site in narrow)}, or choose other stages")


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
        raise NoSiteError(f"{type(net).__name__} has no {placement} site: list what it has with secost sites, "
                          "or try another placement")


def native_paths(graph: Graph, ours: frozenset[str] = frozenset()) -> list[str]:
    """Paths of the network's own attention modules, those inside another one left out."""
    paths = (attention.path for attention in find_attention(graph, ours))
    return list(dict.fromkeys(path for path in paths if path is not None and path not in ours))


def _clear(net: nn.Module, chosen: Sequence[Site]) -> None:
    """Take out whatever attention sits at these sites."""
    for site in chosen:
        at_site = hooks.hooks_at(net, site)
        keeps = [hook.keep for hook in at_site if isinstance(hook, InputHook) and hook.keep is not None]
        for module, hook in our_hooks(net):
            if hook in at_site or (isinstance(hook, GiveBack) and any(hook.keep is keep for keep in keeps)):
                hooks.detach(module, hook)
        if not at_site and site.occupied_by in dict(net.named_modules()):
            set_module(net, str(site.occupied_by), nn.Identity())


def _check_free(net: nn.Module, chosen: Sequence[Site], replace: bool) -> None:
    """Refuse sites that are not in the network, and those that carry attention; with `replace` of these only those
    whose attention is no module to take out."""
    known = dict(net.named_modules())
    absent = [site.path for site in chosen if site.path not in known]
    if absent:
        raise BadSpecError(
            f"{type(net).__name__} has no module {absent[0]!r}: give sites that sites(net) found in this network")
    for site in chosen:
        attached = bool(hooks.hooks_at(net, site))
        taken = "attached by secost" if site.occupied_by is None and attached else site.occupied_by
        if taken is not None and not replace:
            raise BadSpecError(
                f"attention sits at {site.path} already ({taken}): give replace=True, or strip the network first")
        if taken is not None and taken not in known and not attached:
            raise BadSpecError(f"the attention at {site.path} ({taken}) is written out in a forward, not a module to "
                               "take out: choose other sites")


@contextmanager
def seeded(seed: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """Draw from a fixed seed for a while, and leave torch's global random state, a CUDA device's too, as it was."""
    with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
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
    places = []
    for name in (None, spelling):
        with torch.inference_mode(False), seeded(seed):
            places.append(build_placed(net, chosen, attention, reduction, name))
    with _awake(net):
        (expected, _), (spelled, untouched) = [_outputs(net, placed, inputs) for placed in places]
    if untouched and all(_alike(*pair) for pair in zip(expected, spelled, strict=True)):
        return
    reason = "the network's output is another" if untouched else "the network's input is overwritten"
    cause = "it works in place where the map is still read elsewhere" if way.in_place else "it is no equal here"
    raise BadSpecError(f"spelling {spelling!r} of {attention} does not fit at the {chosen[0].placement} sites: "
                       f"{reason}, so {cause}; leave it out, or choose another placement or integration")


def _outputs(net: nn.Module, places: Iterable[Placed], inputs: Sequence[Any]) -> tuple[list[Tensor], bool]:
    """All tensors that the network puts out with these attentions in place, and whether its inputs are as before."""
    given = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    with ExitStack() as stack, torch.inference_mode():
        for handle in (handle for placed in places for handle in placed.hook_on(net)):
            stack.callback(handle.remove)
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

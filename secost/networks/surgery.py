"""Puts attention into a network and takes it out: attach, strip, set_reduction, and a switch between variants.

`sites` says where, `attention` says what, `attended` how; the network's own attention is replaced by `nn.Identity()`.
Refused is what does not fit: sites that are taken, ratios above the channels, and a spelling that gives, in this very
network, something else than secost's own. On paper all spellings of one function are equal. In a network one that
works in place is not where the map that it overwrites is read elsewhere (a block's input that its shortcut takes too, a
network's own input). Which maps those are is found by running, not by reading code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secost.errors import BadSpecError, NoSiteError
from secost.networks.attended import (
    Attended,
    Edit,
    GiveBack,
    Placed,
    attached_paths,
    attended,
    attended_at,
    plain_names,
    redo,
    replace_module,
    stand_ins,
    take_out,
    undo,
)
from secost.networks.attention import ATTENTION, build_attention, check_attention, has_reduction
from secost.networks.cache import cached_trace
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
    replace: bool = False, at: Sequence[Site] | None = None, spelling: str | None = None, init: str = "random",
) -> nn.Module:
    """Put attention into the network, in place, and return it.

    Each site's module is replaced by one that holds it and the attention (`attended`): every key of the state dict
    stays as it was, and the attention's are beside, as `PATH.secost...`.

    `at` names the sites yourself (from `sites`, filtered); otherwise placement, integration and stages choose them.
    `spelling` is another way to write the same attention (`secost.plan.variants`), None is secost's own. A mix
    (`mix:2xnone+se/4`, see `secost.plan.variants`) names an attention for each of the sites. `init="open"` starts with
    gates near 1, so that a trained network keeps its outputs to within 1e-3 of the largest; "random" draws weights.
    Where attention sits already, the network's own or ours, this is refused unless `replace`. Raises NoSiteError where
    there is no site, BadSpecError for a reduction below 1 or above the channels of a site (naming the sites), and for
    an attention that can't start open.
    """
    if init not in ("random", "open"):
        raise BadSpecError(f"init {init!r} is not known: give 'random' or 'open'")
    if attention in (BASELINE, NATIVE):
        raise BadSpecError(f"{attention!r} is not an attention to attach: use strip(net) to take attention out")
    check_attention(attention)  # an unknown name before the work
    chosen = list(at) if at is not None else sites(net, placement, integration, stages, resolution, example)
    require_sites(chosen, net, placement)
    _check_free(net, chosen, replace)
    placed = build_placed(net, chosen, attention, reduction, spelling)
    for item in placed if init == "open" else ():
        item.attention.open_gates()  # type: ignore[operator]
    if replace:
        _clear(net, chosen)
    edits = [edit for item in placed for edit in item.put(net)]
    if at is None:
        _check_reached(net, edits, cached_trace(net, inputs_for(net, resolution, example)))
    return net


def strip(net: nn.Module, resolution: int = 224, example: Example | None = None) -> nn.Module:
    """Take all attention out, in place, and return the network: ours, and its own wherever that is a module.

    A module of the network's own is replaced by `nn.Identity()`, so its weights leave the state dict. Attention
    written out in a larger module's forward stays (`FoundAttention.path` is None for it).
    """
    edits = take_out(net)
    try:
        graph = cached_trace(net, inputs_for(net, resolution, example))
    except BaseException:
        undo(edits)
        raise
    for path in native_paths(graph):
        replace_module(net, net.get_submodule(path), nn.Identity())
    return net


def set_reduction(net: nn.Module, reduction: int) -> nn.Module:
    """Give all attention that secost attached a new reduction ratio, in place; its weights are drawn anew.

    Raises BadSpecError where nothing is attached, or the attention has no reduction ratio.
    """
    chosen: dict[str, list[Site]] = {}
    for carrier in attended(net):
        chosen.setdefault(carrier.secost_kind, []).append(carrier.secost_site)
    if not chosen:
        raise BadSpecError("set_reduction found nothing that secost attached: call attach(net, ...) first")
    for name in chosen:
        if not ATTENTION.get(name).has_reduction:
            raise BadSpecError(f"{name} has no reduction ratio to set")
    placed = [item for name, at in chosen.items() for item in build_placed(net, at, name, reduction)]
    take_out(net)
    for item in placed:
        item.put(net)
    return net


class Switch:
    """Several variants of one network on one set of weights; one at a time is the network.

    `none` is the stripped network and `native` the network as it came, with what `attach` put there. Leave the
    `with` block and the network is as it was found.
    """

    def __init__(self, net: nn.Module, natives: Iterable[str]) -> None:
        self.net = net
        stripped, wanted = take_out(net), set(natives)
        for module in [module for path, module in plain_names(net).items() if path in wanted]:
            stripped += replace_module(net, module, nn.Identity())
        undo(stripped)
        self._edits: dict[str, list[Edit]] = {NATIVE: [], BASELINE: stripped}
        self._selected = NATIVE

    def add(self, label: str, placed: list[Placed]) -> None:
        """Make a variant known: its attention on the stripped network."""
        self.select(BASELINE)
        put = [edit for item in placed for edit in item.put(self.net)]
        undo(put)
        self._edits[label] = [*self._edits[BASELINE], *put]

    def select(self, label: str) -> nn.Module:
        """Make one variant the network, and return the network."""
        undo(self._edits[self._selected])
        redo(self._edits[label])
        self._selected = label
        return self.net

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *reason: object) -> None:
        self.select(NATIVE)


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
        ours = attended_at(net, site)
        keeps = [item.secost_keep for item in ours if item.secost_keep is not None]
        take_out(net, [item for item in stand_ins(net) if item in ours or (
            isinstance(item, GiveBack) and any(item.secost_keep is keep for keep in keeps))])
        native = plain_names(net).get(str(site.occupied_by))
        if not ours and native is not None:
            replace_module(net, native, nn.Identity())


def _check_free(net: nn.Module, chosen: Sequence[Site], replace: bool) -> None:
    """Refuse sites that are not in the network, and those that carry attention; with `replace` of these only those
    whose attention is no module to take out."""
    known = plain_names(net)
    absent = [site.path for site in chosen if site.path not in known]
    if absent:
        raise BadSpecError(
            f"{type(net).__name__} has no module {absent[0]!r}: give sites that sites(net) found in this network")
    for site in chosen:
        attached = bool(attended_at(net, site))
        taken = "attached by secost" if site.occupied_by is None and attached else site.occupied_by
        if taken is not None and not replace:
            raise BadSpecError(
                f"attention sits at {site.path} already ({taken}): give replace=True, or strip the network first")
        if taken is not None and taken not in known and not attached:
            raise BadSpecError(f"the attention at {site.path} ({taken}) is written out in a forward, not a module to "
                               "take out: choose other sites")


def _check_reached(net: nn.Module, edits: Sequence[Edit], graph: Graph) -> None:
    """Raise NoSiteError where attention that was put into the network does not run, and take all of it out again."""
    called = {call.path for call in graph.calls}
    silent = [name for name, module in plain_names(net).items() if name not in called
              and any(isinstance(edit.after, Attended) and edit.after.secost_attention is module for edit in edits)]
    if silent:
        undo(edits)
        raise NoSiteError(f"{type(net).__name__} runs the module at {silent[0].rpartition('.')[0]} through a reference "
                          "of its own (a tuple, a closure), so attention put there would not run: choose other sites, "
                          "or let the forward call self's module")


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
    edits = [edit for placed in places for edit in placed.put(net)]
    try:
        with torch.inference_mode():
            outputs = [leaf for leaf in tree_leaves(net(*given)) if isinstance(leaf, Tensor)]
    finally:
        undo(edits)
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

"""Whether another spelling of an attention gives, in this very network, what secost's own spelling gives.

On paper all spellings of one function are equal. In a network one that works in place is not where the map that it
overwrites is read elsewhere (a block's input that its shortcut takes too, a network's own input). Which maps those are
is found by running, not by reading code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secost.errors import BadSpecError
from secost.networks.sites import Site
from secost.networks.surgery import Placed, build_placed, seeded
from secost.plan.spelling import get_spelling

__all__ = ["check_outputs"]

# Of the largest output. Sums of other order, layer after layer, differ by 1e-6 to 1e-5; an overwritten map by 1e-2 on.
_TOLERANCE = 1e-3
_ASLEEP, _AWAKE = 1e-3, 0.5


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
        found, untouched = _outputs(net, places[1], inputs)
    if untouched and all(_alike(*pair) for pair in zip(expected, found, strict=True)):
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
        found = [leaf for leaf in tree_leaves(net(*given)) if isinstance(leaf, Tensor)]
    untouched = all(torch.equal(now, before) for now, before in zip(given, inputs, strict=True)
                    if isinstance(before, Tensor))
    return found, untouched


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


def _alike(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, found)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=0.0, atol=_TOLERANCE * scale + 1e-6, equal_nan=True))

"""The kinds of attention by name: how each is built, what it adds, and the registry that third parties add to.

`attention_modules` has the modules, `sites` says where attention may sit and `surgery` puts it there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from secost.errors import BadSpecError
from secost.networks import attention_modules as modules
from secost.networks.attention_modules import Attention, eca_kernel_size, hidden_width
from secost.plan.trials import BASELINE, NATIVE
from secost.plan.variants import OWN, get_spelling, is_mix, parse_mix
from secost.registry import Registry

_SITE_KEYWORDS = ("reduction", "height", "width")
_SPELLED = {"se": modules.SpelledSqueezeExcite}


@dataclass(frozen=True)
class AttentionKind:
    """One kind of attention: how it is built and what it adds.

    `build(channels, reduction=..., height=..., width=...)` gives a new module for a site of that size; `reduction`
    is None for a kind without one. `params(channels, reduction)` is its number of learnable parameters.
    """

    name: str
    build: Callable[..., nn.Module]
    params: Callable[[int, int | None], int]
    has_reduction: bool
    citation: str = ""
    summary: str = ""


ATTENTION: Registry[AttentionKind] = Registry("attention")


class ForeignAttention(Attention):
    """A third party's attention module, marked as attention; it may have any attributes of its own."""

    def __init__(self, module: nn.Module, channels: int, reduction: int | None = None) -> None:
        super().__init__(channels, reduction)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        return result

    def open_gates(self) -> None:
        opened = getattr(self.module, "open_gates", super().open_gates)
        opened()


def register_attention(
    name: str, build: Callable[..., nn.Module], params: Callable[[int, int | None], int], *, has_reduction: bool,
    citation: str = "", summary: str = "",
) -> AttentionKind:
    """Add a kind of attention under a new name.

    `build` is a class or function that takes the channels first; of `reduction`, `height` and `width` it is
    given those it has a parameter for. Raises BadSpecError for a name that is taken.
    """
    if name in (BASELINE, NATIVE):
        raise BadSpecError(f"attention {name!r} means the network itself, without or as shipped: choose another name")
    kind = AttentionKind(name, _with_known_keywords(build), params, has_reduction, citation, summary)
    return ATTENTION.register(name, kind)


def has_reduction(name: str) -> bool:
    """Whether an attention has a reduction ratio; a mix has none of its own. Raises UnknownNameError for no name."""
    check_attention(name)
    return not is_mix(name) and ATTENTION.get(name).has_reduction


def check_attention(name: str) -> None:
    """Raise UnknownNameError for an attention that there is none of, BadSpecError for a mix that makes no sense."""
    if not is_mix(name):
        ATTENTION.get(name)
        return
    for part, reduction in parse_mix(name):
        if part != BASELINE and ATTENTION.get(part).has_reduction != (reduction is not None):
            wanted = "needs a reduction ratio, such as" if reduction is None else "has no reduction ratio: write"
            raise BadSpecError(f"{part} in {name} {wanted} {part}{'/16' if reduction is None else ''}")
        if part == BASELINE and reduction is not None:
            raise BadSpecError(f"{BASELINE} in {name} has no reduction ratio: write {BASELINE}")


def build_attention(
    name: str, channels: int, *, reduction: int | None, height: int, width: int, spelling: str | None = None,
) -> Attention:
    """A new attention module of the kind of that name, for a map of `channels` x `height` x `width`.

    A kind without a reduction ratio ignores the one given. `spelling` is one of `plan.spelling.SPELLINGS`, None for
    secost's own. A module that is not an `Attention` comes wrapped in a `ForeignAttention`. Raises UnknownNameError
    for a name or a spelling not known and BadSpecError for a ratio that is missing, less than 1 or more than the
    channels.
    """
    kind = ATTENTION.get(name)
    way = get_spelling(name, spelling)
    reduction = _checked_reduction(kind, channels, reduction)
    build = kind.build if way is OWN else _with_known_keywords(functools.partial(_SPELLED[name], spelling=way))
    module = build(channels, reduction=reduction, height=height, width=width)
    if not isinstance(module, nn.Module):
        raise BadSpecError(f"attention {name!r} was built as {type(module).__name__}: expected a torch.nn.Module")
    attention = module if isinstance(module, Attention) else ForeignAttention(module, channels, reduction)
    attention.attention, attention.channels, attention.reduction = name, channels, reduction
    return attention


def _checked_reduction(kind: AttentionKind, channels: int, reduction: int | None) -> int | None:
    if channels < 1:
        raise BadSpecError(f"{channels} channels are not possible: expected 1 or more")
    if not kind.has_reduction:
        return None
    if reduction is None:
        raise BadSpecError(f"attention {kind.name!r} needs a reduction ratio: give one from 1 to {channels}")
    if not 1 <= reduction <= channels:
        raise BadSpecError(
            f"reduction {reduction} is not possible for {kind.name!r} at {channels} channels: expected 1 to {channels}"
        )
    return reduction


def _with_known_keywords(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """`build` as a function of (channels, reduction=, height=, width=) that drops what `build` has no place for."""
    try:
        parameters = inspect.signature(build).parameters
    except ValueError:  # some built-in callables have no signature to read: give them all
        known: tuple[str, ...] = _SITE_KEYWORDS
    else:
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        known = tuple(keyword for keyword in _SITE_KEYWORDS if takes_all or keyword in parameters)

    def adapted(channels: int, **site: Any) -> nn.Module:
        return build(channels, **{keyword: site[keyword] for keyword in known if keyword in site})

    return adapted


def _params(formula: str, count: Callable[[int, int], int], has_reduction: bool) -> Callable[[int, int | None], int]:
    """`count`, of C and the hidden width h (0 for a kind without one), as a function of (channels, reduction)."""
    def params(channels: int, reduction: int | None = None) -> int:
        return count(channels, hidden_width(channels, reduction) if has_reduction else 0)

    params.__doc__ = f"{formula}, with h = max(1, C // r)." if has_reduction else f"{formula}."
    return params


for _class, _has_reduction, _formula, _count, _citation, _summary in (
    (modules.SqueezeExcite, True, "2 * C * h + h + C", lambda c, h: 2 * c * h + h + c,
     "Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507",
     "Squeeze-and-Excitation: channel gates from all channels' means through a bottleneck"),
    (modules.EffectiveSqueezeExcite, False, "C * C + C", lambda c, h: c * c + c,
     "Lee and Park, CenterMask, CVPR 2020, arXiv:1911.06667",
     "effective SE: one C x C layer in place of the bottleneck, hard sigmoid"),
    (modules.EfficientChannelAttention, False, "k, the kernel size for C channels", lambda c, h: eca_kernel_size(c),
     "Wang et al., ECA-Net, CVPR 2020, arXiv:1910.03151",
     "efficient channel attention: channel gates from a short 1-D convolution over the means"),
    (modules.ConvolutionalBlockAttention, True, "2 * C * h + h + C + 100", lambda c, h: 2 * c * h + h + c + 100,
     "Woo et al., CBAM, ECCV 2018, arXiv:1807.06521",
     "channel gates from means and maxima, then position gates from a 7x7 convolution"),
    (modules.BottleneckAttention, True, "3 * C * h + 18 * h * h + 5 * h + 3 * C + 3",
     lambda c, h: 3 * c * h + 18 * h * h + 5 * h + 3 * c + 3,
     "Park et al., BAM, BMVC 2018, arXiv:1807.06514",
     "channel and dilated spatial branch added to one gate, x * (1 + gate)"),
    (modules.SpatialAttention, False, "2 * 7 * 7 + 2 = 100, whatever C is", lambda c, h: 100,
     "Woo et al., CBAM, ECCV 2018, arXiv:1807.06521",
     "the spatial half of CBAM alone: position gates from a 7x7 convolution"),
    (modules.SpatialChannelSqueezeExcite, True, "2 * C * h + h + 2 * C + 1", lambda c, h: 2 * c * h + h + 2 * c + 1,
     "Roy et al., Concurrent Spatial and Channel Squeeze & Excitation, MICCAI 2018, arXiv:1803.02579",
     "SE's channel gates and 1x1 position gates side by side, added"),
    (modules.GatherExcite, False, "0", lambda c, h: 0,
     "Hu et al., Gather-Excite, NeurIPS 2018, arXiv:1810.12348",
     "Gather-Excite without parameters over the whole map: the sigmoid of each channel's mean"),
    (modules.GlobalContext, True, "2 * C * h + 3 * h + 2 * C + 1", lambda c, h: 2 * c * h + 3 * h + 2 * c + 1,
     "Cao et al., GCNet, ICCV Workshops 2019, arXiv:1904.11492",
     "global context: softmax-pooled vector through a bottleneck, added to every position"),
    (modules.StyleRecalibration, False, "4 * C", lambda c, h: 4 * c,
     "Lee et al., SRM, ICCV 2019, arXiv:1903.10829",
     "style recalibration: channel gates from each channel's own mean and deviation"),
    (modules.SimpleParameterFreeAttention, False, "0", lambda c, h: 0,
     "Yang et al., SimAM, ICML 2021, PMLR 139",
     "no parameters: a gate for each element by its distance from the channel's mean"),
    (modules.CoordinateAttention, True, "3 * C * h + 3 * h + 2 * C", lambda c, h: 3 * c * h + 3 * h + 2 * c,
     "Hou et al., Coordinate Attention, CVPR 2021, arXiv:2103.02907",
     "a gate for each row and each column of each channel, from directional means"),
):
    register_attention(_class.attention, _class, _params(_formula, _count, _has_reduction),
                       has_reduction=_has_reduction, citation=_citation, summary=_summary)

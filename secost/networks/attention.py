"""The kinds of attention by name: how each is built, what it adds, and the registry that third parties add to.

`attention_modules` has the modules, `sites` says where attention may sit and `surgery` puts it there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from secost.errors import BadSpecError
from secost.networks.attention_modules import (
    Attention,
    BottleneckAttention,
    ConvolutionalBlockAttention,
    CoordinateAttention,
    EffectiveSqueezeExcite,
    EfficientChannelAttention,
    GatedAttention,
    GatherExcite,
    GlobalContext,
    SimpleParameterFreeAttention,
    SpatialAttention,
    SpatialChannelSqueezeExcite,
    SpelledSqueezeExcite,
    SqueezeExcite,
    StyleRecalibration,
    eca_kernel_size,
    hidden_width,
)
from secost.plan.trials import BASELINE, NATIVE
from secost.plan.variants import OWN, Spelling, get_spelling, is_mix, parse_mix
from secost.registry import Registry

__all__ = [
    "ATTENTION", "Attention", "AttentionKind", "BottleneckAttention", "ConvolutionalBlockAttention",
    "CoordinateAttention", "EffectiveSqueezeExcite", "EfficientChannelAttention", "ForeignAttention",
    "GatedAttention", "GatherExcite", "GlobalContext", "SimpleParameterFreeAttention", "SpatialAttention",
    "SpatialChannelSqueezeExcite", "SpelledSqueezeExcite", "SqueezeExcite", "StyleRecalibration", "build_attention",
    "eca_kernel_size", "hidden_width", "register_attention",
]


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

_SITE_KEYWORDS = ("reduction", "height", "width")


class ForeignAttention(Attention):
    """A third party's attention module, marked as attention; it may have any attributes of its own."""

    def __init__(self, module: nn.Module, channels: int, reduction: int | None = None) -> None:
        super().__init__(channels, reduction)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        return result


def register_attention(
    name: str,
    build: Callable[..., nn.Module],
    params: Callable[[int, int | None], int],
    *,
    has_reduction: bool,
    citation: str = "",
    summary: str = "",
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
    build = kind.build if way is OWN else _SPELLED[name](way)
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
    known = tuple(_known_keywords(build))

    def adapted(channels: int, **site: Any) -> nn.Module:
        return build(channels, **{keyword: site[keyword] for keyword in known if keyword in site})

    return adapted


def _known_keywords(build: Callable[..., nn.Module]) -> Iterable[str]:
    try:
        parameters = inspect.signature(build).parameters
    except ValueError:  # some built-in callables have no signature to read: give them all
        return _SITE_KEYWORDS
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return _SITE_KEYWORDS
    return [keyword for keyword in _SITE_KEYWORDS if keyword in parameters]


def _spelled_se(way: Spelling) -> Callable[..., nn.Module]:
    return _with_known_keywords(functools.partial(SpelledSqueezeExcite, spelling=way))


_SPELLED: dict[str, Callable[[Spelling], Callable[..., nn.Module]]] = {"se": _spelled_se}


def _se_params(channels: int, reduction: int | None) -> int:
    """2 * C * h + h + C, with h = max(1, C // r)."""
    hidden = hidden_width(channels, reduction)
    return 2 * channels * hidden + hidden + channels


def _ese_params(channels: int, reduction: int | None = None) -> int:
    """C * C + C."""
    return channels * channels + channels


def _eca_params(channels: int, reduction: int | None = None) -> int:
    """k, the kernel size for C channels."""
    return eca_kernel_size(channels)


def _cbam_params(channels: int, reduction: int | None) -> int:
    """2 * C * h + h + C + 100, with h = max(1, C // r)."""
    return _se_params(channels, reduction) + _spatial_params(channels)


def _bam_params(channels: int, reduction: int | None) -> int:
    """3 * C * h + 18 * h * h + 5 * h + 3 * C + 3, with h = max(1, C // r)."""
    hidden = hidden_width(channels, reduction)
    return 3 * channels * hidden + 18 * hidden * hidden + 5 * hidden + 3 * channels + 3


def _spatial_params(channels: int, reduction: int | None = None) -> int:
    """2 * 7 * 7 + 2 = 100, whatever C is."""
    return 100


def _scse_params(channels: int, reduction: int | None) -> int:
    """2 * C * h + h + 2 * C + 1, with h = max(1, C // r)."""
    return _se_params(channels, reduction) + channels + 1


def _no_params(channels: int, reduction: int | None = None) -> int:
    """0."""
    return 0


def _gc_params(channels: int, reduction: int | None) -> int:
    """2 * C * h + 3 * h + 2 * C + 1, with h = max(1, C // r)."""
    hidden = hidden_width(channels, reduction)
    return 2 * channels * hidden + 3 * hidden + 2 * channels + 1


def _srm_params(channels: int, reduction: int | None = None) -> int:
    """4 * C."""
    return 4 * channels


def _coord_params(channels: int, reduction: int | None) -> int:
    """3 * C * h + 3 * h + 2 * C, with h = max(1, C // r)."""
    hidden = hidden_width(channels, reduction)
    return 3 * channels * hidden + 3 * hidden + 2 * channels


for _name, _build, _params, _has_reduction, _citation, _summary in (
    ("se", SqueezeExcite, _se_params, True,
     "Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507",
     "Squeeze-and-Excitation: channel gates from all channels' means through a bottleneck"),
    ("ese", EffectiveSqueezeExcite, _ese_params, False,
     "Lee and Park, CenterMask, CVPR 2020, arXiv:1911.06667",
     "effective SE: one C x C layer in place of the bottleneck, hard sigmoid"),
    ("eca", EfficientChannelAttention, _eca_params, False,
     "Wang et al., ECA-Net, CVPR 2020, arXiv:1910.03151",
     "efficient channel attention: channel gates from a short 1-D convolution over the means"),
    ("cbam", ConvolutionalBlockAttention, _cbam_params, True,
     "Woo et al., CBAM, ECCV 2018, arXiv:1807.06521",
     "channel gates from means and maxima, then position gates from a 7x7 convolution"),
    ("bam", BottleneckAttention, _bam_params, True,
     "Park et al., BAM, BMVC 2018, arXiv:1807.06514",
     "channel and dilated spatial branch added to one gate, x * (1 + gate)"),
    ("spatial", SpatialAttention, _spatial_params, False,
     "Woo et al., CBAM, ECCV 2018, arXiv:1807.06521",
     "the spatial half of CBAM alone: position gates from a 7x7 convolution"),
    ("scse", SpatialChannelSqueezeExcite, _scse_params, True,
     "Roy et al., Concurrent Spatial and Channel Squeeze & Excitation, MICCAI 2018, arXiv:1803.02579",
     "SE's channel gates and 1x1 position gates side by side, added"),
    ("ge", GatherExcite, _no_params, False,
     "Hu et al., Gather-Excite, NeurIPS 2018, arXiv:1810.12348",
     "Gather-Excite without parameters over the whole map: the sigmoid of each channel's mean"),
    ("gc", GlobalContext, _gc_params, True,
     "Cao et al., GCNet, ICCV Workshops 2019, arXiv:1904.11492",
     "global context: softmax-pooled vector through a bottleneck, added to every position"),
    ("srm", StyleRecalibration, _srm_params, False,
     "Lee et al., SRM, ICCV 2019, arXiv:1903.10829",
     "style recalibration: channel gates from each channel's own mean and deviation"),
    ("simam", SimpleParameterFreeAttention, _no_params, False,
     "Yang et al., SimAM, ICML 2021, PMLR 139",
     "no parameters: a gate for each element by its distance from the channel's mean"),
    ("coord", CoordinateAttention, _coord_params, True,
     "Hou et al., Coordinate Attention, CVPR 2021, arXiv:2103.02907",
     "a gate for each row and each column of each channel, from directional means"),
):
    register_attention(_name, _build, _params, has_reduction=_has_reduction, citation=_citation, summary=_summary)

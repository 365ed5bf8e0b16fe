"""Networks at other depths and widths: `scaled:efficientnet_b0@1.4x1.2` is B0 1.4 times as deep and 1.2 times as wide.

timm's families that are built from two multipliers by name, and any factory (`net.py:factory`) that takes `depth` and
`width`. timm rounds widths to multiples of 8 and depths up, as EfficientNet does (arXiv:1905.11946, sec. 4).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from secost.errors import ModelLoadError, UnknownNameError
from secost.networks.sources import import_timm

# timm's name of the smallest member, and the maker of its family: its public names take no multipliers.
FAMILIES = {
    "efficientnet_b0": "_gen_efficientnet", "efficientnet_lite0": "_gen_efficientnet_lite",
    "mobilenetv2_100": "_gen_mobilenet_v2", "mobilenetv1_100": "_gen_mobilenet_v1",
}
_FORM = re.compile(r"(?P<name>.+)@(?P<depth>[0-9.]+)x(?P<width>[0-9.]+)")
_NAMES = (("depth", "width"), ("depth_multiplier", "width_multiplier"), ("depth_multiplier", "channel_multiplier"))


def scaled_name(name: str, depth: float, width: float) -> str:
    """The name by which `secost.load` builds a network at that depth and width."""
    return f"scaled:{name}@{depth:.6g}x{width:.6g}"


def parse_scaled(text: str) -> tuple[str, float, float]:
    """(name, depth, width) of `efficientnet_b0@1.4x1.2`. Raises ModelLoadError for anything else."""
    match = _FORM.fullmatch(text)
    try:
        found = (match["name"], float(match["depth"]), float(match["width"])) if match else None
    except ValueError:
        found = None
    if found is None or not all(0 < value < 1000 for value in found[1:]):
        raise ModelLoadError(f"'scaled:{text}' is no scaled network: write scaled:NAME@DEPTHxWIDTH, as "
                             "scaled:efficientnet_b0@1.4x1.2")
    return found


def load_scaled(text: str, factory: Callable[[str], Callable[..., Any]], classes: int | None) -> nn.Module:
    """Build it. `factory` finds a user's function by name.

    Raises UnknownNameError for a name that is neither a family's nor a factory's, ModelLoadError for a factory that
    takes no two multipliers.
    """
    name, depth, width = parse_scaled(text)
    if name in FAMILIES:
        make = getattr(import_timm().models.efficientnet, FAMILIES[name])
        wanted = {} if classes is None else {"num_classes": classes}
        net: nn.Module = make(name, depth_multiplier=depth, channel_multiplier=width, pretrained=False, **wanted)
        return net
    if ":" not in name:
        raise UnknownNameError("network that scales", name, FAMILIES)
    return _from_factory(factory(name), name, depth, width, classes)


def _from_factory(make: Callable[..., Any], name: str, depth: float, width: float, classes: int | None) -> nn.Module:
    takes = inspect.signature(make).parameters
    words = next((pair for pair in _NAMES if set(pair) <= set(takes)), None)
    if words is None:
        raise ModelLoadError(f"{name!r} takes ({', '.join(takes)}), expected a function that takes depth and width: "
                             "def factory(depth=1.0, width=1.0)")
    arguments: dict[str, Any] = dict(zip(words, (depth, width), strict=True))
    if classes is not None and "num_classes" in takes:
        arguments["num_classes"] = classes
    net: nn.Module = make(**arguments)
    return net

"""Networks that secost builds itself: workhorses in small, and families of networks at other depths and widths.

`small:resnet` and its like are for images of 8 to 64 px: timm's ResNet, torchvision's VGG and MobileNetV2, a shallow
net. Their stems keep the resolution, as is usual for small images; widths are 16 to 128, so that a seed trains in
seconds. `scaled:efficientnet_b0@1.4x1.2` is B0 1.4 times as deep and 1.2 times as wide: the small ones, timm's families
that are built from two multipliers by name, and any factory (`net.py:factory`) that takes `depth` and `width`. timm
rounds widths to multiples of 8 and depths up, as EfficientNet does (arXiv:1905.11946, sec. 4).
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from secost.errors import ModelLoadError, UnknownNameError
from secost.networks.importing import import_timm, import_torchvision, user_function

_WIDTHS, _SHALLOW_WIDTH = (16, 32, 64, 128), 32
_MOBILE, _EXPANSION = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1)), 4  # (out, stride)
_VGG_LAYERS, _SHALLOW_LAYERS = 2, 3
# timm's name of the smallest member, and the maker of its family: its public names take no multipliers.
FAMILIES = {
    "efficientnet_b0": "_gen_efficientnet", "efficientnet_lite0": "_gen_efficientnet_lite",
    "mobilenetv2_100": "_gen_mobilenet_v2", "mobilenetv1_100": "_gen_mobilenet_v1",
}
_FORM = re.compile(r"(?P<name>.+)@(?P<depth>[0-9.]+)x(?P<width>[0-9.]+)")
_SMALL_PREFIX = "small:"
_NAMES = (("depth", "width"), ("depth_multiplier", "width_multiplier"), ("depth_multiplier", "channel_multiplier"))


def small_resnet(classes: int = 10, depth: float = 1.0, width: float = 1.0) -> nn.Module:
    """timm's ResNet with one basic block a stage, (N, 3, H, W) to (N, classes); four stages of 16 to 128 channels."""
    resnet: Any = import_timm().models.resnet
    widths = _widths(_WIDTHS, width)
    net: nn.Module = resnet.ResNet(resnet.BasicBlock, (_times(1, depth),) * len(widths), num_classes=classes,
                                   stem_type="deep", stem_width=widths[0] // 2, channels=widths)
    net.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def small_vgg(classes: int = 10, depth: float = 1.0, width: float = 1.0) -> nn.Module:
    """torchvision's VGG layers with batch norm, two convolutions a stage, and a mean before the one linear layer."""
    vgg: Any = import_torchvision().models.vgg
    stages = [[channels] * _times(_VGG_LAYERS, depth) for channels in _widths(_WIDTHS, width)]
    layers = [layer for stage in stages for layer in ("M", *stage)][1:]
    return nn.Sequential(vgg.make_layers(layers, batch_norm=True), *_scores(stages[-1][-1], classes))


def _scores(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def _conv(into: int, out: int, kernel: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(out), activation]


def small_mobile(classes: int = 10, depth: float = 1.0, width: float = 1.0) -> nn.Module:
    """torchvision's inverted residual blocks (MobileNetV2's), five of them over three resolutions, widths 16 to 32."""
    block: Any = import_torchvision().models.mobilenetv2.InvertedResidual
    first, last = _widths((_WIDTHS[0], _WIDTHS[-1]), width)
    layers, channels = _conv(3, first, 3, nn.ReLU6()), first
    for out, stride in _MOBILE:
        (wide,) = _widths((out,), width)
        for number in range(_times(1, depth)):
            layers.append(block(channels, wide, stride if number == 0 else 1, _EXPANSION))
            channels = wide
    return nn.Sequential(*layers, *_conv(channels, last, 1, nn.ReLU6()), *_scores(last, classes))


def small_shallow(classes: int = 10, depth: float = 1.0, width: float = 1.0) -> nn.Module:
    """Three 3x3 convolutions of 32 channels, a mean and a linear layer: each output sees 7 x 7 px, and no more.

    What it can't see at once it can't weigh, so attention's look at the whole map shows: for the trainer's controls.
    """
    (channels,) = _widths((_SHALLOW_WIDTH,), width)
    widths = (3, *[channels] * (_times(_SHALLOW_LAYERS, depth) - 1))
    layers = [layer for into in widths for layer in _conv(into, channels, 3, nn.ReLU())]
    return nn.Sequential(*layers, *_scores(channels, classes))


def _times(count: int, factor: float) -> int:
    """How many layers or blocks: rounded up, as EfficientNet does it."""
    return math.ceil(round(count * factor, 6))


def _widths(channels: Sequence[int], factor: float) -> tuple[int, ...]:
    """Channels at another width, as multiples of 8; as they are at 1."""
    return tuple(max(8, 8 * round(wide * factor / 8)) for wide in channels)


SMALL: dict[str, Callable[..., nn.Module]] = {
    "resnet": small_resnet, "vgg": small_vgg, "mobile": small_mobile, "shallow": small_shallow,
}


def load_small(name: str, classes: int | None, depth: float = 1.0, width: float = 1.0) -> nn.Module:
    """One of `SMALL`, by name, for 10 classes unless told otherwise. Raises UnknownNameError for another name."""
    check_small(name)
    return SMALL[name](10 if classes is None else classes, depth, width)


def check_small(name: str) -> None:
    """Raise UnknownNameError for a name that is not in `SMALL`."""
    if name not in SMALL:
        raise UnknownNameError("small network", name, SMALL)


def scaled_name(name: str, depth: float, width: float) -> str:
    """The name by which `secost.load` builds a network at that depth and width."""
    return f"scaled:{name}@{depth:.6g}x{width:.6g}"


def parse_scaled(text: str) -> tuple[str, float, float]:
    """(name, depth, width) of `efficientnet_b0@1.4x1.2`. Raises ModelLoadError for anything else."""
    match = _FORM.fullmatch(text)
    try:
        parts = (match["name"], float(match["depth"]), float(match["width"])) if match else None
    except ValueError:
        parts = None
    if parts is None or not all(0 < value < 1000 for value in parts[1:]):
        raise ModelLoadError(f"'scaled:{text}' is no scaled network: write scaled:NAME@DEPTHxWIDTH, as "
                             "scaled:efficientnet_b0@1.4x1.2")
    return parts


def load_scaled(text: str, classes: int | None) -> Any:
    """The network of that name (without `scaled:`), or what the user's factory gives.

    Raises UnknownNameError for a name that is neither a family's nor a factory's, ModelLoadError for a factory that
    takes no two multipliers.
    """
    name, depth, width = parse_scaled(text)
    if name in FAMILIES:
        make = getattr(import_timm().models.efficientnet, FAMILIES[name])
        wanted = {} if classes is None else {"num_classes": classes}
        return make(name, depth_multiplier=depth, channel_multiplier=width, pretrained=False, **wanted)
    if name.startswith(_SMALL_PREFIX):
        return load_small(name.removeprefix(_SMALL_PREFIX), classes, depth, width)
    if ":" not in name:
        raise UnknownNameError("network that scales", name, FAMILIES)
    return _from_factory(user_function(name), name, depth, width, classes)


def _from_factory(make: Callable[..., Any], name: str, depth: float, width: float, classes: int | None) -> Any:
    takes = inspect.signature(make).parameters
    words = next((pair for pair in _NAMES if set(pair) <= set(takes)), None)
    if words is None:
        raise ModelLoadError(f"{name!r} takes ({', '.join(takes)}), expected a function that takes depth and width: "
                             "def factory(depth=1.0, width=1.0)")
    arguments: dict[str, Any] = dict(zip(words, (depth, width), strict=True))
    if classes is not None and "num_classes" in takes:
        arguments["num_classes"] = classes
    return make(**arguments)

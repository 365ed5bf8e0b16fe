"""Workhorses in small, for images of 8 to 64 px: timm's ResNet, torchvision's VGG and MobileNetV2; and a shallow net.

Their stems keep the resolution, as is usual for small images; widths are 16 to 128, so that a seed trains in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from secost.errors import UnknownNameError
from secost.networks.sources import import_timm, import_torchvision

_WIDTHS = (16, 32, 64, 128)
_SHALLOW_WIDTH = 32
_MOBILE, _EXPANSION = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1)), 4  # (into, out, stride)
_VGG: tuple[int | str, ...] = (16, 16, "M", 32, 32, "M", 64, 64, "M", 128, 128)


def small_resnet(classes: int = 10) -> nn.Module:
    """timm's ResNet with one basic block a stage, (N, 3, H, W) to (N, classes); four stages of 16 to 128 channels."""
    resnet: Any = import_timm().models.resnet
    net: nn.Module = resnet.ResNet(
        resnet.BasicBlock, (1, 1, 1, 1), num_classes=classes, stem_type="deep", stem_width=_WIDTHS[0] // 2,
        channels=_WIDTHS,
    )
    net.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def small_vgg(classes: int = 10) -> nn.Module:
    """torchvision's VGG layers with batch norm, two convolutions a stage, and a mean before the one linear layer."""
    vgg: Any = import_torchvision().models.vgg
    return nn.Sequential(
        vgg.make_layers(list(_VGG), batch_norm=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(_WIDTHS[-1], classes),
    )


def small_mobile(classes: int = 10) -> nn.Module:
    """torchvision's inverted residual blocks (MobileNetV2's), five of them over three resolutions, widths 16 to 32."""
    block: Any = import_torchvision().models.mobilenetv2.InvertedResidual
    layers: list[nn.Module] = [
        nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU6(),
    ]
    for into, out, stride in _MOBILE:
        layers.append(block(into, out, stride, _EXPANSION))
    last = _MOBILE[-1][1]
    layers += [nn.Conv2d(last, _WIDTHS[-1], 1, bias=False), nn.BatchNorm2d(_WIDTHS[-1]), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTHS[-1], classes))


def small_shallow(classes: int = 10) -> nn.Module:
    """Three 3x3 convolutions of 32 channels, a mean and a linear layer: each output sees 7 x 7 px, and no more.

    What it can't see at once it can't weigh, so attention's look at the whole map shows: for the trainer's controls.
    """
    layers: list[nn.Module] = []
    for into in (3, _SHALLOW_WIDTH, _SHALLOW_WIDTH):
        layers += [nn.Conv2d(into, _SHALLOW_WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(_SHALLOW_WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_SHALLOW_WIDTH, classes))


SMALL: dict[str, Callable[[int], nn.Module]] = {
    "resnet": small_resnet, "vgg": small_vgg, "mobile": small_mobile, "shallow": small_shallow,
}


def load_small(name: str, classes: int = 10) -> nn.Module:
    """One of `SMALL`, by name. Raises UnknownNameError for another name."""
    if name not in SMALL:
        raise UnknownNameError("small network", name, SMALL)
    return SMALL[name](classes)

"""Networks at other depths and widths: EfficientNet's published sizes, a factory of the user's, and wrong names."""

from __future__ import annotations

from pathlib import Path

import pytest

import secost
from secost.errors import ModelLoadError, UnknownNameError
from secost.networks.families import parse_scaled, scaled_name

# Parameters of timm's own efficientnet_b0 ... b3, which are the paper's 5.3, 7.8, 9.2 and 12 M.
SIZES = {(1.0, 1.0): 5_288_548, (1.1, 1.0): 7_794_184, (1.2, 1.1): 9_109_994, (1.4, 1.2): 12_233_232}

FACTORY = """
from torch import nn

def make(depth=1.0, width=1.0):
    channels = round(8 * width)
    layers = [nn.Conv2d(3, channels, 3)] + [nn.Conv2d(channels, channels, 3) for _ in range(round(2 * depth) - 1)]
    return nn.Sequential(*layers)

def fixed():
    return nn.Conv2d(3, 8, 3)
"""


@pytest.mark.parametrize(("multipliers", "params"), SIZES.items())
def test_efficientnet_at_its_published_sizes(multipliers: tuple[float, float], params: int) -> None:
    net = secost.load(scaled_name("efficientnet_b0", *multipliers))
    assert sum(parameter.numel() for parameter in net.parameters()) == params


def test_a_factory_gets_depth_and_width(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    net = secost.load(f"scaled:{tmp_path / 'net.py'}:make@2x1.5")
    shapes = [tuple(parameter.shape) for parameter in net.parameters() if parameter.ndim == 4]
    assert shapes == [(12, 3, 3, 3)] + 3 * [(12, 12, 3, 3)]


def test_a_factory_without_multipliers_is_told_what_to_take(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    with pytest.raises(ModelLoadError, match="takes depth and width"):
        secost.load(f"scaled:{tmp_path / 'net.py'}:fixed@2x1")


def test_a_name_and_its_multipliers_come_back() -> None:
    assert parse_scaled(scaled_name("a.py:f", 1.2, 1.1).removeprefix("scaled:")) == ("a.py:f", 1.2, 1.1)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b0@2", "efficientnet_b0@0x1", "x@1x1..2", "@1x1"])
def test_a_name_without_two_multipliers_is_refused(name: str) -> None:
    with pytest.raises(ModelLoadError, match="DEPTHxWIDTH"):
        secost.load(f"scaled:{name}")


def test_a_network_that_does_not_scale_is_named() -> None:
    with pytest.raises(UnknownNameError, match="network that scales"):
        secost.load("scaled:resnet50@1x1")

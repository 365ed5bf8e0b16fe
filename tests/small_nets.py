"""Factories for the command-line tests: real networks that are built and run in milliseconds.

Used as `tests/small_nets.py:residual`; nothing here needs timm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + x)


def residual() -> nn.Module:
    """Two residual blocks of 16 channels: two sites."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )


def plain() -> nn.Module:
    """Three convolutions in a row: no residual branch."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )


def no_maps() -> nn.Module:
    """A perceptron: no place for attention."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("this network never runs")


def broken() -> nn.Module:
    return Broken()


def raises() -> nn.Module:
    raise ValueError("no weights for you")


def number() -> int:
    return 7


class TwoInputs(nn.Module):
    """An image and a vector; the vector shifts the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block = Block(16)
        self.shift = nn.Linear(4, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        x = self.stem(image) + self.shift(vector)[:, :, None, None]
        return self.head(self.block(x).mean((2, 3)))


def two_inputs() -> nn.Module:
    return TwoInputs()


def example() -> tuple[Tensor, Tensor]:
    return torch.zeros(2, 3, 24, 24), torch.zeros(2, 4)


def classifier(num_classes: int = 1000) -> nn.Module:
    """One residual block of 16 channels and as many scores as asked for: an epoch of digits in a tenth of a second."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Block(16), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, num_classes),
    )


def ten_scores() -> nn.Module:
    """Ten scores, whatever is asked for."""
    return classifier(10)


def seven_scores() -> nn.Module:
    return classifier(7)


class Diverging(nn.Module):
    """Its loss is NaN from the first step on, while training."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = classifier(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(x)
        return scores * float("nan") if self.training else scores


def diverging(num_classes: int = 10) -> nn.Module:
    return Diverging(num_classes)

"""One network for all points of a space: each site holds every option, and shares the rest of the weights.

It is trained as any other, with an option drawn at each site in every step (single path, uniform: Guo et al.,
arXiv:1904.00420). A point is judged by choosing its options, measuring the norms' statistics anew on training images
(they are of all points mixed otherwise) and testing on images that were held out. No point is trained by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from secost.networks.attended import Placed
from secost.networks.sites import Site
from secost.networks.surgery import build_placed
from secost.plan.trials import BASELINE
from secost.plan.variants import Choice, Point, Space
from secost.training.datasets import Data, Split, shuffled

_HELD_SHARE, _SPLIT_SEED = 0.25, 1
_BATCH, _MOST_STATISTICS, _MOST_HELD = 128, 1024, 2000
_PIXELS = 1 << 20  # of a batch that norms are measured on: a map of 64 channels at full size takes 256 MiB


@dataclass(frozen=True)
class Judged:
    """Accuracy in percent and mean cross-entropy on the held-out images."""

    top1: float
    loss: float


class Alternatives(nn.Module):
    """All options of one site, (N, C, H, W) to the same; `chosen` is the number of the one that runs."""

    def __init__(self, options: Sequence[nn.Module]) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.chosen = 0

    def forward(self, x: Tensor) -> Any:
        return self.options[self.chosen](x)


class OneShot(nn.Module):
    """A network without attention with all options of a space at its sites. Where it trains, each pass draws a point.

    Draws come from torch's global random state, which the trainer sets for each epoch.
    """

    def __init__(self, net: nn.Module, sites: Sequence[Site], space: Space) -> None:
        super().__init__()
        self.space, self.sampling = space, True
        self._sites: dict[int, Alternatives] = {}
        for group, options in zip(space.groups, space.options, strict=True):
            for place in group:
                self._sites[place] = Alternatives([_option(net, sites[place], choice) for choice in options])
                Placed(sites[place], "oneshot", self._sites[place]).put(net)
        self.net = net

    def choose(self, point: Point) -> None:
        """Make the network that of one point."""
        for group, index in zip(self.space.groups, point, strict=True):
            for place in group:
                self._sites[place].chosen = index

    def forward(self, x: Tensor) -> Any:
        if self.training and self.sampling:
            self.choose(tuple(int(torch.randint(len(options), ())) for options in self.space.options))
        return self.net(x)

    def judge(self, point: Point, statistics: Tensor, held: Split) -> Judged:
        """The accuracy of one point. `statistics` are the images (N, C, H, W) that the norms are measured on."""
        self.choose(point)
        self.eval()
        with torch.no_grad():
            measure_norms(self.net, statistics)
            scores = torch.cat([self.net(images) for images in torch.split(held.images, _BATCH)])
        top1 = 100.0 * float((scores.argmax(1) == held.labels).float().mean())
        return Judged(top1, float(nn.functional.cross_entropy(scores, held.labels)))


def measure_norms(net: nn.Module, images: Tensor) -> None:
    """Set the running statistics of every batch norm that a pass in evaluation mode reaches, from images (N, C, H, W).

    As one batch of all images leaves them: mean and unbiased variance over every value of a channel, layer by layer.
    Up to 2^20 pixels they are one batch. Above, they are batches as equal as can be, never a remainder of few, pooled
    by the law of total variance: exact for the first norm; a deeper one sees what each batch made of itself upstream,
    as in training. Raises ValueError where a norm has one value a channel to measure.
    """
    pooled: dict[nn.modules.batchnorm._BatchNorm, Tensor] = {}

    def note(norm: nn.modules.batchnorm._BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0]
        variance, mean = torch.var_mean(values, [0, *range(2, values.ndim)], correction=0)
        variance, mean, count = variance.double(), mean.double(), values.numel() // values.shape[1]
        moments = count * torch.stack((torch.ones_like(mean), mean, variance + mean.square()))
        pooled[norm] = pooled.get(norm, torch.zeros_like(moments)) + moments

    net.eval()
    norms = [module for module in net.modules()
             if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None]
    hooks = [norm.train().register_forward_pre_hook(note) for norm in norms]
    parts = math.ceil(images.shape[0] * images.shape[2] * images.shape[3] / _PIXELS)
    try:
        for batch in torch.tensor_split(images, max(1, min(parts, len(images) // 2))):
            net(batch)
    finally:
        for hook in hooks:
            hook.remove()
        net.eval()
    for norm, (count, total, squares) in pooled.items():
        mean = total / count
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((squares - count * mean.square()).clamp_min(0) / (count - 1))


def _option(net: nn.Module, site: Site, choice: Choice) -> nn.Module:
    name, reduction = choice
    return nn.Identity() if name == BASELINE else build_placed(net, [site], name, reduction)[0].attention


def held_out(data: Data) -> Data:
    """The training set parted in two, as training and test set: points are not chosen by the images that finalists are
    tested on."""
    images, labels = data.train.images, data.train.labels
    order, held = shuffled(len(labels), _SPLIT_SEED), min(int(_HELD_SHARE * len(labels)), _MOST_HELD)
    train, test = (Split(images[picked], labels[picked]) for picked in (order[held:], order[:held]))
    return replace(data, train=train, test=test)


def statistics_of(data: Data) -> Tensor:
    """The training images that norms are measured on."""
    return data.train.images[:_MOST_STATISTICS]

"""The statistics that a point is judged with: those of one batch of all images, whatever their number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secost
from secost.answers.searched import rank_correlation
from secost.networks.surgery import attach, sites
from secost.plan.trials import Training
from secost.plan.variants import make_space
from secost.training import oneshot
from secost.training.datasets import Data, load_data
from secost.training.loop import train
from secost.training.oneshot import OneShot, held_out, measure_norms

COUNTS = (900, 129, 257)  # of images: in batches of 128, what is left over is 4, 1 and 1
BATCHES = 128 * 8 * 8  # pixels: batches of at most 128 digits


@pytest.fixture(scope="module")
def data() -> Data:
    return held_out(load_data("digits"))


@pytest.fixture(scope="module")
def trained(data: Data) -> OneShot:
    torch.manual_seed(0)
    net = secost.load("small:resnet")
    space = make_space([1, 2, 3, 4], (("se", 4), ("eca", None), ("spatial", None)), "site")
    whole = OneShot(net, sites(net, resolution=8), space)
    train(whole, data, Training("digits", 0, 3, 64, 0.05, False, False, False))
    return whole


def norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def measure_at_once(net: nn.Module, images: Tensor) -> None:
    """The reference: PyTorch's own statistics of one batch of everything."""
    for norm in norms(net.eval()):
        norm.train().reset_running_stats()
        norm.momentum = 1.0
    with torch.no_grad():
        net(images)
    net.eval()


def kept(net: nn.Module) -> list[Tensor]:
    return [item.clone() for norm in norms(net) for item in (norm.running_mean, norm.running_var) if item is not None]


@pytest.mark.parametrize("attention", ["none", "bam", "srm"])  # bam and srm have norms over vectors (BatchNorm1d)
@pytest.mark.parametrize("count", COUNTS)
def test_every_norm_has_the_statistics_of_one_batch_of_all_images(data: Data, attention: str, count: int) -> None:
    torch.manual_seed(0)
    net = secost.load("small:resnet")
    if attention != "none":
        attach(net, attention, resolution=8)
    images = data.train.images[:count]
    measure_at_once(net, images)
    reference = kept(net)
    with torch.no_grad():
        measure_norms(net, images)
    assert len(reference) >= 2 * len(norms(net)) > 0
    for mine, theirs in zip(kept(net), reference, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", COUNTS)
def test_images_that_are_too_many_for_one_batch_are_pooled_exactly_where_nothing_is_upstream(
    data: Data, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in nearly equal batches, so that none is of one image, which a norm over vectors can't be measured on."""
    monkeypatch.setattr(oneshot, "_PIXELS", BATCHES)
    torch.manual_seed(0)
    net = attach(secost.load("small:resnet"), "bam", resolution=8)
    sizes = []
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        measure_norms(net, data.train.images[:count])
    first = kept(net)[:2]
    assert sum(sizes) == count and len(sizes) > 1 and max(sizes) - min(sizes) <= 1
    measure_at_once(net, data.train.images[:count])
    for mine, theirs in zip(first, kept(net)[:2], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixels", [oneshot._PIXELS, BATCHES])
@pytest.mark.parametrize("count", COUNTS)
def test_points_are_ranked_as_one_batch_of_all_images_ranks_them(
    data: Data, trained: OneShot, count: int, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By loss also in batches; by accuracy, which ties in steps of one of 300 images, where all fit in one."""
    monkeypatch.setattr(oneshot, "_PIXELS", pixels)
    statistics, top1, loss = data.train.images[:count], [], []
    for point in trained.space.drawn(16, seed=0):
        mine = trained.judge(point, statistics, data.test)
        trained.choose(point)
        measure_at_once(trained.net, statistics)
        with torch.no_grad():
            scores = trained.net(data.test.images)
        top1.append((mine.top1, 100.0 * float((scores.argmax(1) == data.test.labels).float().mean())))
        loss.append((mine.loss, float(nn.functional.cross_entropy(scores, data.test.labels))))
    for pairs in (loss, top1) if pixels > BATCHES else (loss,):
        found = rank_correlation(pairs)
        assert found is not None and found.estimate >= 0.95

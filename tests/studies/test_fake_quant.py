"""Simulated precision: norms fold exactly, grids are those of b bits, noise falls by 6 dB a bit, groups stand apart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import secost
from secost.errors import BadSpecError
from secost.runs.study import GROUPS, MIN_MAX, PERCENTILE
from secost.studies.fake_quant import FakeMap, FakeQuantised, FakeWeight, State, fold_norms


def images(px: int = 8, count: int = 8) -> Tensor:
    return torch.randn(count, 3, px, px, generator=torch.Generator().manual_seed(0))


def lived(net: nn.Module) -> nn.Module:
    """Norms with statistics as after training."""
    source = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=source)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=source)
            module.weight.data = 0.5 + torch.rand(module.num_features, generator=source)
    return net.eval()


def with_se(placement: str = "depthwise") -> nn.Module:
    return lived(secost.attach(secost.load("small:mobile"), "se", 4, placement, resolution=8))


@pytest.mark.parametrize(("model", "placement", "px"), [
    ("small:mobile", "depthwise", 8), ("small:mobile", "depthwise-pre", 8), ("small:resnet", "residual", 8),
    ("resnet18", "residual", 64), ("efficientnet_b0", None, 64), ("torchvision:mobilenet_v3_small", None, 64),
])
def test_a_folded_network_is_the_same_function_without_norms(model: str, placement: str | None, px: int) -> None:
    net = secost.load(model)
    if placement:
        secost.attach(net, "se", 4, placement, resolution=px)
    lived(net)
    with torch.inference_mode():
        before = net(images(px))
        after = fold_norms(net, images(px))(images(px))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_map_takes_as_many_values_as_its_bits_have(bits: int) -> None:
    state = State(bits, MIN_MAX, frozenset(("rest",)))
    fake = FakeMap(state, "rest")
    x = torch.linspace(-1, 3, 10_001)
    state.observing = True
    fake(x)
    state.observing = False
    rounded = fake(x)
    assert len(rounded.unique()) == 2**bits
    assert 0.0 in rounded.tolist()
    assert float((rounded - x).abs().max()) <= 4 / (2**bits - 1) * 1.001  # the zero's own rounding shifts the ends


def test_a_weight_is_rounded_for_each_output_channel() -> None:
    scales = torch.tensor([[0.01], [0.1], [1.0], [10.0]])
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)) * scales
    rounded = FakeWeight(State(4, MIN_MAX, frozenset(("rest",))), "rest")(weight)
    steps = weight.abs().amax(1, keepdim=True) / 7
    torch.testing.assert_close(rounded, (weight / steps).round() * steps, rtol=1e-5, atol=1e-6)


def test_percentiles_leave_out_what_is_far_away() -> None:
    state = State(8, PERCENTILE, frozenset(("rest",)), observing=True)
    fake = FakeMap(state, "rest")
    x = torch.cat([torch.rand(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([1000.0])])
    fake(x)
    assert fake.ends[MIN_MAX][1] == 1000.0
    assert fake.ends[PERCENTILE][1] < 1.01


def ratio_db(signal: Tensor, noisy: Tensor) -> float:
    return float(10 * torch.log10(signal.square().sum() / (noisy - signal).square().sum()))


def test_noise_falls_by_six_decibels_a_bit() -> None:
    """The textbook's 20 log10(2) = 6.02 dB for each bit, for a network that is nearly linear in its errors."""
    net = fold_norms(with_se(), images())
    fake = FakeQuantised(net)
    fake.calibrate([images(count=64)])
    with torch.inference_mode():
        signal = fake.at(None)(images(count=64))
        ratios = {bits: ratio_db(signal, fake.at(bits)(images(count=64))) for bits in (8, 10, 12, 14)}
    assert (ratios[14] - ratios[8]) / 6 == pytest.approx(6.02, abs=0.7)


def test_full_precision_is_the_network_itself() -> None:
    net = fold_norms(with_se(), images())
    with torch.inference_mode():
        before = net(images())
        fake = FakeQuantised(net)
        fake.calibrate([images()])
        torch.testing.assert_close(fake.at(None)(images()), before)


def test_each_part_makes_its_own_noise() -> None:
    net = fold_norms(with_se(), images())
    fake = FakeQuantised(net)
    fake.calibrate([images()])
    with torch.inference_mode():
        signal = fake.at(None)(images())
        alone = {group: (fake.at(4, groups=(group,))(images()) - signal).square().sum() for group in GROUPS}
        together = (fake.at(4)(images()) - signal).square().sum()
    assert all(float(noise) > 0 for noise in alone.values())
    assert float(together) > float(max(alone.values())) / 4
    bare = FakeQuantised(fold_norms(lived(secost.load("small:mobile")), images()))
    bare.calibrate([images()])
    with torch.inference_mode():
        assert torch.equal(bare.at(4, groups=("gate", "product"))(images()), bare.at(None)(images()))


def test_gradients_pass_and_a_copy_takes_over_the_ranges() -> None:
    net = fold_norms(with_se(), images())
    kept = copy.deepcopy(net)
    fake = FakeQuantised(net)
    fake.calibrate([images()])
    twin = FakeQuantised(kept, like=fake)
    with torch.inference_mode():
        torch.testing.assert_close(twin.at(4)(images()), fake.at(4)(images()))
    twin.at(4)(images()).sum().backward()
    moved = [parameter for parameter in kept.parameters() if parameter.grad is not None and bool(parameter.grad.any())]
    assert len(moved) > 20


class WrittenInPlace(nn.Module):
    """A norm that reads what an activation wrote over the convolution's output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.norm = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.act(self.conv(x)))
        return out


class ReadTwice(nn.Module):
    """A convolution that a norm reads, and a sum as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = self.norm(y) + y
        return out


def test_a_norm_behind_an_activation_is_left_alone() -> None:
    net = lived(WrittenInPlace())
    with torch.inference_mode():
        before = net(images())
        after = fold_norms(net, images())(images())
    torch.testing.assert_close(after, before)
    assert isinstance(net.norm, nn.BatchNorm2d)


def test_a_norm_that_cannot_be_folded_is_refused() -> None:
    with pytest.raises(BadSpecError, match="can't be folded into its convolutions"):
        fold_norms(lived(ReadTwice()), images())


def test_percentiles_are_the_mean_over_batches() -> None:
    state = State(8, PERCENTILE, frozenset(), observing=True)
    fake = FakeMap(state, "rest")
    for height in (1.0, 2.0, 6.0):
        fake(torch.full((1000,), height))
    assert fake.ends[PERCENTILE] == (0.0, pytest.approx(3.0))

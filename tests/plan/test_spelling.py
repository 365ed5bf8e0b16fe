"""Spellings: one SE in other operations, equal in outputs, parameters and counts, or marked as another function."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import TinyResNet
from torch import Tensor, nn

import secost
from secost.errors import BadSpecError, UnknownNameError
from secost.meters.counts import Cost, attention_cost
from secost.networks.attention import build_attention
from secost.networks.attention_modules import SqueezeExcite
from secost.networks.sources import load
from secost.networks.surgery import Switch, build_placed, check_outputs, seeded, sites
from secost.plan.spec import Spec
from secost.plan.variants import OWN, SPELLINGS, check_spellings, get_spelling, same_function, spellings_of

NAMES = spellings_of("se")
EQUAL = [name for name in NAMES if SPELLINGS["se"][name].same_function]
OTHER = [name for name in NAMES if not SPELLINGS["se"][name].same_function]
IN_PLACE = [name for name in NAMES if SPELLINGS["se"][name].in_place]
SHAPES = [(1, 16, 7, 7), (3, 64, 5, 9), (2, 8, 1, 1)]


def built(spelling: str | None, channels: int, reduction: int = 4) -> Any:
    with seeded(3):
        module = build_attention("se", channels, reduction=reduction, height=7, width=7, spelling=spelling)
    return module.eval()


def output(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return module(x.clone()).clone()


def test_the_names_say_what_they_are() -> None:
    for name, way in SPELLINGS["se"].items():
        words = name.split("-")
        assert words[0] == ("nhwc" if way.layout == "nhwc" else way.squeeze)
        assert words[1] == way.excitation
        assert set(words[2:]) == {word for word in (way.gate, way.scaling) if word not in ("sigmoid", "new")}
    assert len({(way.squeeze, way.excitation, way.gate, way.scaling, way.layout) for way in SPELLINGS["se"].values()}
               | {(OWN.squeeze, OWN.excitation, OWN.gate, OWN.scaling, OWN.layout)}) == len(NAMES) + 1
    assert OTHER == [name for name in NAMES if "hardsigmoid" in name] and IN_PLACE and EQUAL


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", EQUAL)
def test_equal_spellings_give_the_default_output(name: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(output(built(name, shape[1]), x), output(built(None, shape[1]), x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OTHER)
def test_a_hard_sigmoid_is_another_function(name: str) -> None:
    x = torch.randn(SHAPES[1], generator=torch.Generator().manual_seed(1))
    own, other = output(built(None, 64), x), output(built(name, 64), x)
    assert float((own - other).abs().max()) > 1e-3
    module = built(None, 64)
    middle = module.fc2(torch.relu(module.fc1(x.mean((2, 3)))))
    by_hand = x * (middle / 6 + 0.5).clamp(0, 1)[:, :, None, None]
    torch.testing.assert_close(other, by_hand.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_default_ones_with_the_same_values(name: str) -> None:
    own, spelled = built(None, 32), built(name, 32)
    pairs = list(zip(own.named_parameters(), spelled.named_parameters(), strict=True))
    assert len(pairs) == 4
    for (key, mine), (other_key, theirs) in pairs:
        assert key == other_key and torch.equal(mine.flatten(), theirs.flatten())
        assert theirs.ndim == (4 if "conv" in name and key.endswith("weight") else mine.ndim)


@pytest.mark.parametrize("name", NAMES)
def test_only_an_in_place_spelling_touches_its_map(name: str) -> None:
    x = torch.rand(SHAPES[1], generator=torch.Generator().manual_seed(1)) + 0.5
    given = x.clone()
    with torch.inference_mode():
        gated = built(name, 64)(given)
    assert torch.equal(given, x) is (name not in IN_PLACE)
    assert (gated.data_ptr() == given.data_ptr()) is (name in IN_PLACE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_a_spelling_keeps_the_layout_of_its_map(name: str, layout: torch.memory_format) -> None:
    x = torch.randn(2, 16, 6, 5, generator=torch.Generator().manual_seed(1)).to(memory_format=layout)
    with torch.inference_mode():
        assert built(name, 16)(x).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", NAMES)
def test_equal_spellings_train_alike_on_a_map_of_their_own(name: str) -> None:
    gradients = []
    for way in (None, name):
        module, x = built(way, 16), torch.ones(2, 16, 3, 3, requires_grad=True)
        module(x * 2).square().sum().backward()
        assert x.grad is not None
        gradients.append([x.grad, *(parameter.grad.flatten() for parameter in module.parameters())])
    same = [torch.allclose(*pair, atol=1e-4) for pair in zip(*gradients, strict=True)]
    assert all(same) is (name in EQUAL)


def test_the_default_is_the_class_it_always_was() -> None:
    assert type(built(None, 16)) is SqueezeExcite and type(built("default", 16)) is SqueezeExcite


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return load("resnet18").eval()


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_the_default_ones(name: str, resnet18: nn.Module) -> None:
    chosen = sites(resnet18, resolution=64)
    own = sum((item.cost for item in attention_cost(resnet18, chosen, "se", 16, {})), Cost())
    cost = sum((item.cost for item in attention_cost(resnet18, chosen, "se", 16, {}, name)), Cost())
    # By hand, for C = 64, 128, 256, 512 at 16, 8, 4, 2 pixels, two blocks each: 2Ch + h + C and 2Ch + CHW.
    widths = [(64, 16), (128, 8), (256, 4), (512, 2)]
    assert cost.params == sum(2 * (2 * c * (c // 16) + c // 16 + c) for c, _ in widths) == own.params
    assert cost.macs == sum(2 * (2 * c * (c // 16) + c * side**2) for c, side in widths) == own.macs
    assert (cost.kernels, cost.memory_bytes) == (own.kernels, own.memory_bytes) and not cost.unsupported_ops


def test_one_table_of_known_units_keeps_spellings_apart(resnet18: nn.Module) -> None:
    chosen, known = sites(resnet18, resolution=64), dict[Any, Cost]()
    attention_cost(resnet18, chosen, "se", 16, known)
    count = len(known)
    attention_cost(resnet18, chosen, "se", 16, known, "pool-conv")
    assert len(known) == 2 * count


# What fits where


IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv2_050", "densenet121"])
def test_every_equal_spelling_fits_at_the_standard_places_of_real_networks(model: str) -> None:
    net = load(model).eval()
    chosen = sites(net, resolution=64)
    for name in NAMES:
        check_outputs(net, (IMAGE,), chosen, "se", 4, name)


@pytest.mark.parametrize("integration", ["pre", "identity"])
def test_in_place_is_refused_where_the_shortcut_reads_the_map(integration: str, resnet18: nn.Module) -> None:
    chosen = sites(resnet18, placement="residual", integration=integration, resolution=64)
    with pytest.raises(BadSpecError, match="'mean-linear-inplace' of se does not fit") as refused:
        check_outputs(resnet18, (IMAGE,), chosen, "se", 4, "mean-linear-inplace")
    assert "\n" not in str(refused.value) and "still read elsewhere" in str(refused.value)
    for name in set(EQUAL) - set(IN_PLACE):
        check_outputs(resnet18, (IMAGE,), chosen, "se", 4, name)


def test_a_check_leaves_the_network_as_it_was() -> None:
    net = TinyResNet().eval()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter) if parameter.ndim == 1 else None
    before = {key: value.clone() for key, value in net.state_dict().items()}
    image = IMAGE.clone()
    with torch.inference_mode():
        expected = net(image)
    check_outputs(net, (image,), sites(net, resolution=64), "se", 2, "pool-conv")
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(net(image), expected)
    assert torch.equal(image, IMAGE)


class StemGate(nn.Module):
    """A residual branch that begins with the network's own input: in place, the image would be written over."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + x).mean((2, 3))


def test_in_place_never_writes_over_the_image() -> None:
    net = StemGate().eval()
    chosen = sites(net, placement="residual", integration="pre", resolution=16)
    with pytest.raises(BadSpecError, match="the network's input is overwritten"):
        check_outputs(net, (IMAGE[..., :16, :16],), chosen, "se", 1, "pool-conv-inplace")


def test_a_variant_that_would_be_another_network_fails_where_it_is_measured(few_rounds: float) -> None:
    found = secost.profile(
        f"{Path(__file__).parents[1] / 'small_nets.py'}:residual", attentions=["se"], reductions=[4], resolution=32,
        placement="residual", integration="pre", spelling=["default", "mean-linear-inplace"], seconds=few_rounds,
    )
    assert {record.spelling: record.status for record in found[1:]} == {None: "done", "mean-linear-inplace": "failed"}
    assert "'mean-linear-inplace' of se does not fit at the residual sites" in str(found[-1].error)


def test_a_switch_between_spellings_runs_each_on_the_same_weights(resnet18: nn.Module) -> None:
    chosen = sites(resnet18, resolution=64)
    with Switch(resnet18, ()) as switch, torch.inference_mode():
        found = {}
        for name in (None, *EQUAL):
            with torch.inference_mode(False), seeded(0):
                switch.add(str(name), build_placed(resnet18, chosen, "se", 16, name))
            found[name] = switch.select(str(name))(IMAGE).clone()
    for name in EQUAL:
        torch.testing.assert_close(found[name], found[None], rtol=1e-4, atol=1e-5)


# Asking for them


def test_unknown_spellings_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown spelling of se 'pool-con': did you mean pool-conv"):
        check_spellings(["pool-con"], ["se", "eca"])
    with pytest.raises(BadSpecError, match="how secost itself writes se: ask for it as 'default'"):
        check_spellings(["mean-linear"], ["se"])
    with pytest.raises(BadSpecError, match="'pool-conv' belongs to se, which was not asked for"):
        check_spellings(["pool-conv"], ["eca"])
    with pytest.raises(BadSpecError, match="eca has none of the spellings pool-conv: add default"):
        check_spellings(["pool-conv"], ["se", "eca"])
    with pytest.raises(BadSpecError, match="eca has no spelling but secost's own"):
        build_attention("eca", 16, reduction=None, height=7, width=7, spelling="pool-conv")
    with pytest.raises(UnknownNameError, match="pool-conv"):
        get_spelling("se", "pool-konv")


def test_the_network_itself_has_no_spelling_to_be_asked_for() -> None:
    assert check_spellings(["pool-conv"], ["none", "native", "se"]) == {"se": NAMES}
    assert check_spellings(["default"], ["none"]) == {}
    with pytest.raises(BadSpecError, match="belongs to se"):
        check_spellings(["pool-conv"], ["none"])


def test_a_spec_with_spellings_makes_variants_of_them() -> None:
    spec = Spec(("resnet18",), attention=("se", "eca"), reductions=(16,), spelling=("all",))
    (comparison,) = spec.comparisons({"se": True, "eca": False}, check_spellings(spec.spelling, spec.attention))
    assert [trial.spelling for trial in comparison.trials] == [None, None, *NAMES, None]
    assert [trial.attention for trial in comparison.trials] == ["none", *["se"] * (1 + len(NAMES)), "eca"]
    assert len({trial.key for trial in comparison.trials}) == len(NAMES) + 3


def test_the_readme_lists_every_spelling_and_how_it_is_written() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", text.split("## Spelling")[1].split("## ")[0], re.M))
    assert list(rows) == ["default", *NAMES]
    for name, way in {"default": OWN, **SPELLINGS["se"]}.items():
        row = rows[name]
        assert ("AdaptiveAvgPool2d" in row) is (way.squeeze == "pool") and ("view" in row) is (way.layout == "nhwc")
        assert ("convolution" in row) is (way.excitation == "conv") and ("hard sigmoid" in row) is not way.same_function
        assert ("mul_" in row) is way.in_place


def test_records_of_any_spelling_know_their_function() -> None:
    assert same_function("se", None) is True and same_function("eca", None) is True
    assert same_function("se", "pool-conv") is True and same_function("se", "pool-conv-hardsigmoid") is False
    assert same_function("se", "of-a-later-version") is None

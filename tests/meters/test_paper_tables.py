"""The SENet paper's tables (arXiv:1709.01507v4) in parameters and MACs; `pytest -s` prints them beside ours.

Its "GFLOPs" are MACs and its ResNets are v1: the stride of a down-sampling block sits on the first 1x1 convolution
(timm's `legacy_seresnet*`, stripped). Tolerances are those of FACTS.md, section A: 0.02 GMACs (the paper's base
figures for the deep nets are 0.01 to 0.02 above convolutions and linear layers), 0.1 M parameters (counting the
running statistics of batch norm, as Caffe does, explains most of what its figures are higher).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import secost
from secost.meters.counts import Cost, network_cost
from secost.networks.attention import ATTENTION, register_attention
from secost.networks.attention_modules import SqueezeExcite, hidden_width
from secost.networks.sources import image_input
from secost.networks.tracing import trace

GMACS_TOLERANCE, PARAMS_TOLERANCE_M = 0.02, 0.1
RESNET50 = ((256, 56, 3), (512, 28, 4), (1024, 14, 6), (2048, 7, 3))  # width, height, blocks
SCALED = sum(width * size * size * blocks for width, size, blocks in RESNET50)  # elements that the gates scale
NORM_STATISTICS = 53_120  # running means and variances of ResNet-50's batch norms
SE, NO_SQUEEZE = "test-paper-se", "test-paper-nosqueeze"

Say = Callable[[str], None]


class NoSqueeze(nn.Module):
    """Table 16: the pooling left out and the two layers turned into 1x1 convolutions, at full resolution."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.first, self.second = nn.Conv2d(channels, hidden, 1, bias=False), nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.second(torch.relu(self.first(x))))


def _two_layers(channels: int, reduction: int | None) -> int:
    return 2 * channels * hidden_width(channels, reduction)


@pytest.fixture(scope="module", autouse=True)
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The paper's SE has no biases ("the ablations say biases were removed", FACTS A.6)."""
    register_attention(
        SE, lambda channels, reduction: SqueezeExcite(channels, reduction, bias=False), _two_layers, has_reduction=True
    )
    register_attention(NO_SQUEEZE, NoSqueeze, _two_layers, has_reduction=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECOST_CACHE", str(tmp_path_factory.mktemp("cache")))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # threads that wait for each other are slow beside other tests
        yield
        torch.set_num_threads(threads)
    for name in (SE, NO_SQUEEZE):
        del ATTENTION._entries[name]


@pytest.fixture(scope="module")
def say() -> Iterator[Say]:
    lines: list[str] = []
    yield lines.append
    print("\n\nThe SENet paper's figures and ours\n" + "\n".join(lines))


@pytest.fixture(scope="module")
def resnet50_v1() -> nn.Module:
    """torchvision's ResNet-50 with the stride moved from the 3x3 convolution to the first 1x1."""
    net = secost.load("torchvision:resnet50")
    for name, module in net.named_modules():
        if name.endswith("conv2"):
            first = net.get_submodule(name.removesuffix("conv2") + "conv1")
            first.stride, module.stride = module.stride, (1, 1)
    return net


def _close(found: float, printed: float, tolerance: float) -> bool:
    return abs(round(found, 3) - printed) <= tolerance + 1e-9  # to the thousandth, as FACTS.md writes its own counts


def _line(table: str, what: str, printed: str, found: str) -> str:
    return f"  Table {table:<3} {what:<28} paper {printed:<26} ours {found}"


# --- Tables 2 and 3: networks with and without SE --------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One network of Table 2: its printed GMACs, and the attention's own MACs by hand."""

    name: str
    model: str
    printed: tuple[float, float]
    widths: tuple[tuple[int, int, int], ...]  # width, height, sites
    placement: str = "residual"


def _resnet(*blocks: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((width, size, count) for (width, size, _), count in zip(RESNET50, blocks, strict=True))


VGG16 = ((64, 224, 2), (128, 112, 2), (256, 56, 3), (512, 28, 3), (512, 14, 3))
MOBILENET = ((64, 112, 1), (128, 56, 2), (256, 28, 2), (512, 14, 6), (1024, 7, 2))
slow = pytest.mark.slow
TABLE_2 = [
    pytest.param(Row("ResNet-50", "legacy_seresnet50", (3.86, 3.87), _resnet(3, 4, 6, 3))),
    pytest.param(Row("ResNet-101", "legacy_seresnet101", (7.58, 7.60), _resnet(3, 4, 23, 3)), marks=slow),
    pytest.param(Row("ResNet-152", "legacy_seresnet152", (11.30, 11.32), _resnet(3, 8, 36, 3)), marks=slow),
    pytest.param(Row("ResNeXt-50 32x4d", "legacy_seresnext50_32x4d", (4.24, 4.25), _resnet(3, 4, 6, 3))),
    pytest.param(Row("ResNeXt-101 32x4d", "legacy_seresnext101_32x4d", (7.99, 8.00), _resnet(3, 4, 23, 3)), marks=slow),
    pytest.param(Row("VGG-16 BN", "torchvision:vgg16_bn", (15.47, 15.48), VGG16, "conv")),
]


def _by_hand(row: Row) -> int:
    """Two layers at r = 16 and one product for each element of the map, pooling not counted (FACTS A.3)."""
    return sum(count * (2 * width * (width // 16) + width * size * size) for width, size, count in row.widths)


@pytest.mark.parametrize("row", TABLE_2, ids=lambda row: row.name)
def test_table_2_cost_of_networks_with_and_without_se(row: Row, say: Say) -> None:
    none, se = secost.profile(row.model, reductions=[16], placement=row.placement, latency=False)
    assert se.sites == sum(count for *_, count in row.widths)
    assert se.attention_macs == _by_hand(row)
    found = ((none.macs or 0) / 1e9, (se.macs or 0) / 1e9)
    say(_line("2", row.name, "{:.2f} -> {:.2f} G".format(*row.printed), "{:.3f} -> {:.3f} G".format(*found)))
    for own, printed in zip(found, row.printed, strict=True):
        assert _close(own, printed, GMACS_TOLERANCE)


@pytest.mark.parametrize(
    ("model", "gmacs"),
    [("legacy_seresnet50", (3.86, 3.87)), ("torchvision:vgg16_bn", (15.47, 15.48))],
)
def test_table_2_resnet50_and_vgg16_are_reproduced_to_the_printed_digit(model: str, gmacs: tuple[float, float]) -> None:
    placement = "conv" if "vgg" in model else "residual"
    records = secost.profile(model, reductions=[16], placement=placement, latency=False)
    assert tuple(round((record.macs or 0) / 1e9, 2) for record in records) == gmacs


@pytest.mark.slow
def test_table_2_inception_resnet_v2_is_another_network_than_timms(say: Say) -> None:
    """The paper prints 11.75 -> 11.76 G at 299 px. timm's net (a port of TensorFlow's release) has 13.16 G without SE:
    12 % more, so the paper's re-implementation is not this network, and no tolerance would make it so."""
    none, se = secost.profile("inception_resnet_v2", reductions=[16], latency=False, resolution=299)
    found = ((none.macs or 0) / 1e9, (se.macs or 0) / 1e9)
    ours = "{:.3f} -> {:.3f} G, another network".format(*found)
    say(_line("2", "Inception-ResNet-v2 (299)", "11.75 -> 11.76 G", ours))
    assert found[0] == pytest.approx(13.156, abs=0.001)
    assert se.sites == 40


def test_what_of_tables_2_and_3_is_not_reproduced(say: Say) -> None:
    """BN-Inception and ShuffleNet with 3 groups are in neither timm nor torchvision (whose ShuffleNet is v2)."""
    say(_line("2", "BN-Inception", "2.03 -> 2.04 G", "not in timm or torchvision"))
    say(_line("3", "ShuffleNet 1x g=3", "140 -> 142 M", "not in timm or torchvision"))


def test_table_3_mobilenet(say: Say) -> None:
    row = Row("MobileNet 1.0-224", "mobilenetv1_100", (0.569, 0.572), MOBILENET, "conv")
    none, se = secost.profile(row.model, reductions=[16], placement="conv", latency=False)
    assert se.sites == 13
    assert [item["channels"] for item in se.by_site] == [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert se.attention_macs == _by_hand(row)
    millions = tuple(round((record.macs or 0) / 1e6) for record in (none, se))
    params = tuple(round((record.params or 0) / 1e6, 1) for record in (none, se))
    say(_line("3", row.name, "569 -> 572 M, 4.2 -> 4.7 M", "{} -> {} M, {} -> {} M".format(*millions, *params)))
    assert (millions, params) == ((569, 572), (4.2, 4.7))


# --- Tables 10, 13 to 16: ResNet-50 in variants ----------------------------------------------------------------------

TABLE_10 = {2: 45.7, 4: 35.7, 8: 30.7, 16: 28.1, 32: 26.9}


def test_table_10_parameters_at_every_ratio(say: Say) -> None:
    none, *variants = secost.profile(
        "legacy_seresnet50", attentions=[SE, "se"], reductions=list(TABLE_10), latency=False
    )
    assert none.params == 25_557_032
    assert _close((none.params or 0) / 1e6, 25.6, PARAMS_TOLERANCE_M)
    with_biases = {record.reduction: record for record in variants if record.attention == "se"}
    for record in (record for record in variants if record.attention == SE):
        r = record.reduction or 0
        printed, own = TABLE_10[r], (record.params or 0) / 1e6
        assert record.attention_params == sum(2 * width * (width // r) * blocks for width, _, blocks in RESNET50)
        # At r = 8 ours is 30.587, 0.11 below: to the digit that the paper prints it is 0.1, and with the statistics of
        # batch norm, which Caffe keeps among the parameters, every row is within 0.06 (FACTS A.6).
        assert abs(round(own, 1) - printed) <= PARAMS_TOLERANCE_M + 1e-9
        assert abs(own + NORM_STATISTICS / 1e6 - printed) <= 0.061
        biased = with_biases[r].params or 0
        biases = sum((width + width // r) * blocks for width, _, blocks in RESNET50)
        assert biased - (record.params or 0) == biases
        say(_line("10", f"r = {r}", f"{printed} M", f"{own:.3f} M, with biases {biased / 1e6:.3f} M"))
    assert with_biases[16].params == 28_088_024  # FACTS A.12


def test_without_the_last_stage_se_costs_four_instead_of_ten_percent() -> None:
    """Section 4: about 10 % more parameters, about 4 % without the SE blocks of the last stage (FACTS A.7)."""
    extra = [
        secost.profile("legacy_seresnet50", attentions=[SE], reductions=[16], stages=stages, latency=False)[1]
        for stages in (None, [1, 2, 3])
    ]
    assert [record.attention_params for record in extra] == [2_514_944, 942_080]
    assert [round(100 * (record.params_overhead or 0), 2) for record in extra] == [9.84, 3.69]


@pytest.mark.parametrize(
    ("name", "stages", "params_m", "gmacs"),
    [
        # The paper counts the stem as stage 1, so its stage 2 is our stage 1. It prints no row for stage 5 alone.
        ("stage 2", [1], 25.6, 3.86), ("stage 3", [2], 25.7, 3.86), ("stage 4", [3], 26.4, 3.86),
        ("all stages", None, 28.1, 3.87),
    ],
)
def test_table_13_se_in_one_stage(
    name: str, stages: list[int] | None, params_m: float, gmacs: float, resnet50_v1: nn.Module, say: Say
) -> None:
    record = secost.profile(resnet50_v1, attentions=[SE], reductions=[16], stages=stages, latency=False)[1]
    chosen = [RESNET50[stage - 1] for stage in stages or (1, 2, 3, 4)]
    assert record.attention_params == sum(2 * width * (width // 16) * blocks for width, _, blocks in chosen)
    own = (record.params or 0) / 1e6, (record.macs or 0) / 1e9
    say(_line("13", name, f"{params_m} M, {gmacs} G", "{:.3f} M, {:.3f} G".format(*own)))
    assert _close(own[0], params_m, PARAMS_TOLERANCE_M)
    assert round(own[1], 2) == gmacs


@pytest.mark.parametrize("integration", ["standard", "pre", "post", "identity"])
def test_table_14_integrations(integration: str, resnet50_v1: nn.Module, say: Say) -> None:
    """The paper prints errors only; every place but PRE sees the block's own width, PRE the width of what comes in."""
    record = secost.profile(
        resnet50_v1, attentions=[SE], reductions=[16], integration=integration, latency=False
    )[1]
    maps = [(width, size) for width, size, blocks in RESNET50 for _ in range(blocks)]
    if integration == "pre":
        maps = [(64, 56), *maps[:-1]]  # a block's input is the output of the one before it
    assert record.sites == 16
    assert record.attention_params == sum(2 * width * (width // 16) for width, _ in maps)
    assert record.attention_macs == sum(2 * width * (width // 16) + width * size * size for width, size in maps)
    say(_line("14", f"SE-{integration}", "no cost printed", f"{(record.params or 0) / 1e6:.3f} M, "
              f"{(record.macs or 0) / 1e9:.3f} G"))


def _attached(net: nn.Module, attention: str, paths: Callable[[str], bool]) -> tuple[Cost, Cost]:
    """The cost of the network, and of it with attention at those `conv` sites that `paths` chooses."""
    inputs = image_input(net, 224)
    chosen = [site for site in secost.sites(net, placement="conv") if paths(site.path)]
    whole = secost.attach(copy.deepcopy(net), attention, reduction=16, at=chosen)
    return network_cost(net, inputs, trace(net, inputs)), network_cost(whole, inputs, trace(whole, inputs))


def test_table_15_se_after_the_3x3_convolution(resnet50_v1: nn.Module, say: Say) -> None:
    """The map after the 3x3 unit is the input of the block's third convolution (torchvision shares one ReLU)."""
    none, variant = _attached(resnet50_v1, SE, lambda path: path.endswith("conv3"))
    inner = [(width // 4, size, blocks) for width, size, blocks in RESNET50]
    assert variant.params - none.params == sum(2 * width * (width // 16) * blocks for width, _, blocks in inner)
    assert variant.macs - none.macs == sum(
        (2 * width * (width // 16) + width * size * size) * blocks for width, size, blocks in inner
    )
    own = variant.params / 1e6, variant.macs / 1e9
    say(_line("15", "SE_3x3", "25.8 M, 3.86 G", "{:.3f} M, {:.3f} G".format(*own)))
    assert _close(own[0], 25.8, PARAMS_TOLERANCE_M)
    assert round(own[1], 2) == 3.86


def test_table_16_without_the_squeeze(resnet50_v1: nn.Module, say: Say) -> None:
    """Pointwise convolutions at full resolution add exactly 411.04 M MACs (FACTS A.5): 4.269, printed as 4.27."""
    none, no_squeeze, se = secost.profile(
        resnet50_v1, attentions=[NO_SQUEEZE, SE], reductions=[16], latency=False
    )
    convolutions = sum(2 * width * (width // 16) * size * size * blocks for width, size, blocks in RESNET50)
    assert round(convolutions / 1e6, 2) == 411.04
    assert no_squeeze.attention_macs == convolutions + SCALED
    assert no_squeeze.attention_params == se.attention_params == 2_514_944
    for record, printed in ((none, (25.6, 3.86)), (no_squeeze, (28.1, 4.27)), (se, (28.1, 3.87))):
        own = (record.params or 0) / 1e6, (record.macs or 0) / 1e9
        name = {NO_SQUEEZE: "NoSqueeze", SE: "SE"}.get(record.attention, "original")
        say(_line("16", name, "{} M, {} G".format(*printed), "{:.3f} M, {:.3f} G".format(*own)))
        assert _close(own[0], printed[0], PARAMS_TOLERANCE_M)
        assert round(own[1], 2) == printed[1]


def test_the_papers_0_26_percent_is_a_quotient_of_rounded_figures(resnet50_v1: nn.Module) -> None:
    _, se = secost.profile(resnet50_v1, attentions=[SE], reductions=[16], latency=False)
    assert round(100 * (3.87 - 3.86) / 3.86, 2) == 0.26
    assert round(100 * (se.macs_overhead or 0), 3) == 0.208

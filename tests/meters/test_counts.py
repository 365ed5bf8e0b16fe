"""What a network costs on paper, held to hand-derived figures, to fvcore, to torch's counter, and to itself."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import secost
from secost.errors import CountError
from secost.kept import write_kept
from secost.meters import counts, macs
from secost.meters.backends import torch as torch_backends
from secost.meters.counts import Cost, SiteCost, attention_cost, by_site, by_stage, native_cost, network_cost
from secost.meters.macs import cached_fvcore_macs, einsum_macs, fvcore_macs, operation_class
from secost.networks.attention import ATTENTION, register_attention
from secost.networks.attention_modules import hidden_width
from secost.networks.sites import Site
from secost.networks.sources import image_input
from secost.networks.surgery import Switch, native_paths
from secost.networks.tracing import ForwardError, Graph, trace

KINDS = ("se", "ese", "eca", "cbam", "bam", "spatial", "scse", "ge", "gc", "srm", "simam", "coord")
RESNET50 = ((256, 56, 3), (512, 28, 4), (1024, 14, 6), (2048, 7, 3))  # width, height, blocks of each stage
RATIOS = (2, 4, 8, 16, 32)
BYTES = 4  # of a float32


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECOST_CACHE", str(tmp_path_factory.mktemp("cache")))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # threads that wait for each other are slow beside other tests
        yield
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _cost(net: nn.Module, *inputs: Tensor) -> Cost:
    return network_cost(net, inputs, trace(net, inputs))


def _at(net: nn.Module, resolution: int) -> Cost:
    return _cost(net, *image_input(net, resolution))


class Of(nn.Module):
    """A function of tensors as a network."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


# --- ResNet-50, the figures that everything else is judged by --------------------------------------------------------


@pytest.fixture(scope="module")
def resnet50() -> list[secost.Record]:
    return secost.profile("resnet50", reductions=list(RATIOS), latency=False)


def test_resnet50_has_its_published_parameters_and_macs(resnet50: list[secost.Record]) -> None:
    baseline = resnet50[0]
    assert (baseline.attention, baseline.params, baseline.macs) == ("none", 25_557_032, 4_089_184_256)
    assert (baseline.params_overhead, baseline.attention_params, baseline.attention_macs) == (0.0, 0, 0)


def test_se_at_16_adds_what_design_says(resnet50: list[secost.Record]) -> None:
    record = next(item for item in resnet50 if item.reduction == 16)
    assert record.attention_params == 2_530_992
    assert record.attention_macs == 2_514_944 + 5_519_360
    assert record.params == 28_088_024


@pytest.mark.parametrize("r", RATIOS)
def test_se_adds_its_formula_at_every_ratio(r: int, resnet50: list[secost.Record]) -> None:
    record = next(item for item in resnet50 if item.reduction == r)
    weights = sum(blocks * 2 * width * (width // r) for width, _, blocks in RESNET50)
    biases = sum(blocks * (width + width // r) for width, _, blocks in RESNET50)
    products = sum(blocks * width * size * size for width, size, blocks in RESNET50)
    assert record.attention_params == weights + biases
    assert record.attention_macs == weights + products
    assert record.params == 25_557_032 + weights + biases
    assert record.macs == 4_089_184_256 + weights + products
    assert record.macs_overhead == (weights + products) / 4_089_184_256


def test_se_costs_memory_traffic_and_launches_out_of_proportion_to_its_macs(resnet50: list[secost.Record]) -> None:
    """DESIGN section 5: MACs +0.2 %, memory traffic +18 %, operations +55 %."""
    record = next(item for item in resnet50 if item.reduction == 16)
    assert record.macs_overhead == pytest.approx(0.002, abs=0.0001)
    assert record.memory_overhead == pytest.approx(0.179, abs=0.0005)
    assert (resnet50[0].kernels, record.kernels) == (174, 270)
    assert record.kernels_overhead == pytest.approx(0.55, abs=0.005)


@pytest.mark.parametrize("r", RATIOS)
def test_shares_of_sites_and_stages_add_up_to_the_whole(r: int, resnet50: list[secost.Record]) -> None:
    record = next(item for item in resnet50 if item.reduction == r)
    assert (len(record.by_site), [row["sites"] for row in record.by_stage]) == (16, [3, 4, 6, 3])
    for rows in (record.by_site, record.by_stage):
        assert sum(row["params"] for row in rows) == record.attention_params
        assert sum(row["macs"] for row in rows) == record.attention_macs
        for name in ("other_ops", "memory_bytes", "kernels"):
            whole, base = getattr(record, name), getattr(resnet50[0], name)
            assert sum(row[name] for row in rows) == whole - base, name


# --- layers by hand --------------------------------------------------------------------------------------------------


def test_a_convolution_costs_its_formula_in_every_currency() -> None:
    net = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=True)
    weights, out, given = 8 * 6 * 9, 8 * 5 * 5, 6 * 9 * 9
    cost = _cost(net, torch.rand(1, 6, 9, 9))
    assert cost == Cost(
        params=weights + 8, macs=weights * 25, other_ops=0, activations=out,
        memory_bytes=BYTES * (given + weights + 8 + out), kernels=1,
    )


def test_a_linear_layer_costs_its_formula_in_every_currency() -> None:
    cost = _cost(nn.Linear(6, 8), torch.rand(1, 6))
    assert cost == Cost(6 * 8 + 8, 6 * 8, 0, 8, BYTES * (6 + 48 + 8 + 8), 1)


LAYERS = {
    "grouped": (nn.Conv2d(6, 8, 3, groups=2), (1, 6, 9, 9), 8 * 7 * 7 * 3 * 9),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 9, 9), 6 * 81 * 9),
    "pointwise": (nn.Conv2d(6, 8, 1, bias=False), (1, 6, 9, 9), 6 * 8 * 81),
    "dilated": (nn.Conv2d(6, 8, 3, dilation=2), (1, 6, 9, 9), 6 * 8 * 9 * 25),
    "padding same": (nn.Conv2d(6, 8, 3, padding="same"), (1, 6, 9, 9), 6 * 8 * 9 * 81),
    "padding same, even kernel": (nn.Conv2d(6, 8, 4, padding="same"), (1, 6, 9, 9), 6 * 8 * 16 * 81),
    "reflected": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (1, 6, 9, 9), 6 * 8 * 9 * 81),
    "unbatched": (nn.Conv2d(6, 8, 3), (6, 9, 9), 6 * 8 * 9 * 49),
    "transposed": (nn.ConvTranspose2d(6, 8, 3, stride=2), (1, 6, 9, 9), 6 * 8 * 9 * 81),
    "transposed, grouped": (nn.ConvTranspose2d(6, 8, 3, groups=2), (1, 6, 9, 9), 6 * 4 * 9 * 81),
    "1-D": (nn.Conv1d(6, 8, 3), (1, 6, 9), 6 * 8 * 3 * 7),
    "1-D transposed": (nn.ConvTranspose1d(6, 8, 3), (1, 6, 9), 6 * 8 * 3 * 9),
    "3-D": (nn.Conv3d(6, 8, 3), (1, 6, 5, 5, 5), 6 * 8 * 27 * 27),
    "linear on 4-D": (nn.Linear(6, 8), (1, 3, 4, 6), 12 * 48),
    "linear without bias on 3-D": (nn.Linear(6, 8, bias=False), (1, 5, 6), 5 * 48),
    "linear on a vector": (nn.Linear(6, 8), (6,), 48),
    "lstm": (nn.LSTM(6, 8), (5, 1, 6), 5 * 4 * 8 * (6 + 8)),
    "lstm, two layers, both ways": (
        nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True), (1, 5, 6), 5 * 2 * 4 * 8 * ((6 + 8) + (16 + 8)),
    ),
    "gru": (nn.GRU(6, 8), (5, 1, 6), 5 * 3 * 8 * (6 + 8)),
    "self-attention block": (  # projections, two products, two linear layers
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 5, 8), 5 * (4 * 64 + 2 * 8 * 16) + 2 * 5 * 5 * 8,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_costs_its_formula(name: str) -> None:
    net, shape, expected = LAYERS[name]
    net = net.eval()
    if isinstance(net, nn.RNNBase):
        net = nn.Sequential(net)
    assert _cost(net, torch.rand(shape)).macs == expected


PRODUCTS = {
    "matrix": (torch.matmul, [(3, 4), (4, 5)], 60),
    "broadcasting": (torch.matmul, [(2, 1, 3, 4), (7, 4, 5)], 2 * 7 * 60),
    "matrix and vector": (torch.matmul, [(3, 4), (4,)], 12),
    "matrices and vector": (torch.matmul, [(2, 3, 4), (4,)], 24),
    "vector and matrix": (torch.matmul, [(4,), (4, 3)], 12),
    "vector and matrices": (torch.matmul, [(4,), (2, 4, 3)], 24),
    "two vectors": (torch.matmul, [(4,), (4,)], 4),
    "mm": (torch.mm, [(3, 4), (4, 5)], 60),
    "bmm": (torch.bmm, [(2, 3, 4), (2, 4, 5)], 120),
    "mv": (torch.mv, [(3, 4), (4,)], 12),
    "dot": (torch.dot, [(4,), (4,)], 4),
    "addmm": (torch.addmm, [(3, 5), (3, 4), (4, 5)], 60),
    "baddbmm": (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 120),
    "inner": (torch.inner, [(3, 4), (2, 4)], 24),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([1], [0])), [(3, 4, 2), (4, 5)], 120),
    "attention": (F.scaled_dot_product_attention, [(1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 6)], 2 * 5 * 7 * (8 + 6)),
    "causal attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [(1, 2, 5, 8)] * 3, 2 * 5 * 5 * 16,
    ),
    "masked attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(5, 7, dtype=torch.bool)),
        [(1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 8)], 2 * 5 * 7 * 16,
    ),
    "grouped-query attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [(1, 4, 5, 8), (1, 2, 5, 8), (1, 2, 5, 8)], 4 * 5 * 5 * 16,
    ),
    "attention without heads": (F.scaled_dot_product_attention, [(2, 5, 8), (2, 7, 8), (2, 7, 8)], 2 * 5 * 7 * 16),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_costs_its_formula(name: str) -> None:
    function, shapes, expected = PRODUCTS[name]
    assert _cost(Of(function), *(torch.rand(shape) for shape in shapes)).macs == expected


EINSUMS = {
    "ij,jk->ik": ([(3, 4), (4, 5)], 60),
    "ij , jk": ([(3, 4), (4, 5)], 60),
    "bij,bjk->bik": ([(2, 3, 4), (2, 4, 5)], 120),
    "bik,jk->bij": ([(2, 3, 4), (5, 4)], 120),
    "...ij,...jk->...ik": ([(2, 3, 4), (2, 4, 5)], 120),
    "bhid,bhjd->bhij": ([(1, 2, 5, 4), (1, 2, 6, 4)], 240),
    "nctw,cd->ndtw": ([(1, 6, 3, 4), (6, 5)], 360),
    "bchw,bkhw->bck": ([(1, 3, 4, 5), (1, 6, 4, 5)], 360),
    "nchw,nc->nhw": ([(1, 6, 4, 4), (1, 6)], 96),
    "i,i": ([(4,), (4,)], 4),
    "ij,jk,kl->il": ([(3, 4), (4, 5), (5, 6)], 60 + 90),
    "ij,jk,kl,lm->im": ([(3, 4), (4, 5), (5, 6), (6, 7)], 60 + 90 + 126),
    # No letter is summed over together: products and sums, no multiply-adds.
    "nchw,nc->nchw": ([(1, 6, 4, 4), (1, 6)], 0),
    "i,j->ij": ([(3,), (4,)], 0),
    "ij->ji": ([(3, 4)], 0),
    "ij->i": ([(3, 4)], 0),
    "ii->i": ([(3, 3)], 0),
    "abc,d->ab": ([(2, 3, 4), (5,)], 0),
    "ij,jk->ik ": ([(3, 1), (1, 4)], 0),  # a sum over one element is none
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_an_einsum_costs_the_sums_that_torch_carries_out(equation: str) -> None:
    shapes, expected = EINSUMS[equation]
    assert einsum_macs(equation, shapes) == expected
    net = Of(lambda *operands: torch.einsum(equation, *operands))
    assert _cost(net, *(torch.rand(shape) for shape in shapes)).macs == expected


def test_a_gate_written_as_einsum_is_a_plain_product() -> None:
    cost = _cost(Of(lambda x, gate: torch.einsum("nchw,nc->nchw", x, gate)), torch.rand(1, 6, 4, 4), torch.rand(1, 6))
    assert (cost.macs, cost.other_ops, cost.kernels) == (0, 96, 1)


def test_work_that_no_output_needs_is_counted_because_eager_runs_it() -> None:
    cost = _cost(Of(lambda a, b: (a @ b, a + 1)[1]), torch.rand(3, 4), torch.rand(4, 5))
    assert (cost.macs, cost.other_ops) == (60, 12)


# --- other operations, by class --------------------------------------------------------------------------------------

OTHERS = {
    "relu": (F.relu, 48), "sigmoid": (torch.sigmoid, 48), "addition": (lambda x: x + x, 48),
    "product": (lambda x: x * x, 48), "gelu": (F.gelu, 48), "hard swish": (F.hardswish, 48),
    "mean over the map": (lambda x: x.mean((2, 3)), 48), "maximum over channels": (lambda x: x.amax(1), 48),
    "softmax": (lambda x: x.softmax(1), 48), "variance": (lambda x: x.var((2, 3)), 48),
    "max pooling": (lambda x: F.max_pool2d(x, 2), 48), "average pooling": (lambda x: F.avg_pool2d(x, 2), 48),
    "overlapping pooling": (lambda x: F.avg_pool2d(x, 3, 1, 1), 48),
    "adaptive pooling to 1": (lambda x: F.adaptive_avg_pool2d(x, 1), 48),
    "adaptive pooling to 2": (lambda x: F.adaptive_avg_pool2d(x, 2), 48),
    "nearest resizing up": (lambda x: F.interpolate(x, scale_factor=2), 192),
    "bilinear resizing down": (lambda x: F.interpolate(x, size=(2, 2), mode="bilinear"), 48),
    "concatenation": (lambda x: torch.cat((x, x), 1), 0), "padding": (lambda x: F.pad(x, (1, 1, 1, 1)), 0),
    "copy": (lambda x: x.clone(), 0), "pixel shuffle": (lambda x: F.pixel_unshuffle(x, 2), 0),
    "view": (lambda x: x.flatten(1).unsqueeze(2), 0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_one_other_op_is_what_its_class_says(name: str) -> None:
    function, expected = OTHERS[name]
    cost = _cost(Of(function), torch.rand(1, 3, 4, 4))
    assert (cost.macs, cost.other_ops, cost.unsupported_ops) == (0, expected, Counter())


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm((4, 3, 3))],
    ids=lambda norm: type(norm).__name__,
)
@pytest.mark.parametrize("training", [False, True])
def test_a_norm_is_two_operations_an_element_in_either_mode(norm: nn.Module, training: bool) -> None:
    cost = _cost(norm.train(training), torch.rand(1, 4, 3, 3))
    assert (cost.macs, cost.other_ops) == (0, 2 * 36)


def test_views_are_neither_launched_nor_read() -> None:
    cost = _cost(Of(lambda x: x.permute(0, 2, 3, 1).unsqueeze(0)[0].transpose(1, 2)), torch.rand(1, 3, 4, 4))
    assert cost == Cost()


def test_an_expanded_gate_is_read_once() -> None:
    cost = _cost(Of(lambda x, gate: x * gate.expand_as(x)), torch.rand(1, 3, 4, 4), torch.rand(1, 3, 1, 1))
    assert cost.memory_bytes == BYTES * (48 + 3 + 48)


def test_every_operation_is_in_one_class_or_named() -> None:
    operations = ("relu_", "native_batch_norm", "mean", "cat", "upsample_bicubic2d", "_fft_r2c")
    classes = ["elementwise", "norm", "reduction", "copy", "reduction", None]
    assert [operation_class(op) for op in operations] == classes


def test_an_operation_that_is_not_known_is_named_with_how_often_it_ran() -> None:
    cost = _cost(Of(lambda x: torch.fft.irfft2(torch.fft.rfft2(x))), torch.rand(1, 3, 8, 8))
    assert {"_fft_r2c", "_fft_c2r"} <= set(cost.unsupported_ops)
    assert cost.macs == 0


def test_a_custom_operation_is_named() -> None:
    @torch.library.custom_op("secost_tests::thrice", mutates_args=())
    def thrice(x: Tensor) -> Tensor:
        return x * 3

    thrice.register_fake(torch.empty_like)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Of(thrice), Of(thrice))
    cost = _cost(net, torch.rand(1, 3, 4, 4))
    assert cost.unsupported_ops == Counter({"secost_tests::thrice": 2})
    assert cost.macs == 12 * 16


def test_unsupported_operations_reach_the_record_and_its_cautions() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Of(lambda x: torch.fft.rfft2(x).abs()), nn.Conv2d(8, 8, 3))
    record = secost.profile(net, attentions=["none"], latency=False, resolution=16)[0]
    assert record.unsupported_ops == {"_fft_r2c": 1}
    assert "uncounted-ops" in record.cautions


# --- one SE, many spellings ------------------------------------------------------------------------------------------

C, HIDDEN, SIZE = 16, 4, 6


class MeanLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(C, HIDDEN), nn.Linear(HIDDEN, C)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class PoolConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, C, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(self.gate(x))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.rand(HIDDEN, C)), nn.Parameter(torch.rand(HIDDEN))
        self.w2, self.b2 = nn.Parameter(torch.rand(C, HIDDEN)), nn.Parameter(torch.rand(C))

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.adaptive_avg_pool2d(x, 1).flatten(1)
        hidden = torch.addmm(self.b1, squeezed, self.w1.t()).relu_()
        return F.linear(hidden, self.w2, self.b2).sigmoid_().view(-1, C, 1, 1).expand_as(x) * x


SPELLINGS = (MeanLinear, PoolConvolution, Functional)
SE_PARAMS, SE_MACS = 2 * C * HIDDEN + C + HIDDEN, 2 * C * HIDDEN + C * SIZE * SIZE


class Around(nn.Module):
    """A residual block whose branch ends in a module, by default nothing."""

    def __init__(self, end: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C), end or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.end(self.norm(self.conv(x))))


class WrittenOut(Around):
    """The same block with the attention in its own forward."""

    def __init__(self, spelling: type[nn.Module]) -> None:
        super().__init__()
        self.parts = spelling()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.conv(x))
        return F.relu(x + type(self.parts).forward(self.parts, branch))


@pytest.fixture
def spelled(request: pytest.FixtureRequest) -> Iterator[str]:
    """A third party's attention, registered for one test."""
    name = f"test-{request.param.__name__.lower()}"
    register_attention(name, lambda channels: request.param(), lambda c, r: SE_PARAMS, has_reduction=False)
    yield name
    del ATTENTION._entries[name]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_se_is_one_number_as_a_module_of_the_network(spelling: type[nn.Module]) -> None:
    x = torch.rand(1, C, SIZE, SIZE)
    bare, whole = _cost(Around(), x), _cost(Around(spelling()), x)
    assert (whole.params - bare.params, whole.macs - bare.macs) == (SE_PARAMS, SE_MACS)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_se_is_one_number_inside_a_users_forward(spelling: type[nn.Module]) -> None:
    x = torch.rand(1, C, SIZE, SIZE)
    bare, whole = _cost(Around(), x), _cost(WrittenOut(spelling), x)
    assert (whole.params - bare.params, whole.macs - bare.macs) == (SE_PARAMS, SE_MACS)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_se_is_one_number_as_the_networks_native_attention(spelling: type[nn.Module]) -> None:
    net, x = Around(spelling()), torch.rand(1, C, SIZE, SIZE)
    graph = trace(net, (x,))
    own = native_cost(graph, net, native_paths(graph))
    assert (own.params, own.macs) == (SE_PARAMS, SE_MACS)


@pytest.mark.parametrize("spelled", SPELLINGS, indirect=True)
def test_every_spelling_of_se_is_one_number_when_attached(spelled: str) -> None:
    records = secost.profile(
        nn.Sequential(Around()), attentions=[spelled], placement="residual", latency=False,
        example=torch.rand(1, C, SIZE, SIZE),
    )
    assert records[1].error is None
    assert (records[1].attention_params, records[1].attention_macs) == (SE_PARAMS, SE_MACS)


def test_secosts_own_se_is_the_same_number() -> None:
    record = secost.profile(
        nn.Sequential(Around()), reductions=[C // HIDDEN], placement="residual", latency=False,
        example=torch.rand(1, C, SIZE, SIZE),
    )[1]
    assert (record.attention_params, record.attention_macs) == (SE_PARAMS, SE_MACS)


# --- additive over sites ---------------------------------------------------------------------------------------------

_NETS: dict[str, tuple[nn.Module, Cost, list[Site]]] = {}


def _prepared(model: str) -> tuple[nn.Module, Cost, list[Site]]:
    if model not in _NETS:
        net = secost.load(model)
        _NETS[model] = (net, _at(net, 64), secost.sites(net, resolution=64))
    return _NETS[model]


def _summed_equals_traced(model: str, kind: str) -> None:
    net, base, sites = _prepared(model)
    r = 4 if ATTENTION.get(kind).has_reduction else None
    summed = sum((item.cost for item in attention_cost(net, sites, kind, r, {})), base)
    attached = secost.attach(copy.deepcopy(net), kind, reduction=r, resolution=64)
    assert _at(attached, 64) == summed


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_over_sites_is_the_whole_networks_trace(kind: str) -> None:
    _summed_equals_traced("resnet18", kind)


@pytest.mark.parametrize("kind", ["se", "bam", "coord"])
@pytest.mark.parametrize("model", ["convnext_atto", "mobilenetv2_050"])
def test_the_sum_over_sites_is_the_trace_in_nhwc_and_depthwise_nets(model: str, kind: str) -> None:
    _summed_equals_traced(model, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["convnext_atto", "mobilenetv2_050", "torchvision:convnext_tiny"])
def test_the_sum_over_sites_is_the_trace_for_every_attention(model: str, kind: str) -> None:
    _summed_equals_traced(model, kind)


def test_a_module_called_twice_has_its_parameters_once_and_its_macs_twice() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.pool = Around(), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.pool(self.block(x)))

    net, x = Shared(), torch.rand(1, C, SIZE, SIZE)
    site = secost.sites(net, placement="residual", example=x)
    assert [item.maps for item in site] == [((6, 6), (3, 3))]
    cost = attention_cost(net, site, "se", 4, {})[0].cost
    assert (cost.params, cost.macs) == (SE_PARAMS, 2 * 2 * C * HIDDEN + C * (36 + 9))
    attached = secost.attach(copy.deepcopy(net), "se", reduction=4, placement="residual", example=x)
    assert _cost(attached, x) == _cost(net, x) + cost


def test_units_known_already_are_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _, sites = _prepared("resnet18")
    known: dict[Any, Cost] = {}
    first = attention_cost(net, sites, "se", 4, known)
    monkeypatch.setattr(counts, "trace", lambda *given: pytest.fail("traced again"))
    assert attention_cost(net, sites, "se", 4, known) == first


def test_attention_is_counted_without_drawing_weights_or_random_numbers() -> None:
    net, _, sites = _prepared("resnet18")
    state = torch.get_rng_state()
    for kind in KINDS:
        attention_cost(net, sites[:1], kind, 4 if ATTENTION.get(kind).has_reduction else None, {})
    assert torch.equal(torch.get_rng_state(), state)


def test_shares_by_stage_and_site_are_plain_sums() -> None:
    sites = [Site(f"b{i}", 8, 4, 4, stage, "residual", maps=((4, 4),)) for i, stage in enumerate((1, 1, 2))]
    costs = [SiteCost(site, Cost(10 * (i + 1), 1, 2, 3, 4, 5)) for i, site in enumerate(sites)]
    assert [(row["stage"], row["sites"], row["params"], row["kernels"]) for row in by_stage(costs)] == [
        (1, 2, 30, 10), (2, 1, 30, 5),
    ]
    assert [(row["path"], row["params"], row["calls"]) for row in by_site(costs)] == [
        ("b0", 10, 1), ("b1", 20, 1), ("b2", 30, 1),
    ]


# --- the network's own attention -------------------------------------------------------------------------------------


def _squeeze_excite(channels: int, hidden: int) -> int:
    return 2 * channels * hidden + channels + hidden


# Each block's expanded width, squeezed width (timm rounds it to a multiple of 8) and map at 64 px.
MOBILENETV3_SMALL = (
    (16, 8, 16), (96, 24, 4), (240, 64, 4), (240, 64, 4), (120, 32, 4), (144, 40, 4), (288, 72, 2), (576, 144, 2),
    (576, 144, 2),
)
# EfficientNet squeezes to a quarter of the block's input (FACTS A.11).
EFFICIENTNET_B0 = (
    (32, 8, 32), (96, 4, 16), (144, 6, 16), (144, 6, 8), (240, 10, 8), (240, 10, 4), *[(480, 20, 4)] * 2, (480, 20, 4),
    *[(672, 28, 4)] * 2, (672, 28, 2), *[(1152, 48, 2)] * 4,
)
NATIVES = {
    "seresnet50": tuple((w, w // 16, size * 16 // 56) for w, size, blocks in RESNET50 for _ in range(blocks)),
    "efficientnet_b0": EFFICIENTNET_B0,
    "mobilenetv3_small_100": MOBILENETV3_SMALL,
}


@pytest.mark.parametrize("model", NATIVES)
def test_native_minus_none_is_the_attentions_own_cost(model: str) -> None:
    net = secost.load(model)
    inputs = image_input(net, 64)
    graph = trace(net, inputs)
    paths = native_paths(graph)
    whole, own = network_cost(net, inputs, graph), native_cost(graph, net, paths)
    with Switch(net, paths) as switch:
        switch.select("none")
        bare = network_cost(net, inputs, trace(net, inputs))
    assert bare + own == whole
    blocks = NATIVES[model]
    assert len(paths) == len(blocks)
    assert own.params == sum(_squeeze_excite(width, hidden) for width, hidden, _ in blocks)
    assert own.macs == sum(2 * width * hidden + width * size * size for width, hidden, size in blocks)


def test_a_record_of_native_attention_says_what_it_adds() -> None:
    none, native = secost.profile("efficientnet_b0", attentions=["native"], latency=False, resolution=64)
    assert native.attention_params == 636_540 == (native.params or 0) - (none.params or 0)
    assert native.attention_macs == (native.macs or 0) - (none.macs or 0)
    assert native.params == 5_288_548  # FACTS A.12
    assert native.sites == 16


# --- what makes no difference, and what is left alone ----------------------------------------------------------------


def test_the_mode_makes_no_difference_and_stays() -> None:
    net = secost.load("resnet18")
    in_eval = _at(net, 64)
    net.train()
    net.layer1.eval()
    assert _at(net, 64) == in_eval
    assert net.training and net.layer2.training and not net.layer1.training


def test_the_batch_makes_no_difference() -> None:
    one, four = (
        secost.profile("resnet18", reductions=[4], latency=False, resolution=64, batch=batch) for batch in (1, 4)
    )
    for first, second in zip(one, four, strict=True):
        assert (first.macs, first.memory_bytes, first.kernels) == (second.macs, second.memory_bytes, second.kernels)
    image = torch.rand(3, 3, 64, 64)
    assert secost.profile("resnet18", reductions=[4], latency=False, example=image)[1].macs == one[1].macs


def test_frozen_parameters_count_and_tied_ones_count_once() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    net[1].weight = net[0].weight
    net.requires_grad_(False)
    cost = _cost(net, torch.rand(1, 6))
    assert (cost.params, cost.macs) == (36 + 6 + 6, 72)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2)])
def test_precision_changes_the_memory_traffic_and_nothing_else(dtype: torch.dtype, size: int) -> None:
    net = nn.Sequential(Around(), Around()).to(dtype)
    x = torch.rand(1, C, SIZE, SIZE, dtype=dtype)
    none, se = secost.profile(net, reductions=[4], placement="residual", latency=False, example=x)
    like_none, like_se = secost.profile(
        nn.Sequential(Around(), Around()), reductions=[4], placement="residual", latency=False, example=x.float()
    )
    assert se.status == "done"
    for found, expected in ((none, like_none), (se, like_se)):
        assert (found.macs, found.params, found.kernels) == (expected.macs, expected.params, expected.kernels)
        # The meta device gives a norm saved statistics, in float32 for bf16 too: 16 channels x 2 x 2 bytes a norm.
        saved = 2 * 2 * C * 2 if dtype is torch.bfloat16 else 0
        assert found.memory_bytes == pytest.approx((expected.memory_bytes or 0) * size // 4, abs=saved)


class Forgetful(nn.Module):
    """A network that changes its own state in its forward, and may fail late."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.conv, self.fails = nn.Conv2d(3, 4, 3), fails
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.calls * 2
        y = F.dropout(self.conv(x), 0.5, training=True)
        if self.fails:
            raise ValueError("out of order")
        return y


def _everything(net: nn.Module) -> tuple[Any, ...]:
    return (
        {name: value.tolist() for name, value in net.state_dict().items()},
        [id(value) for value in net.state_dict(keep_vars=True).values()],
        [module.training for module in net.modules()],
        [(list(module._forward_hooks), list(module._forward_pre_hooks)) for module in net.modules()],
        torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled(),
        logging.getLogger("fvcore").level, logging.getLogger("fvcore.nn.jit_analysis").level, list(warnings.filters),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_counting_leaves_the_network_and_the_process_as_they_were(fails: bool) -> None:
    net = Forgetful(fails).train()
    net.conv.eval()
    net.register_forward_hook(lambda module, args, output: output)
    logging.getLogger("fvcore").setLevel(logging.INFO)
    inputs = (torch.rand(1, 3, 8, 8),)
    fvcore_macs(Forgetful(), inputs)  # importing fvcore for the first time adds filters of its own
    before = _everything(net)
    if fails:
        with pytest.raises(ValueError, match="out of order"):
            fvcore_macs(net, inputs)
    else:
        assert fvcore_macs(net, inputs) == 3 * 4 * 9 * 36
    assert _everything(net) == before
    logging.getLogger("fvcore").setLevel(logging.NOTSET)


def test_a_network_that_fails_gives_its_own_reason() -> None:
    with pytest.raises(ForwardError, match="out of order"):
        _cost(Forgetful(fails=True), torch.rand(1, 3, 8, 8))


def test_counting_says_nothing(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        secost.profile("resnet18", reductions=[4], latency=False, resolution=64)
    assert capsys.readouterr() == ("", "")
    assert not [record for record in caplog.records if "fvcore" in record.name]


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_counting_inside_a_dispatch_mode_is_refused() -> None:
    net = nn.Conv2d(3, 4, 3)
    with _Mode(), pytest.raises(CountError, match="dispatch mode"):
        fvcore_macs(net, (torch.rand(1, 3, 8, 8),))


# --- the cross-check -------------------------------------------------------------------------------------------------


def _plant(graph: Graph, extra: int) -> Graph:
    next(node for node in graph.nodes if node.flop_macs).flop_macs += extra
    return graph


def test_a_disagreement_between_the_two_counters_names_both_and_the_network() -> None:
    net, inputs = nn.Sequential(nn.Conv2d(3, 4, 3)), (torch.rand(1, 3, 8, 8),)
    with pytest.raises(CountError, match=r"fvcore counts 3,888 MACs in Sequential and torch's counter 3,889: neither"):
        network_cost(net, inputs, _plant(trace(net, inputs), 1))


def test_a_disagreement_about_an_attention_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _, sites = _prepared("resnet18")
    monkeypatch.setattr(counts, "trace", lambda *given: _plant(trace(*given), 7))
    with pytest.raises(CountError, match=r"in se r=4 at 64x16x16 and torch's counter 2,055: neither"):
        attention_cost(net, sites, "se", 4, {})


def test_a_disagreement_about_one_attention_is_one_failed_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def trace_wrongly(net: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype | None) -> Graph:
        at_8 = any(isinstance(module, nn.Linear) and module.out_features == 8 for module in net.modules())
        return _plant(trace(net, inputs, dtype), 7) if at_8 else trace(net, inputs, dtype)

    monkeypatch.setattr(counts, "trace", trace_wrongly)
    records = secost.profile("resnet18", reductions=[8, 2], latency=False, resolution=64)
    assert [record.status for record in records] == ["done", "failed", "done"]
    assert "neither is printed" in str(records[1].error)


# --- precision, and what a first pass keeps ---------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["se", "cbam"])
def test_bf16_memory_is_that_of_the_network_cast_as_a_whole(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_backends, "has_bf16", lambda: False)  # counting runs nothing
    none, with_attention = secost.profile("resnet18", attention, 16, latency=False, precision="bf16")
    x = torch.rand(1, 3, 224, 224).bfloat16()
    plain = secost.load("resnet18").bfloat16()
    assert none.memory_bytes == _cost(plain, x).memory_bytes == 60_119_328
    whole = _cost(secost.attach(plain, attention, 16), x)
    assert (with_attention.memory_bytes, with_attention.kernels) == (whole.memory_bytes, whole.kernels)
    for rows in (with_attention.by_site, with_attention.by_stage):
        assert sum(row["memory_bytes"] for row in rows) == whole.memory_bytes - none.memory_bytes


def test_of_int8_no_memory_is_claimed() -> None:
    pytest.importorskip("onnxruntime")
    fp32, int8 = (secost.profile("resnet18", "se", 16, latency=False, resolution=64, backend="onnxruntime",
                                 precision=precision) for precision in ("fp32", "int8"))
    for known, unknown in zip(fp32, int8, strict=True):
        assert (unknown.memory_bytes, unknown.memory_overhead) == (None, None) and known.memory_bytes
        assert set(unknown.cautions) - set(known.cautions) == {"memory-unknown"}
        assert {row["memory_bytes"] for row in (*unknown.by_site, *unknown.by_stage)} <= {None}
        assert (unknown.macs, unknown.kernels, unknown.params) == (known.macs, known.kernels, known.params)


class OwnTable(nn.Module):
    """A network that eager can't run in bf16: a tensor that is no buffer stays in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.block = torch.ones(1, 3, 1, 1), nn.Sequential(nn.Conv2d(3, C, 3, padding=1), Around())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x + self.table)
        return y


def test_where_eager_cannot_run_the_cast_network_no_memory_is_claimed() -> None:
    (record,) = secost.profile(OwnTable(), "none", latency=False, resolution=SIZE, precision="bf16")
    assert (record.status, record.memory_bytes) == ("done", None) and record.macs


class Keeps(nn.Module):
    """A table that a linear layer makes in the first pass, kept for those after it; or made in each."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 4, 1), nn.Linear(4, 4)
        self.keeps, self.table = keeps, dict[str, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        made = self.table.get("it")
        if made is None:
            made = self.make(torch.ones(1, 4, device=x.device)).sigmoid().reshape(1, 4, 1, 1)
            if self.keeps:
                self.table["it"] = made
        y: Tensor = self.conv(x) + made
        return y


def test_a_table_that_the_first_pass_keeps_is_read_in_a_steady_pass_and_not_made() -> None:
    net, each_time = Keeps(keeps=True), Keeps(keeps=False)
    x = torch.rand(1, 3, 8, 8)
    steady, whole = _cost(net, x), _cost(each_time, x)
    conv, add = (3 + 4) * 64 * BYTES + (12 + 4) * BYTES, (4 + 4) * 64 * BYTES + 4 * BYTES
    assert (steady.macs, steady.kernels, steady.memory_bytes) == (3 * 4 * 64, 2, conv + add)
    assert (whole.macs, whole.kernels) == (3 * 4 * 64 + 16, 2 + 3)  # ones, the layer, the sigmoid
    assert not net.table  # left as it was
    with torch.no_grad():
        net(x)
    assert _cost(net, x) == steady and list(net.table) == ["it"]


def test_levits_biases_are_kept_from_its_first_pass() -> None:
    net, (x,) = secost.load("levit_128s"), image_input(secost.load("levit_128s"), 224)
    before = _cost(net, x)
    assert not any(module.attention_bias_cache for module in net.modules() if hasattr(module, "attention_bias_cache"))
    net.eval()
    with torch.no_grad():
        net(x)
    assert any(module.attention_bias_cache for module in net.modules() if hasattr(module, "attention_bias_cache"))
    assert before.kernels == 220 and _cost(net, x) == before


# --- blocks that are alike --------------------------------------------------------------------------------------------


class Blocks(nn.Module):
    """Four blocks: three alike, where `shared` puts one more convolution, the same one, into each."""

    def __init__(self, shared: bool, last: int = 1) -> None:
        super().__init__()
        common = [nn.Conv2d(4, 4, 1)] if shared else []
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), *common, nn.ReLU(), nn.Conv2d(
            4, 4, 1, groups=last if index == 3 else 1)) for index in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(x)
        return y


@pytest.mark.parametrize(("shared", "last", "run"), [
    (False, 1, "0"), (False, 2, "03"), (True, 1, "0123"),
], ids=["all alike", "another last one", "a shared layer in each"])
def test_fvcore_runs_one_of_the_blocks_that_are_alike_and_the_count_is_the_whole(
    shared: bool, last: int, run: str
) -> None:
    net, inputs = Blocks(shared, last).eval(), (torch.rand(1, 4, 8, 8),)
    graph = trace(net, inputs)
    assert fvcore_macs(net, inputs, graph) == fvcore_macs(net, inputs) == sum(node.flop_macs for node in graph.nodes)
    stubs = macs._alike(net, graph)
    assert "".join(name for name, _ in net.blocks.named_children() if f"blocks.{name}" not in stubs) == run
    assert all("forward" not in vars(module) for module in net.modules())


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv3_small_100", "levit_128s", "torchvision:shufflenet_v2_x0_5"])
def test_with_and_without_sharing_fvcore_has_one_number(model: str) -> None:
    net = secost.load(model).eval()
    inputs = image_input(net, 224)
    graph = trace(net, inputs)
    assert fvcore_macs(net, inputs, graph) == macs.fvcore_macs_by_module(net, inputs, graph.second)[""]


# --- the number kept on disk -----------------------------------------------------------------------------------------


def test_fvcores_number_is_kept_on_disk_for_the_same_network_and_input_only(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, larger = (torch.rand(1, 3, 8, 8),), (torch.rand(1, 3, 10, 10),)
    assert cached_fvcore_macs(nn.Conv2d(3, 4, 3), inputs) == 3888
    real = macs.fvcore_macs
    monkeypatch.setattr(macs, "fvcore_macs", lambda *given: pytest.fail("counted again"))
    assert cached_fvcore_macs(nn.Conv2d(3, 4, 3), inputs) == 3888
    monkeypatch.setattr(macs, "fvcore_macs", real)
    assert cached_fvcore_macs(nn.Conv2d(3, 5, 3), inputs) == 4860
    assert cached_fvcore_macs(nn.Conv2d(3, 4, 3), larger) == 6912


def test_a_spoiled_cache_is_counted_anew(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path))
    net, inputs = nn.Conv2d(3, 4, 3), (torch.rand(1, 3, 8, 8),)
    cached_fvcore_macs(net, inputs)
    (path,) = (tmp_path / "macs").iterdir()
    for spoiled in ("half a numb", "1", path.read_text().replace("3888", "1")):
        path.write_text(spoiled)
        assert cached_fvcore_macs(net, inputs) == 3888
    write_kept(path, 1)  # a wrong number is caught by the cross-check, not believed
    with pytest.raises(CountError, match="fvcore counts 1 MACs"):
        network_cost(net, inputs, trace(net, inputs))


# --- diverse networks ------------------------------------------------------------------------------------------------

DIVERSE = """
    resnext50_32x4d:128 regnety_002:96 resnest14d:128 hrnet_w18_small:128 dla34:128 xception41:128 ghostnet_100:96
    mobilenetv4_conv_small:96 mobileone_s0:96 efficientnetv2_rw_t:128 convnextv2_atto:96 repvgg_a0:96 densenet121:128
    inception_v3:160 inception_resnet_v2:160 vgg11_bn:64 edgenext_xx_small:128 fastvit_t8:128 levit_128s:224 mixnet_s:96
    skresnet18:96 res2net50_26w_4s:128 eca_nfnet_l0:128 vit_tiny_patch16_224:224 halonet26t:256 lambda_resnet26t:256
    swin_tiny_patch4_window7_224:224 mobilevit_xxs:256 selecsls42b:128 dpn68:128 starnet_s1:96 tresnet_m:128
    torchvision:googlenet:128 torchvision:squeezenet1_0:128 torchvision:shufflenet_v2_x0_5:96
    torchvision:vit_b_16:224 torchvision:regnet_y_400mf:96 torchvision:maxvit_t:224 torchvision:inception_v3:160
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", DIVERSE.split())
def test_diverse_networks_count_without_a_disagreement(model: str) -> None:
    name, _, resolution = model.rpartition(":")
    cost = _at(secost.load(name), int(resolution))
    assert cost.macs > 1_000_000
    assert math.isfinite(cost.memory_bytes)


def test_a_hidden_width_is_never_rounded() -> None:
    assert [hidden_width(64, r) for r in (16, 3, 64)] == [4, 21, 1]

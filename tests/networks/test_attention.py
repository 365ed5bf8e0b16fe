"""The attention family: shapes, parameter formulas, numbers against other implementations and the papers."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, UnknownNameError
from secost.networks import attention_modules as family
from secost.networks.attention import ATTENTION, build_attention, register_attention
from secost.networks.attention_modules import Attention, hidden_width

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

KINDS = ("se", "ese", "eca", "cbam", "bam", "spatial", "scse", "ge", "gc", "srm", "simam", "coord")
REDUCIBLE = ("se", "cbam", "bam", "scse", "gc", "coord")
# ResNet-50 and ResNet-101: (width, blocks) of each stage; 25,557,032 and 44,549,160 parameters without attention.
RESNET50 = ((256, 3), (512, 4), (1024, 6), (2048, 3))
RESNET101 = ((256, 3), (512, 4), (1024, 23), (2048, 3))
# MobileNetV2: the expanded width of each of its 17 blocks; 3,504,872 parameters without attention.
MOBILENETV2 = (32, 96, 144, 144, *[192] * 3, *[384] * 4, *[576] * 3, *[960] * 3)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def timm_layers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from secost.networks.importing import import_timm

        import_timm()
        import timm.layers

        return timm.layers


def _build(name: str, channels: int = 16, reduction: int | None = 4, size: tuple[int, int] = (8, 8)) -> Any:
    return build_attention(name, channels, reduction=reduction, height=size[0], width=size[1])


def _class(name: str) -> Any:
    return type(_build(name))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _formula_total(name: str, stages: tuple[tuple[int, int], ...], reduction: int | None) -> int:
    return sum(blocks * ATTENTION.get(name).params(width, reduction) for width, blocks in stages)


def _randomise(module: Any) -> Any:
    """New values everywhere, norms' statistics too, so that no agreement hangs on a start value; eval mode."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value) * 0.4)
    return module.eval()


def _traced(module: nn.Module, x: Tensor) -> Any:
    trace: Any = torch.jit.trace
    return trace(module, x)


def _copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Parameters and statistics across by order, reshaped: a linear layer's weight is a 1x1 convolution's."""
    pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    for ours, theirs in pairs:
        assert ours.numel() == theirs.numel()
        theirs.copy_(ours.reshape(theirs.shape))


# What every kind keeps to


def test_the_twelve_kinds_are_registered_in_the_documented_order() -> None:
    assert tuple(name for name in ATTENTION.names() if name in KINDS) == KINDS
    assert {name for name in KINDS if ATTENTION.get(name).has_reduction} == set(REDUCIBLE)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_says_what_it_is_and_where_it_comes_from_in_one_line_each(name: str) -> None:
    kind = ATTENTION.get(name)
    assert kind.name == name
    assert kind.summary and "\n" not in kind.summary and len(kind.summary) <= 100
    assert "arXiv:" in kind.citation or "PMLR" in kind.citation
    assert kind.params.__doc__ and "\n" not in kind.params.__doc__
    assert "arXiv:" in (_class(name).__doc__ or "") or name == "simam"


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (2, 16, 7, 7), (3, 16, 5, 9), (2, 16, 1, 1)], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_the_shape_is_kept_and_the_input_left_alone(name: str, shape: tuple[int, ...], mode: bool) -> None:
    module = _build(name, size=(shape[2], shape[3])).train(mode)
    x = torch.randn(shape)
    before = x.clone()
    y = module(x)
    assert y.shape == x.shape and y.dtype == x.dtype and bool(torch.isfinite(y).all())
    assert torch.equal(x, before) and y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", KINDS)
def test_one_image_works_in_eval_and_in_training_unless_the_norm_needs_two(name: str) -> None:
    x = torch.randn(1, 16, 7, 7)
    module = _build(name, size=(7, 7))
    assert module.eval()(x).shape == x.shape
    module.train()
    if name in ("bam", "srm"):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            module(x)
    else:
        assert module(x).shape == x.shape


@pytest.mark.parametrize(("channels", "reduction"), [(16, 4), (64, 16), (100, 16), (8, 1), (6, 6), (7, 2), (12, 8)])
@pytest.mark.parametrize("name", KINDS)
def test_the_learnable_parameters_are_the_formulas(name: str, channels: int, reduction: int) -> None:
    module = _build(name, channels, reduction)
    assert _count(module) == ATTENTION.get(name).params(channels, reduction)
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", REDUCIBLE)
def test_a_hidden_width_below_one_is_one(name: str) -> None:
    module = _class(name)(4, reduction=16).eval()
    assert _count(module) == ATTENTION.get(name).params(4, 16) == ATTENTION.get(name).params(4, 4)
    assert module(torch.randn(1, 4, 3, 3)).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_without_a_reduction_has_one_formula_for_every_ratio(name: str) -> None:
    params = ATTENTION.get(name).params
    if name in REDUCIBLE:
        assert params(64, 2) > params(64, 16)
    else:
        assert params(64, None) == params(64, 2) == params(64, 16)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_reach_the_input_and_every_parameter(name: str) -> None:
    module = _build(name).train()
    x = torch.randn(2, 16, 6, 6, requires_grad=True)
    module(x).pow(3).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all()) and bool(x.grad.abs().sum() > 0)
    for label, parameter in module.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), label
        assert bool(parameter.grad.abs().sum() > 0), label


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_finite_on_a_constant_map(name: str) -> None:
    x = torch.full((2, 16, 1, 1), 0.5, requires_grad=True)
    _build(name, size=(1, 1)).eval()(x).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("name", KINDS)
def test_copies_and_pickles_give_the_same_outputs(name: str) -> None:
    module = _randomise(_build(name))
    x = torch.randn(2, 16, 5, 5)
    expected = module(x)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), expected)
        assert (twin.attention, twin.channels, twin.reduction) == (module.attention, 16, module.reduction)


@pytest.mark.parametrize("name", KINDS)
def test_the_module_has_no_state_beyond_weights_and_norm_statistics(name: str) -> None:
    module = _randomise(_build(name))
    x = torch.randn(2, 16, 5, 5)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    attributes = set(vars(module))
    first = module(x)
    module(torch.randn(1, 16, 9, 4))
    assert torch.equal(module(x), first)
    assert set(vars(module)) == attributes
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_and_float64_stay_what_they_are(name: str) -> None:
    module = _randomise(_build(name))
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64)
    exact = copy.deepcopy(module).double()(x)
    rough = copy.deepcopy(module).bfloat16()(x.bfloat16())
    assert exact.dtype == torch.float64 and rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.double(), exact, rtol=0.1, atol=0.15)


@pytest.mark.parametrize("name", KINDS)
def test_channels_last_input_gives_the_same_numbers(name: str) -> None:
    module = _randomise(_build(name))
    x = torch.randn(2, 16, 6, 6)
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


@pytest.mark.parametrize("name", KINDS)
def test_a_trace_gives_the_same_outputs_without_a_tracer_warning(name: str) -> None:
    module = _randomise(_build(name))
    x = torch.randn(1, 16, 6, 5)
    traced = _traced(module, x)
    torch.testing.assert_close(traced(x), module(x))


@pytest.mark.parametrize("name", KINDS)
def test_the_trace_holds_one_product_for_each_gate(name: str) -> None:
    graph = str(_traced(_build(name).eval(), torch.randn(1, 16, 6, 5)).inlined_graph)
    gates = {"gc": 0, "cbam": 2, "scse": 2, "coord": 2}.get(name, 1)
    assert graph.count("aten::mul(") == gates
    assert "aten::mul_(" not in graph and "aten::relu_(" not in graph


def _all_kinds() -> nn.Sequential:
    return nn.Sequential(*(_randomise(_build(name)) for name in KINDS)).eval()


def test_all_kinds_export_with_torch_export() -> None:
    network, x = _all_kinds(), torch.randn(1, 16, 6, 5)
    program = torch.export.export(network, (x,))
    torch.testing.assert_close(program.module()(x), network(x))


def test_all_kinds_run_alike_in_onnxruntime() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    network, x = _all_kinds(), torch.randn(1, 16, 6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    assert program is not None
    assert {node.domain for node in program.model.graph} == {""}
    stored = program.model_proto.SerializeToString()
    session = runtime.InferenceSession(stored, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), network(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"gc", "cbam", "scse", "coord"}))
def test_a_gate_broadcasts_and_keeps_its_bounds(name: str) -> None:
    module = _randomise(_build(name))
    x = torch.randn(2, 16, 5, 5) * 3
    gate = module.gate(x)
    low, high = {"bam": (1.0, 2.0), "simam": (0.6224, 1.0)}.get(name, (0.0, 1.0))
    assert low <= float(gate.detach().min()) and float(gate.detach().max()) <= high
    assert gate.expand_as(x).shape == x.shape
    assert torch.equal(module(x), x * gate)


@pytest.mark.parametrize(("name", "most"), [("cbam", 1.0), ("coord", 1.0), ("scse", 2.0)])
def test_gates_in_a_row_only_shrink_and_two_added_at_most_double(name: str, most: float) -> None:
    x = torch.randn(2, 16, 5, 5).abs() + 0.1
    ratio = (_randomise(_build(name))(x) / x).detach()
    assert 0 < float(ratio.min()) and float(ratio.max()) < most


# Numbers against other implementations


@pytest.mark.parametrize(("channels", "reduction"), [(16, 4), (30, 16), (8, 8)])
def test_se_agrees_with_timm_and_torchvision_at_the_same_hidden_width(
    timm_layers: Any, channels: int, reduction: int
) -> None:
    ours, x = _randomise(_build("se", channels, reduction)), torch.randn(2, channels, 7, 7)
    theirs = timm_layers.SEModule(channels, rd_channels=hidden_width(channels, reduction)).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))
    torchvision_ops = pytest.importorskip("torchvision.ops.misc")
    other = torchvision_ops.SqueezeExcitation(channels, hidden_width(channels, reduction)).eval()
    _copy_in_order(ours, other)
    torch.testing.assert_close(ours(x), other(x))


def test_se_without_biases_agrees_with_timm(timm_layers: Any) -> None:
    ours, x = _randomise(family.SqueezeExcite(16, 4, bias=False)), torch.randn(2, 16, 7, 7)
    theirs = timm_layers.SEModule(16, rd_channels=4, bias=False).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))
    assert _count(ours) == 2 * 16 * 4


def test_ese_agrees_with_timm(timm_layers: Any) -> None:
    ours, x = _randomise(_build("ese")), torch.randn(2, 16, 7, 7) * 5
    theirs = timm_layers.EffectiveSEModule(16).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("channels", [8, 64, 256, 2048])
def test_eca_agrees_with_timm(timm_layers: Any, channels: int) -> None:
    ours, x = _randomise(_build("eca", channels)), torch.randn(2, channels, 3, 3)
    theirs = timm_layers.EcaModule(channels).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))


def test_cbam_agrees_with_timm(timm_layers: Any) -> None:
    from timm.layers.cbam import CbamModule

    ours, x = _randomise(_build("cbam")), torch.randn(2, 16, 9, 9)
    theirs = CbamModule(16, rd_channels=4, mlp_bias=True).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))


def test_spatial_agrees_with_timms_spatial_part(timm_layers: Any) -> None:
    from timm.layers.cbam import SpatialAttn

    ours, x = _randomise(_build("spatial")), torch.randn(2, 16, 9, 9)
    theirs = SpatialAttn().eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))


def test_ge_agrees_with_timm(timm_layers: Any) -> None:
    x = torch.randn(2, 16, 7, 7)
    torch.testing.assert_close(_build("ge")(x), timm_layers.GatherExcite(16, use_mlp=False)(x))


def test_gc_agrees_with_timms_additive_form(timm_layers: Any) -> None:
    ours, x = _randomise(_build("gc")), torch.randn(2, 16, 7, 7)
    theirs = timm_layers.GlobalContext(16, fuse_add=True, fuse_scale=False, rd_channels=4).eval()
    layers = ((ours.conv, theirs.conv_attn), (ours.fc1, theirs.mlp_add.fc1),
              (ours.norm, theirs.mlp_add.norm), (ours.fc2, theirs.mlp_add.fc2))
    for mine, other in layers:
        _copy_in_order(mine, other)
    theirs.mlp_add.norm.eps = ours.norm.eps  # 1e-6 there, torch's 1e-5 here
    torch.testing.assert_close(ours(x), theirs(x))


def test_coord_agrees_with_timm(timm_layers: Any) -> None:
    from timm.layers.coord_attn import CoordAttn

    ours, x = _randomise(_build("coord")), torch.randn(2, 16, 5, 9)
    theirs = CoordAttn(16, rd_channels=4, bias=True).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs(x))


def test_scse_is_the_sum_of_the_parts_fvcore_takes_the_larger_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore's import scripts its losses
        from fvcore.nn.squeeze_excitation import ChannelSpatialSqueezeExcitation
    ours, x = _randomise(_build("scse")), torch.randn(2, 16, 7, 7)
    theirs = ChannelSpatialSqueezeExcitation(16, num_channels_reduced=4).eval()
    _copy_in_order(ours, theirs)
    torch.testing.assert_close(ours(x), theirs.channel(x) + theirs.spatial(x))


def test_bam_is_its_equations() -> None:
    module, x = _randomise(_build("bam")), torch.randn(2, 16, 11, 11)
    means = x.mean(3).mean(2)
    hidden = (means @ module.fc1.weight.T + module.fc1.bias).clamp(min=0)
    channel = _normalised(hidden @ module.fc2.weight.T + module.fc2.bias, module.channel_norm)
    y, convolutions = x, [layer for layer in module.spatial if isinstance(layer, nn.Conv2d)]
    for number, (layer, step) in enumerate(zip(convolutions, (0, 4, 4, 0), strict=True)):
        y = nn.functional.conv2d(y, layer.weight, layer.bias, padding=step, dilation=step or 1)
        y = y.clamp(min=0) if number < 3 else y
    gate = 1 / (1 + torch.exp(-(channel[:, :, None, None] + _normalised(y, module.spatial[-1]))))
    torch.testing.assert_close(module(x), x + x * gate)


def test_srm_is_its_equations() -> None:
    module, x = _randomise(_build("srm")), torch.randn(2, 16, 5, 7)
    means = x.flatten(2).mean(2)
    deviations = ((x.flatten(2) - means[:, :, None]) ** 2).mean(2).add(1e-5).sqrt()
    weights = module.conv.weight[:, 0]
    style = _normalised(means * weights[:, 0] + deviations * weights[:, 1], module.norm)
    torch.testing.assert_close(module(x), x * torch.sigmoid(style)[:, :, None, None])


def test_simam_is_equation_5_element_by_element() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    expected = torch.empty_like(x)
    for channel in range(2):
        values = x[0, channel].flatten().tolist()
        mean = sum(values) / 12
        variance = sum((value - mean) ** 2 for value in values) / 12
        for place, value in enumerate(values):
            energy = 4 * (variance + 1e-4) / ((value - mean) ** 2 + 2 * variance + 2e-4)
            expected[0, channel, place // 4, place % 4] = value * torch.sigmoid(torch.tensor(1 / energy).double())
    torch.testing.assert_close(_build("simam", 2)(x), expected, rtol=1e-6, atol=1e-6)


def _normalised(values: Tensor, norm: Any) -> Any:
    shape = (1, -1) + (1,) * (values.ndim - 2)
    mean, variance, weight, bias = (
        entry.view(shape) for entry in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (values - mean) / (variance + norm.eps).sqrt() * weight + bias


# Numbers against the papers


def test_eca_kernels_are_those_of_the_papers_listing() -> None:
    sizes = {width: family.eca_kernel_size(width) for width in (1, 4, 8, 16, 64, 96, 128, 256, 512, 1024, 1280, 2048)}
    assert sizes == {1: 1, 4: 1, 8: 3, 16: 3, 64: 3, 96: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 1280: 5, 2048: 7}
    assert _formula_total("eca", RESNET50, None) == 86  # the paper prints 80: a 3 in place of the 5 in three blocks


@pytest.mark.parametrize(
    ("reduction", "printed"), [(2, 20.12), (4, 10.06), (8, 5.03), (16, 2.515), (32, 1.257)]
)
def test_se_without_biases_adds_to_resnet50_what_the_paper_says(reduction: int, printed: float) -> None:
    with torch.device("meta"):
        total = sum(blocks * _count(family.SqueezeExcite(width, reduction, bias=False)) for width, blocks in RESNET50)
    assert total / 1e6 == pytest.approx(printed, abs=0.006)
    assert total == 2 * sum(blocks * width**2 for width, blocks in RESNET50) // reduction


def test_se_at_16_adds_the_published_parameters_to_resnet50() -> None:
    with_biases = _formula_total("se", RESNET50, 16)
    assert with_biases == 2_530_992 and 25_557_032 + with_biases == 28_088_024
    biases = sum(blocks * (width + width // 16) for width, blocks in RESNET50)
    assert with_biases - biases == 2_514_944
    last_stage = 3 * ATTENTION.get("se").params(2048, 16)
    assert with_biases - last_stage - sum(b * (w + w // 16) for w, b in RESNET50[:3]) == 942_080


@pytest.mark.parametrize(
    ("name", "stages", "base", "printed"),
    [
        ("cbam", RESNET50, 25_557_032, 28.09),
        ("bam", tuple((width, 1) for width, _ in RESNET50[:3]), 25_557_032, 25.92),
        ("bam", tuple((width, 1) for width, _ in RESNET101[:3]), 44_549_160, 44.91),
        ("cbam", RESNET101, 44_549_160, 49.33),
        ("srm", RESNET50, 25_557_032, 25.62),
    ],
    ids=lambda value: str(value) if isinstance(value, str | float) else "",
)
def test_totals_are_the_published_ones(
    name: str, stages: tuple[tuple[int, int], ...], base: int, printed: float
) -> None:
    assert round((base + _formula_total(name, stages, 16)) / 1e6, 2) == printed


def test_coord_with_the_releases_least_width_of_8_adds_the_published_parameters_to_mobilenetv2() -> None:
    params = ATTENTION.get("coord").params
    total = 3_504_872 + sum(params(width, min(32, width // 8)) for width in MOBILENETV2)
    assert round(total / 1e6, 2) == 3.95


# Asking for one


@pytest.mark.parametrize("name", KINDS)
def test_what_is_built_says_its_name_channels_and_reduction(name: str) -> None:
    module = _build(name, 32, 8)
    assert isinstance(module, Attention)
    assert (module.attention, module.channels, module.reduction) == (name, 32, 8 if name in REDUCIBLE else None)
    assert repr(module).startswith(type(module).__name__ + "(")
    assert sum(isinstance(part, Attention) for part in module.modules()) == 1


def test_the_hidden_width_is_exact_and_never_rounded_to_8() -> None:
    assert [hidden_width(*pair) for pair in ((64, 16), (100, 16), (8, 16), (8, 1), (30, 4))] == [4, 6, 1, 8, 7]


@pytest.mark.parametrize("reduction", [0, -1, 17, None])
@pytest.mark.parametrize("name", REDUCIBLE)
def test_a_ratio_that_can_not_be_is_refused_in_one_line(name: str, reduction: int | None) -> None:
    with pytest.raises(BadSpecError, match="reduction") as caught:
        _build(name, 16, reduction)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("reduction", [0, -1, 17, None])
@pytest.mark.parametrize("name", sorted(set(KINDS) - set(REDUCIBLE)))
def test_a_kind_without_a_ratio_ignores_the_one_given(name: str, reduction: int | None) -> None:
    assert _build(name, 16, reduction).reduction is None


@pytest.mark.parametrize("reduction", [0, -2, None])
def test_a_hidden_width_of_no_ratio_is_refused(reduction: int | None) -> None:
    with pytest.raises(BadSpecError, match="must be 1 or more"):
        hidden_width(16, reduction)


def test_no_channels_are_refused() -> None:
    with pytest.raises(BadSpecError, match="0 channels"):
        _build("se", 0, 1)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        _build("coords")
    assert str(caught.value) == "unknown attention 'coords': did you mean coord?"


# A third party's


class _Halving(nn.Module):
    """Holds a submodule under a name that secost's own modules use for the registry name."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.attention(x))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTENTION, "_entries", dict(ATTENTION._entries))


@pytest.mark.usefixtures("registry")
def test_a_third_partys_kind_is_built_with_the_keywords_it_knows_and_marked_as_attention() -> None:
    register_attention("halving", _Halving, lambda channels, _: channels, has_reduction=False)
    module = build_attention("halving", 12, reduction=4, height=5, width=6)
    assert isinstance(module, Attention) and isinstance(module.module, _Halving) and module.module.width == 6
    assert (module.attention, module.channels, module.reduction) == ("halving", 12, None)
    assert _count(module) == ATTENTION.get("halving").params(12, None)
    x = torch.randn(1, 12, 5, 6)
    assert torch.equal(copy.deepcopy(module)(x), module.module(x))


@pytest.mark.usefixtures("registry")
def test_a_third_partys_function_may_take_every_keyword_or_none() -> None:
    seen: list[dict[str, int | None]] = []

    def everything(channels: int, **site: int | None) -> nn.Module:
        seen.append(site)
        return nn.Identity()

    register_attention("everything", everything, lambda *_: 0, has_reduction=True)
    register_attention("nothing", lambda channels: family.GatherExcite(channels), lambda *_: 0, has_reduction=False)
    build_attention("everything", 8, reduction=2, height=3, width=4)
    assert seen == [{"reduction": 2, "height": 3, "width": 4}]
    assert build_attention("nothing", 8, reduction=None, height=3, width=4).attention == "nothing"


@pytest.mark.usefixtures("registry")
def test_a_builder_that_gives_no_module_is_refused() -> None:
    register_attention("wrong", lambda channels: channels, lambda *_: 0, has_reduction=False)
    with pytest.raises(BadSpecError, match="'wrong' was built as int: expected a"):
        _build("wrong")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["se", "none", "native"])
def test_a_name_that_is_taken_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadSpecError, match="choose another name") as caught:
        register_attention(name, nn.Identity, lambda *_: 0, has_reduction=False)
    assert "\n" not in str(caught.value)

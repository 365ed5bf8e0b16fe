"""Sites: every placement and integration, on networks whose blocks are known and on small odd ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import nets
import pytest
import torch
from torch import nn

import secost
from secost.errors import NoSiteError, SecostError, UnknownNameError
from secost.networks.sites import Site
from secost.networks.sources import load
from secost.networks.surgery import sites
from secost.plan.options import INTEGRATIONS, PLACEMENTS

SMALL = 16
Net = Callable[[], nn.Module]

ODD: dict[str, Net] = {
    "functional activations": nets.TinyResNet,
    "pre-activation": nets.PreActivation,
    "a shared ReLU": nets.SharedReLU,
    "a block called three times": nets.SharedBlock,
    "a norm shared by two branches": nets.SharedNorm,
    "two inputs": nets.TwoInputs,
    "NHWC with a functional layer scale": nets.ChannelsLast,
    "NHWC with a layer scale module": lambda: nets.ChannelsLast(scale="module"),
    "NHWC without a layer scale": lambda: nets.ChannelsLast(scale="none"),
    "functional SE by mean": lambda: nets.FunctionalSENet(spelling="mean"),
    "functional SE by pooling": lambda: nets.FunctionalSENet(spelling="pool"),
    "functional SE by convolutions": lambda: nets.FunctionalSENet(spelling="conv"),
    "an SE module by mean": lambda: nets.NativeSE(spelling="mean"),
    "an SE module by pooling": lambda: nets.NativeSE(spelling="pool"),
    "an SE module by convolutions": lambda: nets.NativeSE(spelling="conv"),
    "an SE module called by keyword": lambda: nets.NativeSE(by_name=True),
    "a plain Sequential": nets.PlainNet,
    "Sequential in Sequential": nets.Nested,
    "a branch that loops over its children": nets.Looping,
    "dense connections": nets.DenseNetLike,
    "sums of parallel convolutions": nets.RepVggLike,
    "parallel ways": nets.InceptionLike,
    "additive skips over interpolation": nets.UNetLike,
    "additive skips over a transposed convolution": lambda: nets.UNetLike(kind="transposed"),
    "global response normalisation": nets.GRNNet,
    "sums of parts in a block": nets.Res2NetLike,
    "SwiGLU": nets.SwiGLUNet,
    "inverted residuals": nets.TinyMBConv,
    "data-dependent control flow": nets.DataDependent,
    "no convolution": nets.NoConvolution,
    "hooks of the user's": nets.UserHooks,
    "tied weights": nets.TiedWeights,
    "parametrized convolutions": nets.Parametrized,
    "operations in place": nets.InPlace,
    "a forward that changes buffers": nets.ChangesBuffers,
    "grey images": nets.GreyScale,
    "double precision": lambda: nets.TinyResNet().double(),
    "branches that end in written-out layers": nets.WrittenOutEnds,
    **{f"a {kind} for a result": lambda kind=kind: nets.OddOutputs(kind)
       for kind in ("tuple", "list", "dict", "model output", "dataclass")},
}

# Sites at auto, by the papers' and the classes' own block counts.
BLOCKS = {
    "resnet18": ("residual", 2 + 2 + 2 + 2), "resnet50": ("residual", 3 + 4 + 6 + 3),
    "torchvision:resnet18": ("residual", 8), "vgg16_bn": ("conv", 13),
    "mobilenetv1_100": ("conv", 13), "mobilenetv2_100": ("depthwise", 17), "efficientnet_b0": ("depthwise", 16),
    "mobilenetv3_large_100": ("depthwise", 15), "convnext_tiny": ("residual", 3 + 3 + 9 + 3),
    "nfnet_l0": ("residual", 1 + 2 + 6 + 3), "repvgg_b0": ("conv", 4 + 6 + 16 + 1), "densenet121": ("conv", 119),
    "res2net50_26w_4s": ("residual", 16), "ghostnet_100": ("residual", 16), "ghostnetv2_100": ("residual", 16),
    "xception": ("residual", 12), "dpn68": ("residual", 3 + 4 + 12 + 3),
    "hrnet_w18": ("residual", 4 + 4 + 104),
    "tf_efficientnet_cc_b0_8e": ("depthwise", 16), "mobileone_s0": ("conv", 21),
}


@cache
def network(name: str) -> nn.Module:
    return load(name)


def found(name: str, placement: str = "auto", integration: str = "standard", **options: object) -> list[Site]:
    return sites(network(name), placement, integration, **{"resolution": 64, **options})  # type: ignore[arg-type]


def by_path(found_sites: list[Site]) -> dict[str, tuple[int, int]]:
    return {site.path: (site.channels, site.stage) for site in found_sites}


def odd_sites(net: nn.Module, *args: str) -> list[Site]:
    return sites(net, *args, resolution=SMALL, example=getattr(net, "example", None))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_network_has_the_sites_its_sizes_tell(name: str) -> None:
    net = ODD[name]()
    assert by_path(odd_sites(net)) == net.expected_sites


@pytest.mark.parametrize("make", [nets.TinyResNet, nets.PreActivation, nets.TiedWeights], ids=lambda net: net.__name__)
def test_the_odd_networks_tell_their_parameters(make: Net) -> None:
    net = make()
    assert sum(parameter.numel() for parameter in net.parameters()) == net.expected_params


@pytest.mark.parametrize("name", BLOCKS)
def test_auto_finds_as_many_sites_as_the_network_has_blocks(name: str) -> None:
    placement, count = BLOCKS[name]
    got = found(name)
    assert (len(got), {site.placement for site in got}) == (count, {placement})


def test_resnet50_has_a_site_at_the_end_of_each_branch() -> None:
    blocks = [(stage, index) for stage, depth in enumerate((3, 4, 6, 3), 1) for index in range(depth)]
    expected = [(f"layer{stage}.{index}.bn3", 128 * 2**stage, 112 // 2**stage, stage) for stage, index in blocks]
    got = found("resnet50", resolution=224)
    assert [(site.path, site.channels, site.height, site.stage) for site in got] == expected
    assert all(site.width == site.height and site.maps == ((site.height, site.width),) for site in got)


def test_pre_sites_are_the_inputs_of_the_branches_first_convolutions() -> None:
    got = found("resnet50", "residual", "pre", resolution=224)
    assert len(got) == 16
    assert [(site.path, site.side, site.channels) for site in got[:4]] == [
        ("layer1.0.conv1", "input", 64), ("layer1.1.conv1", "input", 256), ("layer1.2.conv1", "input", 256),
        ("layer2.0.conv1", "input", 256),
    ]


@pytest.mark.parametrize(("name", "end"), [("resnet18", "act2"), ("torchvision:resnet18", "")])
def test_post_sites_are_behind_the_addition_and_its_activation(name: str, end: str) -> None:
    got = found(name, "residual", "post")
    expected = [f"layer{stage}.{index}.{end}".rstrip(".") for stage in (1, 2, 3, 4) for index in (0, 1)]
    assert [(site.path, site.side) for site in got] == [(path, "output") for path in expected]


def test_identity_sites_are_the_projection_or_the_block_input_handed_back_to_the_branch() -> None:
    got = {site.path: site for site in found("resnet18", "residual", "identity")}
    assert list(got) == [
        "layer1.0", "layer1.1", "layer2.0.downsample.1", "layer2.1", "layer3.0.downsample.1", "layer3.1",
        "layer4.0.downsample.1", "layer4.1",
    ]
    assert got["layer1.0"].restore == "layer1.0.conv1" and got["layer1.0"].side == "input"
    assert got["layer2.0.downsample.1"].restore is None and got["layer2.0.downsample.1"].channels == 128


@pytest.mark.parametrize("integration", INTEGRATIONS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "torchvision:resnet18"])
def test_every_integration_has_a_site_for_each_residual_block(name: str, integration: str) -> None:
    assert len(found(name, "residual", integration)) == BLOCKS[name][1]


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_a_shared_block_is_one_site_for_three_calls_at_every_integration(integration: str) -> None:
    got = odd_sites(nets.SharedBlock(), "residual", integration)
    assert [site.maps for site in got] == [((16, 16), (8, 8), (4, 4))]


@pytest.mark.parametrize("make", [nets.SharedBlock, nets.SharedNorm], ids=lambda make: make.__name__)
def test_a_module_called_several_times_is_one_site_with_a_map_a_call(make: Net) -> None:
    net = make()
    (site,) = odd_sites(net)
    assert site.calls == net.expected_calls


@pytest.mark.parametrize(("name", "channels", "heights"), [
    ("resnet50", [256, 512, 1024, 2048], [56, 28, 14, 7]),
    ("vgg16_bn", [64, 128, 256, 512, 512], [224, 112, 56, 28, 14]),
    ("mobilenetv1_100", [64, 128, 256, 512, 1024], [112, 56, 28, 14, 7]),
    ("densenet121", None, [56, 28, 14, 7]),
])
def test_stage_sites_are_the_ends_of_the_stages(name: str, channels: list[int] | None, heights: list[int]) -> None:
    got = found(name, "stage", resolution=224)
    assert [site.stage for site in got] == list(range(1, len(heights) + 1))
    assert [site.height for site in got] == heights
    assert channels is None or [site.channels for site in got] == channels


def test_stage_sites_of_a_plain_network_are_before_each_pooling() -> None:
    net = nets.PlainNet()
    assert by_path(odd_sites(net, "stage")) == net.expected_stage_sites


@pytest.mark.parametrize(("name", "counts"), [
    ("resnet50", [3, 4, 6, 3]), ("convnext_tiny", [3, 3, 9, 3]), ("repvgg_b0", [4, 6, 16, 1]),
    ("mobilenetv2_100", [1, 2, 3, 7, 4]), ("vgg16_bn", [2, 2, 3, 3, 3]), ("dpn68", [3, 4, 12, 3]),
])
def test_stages_are_counted_from_one_in_the_order_of_the_data(name: str, counts: list[int]) -> None:
    stages = Counter(site.stage for site in found(name, resolution=128))
    assert [stages[stage] for stage in sorted(stages)] == counts and min(stages) == 1


@pytest.mark.parametrize("name", ["mobilenetv2_100", "efficientnet_b0", "mobilenetv3_large_100"])
def test_depthwise_pre_is_the_input_of_the_depthwise_convolution(name: str) -> None:
    after, before = found(name, "depthwise"), found(name, "depthwise-pre")
    assert len(after) == len(before)
    assert [site.channels for site in before] == [site.channels for site in after]
    assert [site.stage for site in before] == [site.stage for site in after]
    assert all(site.side == "input" for site in before)


def test_attention_sits_before_the_layer_scale_in_nhwc() -> None:
    got = found("convnext_tiny")
    assert {site.channels_last for site in got} == {True}
    assert {site.path.rpartition(".")[2] for site in got} <= {"mlp", "drop2", "fc2"}


def test_attention_sits_before_the_alpha_of_nfnet() -> None:
    assert {site.path.rpartition(".")[2] for site in found("nfnet_l0")} == {"conv3"}


@pytest.mark.parametrize(("plain", "shipped"), [("resnet50", "seresnet50"), ("resnet50", "ecaresnet50d")])
def test_existing_attention_is_looked_through(plain: str, shipped: str) -> None:
    got = found(shipped)
    assert [site.path for site in got] == [site.path for site in found(plain)]
    assert all(site.occupied_by == f"{site.path.rpartition('.')[0]}.se" for site in got)


@pytest.mark.parametrize("spelling", ["mean", "pool", "conv"])
def test_a_site_tells_the_attention_that_sits_there(spelling: str) -> None:
    (module,) = odd_sites(nets.NativeSE(spelling=spelling))
    (functional,) = odd_sites(nets.FunctionalSENet(spelling=spelling))
    assert module.occupied_by == "1.se" and functional.occupied_by == "inside 1"


@pytest.mark.parametrize("resolution", [32, 64, 96, 320])
def test_the_number_of_sites_does_not_depend_on_the_resolution(resolution: int) -> None:
    assert len(found("resnet50", resolution=resolution)) == 16


def test_small_maps_do_not_make_linear_layers_of_convolutions() -> None:
    assert len(found("densenet121", resolution=32)) == 119


def test_a_map_need_not_be_square() -> None:
    got = found("resnet18", example=torch.zeros(2, 3, 64, 128))
    assert [(site.height, site.width) for site in got[::2]] == [(16, 32), (8, 16), (4, 8), (2, 4)]


def test_stages_choose_among_the_sites() -> None:
    got = found("resnet50", stages=(3, 4))
    assert Counter(site.stage for site in got) == {3: 6, 4: 3}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mixer_s32_224"])
def test_a_network_without_maps_has_no_sites(name: str) -> None:
    for placement in PLACEMENTS:
        assert found(name, placement, resolution=224) == []


@pytest.mark.parametrize("make", [
    nets.RepVggLike, nets.UNetLike, lambda: nets.UNetLike(kind="transposed"), nets.PlainNet,
], ids=["RepVGG", "interpolating U-Net", "transposing U-Net", "plain"])
def test_no_residual_site_where_there_is_no_residual_branch(make: Net) -> None:
    assert odd_sites(make(), "residual") == []


@pytest.mark.parametrize(("arguments", "error", "words"), [
    (("depthwize", "standard", None), UnknownNameError, "unknown placement 'depthwize': did you mean depthwise"),
    (("residual", "poste", None), UnknownNameError, "unknown integration 'poste': did you mean post"),
    (("conv", "pre", None), NoSiteError, "integration 'pre' is about residual blocks"),
    (("residual", "standard", (5,)), NoSiteError, "no residual site in stage 5: this network has them in stages 1, 2"),
])
def test_a_wrong_request_is_one_line(
    arguments: tuple[str, str, tuple[int, ...] | None], error: type[Exception], words: str
) -> None:
    placement, integration, stages = arguments
    with pytest.raises(error) as caught:
        sites(network("resnet18"), placement, integration, stages, resolution=64)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_resolution_that_is_too_small_names_one_that_does() -> None:
    with pytest.raises(SecostError, match=r"resolution 8 does not fit this network .*: \d+ does, give --resolution"):
        sites(network("torchvision:densenet121"), resolution=8)


def test_a_small_image_that_makes_maps_1x1_is_read_in_time() -> None:
    net = secost.load("resnet50")
    assert len(secost.sites(net, resolution=8)) == 16
    assert len(secost.sites(net, "conv", resolution=8)) == 52


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("convnext_atto", [40, 80, 160, 320]), ("resnetv2_50", [256, 512, 1024, 2048]),
        ("efficientnet_b0", [16, 24, 40, 112, 1280]), ("torchvision:mobilenet_v2", [16, 24, 32, 96, 1280]),
    ],
)
def test_a_stage_ends_with_its_last_block(name: str, channels: list[int]) -> None:
    assert [site.channels for site in secost.sites(secost.load(name), "stage")] == channels


@pytest.mark.parametrize("integration", ["pre", "post", "identity"])
def test_every_integration_counts_stages_by_the_block(integration: str) -> None:
    found = secost.sites(secost.load("resnet50"), "residual", integration)
    assert [site.stage for site in found] == [1] * 3 + [2] * 4 + [3] * 6 + [4] * 3

"""Surgery: attention goes in, computes what a hand-written block computes, and comes out without a trace."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nets
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secost.errors import BadSpecError, NoSiteError, UnknownNameError
from secost.networks.attended import attached_paths
from secost.networks.attention import ATTENTION
from secost.networks.attention_modules import Attention, SqueezeExcite
from secost.networks.cache import cached_trace
from secost.networks.recognition import find_attention
from secost.networks.sources import load
from secost.networks.surgery import Switch, attach, build_placed, native_paths, seeded, set_reduction, sites, strip
from secost.plan.options import INTEGRATIONS

KINDS = [name for name in ATTENTION.names()]
IMAGE = (2, 3, 16, 16)


def image(seed: int = 0, shape: tuple[int, ...] = IMAGE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny() -> nets.TinyResNet:
    torch.manual_seed(0)
    net = nets.TinyResNet().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # a fresh norm in eval mode would be the identity
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


def attached(kind: str = "se", reduction: int = 4, **options: Any) -> nets.TinyResNet:
    net = tiny()
    attach(net, kind, reduction, resolution=16, **options)
    return net


def run(net: nn.Module, x: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return net(image() if x is None else x)


def added(net: nn.Module) -> list[Attention]:
    return [module for module in net.modules() if isinstance(module, Attention)]


def hooks(net: nn.Module) -> list[Any]:
    return [(list(module._forward_hooks), list(module._forward_pre_hooks)) for module in net.modules()]


@contextmanager
def left_as_found(net: nn.Module) -> Iterator[None]:
    """Everything a caller could see of a network and of torch, before and after."""

    def seen() -> list[Any]:
        table = nn.modules.module
        return [
            [(name, module.training, id(module), {key: id(value) for key, value in module.__dict__.items()})
             for name, module in net.named_modules()],
            hooks(net), [len(value) for name, value in vars(table).items() if name.startswith("_global_") and value],
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads(),
            torch.get_default_dtype(), random.getstate(), torch.get_rng_state().tolist(),
            [(name, id(value)) for name, value in [*net.named_parameters(), *net.named_buffers()]],
        ]

    before, state = seen(), {name: value.clone() for name, value in net.state_dict().items()}
    yield
    assert seen() == before
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


# --- attach and strip ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_attention_attaches_runs_and_comes_out_bit_equal(kind: str) -> None:
    net = tiny()
    before, keys, found = run(net), list(net.state_dict()), hooks(net)
    attach(net, kind, 4, resolution=16)
    assert len(added(net)) == 2 and not torch.equal(run(net), before)
    assert [key for key in net.state_dict() if "secost" not in key] == keys
    strip(net, resolution=16)
    assert torch.equal(run(net), before) and list(net.state_dict()) == keys and hooks(net) == found


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_every_integration_comes_out_bit_equal(integration: str) -> None:
    net = tiny()
    before, found = run(net), hooks(net)
    attach(net, "se", 4, "residual", integration, resolution=16)
    assert not torch.equal(run(net), before)
    strip(net, resolution=16)
    assert torch.equal(run(net), before) and hooks(net) == found and not added(net)


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_the_original_state_dict_loads_before_and_after(integration: str) -> None:
    weights, net = tiny().state_dict(), nets.TinyResNet().eval()
    attach(net, "se", 4, "residual", integration, resolution=16)
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected and all("secost" in key for key in missing)
    strip(net, resolution=16)
    assert torch.equal(run(net), run(tiny()))


def hand_written(integration: str, block: nets.FunctionalBasicBlock, x: Tensor, se: nn.Module) -> Tensor:
    """SENet figure 5 for the block of TinyResNet."""
    shortcut = block.shortcut(x)
    if integration == "identity":
        shortcut = se(shortcut)
    out = F.relu(block.bn1(block.conv1(se(x) if integration == "pre" else x)))
    out = block.bn2(block.conv2(out))
    if integration == "standard":
        out = se(out)
    out = F.relu(out + shortcut)
    return se(out) if integration == "post" else out


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_each_integration_computes_what_a_hand_written_block_does(integration: str) -> None:
    net, plain = attached(placement="residual", integration=integration), tiny()
    first, second = added(net)
    with torch.no_grad():
        x = F.relu(plain.bn1(plain.conv1(image())))
        x = hand_written(integration, plain.layer1, x, first)
        x = hand_written(integration, plain.layer2, x, second)
        expected = plain.fc(F.avg_pool2d(x, x.shape[-1]).flatten(1))
    assert torch.equal(run(net), expected)


def test_an_nhwc_site_computes_what_a_hand_written_block_does() -> None:
    torch.manual_seed(0)
    net = nets.ChannelsLast().eval()
    plain = copy.deepcopy(net)
    attach(net, "se", 4, resolution=16)
    with torch.no_grad():
        x = plain[0](image())
        for block, se in zip((plain[1], plain[2]), added(net), strict=True):
            out = block.norm(block.dwconv(x).permute(0, 2, 3, 1))
            out = se(block.down(F.gelu(block.up(out))).permute(0, 3, 1, 2))
            x = x + block.gamma[None, :, None, None] * out
        expected = plain[3](x)
    torch.testing.assert_close(run(net), expected)


def test_a_shared_block_gates_each_call_with_the_same_weights() -> None:
    torch.manual_seed(0)
    net = nets.SharedBlock().eval()
    plain = copy.deepcopy(net)
    attach(net, "se", 4, resolution=16)
    (se,) = added(net)
    with torch.no_grad():
        x = plain.stem(image())
        for _ in range(3):
            x = F.max_pool2d(hand_written("standard", plain.block, x, se), 2)
        expected = plain.head(x)
    assert torch.equal(run(net), expected)


def test_depthwise_pre_gates_the_input_of_the_depthwise_convolution() -> None:
    torch.manual_seed(0)
    net = nets.TinyMBConv().eval()
    plain = copy.deepcopy(net)
    attach(net, "se", 4, "depthwise-pre", resolution=16)
    first, second = added(net)
    with torch.no_grad():
        x = plain[0](image())
        x = x + plain[1].project(plain[1].depthwise(first(plain[1].expand(x))))
        x = plain[2].project(plain[2].depthwise(second(plain[2].expand(x))))
        expected = plain[3](x)
    assert torch.equal(run(net), expected)


@pytest.mark.parametrize("make", [nets.Nested, nets.Looping, nets.PlainNet], ids=lambda make: make.__name__)
def test_attention_runs_once_where_a_module_runs_all_its_children(make: Callable[[], nn.Module]) -> None:
    net = make().eval()
    attach(net, "se", 4, resolution=16)
    calls: list[int] = []
    for module in added(net):
        module.register_forward_hook(lambda module, args, output: calls.append(1))
    run(net)
    assert len(calls) == len(added(net)) > 0


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_a_hook_gates_the_map_in_a_container_and_keeps_the_container(kind: type) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nets.BlockWithTwoResults(kind)
            self.results: list[Any] = []

        def forward(self, x: Tensor) -> Tensor:
            result = self.block(x)
            self.results.append(result)
            return x + (result["map"] if kind is dict else result[1])

    net = Net().eval()
    attach(net, "se", 2, example=torch.zeros(1, 8, 16, 16))
    x = image(shape=(1, 8, 16, 16))
    (se,) = added(net)
    with torch.no_grad():
        expected = x + se(net.block.norm(net.block.conv(x)))
        got = net(x)
    torch.testing.assert_close(got, expected)
    assert type(net.results[-1]) is kind


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_attention_attached_in_any_mode_of_torchs_can_be_trained(mode: Callable[[], Any]) -> None:
    net = tiny()
    with mode():
        attach(net, "se", 4, resolution=16)
    net(image()).sum().backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_a_users_own_hooks_stay_and_come_first() -> None:
    net = nets.UserHooks().eval()
    plain, found = copy.deepcopy(net), hooks(net)
    attach(net, "se", 4, resolution=16)
    se, _ = added(net)
    seen: list[Tensor] = []
    se.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    run(net)
    with torch.no_grad():
        x = F.relu(plain.bn1(plain.conv1(image())))
        block = plain.layer1
        expected = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    assert torch.equal(seen[0], expected)
    strip(net, resolution=16)
    assert hooks(net) == found


# --- what an attached network can do ---------------------------------------------------------------------------


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_a_deep_copy_is_independent_and_equal(integration: str) -> None:
    net = attached(placement="residual", integration=integration)
    twin = copy.deepcopy(net)
    assert torch.equal(run(twin), run(net))
    with torch.no_grad():
        added(twin)[0].fc2.bias.add_(1)
    assert not torch.equal(run(twin), run(net))
    assert torch.equal(run(strip(twin, resolution=16)), run(tiny()))


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_pickle_brings_it_back(integration: str) -> None:
    net = attached(placement="residual", integration=integration)
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    for twin in (pickle.loads(pickle.dumps(net)), torch.load(buffer, weights_only=False)):
        assert torch.equal(run(twin), run(net))


def test_its_state_dict_loads_into_another_attached_network() -> None:
    net, other = attached(), attached()
    with torch.no_grad():
        added(net)[0].fc2.bias.add_(1)
    other.load_state_dict(net.state_dict())
    assert torch.equal(run(other), run(net))


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_a_training_step_changes_every_weight_of_the_attention(integration: str) -> None:
    net = attached(placement="residual", integration=integration).train()
    before = {name: value.clone() for name, value in net.named_parameters() if "secost" in name}
    optimizer = torch.optim.SGD(net.parameters(), lr=10.0)
    net(image()).square().sum().backward()
    optimizer.step()
    after = dict(net.named_parameters())
    assert len(before) == 8
    assert [name for name, value in before.items() if torch.equal(value, after[name]) and "fc2" in name] == []


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_torch_compile_takes_it_as_one_graph(integration: str) -> None:
    net = attached(placement="residual", integration=integration)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(compiled), run(net))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_inductor_compiles_it() -> None:
    net = attached()
    torch.testing.assert_close(run(torch.compile(net)), run(net), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_torch_export_keeps_the_numbers(integration: str) -> None:
    net = attached(placement="residual", integration=integration)
    exported = torch.export.export(net, (image(),)).module()
    torch.testing.assert_close(run(exported), run(net))


@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
@pytest.mark.parametrize("integration", ["standard", "identity"])
def test_onnx_runtime_gives_the_same_outputs(integration: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = attached(placement="residual", integration=integration)
    buffer = io.BytesIO()
    torch.onnx.export(net, (image(),), dynamo=True, verbose=False).save(buffer)
    session = runtime.InferenceSession(buffer.getvalue())
    (got,) = session.run(None, {session.get_inputs()[0].name: image().numpy()})
    torch.testing.assert_close(torch.from_numpy(got), run(net), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_takes_the_precision_and_the_mode_of_its_place(dtype: torch.dtype) -> None:
    net = nets.TinyResNet().to(dtype).train()
    net.layer2.eval()
    attach(net, "se", 4, resolution=16)
    first, second = added(net)
    assert {weight.dtype for weight in first.parameters()} == {dtype}
    assert first.training and not second.training


# --- refusals and replacements ---------------------------------------------------------------------------------


def test_attaching_twice_is_refused_and_replaced_on_request() -> None:
    net = attached()
    with pytest.raises(BadSpecError, match=r"attention sits at layer1.bn2 already .*replace=True"):
        attach(net, "eca", resolution=16)
    attach(net, "eca", resolution=16, replace=True)
    assert [module.attention for module in added(net)] == ["eca", "eca"]
    assert torch.equal(run(strip(net, resolution=16)), run(tiny()))


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_attaching_twice_is_refused_at_every_integration(integration: str) -> None:
    net = attached(placement="residual", integration=integration)
    with pytest.raises(BadSpecError, match="already"):
        attach(net, "se", 4, "residual", integration, resolution=16)
    attach(net, "se", 2, "residual", integration, resolution=16, replace=True)
    assert [module.reduction for module in added(net)] == [2, 2]


@pytest.mark.parametrize("spelling", ["mean", "pool", "conv"])
def test_the_networks_own_attention_is_refused_and_replaced_on_request(spelling: str) -> None:
    net = nets.NativeSE(spelling=spelling).eval()
    with pytest.raises(BadSpecError, match=r"attention sits at 1.bn2 already \(1.se\)"):
        attach(net, "se", 4, resolution=16)
    attach(net, "eca", resolution=16, replace=True)
    assert isinstance(net[1].se, nn.Identity) and len(added(net)) == 1


def test_attention_written_out_in_a_forward_cannot_be_replaced() -> None:
    net = nets.FunctionalSENet().eval()
    with left_as_found(net), pytest.raises(BadSpecError, match="written out in a forward"):
        attach(net, "se", 4, resolution=16, replace=True)


def test_other_stages_are_free() -> None:
    net = tiny()
    attach(net, "se", 4, stages=[1], resolution=16)
    attach(net, "cbam", 4, stages=[2], resolution=16)
    assert [module.attention for module in added(net)] == ["se", "cbam"]


def test_sites_are_the_same_with_and_without_attention() -> None:
    for integration in INTEGRATIONS:
        net = attached(placement="residual", integration=integration)
        here, there = (sites(each, "residual", integration, resolution=16) for each in (net, tiny()))
        places = [[(site.path, site.side, site.maps) for site in found] for found in (here, there)]
        assert places[0] == places[1]


def test_chosen_sites_are_taken_as_they_are() -> None:
    net = tiny()
    attach(net, "se", 4, at=sites(net, resolution=16)[1:])
    assert list(attached_paths(net)) == ["layer2.bn2.secost"]


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"attention": "sé"}, UnknownNameError, "unknown attention"),
    ({"attention": "none"}, BadSpecError, "not an attention to attach"),
    ({"reduction": 0}, BadSpecError, "reduction 0 is not possible"),
    ({"reduction": 2.0}, BadSpecError, "reduction 2.0 is not possible"),
    ({"reduction": 20}, BadSpecError, r"larger than the channels at layer1.bn2 \(16\)"),
    ({"placement": "depthwise"}, NoSiteError, "TinyResNet has no depthwise site"),
    ({"stages": [7]}, NoSiteError, "no residual site in stage 7"),
])
def test_a_wrong_request_is_one_line_and_leaves_the_network_alone(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    net = tiny()
    with left_as_found(net), pytest.raises(error, match=words) as caught:
        attach(net, **{"attention": "se", "reduction": 4, "resolution": 16, **options})
    assert "\n" not in str(caught.value)


def test_a_refused_replacement_leaves_what_was_there() -> None:
    net = attached()
    before = run(net)
    with left_as_found(net), pytest.raises(BadSpecError, match="larger than the channels"):
        attach(net, "se", 20, resolution=16, replace=True)
    with left_as_found(net), pytest.raises(BadSpecError, match="larger than the channels"):
        set_reduction(net, 20)
    assert torch.equal(run(net), before)


def test_sites_of_another_network_are_refused() -> None:
    foreign = sites(nets.Nested(), resolution=16)
    with pytest.raises(BadSpecError, match=r"has no module '1.0.branch.1.1'"):
        attach(tiny(), "se", 4, at=foreign)


def test_set_reduction_changes_the_ratio_and_nothing_else() -> None:
    net = attached()
    paths = attached_paths(net)
    assert [module.fc1.out_features for module in added(set_reduction(net, 8))] == [2, 4]
    assert attached_paths(net) == paths
    assert torch.equal(run(strip(net, resolution=16)), run(tiny()))


def test_set_reduction_tells_what_it_cannot_do() -> None:
    with pytest.raises(BadSpecError, match="found nothing that secost attached"):
        set_reduction(tiny(), 4)
    with pytest.raises(BadSpecError, match="eca has no reduction ratio"):
        set_reduction(attached("eca"), 4)


# --- the network is left as it was found -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [nets.TinyResNet, nets.UserHooks, nets.ChangesBuffers, nets.Parametrized,
                                  lambda: nets.ChangesBuffers(on_cpu=True), nets.DataDependent, nets.TiedWeights,
                                  attached], ids=lambda make: make.__name__)  # without addresses: the same in every run
def test_looking_for_sites_leaves_the_network_as_found(make: Callable[[], nn.Module]) -> None:
    net = make().train()
    net.get_submodule("stem" if hasattr(net, "stem") else "conv1").eval()
    with left_as_found(net):
        sites(net, resolution=16)
    assert not isinstance(net, nets.ChangesBuffers) or (net.grid is None and net.seen == [])


@pytest.mark.parametrize("call", [sites, lambda net, resolution: attach(net, "se", 4, resolution=resolution), strip])
def test_a_network_that_raises_is_left_as_found(call: Callable[..., Any]) -> None:
    net = nets.Broken().train()
    with left_as_found(net), pytest.raises(Exception, match="RuntimeError: this network never works") as caught:
        call(net, resolution=16)
    assert "\n" not in str(caught.value)


def test_strip_that_raises_leaves_the_attention_in() -> None:
    net = attached()
    before = run(net)
    with pytest.raises(Exception, match="expected input"):
        strip(net, example=torch.zeros(1, 5, 16, 16))
    assert torch.equal(run(net), before)


# --- the switch ------------------------------------------------------------------------------------------------


def test_a_switch_holds_several_variants_on_one_set_of_weights() -> None:
    net = nets.NativeSE().eval()
    shipped, graph = run(net), cached_trace(net, (image(),))
    with left_as_found(net), Switch(net, native_paths(graph)) as switch:
        bare = run(switch.select("none"))
        places = sites(net, resolution=16)
        with seeded():
            switch.add("se", build_placed(net, places, "se", 4))
        assert not torch.equal(bare, shipped)
        assert not torch.equal(run(switch.select("se")), bare)
        assert torch.equal(run(switch.select("native")), shipped)
        assert torch.equal(run(switch.select("none")), bare)
        with pytest.raises(KeyError):
            switch.select("cbam")
    assert torch.equal(run(net), shipped)


def test_the_baseline_of_an_attached_network_is_the_network_without() -> None:
    net = attached()
    gated = run(net)
    with Switch(net, native_paths(cached_trace(net, (image(),)))) as switch:
        assert torch.equal(run(switch.select("none")), run(tiny()))
        assert sum(p.numel() for p in net.parameters()) == net.expected_params
        assert torch.equal(run(switch.select("native")), gated)
    assert torch.equal(run(net), gated)


# --- networks that ship with attention -------------------------------------------------------------------------


def test_seresnet50_stripped_is_resnet50() -> None:
    shipped, plain = load("seresnet50"), load("resnet50")
    plain.load_state_dict({key: value for key, value in shipped.state_dict().items() if ".se." not in key})
    strip(shipped, resolution=64)
    assert sum(p.numel() for p in shipped.parameters()) == 25_557_032
    assert list(shipped.state_dict()) == list(plain.state_dict())
    x = image(shape=(1, 3, 64, 64))
    assert torch.equal(run(shipped, x), run(plain, x))


def test_seresnet50_is_what_attaching_se_to_resnet50_gives() -> None:
    assert sum(p.numel() for p in attach(load("resnet50"), "se", 16, resolution=64).parameters()) == 28_088_024


@pytest.mark.parametrize(("name", "count"), [
    ("efficientnet_b0", 16), ("mobilenetv3_large_100", 8), ("torchvision:mobilenet_v3_large", 8),
    ("torchvision:efficientnet_b0", 16), ("regnety_002", 13), ("legacy_seresnet18", 8), ("ecaresnet26t", 8),
    ("gcresnet33ts", 10), ("ese_vovnet19b_dw", 4), ("transformers:regnet", 22), ("ghostnet_100", 7),
])
def test_strip_takes_the_networks_own_attention_out(name: str, count: int) -> None:
    if name.startswith("transformers:"):
        pytest.importorskip("transformers")
    net = load(name)
    x = torch.zeros(1, 3, 64, 64)
    assert len(native_paths(cached_trace(net, (x,)))) == count
    strip(net, resolution=64)
    assert find_attention(cached_trace(net, (x,))) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("senet154", 50), ("ecaresnet50d", 16), ("gcresnet50t", 16)])
def test_strip_takes_the_attention_of_large_networks_out(name: str, count: int) -> None:
    test_strip_takes_the_networks_own_attention_out(name, count)


def test_squeeze_excite_has_the_reduction_asked_for_exactly() -> None:
    net = attached(reduction=3)
    widths = [(se.channels, se.fc1.out_features) for se in added(net) if isinstance(se, SqueezeExcite)]
    assert widths == [(16, 16 // 3), (32, 32 // 3)]

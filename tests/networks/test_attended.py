"""Attention that stays: what fuses, traces, scripts, quantises or exports a network takes its attention along."""

from __future__ import annotations

import copy
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nets
import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import fuse_modules, get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from secost.errors import BadSpecError, NoSiteError
from secost.networks.attended import StandIn, attended, plain_names
from secost.networks.attention_modules import Attention
from secost.networks.sources import load
from secost.networks.surgery import attach, sites, strip

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # torch's about its own older ways to quantise
]
PIXELS = 64

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses what torch itself has deprecated
    from torch.fx.experimental.optimization import fuse


def functional() -> nn.Module:
    """A stem and blocks whose activations are functions, and a classifier."""
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16),
                         nets.FunctionalBasicBlock(16, 16), nets.FunctionalBasicBlock(16, 32, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (lambda: load("resnet18"), 8), "mobilenetv2": (lambda: load("torchvision:mobilenet_v2"), 17),
    "convnext": (lambda: load("convnext_atto"), 12), "functional": (functional, 2),
}
image = torch.randn(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=NETWORKS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    make, count = NETWORKS[request.param]
    torch.manual_seed(0)
    built = attach(make(), "se", 4, resolution=PIXELS)
    assert gates(built) == count
    return lively(built)


def lively(net: nn.Module) -> nn.Module:
    """Norms that know what they read, and layer scales that let it through: a new network's outputs hardly differ."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for weight in net.parameters():
            if float(weight.abs().max()) < 1e-3:
                weight.fill_(0.5)
        net.train()(image)
    return net.eval()


def gates(net: nn.Module) -> int:
    return sum(isinstance(module, Attention) for module in net.modules())


def same(net: nn.Module, other: Callable[..., Any]) -> None:
    """Both give one output, which is another without attention."""
    with torch.no_grad():
        expected = net(image)
        torch.testing.assert_close(other(image), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
        plain = strip(copy.deepcopy(net), PIXELS)(image)
        assert float((plain - expected).abs().max()) > 0.05 * float(expected.abs().max())


def sigmoids(graph: torch.fx.Graph) -> int:
    return sum("sigmoid" in str(node.target) for node in graph.nodes)


@pytest.mark.parametrize("way", [
    copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), torch.jit.script,
    lambda net: torch.jit.trace(net, image), lambda net: torch.export.export(net, (image,)).module(),
    lambda net: torch.compile(net, backend="eager", fullgraph=True),
], ids=["deepcopy", "pickle", "script", "trace", "export", "compile"])
def test_a_copy_of_any_kind_gives_the_same_outputs(net: nn.Module, way: Callable[[nn.Module], Any]) -> None:
    same(net, way(net))


def test_conv_norm_fusion_by_fx_keeps_every_gate(net: nn.Module) -> None:
    fused = fuse(net)
    same(net, fused)
    assert sigmoids(fused.graph) == gates(net)


def test_quantisation_by_fx_keeps_every_gate(net: nn.Module) -> None:
    prepared = prepare_fx(copy.deepcopy(net), get_default_qconfig_mapping("x86"), (image,))
    same(net, prepared)
    converted = convert_fx(prepared)
    assert sigmoids(converted.graph) == gates(net)
    assert converted(image).shape == net(image).shape


def test_dynamic_quantisation_takes_the_linear_layers_of_attention_too(net: nn.Module) -> None:
    quantised = quantize_dynamic(net, {nn.Linear}, dtype=torch.float16)  # rounds weights only: outputs stay close
    with torch.no_grad():
        expected = net(image)
        torch.testing.assert_close(quantised(image), expected, rtol=0.05, atol=0.02 * float(expected.abs().max()))
    linear = [module for module in quantised.modules() if "DynamicQuantizedLinear" in repr(type(module)) or
              type(module).__module__.startswith("torch.ao.nn.quantized.dynamic")]
    assert gates(quantised) == gates(net) and len(linear) >= 2 * gates(net)


def test_several_processes_train_it_together(net: nn.Module) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    try:
        parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(net).train())
        parallel(image).square().sum().backward()
        assert all(weight.grad is not None for name, weight in parallel.named_parameters() if "secost" in name)
    finally:
        torch.distributed.destroy_process_group()


def test_eager_fusion_by_the_names_of_the_plain_network_keeps_every_gate() -> None:
    net = lively(attach(load("resnet18"), "se", 4, resolution=PIXELS))
    pairs = [[f"layer{stage}.{block}.conv{at}", f"layer{stage}.{block}.bn{at}"]
             for stage in (1, 2, 3, 4) for block in (0, 1) for at in (1, 2)]
    fused = fuse_modules(net, pairs)
    same(net, fused)
    assert gates(fused) == 8
    assert all(isinstance(fused.get_submodule(conv), StandIn) for conv, norm in pairs if norm.endswith("bn2"))
    assert isinstance(fused.layer1[0].bn2, nn.Identity)


def test_eager_fusion_across_attention_is_refused() -> None:
    net = attach(load("resnet18").eval(), "se", 4, resolution=PIXELS)
    with pytest.raises(AssertionError, match="did not find fuser method"):
        fuse_modules(net, [["layer1.0.conv2", "layer1.0.bn2", "layer1.0.act2"]])
    net = attach(load("resnet18").eval(), "se", 4, integration="pre", resolution=PIXELS)
    with pytest.raises(AssertionError, match="did not find fuser method"):
        fuse_modules(net, [["layer1.0.conv1", "layer1.0.bn1"]])


def test_keys_of_the_state_dict_are_those_of_before_and_attentions_beside(net: nn.Module) -> None:
    plain = strip(copy.deepcopy(net), PIXELS)
    mine, theirs = net.state_dict(), plain.state_dict()
    assert [name for name in mine if "secost" not in name] == list(theirs)
    missing, unexpected = net.load_state_dict(theirs, strict=False)
    assert not unexpected and sorted(missing) == sorted(set(mine) - set(theirs))
    net.load_state_dict(mine)
    with pytest.raises(RuntimeError, match="secost"):
        net.load_state_dict(theirs)
    missing, unexpected = plain.load_state_dict(mine, strict=False)
    assert not missing and all("secost" in name for name in unexpected)


def test_what_a_network_asks_of_its_module_it_gets() -> None:
    net = load("resnet18").eval()
    stage = replace(sites(net, "stage", resolution=PIXELS)[0], path="layer1")
    attach(net, "se", 4, at=[stage])
    assert isinstance(net.layer1, StandIn) and len(net.layer1) == 2 and net.layer1
    assert net.layer1[0] is next(iter(net.layer1)) is net.get_submodule("layer1.0")
    net.layer1[0].conv1.stride = (1, 1)
    net.layer1.flag = 1
    assert net.layer1.flag == 1
    with pytest.raises(AttributeError, match="nothing"):
        _ = net.layer1.nothing
    bn = attach(load("resnet18"), "se", 4, resolution=PIXELS).layer1[0].bn2
    bn.momentum = 0.5
    assert bn.original.momentum == bn.momentum == 0.5 and bn.num_features == 64


def test_names_are_those_of_the_plain_network() -> None:
    net = load("resnet18")
    before = set(plain_names(net))
    attach(net, "se", 4, integration="identity", resolution=PIXELS)
    assert {name for name in plain_names(net) if "secost" not in name} == before


class Tupled(nn.Module):
    """Runs its layers through a tuple of its own, a list, or a dict."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        layers = [self.conv, self.norm]
        self.layers: Any = {"list": layers, "tuple": tuple(layers), "dict": dict(enumerate(layers))}[kind]

    def forward(self, x: Tensor) -> Tensor:
        y = x = self.stem(x)
        for layer in self.layers.values() if isinstance(self.layers, dict) else self.layers:
            y = layer(y)
        return torch.relu(x + y)


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_a_module_that_is_run_through_a_list_is_gated_there(kind: str) -> None:
    net = Tupled(kind).eval()
    with torch.no_grad():
        plain = net(image)
        attach(net, "se", 2, resolution=PIXELS)
        assert not torch.allclose(net(image), plain)
        assert torch.equal(strip(net, PIXELS)(image), plain)


def test_a_module_that_is_run_through_a_tuple_is_refused_and_the_network_left_alone() -> None:
    net = Tupled("tuple").eval()
    with pytest.raises(NoSiteError, match="runs the module at norm through a reference of its own"):
        attach(net, "se", 2, resolution=PIXELS)
    assert not attended(net) and not gates(net)


@pytest.mark.parametrize("attention", ["se", "ese", "cbam", "bam", "spatial", "scse", "gc", "srm", "coord"])
def test_open_gates_leave_a_networks_outputs(attention: str) -> None:
    net = lively(load("resnet18"))
    with torch.no_grad():
        plain = net(image)
        attach(net, attention, 4, resolution=PIXELS, init="open")
        opened = net(image)
    assert float((opened - plain).abs().max()) < 1e-3 * float(plain.abs().max())
    assert gates(net) == 8


@pytest.mark.parametrize("attention", ["eca", "ge", "simam"])
def test_gates_without_a_bias_cannot_start_open(attention: str) -> None:
    net = load("resnet18")
    with pytest.raises(BadSpecError, match=f"{attention} can't start open"):
        attach(net, attention, resolution=PIXELS, init="open")
    with pytest.raises(BadSpecError, match="give 'random' or 'open'"):
        attach(net, "se", init="closed")
    assert not gates(net)

"""Gates are read off a running network: of every attention we have, of other people's, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secost
from secost.networks.attention import ATTENTION
from secost.networks.attention_modules import GatedAttention, SqueezeExcite
from secost.networks.gates import gate_paths, watch_gates

KINDS = {"cbam": ["channel", "position"], "scse": ["channel", "position"], "spatial": ["position"],
         "coord": ["row", "column"], "gc": ["context"], "bam": ["element"], "simam": ["element"]}


def images(count: int = 3, px: int = 16) -> Tensor:
    return torch.randn(count, 3, px, px, generator=torch.Generator().manual_seed(1))


def attached(name: str) -> nn.Module:
    net = secost.load("small:vgg")
    reduction = 4 if ATTENTION.get(name).has_reduction else None
    return secost.attach(net, name, reduction, resolution=16).eval()


@pytest.mark.parametrize("name", ATTENTION.names())
def test_every_attention_has_its_gates_read(name: str) -> None:
    net, x = attached(name), images()
    paths = gate_paths(net, (x[:1],))
    with torch.inference_mode(), watch_gates(net, paths) as seen:
        net(x)
    expected = KINDS.get(name, ["channel"])
    assert [gate.kind for gate in seen] == expected * len(paths)
    assert all(gate.values.shape[0] == len(x) for gate in seen)
    assert seen[0].path == "0.2" and seen[0].name in ("0.2", f"0.2 ({expected[0]})")


@pytest.mark.parametrize("name", [name for name in ATTENTION.names() if name not in ("cbam", "scse", "coord", "gc")])
def test_the_values_are_what_the_module_itself_says(name: str) -> None:
    net, x = attached(name), images()
    paths = gate_paths(net, (x[:1],))
    modules = [net.get_submodule(path) for path in paths]
    inputs: list[Tensor] = []
    for module in modules:
        module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.inference_mode(), watch_gates(net, paths) as seen:
        net(x)
        for gate, module, map_ in zip(seen, modules, inputs, strict=True):
            assert isinstance(module, GatedAttention)
            own = module.gate(map_)
            told = own.flatten(1) if gate.kind == "position" else own.flatten(2).mean(2)
            torch.testing.assert_close(gate.values, told)
            torch.testing.assert_close(gate.squeezed, map_.mean((2, 3)))


@pytest.mark.parametrize(("model", "gates"), [
    ("efficientnet_b0", 16), ("torchvision:mobilenet_v3_small", 9), ("ecaresnet26t", 8), ("legacy_seresnet18", 8),
    ("gcresnext26ts", 8), ("ese_vovnet19b_dw", 4),
])
def test_other_peoples_gates_are_read_too(model: str, gates: int) -> None:
    net, x = secost.load(model), images(2, 64)
    with torch.inference_mode(), watch_gates(net, gate_paths(net, (x[:1],))) as seen:
        net(x)
    assert len(seen) == gates


def test_a_foreign_gate_is_the_quotient_of_its_modules_output_and_input() -> None:
    net, x = secost.load("efficientnet_b0"), images(2, 64)
    maps: list[tuple[Tensor, Tensor]] = []
    paths = gate_paths(net, (x[:1],))
    for path in paths:
        net.get_submodule(path).register_forward_hook(lambda _, args, out: maps.append((args[0].clone(), out.clone())))
    with torch.inference_mode(), watch_gates(net, paths) as seen:
        net(x)
    for gate, (before, after) in zip(seen, maps, strict=True):
        # Sums over positions, since a map may be zero anywhere.
        expected = after.abs().sum((2, 3))
        torch.testing.assert_close(gate.values * before.abs().sum((2, 3)), expected, rtol=1e-3, atol=1e-3)


def test_a_module_that_runs_twice_is_read_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 8, 3), SqueezeExcite(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.gate(self.gate(self.conv(x)))
            return out

    net = Twice().eval()
    with torch.inference_mode(), watch_gates(net, ["gate"]) as seen:
        net(images())
    assert [gate.path for gate in seen] == ["gate", "gate"]


def test_a_network_without_attention_has_no_gates() -> None:
    assert gate_paths(secost.load("small:vgg"), (images(1),)) == []


def test_nothing_is_left_on_the_network() -> None:
    net, x = attached("se"), images()
    with torch.inference_mode():
        before = net(x)
        with watch_gates(net, gate_paths(net, (x[:1],))) as seen:
            during = net(x)
        count = len(seen)
        after = net(x)
    assert len(seen) == count
    assert torch.equal(before, during) and torch.equal(before, after)


@pytest.mark.parametrize("name", ["simam", "bam", "se"])
def test_gates_are_still_seen_where_the_map_was_rounded(name: str) -> None:
    from secost.studies.fake_quant import FakeQuantised, fold_norms

    net, x = attached(name), images()
    fold_norms(net, x)
    paths = gate_paths(net, (x[:1],))
    fake = FakeQuantised(net)
    fake.calibrate([x])
    counts = []
    for bits in (None, 8):
        with torch.inference_mode(), watch_gates(net, paths) as seen:
            fake.at(bits)(x)
        counts.append([gate.kind for gate in seen])
    assert counts[0] == counts[1] and len(counts[0]) == len(paths)


def test_a_map_of_one_position_has_its_gate_read() -> None:
    net = SqueezeExcite(8, 2).eval()
    with torch.inference_mode(), watch_gates(nn.Sequential(net), ["0"]) as seen:
        net(torch.randn(2, 8, 1, 1))
    assert [gate.kind for gate in seen] == ["channel"] and seen[0].values.shape == (2, 8)

"""Recognition: attention is told by what it does, in any spelling, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Callable

import nets
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secost.networks.attention import ATTENTION, build_attention
from secost.networks.recognition import FoundAttention, find_attention, gate_elements
from secost.networks.tracing import trace

WIDTH = 16


def found_in(net: nn.Module, size: int = 16) -> list[FoundAttention]:
    return find_attention(trace(net.eval(), (torch.zeros(1, 3, size, size),)))


class Around(nn.Module):
    """A module between two convolutions."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.first, self.module, self.last = nn.Conv2d(3, WIDTH, 3, padding=1), module, nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.module(self.first(x)))


class Gate(nn.Module):
    """x times (or otherwise with) a function of x."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("spelling", ["mean", "pool", "conv"])
def test_se_is_found_as_a_module_in_each_spelling(spelling: str) -> None:
    net = nets.NativeSE(spelling=spelling)
    assert [found.path for found in found_in(net)] == net.expected_native


@pytest.mark.parametrize("spelling", ["mean", "pool", "conv"])
def test_se_in_a_larger_forward_is_found_without_a_path(spelling: str) -> None:
    (found,) = found_in(nets.FunctionalSENet(spelling=spelling))
    assert found.path is None and len(found.gates) == 1


@pytest.mark.parametrize("spelling", ["mean", "pool", "conv"])
@pytest.mark.parametrize("make", [nets.NativeSE, nets.FunctionalSENet])
def test_each_spelling_scales_as_many_elements(make: Callable[..., nn.Module], spelling: str) -> None:
    graph = trace(make(WIDTH, spelling).eval(), (torch.zeros(1, 3, 16, 16),))
    assert sum(gate_elements(graph, find_attention(graph)).values()) == WIDTH * 16 * 16


def test_se_called_by_keyword_is_found() -> None:
    assert [found.path for found in found_in(nets.NativeSE(by_name=True))] == ["1.se"]


@pytest.mark.parametrize("kind", [name for name in ATTENTION.names() if name != "ge"])
def test_our_own_kinds_are_found_by_structure_too(kind: str) -> None:
    module = build_attention(kind, WIDTH, reduction=4, height=16, width=16)
    assert [found.path for found in found_in(Around(module))] == ["module"]


OTHER_GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "one plus a gate": lambda x: x * (1 + torch.sigmoid(x.mean((2, 3), keepdim=True))),
    "the map plus the gated map": lambda x: x + x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "a tanh": lambda x: x * torch.tanh(x.mean((2, 3), keepdim=True)),
    "a hard sigmoid": lambda x: F.hardsigmoid(x.amax((2, 3), keepdim=True)) * x,
    "a relu6 over 6": lambda x: x * (F.relu6(x.mean((2, 3), keepdim=True) + 3) / 6),
    "a clamp": lambda x: x * x.mean((2, 3), keepdim=True).clamp(0, 1),
    "a softmax over channels": lambda x: x * torch.softmax(x.mean((2, 3), keepdim=True), 1),
    "a spatial gate": lambda x: x * torch.sigmoid(x.mean(1, keepdim=True)),
    "a resized gate": lambda x: x * F.interpolate(torch.sigmoid(F.avg_pool2d(x, 4)), scale_factor=4.0),
    "an expanded gate": lambda x: x * torch.sigmoid(x.mean((2, 3))).view(1, -1, 1, 1).expand_as(x),
}


@pytest.mark.parametrize("what", OTHER_GATES)
def test_other_gates_are_attention(what: str) -> None:
    assert [found.path for found in found_in(Around(Gate(OTHER_GATES[what])))] == ["module"]


NO_ATTENTION: dict[str, Callable[[Tensor], Tensor]] = {
    "SiLU written out": lambda x: x * torch.sigmoid(x),
    "hard swish written out": lambda x: x * F.relu6(x + 3) / 6,
    "GLU": lambda x: torch.cat([x[:, :8] * torch.sigmoid(x[:, 8:])] * 2, 1),
    "SwiGLU": lambda x: torch.cat([F.silu(x[:, :8]) * x[:, 8:]] * 2, 1),
    "a norm": lambda x: x * torch.rsqrt(x.pow(2).mean((2, 3), keepdim=True) + 1e-6),
    "global response normalisation": lambda x: x + x * (x.norm(dim=(2, 3), keepdim=True) / 3),
    "a number": lambda x: x * 0.5,
    "an identity": lambda x: x,
    "a convolution's gate of the same size": lambda x: x * torch.sigmoid(F.conv2d(x, x.new_ones(16, 16, 1, 1))),
    "another work beside the gate": lambda x: F.relu(x * torch.sigmoid(x.mean((2, 3), keepdim=True))).sqrt(),
}


@pytest.mark.parametrize("what", NO_ATTENTION)
def test_what_only_looks_like_attention_is_none_to_take_out(what: str) -> None:
    assert [found.path for found in found_in(Around(Gate(NO_ATTENTION[what]))) if found.path is not None] == []


@pytest.mark.parametrize("make", [nets.TinyResNet, nets.SwiGLUNet, nets.GRNNet, nets.ChannelsLast, nets.RepVggLike,
                                  nets.WrittenOutEnds], ids=lambda make: make.__name__)
def test_a_network_without_attention_has_none(make: Callable[[], nn.Module]) -> None:
    assert found_in(make()) == []


def test_attention_that_is_the_whole_network_is_not_taken_out_of_nothing() -> None:
    assert [found.path for found in found_in(nets.ModuleSE(3, 1))] == [None]

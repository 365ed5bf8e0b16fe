"""`--reconcile`: one network under every tool's convention, held to the tools' own numbers."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import secost
from secost.meters.counts import conventions
from secost.networks.sources import image_input

# PEERS.md 2.1, millions at 224 px, as each tool prints them (fvcore 0.1.5, ptflops 0.7.5, thop 0.1.1, torchinfo 1.8).
RESNET50 = {
    "layers": 4089.18, "layers + bias": 4089.19, "layers + bias + other parameters": 4089.24,
    "fvcore's own total": 4111.51, "layers + 4 x norm + average pooling": 4133.74,
    "layers + bias + 2 x (norm + activation + pooling)": 4132.44, "FLOPs = 2 x layers": 8178.4,
    "FLOPs = 2 x (layers + norm) + activation + pooling": 8211.1,
}
SERESNET50 = {
    "layers": 4091.70, "layers + bias": 4091.72, "layers + bias + other parameters": 4091.77,
    "fvcore's own total": 4114.03, "layers + 4 x norm + average pooling": 4136.26,
    "layers + bias + 2 x (norm + activation + pooling)": 4134.97, "FLOPs = 2 x layers": 8183.4,
    "FLOPs = 2 x (layers + norm) + activation + pooling": 8216.1,
}
MODELS = ("resnet50", "seresnet50", "efficientnet_b0")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """fvcore as its users see it warns a lot; what secost itself lets through fails the tests in `test_counts`."""
    level = logging.getLogger("fvcore.nn.jit_analysis").level
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(level)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    return {model: secost.load(model) for model in MODELS}


def _counts(net: nn.Module) -> dict[str, int]:
    return {row["convention"]: row["count"] for row in conventions(net, image_input(net, 224))}


@pytest.mark.parametrize(("model", "printed"), [("resnet50", RESNET50), ("seresnet50", SERESNET50)])
def test_each_convention_gives_what_its_tool_prints(
    model: str, printed: dict[str, float], nets: dict[str, nn.Module]
) -> None:
    counts = _counts(nets[model])
    for convention, millions in printed.items():
        digits = 1 if convention.startswith("FLOPs") else 2
        assert round(counts[convention] / 1e6, digits) == millions, convention


@pytest.mark.parametrize("model", MODELS)
def test_fvcores_own_total_is_fvcores(model: str, nets: dict[str, nn.Module]) -> None:
    from fvcore.nn import FlopCountAnalysis

    net = nets[model]
    with torch.no_grad():
        own = FlopCountAnalysis(net, image_input(net, 224)).total()
    assert _counts(net)["fvcore's own total"] == own


@pytest.mark.parametrize("model", MODELS)
def test_two_flops_a_mac_is_torchs_own_counter(model: str, nets: dict[str, nn.Module]) -> None:
    net = nets[model]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*image_input(net, 224))
    assert _counts(net)["FLOPs = 2 x layers"] == counter.get_total_flops()


def test_gating_products_are_what_secost_adds_to_the_layers(nets: dict[str, nn.Module]) -> None:
    counts = _counts(nets["seresnet50"])
    assert counts["secost macs"] - counts["layers"] == 5_519_360
    assert _counts(nets["resnet50"])["secost macs"] == 4_089_184_256


def test_every_row_says_who_counts_so(nets: dict[str, nn.Module]) -> None:
    told = " ".join(str(row["used by"]) for row in conventions(nets["resnet50"], image_input(nets["resnet50"], 224)))
    for tool in ("SENet", "fvcore", "mmengine", "ptflops (aten)", "ptflops (pytorch)", "thop", "torchinfo", "calflops",
                 "DeepSpeed", "torch.utils.flop_counter"):
        assert tool in told


def test_the_network_is_left_as_it_was(nets: dict[str, nn.Module]) -> None:
    net = copy.deepcopy(nets["resnet50"]).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    in_train_mode: dict[str, Any] = _counts(net)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert in_train_mode == _counts(net.eval())

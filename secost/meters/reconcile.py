"""One network under every tool's convention: why two counters' numbers differ.

Each tool's rule was read from its source and tried on ResNet-50 at 224 px, where every row below meets the tool's own
number to the last digit that it prints. On other networks a tool may deviate by faults of its own, which no
convention describes: thop and ptflops (pytorch) look modules up by their exact type and so miss subclasses
(timm's `BatchNormAct2d`, `Conv2dSame`), and nobody but fvcore sees a norm that is written as a function.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from secost.meters.counts import network_cost, node_macs
from secost.meters.macs import quiet, tracing_quietly
from secost.meters.operations import operation_class
from secost.networks.cache import cached_trace
from secost.networks.tracing import Graph, Node

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ACTIVATIONS = frozenset(
    "relu relu6 silu gelu hardswish hardsigmoid hardtanh leaky_relu elu celu selu mish softplus _prelu_kernel".split()
)


def conventions(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """Rows of convention, count, and which tools count so. All for one image.

    fvcore's own total is fvcore's; everything else is derived from the checked layer count by adding terms.
    """
    graph = cached_trace(net, inputs)
    macs = network_cost(net, inputs, graph).macs
    layers = sum(node_macs(node) for node in graph.nodes)
    bias = sum(node.numel for node in graph.nodes if _has_bias(node))
    norm = sum(node.numel for node in graph.nodes if operation_class(node.op) == "norm")
    activation = sum(node.numel for node in graph.nodes if node.op.removesuffix("_") in _ACTIVATIONS)
    pooling, average = _pooling(graph, "Pool"), _pooling(graph, "AvgPool")
    rows = (
        ("secost macs", macs, "layers and gating products: the SENet paper's"),
        ("layers", layers, "convolution + linear + matrix product: calflops' and DeepSpeed's MACs, papers on ResNet"),
        ("layers + bias", layers + bias, "ptflops (aten)"),
        ("layers + bias + other parameters", layers + bias + _other_parameters(net), "torchinfo's mult-adds"),
        ("fvcore's own total", _fvcore_total(net, inputs),
         "fvcore, mmengine: add norms (2 an element in eval mode, 5 in train mode) and adaptive pooling, say flops"),
        ("layers + 4 x norm + average pooling", layers + 4 * norm + average, "thop"),
        ("layers + bias + 2 x (norm + activation + pooling)", layers + bias + 2 * (norm + activation + pooling),
         "ptflops (pytorch): counts activations and pooling as modules and again as functions"),
        ("FLOPs = 2 x layers", 2 * layers, "torch.utils.flop_counter"),
        ("FLOPs = 2 x (layers + norm) + activation + pooling", 2 * (layers + norm) + activation + pooling,
         "calflops' and DeepSpeed's FLOPs"),
    )
    return [{"convention": name, "count": count, "used by": tools} for name, count, tools in rows]


def _fvcore_total(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    with tracing_quietly(net):
        from fvcore.nn import FlopCountAnalysis

        return int(quiet(FlopCountAnalysis(net, inputs)).total())


def _has_bias(node: Node) -> bool:
    return node.op == "addmm" or (node.op in ("convolution", "_convolution") and len(node.inputs) == 3)


def _pooling(graph: Graph, kind: str) -> int:
    """Elements that pooling layers read. Adaptive pooling to 1x1 runs as a mean, so the module has to tell."""
    pools = {call.path for call in graph.calls if kind in call.kind}
    return sum(node.in_numel for node in graph.nodes if node.path in pools and operation_class(node.op) == "reduction")


def _other_parameters(net: nn.Module) -> int:
    """Parameters of modules that are no convolution and no linear layer: norms, layer scales."""
    return sum(
        parameter.numel()
        for module in net.modules() if not isinstance(module, _LAYERS)
        for parameter in module.parameters(recurse=False)
    )

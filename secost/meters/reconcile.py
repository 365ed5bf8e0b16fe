"""One network under every tool's convention: why two counters' numbers differ."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from secost.meters.counts import fvcore_macs, network_cost
from secost.meters.macs import tracing_quietly
from secost.networks.cache import cached_trace


def conventions(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """Rows of convention, count, and which tools count so. All for one image.

    fvcore's own total is fvcore's; everything else is derived from the checked layer count by adding terms.
    """
    graph = cached_trace(net, inputs)
    layers = fvcore_macs(net, inputs)
    whole = network_cost(net, inputs, graph)
    bias = sum(node.numel for node in graph.nodes if node.flop_macs and _has_bias(node.op, len(node.inputs)))
    norms = sum(node.numel for node in graph.nodes if "norm" in node.op)
    rows = (
        ("secost macs", whole.macs, "layers and gating products: the SENet paper's"),
        ("layers only", layers, "convolution + linear + matrix product: FlopCounterMode / 2, papers on ResNet"),
        ("FLOPs = 2 x layers", 2 * layers, "torch.utils.flop_counter, calflops and DeepSpeed as 'FLOPs'"),
        ("fvcore's own total", _fvcore_total(net, inputs), "adds norms and pooling modules, calls the sum flops"),
        ("layers + bias", layers + bias, "ptflops (aten), torchinfo"),
        ("layers + 2 x norm", layers + 2 * norms, "mmengine, fvcore in eval mode, about: they also add some pooling"),
        ("layers + 4 x norm", layers + 4 * norms, "thop, about: it adds some pooling and misses subclasses of layers"),
    )
    return [{"convention": name, "count": count, "used by": tools} for name, count, tools in rows]


def _fvcore_total(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(net, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with tracing_quietly(net):
        return int(analysis.total())


def _has_bias(op: str, operands: int) -> bool:
    return op == "addmm" or (op in ("convolution", "_convolution") and operands == 3)

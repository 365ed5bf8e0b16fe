"""What a network costs on paper: parameters, MACs, other operations, memory traffic, operations launched.

MACs are fvcore's, through handles set here under one named convention, and are checked against torch's own counter on
the graph of `networks.tracing`; a difference is an error. Everything else is summed over that graph. All figures are
for one image. Attention's cost is additive over sites: each distinct (attention, channels, height, width, reduction)
is traced once.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from secost.errors import CountError
from secost.networks.recognition import find_attention, gate_elements
from secost.networks.sites import Site
from secost.networks.surgery import attached_paths, build_placed, seeded
from secost.networks.tracing import Graph, Node, attention_macs, eval_mode, trace

MAC_CONVENTION = (
    "conv + linear + matmul + einsum + gating product, one MAC per multiply-add, no bias, no norm, no pooling"
)

_WORDS_ELEMENTWISE = (
    "add sub rsub mul div neg abs exp log sqrt rsqrt pow square reciprocal sigmoid tanh relu relu6 silu gelu hardswish "
    "hardsigmoid hardtanh leaky_relu elu celu mish softplus _prelu_kernel prelu clamp clamp_min clamp_max maximum minimum "
    "addcmul addcdiv erf where lerp masked_fill threshold log_sigmoid_forward bitwise_not logical_not eq ne lt le gt ge"
)
_WORDS_REDUCTIONS = (
    "mean sum amax amin max min var std var_mean std_mean _softmax softmax logsumexp prod norm linalg_vector_norm cumsum "
    "argmax avg_pool2d _adaptive_avg_pool2d _adaptive_avg_pool1d adaptive_max_pool2d max_pool2d_with_indices avg_pool1d "
    "adaptive_avg_pool2d max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d topk sort"
)
_WORDS_COPIES = (
    "clone copy _to_copy cat stack constant_pad_nd reflection_pad2d replication_pad2d contiguous fill zero zeros ones full "
    "zeros_like ones_like full_like arange index index_put gather scatter roll flip repeat new_zeros new_ones new_full "
    "scalar_tensor lift_fresh_copy native_dropout slice_scatter embedding index_select unfold im2col pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle linspace tril triu masked_select _unsafe_index meshgrid"
)
_ELEMENTWISE = frozenset(_WORDS_ELEMENTWISE.split())
_REDUCTIONS = frozenset(_WORDS_REDUCTIONS.split())
_COPIES = frozenset(_WORDS_COPIES.split())
_NORM_MARKS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
_NORM_OPS_PER_ELEMENT = 2  # one multiplication and one addition, as inference runs a norm with folded statistics


@dataclass(frozen=True)
class Cost:
    """Counts that add up: of a network, of the attention at one site, or of a stage. All for one image."""

    params: int = 0
    macs: int = 0
    other_ops: int = 0
    activations: int = 0
    memory_bytes: int = 0
    kernels: int = 0
    unsupported_ops: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.params + other.params, self.macs + other.macs, self.other_ops + other.other_ops,
            self.activations + other.activations, self.memory_bytes + other.memory_bytes, self.kernels + other.kernels,
            self.unsupported_ops + other.unsupported_ops,
        )

    def times(self, calls: int) -> Cost:
        """The cost of being called several times with one set of parameters."""
        return Cost(
            self.params, self.macs * calls, self.other_ops * calls, self.activations * calls,
            self.memory_bytes * calls, self.kernels * calls,
            Counter({op: count * calls for op, count in self.unsupported_ops.items()}),
        )


@dataclass(frozen=True)
class SiteCost:
    """What attention adds at one site."""

    site: Site
    cost: Cost


def network_cost(net: nn.Module, inputs: tuple[Tensor, ...], graph: Graph) -> Cost:
    """The cost of a network for one image; `graph` is the trace of this very network.

    Raises CountError where fvcore and torch's own counter disagree on convolutions, linear layers and products.
    """
    macs = fvcore_macs(net, inputs)
    _cross_check(macs, graph, type(net).__name__)
    gates = gate_elements(graph, find_attention(graph, attached_paths(net)))
    return graph_cost(graph, macs, gates, sum(parameter.numel() for parameter in net.parameters()))


def attention_cost(net: nn.Module, sites: Sequence[Site], attention: str, reduction: int | None,
                   known: dict[tuple[Any, ...], Cost]) -> list[SiteCost]:
    """What an attention adds at each site. `known` keeps units traced already, by their shape, kind and r."""
    costs = []
    for site in sites:
        total: Cost | None = None
        for height, width in site.maps:
            key = (attention, reduction, site.channels, height, width)
            if key not in known:
                known[key] = _unit_cost(net, site, attention, reduction, height, width)
            unit = known[key]
            total = unit if total is None else total + Cost(**{**vars(unit), "params": 0})
        costs.append(SiteCost(site, total or Cost()))
    return costs


def native_cost(graph: Graph, net: nn.Module, paths: Sequence[str]) -> Cost:
    """The share of a network's own attention, read off its graph: the modules at `paths`."""
    gates = gate_elements(graph, find_attention(graph))
    inside = _under(paths)
    nodes = [(index, node) for index, node in enumerate(graph.nodes) if inside(node.path)]
    params = {id(p): p.numel() for path in paths for p in net.get_submodule(path).parameters()}
    own = {index: count for index, count in gates.items() if inside(graph.nodes[index].path)}
    macs = sum(node.flop_macs for _, node in nodes)
    return _sum_nodes(nodes, macs, own, sum(params.values()))


def by_stage(costs: Sequence[SiteCost]) -> list[dict[str, int]]:
    """What attention adds in each stage: one plain row a stage."""
    rows: dict[int, dict[str, int]] = {}
    for item in costs:
        row = rows.setdefault(item.site.stage, {"stage": item.site.stage, "sites": 0, **dict.fromkeys(_SHARES, 0)})
        row["sites"] += 1
        for name in _SHARES:
            row[name] += getattr(item.cost, name)
    return [rows[stage] for stage in sorted(rows)]


def by_site(costs: Sequence[SiteCost]) -> list[dict[str, Any]]:
    """What attention adds at each site: one plain row a site."""
    return [
        {
            "path": item.site.path, "stage": item.site.stage, "channels": item.site.channels,
            "height": item.site.height, "width": item.site.width, "calls": item.site.calls,
            **{name: getattr(item.cost, name) for name in _SHARES},
        }
        for item in costs
    ]


_SHARES = ("params", "macs", "other_ops", "memory_bytes", "kernels")


def graph_cost(graph: Graph, macs: int, gates: dict[int, int], params: int) -> Cost:
    """The cost of a whole graph: `macs` of its layers plus one for each element that a gate scales."""
    return _sum_nodes(list(enumerate(graph.nodes)), macs, gates, params)


def fvcore_macs(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """MACs of convolutions, linear layers, matrix products and einsum, by fvcore on real tensors.

    Raises CountError inside a torch dispatch mode, where fvcore gives a wrong total without a word.
    """
    if _get_current_dispatch_mode() is not None:
        raise CountError("fvcore miscounts inside a torch dispatch mode: leave the mode before counting")
    plain = _PlainOutputs(net)
    with quiet_trace(net):  # importing fvcore warns too: its losses are scripted
        from fvcore.nn.jit_analysis import JitModelAnalysis

        analysis = JitModelAnalysis(plain, inputs).set_op_handle(**_mac_handles())
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        return int(analysis.total())


@contextmanager
def quiet_trace(net: nn.Module) -> Iterator[None]:
    """Trace with fvcore: eval mode, no warnings, and no hooks left behind where the network raises."""
    before = {id(module): (set(module._forward_hooks), set(module._forward_pre_hooks)) for module in net.modules()}
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    try:
        with eval_mode(net), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module in net.modules():
            hooks, pre_hooks = before.get(id(module), (set(), set()))
            for table, known in ((module._forward_hooks, hooks), (module._forward_pre_hooks, pre_hooks)):
                for key in [key for key in table if key not in known]:
                    del table[key]


class _PlainOutputs(nn.Module):
    """The network with its outputs as a plain tuple of tensors, which a jit trace can take."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_flat_tensors(self.net(*inputs)))


def _flat_tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _flat_tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _flat_tensors(value)


def _mac_handles() -> dict[str, Any]:
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        bmm_flop_jit,
        conv_flop_jit,
        einsum_flop_jit,
        get_shape,
        linear_flop_jit,
    )

    def matmul(inputs: Any, outputs: Any) -> int:
        left, out = get_shape(inputs[0]), get_shape(outputs[0])
        return math.prod(out) * left[-1]

    def attention(inputs: Any, outputs: Any) -> int:
        return attention_macs(*(get_shape(value) for value in inputs[:3]))

    def baddbmm(inputs: Any, outputs: Any) -> Any:
        return bmm_flop_jit(inputs[1:3], outputs)

    return {
        "aten::_convolution": conv_flop_jit, "aten::linear": linear_flop_jit, "aten::addmm": addmm_flop_jit,
        "aten::mm": matmul, "aten::matmul": matmul, "aten::bmm": bmm_flop_jit, "aten::baddbmm": baddbmm,
        "aten::einsum": einsum_flop_jit, "aten::scaled_dot_product_attention": attention,
    }


def _cross_check(macs: int, graph: Graph, name: str) -> None:
    other = sum(node.flop_macs for node in graph.nodes)
    if macs != other:
        raise CountError(
            f"fvcore counts {macs:,} MACs in {name} and torch's counter {other:,}: neither is printed, "
            "please report this network"
        )


def _unit_cost(net: nn.Module, site: Site, attention: str, reduction: int | None, height: int, width: int) -> Cost:
    """One attention module on one map, traced and counted alone."""
    with seeded():
        module = build_placed(net, [site], attention, reduction)[0].attention.eval()
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    x = torch.ones(1, site.channels, height, width, dtype=like.dtype, device=like.device)
    graph = trace(module, (x,))
    macs = fvcore_macs(module, (x,))
    _cross_check(macs, graph, f"{attention} r={reduction} at {site.channels}x{height}x{width}")
    gates = gate_elements(graph, find_attention(graph, frozenset(("",))))
    return graph_cost(graph, macs, gates, sum(parameter.numel() for parameter in module.parameters()))


def _sum_nodes(nodes: Sequence[tuple[int, Node]], macs: int, gates: dict[int, int], params: int) -> Cost:
    other_ops, activations, traffic, kernels = 0, 0, 0, 0
    unsupported: Counter[str] = Counter()
    for index, node in nodes:
        if node.op == "input" or node.view:
            continue
        kernels += 1
        traffic += node.bytes
        if node.flop_macs:
            activations += node.numel
        elif index in gates:
            continue
        else:
            count = _other_ops(node)
            if count is None:
                unsupported[node.op] += 1
            else:
                other_ops += count
    return Cost(params, macs + sum(gates.values()), other_ops, activations, traffic, kernels, unsupported)


def _other_ops(node: Node) -> int | None:
    """Elementary operations of a node that is no MAC: None where it is not known what it does."""
    op = node.op.removesuffix("_")
    if any(mark in op for mark in _NORM_MARKS):
        return _NORM_OPS_PER_ELEMENT * node.numel
    if op in _REDUCTIONS or op.startswith(("upsample", "_upsample")):
        return max(node.in_numel, node.numel)
    if op in _ELEMENTWISE:
        return node.numel
    return 0 if op in _COPIES else None


def _under(paths: Sequence[str]) -> Any:
    return lambda path: any(path == parent or path.startswith(f"{parent}.") for parent in paths)

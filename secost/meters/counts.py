"""What a network costs on paper: parameters, MACs, other operations, memory traffic, operations launched.

Conventions. A MAC is one multiply-add of a convolution, a linear or recurrent layer, a matrix product or an einsum,
or one multiplication of a gate with an element of its map (`MAC_CONVENTION`); biases are none. MACs are fvcore's
(`macs`) and are checked against torch's own counter on the graph of `networks.tracing`; a difference is an error.
`other_ops` are what `macs` says; `activations` are elements put out by layers and matrix products; `memory_bytes`
is what all operations read and write as eager PyTorch runs them, one by one, and `kernels` how many they are, both
without views and allocations. All of it is for one image, in eval mode, whatever mode the network is in, and of a
steady pass: what a network keeps from its first pass (a table of biases) is there already.

Memory is that of the precision the network runs in: for bf16 it is cast, as `.to(torch.bfloat16)` casts (what is no
floating-point number stays, as the indices of a max-pool do). Of int8 none is claimed: which operations a backend
rounds and which it fuses is its own choice, and eager has no such pass.

Attention's cost is additive over sites: each distinct (attention, channels, height, width, reduction, spelling) is
traced once, and all that one variant needs in the same trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secost.errors import CountError
from secost.meters.macs import (
    cached_fvcore_macs,
    fvcore_macs,
    fvcore_macs_by_module,
    fvcore_total,
    is_view,
    operation_class,
    other_ops,
)
from secost.networks.attended import attached_paths
from secost.networks.cache import cached_trace
from secost.networks.recognition import find_attention, gate_elements
from secost.networks.sites import Site
from secost.networks.surgery import build_placed, seeded
from secost.networks.tracing import Graph, Node, trace
from secost.plan.trials import BASELINE
from secost.plan.variants import for_sites, is_mix

MAC_CONVENTION = (
    "conv + linear + matmul + einsum + gating product, one MAC per multiply-add, no bias, no norm, no pooling"
)
_VECTOR_PRODUCTS = frozenset(("mv", "dot", "vdot"))  # torch's counter has no rule for them
_SHARES = ("params", "macs", "other_ops", "memory_bytes", "kernels")
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ACTIVATIONS = frozenset(
    "relu relu6 silu gelu hardswish hardsigmoid hardtanh leaky_relu elu celu selu mish softplus _prelu_kernel".split()
)


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
        return Cost(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})


@dataclass(frozen=True)
class SiteCost:
    """What attention adds at one site."""

    site: Site
    cost: Cost


class _UnitKey(NamedTuple):
    """What the cost of one attention module on one map depends on."""

    attention: str
    reduction: int | None
    site: tuple[int, int, int]  # channels, height, width that it is built for
    map: tuple[int, int]
    channels_last: bool
    spelling: str | None
    dtype: torch.dtype | None

    @classmethod
    def of(cls, site: Site, attention: str, reduction: int | None, spelling: str | None, dtype: torch.dtype | None,
           ) -> list[_UnitKey]:
        """One for each call of the module at a site."""
        built_for = (site.channels, site.height, site.width)
        return [cls(attention, reduction, built_for, size, site.channels_last, spelling, dtype) for size in site.maps]

    def __str__(self) -> str:
        ratio = "" if self.reduction is None else f" r={self.reduction}"
        return f"{self.attention}{ratio} at {'x'.join(map(str, (self.site[0], *self.map)))}"


def network_cost(net: nn.Module, inputs: tuple[Tensor, ...], graph: Graph) -> Cost:
    """The cost of a network for one image; `graph` is the trace of this very network.

    Raises CountError where fvcore and torch's own counter disagree on convolutions, linear layers and products.
    """
    # A graph of real tensors may depend on their values, so that nothing about it is kept.
    count = cached_fvcore_macs if graph.on_meta else fvcore_macs
    layers = count(net, inputs, graph)
    counted = sum(map(node_macs, graph.nodes))
    needed = sum(node_macs(node) for index, node in enumerate(graph.nodes) if graph.needed >> index & 1)
    if layers not in (counted, needed):  # eager runs what no output needs, so it is counted, but from the graph
        raise _disagreement(layers, counted, type(net).__name__, "network")
    gates = gate_elements(graph, find_attention(graph, attached_paths(net)))
    return graph_cost(graph, gates, _parameters(net))


def attention_cost(net: nn.Module, sites: Sequence[Site], attention: str, reduction: int | None,
                   known: dict[Any, Cost], spelling: str | None = None, dtype: torch.dtype | None = None,
                   ) -> list[SiteCost]:
    """What an attention, in one of its spellings, adds at each site; of a mix, at each that has one. `known` keeps
    units traced already, for the next call; `dtype` is what network and attention are cast to, where they are."""
    if is_mix(attention):
        choices = for_sites(attention, len(sites))
        return [cost for site, (name, r) in zip(sites, choices, strict=True) if name != BASELINE
                for cost in attention_cost(net, [site], name, r, known, None, dtype)]
    keys = [_UnitKey.of(site, attention, reduction, spelling, dtype) for site in sites]
    missing = {key: site for site, calls in zip(sites, keys, strict=True) for key in calls if key not in known}
    if missing:
        known.update(_unit_costs(net, missing, dtype))
    costs = []
    for site, calls in zip(sites, keys, strict=True):
        once = [known[key] if index == 0 else replace(known[key], params=0) for index, key in enumerate(calls)]
        costs.append(SiteCost(site, sum(once, Cost())))
    return costs


def native_cost(graph: Graph, net: nn.Module, paths: Sequence[str]) -> Cost:
    """The share of a network's own attention, read off its graph: the modules at `paths`."""
    nodes, gates = _inside(graph, paths, gate_elements(graph, find_attention(graph)))
    params = {id(p): p.numel() for path in paths for p in net.get_submodule(path).parameters()}
    return _sum_nodes(nodes, gates, sum(params.values()))


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
    of_site = ("path", "stage", "channels", "height", "width", "calls")
    return [{name: getattr(item.site if name in of_site else item.cost, name) for name in (*of_site, *_SHARES)}
            for item in costs]


def graph_cost(graph: Graph, gates: dict[int, int], params: int) -> Cost:
    """The cost of a whole graph: the MACs of its layers plus one for each element that a gate scales."""
    return _sum_nodes(enumerate(graph.nodes), gates, params)


def node_macs(node: Node) -> int:
    """MACs of one operation of a graph, gating products left out."""
    return node.in_numel if node.op in _VECTOR_PRODUCTS else node.flop_macs


def _disagreement(layers: int, counted: int, what: str, kind: str) -> CountError:
    return CountError(f"fvcore counts {layers:,} MACs in {what} and torch's counter {counted:,}: neither is printed, "
                      f"please report this {kind}")


def _unit_costs(net: nn.Module, units: dict[_UnitKey, Site], dtype: torch.dtype | None) -> dict[_UnitKey, Cost]:
    """Each unit's cost, by tracing them all side by side: a trace has a fixed price."""
    with seeded(), _UndrawnWeights():
        placed = [build_placed(net, [site], key.attention, key.reduction, key.spelling) for key, site in units.items()]
    side_by_side = _SideBySide([item.attention for (item,) in placed]).eval()
    maps = tuple(_empty_map(net, key) for key in units)
    graph = trace(side_by_side, maps, dtype)
    layers = fvcore_macs_by_module(side_by_side, maps)
    paths = [f"{_SideBySide.UNITS}.{index}" for index in range(len(placed))]
    gates = gate_elements(graph, find_attention(graph, frozenset(paths)))
    costs = {}
    for key, path, module in zip(units, paths, side_by_side.units, strict=True):
        nodes, own_gates = _inside(graph, [path], gates)
        counted = sum(node_macs(node) for _, node in nodes)
        if layers[path] != counted:
            raise _disagreement(layers[path], counted, str(key), "attention")
        costs[key] = _sum_nodes(nodes, own_gates, _parameters(module))
    return costs


class _SideBySide(nn.Module):
    """Attention modules that have nothing to do with each other, each on its own map."""

    UNITS = "units"

    def __init__(self, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(unit(x) for unit, x in zip(self.units, maps, strict=True))


class _UndrawnWeights(TorchFunctionMode):
    """Zeros in place of drawn weights: counts don't depend on them, and drawing 11 million takes half the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            with torch.no_grad():
                return tensor.zero_()
        return func(*args, **kwargs)


def _empty_map(net: nn.Module, key: _UnitKey) -> Tensor:
    """A map of zeros as the unit gets it, in the network's precision and in its layout in memory."""
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    channels, (height, width) = key.site[0], key.map
    if key.channels_last:
        return torch.zeros(1, height, width, channels, dtype=like.dtype, device=like.device).permute(0, 3, 1, 2)
    return torch.zeros(1, channels, height, width, dtype=like.dtype, device=like.device)


def _inside(graph: Graph, paths: Sequence[str], gates: dict[int, int]) -> tuple[list[tuple[int, Node]], dict[int, int]]:
    """The nodes and the gates that ran in the modules at these paths."""
    within = (*(f"{path}." for path in paths),)
    nodes = [(index, node) for index, node in enumerate(graph.nodes) if f"{node.path}.".startswith(within)]
    return nodes, {index: gates[index] for index, _ in nodes if index in gates}


def _sum_nodes(nodes: Iterable[tuple[int, Node]], gates: dict[int, int], params: int) -> Cost:
    macs, others, activations, traffic, kernels = sum(gates.values()), 0, 0, 0, 0
    unsupported: Counter[str] = Counter()
    for index, node in nodes:
        if node.op == "input" or is_view(node):
            continue
        kernels += 1
        traffic += node.bytes
        if layer := node_macs(node):
            macs += layer
            activations += node.numel
        elif index not in gates:
            count = other_ops(node)
            others += count or 0
            unsupported.update([node.op] if count is None else [])
    return Cost(params, macs, others, activations, traffic, kernels, unsupported)


def _parameters(net: nn.Module) -> int:
    """Learnable parameters, frozen ones too; tied ones once."""
    return sum(parameter.numel() for parameter in net.parameters())


# --- the same network under every tool's convention ------------------------------------------------------------------


def conventions(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """Rows of convention, count, and which tools count so: why two counters' numbers differ. All for one image.

    fvcore's own total is fvcore's; everything else is derived from the checked layer count by adding terms. Each tool's
    rule was read from its source and tried on ResNet-50 at 224 px, where every row meets the tool's own number to the
    last digit that it prints. On other networks a tool may deviate by faults of its own, which no convention describes:
    thop and ptflops (pytorch) look modules up by their exact type and so miss subclasses (timm's `BatchNormAct2d`,
    `Conv2dSame`), and nobody but fvcore sees a norm that is written as a function.
    """
    graph = cached_trace(net, inputs)
    macs = network_cost(net, inputs, graph).macs
    layers = sum(node_macs(node) for node in graph.nodes)
    bias = sum(node.numel for node in graph.nodes if node.op == "addmm" or (
        node.op in ("convolution", "_convolution") and len(node.inputs) == 3
    ))
    # Of modules that are no convolution and no linear layer: norms, layer scales.
    others = [module for module in net.modules() if not isinstance(module, _LAYERS)]
    other_parameters = sum(item.numel() for module in others for item in module.parameters(recurse=False))
    norm = sum(node.numel for node in graph.nodes if operation_class(node.op) == "norm")
    activation = sum(node.numel for node in graph.nodes if node.op.removesuffix("_") in _ACTIVATIONS)
    pooling, average = _pooling(graph, "Pool"), _pooling(graph, "AvgPool")
    rows = (
        ("secost macs", macs, "layers and gating products: the SENet paper's"),
        ("layers", layers, "convolution + linear + matrix product: calflops' and DeepSpeed's MACs, papers on ResNet"),
        ("layers + bias", layers + bias, "ptflops (aten)"),
        ("layers + bias + other parameters", layers + bias + other_parameters, "torchinfo's mult-adds"),
        ("fvcore's own total", fvcore_total(net, inputs),
         "fvcore, mmengine: add norms (2 an element in eval mode, 5 in train mode) and adaptive pooling, say flops"),
        ("layers + 4 x norm + average pooling", layers + 4 * norm + average, "thop"),
        ("layers + bias + 2 x (norm + activation + pooling)", layers + bias + 2 * (norm + activation + pooling),
         "ptflops (pytorch): counts activations and pooling as modules and again as functions"),
        ("FLOPs = 2 x layers", 2 * layers, "torch.utils.flop_counter"),
        ("FLOPs = 2 x (layers + norm) + activation + pooling", 2 * (layers + norm) + activation + pooling,
         "calflops' and DeepSpeed's FLOPs"),
    )
    return [{"convention": name, "count": count, "used by": tools} for name, count, tools in rows]


def _pooling(graph: Graph, kind: str) -> int:
    """Elements that pooling layers read. Adaptive pooling to 1x1 runs as a mean, so the module has to tell."""
    pools = {call.path for call in graph.calls if kind in call.kind}
    return sum(node.in_numel for node in graph.nodes if node.path in pools and operation_class(node.op) == "reduction")

"""What in a network's graph is attention, and the graph with that looked through: who reads a value, what made it.

Attention multiplies a map by a gate that was computed from the same map through a squeeze (something smaller than
the map: pooled, or of fewer channels) and a bounded function. Norms lack the bounded function, SiLU and GLU the
squeeze. A sub-network whose output is its own input times such gates can be taken out (`surgery.strip`); a gate
inside a larger module's forward can only be counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from secost.networks.tracing import CONSTANT, SPLITTERS, Call, Graph

_BOUNDED = frozenset(
    "sigmoid sigmoid_ hardsigmoid hardsigmoid_ tanh tanh_ softmax _softmax hardtanh hardtanh_ clamp clamp_".split()
)
RESHAPES = frozenset(
    "view _unsafe_view reshape permute transpose unsqueeze squeeze expand flatten alias clone _to_copy "
    "contiguous detach lift_fresh native_dropout copy".split()
)
# What may stand between the bounded function and the product: 1 + gate, a resized gate, a scaled one.
_GATE_TAIL = RESHAPES | frozenset(
    "add add_ mul mul_ div div_ rsub sub select slice split split_with_sizes chunk unbind "
    "upsample_nearest2d upsample_bilinear2d stack cat".split()
)
ADDITIONS = frozenset(("add", "add_"))
_GATING, _JOINING = frozenset(("mul", "mul_")), ADDITIONS | frozenset(("maximum", "max"))
PRODUCTS = _GATING | frozenset(("div", "div_"))
CONVOLUTIONS = frozenset(("convolution", "_convolution"))
NORMS = frozenset(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
    "native_layer_norm native_group_norm _fused_rms_norm".split()
)
ACTIVATIONS = frozenset(
    "relu relu_ silu silu_ gelu gelu_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ celu "
    "sigmoid sigmoid_ tanh tanh_ mish mish_ softplus _prelu_kernel prelu hardsigmoid hardsigmoid_ clamp clamp_min "
    "clamp_min_".split()
)
LINEAR = frozenset(("addmm", "mm", "bmm", "addbmm"))
CUTS = frozenset(("slice", "select", "narrow"))
_GLOBAL_POOLING = frozenset("mean sum amax _adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d".split())
_PASSED_BY = frozenset(("constant_pad_nd", "cat", *SPLITTERS))
_VIEWS = frozenset(("view", "_unsafe_view", "reshape", "contiguous", "clone"))
_RESIZES = ("upsample", "_upsample", "grid_sampler", "pixel_shuffle")


@dataclass(frozen=True)
class FoundAttention:
    """Attention in a graph: the module it can be taken out by (None: inside a larger forward), its values and products.

    `source` and `output` are the map before and after; `gates` are the indices of its gating products.
    """

    path: str | None
    source: int
    output: int
    gates: tuple[int, ...]
    start: int
    end: int


def find_attention(graph: Graph, ours: frozenset[str] = frozenset()) -> list[FoundAttention]:
    """Every attention in the graph, in the order of the data. `ours` are paths of modules known to be attention."""
    attentions: list[FoundAttention] = []
    for call in graph.calls:  # outermost first, so that CBAM is found before its two halves
        if attentions and call.start >= attentions[-1].start and call.end <= attentions[-1].end:
            continue
        attention = _of_call(graph, call, call.path in ours)
        if attention is not None:
            attentions.append(attention)
    attentions += _inside_larger_modules(graph, attentions)
    return sorted(attentions, key=lambda attention: attention.start)


def _of_call(graph: Graph, call: Call, known: bool) -> FoundAttention | None:
    """The call as attention: one map in, the same map out, times gates (or plus a broadcast context)."""
    maps = [index for index in (*call.inputs, *call.keywords) if len(graph.nodes[index].shape) == 4]
    if not call.path or len(maps) != 1 or len(call.outputs) != 1 or call.start == call.end:
        return None
    source, output = maps[0], call.outputs[0]
    if graph.nodes[source].shape != graph.nodes[output].shape or output == source:
        return None
    gates = _chain(graph, output, source, known)
    if not gates and not known:
        return None
    return FoundAttention(call.path, source, output, tuple(sorted(set(gates or ()))), call.start, call.end)


def _chain(graph: Graph, value: int, source: int, known: bool) -> tuple[int, ...] | None:
    """Walk from `value` back to `source` through gates only: the gates passed, or None where other work is done.

    A broadcast context that is added (global context attention) is passed too, marked by the index of its sum.
    """
    if value == source:
        return ()
    if value < source:
        return None
    node = graph.nodes[value]
    operands = [index for index in node.inputs if index != CONSTANT]
    if node.op in RESHAPES and operands:
        return _chain(graph, operands[0], source, known)
    if len(operands) != 2 or node.op not in _GATING | _JOINING:
        return None
    for carried, beside in (operands, operands[::-1]):
        passed = _chain(graph, carried, source, known)
        if passed is None:
            continue
        if node.op in _GATING:
            if known or is_gate(graph, beside, source):
                return (*passed, value)
            continue
        other = _chain(graph, beside, source, known)
        if other is not None:
            return (*passed, *other)  # x + x * gate, or the sum of two gated copies
        if graph.nodes[beside].numel < node.numel and graph.ancestors[beside] >> source & 1:
            return (*passed, value)  # a context vector added to every position
    return None


def is_gate(graph: Graph, gate: int, source: int) -> bool:
    """Whether `gate` was computed from `source` through a squeeze and ends in a bounded function."""
    if not graph.ancestors[gate] >> source & 1 or not _ends_bounded(graph, gate):
        return False
    size = graph.nodes[source].numel
    return any(graph.nodes[index].numel < size for index in (*graph.between(source, gate), gate))


def _ends_bounded(graph: Graph, gate: int) -> bool:
    seen, waiting = {CONSTANT}, [gate]
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        node = graph.nodes[index]
        if node.op in _BOUNDED:
            return True
        if node.op in _GATE_TAIL:
            waiting += node.inputs
    return False


def _inside_larger_modules(graph: Graph, of_modules: list[FoundAttention]) -> list[FoundAttention]:
    """Gating products written out in a larger module's forward: to be counted, not to be taken out."""
    inside = _covered(of_modules)
    extra = []
    for index, node in enumerate(graph.nodes):
        operands = [source for source in node.inputs if source != CONSTANT]
        if node.op not in _GATING or len(operands) != 2 or len(node.shape) < 4 or inside(index):
            continue
        for carried, gate in (operands, operands[::-1]):
            source = skip_reshapes(graph, carried)
            if graph.nodes[carried].numel == node.numel and source != gate and is_gate(graph, gate, source):
                first = min(graph.between(source, gate), default=index)
                extra.append(FoundAttention(None, source, index, (index,), first, index + 1))
                break
    return extra


def _covered(attentions: list[FoundAttention]) -> Callable[[int], bool]:
    """A test whether a node ran inside one of the modules found."""
    ranges = [range(attention.start, attention.end) for attention in attentions if attention.path is not None]
    return lambda index: any(index in span for span in ranges)


def skip_reshapes(graph: Graph, value: int) -> int:
    """The value behind views, permutations and copies."""
    while graph.nodes[value].op in RESHAPES and graph.nodes[value].inputs[:1] not in ([], [CONSTANT]):
        value = graph.nodes[value].inputs[0]
    return value


def gate_elements(graph: Graph, attentions: list[FoundAttention]) -> dict[int, int]:
    """For each gating product (by node index) the elements of the map that it scales: its MACs.

    A sum that adds a context vector is no product and counts nothing here.
    """
    return {index: graph.nodes[index].numel for attention in attentions for index in attention.gates
            if graph.nodes[index].op in _GATING}


class View:
    """The questions about single values of a graph; each is answered once."""

    def __init__(self, graph: Graph, ours: frozenset[str]) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.attention: list[FoundAttention] = find_attention(graph, ours)
        self.gated = {item.output: item.source for item in self.attention}
        self.in_attention = _covered(self.attention)

    def operands(self, index: int) -> list[int]:
        """What a node reads of the network's data."""
        return [source for source in self.nodes[index].inputs if source != CONSTANT]

    def readers(self, value: int) -> list[int]:
        """Who reads a value, with existing attention looked through."""
        readers = [reader for reader in self.graph.consumers[value] if not self.in_attention(reader)]
        readers += [reader for output, source in self.gated.items() if source == value
                    for reader in self.readers(output)]
        gates = {index for attention in self.attention for index in attention.gates if attention.path is None}
        return [reader for reader in dict.fromkeys(readers) if reader not in gates and not self._feeds_gate(reader)]

    def _feeds_gate(self, reader: int) -> bool:
        """Whether a reader only serves the gate of attention written out in a larger forward."""
        return any(item.path is None and item.start <= reader < item.end - 1
                   and self.graph.ancestors[item.output] >> reader & 1 for item in self.attention)

    @cached_property
    def convs(self) -> list[int]:
        """Convolutions on maps, in the order of the data; those inside attention are left out."""
        return [index for index, node in enumerate(self.nodes)
                if node.op in CONVOLUTIONS and self.graph.depends[index] and len(node.shape) == 4
                and not self.in_attention(index) and not self._is_fully_connected(index)]

    def _is_fully_connected(self, conv: int) -> bool:
        """A linear layer in another spelling: on a pooled map, or with a kernel that covers the whole input.

        A 1x1 convolution on a map that only a small image has made 1x1 is none.
        """
        node = self.nodes[conv]
        kernel = (node.weight_shape or [])[2:]
        if node.shape[2:] != [1, 1] or self.nodes[node.inputs[0]].shape[2:] != kernel:
            return False
        return kernel != [1, 1] or self._pooled[node.inputs[0]]

    @cached_property
    def _pooled(self) -> list[bool]:
        """For each value whether it is a map that pooling, or a kernel as large as the map, has made 1x1."""
        pooled: list[bool] = []
        for node in self.nodes:
            source = next((index for index in node.inputs if index != CONSTANT), None)
            before = node.op in _GLOBAL_POOLING or (source is not None and pooled[source])
            if node.op in CONVOLUTIONS and source is not None and len(node.shape) == 4:
                kernel = (node.weight_shape or [])[2:]
                before = before or (kernel != [1, 1] and self.nodes[source].shape[2:] == kernel)
            pooled.append(before and math.prod(node.shape[2:]) == 1)
        return pooled

    def is_depthwise(self, index: int) -> bool:
        node = self.nodes[index]
        if node.op not in CONVOLUTIONS or node.weight_shape is None or node.groups < 2:
            return False
        out, per_group, *kernel = node.weight_shape
        return per_group == 1 and out % node.groups == 0 and max(kernel) > 1

    def is_pointwise(self, index: int) -> bool:
        node = self.nodes[index]
        return node.op in CONVOLUTIONS and node.weight_shape is not None and node.weight_shape[2:] == [1, 1]

    def widening(self, conv: int) -> float:
        """Output channels of a convolution for each input channel."""
        out, into, *_ = self.nodes[conv].weight_shape or [1, 1]
        return out / into

    def conv_behind(self, value: int) -> int | None:
        """The convolution that made a value, through norms, activations and gates."""
        while value != CONSTANT:
            if value in self.gated:
                value = self.gated[value]
                continue
            node = self.nodes[value]
            if node.op in CONVOLUTIONS:
                return value
            if node.op not in NORMS | ACTIVATIONS | RESHAPES | _PASSED_BY:
                return None
            if node.op == "cat" and not all(self.nodes[part].op in CONVOLUTIONS for part in node.inputs):
                return None  # kernel groups of one convolution (MixNet) only, not maps put together (GhostNet)
            value = next(iter(self.operands(value)), CONSTANT)
        return None

    def conv_after(self, value: int) -> int | None:
        """The one convolution that reads a value, padding and splitting into kernel groups looked through.

        Parallel convolutions of the same value (RepVGG, MobileOne) count as one: the first of them.
        """
        readers = self.readers(value)
        while readers and all(self.nodes[reader].op in _PASSED_BY or self.is_view(reader) for reader in readers):
            readers = self.readers(readers[0])
        convs = [reader for reader in readers if self.nodes[reader].op in CONVOLUTIONS]
        alone = all(reader in convs or self.nodes[reader].op in NORMS for reader in readers)
        return convs[0] if convs and alone and self._same_kernels(convs) else None

    def _same_kernels(self, convs: list[int]) -> bool:
        """Whether all are depthwise or all pointwise or there is one alone: parallel spellings of one convolution."""
        return len(convs) == 1 or all(self.is_depthwise(c) for c in convs) or all(self.is_pointwise(c) for c in convs)

    def is_view(self, index: int) -> bool:
        """A map seen as a map again (conditional convolutions put the batch into the groups)."""
        node = self.nodes[index]
        return node.op in _VIEWS and len(node.shape) == 4 and len(self.nodes[node.inputs[0]].shape) == 4

    def is_resized(self, index: int) -> bool:
        """Whether a node makes a larger map of a smaller one, by interpolation or by a transposed convolution."""
        node = self.nodes[index]
        return node.op.startswith(_RESIZES) or (
            node.op in CONVOLUTIONS and node.shape[2:] > self.nodes[node.inputs[0]].shape[2:] and node.stride > 1)

    def cuts_channels(self, index: int) -> bool:
        """Whether a node takes part of a map's channels (Res2Net), not one of several joined maps (DPN)."""
        node = self.nodes[index]
        if node.op in SPLITTERS:
            return True
        before = self.nodes[node.inputs[0]] if node.inputs else node
        return node.op in CUTS and node.dims == [1] and node.numel < before.numel and before.op != "cat"

    def is_map(self, index: int) -> bool:
        return len(self.nodes[index].shape) == 4 and math.prod(self.map_shape(index)[1:]) > 1

    def map_shape(self, value: int) -> tuple[int, int, int]:
        """Channels, height and width of a 4-D value."""
        _, first, second, third = self.nodes[value].shape
        return (third, first, second) if self.channels_last[value] else (first, second, third)

    def map_size(self, value: int) -> float:
        """The side of a square map of the same area."""
        _, height, width = self.map_shape(value)
        return float((height * width) ** 0.5)

    @cached_property
    def channels_last(self) -> list[bool]:
        """For each value whether its channels are the last dimension (ConvNeXt's NHWC blocks)."""
        last: list[bool] = []
        for node in self.nodes:
            source = next((index for index in node.inputs if index != CONSTANT), None)
            before = source is not None and last[source]
            if node.op in ("permute", "transpose") and node.dims and len(node.dims) == 4:
                before = node.dims.index(3 if before else 1) == 3
            elif node.op in CONVOLUTIONS:
                before = False
            last.append(before)
        return last

"""Finds the attention that a network already carries, by structure, in the graph of one forward pass.

Attention multiplies a map by a gate that was computed from the same map through a squeeze (something smaller than
the map: pooled, or of fewer channels) and a bounded function. Norms lack the bounded function, SiLU and GLU the
squeeze. A sub-network whose output is its own input times such gates can be taken out (`surgery.strip`); a gate
inside a larger module's forward can only be counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secost.networks.tracing import CONSTANT, Call, Graph

BOUNDED = frozenset(
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
PRODUCTS = frozenset(("mul", "mul_"))
SUMS = frozenset(("add", "add_", "maximum", "max"))


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
    found: list[FoundAttention] = []
    for call in graph.calls:  # outermost first, so that CBAM is found before its two halves
        if found and call.start >= found[-1].start and call.end <= found[-1].end:
            continue
        attention = _of_call(graph, call, call.path in ours)
        if attention is not None:
            found.append(attention)
    found += _inside_larger_modules(graph, found)
    return sorted(found, key=lambda attention: attention.start)


def _of_call(graph: Graph, call: Call, known: bool) -> FoundAttention | None:
    """The call as attention: one map in, the same map out, times gates (or plus a broadcast context)."""
    maps = [index for index in (*call.inputs, *call.keywords) if len(graph.nodes[index].shape) == 4]
    if not call.path or len(maps) != 1 or len(call.outputs) != 1 or call.start == call.end:
        return None
    source, output = maps[0], call.outputs[0]
    if graph.nodes[source].shape != graph.nodes[output].shape or output == source:
        return None
    gates = _chain(graph, output, source, known)
    if gates is None and not known:
        return None
    if gates == () and not known:
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
    if node.op in PRODUCTS and len(operands) == 2:
        return _through_product(graph, value, operands, source, known)
    if node.op in SUMS and len(operands) == 2:
        return _through_sum(graph, value, operands, source, known)
    return None


def _through_product(graph: Graph, value: int, operands: list[int], source: int, known: bool) -> tuple[int, ...] | None:
    for carried, gate in (operands, operands[::-1]):
        passed = _chain(graph, carried, source, known)
        if passed is not None and (known or is_gate(graph, gate, source)):
            return (*passed, value)
    return None


def _through_sum(graph: Graph, value: int, operands: list[int], source: int, known: bool) -> tuple[int, ...] | None:
    for carried, context in (operands, operands[::-1]):
        passed = _chain(graph, carried, source, known)
        if passed is None:
            continue
        other = _chain(graph, context, source, known)
        if other is not None:
            return (*passed, *other)  # x + x * gate, or the sum of two gated copies
        smaller = graph.nodes[context].numel < graph.nodes[value].numel
        if smaller and graph.ancestors[context] >> source & 1:
            return (*passed, value)  # a context vector added to every position
    return None


def is_gate(graph: Graph, gate: int, source: int) -> bool:
    """Whether `gate` was computed from `source` through a squeeze and ends in a bounded function."""
    if not graph.ancestors[gate] >> source & 1 or not _ends_bounded(graph, gate):
        return False
    size = graph.nodes[source].numel
    return any(graph.nodes[index].numel < size for index in (*graph.between(source, gate), gate))


def _ends_bounded(graph: Graph, gate: int) -> bool:
    seen: set[int] = set()
    waiting = [gate]
    while waiting:
        index = waiting.pop()
        if index in seen or index == CONSTANT:
            continue
        seen.add(index)
        node = graph.nodes[index]
        if node.op in BOUNDED:
            return True
        if node.op in _GATE_TAIL:
            waiting += node.inputs
    return False


def _inside_larger_modules(graph: Graph, found: list[FoundAttention]) -> list[FoundAttention]:
    """Gating products written out in a larger module's forward: to be counted, not to be taken out."""
    inside = covered(found)
    extra = []
    for index, node in enumerate(graph.nodes):
        if node.op not in PRODUCTS or inside(index):
            continue
        operands = [source for source in node.inputs if source != CONSTANT]
        if len(operands) != 2 or len(node.shape) < 4:
            continue
        for carried, gate in (operands, operands[::-1]):
            source = skip_reshapes(graph, carried)
            if graph.nodes[carried].numel == node.numel and source != gate and is_gate(graph, gate, source):
                first = min(graph.between(source, gate), default=index)
                extra.append(FoundAttention(None, source, index, (index,), first, index + 1))
                break
    return extra


def covered(found: list[FoundAttention]) -> Callable[[int], bool]:
    """A test whether a node ran inside one of the modules found."""
    ranges = [range(attention.start, attention.end) for attention in found if attention.path is not None]
    return lambda index: any(index in span for span in ranges)


def skip_reshapes(graph: Graph, value: int) -> int:
    """The value behind views, permutations and copies."""
    while graph.nodes[value].op in RESHAPES and graph.nodes[value].inputs[:1] not in ([], [CONSTANT]):
        value = graph.nodes[value].inputs[0]
    return value


def gate_elements(graph: Graph, found: list[FoundAttention]) -> dict[int, int]:
    """For each gating product (by node index) the elements of the map that it scales: its MACs.

    A sum that adds a context vector is no product and counts nothing here.
    """
    return {
        index: graph.nodes[index].numel
        for attention in found
        for index in attention.gates
        if graph.nodes[index].op in PRODUCTS
    }

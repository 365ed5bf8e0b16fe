"""Residual additions: which sums of a graph join a branch to an identity or a projection of the same value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from secost.networks.view import ACTIVATIONS, ADDITIONS, CONVOLUTIONS, NORMS, View


@dataclass(frozen=True)
class Addition:
    """A residual addition: the values it adds, and the value that both sides came from."""

    node: int
    branch: int
    shortcut: int
    start: int


@dataclass(frozen=True, order=True)
class _Side:
    """One side of an addition: convolutions on its longest way (and those that are not depthwise), and its nature."""

    convs: int
    full_convs: int
    identity: bool
    may_be_shortcut: bool
    resized: bool


class Residuals:
    """The residual additions of a graph."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.graph, self.nodes = view.graph, view.nodes

    @cached_property
    def additions(self) -> list[Addition]:
        found = [self._addition(index) for index, node in enumerate(self.nodes) if node.op in ADDITIONS]
        return [addition for addition in found if addition is not None]

    @cached_property
    def nodes_of_additions(self) -> frozenset[int]:
        return frozenset(addition.node for addition in self.additions)

    def is_parallel_sum(self, index: int) -> bool:
        """A sum of convolutions of one value (RepVGG): each side is one convolution long at most."""
        node, operands = self.nodes[index], self.view.operands(index)
        if node.op not in ADDITIONS or index in self.nodes_of_additions:
            return False
        if len(operands) == 1:  # 0 + x, as a sum begins that is written as a loop
            return True
        start = self._common_start(index, operands)
        return start is not None and all(self._side(source, start).convs <= 1 for source in operands)

    def after_activation(self, value: int) -> int:
        """The value behind the activations that alone read this one."""
        readers = self.view.readers(value)
        while len(readers) == 1 and self.nodes[readers[0]].op in ACTIVATIONS:
            value = readers[0]
            readers = self.view.readers(value)
        return value

    def convs_between(self, start: int, value: int) -> int:
        """Convolutions on the longest way from one value to another."""
        return self._side(value, start).convs

    def _addition(self, index: int) -> Addition | None:
        operands = self.view.operands(index)
        if len(self.nodes[index].shape) != 4 or self.view.in_attention(index):
            return None
        start = self._common_start(index, operands)
        if start is None:
            return None
        sides = sorted((self._side(source, start), source) for source in operands)
        (shortcut, shortcut_value), (branch, branch_value) = sides
        if branch.resized or not shortcut.may_be_shortcut:
            return None
        needed = 1 if shortcut.identity else 2
        if branch.convs < needed or branch.full_convs < shortcut.full_convs or branch.convs <= shortcut.convs:
            return None
        return Addition(index, branch_value, shortcut_value, start)

    def _common_start(self, index: int, operands: list[int]) -> int | None:
        """The last value that both operands of a sum of equal shapes came from."""
        if len(operands) != 2 or any(self.nodes[source].shape != self.nodes[index].shape for source in operands):
            return None
        masks = self.graph.ancestors
        start = (masks[operands[0]] & masks[operands[1]]).bit_length() - 1
        return None if start < 0 else start

    def _side(self, value: int, start: int) -> _Side:
        """What lies between `start` and one operand of an addition."""
        if value == start:
            return _Side(0, 0, True, True, False)
        way = [*self.graph.between(start, value), value]
        longest, unresized = {start: (0, 0)}, {start}
        for index in way:
            sources = self.nodes[index].inputs
            convs, full = max((longest[source] for source in sources if source in longest), default=(0, 0))
            if self.nodes[index].op in CONVOLUTIONS and not self.view.in_attention(index):
                convs, full = convs + 1, full + (not self.view.is_depthwise(index))
            longest[index] = (convs, full)
            if not self.view.is_resized(index) and any(source in unresized for source in sources):
                unresized.add(index)
        convs, full = longest[value]
        plain = [index for index in way if not self.view.in_attention(index)]
        identity = convs == 0 and not any(self.nodes[index].op in NORMS for index in plain)
        # Part of the block's own input (Res2Net) is no identity; part of a projection (DPN) is a projection.
        cut = any(self.view.cuts_channels(index) and longest[index][0] == 0 for index in way)
        resized = value not in unresized  # a gate that is resized (GhostNetV2) leaves a way without it
        return _Side(convs, full, identity, full <= 1 and not cut and not resized, resized)

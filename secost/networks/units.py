"""What a network is built of, read off its graph: residual additions, convolution units, the stem and the stages.

A residual addition is a sum that joins a branch to an identity or a projection of the same value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from secost.networks.recognition import ACTIVATIONS, ADDITIONS, CONVOLUTIONS, LINEAR, NORMS, RESHAPES, View

_STAGE_DROP = 1.5  # a map this much smaller than the last begins a new stage (valid padding shrinks maps a little)
_LONGEST_STEM = 6  # convolutions: Inception's has 5; a network with more before its first block begins plain


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
        sums = [self._addition(index) for index, node in enumerate(self.nodes) if node.op in ADDITIONS]
        return [addition for addition in sums if addition is not None]

    def is_parallel_sum(self, index: int) -> bool:
        """A sum of convolutions of one value (RepVGG): each side is one convolution long at most."""
        node, operands = self.nodes[index], self.view.operands(index)
        if node.op not in ADDITIONS or any(addition.node == index for addition in self.additions):
            return False
        if len(operands) == 1:  # 0 + x, as a sum begins that is written as a loop
            return True
        start = self._common_start(index, operands)
        return start is not None and all(self._side(source, start).convs <= 1 for source in operands)

    def after_activation(self, value: int) -> int:
        """The value behind the activations that alone read this one."""
        while len(readers := self.view.readers(value)) == 1 and self.nodes[readers[0]].op in ACTIVATIONS:
            value = readers[0]
        return value

    def convs_between(self, start: int, value: int) -> int:
        """Convolutions on the longest way from one value to another."""
        return self._side(value, start).convs

    def _addition(self, index: int) -> Addition | None:
        operands = self.view.operands(index)
        start = self._common_start(index, operands)
        if start is None or len(self.nodes[index].shape) != 4 or self.view.in_attention(index):
            return None
        sides = sorted((self._side(source, start), source) for source in operands)
        (shortcut, shortcut_value), (branch, branch_value) = sides
        needed = 1 if shortcut.identity else 2
        longer = branch.convs >= needed and branch.convs > shortcut.convs and branch.full_convs >= shortcut.full_convs
        if branch.resized or not shortcut.may_be_shortcut or not longer:
            return None
        return Addition(index, branch_value, shortcut_value, start)

    def _common_start(self, index: int, operands: list[int]) -> int | None:
        """The last value that both operands of a sum of equal shapes came from."""
        if len(operands) != 2 or any(self.nodes[source].shape != self.nodes[index].shape for source in operands):
            return None
        start = self.graph.last_common(*operands)
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


class Units:
    """The convolution units of a graph, in the order of the data."""

    def __init__(self, view: View, residuals: Residuals) -> None:
        self.view, self.residuals = view, residuals
        self.graph, self.nodes = view.graph, view.nodes

    @cached_property
    def depthwise(self) -> list[int]:
        convs = [conv for conv in self.view.convs if self.view.is_depthwise(conv)]
        return [conv for conv in convs if not self._is_added_to_input(conv)]

    @cached_property
    def expanded_depthwise(self) -> list[int]:
        """Depthwise convolutions of inverted residuals: expanded by a 1x1 before, projected by a 1x1 after."""
        return [conv for conv in self.depthwise if self._is_expanded(conv) and self._is_projected(conv)]

    @cached_property
    def depthwise_sites(self) -> list[int]:
        """All depthwise convolutions; in a network of inverted residuals not those that feed an expansion."""
        return [conv for conv in self.depthwise if not self.expanded_depthwise or not self._feeds_expansion(conv)]

    def _is_added_to_input(self, conv: int) -> bool:
        """A depthwise convolution summed with its own input (RepGhost's cheap map): part of another convolution."""
        readers = self.view.readers(conv)
        value = readers[0] if len(readers) == 1 else conv
        source = self.nodes[conv].inputs[0]
        return any(
            self.nodes[reader].op in ADDITIONS and self._adds(reader, source)
            and self.residuals.convs_between(source, value) == 1 and self.view.conv_behind(source) is not None
            for reader in self.view.readers(value)
        )

    def _adds(self, addition: int, source: int) -> bool:
        """Whether an addition has the source, or its norm, for an operand."""
        return any(operand == source or (self.nodes[operand].op in NORMS and self.nodes[operand].inputs[0] == source)
                   for operand in self.view.operands(addition))

    def _is_expanded(self, conv: int) -> bool:
        before = self.view.conv_behind(self.nodes[conv].inputs[0])
        return before is not None and self.view.is_pointwise(before) and self.view.widening(before) > 1

    def _is_projected(self, conv: int) -> bool:
        after = self.view.conv_after(self.end(conv))
        return after is not None and self.view.is_pointwise(after) and self.view.widening(after) < 1

    def _feeds_expansion(self, conv: int) -> bool:
        """Whether a depthwise convolution stands before its block's expansion (MobileNetV4's first one)."""
        expansion = self.view.conv_after(self.end(conv))
        if expansion is None or not self.view.is_pointwise(expansion) or self.view.widening(expansion) <= 1:
            return False
        after = self.view.conv_after(self.end(expansion))
        return after is not None and (self.view.is_depthwise(after) or self.view.widening(after) < 1)

    @cached_property
    def last_convs(self) -> list[int]:
        """Convolutions that end a unit, stem and class scores left out: a depthwise one goes with its pointwise one."""
        convs = [conv for conv in self.view.convs if conv not in self.stem and conv != self.head]
        # By their ends: a depthwise unit may hold other convolutions beside it (MobileOne).
        inner = {self.end(conv) for conv in convs if self.view.is_depthwise(conv) and self._leads_to_pointwise(conv)}
        return [conv for conv in convs if self.end(conv) not in inner]

    def _leads_to_pointwise(self, conv: int) -> bool:
        after = self.view.conv_after(self.end(conv))
        return after is not None and self.view.is_pointwise(after)

    def end(self, conv: int) -> int:
        """The last value of a convolution's unit: after its norm, its activation, and sums of parallel branches."""
        value = conv
        while len(readers := self.view.readers(value)) == 1 and self._is_part_of_unit(readers[0], value):
            value = readers[0]
        return value

    def _is_part_of_unit(self, index: int, before: int) -> bool:
        node = self.nodes[index]
        if node.op in NORMS | ACTIVATIONS or self.view.is_view(index) or self.residuals.is_parallel_sum(index):
            return True
        if node.op == "permute" and node.dims == [1, 0, 2, 3]:  # a conditional convolution takes the batch out again
            return True
        if node.op in ("permute", "transpose"):  # a norm over the last dimension, there and back
            readers = self.view.readers(index)
            back = self.view.channels_last[before] and not self.view.channels_last[index]
            leads_to_norm = len(readers) == 1 and self.nodes[readers[0]].op in NORMS
            return leads_to_norm or (back and self.nodes[before].op in NORMS)
        return node.op == "cat" and all(self.view.is_depthwise(part) for part in node.inputs)

    @cached_property
    def stem(self) -> frozenset[int]:
        """Convolutions before the first block: what brings the image to the working width.

        A block is a residual or depthwise one or holds ways that part (Inception, DenseNet, VoVNet); where none
        begins soon, the network is a plain one, and its stem is the first convolution if it strides (VGG's does not).
        """
        begins = [addition.start for addition in self.residuals.additions]
        begins += [self._block_start(conv) for conv in self.depthwise[:1]]
        begins += self._first_parting()
        before = frozenset(conv for conv in self.view.convs if begins and conv <= min(begins))
        if begins and len(before) <= _LONGEST_STEM:
            return before
        masks = self.graph.ancestors
        return frozenset(conv for conv in self.view.convs if self.nodes[conv].stride > 1
                         and not any(masks[conv] >> other & 1 for other in self.view.convs if other < conv))

    def _block_start(self, depthwise: int) -> int:
        """The value that a depthwise convolution's block begins with: before its expansion where it has one."""
        before = self.view.conv_behind(self.nodes[depthwise].inputs[0])
        first = before if before is not None and self._is_expanded(depthwise) else depthwise
        return self.nodes[first].inputs[0]

    def _first_parting(self) -> list[int]:
        """Where the first module begins in which ways of one map part and are joined again."""
        for index, node in enumerate(self.nodes):
            parts = self.view.operands(index)
            if node.op != "cat" or len(node.shape) != 4 or len(parts) < 2:
                continue
            start = self.graph.last_common(*parts[:2])
            if start >= self.graph.inputs:
                calls = [call for call in self.graph.calls if call.start <= index < call.end and call.path]
                return [min([start, *(call.start - 1 for call in calls[-1:])])]
        return []

    @cached_property
    def head(self) -> int | None:
        """A convolution that makes the class scores: the last weights before the output."""
        outputs = [index for index in self.graph.outputs if len(self.nodes[index].shape) == 2]
        if not outputs or not self.view.convs:
            return None
        last = self.view.convs[-1]
        later = any(node.op in LINEAR for node in self.nodes[last + 1 :])
        return last if self.nodes[last].shape[1] == self.nodes[outputs[0]].shape[-1] and not later else None


class Stages:
    """Which stage a value belongs to, counted from 1 in the order of the data, the stem not counted."""

    def __init__(self, view: View, residuals: Residuals, units: Units) -> None:
        self.view, self.residuals, self.units = view, residuals, units
        self.graph, self.nodes = view.graph, view.nodes

    def of(self, value: int) -> int:
        size = self._size(value)
        return sum(size * _STAGE_DROP <= earlier for earlier in self._sizes[:-1]) + 1 if self._sizes else 1

    @cached_property
    def ends(self) -> list[int]:
        """The last value of each stage that every way through the network passes."""
        ends: dict[int, int] = {}
        for value in self._trunk():
            if value > max(self.units.stem, default=0) and self._is_made_by_block(value):
                ends[self.of(value)] = self._block_end(value)
        return [ends[stage] for stage in sorted(ends)]

    def _block_end(self, value: int) -> int:
        """The end of the residual block behind a value that only norms come after (ConvNeXt's, before a step down)."""
        ends = {self.residuals.after_activation(addition.node) for addition in self.residuals.additions}
        behind = value
        while behind not in ends and self.nodes[behind].op in NORMS | ACTIVATIONS | RESHAPES:
            behind = next(iter(self.view.operands(behind)), behind)
        return behind if behind in ends else value

    @cached_property
    def _sizes(self) -> list[float]:
        """The map sizes that begin each stage, largest first, from the convolutions after the stem."""
        sizes: list[float] = []
        convs = [conv for conv in self.view.convs if conv not in self.units.stem] or self.view.convs
        for size in sorted({self._size(conv) for conv in convs}, reverse=True):
            if not sizes or sizes[-1] / size >= _STAGE_DROP:
                sizes.append(size)
        return sizes

    def _size(self, value: int) -> float:
        """The map size that decides a value's stage: that of the block it works for.

        A 1x1 convolution before a striding depthwise or grouped one, and one inside a residual branch, still see the
        larger map of the stage before; they belong to the stage that their block puts out.
        """
        for addition in self.residuals.additions:
            if addition.start < value <= addition.node and self.graph.ancestors[addition.node] >> value & 1:
                return self.view.map_size(addition.node)
        if self.view.is_pointwise(value):
            after = self.view.conv_after(self.units.end(value))
            if after is not None and self.nodes[after].groups > 1:
                return self.view.map_size(after)
        return self.view.map_size(value)

    def _is_made_by_block(self, value: int) -> bool:
        node, head = self.nodes[value], self.units.head
        if not self.view.is_map(value) or (head is not None and value in (head, self.units.end(head))):
            return False
        before = self.view.conv_behind(value)
        if before is not None and self.view.is_pointwise(before) and \
                self.view.conv_after(self.units.end(before)) in self.units.expanded_depthwise:
            return False  # the expansion of the next block
        return node.op in NORMS | ACTIVATIONS | CONVOLUTIONS | ADDITIONS or node.op == "cat"

    def _trunk(self) -> Iterator[int]:
        """Values that every way from input to output passes, in order."""
        if not self.graph.outputs:
            return
        on_way = self.graph.ancestors[self.graph.outputs[0]]
        open_until = 0
        for index in range(on_way.bit_length()):
            if on_way >> index & 1 and self.graph.depends[index]:
                if index >= open_until:
                    yield index
                readers = [reader for reader in self.graph.consumers[index] if on_way >> reader & 1]
                open_until = max([open_until, *readers])

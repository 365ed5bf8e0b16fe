"""Where attention can sit: the sites of a network, read off the graph of one forward pass.

A residual addition has a branch on one side and, on the other, an identity or a projection of the same value; the
branch's end is the site. Depthwise, stage and convolution sites are found by walking along the data in the same
graph. Existing attention is looked through, so a network has the same sites with and without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from secost.errors import NoSiteError, UnknownNameError
from secost.networks.recognition import RESHAPES, FoundAttention, find_attention, is_gate
from secost.networks.tracing import CONSTANT, SPLITTERS, Call, Graph
from secost.spec import INTEGRATIONS, PLACEMENTS

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
_ADDITIONS = frozenset(("add", "add_"))
_PRODUCTS = frozenset(("mul", "mul_", "div", "div_"))
_LINEAR = frozenset(("addmm", "mm", "bmm", "addbmm"))
_PASSED_BY = frozenset(("constant_pad_nd", "cat", *SPLITTERS))
_RESIZES = ("upsample", "_upsample", "grid_sampler", "pixel_shuffle")
_CONTAINERS = frozenset(("Sequential", "ModuleList", "ModuleDict", "SequentialTyped"))
_STAGE_DROP = 1.5  # a map this much smaller than the last begins a new stage (valid padding shrinks maps a little)


@dataclass(frozen=True)
class Site:
    """One place for attention: a module whose output (or input) is the map.

    `channels`, `height` and `width` are the map's at the traced resolution; `maps` has one (height, width) for each
    time the module is called. `side` tells whether the module's output or input is meant; `restore` names the module
    that gets the map back unchanged (identity integration, where the map feeds the branch as well). `occupied_by` is
    the attention that already reads this map, the network's own or ours.
    """

    path: str
    channels: int
    height: int
    width: int
    stage: int
    placement: str
    integration: str = "standard"
    side: str = "output"
    channels_last: bool = False
    maps: tuple[tuple[int, int], ...] = ()
    restore: str | None = None
    occupied_by: str | None = None

    @property
    def calls(self) -> int:
        return len(self.maps)


def find_sites(
    graph: Graph, placement: str = "auto", integration: str = "standard", stages: tuple[int, ...] | None = None,
    ours: frozenset[str] = frozenset(),
) -> list[Site]:
    """The sites of a traced network, in the order of the data; an empty list where there is none.

    `ours` are paths of modules known to be attention. Raises UnknownNameError for a placement or integration that
    does not exist, NoSiteError for an integration other than standard at a placement other than residual, and for a
    stage that the network does not have.
    """
    if placement not in PLACEMENTS:
        raise UnknownNameError("placement", placement, PLACEMENTS)
    if integration not in INTEGRATIONS:
        raise UnknownNameError("integration", integration, INTEGRATIONS)
    finder = _Finder(graph, ours)
    resolved = finder.auto_placement() if placement == "auto" else placement
    if integration != "standard" and resolved != "residual":
        raise NoSiteError(
            f"integration {integration!r} is about residual blocks and this placement is {resolved!r}: "
            "use --placement residual or --integration standard"
        )
    found = finder.sites(resolved, integration)
    if stages is not None and found:
        present = sorted({site.stage for site in found})
        missing = [stage for stage in stages if stage not in present]
        if missing:
            raise NoSiteError(
                f"no {resolved} site in stage {', '.join(map(str, missing))}: this network has them in stages "
                f"{', '.join(map(str, present))}"
            )
        found = [site for site in found if site.stage in stages]
    return found


@dataclass(frozen=True)
class _Addition:
    """A residual addition: the values it adds, and the value that both sides came from."""

    node: int
    branch: int
    shortcut: int
    start: int


class _Finder:
    """The questions that a graph answers about sites; each is computed once."""

    def __init__(self, graph: Graph, ours: frozenset[str]) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.attention: list[FoundAttention] = find_attention(graph, ours)
        self.inside = [range(found.start, found.end) for found in self.attention if found.path is not None]
        self.gated = {found.output: found.source for found in self.attention}

    # --- which placement, which sites -------------------------------------------------------------------------

    def auto_placement(self) -> str:
        if self.expanded_depthwise:
            return "depthwise"
        return "residual" if any(self._site_of_addition(a, "residual", "standard") for a in self.additions) else "conv"

    def sites(self, placement: str, integration: str) -> list[Site]:
        if placement == "residual":
            found = [self._site_of_addition(addition, placement, integration) for addition in self.additions]
        elif placement == "depthwise-pre":
            found = [self._site_before(conv, placement) for conv in self.depthwise_sites]
        else:
            found = [self._site(value, placement) for value in dict.fromkeys(self._values_at(placement))]
        return _merge_calls([site for site in found if site is not None])

    def _values_at(self, placement: str) -> list[int]:
        if placement == "stage":
            return self._stage_ends()
        convs = self.depthwise_sites if placement == "depthwise" else self._unit_convs()
        return [self._unit_end(conv) for conv in convs]

    # --- convolutions, stem, depthwise ------------------------------------------------------------------------

    @cached_property
    def convs(self) -> list[int]:
        """Convolutions on maps, in the order of the data; those inside attention are left out."""
        return [
            index for index, node in enumerate(self.nodes)
            if node.op in CONVOLUTIONS and self.graph.depends[index] and len(node.shape) == 4
            and not self._in_attention(index) and not self._is_fully_connected(index)
        ]

    def _is_fully_connected(self, conv: int) -> bool:
        """A convolution whose kernel covers its whole input: a linear layer in another spelling."""
        node = self.nodes[conv]
        kernel = (node.weight_shape or [])[2:]
        return node.shape[2:] == [1, 1] and self.nodes[node.inputs[0]].shape[2:] == kernel

    def is_depthwise(self, index: int) -> bool:
        node = self.nodes[index]
        if node.op not in CONVOLUTIONS or node.weight_shape is None or node.groups < 2:
            return False
        out, per_group, *kernel = node.weight_shape
        return per_group == 1 and out % node.groups == 0 and max(kernel) > 1

    def _is_pointwise(self, index: int) -> bool:
        node = self.nodes[index]
        return node.op in CONVOLUTIONS and node.weight_shape is not None and node.weight_shape[2:] == [1, 1]

    @cached_property
    def depthwise(self) -> list[int]:
        return [index for index in self.convs if self.is_depthwise(index) and not self._is_added_to_input(index)]

    def _is_added_to_input(self, conv: int) -> bool:
        """A depthwise convolution summed with its own input (RepGhost's cheap map): part of another convolution."""
        value = self._readers(conv)[0] if len(self._readers(conv)) == 1 else conv
        source = self.nodes[conv].inputs[0]
        return any(
            self.nodes[reader].op in _ADDITIONS and any(
                operand == source or (operand != CONSTANT and self.nodes[operand].op in NORMS
                                      and self.nodes[operand].inputs[0] == source)
                for operand in self.nodes[reader].inputs
            ) and self._side(value, source).convs == 1 and self._back_to_conv(source) is not None
            for reader in self._readers(value)
        )

    @cached_property
    def expanded_depthwise(self) -> list[int]:
        """Depthwise convolutions of inverted residuals: expanded by a 1x1 before, projected by a 1x1 after."""
        return [conv for conv in self.depthwise if self._is_expanded(conv) and self._is_projected(conv)]

    @cached_property
    def depthwise_sites(self) -> list[int]:
        """All depthwise convolutions; in a network of inverted residuals not those that feed an expansion."""
        if not self.expanded_depthwise:
            return self.depthwise
        return [conv for conv in self.depthwise if not self._feeds_expansion(conv)]

    def _is_expanded(self, conv: int) -> bool:
        before = self._back_to_conv(self.nodes[conv].inputs[0])
        if before is None or not self._is_pointwise(before):
            return False
        return self._widening(before) > 1

    def _is_projected(self, conv: int) -> bool:
        after = self._forward_to_conv(self._unit_end(conv))
        return after is not None and self._is_pointwise(after) and self._widening(after) < 1

    def _feeds_expansion(self, conv: int) -> bool:
        """Whether a depthwise convolution stands before its block's expansion (MobileNetV4's first one)."""
        expansion = self._forward_to_conv(self._unit_end(conv))
        if expansion is None or not self._is_pointwise(expansion) or self._widening(expansion) <= 1:
            return False
        after = self._forward_to_conv(self._unit_end(expansion))
        return after is not None and (self.is_depthwise(after) or self._widening(after) < 1)

    def _widening(self, conv: int) -> float:
        out, into, *_ = self.nodes[conv].weight_shape or [1, 1]
        return out / into

    def _back_to_conv(self, value: int) -> int | None:
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
            value = next((source for source in node.inputs if source != CONSTANT), CONSTANT)
        return None

    def _forward_to_conv(self, value: int) -> int | None:
        """The one convolution that reads a value, padding and splitting into kernel groups looked through.

        Parallel convolutions of the same value (RepVGG, MobileOne) count as one: the first of them.
        """
        readers = self._readers(value)
        while readers and all(self.nodes[reader].op in _PASSED_BY for reader in readers):
            readers = self._readers(readers[0])
        convs = [reader for reader in readers if self.nodes[reader].op in CONVOLUTIONS]
        alone = all(reader in convs or self.nodes[reader].op in NORMS for reader in readers)
        return convs[0] if convs and alone and self._same_kernels(convs) else None

    def _same_kernels(self, convs: list[int]) -> bool:
        """Whether all are depthwise or all pointwise or there is one alone: parallel spellings of one convolution."""
        return len(convs) == 1 or all(self.is_depthwise(c) for c in convs) or all(self._is_pointwise(c) for c in convs)

    @cached_property
    def stem(self) -> frozenset[int]:
        """Convolutions before the first block: what brings the image to the working width.

        In a network with blocks (residual or depthwise) these are all convolutions before the first block; in a
        plain one it is the first convolution where it strides (VGG's does not, so VGG has no stem).
        """
        begins = [addition.start for addition in self.additions]
        for conv in self.depthwise[:1]:
            before = self._back_to_conv(self.nodes[conv].inputs[0])
            expansion = before is not None and self._is_expanded(conv)
            first = before if expansion and before is not None else conv
            begins.append(self.nodes[first].inputs[0])
        if begins:
            begin = min(begins)
            return frozenset(conv for conv in self.convs if conv <= begin)
        of_image = [conv for conv in self.convs if self.nodes[conv].inputs[0] < self.graph.inputs]
        return frozenset(conv for conv in of_image if self.nodes[conv].stride > 1)

    @cached_property
    def head(self) -> frozenset[int]:
        """A convolution that makes the class scores: the last weights before the output."""
        outputs = [index for index in self.graph.outputs if len(self.nodes[index].shape) == 2]
        if not outputs or not self.convs:
            return frozenset()
        last = self.convs[-1]
        classes = self.nodes[outputs[0]].shape[-1]
        later = any(node.op in _LINEAR for node in self.nodes[last + 1 :])
        return frozenset((last,)) if self.nodes[last].shape[1] == classes and not later else frozenset()

    # --- residual additions -----------------------------------------------------------------------------------

    @cached_property
    def additions(self) -> list[_Addition]:
        found = [self._addition(index) for index, node in enumerate(self.nodes) if node.op in _ADDITIONS]
        return [addition for addition in found if addition is not None]

    def _addition(self, index: int) -> _Addition | None:
        node = self.nodes[index]
        operands = [source for source in node.inputs if source != CONSTANT]
        if len(operands) != 2 or len(node.shape) != 4 or self._in_attention(index):
            return None
        if any(self.nodes[source].shape != node.shape for source in operands):
            return None
        masks = self.graph.ancestors
        start = (masks[operands[0]] & masks[operands[1]]).bit_length() - 1
        if start < 0:
            return None
        sides = sorted((self._side(source, start), source) for source in operands)
        (shortcut, shortcut_value), (branch, branch_value) = sides
        if branch.resized or not shortcut.may_be_shortcut:
            return None
        needed = 1 if shortcut.identity else 2
        if branch.convs < needed or branch.full_convs < shortcut.full_convs or branch.convs <= shortcut.convs:
            return None
        return _Addition(index, branch_value, shortcut_value, start)

    def _side(self, value: int, start: int) -> _Side:
        """What lies between `start` and one operand of an addition."""
        if value == start:
            return _Side(0, 0, True, True, False)
        way = [*self.graph.between(start, value), value]
        longest: dict[int, tuple[int, int]] = {start: (0, 0)}
        for index in way:
            before = [longest[source] for source in self.nodes[index].inputs if source in longest]
            convs, full = max(before, default=(0, 0))
            if self.nodes[index].op in CONVOLUTIONS and not self._in_attention(index):
                convs, full = convs + 1, full + (not self.is_depthwise(index))
            longest[index] = (convs, full)
        convs, full = longest[value]
        ops = [self.nodes[index].op for index in way if not self._in_attention(index)]
        normed = any(op in NORMS for op in ops)
        cut = any(self._cuts_channels(index) for index in way)
        resized = any(op.startswith(_RESIZES) for op in ops)
        return _Side(convs, full, convs == 0 and not normed, full <= 1 and not cut and not resized, resized)

    def _cuts_channels(self, index: int) -> bool:
        """Whether a node takes part of the channels (Res2Net, DPN): such a part is no identity."""
        node = self.nodes[index]
        if node.op.startswith(("split", "chunk", "unbind", "tensor_split")):
            return True
        if node.op not in ("slice", "select", "narrow") or node.dims != [1]:
            return False
        return node.numel < self.nodes[node.inputs[0]].numel

    def _site_of_addition(self, addition: _Addition, placement: str, integration: str) -> Site | None:
        if integration == "standard":
            return self._site(addition.branch, placement, integration)
        if integration == "post":
            return self._site(self._after_activation(addition.node), placement, integration)
        if integration == "pre":
            return self._branch_input(addition, placement)
        if addition.shortcut == addition.start:
            return self._identity_input(addition, placement)
        return self._site(addition.shortcut, placement, integration)

    def _after_activation(self, value: int) -> int:
        readers = self._readers(value)
        while len(readers) == 1 and self.nodes[readers[0]].op in ACTIVATIONS:
            value = readers[0]
            readers = self._readers(value)
        return value

    def _branch_input(self, addition: _Addition, placement: str) -> Site | None:
        """SE-PRE: the input of the branch's first module, where one module alone begins the branch."""
        call = self._first_of_branch(addition)
        return None if call is None else self._site_at(call, addition.start, placement, "pre", "input")

    def _identity_input(self, addition: _Addition, placement: str) -> Site | None:
        """SE-Identity on a plain shortcut: gate the block's input, and give the branch the ungated map back."""
        first = self._first_of_branch(addition)
        blocks = [
            call for call in self.graph.calls
            if addition.start in call.inputs and call.start <= addition.node < call.end and call.kind not in _CONTAINERS
        ]
        if first is None or not blocks or not self._called_once(blocks[-1].path):
            return None
        site = self._site_at(blocks[-1], addition.start, placement, "identity", "input")
        return None if site is None else replace(site, restore=first.path)

    def _first_of_branch(self, addition: _Addition) -> Call | None:
        way = {*self.graph.between(addition.start, addition.branch), addition.branch}
        firsts = [index for index in self.graph.consumers[addition.start] if index in way]
        calls = [
            call for call in self.graph.calls
            if addition.start in call.inputs and not call.start <= addition.node < call.end
            and firsts and all(call.start <= index < call.end for index in firsts)
        ]
        calls = [call for call in calls if self._called_once(call.path) and call.kind not in _CONTAINERS] or calls
        return calls[-1] if calls else None

    # --- units and stages -------------------------------------------------------------------------------------

    def _unit_convs(self) -> list[int]:
        """Convolutions that end a unit: a depthwise one goes with the pointwise one after it."""
        chosen = []
        for conv in self.convs:
            if conv in self.stem or conv in self.head:
                continue
            after = self._forward_to_conv(self._unit_end(conv)) if self.is_depthwise(conv) else None
            if after is None or not self._is_pointwise(after):
                chosen.append(conv)
        return chosen

    def _unit_end(self, conv: int) -> int:
        """The last value of a convolution's unit: after its norm, its activation, and sums of parallel branches."""
        value, additions = conv, {addition.node for addition in self.additions}
        while True:
            readers = self._readers(value)
            if len(readers) != 1:
                return value
            node = self.nodes[readers[0]]
            parallel = node.op in _ADDITIONS and readers[0] not in additions and self._is_parallel_sum(readers[0])
            moved = node.op in ("permute", "transpose") and self._leads_to_norm(readers[0])
            joined = node.op == "cat" and all(self.is_depthwise(part) for part in node.inputs)
            if not (node.op in NORMS or node.op in ACTIVATIONS or parallel or moved or joined):
                return value
            value = readers[0]

    def _leads_to_norm(self, value: int) -> bool:
        readers = self._readers(value)
        return len(readers) == 1 and self.nodes[readers[0]].op in NORMS

    def _is_parallel_sum(self, index: int) -> bool:
        """A sum of convolutions of one value (RepVGG): each side is one convolution long at most."""
        node = self.nodes[index]
        operands = [source for source in node.inputs if source != CONSTANT]
        if len(operands) == 1:  # 0 + x, as a sum begins that is written as a loop
            return True
        if len(operands) != 2 or any(self.nodes[source].shape != node.shape for source in operands):
            return False
        start = (self.graph.ancestors[operands[0]] & self.graph.ancestors[operands[1]]).bit_length() - 1
        return start >= 0 and all(self._side(source, start).convs <= 1 for source in operands)

    @cached_property
    def stage_sizes(self) -> list[int]:
        """The map sizes (height) that begin each stage, largest first, from the convolutions after the stem."""
        sizes: list[int] = []
        convs = [conv for conv in self.convs if conv not in self.stem] or self.convs
        for size in sorted({self._stage_size(conv) for conv in convs}, reverse=True):
            if not sizes or sizes[-1] / size >= _STAGE_DROP:
                sizes.append(size)
        return sizes

    def _stage_size(self, value: int) -> int:
        """The map size that decides a value's stage: that of the block it works for.

        A 1x1 convolution before a striding depthwise or grouped one, and one inside a residual branch, still see the
        larger map of the stage before; they belong to the stage that their block puts out.
        """
        for addition in self.additions:
            if addition.start < value <= addition.node and self.graph.ancestors[addition.node] >> value & 1:
                return self._height(addition.node)
        if self._is_pointwise(value):
            after = self._forward_to_conv(self._unit_end(value))
            if after is not None and self.is_depthwise(after):
                return self._height(after)
        return self._height(value)

    def _height(self, value: int) -> int:
        return self.nodes[value].shape[2 if not self.channels_last[value] else 1]

    def stage_of(self, value: int) -> int:
        size = self._stage_size(value)
        return sum(size * _STAGE_DROP <= earlier for earlier in self.stage_sizes[:-1]) + 1 if self.stage_sizes else 1

    def _stage_ends(self) -> list[int]:
        """The last value of each stage that every way through the network passes."""
        ends: dict[int, int] = {}
        for value in self._trunk():
            if value > max(self.stem, default=0) and self._made_by_block(value):
                ends[self.stage_of(value)] = value
        return [ends[stage] for stage in sorted(ends)]

    def _made_by_block(self, value: int) -> bool:
        node = self.nodes[value]
        if len(node.shape) != 4 or node.shape[2] * node.shape[3] == 1 or value in self.head_values:
            return False
        before = self._back_to_conv(value)
        if before is not None and self._is_pointwise(before):
            after = self._forward_to_conv(value)
            if after is not None and self.is_depthwise(after):
                return False
        return node.op in NORMS | ACTIVATIONS | CONVOLUTIONS | _ADDITIONS or node.op == "cat"

    @cached_property
    def head_values(self) -> frozenset[int]:
        return frozenset(self._unit_end(conv) for conv in self.head) | self.head

    def _trunk(self) -> Iterator[int]:
        """Values that every way from input to output passes, in order."""
        if not self.graph.outputs:
            return
        target = self.graph.outputs[0]
        needed = [index for index in range(target + 1) if self.graph.ancestors[target] >> index & 1]
        needed = [index for index in needed if self.graph.depends[index]]
        open_until = 0
        for position, index in enumerate(needed):
            if index >= open_until or position == 0:
                yield index
            readers = [reader for reader in self.graph.consumers[index] if self.graph.ancestors[target] >> reader & 1]
            open_until = max([open_until, *readers])

    # --- from a value to a module -----------------------------------------------------------------------------

    def _readers(self, value: int) -> list[int]:
        """Who reads a value, with existing attention looked through."""
        readers: list[int] = []
        for reader in self.graph.consumers[value]:
            if not self._in_attention(reader):
                readers.append(reader)
        for output, source in self.gated.items():
            if source == value:
                readers += self._readers(output)
        gates = {index for found in self.attention for index in found.gates if found.path is None}
        return [reader for reader in dict.fromkeys(readers) if reader not in gates and not self._feeds_gate(reader)]

    def _feeds_gate(self, reader: int) -> bool:
        """Whether a reader only serves the gate of attention written out in a larger forward."""
        return any(
            found.path is None and found.start <= reader < found.end - 1
            and self.graph.ancestors[found.output] >> reader & 1
            for found in self.attention
        )

    def _in_attention(self, index: int) -> bool:
        return any(index in span for span in self.inside)

    @cached_property
    def _calls_of(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for call in self.graph.calls:
            counts[call.path] = counts.get(call.path, 0) + 1
        return counts

    def _called_once(self, path: str) -> bool:
        return self._calls_of.get(path, 0) == 1

    def _site(self, value: int, placement: str, integration: str = "standard") -> Site | None:
        """The site for a value: the module that made it, or the one module that reads it.

        Where an operation in a larger forward made it, walk back through pointwise operations (a layer scale, a
        branch's alpha, a permutation) to a module's output.
        """
        seen = value
        while seen != CONSTANT:
            seen = self.gated.get(seen, seen)
            if self._is_scaled(seen):  # before a layer scale, also where that is a module of its own
                seen = self._back_one(seen)
                continue
            call = self._maker(seen)
            if call is not None:
                return self._site_at(call, seen, placement, integration, "output")
            call = self._only_reader(seen) if integration != "identity" else None
            if call is not None:
                return self._site_at(call, seen, placement, integration, "input")
            seen = self._back_one(seen)
        return None

    def _is_scaled(self, value: int) -> bool:
        node = self.nodes[value]
        return node.op in _PRODUCTS and sum(source != CONSTANT for source in node.inputs) == 1

    def _back_one(self, value: int) -> int:
        node = self.nodes[value]
        operands = [source for source in node.inputs if source != CONSTANT]
        pointwise = node.op in RESHAPES | ACTIVATIONS | _PRODUCTS | _ADDITIONS
        if not pointwise or not operands:
            return CONSTANT
        if len(operands) == 1:
            return operands[0]
        if node.op in _PRODUCTS:  # a gate written out here: the map is the other operand
            first, second = operands
            return first if is_gate(self.graph, second, first) else second if is_gate(
                self.graph, first, second) else CONSTANT
        return CONSTANT

    def _maker(self, value: int) -> Call | None:
        """The innermost module whose own work made the value and that may carry a hook."""
        makers = [
            call for call in self.graph.calls
            if value in call.outputs and call.start <= value < call.end and call.path != ""
        ]
        for call in reversed(makers):
            if self._called_once(call.path) or self._same_role_each_call(call.path):
                return call
        return None

    def _same_role_each_call(self, path: str) -> bool:
        """A module called several times is a site only if each call's output ends a residual branch or a unit."""
        ends = {addition.branch for addition in self.additions} | set(self._norm_ends)
        calls = [call for call in self.graph.calls if call.path == path]
        return all(len(call.outputs) == 1 and call.outputs[0] in ends for call in calls)

    @cached_property
    def _norm_ends(self) -> list[int]:
        """Outputs of convolutions and norms: weights shared over calls have one role; a shared ReLU has none."""
        return [index for index, node in enumerate(self.nodes) if node.op in CONVOLUTIONS | NORMS]

    def _only_reader(self, value: int) -> Call | None:
        readers = [index for index in self.graph.consumers[value]]
        calls = [
            call for call in self.graph.calls
            if value in call.inputs and readers and all(call.start <= reader < call.end for reader in readers)
            and self._called_once(call.path) and call.kind not in _CONTAINERS
        ]
        return calls[-1] if calls else None

    def _site_before(self, conv: int, placement: str) -> Site | None:
        value = self.nodes[conv].inputs[0]
        if self.nodes[value].op == "constant_pad_nd":
            value = self.nodes[value].inputs[0]
        calls = [call for call in self.graph.calls if call.start <= conv < call.end and value in call.inputs]
        calls = [call for call in calls if call.path == self.nodes[conv].path]
        if not calls:
            return self._site(value, placement)
        site = self._site_at(calls[-1], value, placement, "standard", "input")
        return None if site is None else replace(site, stage=self.stage_of(conv))

    def _site_at(self, call: Call, value: int, placement: str, integration: str, side: str) -> Site | None:
        shape = self.nodes[value].shape
        if len(shape) != 4:
            return None
        last = self.channels_last[value]
        channels, height, width = (shape[3], shape[1], shape[2]) if last else (shape[1], shape[2], shape[3])
        return Site(
            call.path, channels, height, width, self.stage_of(value), placement, integration, side, last,
            ((height, width),), occupied_by=self._attention_on(value),
        )

    def _attention_on(self, value: int) -> str | None:
        found = next((found for found in self.attention if found.source == value), None)
        return None if found is None else found.path or f"inside {self.nodes[found.output].path or 'the forward'}"

    @cached_property
    def channels_last(self) -> list[bool]:
        """For each 4-D value whether its channels are the last dimension (ConvNeXt's NHWC blocks)."""
        last: list[bool] = []
        for node in self.nodes:
            source = next((index for index in node.inputs if index != CONSTANT), CONSTANT)
            before = last[source] if source != CONSTANT else False
            if node.op == "permute" and node.dims == [0, 2, 3, 1]:
                before = True
            elif node.op == "permute" and node.dims == [0, 3, 1, 2]:
                before = False
            elif node.op in CONVOLUTIONS:
                before = False
            last.append(before)
        return last


@dataclass(frozen=True, order=True)
class _Side:
    """One side of an addition: convolutions on its longest way (and those that are not depthwise), and its nature."""

    convs: int
    full_convs: int
    identity: bool
    may_be_shortcut: bool
    resized: bool


def _merge_calls(sites: list[Site]) -> list[Site]:
    """One site a module: where it is called several times its maps are put together."""
    merged: dict[tuple[str, str], Site] = {}
    for site in sites:
        known = merged.get((site.path, site.side))
        merged[site.path, site.side] = site if known is None else replace(known, maps=known.maps + site.maps)
    return list(merged.values())

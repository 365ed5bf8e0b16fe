"""Where attention can sit: the sites of a network, read off the graph of one forward pass.

A residual addition has a branch on one side and, on the other, an identity or a projection of the same value; the
branch's end is the site. Depthwise, stage and convolution sites are found along the data in the same graph (`units`).
Existing attention is looked through (`recognition`), so a network has the same sites with and without it.
Here a value in the graph becomes a module that can carry attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from secost.errors import NoSiteError, UnknownNameError
from secost.networks import recognition as ops
from secost.networks.recognition import View, is_gate
from secost.networks.tracing import CONSTANT, SPLITTERS, Call, Graph
from secost.networks.units import Addition, Residuals, Stages, Units
from secost.plan.options import INTEGRATIONS, PLACEMENTS

_CONTAINERS = frozenset(("Sequential", "ModuleList", "ModuleDict"))
_WALKED_BACK = ops.RESHAPES | ops.ACTIVATIONS | ops.PRODUCTS | ops.ADDITIONS | ops.CUTS | frozenset(SPLITTERS)


@dataclass(frozen=True)
class Site:
    """One place for attention: a module whose output (or input) is the map.

    `channels`, `height` and `width` are the map's at the traced resolution; `maps` has one (height, width) for each
    time the module is called. `side` tells whether the module's output or input is meant; `restore` names the module
    that gets the map back unchanged (identity integration, where the map feeds the branch as well). `occupied_by` is
    the attention that already reads this map, the network's own or ours. `one_tensor` tells that the module takes one
    tensor and gives one.
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
    one_tensor: bool = False

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
    finder = _Finder(View(graph, ours))
    resolved = finder.auto_placement() if placement == "auto" else placement
    if integration != "standard" and resolved != "residual":
        raise NoSiteError(f"integration {integration!r} is about residual blocks and this placement is {resolved!r}: "
                          "use --placement residual or --integration standard")
    sites = finder.sites(resolved, integration)
    if stages is not None and sites:
        present = sorted({site.stage for site in sites})
        missing = [stage for stage in stages if stage not in present]
        if missing:
            raise NoSiteError(f"no {resolved} site in stage {', '.join(map(str, missing))}: this network has them in "
                              f"stages {', '.join(map(str, present))}")
        sites = [site for site in sites if site.stage in stages]
    return sites


class _Finder:
    """Finds the sites of each placement and integration, and the module that can carry each."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.graph, self.nodes = view.graph, view.nodes
        attention = tuple(f"{item.path}." for item in view.attention if item.path is not None)
        self.calls = [call for call in self.graph.calls if call.path and not f"{call.path}.".startswith(attention)]
        self.residuals = Residuals(view)
        self.units = Units(view, self.residuals)
        self.stages = Stages(view, self.residuals, self.units)

    def auto_placement(self) -> str:
        if self.units.expanded_depthwise:
            return "depthwise"
        return "residual" if any(self._at(addition.branch) for addition in self.residuals.additions) else "conv"

    def sites(self, placement: str, integration: str) -> list[Site]:
        """One site a module: where it is called several times its maps are put together."""
        merged: dict[tuple[str, str], Site] = {}
        seen: set[tuple[str, str, int]] = set()
        for place in filter(None, self._places(placement, integration)):
            key = (place.call.path, place.side)
            if (*key, place.value) in seen:
                continue
            seen.add((*key, place.value))
            site = self._site(place, placement, integration)
            merged[key] = replace(merged[key], maps=merged[key].maps + site.maps) if key in merged else site
        return list(merged.values())

    def _places(self, placement: str, integration: str) -> list[_Place | None]:
        if placement == "residual":
            place: dict[str, Callable[[Addition], _Place | None]] = {
                "standard": lambda addition: self._at(addition.branch), "pre": self._branch_input,
                "post": lambda addition: self._at(self.residuals.after_activation(addition.node)),
                "identity": self._shortcut,
            }
            return [place[integration](addition) for addition in self.residuals.additions]
        if placement == "depthwise-pre":
            return [self._before(conv) for conv in self.units.depthwise_sites]
        if placement == "stage":
            return [self._at(value) for value in self.stages.ends]
        convs = self.units.depthwise_sites if placement == "depthwise" else self.units.last_convs
        return [self._at(self.units.end(conv)) for conv in convs]

    def _site(self, place: _Place, placement: str, integration: str) -> Site:
        channels, height, width = self.view.map_shape(place.value)
        occupied = next((item for item in self.view.attention if item.source == place.value), None)
        stage = self.stages.of(place.value if place.of_stage is None else place.of_stage)
        return Site(
            place.call.path, channels, height, width, stage, placement, integration, place.side,
            self.view.channels_last[place.value], ((height, width),), place.restore,
            None if occupied is None else occupied.path or f"inside {self.nodes[occupied.output].path or 'forward'}",
            all(call.one_tensor for call in self._calls_of[place.call.path]),
        )

    def _branch_input(self, addition: Addition) -> _Place | None:
        """SE-PRE: the input of the branch's first module, where one module alone begins the branch."""
        call = self._first_of_branch(addition)
        return None if call is None else self._checked(_Place(call, addition.start, "input", of_stage=addition.node))

    def _shortcut(self, addition: Addition) -> _Place | None:
        """SE-Identity. On a plain shortcut: gate the block's input, and give the branch the ungated map back."""
        if self.view.gated.get(addition.shortcut, addition.shortcut) != addition.start:
            return self._at(addition.shortcut, or_reader=False)
        first = self._first_of_branch(addition)
        blocks = [call for call in self._readers_of(addition.start, [addition.node]) if call.kind not in _CONTAINERS]
        if first is None or not blocks or not self._begins_blocks(blocks[-1].path):
            return None
        return self._checked(_Place(blocks[-1], addition.start, "input", first.path, addition.node))

    def _first_of_branch(self, addition: Addition) -> Call | None:
        """The innermost module that alone reads the block's input on behalf of the branch."""
        way = {*self.graph.between(addition.start, addition.branch), addition.branch}
        firsts = [index for index in self.graph.consumers[addition.start] if index in way]
        calls = [call for call in self._readers_of(addition.start, firsts)
                 if not call.start <= addition.node < call.end and self._begins_blocks(call.path)]
        plain = [call for call in calls if call.kind not in _CONTAINERS] or calls
        return plain[-1] if plain else None

    def _at(self, value: int, or_reader: bool = True) -> _Place | None:
        """The place for a value: the module that made it or, unless told otherwise, the one module that reads it.

        Attention sits before a layer scale or a branch's alpha, also where that is a module of its own; where
        nothing is found there (a norm that ends in its own weights), at the value itself.
        """
        return self._walk_back(value, or_reader, True) or self._walk_back(value, or_reader, False)

    def _walk_back(self, value: int, or_reader: bool, before_scales: bool) -> _Place | None:
        """Walk back from a value through pointwise operations of a larger forward to a module's output."""
        while value != CONSTANT:
            value = self.view.gated.get(value, value)
            if not (before_scales and self._is_scaled(value)):
                maker = self._maker(value)
                if maker is not None:
                    return self._checked(_Place(maker, value, "output"))
                reader = self._only_reader(value) if or_reader else None
                if reader is not None:
                    return self._checked(_Place(reader, value, "input"))
            value = self._back_one(value)
        return None

    def _before(self, conv: int) -> _Place | None:
        """The input of a convolution's own module."""
        value = self.nodes[conv].inputs[0]
        if self.nodes[value].op == "constant_pad_nd":
            value = self.nodes[value].inputs[0]
        value = self.view.gated.get(value, value)
        calls = [call for call in self._readers_of(value, [conv])
                 if call.path == self.nodes[conv].path and self._plays_one_role(call.path)]
        place = self._checked(_Place(calls[-1], value, "input")) if calls else self._at(value)
        return None if place is None else replace(place, of_stage=conv)

    def _checked(self, place: _Place) -> _Place | None:
        return place if len(self.nodes[place.value].shape) == 4 else None

    def _is_scaled(self, value: int) -> bool:
        return self.nodes[value].op in ops.PRODUCTS and len(self.view.operands(value)) == 1

    def _back_one(self, value: int) -> int:
        operands = self.view.operands(value)
        if self.nodes[value].op not in _WALKED_BACK or not operands:
            return CONSTANT
        if len(operands) == 1:
            return operands[0]
        if self.nodes[value].op in ops.PRODUCTS:  # a gate written out here: the map is the other operand
            for carried, gate in (operands, operands[::-1]):
                if is_gate(self.graph, gate, carried):
                    return carried
        return CONSTANT

    def _maker(self, value: int) -> Call | None:
        """The innermost module whose own work made the value and that may carry attention."""
        return next((call for call in reversed(self.calls)
                     if call.start <= value < call.end and self._first_map(call.outputs) == value
                     and self._may_carry(call.path)), None)

    def _only_reader(self, value: int) -> Call | None:
        readers = reversed(self._readers_of(value, self.graph.consumers[value]))
        return next((call for call in readers if self._called_once(call.path) and call.kind not in _CONTAINERS), None)

    def _readers_of(self, value: int, readers: list[int]) -> list[Call]:
        """Modules that take the value for their first map, and in which all these readers of it run."""
        return [call for call in self.calls if readers and self._map_taken(call) == value
                and all(call.start <= reader < call.end for reader in readers)]

    def _first_map(self, values: list[int]) -> int | None:
        """The value that attention at a module would gate."""
        return next((value for value in values if len(self.nodes[value].shape) == 4), None)

    def _map_taken(self, call: Call) -> int | None:
        """The first map that a module takes; where attention gated it on the way, the map before that."""
        value = self._first_map(call.inputs)
        return None if value is None else self.view.gated.get(value, value)

    @cached_property
    def _calls_of(self) -> dict[str, list[Call]]:
        calls: dict[str, list[Call]] = {}
        for call in self.calls:
            calls.setdefault(call.path, []).append(call)
        return calls

    def _called_once(self, path: str) -> bool:
        return len(self._calls_of[path]) == 1

    def _may_carry(self, path: str) -> bool:
        """Called once, or each call's output ends a residual branch or a unit: a shared ReLU is no site of its own."""
        return self._called_once(path) or all(
            len(call.outputs) == 1 and call.outputs[0] in self._ends for call in self._calls_of[path])

    @cached_property
    def _ends(self) -> frozenset[int]:
        """Ends of branches and blocks, outputs of convolutions and norms: shared weights have one role at each call."""
        additions = self.residuals.additions
        blocks = (self.residuals.after_activation(addition.node) for addition in additions)
        weights = (index for index, node in enumerate(self.nodes) if node.op in ops.CONVOLUTIONS | ops.NORMS)
        return frozenset((*(addition.branch for addition in additions), *blocks, *weights))

    def _begins_blocks(self, path: str) -> bool:
        """Called once, or at each call with the input of a residual block (a shared block)."""
        starts = {addition.start for addition in self.residuals.additions}
        return self._called_once(path) or all(self._map_taken(call) in starts for call in self._calls_of[path])

    def _plays_one_role(self, path: str) -> bool:
        """Called once, or a convolution's own module at each call."""
        own = [conv for conv in self.view.convs if self.nodes[conv].path == path]
        return self._called_once(path) or all(
            any(call.start <= conv < call.end for conv in own) for call in self._calls_of[path])


@dataclass(frozen=True)
class _Place:
    """A value and the module call that can carry attention for it; the stage is that of `of_stage` where given."""

    call: Call
    value: int
    side: str
    restore: str | None = None
    of_stage: int | None = None

"""The figures of what nobody beats: one cost against another, and gain in accuracy against cost.

Of two costs less is better in both; overheads are in percent, gains in points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from secost.answers.beside import BEATEN, BEATEN_ON_MEAN, UNBEATEN, standing
from secost.answers.evidence import Weighed, of_era
from secost.answers.groups import KERNELS, LATENCY, MACS, MEMORY, PARAMS, Currency, Group, pareto_front
from secost.figures import marks
from secost.figures.labels import Box, labeller, pixels
from secost.figures.marks import BASE, Late, Look, Looks, Point
from secost.runs.records import PUBLISHED, Record
from secost.writing import joined

_MOST_PANELS, _MOST_LABELS, _MOST_WEIGHED = 6, 40, 24
_WAY, _WAYS = "#8a6d3b", ("--", "-.", (0, (1, 1)), (0, (5, 1)))
_ALPHA = {UNBEATEN: 1.0, BEATEN_ON_MEAN: 1.0, BEATEN: 0.35}


# --- cost against cost ---


@dataclass(frozen=True)
class FrontPoint:
    """One variant in the plane of two currencies."""

    label: str
    attention: str
    x: float
    y: Point
    on_front: bool


@dataclass(frozen=True)
class FrontPanel:
    """One network; `labelled` are the indices of the points that get a label."""

    title: str
    points: tuple[FrontPoint, ...]
    x_scale: str
    labelled: tuple[int, ...]

    @property
    def front(self) -> list[FrontPoint]:
        """The points on the front, from left to right."""
        return sorted((point for point in self.points if point.on_front), key=lambda point: (point.x, point.y.percent))


@dataclass(frozen=True)
class FrontFigure:
    """A panel a network."""

    title: str
    x: Currency
    y: Currency
    panels: tuple[FrontPanel, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "pareto"

    @property
    def alt(self) -> str:
        words = [f"{panel.title}: {', '.join(point.label for point in panel.front)}" for panel in self.panels]
        return f"Added parameters against added {self.y.word}, less being better. On the front: {'; '.join(words)}."

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """Filled points are on the front; labels come once the layout stands."""
        width, height = (6.6, 4.2) if len(self.panels) == 1 else (4.4, 3.6)
        axes = marks.grid(figure, len(self.panels), width, height, extra=1.7)
        for axis, panel in zip(axes, self.panels, strict=True):
            marks.entitle(axis, panel.title)
            _across(axis, panel)
            axis.set_xlabel(f"added {self.x.word} (%)")
            axis.set_ylabel(f"added {self.y.word} (%)")
            marks.from_zero(axis, [point.y for point in panel.points])
            marks.front_line(axis, _line(axis, panel))
            for point in panel.points:
                look = looks[point.attention]
                _marker(axis, point.x, point.y.percent, look, point.on_front, zorder=3)
                marks.upright(axis, point.x, point.y, look, zorder=2)
        attentions = dict.fromkeys(point.attention for panel in self.panels for point in panel.points)
        keys = [*marks.attention_keys(attentions, looks, self.y.measured),
                marks.key("Pareto front", color="#777777", linewidth=1, linestyle=":"),
                marks.key("filled: on it", color="#555555", marker="o", linestyle="none")]
        figure.legend(handles=keys, loc="outside right upper")
        return [_front_labeller(axis, panel) for axis, panel in zip(axes, self.panels, strict=True)]


def front_figure(groups: Sequence[Group]) -> FrontFigure | None:
    """Added parameters against time, or against the next best currency where there is no time: memory traffic, MACs,
    kernels. One panel a comparison; None where no comparison has two variants to choose from."""
    y = next((currency for currency in (LATENCY, MEMORY, MACS, KERNELS)
              if any(_both(group, PARAMS, currency) for group in groups)), None)
    if y is None:
        return None
    usable = [group for group in groups if len(_both(group, PARAMS, y)) > 1]
    if not usable:
        return None
    left = len(usable) - _MOST_PANELS
    notes: tuple[str, ...] = (f"{left} of {len(usable)} comparisons are left out.",) if left > 0 else ()
    panels = [_panel(group, PARAMS, y) for group in usable[:_MOST_PANELS]]
    if any(len(panel.labelled) < len(panel.points) for panel in panels):
        notes += ("Labels are left out where there is no room for all: the front comes first.",)
    return FrontFigure(f"Parameters against {y.word}", PARAMS, y, tuple(panels), notes)


def _both(group: Group, x: Currency, y: Currency) -> list[tuple[Record, float, Point]]:
    native = [group.native] if group.native else []
    return [(record, 100 * across, up) for record in [*native, *group.plain_variants]
            if (across := group.overhead(record, x)) is not None
            and (up := marks.point_of(group, record, y)) is not None]


def _panel(group: Group, x: Currency, y: Currency) -> FrontPanel:
    rows = _both(group, x, y)
    best = pareto_front(range(len(rows)), lambda index: (rows[index][1], rows[index][2].percent))
    points = tuple(FrontPoint(record.label, record.attention, across, up, index in best)
                   for index, (record, across, up) in enumerate(rows))
    order = sorted(range(len(points)), key=lambda index: not points[index].on_front)
    return FrontPanel(group.label, points, _scale([point.x for point in points]), tuple(order[:_MOST_LABELS]))


def _scale(values: Sequence[float]) -> str:
    """Linear, or logarithmic where the values span more than a factor of 50 (symlog where some are not positive)."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) <= 50 * min(positive):
        return "linear"
    return "log" if len(positive) == len(values) else "symlog"


def _across(axis: Axes, panel: FrontPanel) -> None:
    """The x axis: linear from 0, or logarithmic with plain numbers."""
    values = [point.x for point in panel.points]
    positive = [value for value in values if value > 0]
    if panel.x_scale == "linear":
        low, high = min(0.0, *values), max(0.0, *values)
        room = 0.12 * (high - low or 1.0)
        axis.set_xlim(low - (room if low < 0 else 0.04 * (high or 1.0)), high + room)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        return
    span = max(positive) / min(positive)
    if panel.x_scale == "log":
        axis.set_xscale("log")
        axis.set_xlim(min(positive) / span**0.12, max(positive) * span**0.15)
    else:
        axis.set_xscale("symlog", linthresh=min(positive))
        axis.set_xlim(min(0.0, *values) - min(positive), max(positive) * span**0.2)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _line(axis: Axes, panel: FrontPanel) -> list[tuple[float, float]]:
    """The front from the frame's top to its right edge: what lies above it is beaten."""
    corners = [(point.x, point.y.percent) for point in panel.front]
    return [(corners[0][0], axis.get_ylim()[1]), *marks.staircase(corners, axis.get_xlim()[1])]


def _front_labeller(axis: Axes, panel: FrontPanel) -> Late:
    """The front gets its labels first; none covers a marker, an interval or the front."""
    points = [panel.points[index] for index in panel.labelled]

    def obstacles() -> list[Box]:
        boxes = []
        for point in panel.points:
            middle, low, high = (pixels(axis, point.x, end) for end in point.y.reach)
            boxes.append(Box(*middle, *middle).grown(6))
            if point.y.interval is not None:
                boxes.append(Box(middle[0], low[1], middle[0], high[1]).grown(2))
        line = [pixels(axis, *corner) for corner in _line(axis, panel)]
        return boxes + [Box(min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)).grown(1)
                        for (x, y), (other_x, other_y) in pairwise(line)]

    return labeller(axis, [(point.x, point.y.percent) for point in points], [point.label for point in points],
                    obstacles)


def _marker(axis: Axes, x: float, y: float, look: Look, filled: bool, **style: Any) -> None:
    axis.plot([x], [y], marker=look.marker, color=look.color, markerfacecolor=look.color if filled else "white",
              markersize=7, linestyle="none", **style)


# --- gain against cost ---


@dataclass(frozen=True)
class BenefitPoint:
    """One variant: what it costs (percent), what it gains (points of accuracy), and whether another beats it."""

    label: str
    attention: str
    cost: Point
    gain: Point
    standing: str


@dataclass(frozen=True)
class Way:
    """The network's own way to an alternative: what it costs (percent) and gains (points). Whoever stands above it
    gains more than the network would, grown to the same cost."""

    label: str
    cost: Point
    gain: Point


@dataclass(frozen=True)
class BenefitPanel:
    """One currency."""

    currency: Currency
    points: tuple[BenefitPoint, ...]
    ways: tuple[Way, ...] = ()

    @property
    def front(self) -> list[tuple[float, float]]:
        """The corners (cost, gain) of what nobody beats on the mean, by cost, among what does not lose accuracy.

        They begin with the bare network, (0, 0), unless something gains as much for less than nothing.
        """
        bare = (0.0, 0.0)
        places = [(point.cost.percent, point.gain.percent) for point in self.points if point.gain.percent >= 0]
        front = pareto_front([bare, *places], lambda place: (place[0], -place[1]), ties=False)
        return front if front[0][0] < 0 else [bare, *(place for place in front if place != bare)]


@dataclass(frozen=True)
class BenefitFigure:
    """Gain against cost on one network."""

    title: str
    source: str
    panels: tuple[BenefitPanel, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "cost-benefit"

    @property
    def alt(self) -> str:
        best = [point.label for point in self.panels[0].points if point.standing == UNBEATEN]
        return (f"Points of accuracy gained ({self.source}) against added "
                f"{joined([panel.currency.word for panel in self.panels])}, with intervals on both axes. Not beaten in "
                f"{self.panels[0].currency.word}: {joined(best) or 'nothing but the network without attention'}.")

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """Gain upwards and cost to the right, intervals on both; filled points are not beaten."""
        axes = marks.grid(figure, len(self.panels), width=3.9, height=3.7, extra=1.7)
        for axis, panel in zip(axes, self.panels, strict=True):
            marks.entitle(axis, f"against {panel.currency.word}")
            axis.axhline(0, color="#888888", linewidth=0.8, zorder=1)
            axis.axvline(0, color="#888888", linewidth=0.8, zorder=1)
            axis.plot([0], [0], marker=BASE.marker, color=BASE.color, markersize=6, linestyle="none", zorder=2)
            for point in panel.points:
                _mark_weighed(axis, point, looks[point.attention])
            _room(axis, panel)
            _mark_ways(axis, panel.ways)
            # Below this line a variant is beaten on the mean.
            marks.front_line(axis, marks.staircase(panel.front, axis.get_xlim()[1]))
            axis.set_xlabel(f"added {panel.currency.word} (%)")
            axis.set_ylabel(f"gain in top-1 accuracy (points)\n{marks.fitted(self.source, 44)}")
        figure.legend(handles=_benefit_keys(self, looks), loc="outside right upper")
        return [_benefit_labeller(axis, panel) for axis, panel in zip(axes, self.panels, strict=True)]


def benefit_figure(items: Sequence[Weighed]) -> BenefitFigure | None:
    """The figure of one comparison's weighed variants and alternatives; None where no variant has a cost."""
    others = [item for item in items if item.record.alternative is not None]
    items = [item for item in items if item.record.alternative is None]
    panels = []
    for currency in (LATENCY, PARAMS, MACS):
        points = tuple(
            BenefitPoint(item.record.label, item.record.attention, cost,
                         Point(item.gain.points, item.gain.low, item.gain.high), standing(item, items, currency))
            for item in items[:_MOST_WEIGHED] if (cost := marks.point_of(item.group, item.record, currency)) is not None
        )
        if points:
            panels.append(BenefitPanel(currency, points, _ways(others, currency, items[0].gain.era)))
    if not panels:
        return None
    left = marks.left_out_line([item.record.label for item in items[_MOST_WEIGHED:]], "variants")
    gain = items[0].gain
    # A trained or a user's gain has one basis; published ones differ from variant to variant, and the table cites them.
    # Only one era of recipes is drawn, so it is named: where several are known, the table has the others.
    eras = joined(list(dict.fromkeys(f"{item.gain.era} recipes" for item in items if item.gain.era)))
    whose = "borrowed" if gain.borrowed else gain.source
    source = f"{whose}, {eras}" if eras else whose if gain.source == PUBLISHED else f"{gain.source}: {gain.basis}"
    return BenefitFigure(f"Gain against cost: {items[0].group.label}", source, tuple(panels), left)


def _ways(others: Sequence[Weighed], currency: Currency, era: str | None) -> tuple[Way, ...]:
    """By recipes of the era that is drawn; those that cost nothing in this currency are no way to anything."""
    found = ((item, marks.point_of(item.group, item.record, currency)) for item in of_era(others, era) or others)
    return tuple(Way(item.record.label, cost, Point(item.gain.points, item.gain.low, item.gain.high))
                 for item, cost in found if cost is not None and cost.percent > 0)


def _mark_ways(axis: Axes, ways: Sequence[Way]) -> None:
    """Each from the bare network to its alternative, with the interval of its gain; most lie far to the right."""
    edge = axis.get_xlim()[1]
    for number, way in enumerate(ways):
        across, style = (0.0, way.cost.percent, max(edge, way.cost.percent)), _WAYS[number % len(_WAYS)]
        axis.plot(across, (0.0, way.gain.percent, way.gain.percent), color=_WAY, linestyle=style, linewidth=1.1,
                  zorder=1.5, scalex=False, scaley=False)
        if way.gain.interval is not None:
            low, high = way.gain.interval
            axis.fill_between(across, (0.0, low, low), (0.0, high, high), color=_WAY, alpha=0.12, linewidth=0, zorder=1)


def _benefit_labeller(axis: Axes, panel: BenefitPanel) -> Late:
    """Points that nobody beats get their label first; none of them covers a marker or an interval."""
    points = sorted(panel.points, key=lambda point: point.standing != UNBEATEN)
    places = [(point.cost.percent, point.gain.percent) for point in points]

    def obstacles() -> list[Box]:
        boxes = []
        for point in points:
            middle, low, high = (pixels(axis, point.cost.percent, end) for end in point.gain.reach)
            boxes += [Box(*low, *high).grown(2), Box(*middle, *middle).grown(6)]
        return boxes

    return labeller(axis, places, [point.label for point in points], obstacles)


def _mark_weighed(axis: Axes, point: BenefitPoint, look: Look) -> None:
    x, y, alpha = point.cost.percent, point.gain.percent, _ALPHA[point.standing]
    marks.upright(axis, x, point.gain, look, alpha=alpha, zorder=3)
    if point.cost.interval is not None:
        axis.hlines(y, *point.cost.interval, color=look.color, linewidth=1.1, alpha=alpha, zorder=3)
    _marker(axis, x, y, look, point.standing == UNBEATEN, alpha=alpha, zorder=4)


def _room(axis: Axes, panel: BenefitPanel) -> None:
    across = [value for point in panel.points for value in point.cost.reach] + [0.0]
    up = [value for point in panel.points for value in point.gain.reach] + [0.0]
    width, height = max(across) - min(across) or 1.0, max(up) - min(up) or 1.0
    axis.set_xlim(min(across) - 0.07 * width, max(across) + 0.28 * width)  # labels stand at the right of their points
    axis.set_ylim(min(up) - 0.07 * height, max(up) + 0.1 * height)


def _benefit_keys(info: BenefitFigure, looks: Looks) -> list[Line2D]:
    dots: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 6}
    names = dict.fromkeys(point.attention for panel in info.panels for point in panel.points)
    return [
        *(marks.look_key(name, looks[name], linestyle="none", markersize=6) for name in names),
        marks.key("none", color=BASE.color, **dots),
        marks.key("filled: not beaten", color="#555555", **dots),
        marks.key("hollow: beaten\non the mean", color="#555555", markerfacecolor="white", **dots),
        marks.key("pale: beaten\nwith confidence", color="#555555", markerfacecolor="white", alpha=_ALPHA[BEATEN],
                  **dots),
        marks.key("95 % intervals", color="#555555", marker="+", linestyle="none", markersize=9),
        marks.key("front", color="#777777", linewidth=1, linestyle=":"),
        *(marks.key(f"the network's own\nway to {marks.fitted(way.label, 16)}", color=_WAY, linewidth=1.1,
                    linestyle=_WAYS[number % len(_WAYS)]) for number, way in enumerate(info.panels[0].ways)),
    ]

"""The Pareto figure: what is paid across, what is paid up, less being better in both. Overheads are in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from secost.answers.groups import KERNELS, LATENCY, MACS, MEMORY, PARAMS, Currency, Group
from secost.answers.pareto import pareto_front
from secost.figures import marks
from secost.figures.labels import Box, labeller, pixels
from secost.figures.marks import Late, Looks, Point
from secost.runs.records import Record

_MOST_PANELS = 6
_MOST_LABELS = 40


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
        late: list[Late] = []
        for axis, panel in zip(axes, self.panels, strict=False):
            marks.entitle(axis, panel.title)
            _across(axis, panel)
            axis.set_xlabel(f"added {self.x.word} (%)")
            axis.set_ylabel(f"added {self.y.word} (%)")
            marks.from_zero(axis, [point.y for point in panel.points])
            _points(axis, panel, looks)
            late.append(_labeller(axis, panel))
        attentions = dict.fromkeys(point.attention for panel in self.panels for point in panel.points)
        keys = [*marks.attention_keys(attentions, looks, self.y.measured),
                marks.key("Pareto front", color="#777777", linewidth=1, linestyle=":"),
                marks.key("filled: on it", color="#555555", marker="o", linestyle="none")]
        figure.legend(handles=keys, loc="outside right upper")
        return late


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


def _points(axis: Axes, panel: FrontPanel, looks: Looks) -> None:
    line = _line(axis, panel)
    axis.plot([x for x, _ in line], [y for _, y in line], color="#777777", linewidth=1, linestyle=":", zorder=1)
    for point in panel.points:
        look = looks[point.attention]
        face = look.color if point.on_front else "white"
        axis.plot([point.x], [point.y.percent], marker=look.marker, color=look.color, markerfacecolor=face,
                  markersize=7, linestyle="none", zorder=3)
        marks.upright(axis, point.x, point.y, look, zorder=2)


def _line(axis: Axes, panel: FrontPanel) -> list[tuple[float, float]]:
    """The front from the frame's top to its right edge: what lies above it is beaten."""
    corners = [(point.x, point.y.percent) for point in panel.front]
    return [(corners[0][0], axis.get_ylim()[1]), *marks.staircase(corners, axis.get_xlim()[1])]


def _labeller(axis: Axes, panel: FrontPanel) -> Late:
    points = [panel.points[index] for index in panel.labelled]
    places = [(point.x, point.y.percent) for point in points]
    return labeller(axis, places, [point.label for point in points], lambda: _obstacles(axis, panel))


def _obstacles(axis: Axes, panel: FrontPanel) -> list[Box]:
    """Markers, error bars and the front, which labels must not cover."""
    boxes = []
    for point in panel.points:
        x, y = pixels(axis, point.x, point.y.percent)
        boxes.append(Box(x, y, x, y).grown(6))
        if point.y.low is not None and point.y.high is not None:
            low, high = pixels(axis, point.x, point.y.low)[1], pixels(axis, point.x, point.y.high)[1]
            boxes.append(Box(x, low, x, high).grown(2))
    line = [pixels(axis, *corner) for corner in _line(axis, panel)]
    for (x, y), (other_x, other_y) in pairwise(line):
        boxes.append(Box(min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)).grown(1))
    return boxes

"""The figures over several comparisons, and of several spellings: time by backend, over an axis, and by spelling.

Times are in milliseconds, overheads in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secost.answers.families import OTHER, Family, Spellings, images_per_s, runtime_rows, timed
from secost.answers.groups import LATENCY
from secost.figures import marks
from secost.figures.marks import BASE, Late, Look, Looks, Point
from secost.writing import joined, milliseconds

# --- what runs the network, one row each ---


@dataclass(frozen=True)
class BackendBars:
    """One attention on each backend: its time in milliseconds and its overhead, None where it was not timed."""

    label: str
    attention: str
    times_ms: tuple[float | None, ...]
    overheads: tuple[Point | None, ...]


@dataclass(frozen=True)
class BackendFigure:
    """Bars of times at the left, of overheads at the right."""

    title: str
    names: tuple[str, ...]
    base_ms: tuple[float | None, ...]
    bars: tuple[BackendBars, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "backends"

    @property
    def alt(self) -> str:
        return (f"Bars of the time without attention and with {joined([bars.label for bars in self.bars])}, and of the "
                f"overheads with their intervals, on {joined(list(self.names))}.")

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """Milliseconds without and with attention, overheads with intervals, a row a backend."""
        count = len(self.bars)
        figure.set_size_inches(9.6, 1.7 + len(self.names) * (0.26 * (count + 1) + 0.14))
        left, right = figure.subplots(1, 2, sharey=True)
        marks.entitle(left, "Time of one pass (ms)")
        marks.entitle(right, "Time overhead (%)")
        height = 0.8 / (count + 1)
        for row in range(len(self.names)):
            _time_bar(left, row - 0.4 + height / 2, self.base_ms[row], BASE, height)
            for index, bars in enumerate(self.bars):
                look, place = looks[bars.attention], row - 0.4 + height * (index + 1.5)
                _time_bar(left, place, bars.times_ms[row], look, height)
                _overhead_bar(right, row - 0.4 + 0.8 / count * (index + 0.5), bars.overheads[row], look, 0.8 / count)
        marks.named_rows(left, self.names)
        times = [*self.base_ms, *(value for bars in self.bars for value in bars.times_ms)]
        marks.room_beside(left, [Point(value) for value in times if value is not None])
        marks.room_beside(right, [point for bars in self.bars for point in bars.overheads if point is not None])
        marks.plain_rows(right)
        keys = [marks.key("none", color=BASE.color, linewidth=6)]
        keys += [marks.key(marks.fitted(bars.label), color=looks[bars.attention].color, linewidth=6)
                 for bars in self.bars]
        keys.append(marks.key("95 % interval", color="#222222", marker="|", markersize=8))
        figure.legend(handles=keys, loc="outside right upper")
        return []


def backend_figure(family: Family) -> BackendFigure:
    """Times and overheads of each attention on everything that ran it."""
    rows, labels = runtime_rows(family), family.variants()
    base = {row.name: row.base_ms for row in rows}
    shown = labels[: max(1, marks.MOST_BARS // len(base))]
    bars = []
    for label in shown:
        mine = {row.name: row for row in rows if row.record.label == label}
        in_order = [mine.get(name) for name in base]
        bars.append(BackendBars(
            label, next(iter(mine.values())).record.attention,
            tuple(None if row is None else row.record.latency_ms for row in in_order),
            tuple(None if row is None else marks.point_of(row.group, row.record, LATENCY) for row in in_order),
        ))
    return BackendFigure(f"Time by backend: {family.label}", tuple(base), tuple(base.values()), tuple(bars),
                         marks.left_out_line(labels[len(shown):], "attentions"))


def _time_bar(axis: Axes, place: float, value: float | None, look: Look, height: float) -> None:
    if value is None:
        marks.beside(axis, 0, place, "N/A", fontsize=7, color="#555555")
        return
    axis.barh(place, value, height=0.9 * height, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0.5)
    marks.beside(axis, value, place, milliseconds(value), fontsize=7)


def _overhead_bar(axis: Axes, place: float, point: Point | None, look: Look, height: float) -> None:
    if point is None:
        marks.beside(axis, 0, place, "N/A", fontsize=7, color="#555555")
        return
    axis.barh(place, point.percent, height=0.8 * height, color=look.color, hatch=look.hatch, edgecolor="white",
              linewidth=0.5)
    if point.interval is not None:
        axis.plot(point.interval, [place, place], color="#222222", marker="|", markersize=5, linewidth=1.2)
    marks.beside(axis, max(0.0, *point.reach), place, point.shown, gap=5, fontsize=7)


# --- over batch, resolution or threads ---

_TITLES = {"batch": "images in a batch", "resolution": "resolution (px)", "threads": "threads"}


@dataclass(frozen=True)
class AxisLine:
    """One attention over an axis: time overhead, and images a second with it (None where not timed)."""

    label: str
    attention: str
    across: tuple[int, ...]
    overheads: tuple[Point, ...]
    speeds: tuple[float | None, ...]


@dataclass(frozen=True)
class AxisFigure:
    """A line an attention; `base` is the throughput without attention."""

    title: str
    axis: str
    values: tuple[int, ...]
    lines: tuple[AxisLine, ...]
    base: tuple[float | None, ...]
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"over-{self.axis}"

    @property
    def doubling(self) -> bool:
        """Whether the axis reads better in powers of two: where its ends are more than a factor of three apart."""
        return min(self.values) > 0 and max(self.values) > 3 * min(self.values)

    @property
    def alt(self) -> str:
        return (f"Lines of the time overhead, with intervals, and of images a second, over {self.axis} = "
                f"{', '.join(map(str, self.values))}, for {joined([line.label for line in self.lines])}.")

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """Overhead with intervals at the left, images a second at the right."""
        figure.set_size_inches(9.4, 3.6)
        left, right = figure.subplots(1, 2)
        marks.entitle(left, "Time overhead (%)")
        marks.entitle(right, "Images a second")
        for index, line in enumerate(self.lines):
            look = looks[line.attention]
            across = _set_apart(self, line.across, index)
            style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.5}
            left.plot(across, [point.percent for point in line.overheads], **style, linewidth=1.3,
                      label=marks.fitted(line.label))
            marks.error_bars(left, across, line.overheads, look)
            unsure = [(x, point.percent) for x, point in zip(across, line.overheads, strict=True) if point.low is None]
            left.plot([x for x, _ in unsure], [y for _, y in unsure], **style, linestyle="none",
                      markerfacecolor="white")  # hollow: no interval, so not to be read as exact
            _speed_line(right, line.across, line.speeds, look)
        _speed_line(right, self.values, self.base, BASE, linestyle="--")
        for axis in (left, right):
            if self.doubling:
                axis.set_xscale("log", base=2)
                axis.set_xlim(self.values[0] * 2.0**-0.4, self.values[-1] * 2.0**0.4)
            marks.ticks_at(axis, self.values)
            axis.set_xlabel(_TITLES[self.axis])
        marks.from_zero(left, [point for line in self.lines for point in line.overheads])
        right.set_ylim(bottom=0)
        keys = [marks.look_key(line.label, looks[line.attention], markersize=5) for line in self.lines]
        keys += [marks.look_key("none", BASE, markersize=5, linestyle="--"), marks.interval_key()]
        figure.legend(handles=keys, loc="outside right upper")
        return []


def axis_figure(family: Family) -> AxisFigure:
    """Overhead and images a second, a line an attention."""
    labels = family.variants()
    lines = tuple(_line(family, label) for label in labels[:marks.MOST_ATTENTIONS])
    return AxisFigure(
        f"Time against {family.axis}: {family.label}", family.axis, tuple(map(family.value, family.groups)), lines,
        tuple(images_per_s(group.baseline) for group in family.groups),
        marks.left_out_line(labels[marks.MOST_ATTENTIONS:], "attentions"),
    )


def _line(family: Family, label: str) -> AxisLine:
    rows = [(family.value(group), point, images_per_s(record), record.attention)
            for group in family.groups for record in timed(group)
            if record.label == label and (point := marks.point_of(group, record, LATENCY)) is not None]
    across, points, speeds, attentions = zip(*rows, strict=True)
    return AxisLine(label, attentions[0], across, points, speeds)


def _speed_line(axis: Axes, across: Sequence[int], speeds: Sequence[float | None], look: Look, **style: Any) -> None:
    known = [(x, speed) for x, speed in zip(across, speeds, strict=True) if speed is not None]
    axis.plot([x for x, _ in known], [speed for _, speed in known], color=look.color, marker=look.marker,
              markersize=4.5, linewidth=1.3, **style)


def _set_apart(info: AxisFigure, across: Sequence[int], index: int) -> list[float]:
    """Places of one of several lines, moved a little, so that every interval is seen."""
    step = index - (len(info.lines) - 1) / 2
    if info.doubling:
        return [value * 2.0 ** (0.1 * step) for value in across]
    return [value + 0.015 * step * (info.values[-1] - info.values[0]) for value in across]


# --- the spellings of one attention, the fastest first ---


@dataclass(frozen=True)
class SpellingFigure:
    """A bar a spelling; `same` is False for another function."""

    title: str
    attention: str
    names: tuple[str, ...]
    points: tuple[Point, ...]
    same: tuple[bool, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "spelling"

    @property
    def alt(self) -> str:
        hollow = "" if all(self.same) else "; hatched: another function"
        return f"Bars of the time overhead of {joined(list(self.names))}, with intervals{hollow}."

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """A bar with its interval each; hollow where it is another function."""
        figure.set_size_inches(7.2, 1.5 + 0.34 * len(self.names))
        axis = figure.subplots()
        look = looks[self.attention]
        for row, (point, same) in enumerate(zip(self.points, self.same, strict=True)):
            marks.percent_bar(axis, row, point, look)
            if not same:
                axis.patches[-1].set(facecolor="white", edgecolor=look.color, hatch="////", linewidth=1.0)
        names = zip(self.names, self.same, strict=True)
        marks.named_rows(axis, [name if same else f"{name} *" for name, same in names])
        marks.room_beside(axis, self.points)
        axis.set_xlabel("time overhead against the network without attention (%)")
        return []


def spelling_figure(spellings: Spellings) -> SpellingFigure | None:
    """One bar a spelling; None where fewer than two were timed."""
    pairs = [(row, point) for row in spellings.rows
             if (point := marks.point_of(spellings.group, row.record, LATENCY)) is not None][:marks.MOST_BARS]
    if len(pairs) < 2:
        return None
    same = tuple(row.standing != OTHER for row, _ in pairs)
    return SpellingFigure(
        f"How {spellings.label} is written: {spellings.group.label}", pairs[0][0].record.attention,
        tuple(row.name for row, _ in pairs), tuple(point for _, point in pairs),
        same, () if all(same) else ("Hatched, with *: not the same function, so no equal choice.",),
    )

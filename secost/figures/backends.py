"""What runs the network, one row each: time without attention, with each attention, and the overheads in percent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secost.answers.families import Family, runtime_rows
from secost.answers.groups import LATENCY
from secost.figures import marks
from secost.figures.marks import BASE, Late, Look, Looks, Point
from secost.writing import joined, milliseconds, percent_measured


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
        right.grid(axis="y", visible=False)
        right.tick_params(axis="y", length=0)
        keys = [marks.key("none", color=BASE.color, linewidth=6)]
        keys += [marks.key(marks.fitted(bars.label), color=looks[bars.attention].color, linewidth=6)
                 for bars in self.bars]
        keys.append(marks.key("95 % interval", color="#222222", marker="|", markersize=8))
        figure.legend(handles=keys, loc="outside right upper")
        return []


def backend_figure(family: Family) -> BackendFigure:
    """Times and overheads of each attention on everything that ran it."""
    rows, labels = runtime_rows(family), family.variants()
    names = list(dict.fromkeys(row.name for row in rows))
    base = {row.name: row.base_ms for row in rows}
    shown = labels[: max(1, marks.MOST_BARS // len(names))]
    bars = []
    for label in shown:
        mine = {row.name: row for row in rows if row.record.label == label}
        in_order = [mine.get(name) for name in names]
        bars.append(BackendBars(
            label, next(iter(mine.values())).record.attention,
            tuple(None if row is None else row.record.latency_ms for row in in_order),
            tuple(None if row is None else marks.point_of(row.group, row.record, LATENCY) for row in in_order),
        ))
    return BackendFigure(f"Time by backend: {family.label}", tuple(names), tuple(base[name] for name in names),
                         tuple(bars), marks.left_out_line(labels[len(shown):], "attentions"))


def _time_bar(axis: Axes, place: float, value: float | None, look: Look, height: float) -> None:
    if value is None:
        _missing(axis, place)
        return
    axis.barh(place, value, height=0.9 * height, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0.5)
    axis.annotate(milliseconds(value), (value, place), (4, 0), textcoords="offset points", va="center", fontsize=7)


def _overhead_bar(axis: Axes, place: float, point: Point | None, look: Look, height: float) -> None:
    if point is None:
        _missing(axis, place)
        return
    axis.barh(place, point.percent, height=0.8 * height, color=look.color, hatch=look.hatch, edgecolor="white",
              linewidth=0.5)
    low = high = None
    if point.low is not None and point.high is not None:
        low, high = point.low / 100, point.high / 100
        axis.plot([point.low, point.high], [place, place], color="#222222", marker="|", markersize=5, linewidth=1.2)
    axis.annotate(percent_measured(point.percent / 100, low, high), (max(0.0, *point.reach), place), (5, 0),
                  textcoords="offset points", va="center", fontsize=7)


def _missing(axis: Axes, place: float) -> None:
    axis.annotate("N/A", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=7, color="#555555")

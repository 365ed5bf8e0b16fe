"""Time overhead, in percent, and images a second against batch, resolution or threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from secost.answers.families import Family, images_per_s, timed
from secost.answers.groups import LATENCY
from secost.figures import marks
from secost.figures.marks import BASE, Late, Looks, Point
from secost.writing import joined

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
            style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.5, "linewidth": 1.3}
            left.plot(across, [point.percent for point in line.overheads], **style, label=marks.fitted(line.label))
            marks.error_bars(left, across, line.overheads, look)
            unsure = [(x, point.percent) for x, point in zip(across, line.overheads, strict=True) if point.low is None]
            left.plot([x for x, _ in unsure], [y for _, y in unsure], linestyle="none", marker=look.marker,
                      markersize=4.5, color=look.color,
                      markerfacecolor="white")  # hollow: no interval, so not to be read as exact
            _speed_line(right, line.across, line.speeds, style)
        _speed_line(right, self.values, self.base, {"color": BASE.color, "marker": BASE.marker, "markersize": 4.5,
                                                    "linewidth": 1.3, "linestyle": "--"})
        for axis in (left, right):
            _places(axis, self)
        marks.from_zero(left, [point for line in self.lines for point in line.overheads])
        right.set_ylim(bottom=0)
        figure.legend(handles=_keys(self, looks), loc="outside right upper")
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


def _speed_line(axis: Axes, across: Sequence[int], speeds: Sequence[float | None], style: dict[str, Any]) -> None:
    known = [(x, speed) for x, speed in zip(across, speeds, strict=True) if speed is not None]
    axis.plot([x for x, _ in known], [speed for _, speed in known], **style)


def _set_apart(info: AxisFigure, across: Sequence[int], index: int) -> list[float]:
    """Places of one of several lines, moved a little, so that every interval is seen."""
    step = index - (len(info.lines) - 1) / 2
    if info.doubling:
        return [value * 2.0 ** (0.1 * step) for value in across]
    return [value + 0.015 * step * (info.values[-1] - info.values[0]) for value in across]


def _places(axis: Axes, info: AxisFigure) -> None:
    if info.doubling:
        axis.set_xscale("log", base=2)
        axis.set_xlim(info.values[0] * 2.0**-0.4, info.values[-1] * 2.0**0.4)
    marks.ticks_at(axis, info.values)
    axis.set_xlabel(_TITLES[info.axis])


def _keys(info: AxisFigure, looks: Looks) -> list[Line2D]:
    keys = [marks.key(marks.fitted(line.label), color=looks[line.attention].color, marker=looks[line.attention].marker,
                      markersize=5) for line in info.lines]
    keys.append(marks.key("none", color=BASE.color, marker=BASE.marker, markersize=5, linestyle="--"))
    return [*keys, marks.interval_key()]

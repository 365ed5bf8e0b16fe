"""Paints the figures of `figures_across`: spellings, batch and shape, backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from secost.figures.across import AXIS_TITLES, AxisFigure, BackendFigure, SpellingFigure, doubling
from secost.figures.costs import Point
from secost.figures.marks import Late, Look, Looks, entitle, error_bars, fitted, from_zero, percent_bar, reach
from secost.numbers import milliseconds, percent_measured

_BASE = Look("#777777", "o", "")


def paint_spelling(figure: Figure, info: SpellingFigure, looks: Looks) -> list[Late]:
    """A bar a spelling with its interval; hollow where it is another function."""
    count = len(info.names)
    figure.set_size_inches(7.2, 1.5 + 0.34 * count)
    axis = figure.subplots()
    look = looks[info.attention]
    for row, (point, same) in enumerate(zip(info.points, info.same, strict=True)):
        percent_bar(axis, row, point, look)
        if not same:
            axis.patches[-1].set(facecolor="white", edgecolor=look.color, hatch="////", linewidth=1.0)
    _rows(axis, [name if same else f"{name} *" for name, same in zip(info.names, info.same, strict=True)])
    _room(axis, info.points)
    axis.set_xlabel("time overhead against the network without attention (%)")
    return []


def paint_axis(figure: Figure, info: AxisFigure, looks: Looks) -> list[Late]:
    """Overhead with intervals at the left, images a second at the right."""
    figure.set_size_inches(9.4, 3.6)
    left, right = figure.subplots(1, 2)
    entitle(left, "Time overhead (%)")
    entitle(right, "Images a second")
    for index, line in enumerate(info.lines):
        look = looks[line.attention]
        across = _set_apart(info, line.across, index)
        style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.5, "linewidth": 1.3}
        left.plot(across, [point.percent for point in line.overheads], **style, label=fitted(line.label))
        error_bars(left, across, line.overheads, look)
        unsure = [(x, point.percent) for x, point in zip(across, line.overheads, strict=True) if point.low is None]
        left.plot([x for x, _ in unsure], [y for _, y in unsure], linestyle="none", marker=look.marker, markersize=4.5,
                  color=look.color, markerfacecolor="white")  # hollow: no interval, so not to be read as exact
        _speed_line(right, line.across, line.speeds, style)
    _speed_line(right, info.values, info.base, {"color": _BASE.color, "marker": "o", "markersize": 4.5,
                                               "linewidth": 1.3, "linestyle": "--"})
    for axis in (left, right):
        _places(axis, info)
    from_zero(left, [point for line in info.lines for point in line.overheads])
    right.set_ylim(bottom=0)
    figure.legend(handles=_legend(info, looks), loc="outside right upper")
    return []


def paint_backends(figure: Figure, info: BackendFigure, looks: Looks) -> list[Late]:
    """Milliseconds without and with attention at the left, overheads with intervals at the right, a row a backend."""
    bars = len(info.bars)
    figure.set_size_inches(9.6, 1.7 + len(info.names) * (0.26 * (bars + 1) + 0.14))
    left, right = figure.subplots(1, 2, sharey=True)
    entitle(left, "Time of one pass (ms)")
    entitle(right, "Time overhead (%)")
    height = 0.8 / (bars + 1)
    for row in range(len(info.names)):
        _time_bar(left, row - 0.4 + height / 2, info.base_ms[row], _BASE, height)
        for index, found in enumerate(info.bars):
            look, place = looks[found.attention], row - 0.4 + height * (index + 1.5)
            _time_bar(left, place, found.times_ms[row], look, height)
            _overhead_bar(right, row - 0.4 + 0.8 / bars * (index + 0.5), found.overheads[row], look, 0.8 / bars)
    _rows(left, info.names)
    _room(left, [Point(value) for value in (*info.base_ms, *(item for found in info.bars for item in found.times_ms))
                 if value is not None])
    _room(right, [point for found in info.bars for point in found.overheads if point is not None])
    right.grid(axis="y", visible=False)
    right.tick_params(axis="y", length=0)
    handles = [Line2D([], [], color=_BASE.color, linewidth=6, label="none")]
    handles += [Line2D([], [], color=looks[found.attention].color, linewidth=6, label=fitted(found.label))
                for found in info.bars]
    handles.append(Line2D([], [], color="#222222", marker="|", markersize=8, label="95 % interval"))
    figure.legend(handles=handles, loc="outside right upper")
    return []


def _time_bar(axis: Axes, place: float, value: float | None, look: Look, height: float) -> None:
    if value is None:
        axis.annotate("N/A", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=7, color="#555555")
        return
    axis.barh(place, value, height=0.9 * height, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0.5)
    axis.annotate(milliseconds(value), (value, place), (4, 0), textcoords="offset points", va="center", fontsize=7)


def _overhead_bar(axis: Axes, place: float, point: Point | None, look: Look, height: float) -> None:
    if point is None:
        axis.annotate("N/A", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=7, color="#555555")
        return
    axis.barh(place, point.percent, height=0.8 * height, color=look.color, hatch=look.hatch, edgecolor="white",
              linewidth=0.5)
    low = high = None
    if point.low is not None and point.high is not None:
        low, high = point.low / 100, point.high / 100
        axis.plot([point.low, point.high], [place, place], color="#222222", marker="|", markersize=5, linewidth=1.2)
    axis.annotate(percent_measured(point.percent / 100, low, high), (max(0.0, *reach(point)), place), (5, 0),
                  textcoords="offset points", va="center", fontsize=7)


def _rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), [fitted(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def _room(axis: Axes, points: Sequence[Point]) -> None:
    """The x axis from 0 with room for the numbers beside the bars."""
    ends = [value for point in points for value in reach(point)] or [0.0]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = high - low or 1.0
    axis.set_xlim(low - (0.05 * span if low < 0 else 0), high + 0.28 * span)
    axis.xaxis.set_major_locator(MaxNLocator(5))


def _speed_line(axis: Axes, across: Sequence[int], speeds: Sequence[float | None], style: dict[str, Any]) -> None:
    known = [(x, speed) for x, speed in zip(across, speeds, strict=True) if speed is not None]
    axis.plot([x for x, _ in known], [speed for _, speed in known], **style)


def _set_apart(info: AxisFigure, across: Sequence[int], index: int) -> list[float]:
    """Places of one of several lines, moved a little, so that every interval is seen."""
    step = index - (len(info.lines) - 1) / 2
    if doubling(info.values):
        return [value * 2.0 ** (0.1 * step) for value in across]
    return [value + 0.015 * step * (info.values[-1] - info.values[0]) for value in across]


def _places(axis: Axes, info: AxisFigure) -> None:
    values = info.values
    if doubling(values):
        axis.set_xscale("log", base=2)
        axis.set_xlim(values[0] * 2.0**-0.4, values[-1] * 2.0**0.4)
    axis.xaxis.set_major_locator(FixedLocator(list(values)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(AXIS_TITLES[info.axis])


def _legend(info: AxisFigure, looks: Looks) -> list[Line2D]:
    found = [Line2D([], [], color=looks[line.attention].color, marker=looks[line.attention].marker, markersize=5,
                    label=fitted(line.label)) for line in info.lines]
    found.append(Line2D([], [], color=_BASE.color, marker="o", markersize=5, linestyle="--", label="none"))
    found.append(Line2D([], [], color="#555555", marker="|", markersize=10, linestyle="none", label="95 % interval"))
    return found

"""What all figures share: points with intervals, an attention's look, axes in a grid, bars, legends, texts that fit."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from secost.answers.groups import Currency, Group
from secost.runs.records import Record
from secost.writing import percent_measured, plain

MOST_ATTENTIONS, MOST_BARS = 8, 24
_NAME_WIDTH = 34


@dataclass(frozen=True)
class Point:
    """An overhead in percent; `low` and `high` are its interval where it was measured."""

    percent: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def reach(self) -> tuple[float, float, float]:
        """The values that its mark extends to: itself and the ends of its interval."""
        return (self.percent, self.percent if self.low is None else self.low,
                self.percent if self.high is None else self.high)

    @property
    def shown(self) -> str:
        """The number with as many digits as its interval carries: `+8.1 %`."""
        low, high = (None, None) if self.interval is None else (end / 100 for end in self.interval)
        return percent_measured(self.percent / 100, low, high)


@dataclass(frozen=True)
class Look:
    """Colour, marker and hatch of an attention, the same in every figure of a report."""

    color: str
    marker: str
    hatch: str


Looks = dict[str, Look]
Late = Callable[[], None]
BASE = Look("#777777", "o", "")  # the network without attention


def point_of(group: Group, record: Record, currency: Currency) -> Point | None:
    """A record's overhead in a currency, in percent, with its interval; None where it is not known."""
    value = group.overhead(record, currency)
    return None if value is None else Point(100 * value, *(100 * end for end in currency.interval(record) or ()))


def left_out_line(names: Sequence[str], what: str) -> tuple[str, ...]:
    """`Left out: 3 variants (...).`, or nothing."""
    if not names:
        return ()
    shown = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
    return (f"Left out: {len(names)} {what} ({shown}).",)


# --- axes ---


def grid(figure: Figure, cells: int, width: float, height: float, extra: float = 0.0, most: int = 3) -> list[Axes]:
    """`cells` axes, at most `most` a row; sizes in inches, `extra` for a legend at the right."""
    columns = min(most, cells)
    rows = -(-cells // columns)
    figure.set_size_inches(width * columns + extra, height * rows + 0.5)
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[cells:]:
        axis.set_axis_off()
    return axes[:cells]


def entitle(axis: Axes, title: str) -> None:
    """The title of one axes, cut to its width."""
    axis.set_title(fitted(title, 48), loc="left")


def from_zero(axis: Axes, points: Iterable[Point]) -> None:
    """The y axis shows 0, so that heights can be compared."""
    low, high, span = _reach_with_zero(points)
    room = 0.08 * span
    axis.set_ylim(low - (room if low < 0 else 0.02 * (high or 1.0)), high + room)
    if low < 0:
        axis.axhline(0, color="#888888", linewidth=0.8)


def room_beside(axis: Axes, points: Iterable[Point], room: float = 0.28, ticks: int = 5) -> None:
    """The x axis from 0 with room for the numbers beside the bars, as a part of the bars' reach."""
    low, high, span = _reach_with_zero(points)
    axis.set_xlim(low - (0.05 * span if low < 0 else 0), high + room * span)
    axis.xaxis.set_major_locator(MaxNLocator(ticks))


def _reach_with_zero(points: Iterable[Point]) -> tuple[float, float, float]:
    ends = [0.0, *(value for point in points for value in point.reach)]
    low, high = min(ends), max(ends)
    return low, high, high - low or 1.0


def named_rows(axis: Axes, names: Sequence[str]) -> None:
    """A name at each row, the first on top."""
    axis.set_yticks(range(len(names)), [fitted(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    plain_rows(axis)


def plain_rows(axis: Axes) -> None:
    """No line and no tick at a row."""
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def ticks_at(axis: Axes, values: Sequence[int]) -> None:
    """Ticks of the x axis at these values, as plain numbers, and no others."""
    axis.xaxis.set_major_locator(FixedLocator(list(values)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


# --- marks ---


def upright(axis: Axes, x: float, point: Point, look: Look, **style: Any) -> None:
    """The interval of a point as an upright line, where it has one."""
    if point.interval is not None:
        axis.vlines(x, *point.interval, color=look.color, linewidth=1.1, **style)


def error_bars(axis: Axes, across: Sequence[float], points: Sequence[Point], look: Look) -> None:
    """The intervals of points at these places, where they have one, with caps."""
    for x, point in zip(across, points, strict=True):
        upright(axis, x, point, look)
        if point.interval is not None:
            axis.plot([x, x], point.interval, color=look.color, marker="_", markersize=6, linestyle="none")


def percent_bar(axis: Axes, row: int, point: Point | None, look: Look) -> None:
    """A bar with its number; a measured one with its interval."""
    if point is None:
        axis.text(0, row, " N/A", va="center", fontsize=8, color="#555555")
        return
    axis.barh(row, point.percent, height=0.62, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0.5)
    if point.interval is not None:
        axis.hlines(row, *point.interval, color="#222222", linewidth=1.2)
        axis.plot(point.interval, [row, row], color="#222222", marker="|", markersize=5, linestyle="none")
    beside(axis, max(0.0, *point.reach), row, point.shown, fontsize=8)


def beside(axis: Axes, x: float, y: float, text: str, gap: int = 4, **style: Any) -> None:
    """A text at the right of a place, `gap` points off."""
    axis.annotate(text, (x, y), (gap, 0), textcoords="offset points", va="center", **style)


def front_line(axis: Axes, corners: Sequence[tuple[float, float]]) -> None:
    """A front as a dotted line."""
    axis.plot(*zip(*corners, strict=True), color="#777777", linewidth=1, linestyle=":", zorder=1)


def staircase(corners: Sequence[tuple[float, float]], right: float) -> list[tuple[float, float]]:
    """The line of a front through its corners, from left to right: across first, then up or down; to the right edge."""
    steps = [place for (_, level), (x, y) in pairwise(corners) for place in ((x, level), (x, y))]
    return [corners[0], *steps, (right, corners[-1][1])]


# --- legends and texts ---


def key(label: str, **style: Any) -> Line2D:
    """One line of a legend."""
    return Line2D([], [], label=label, **style)


def look_key(label: str, look: Look, **style: Any) -> Line2D:
    """The line of a legend for an attention, its label cut to fit."""
    return key(fitted(label), color=look.color, marker=look.marker, **style)


def attention_keys(attentions: Iterable[str], looks: Looks, measured: bool) -> list[Line2D]:
    """A line of a legend for each attention, and one for intervals where some were measured."""
    keys = [look_key(name, looks[name], linewidth=1.4, markersize=6) for name in attentions]
    return [*keys, interval_key()] if measured else keys


def interval_key() -> Line2D:
    """The line of a legend for intervals."""
    return key("95 % interval", color="#555555", marker="|", markersize=10, linestyle="none")


def fitted(text: str, width: int = _NAME_WIDTH) -> str:
    """Text as the figure's font can show it, its middle left out where it is too long (the ends tell names apart)."""
    known = characters()
    cleaned = "".join(character if ord(character) in known else "?" for character in plain(text))
    if len(cleaned) <= width:
        return cleaned
    head = (width - 1) // 2
    return f"{cleaned[:head]}…{cleaned[-(width - 1 - head):]}"


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most that many letters."""
    return "\n".join(textwrap.wrap(fitted(text, 4 * width), width)) or " "


@functools.cache
def characters() -> frozenset[int]:
    """Code points of the font, which comes with matplotlib. A missing one would be a warning and an empty box."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


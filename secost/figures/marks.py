"""What the painters of figures share: an attention's look, axes in a grid, bars and intervals, texts that fit."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from secost.cleaning import plain
from secost.figures.costs import Point
from secost.numbers import percent, percent_measured

_NAME_WIDTH = 34


@dataclass(frozen=True)
class Look:
    """Colour, marker and hatch of an attention, the same in every figure of a report."""

    color: str
    marker: str
    hatch: str


Looks = dict[str, Look]
Late = Callable[[], None]


def grid(
    figure: Figure, cells: int, width: float, height: float, extra: float = 0.0, most: int = 3,
) -> list[Axes]:
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


def from_zero(axis: Axes, points: Sequence[Point]) -> None:
    """The y axis shows 0, so that heights can be compared."""
    ends = [value for point in points for value in reach(point)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.08 * (high - low or 1.0)
    axis.set_ylim(low - (room if low < 0 else 0.02 * (high or 1.0)), high + room)
    if low < 0:
        axis.axhline(0, color="#888888", linewidth=0.8)


def error_bars(axis: Axes, across: Sequence[float], points: Sequence[Point], look: Look) -> None:
    """The intervals of points at these places, where they have one."""
    for x, point in zip(across, points, strict=True):
        if point.low is not None and point.high is not None:
            axis.vlines(x, point.low, point.high, color=look.color, linewidth=1.1)
            axis.plot([x, x], [point.low, point.high], color=look.color, marker="_", markersize=6, linestyle="none")


def percent_bar(axis: Axes, row: int, point: Point | None, look: Look) -> None:
    """A bar with its number; a measured one with its interval."""
    if point is None:
        axis.text(0, row, " N/A", va="center", fontsize=8, color="#555555")
        return
    axis.barh(row, point.percent, height=0.62, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0.5)
    end = max(0.0, *reach(point))
    if point.low is None or point.high is None:
        shown = percent(point.percent / 100)
    else:
        axis.hlines(row, point.low, point.high, color="#222222", linewidth=1.2)
        axis.plot([point.low, point.high], [row, row], color="#222222", marker="|", markersize=5, linestyle="none")
        shown = percent_measured(point.percent / 100, point.low / 100, point.high / 100)
    axis.annotate(shown, (end, row), (4, 0), textcoords="offset points", va="center", fontsize=8)


def reach(point: Point) -> tuple[float, float, float]:
    """The values a point's mark extends to."""
    low = point.percent if point.low is None else point.low
    high = point.percent if point.high is None else point.high
    return point.percent, low, high


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

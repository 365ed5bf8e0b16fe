"""Panels of labelled curves with intervals: the figure of the studies and of the search's evidence.

A panel is plain numbers; matplotlib is imported when it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from secost.statistics import Interval

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing

GREY = "#555555"


@dataclass(frozen=True)
class Curve:
    """Points (x, y) of one look: the so-maniest of all looks, or a colour. Without `width` no line joins them.

    `intervals` are (x, low, high), `thick` wide. The marker is the look's own, unless it is named; "" is none.
    """

    points: Sequence[tuple[float, float]]
    look: int | str
    label: str | None = None
    marker: str | None = None
    size: float = 4
    width: float = 1.5
    alpha: float | None = None
    steps: bool = False
    intervals: Sequence[tuple[float, float, float]] = ()
    thick: float = 1


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes. `ticks` name places on the x axis; `bottom` is an end of the y axis that is at
    least shown, `range` are both its ends.

    `level` is a line across at a value, `limit` one upwards that the legend knows by its label. With `band`, a part,
    stands the line on which y is x, and the band of all x that are no further off than so.
    """

    title: str
    curves: Sequence[Curve]
    x: str = ""
    y: str = ""
    ticks: Sequence[str] | None = None
    whole: bool = False
    bottom: float | None = None
    range: tuple[float, float] | None = None
    level: float | None = None
    limit: tuple[float, str] | None = None
    band: float | None = None


def curve_of(places: Sequence[float], values: Sequence[Interval], look: int, **more: Any) -> Curve:
    """The curve through estimates, with those intervals that there are."""
    found = list(zip(places, values, strict=True))
    return Curve([(x, value.estimate) for x, value in found], look, intervals=[
        (x, value.low, value.high) for x, value in found if value.low is not None and value.high is not None], **more)


def drawn(name: str, title: str, alt: str, panels: Sequence[Panel], **layout: Any) -> Drawing:
    """The panels as one figure; `layout` is that of `drawing.panels`."""
    from secost.figures.drawing import panels as laid_out

    painters: list[Callable[[Any], None]] = [partial(_paint, panel) for panel in panels]
    return laid_out(name, title, alt, painters, **layout)


def _paint(panel: Panel, axis: Any) -> None:
    for curve in panel.curves:
        _paint_curve(curve, axis)
    if panel.limit is not None:
        axis.axvline(panel.limit[0], color=GREY, linestyle=":", label=panel.limit[1])
    if panel.level is not None:
        axis.axhline(panel.level, color="#888888", linewidth=0.8)
    if panel.band is not None:
        most = max([0.0, *(value for curve in panel.curves for point in curve.points for value in point)])
        axis.plot([0, most], [0, most], color="#888888", linewidth=0.8)
        axis.fill_between([0, most], [0, most / (1 + panel.band)], [0, most / (1 - panel.band)], color="#dddddd",
                          zorder=0)
    axis.set_title(panel.title, loc="left")
    axis.set_xlabel(panel.x)
    axis.set_ylabel(panel.y)
    if panel.ticks is not None:
        axis.set_xticks(range(len(panel.ticks)), panel.ticks)
    if panel.whole:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if panel.bottom is not None:
        axis.set_ylim(bottom=min(panel.bottom, axis.get_ylim()[0]))
    if panel.range is not None:
        axis.set_ylim(*panel.range)


def _paint_curve(curve: Curve, axis: Any) -> None:
    from secost.figures.drawing import numbered_look

    look = numbered_look(curve.look) if isinstance(curve.look, int) else None
    color = curve.look if look is None else look.color
    marker = curve.marker if look is None or curve.marker is not None else look.marker
    axis.plot([x for x, _ in curve.points], [y for _, y in curve.points], color=color, marker=marker,
              markersize=curve.size, linewidth=curve.width or None, linestyle="-" if curve.width else "none",
              alpha=curve.alpha, drawstyle="steps-post" if curve.steps else None, label=curve.label)
    for x, low, high in curve.intervals:
        axis.vlines(x, low, high, color=color, linewidth=curve.thick)

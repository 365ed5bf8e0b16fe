"""Panels of curves with intervals, of an image and heat maps, of what sits at each site: the studies' and the search's.

All are plain numbers; matplotlib is imported when they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from secost.statistics import Interval

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing

GREY = "#555555"


# --- curves ---


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
    points = list(zip(places, values, strict=True))
    return Curve([(x, value.estimate) for x, value in points], look, intervals=[
        (x, value.low, value.high) for x, value in points if value.low is not None and value.high is not None], **more)


def drawn(name: str, title: str, alt: str, panels: Sequence[Panel], **layout: Any) -> Drawing:
    """The panels as one figure; `layout` is that of `drawing.panels`."""
    return _laid_out(name, title, alt, [partial(_paint, panel) for panel in panels], **layout)


def _laid_out(name: str, title: str, alt: str, painters: Sequence[Callable[[Any], None]], **layout: Any) -> Drawing:
    from secost.figures.drawing import panels

    return panels(name, title, alt, painters, **layout)


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


# --- places ---


@dataclass(frozen=True)
class Grid:
    """Where an occluder stands on an image (H, W, 3): its size, its steps, and its upper and left edges."""

    image: np.ndarray
    size_px: int
    step_px: int
    rows: Sequence[int]
    columns: Sequence[int]


@dataclass(frozen=True)
class SiteRow:
    """One network: its name, and what sits at each site, as (kind, what is written there); None is nothing."""

    name: str
    sites: Sequence[tuple[str, str] | None]


def heat_maps(
    name: str, title: str, alt: str, grid: Grid, image_title: str, maps: Sequence[tuple[str, np.ndarray]], reach: float,
) -> Drawing:
    """The image with the occluder's grid, and a map (rows, columns) for each title, from -reach to reach."""
    painters = [partial(_paint_map, grid, above, values, reach) for above, values in maps]
    return _laid_out(name, title, alt, [partial(_paint_image, grid, image_title), *painters], most=4, width=2.4,
                     height=2.5)


def site_grid(
    name: str, title: str, alt: str, rows: Sequence[SiteRow], sites: Sequence[str], kinds: Sequence[str],
) -> Drawing:
    """A row a network, a column a site (named by `sites`), a colour each of the `kinds`."""
    from secost.figures.drawing import numbered_look

    colors = {kind: numbered_look(index).color for index, kind in enumerate(kinds)}
    return _laid_out(name, title, alt, [partial(_paint_sites, rows, sites, colors)],
                     width=max(4.5, 1.6 + 0.75 * len(sites)), height=1.2 + 0.3 * (len(rows) + 1))


def _paint_image(grid: Grid, title: str, axis: Any) -> None:
    height, width = grid.image.shape[:2]
    axis.imshow(grid.image, extent=(0, width, height, 0), interpolation="nearest")
    every = max(1, grid.size_px // grid.step_px)
    for line, edges, last in ((axis.axhline, grid.rows, height), (axis.axvline, grid.columns, width)):
        for place in [*edges[::every], last]:
            line(place, color="#ffffff", linewidth=0.4, alpha=0.7)
    _small(axis, title)


def _paint_map(grid: Grid, title: str, values: np.ndarray, reach: float, axis: Any) -> None:
    height, width = grid.image.shape[:2]
    # A cell is as large as a step and lies round the occluder's middle.
    first, last = (grid.size_px - grid.step_px) / 2, (grid.size_px + grid.step_px) / 2
    axis.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest", extent=(
        grid.columns[0] + first, grid.columns[-1] + last, grid.rows[-1] + last, grid.rows[0] + first))
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    _small(axis, title)


def _small(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=8)
    axis.grid(False)
    axis.tick_params(labelsize=7)
    axis.locator_params(integer=True, nbins=5)


def _paint_sites(rows: Sequence[SiteRow], sites: Sequence[str], colors: Mapping[str, str], axis: Any) -> None:
    for height, row in enumerate(rows):
        for place, item in enumerate(row.sites):
            kind, text = item or ("", "")
            axis.barh(height, 0.94, left=place - 0.47, height=0.8, color=colors.get(kind, "white"),
                      edgecolor="#bbbbbb", alpha=0.85 if item else 1.0, linewidth=0.6)
            axis.text(place, height, text, ha="center", va="center", fontsize=7, color="white" if item else "black")
    axis.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xticks(range(len(sites)), sites, fontsize=7)
    axis.set_xlabel("site (stage)")
    axis.set_xlim(-0.6, len(sites) - 0.4)
    axis.grid(False)
    for kind, color in colors.items():
        axis.bar([0], [0], color=color, label=kind)

"""Figures of places: an image with heat maps beside it, and a grid of what sits at each site of a network.

Both are plain numbers; matplotlib is imported when they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing


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
    from secost.figures.drawing import panels

    painters: list[Callable[[Any], None]] = [partial(_paint_image, grid, image_title)]
    painters += [partial(_paint_map, grid, above, values, reach) for above, values in maps]
    return panels(name, title, alt, painters, most=4, width=2.4, height=2.5)


def site_grid(
    name: str, title: str, alt: str, rows: Sequence[SiteRow], sites: Sequence[str], kinds: Sequence[str],
) -> Drawing:
    """A row a network, a column a site (named by `sites`), a colour each of the `kinds`."""
    from secost.figures.drawing import numbered_look, panels

    colors = {kind: numbered_look(index).color for index, kind in enumerate(kinds)}
    return panels(name, title, alt, [partial(_paint_sites, rows, sites, colors)],
                  width=max(4.5, 1.6 + 0.75 * len(sites)), height=1.2 + 0.3 * (len(rows) + 1))


def _paint_image(grid: Grid, title: str, axis: Any) -> None:
    height, width = grid.image.shape[:2]
    axis.imshow(grid.image, extent=(0, width, height, 0), interpolation="nearest")
    every = max(1, grid.size_px // grid.step_px)
    for row in [*grid.rows[::every], height]:
        axis.axhline(row, color="#ffffff", linewidth=0.4, alpha=0.7)
    for column in [*grid.columns[::every], width]:
        axis.axvline(column, color="#ffffff", linewidth=0.4, alpha=0.7)
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

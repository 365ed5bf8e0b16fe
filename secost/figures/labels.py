"""Labels beside points, once the layout of an axes is known, so that none covers another, a point or the frame.

Where they go is pure geometry, in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.text import Annotation

from secost.figures.marks import Late, fitted

Pair = tuple[float, float]  # x and y, or width and height
_DIRECTIONS = tuple((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in (
    0, 45, -45, 90, -90, 135, -135, 180, 22, -22, 67, -67, 112, -112, 157, -157,
))
_DISTANCES = (8.0, 14.0, 22.0, 32.0, 46.0, 62.0, 82.0, 106.0, 134.0, 168.0, 210.0)
LEADER_FROM = 15.0
_LEADER_STEPS = 12
_LABEL_WIDTH = 24
_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}  # so that no line strikes a label out


def labeller(axis: Axes, places: Sequence[Pair], names: Sequence[str], obstacles: Callable[[], list[Box]]) -> Late:
    """What puts each name beside its point (in data units) and leaves out those that find no room.

    `obstacles` gives, in pixels, what labels must not cover; places are kept, so that any resolution shows the same.
    """

    def late() -> None:
        figure = axis.get_figure(root=True)
        assert figure is not None  # an axes that was just drawn is in a figure
        at = [pixels(axis, *spot) for spot in places]
        texts = [axis.annotate(fitted(name, _LABEL_WIDTH), spot, fontsize=8, zorder=5, bbox=_HALO)
                 for name, spot in zip(names, places, strict=True)]
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        sizes = [(box.width + 2, box.height + 2) for box in (text.get_window_extent(renderer) for text in texts)]
        frame = axis.get_window_extent(renderer)
        placements = place(at, sizes, obstacles(), Box(frame.x0, frame.y0, frame.x1, frame.y1))
        placed = {placement.index for placement in placements}
        for placement in placements:
            _put(axis, texts[placement.index], at[placement.index], placement, 72 / figure.dpi)
        for index, text in enumerate(texts):
            if index not in placed:
                text.remove()

    return late


def _put(axis: Axes, text: Annotation, point: Pair, placement: Placement, scale: float) -> None:
    """Moves an annotation to its box, and draws a thin line from there to its point where it is far off.

    Distances are kept in points, so that any resolution shows the same.
    """
    box = placement.box
    text.set_position(((box.left + 1 - point[0]) * scale, (box.bottom + 1 - point[1]) * scale))
    text.set_anncoords("offset points")
    text.set(verticalalignment="bottom", horizontalalignment="left")
    if placement.leader:
        x, y = leader_end(point, box)
        arrow = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
        axis.annotate("", text.xy, ((x - point[0]) * scale, (y - point[1]) * scale), textcoords="offset points",
                      arrowprops=arrow)


def pixels(axis: Axes, x: float, y: float) -> tuple[float, float]:
    """Where a point in data units is on the canvas."""
    across, up = axis.transData.transform((x, y))
    return float(across), float(up)


# --- geometry ---


@dataclass(frozen=True)
class Box:
    """A rectangle with y growing upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        return (self.left < other.right and other.left < self.right
                and self.bottom < other.top and other.bottom < self.top)

    def inside(self, other: Box) -> bool:
        return (self.left >= other.left and self.right <= other.right
                and self.bottom >= other.bottom and self.top <= other.top)

    def grown(self, margin: float) -> Box:
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)


@dataclass(frozen=True)
class Placement:
    """Where a label's box goes. `leader` says that it is far enough from its point to need a line to it."""

    index: int
    box: Box
    leader: bool


def place(points: Sequence[Pair], sizes: Sequence[Pair], obstacles: Sequence[Box], frame: Box) -> list[Placement]:
    """A box for each label, in the given order, the nearest free place first; without those that fit nowhere.

    Boxes overlap neither each other nor an obstacle, lie inside the frame, and no leader crosses another's label.
    """
    taken: list[Box] = list(obstacles)
    placements: list[Placement] = []
    for index, (point, size) in enumerate(zip(points, sizes, strict=True)):
        placement = _first_free(index, point, size, taken, placements, frame)
        if placement is None:
            continue
        taken.append(placement.box)
        taken += leader_boxes(point, placement.box) if placement.leader else []
        placements.append(placement)
    return placements


def leader_end(point: Pair, box: Box) -> Pair:
    """Where a leader from the point meets the box: its nearest place."""
    return min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top)


def leader_boxes(point: Pair, box: Box) -> list[Box]:
    """Small boxes along a leader, from near the label to near the point."""
    end = leader_end(point, box)
    steps = [(step + 0.5) / _LEADER_STEPS for step in range(_LEADER_STEPS)]
    middles = [(end[0] + (point[0] - end[0]) * step, end[1] + (point[1] - end[1]) * step) for step in steps]
    return [Box(x, y, x, y).grown(0.5) for x, y in middles]


def _first_free(
    index: int, point: Pair, size: Pair, taken: Sequence[Box], placed: Sequence[Placement], frame: Box,
) -> Placement | None:
    for distance, box in _candidates(point, size):
        if not box.inside(frame) or any(box.overlaps(other) for other in taken):
            continue
        leader = distance >= LEADER_FROM
        line = leader_boxes(point, box) if leader else []
        if not any(part.overlaps(other.box) for part in line for other in placed):
            return Placement(index, box, leader)
    return None


def _candidates(point: Pair, size: Pair) -> Iterator[tuple[float, Box]]:
    """Boxes around the point whose nearest side is the distance away, nearest first."""
    width, height = size
    for distance in _DISTANCES:
        for across, up in _DIRECTIONS:
            x = point[0] + distance * across + width * (across - 1) / 2
            y = point[1] + distance * up + height * (up - 1) / 2
            yield distance, Box(x, y, x + width, y + height)

"""Places the labels of points in an axes once its layout is known: beside their points, on nothing that matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.text import Annotation

from secost.figures.labels import Box, leader_end, place
from secost.figures.marks import Late, fitted

_LABEL_WIDTH = 24
_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}  # so that no line strikes a label out


def labeller(
    axis: Axes, places: Sequence[tuple[float, float]], names: Sequence[str], obstacles: Callable[[], list[Box]]
) -> Late:
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
        found = place(at, sizes, obstacles(), Box(frame.x0, frame.y0, frame.x1, frame.y1))
        placed = {placement.index for placement in found}
        for placement in found:
            text, point = texts[placement.index], at[placement.index]
            _put(text, point, placement.box, 72 / figure.dpi)
            if placement.leader:
                _leader(axis, text, point, placement.box, 72 / figure.dpi)
        for index, text in enumerate(texts):
            if index not in placed:
                text.remove()

    return late


def _put(text: Annotation, point: tuple[float, float], box: Box, scale: float) -> None:
    """Moves an annotation to its box; distances are kept in points, so that any resolution shows the same."""
    text.set_position(((box.left + 1 - point[0]) * scale, (box.bottom + 1 - point[1]) * scale))
    text.set_anncoords("offset points")
    text.set_verticalalignment("bottom")
    text.set_horizontalalignment("left")


def _leader(axis: Axes, text: Annotation, point: tuple[float, float], box: Box, scale: float) -> None:
    """A thin line from the label's box to its point."""
    x, y = leader_end(point, box)
    arrow = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
    axis.annotate("", text.xy, ((x - point[0]) * scale, (y - point[1]) * scale), textcoords="offset points",
                  arrowprops=arrow)


def pixels(axis: Axes, x: float, y: float) -> tuple[float, float]:
    """Where a point in data units is on the canvas."""
    found = axis.transData.transform((x, y))
    return float(found[0]), float(found[1])

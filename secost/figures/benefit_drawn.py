"""Paints the cost-benefit figure: error bars on both axes, the front, and how surely a point is beaten."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from secost.answers.evidence import BEATEN, BEATEN_ON_MEAN, UNBEATEN
from secost.figures.benefit import BenefitFigure, BenefitPanel, BenefitPoint
from secost.figures.labelling import labeller, pixels
from secost.figures.labels import Box
from secost.figures.marks import Late, Looks, entitle, fitted, grid, reach

_ALPHA = {UNBEATEN: 1.0, BEATEN_ON_MEAN: 1.0, BEATEN: 0.35}


def paint_benefit(figure: Figure, info: BenefitFigure, looks: Looks) -> list[Late]:
    """A panel a currency, gain upwards and cost to the right; filled points are not beaten."""
    axes = grid(figure, len(info.panels), width=3.9, height=3.7, extra=1.7)
    late = []
    for axis, panel in zip(axes, info.panels, strict=True):
        entitle(axis, f"against {panel.currency.word}")
        axis.axhline(0, color="#888888", linewidth=0.8, zorder=1)
        axis.axvline(0, color="#888888", linewidth=0.8, zorder=1)
        axis.plot([0], [0], marker="o", color="#777777", markersize=6, linestyle="none", zorder=2)
        for point in panel.points:
            _mark(axis, point, looks)
        _room(axis, panel)
        _front(axis, panel)
        axis.set_xlabel(f"added {panel.currency.word} (%)")
        axis.set_ylabel("gain in top-1 accuracy (points)")
        late.append(_labeller(axis, panel))
    figure.legend(handles=_legend(info, looks), loc="outside right upper")
    return late


def _labeller(axis: Axes, panel: BenefitPanel) -> Late:
    """Points that nobody beats get their label first; none of them covers a marker or an interval."""
    points = sorted(panel.points, key=lambda point: point.standing != UNBEATEN)
    places = [(point.cost.percent, point.gain.percent) for point in points]

    def obstacles() -> list[Box]:
        found = []
        for point in points:
            middle, low, high = (pixels(axis, point.cost.percent, end) for end in reach(point.gain))
            found += [Box(*low, *high).grown(2), Box(*middle, *middle).grown(6)]
        return found

    return labeller(axis, places, [point.label for point in points], obstacles)


def _mark(axis: Axes, point: BenefitPoint, looks: Looks) -> None:
    look, x, y = looks[point.attention], point.cost.percent, point.gain.percent
    alpha = _ALPHA[point.standing]
    if point.gain.low is not None and point.gain.high is not None:
        axis.vlines(x, point.gain.low, point.gain.high, color=look.color, linewidth=1.1, alpha=alpha, zorder=3)
    if point.cost.low is not None and point.cost.high is not None:
        axis.hlines(y, point.cost.low, point.cost.high, color=look.color, linewidth=1.1, alpha=alpha, zorder=3)
    face = look.color if point.standing == UNBEATEN else "white"
    axis.plot([x], [y], marker=look.marker, color=look.color, markerfacecolor=face, markersize=7, linestyle="none",
              alpha=alpha, zorder=4)


def _room(axis: Axes, panel: BenefitPanel) -> None:
    across = [value for point in panel.points for value in reach(point.cost)] + [0.0]
    up = [value for point in panel.points for value in reach(point.gain)] + [0.0]
    width, height = max(across) - min(across) or 1.0, max(up) - min(up) or 1.0
    axis.set_xlim(min(across) - 0.07 * width, max(across) + 0.28 * width)  # labels stand at the right of their points
    axis.set_ylim(min(up) - 0.07 * height, max(up) + 0.1 * height)


def _front(axis: Axes, panel: BenefitPanel) -> None:
    """The staircase of what gains most for what it costs; below it a variant is beaten on the mean."""
    xs, ys = [], []
    corners = panel.front
    for index, (x, y) in enumerate(corners):
        if index:
            xs.append(x)
            ys.append(corners[index - 1][1])
        xs.append(x)
        ys.append(y)
    axis.plot([*xs, axis.get_xlim()[1]], [*ys, ys[-1]], color="#777777", linewidth=1, linestyle=":", zorder=1)


def _legend(info: BenefitFigure, looks: Looks) -> list[Line2D]:
    names = dict.fromkeys(point.attention for panel in info.panels for point in panel.points)
    found = [Line2D([], [], color=looks[name].color, marker=looks[name].marker, linestyle="none", markersize=6,
                    label=fitted(name)) for name in names]
    found.append(_dot("none", "#777777", "#777777"))
    found.append(_dot("filled: not beaten", "#555555", "#555555"))
    found.append(_dot("hollow: beaten\non the mean", "#555555", "white"))
    found.append(_dot("pale: beaten\nwith confidence", "#555555", "white", _ALPHA[BEATEN]))
    found.append(Line2D([], [], color="#555555", marker="+", linestyle="none", markersize=9, label="95 % intervals"))
    found.append(Line2D([], [], color="#777777", linewidth=1, linestyle=":", label="front"))
    return found


def _dot(label: str, color: str, face: str, alpha: float = 1.0) -> Line2D:
    return Line2D([], [], color=color, marker="o", markerfacecolor=face, linestyle="none", markersize=6, alpha=alpha,
                  label=label)

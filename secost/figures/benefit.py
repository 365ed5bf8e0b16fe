"""Gain in accuracy against what is paid for it, a panel a currency. Overheads are in percent, gains in points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from secost.answers.evidence import BEATEN, BEATEN_ON_MEAN, UNBEATEN, Weighed, standing
from secost.answers.groups import LATENCY, MACS, PARAMS, Currency
from secost.answers.pareto import pareto_front
from secost.figures import marks
from secost.figures.labels import Box, labeller, pixels
from secost.figures.marks import BASE, Late, Looks, Point
from secost.runs.records import PUBLISHED
from secost.writing import joined

_MOST_POINTS = 24
_ALPHA = {UNBEATEN: 1.0, BEATEN_ON_MEAN: 1.0, BEATEN: 0.35}


@dataclass(frozen=True)
class BenefitPoint:
    """One variant: what it costs (percent), what it gains (points of accuracy), and whether another beats it."""

    label: str
    attention: str
    cost: Point
    gain: Point
    standing: str


@dataclass(frozen=True)
class BenefitPanel:
    """One currency."""

    currency: Currency
    points: tuple[BenefitPoint, ...]

    @property
    def front(self) -> list[tuple[float, float]]:
        """The corners (cost, gain) of what nobody beats on the mean, by cost, among what does not lose accuracy.

        They begin with the bare network, (0, 0), unless something gains as much for less than nothing.
        """
        bare = (0.0, 0.0)
        places = [(point.cost.percent, point.gain.percent) for point in self.points if point.gain.percent >= 0]
        front = pareto_front([bare, *places], lambda place: (place[0], -place[1]), ties=False)
        return front if front[0][0] < 0 else [bare, *(place for place in front if place != bare)]


@dataclass(frozen=True)
class BenefitFigure:
    """Gain against cost on one network."""

    title: str
    source: str
    panels: tuple[BenefitPanel, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "cost-benefit"

    @property
    def alt(self) -> str:
        best = [point.label for point in self.panels[0].points if point.standing == UNBEATEN]
        return (f"Points of accuracy gained ({self.source}) against added "
                f"{joined([panel.currency.word for panel in self.panels])}, with intervals on both axes. Not beaten in "
                f"{self.panels[0].currency.word}: {joined(best) or 'nothing but the network without attention'}.")

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """Gain upwards and cost to the right, intervals on both; filled points are not beaten."""
        axes = marks.grid(figure, len(self.panels), width=3.9, height=3.7, extra=1.7)
        late = []
        for axis, panel in zip(axes, self.panels, strict=True):
            marks.entitle(axis, f"against {panel.currency.word}")
            axis.axhline(0, color="#888888", linewidth=0.8, zorder=1)
            axis.axvline(0, color="#888888", linewidth=0.8, zorder=1)
            axis.plot([0], [0], marker=BASE.marker, color=BASE.color, markersize=6, linestyle="none", zorder=2)
            for point in panel.points:
                _mark(axis, point, looks)
            _room(axis, panel)
            line = marks.staircase(panel.front, axis.get_xlim()[1])  # below it a variant is beaten on the mean
            axis.plot([x for x, _ in line], [y for _, y in line], color="#777777", linewidth=1, linestyle=":", zorder=1)
            axis.set_xlabel(f"added {panel.currency.word} (%)")
            axis.set_ylabel("gain in top-1 accuracy (points)")
            late.append(_labeller(axis, panel))
        figure.legend(handles=_keys(self, looks), loc="outside right upper")
        return late


def benefit_figure(items: Sequence[Weighed]) -> BenefitFigure | None:
    """The figure of one comparison's weighed variants; None where none of them has a cost."""
    panels = []
    for currency in (LATENCY, PARAMS, MACS):
        points = tuple(
            BenefitPoint(item.record.label, item.record.attention, cost,
                         Point(item.gain.points, item.gain.low, item.gain.high), standing(item, items, currency))
            for item in items[:_MOST_POINTS] if (cost := marks.point_of(item.group, item.record, currency)) is not None
        )
        if points:
            panels.append(BenefitPanel(currency, points))
    if not panels:
        return None
    left = marks.left_out_line([item.record.label for item in items[_MOST_POINTS:]], "variants")
    gain = items[0].gain
    # A trained or a user's gain has one basis; published ones differ from variant to variant, and the table cites them.
    source = gain.source if gain.source == PUBLISHED else f"{gain.source}: {gain.basis}"
    return BenefitFigure(f"Gain against cost: {items[0].group.label}", source, tuple(panels), left)


def _labeller(axis: Axes, panel: BenefitPanel) -> Late:
    """Points that nobody beats get their label first; none of them covers a marker or an interval."""
    points = sorted(panel.points, key=lambda point: point.standing != UNBEATEN)
    places = [(point.cost.percent, point.gain.percent) for point in points]

    def obstacles() -> list[Box]:
        boxes = []
        for point in points:
            middle, low, high = (pixels(axis, point.cost.percent, end) for end in point.gain.reach)
            boxes += [Box(*low, *high).grown(2), Box(*middle, *middle).grown(6)]
        return boxes

    return labeller(axis, places, [point.label for point in points], obstacles)


def _mark(axis: Axes, point: BenefitPoint, looks: Looks) -> None:
    look, x, y = looks[point.attention], point.cost.percent, point.gain.percent
    alpha = _ALPHA[point.standing]
    marks.upright(axis, x, point.gain, look, alpha=alpha, zorder=3)
    if point.cost.low is not None and point.cost.high is not None:
        axis.hlines(y, point.cost.low, point.cost.high, color=look.color, linewidth=1.1, alpha=alpha, zorder=3)
    face = look.color if point.standing == UNBEATEN else "white"
    axis.plot([x], [y], marker=look.marker, color=look.color, markerfacecolor=face, markersize=7, linestyle="none",
              alpha=alpha, zorder=4)


def _room(axis: Axes, panel: BenefitPanel) -> None:
    across = [value for point in panel.points for value in point.cost.reach] + [0.0]
    up = [value for point in panel.points for value in point.gain.reach] + [0.0]
    width, height = max(across) - min(across) or 1.0, max(up) - min(up) or 1.0
    axis.set_xlim(min(across) - 0.07 * width, max(across) + 0.28 * width)  # labels stand at the right of their points
    axis.set_ylim(min(up) - 0.07 * height, max(up) + 0.1 * height)


def _keys(info: BenefitFigure, looks: Looks) -> list[Line2D]:
    names = dict.fromkeys(point.attention for panel in info.panels for point in panel.points)
    return [
        *(marks.key(marks.fitted(name), color=looks[name].color, marker=looks[name].marker, linestyle="none",
                    markersize=6) for name in names),
        _dot("none", BASE.color, BASE.color),
        _dot("filled: not beaten", "#555555", "#555555"),
        _dot("hollow: beaten\non the mean", "#555555", "white"),
        _dot("pale: beaten\nwith confidence", "#555555", "white", _ALPHA[BEATEN]),
        marks.key("95 % intervals", color="#555555", marker="+", linestyle="none", markersize=9),
        marks.key("front", color="#777777", linewidth=1, linestyle=":"),
    ]


def _dot(label: str, color: str, face: str, alpha: float = 1.0) -> Line2D:
    return marks.key(label, color=color, marker="o", markerfacecolor=face, linestyle="none", markersize=6, alpha=alpha)

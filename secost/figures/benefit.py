"""The numbers of the cost-benefit figure: gain in accuracy against what is paid for it. Overheads are in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secost.answers.evidence import BEATEN, BEATEN_ON_MEAN, UNBEATEN, Weighed, standing
from secost.answers.groups import LATENCY, MACS, PARAMS, Currency
from secost.figures.costs import Point, left_out_line, point_of
from secost.numbers import joined
from secost.runs.gain import PUBLISHED

MOST_POINTS = 24
STANDINGS = (UNBEATEN, BEATEN_ON_MEAN, BEATEN)


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
    """One currency. `front` are the corners of what nobody beats on the mean, by cost; the bare network is (0, 0)."""

    currency: Currency
    points: tuple[BenefitPoint, ...]

    @property
    def front(self) -> list[tuple[float, float]]:
        found = [(0.0, 0.0)]
        places = [(point.cost.percent, point.gain.percent) for point in self.points]
        for cost, gain in sorted(places, key=lambda place: (place[0], -place[1])):
            if cost < 0 and gain >= 0 and found == [(0.0, 0.0)]:
                found = [(cost, gain)]
            elif gain > found[-1][1]:
                found.append((cost, gain))
        return found


@dataclass(frozen=True)
class BenefitFigure:
    """Gain against cost on one network, a panel a currency."""

    title: str
    source: str
    panels: tuple[BenefitPanel, ...]
    left_out: tuple[str, ...] = ()

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        best = [point.label for point in self.panels[0].points if point.standing == UNBEATEN]
        return (f"Points of accuracy gained ({self.source}) against added "
                f"{joined([panel.currency.word for panel in self.panels])}, with intervals on both axes. Not beaten in "
                f"{self.panels[0].currency.word}: {joined(best) or 'nothing but the network without attention'}.")


def benefit_figure(items: Sequence[Weighed]) -> BenefitFigure | None:
    """The figure of one comparison's weighed variants; None where none of them has a cost."""
    shown = list(items[:MOST_POINTS])
    panels = []
    for currency in (LATENCY, PARAMS, MACS):
        points = tuple(
            BenefitPoint(item.record.label, item.record.attention, cost,
                         Point(item.gain.points, item.gain.low, item.gain.high), standing(item, items, currency))
            for item in shown if (cost := point_of(item.group, item.record, currency)) is not None
        )
        if points:
            panels.append(BenefitPanel(currency, points))
    if not panels:
        return None
    left = left_out_line([item.record.label for item in items[MOST_POINTS:]], "variants")
    gain = items[0].gain
    # A trained or a user's gain has one basis; published ones differ from variant to variant, and the table cites them.
    source = gain.source if gain.source == PUBLISHED else f"{gain.source}: {gain.basis}"
    return BenefitFigure(f"Gain against cost: {items[0].group.label}", source, tuple(panels), left)

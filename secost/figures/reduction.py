"""Cost against the reduction ratio r on one network, a panel a currency. Overheads are in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secost.answers.groups import Currency, Group
from secost.figures import marks
from secost.figures.marks import Late, Look, Looks, Point
from secost.writing import joined

_MOST_TICKS = 8


@dataclass(frozen=True)
class Line:
    """One attention over r. `reductions` is empty for an attention without r, which has one point."""

    attention: str
    reductions: tuple[int, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class ReductionPanel:
    """One currency."""

    currency: Currency
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class ReductionFigure:
    """A line an attention; those without r are levels."""

    title: str
    reductions: tuple[int, ...]
    panels: tuple[ReductionPanel, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "cost-by-reduction"

    @property
    def attentions(self) -> list[str]:
        """Each that has a line in any panel, in order."""
        return list(dict.fromkeys(line.attention for panel in self.panels for line in panel.lines))

    @property
    def alt(self) -> str:
        panels = joined([panel.currency.word for panel in self.panels])
        ratios = ", ".join(map(str, self.reductions))
        return f"Lines of the overhead in {panels} over r = {ratios}, for {joined(self.attentions)}."

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """The curves, measured ones set apart a little, and the legend in an axes of its own."""
        axes = marks.grid(figure, len(self.panels) + 1, width=3.5, height=2.9)
        for axis, panel in zip(axes, self.panels, strict=False):
            marks.entitle(axis, panel.currency.title)
            for index, line in enumerate(panel.lines):
                shift = 2.0 ** (0.07 * (index - (len(panel.lines) - 1) / 2)) if panel.currency.measured else 1.0
                _curve(axis, line, self.reductions, looks[line.attention], shift, len(panel.lines) - 1 - index)
            axis.set_xscale("log", base=2)
            marks.ticks_at(axis, self.reductions[:: -(-len(self.reductions) // _MOST_TICKS)])
            axis.set_xlim(self.reductions[0] * 2.0**-0.5, self.reductions[-1] * 2.0**0.5)
            axis.set_xlabel("reduction ratio r")
            axis.set_ylabel("overhead (%)")
            marks.from_zero(axis, [point for line in panel.lines for point in line.points])
        measured = any(panel.currency.measured for panel in self.panels)
        axes[-1].set_axis_off()
        axes[-1].legend(handles=marks.attention_keys(self.attentions, looks, measured), loc="center left")
        return []


def reduction_figure(group: Group) -> ReductionFigure | None:
    """Cost against r; None where fewer than two values of r were tried."""
    reductions = sorted({record.reduction for record in group.variants if record.reduction is not None})
    if len(reductions) < 2:
        return None
    shown = group.attentions[:marks.MOST_ATTENTIONS]
    panels = tuple(ReductionPanel(currency, lines) for currency in group.currencies()
                   if (lines := tuple(_lines(group, shown, currency))))
    left = marks.left_out_line(group.attentions[marks.MOST_ATTENTIONS:], "attentions")
    return ReductionFigure(f"Cost against reduction ratio: {group.label}", tuple(reductions), panels, left)


def _lines(group: Group, attentions: Sequence[str], currency: Currency) -> list[Line]:
    pairs = {attention: [(record.reduction, point) for record in group.of(attention)
                         if (point := marks.point_of(group, record, currency)) is not None] for attention in attentions}
    return [Line(attention, tuple(r for r, _ in known if r is not None), tuple(point for _, point in known))
            for attention, known in pairs.items() if known]


def _curve(axis: Axes, line: Line, reductions: Sequence[int], look: Look, shift: float, above: int) -> None:
    """A line over r, or a level where the attention has none. The more lines are drawn above it, the wider it is, so
    that lines that coincide are all seen."""
    values = [point.percent for point in line.points]
    wider = min(above, 4) if shift == 1.0 else 0
    style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.5 + 1.1 * wider,
                             "linewidth": 1.3 + 0.6 * wider}
    if line.reductions:
        across = [r * shift for r in line.reductions]
        axis.plot(across, values, **style)
    else:
        edge = reductions[0] * 2.0**-0.35, reductions[-1] * 2.0**0.35
        across, values = [edge[1]], values[:1]
        axis.plot(edge, values * 2, color=look.color, linewidth=style["linewidth"], linestyle="--")
        axis.plot(across, values, **style, linestyle="none")
    marks.error_bars(axis, across, list(line.points), look)

"""Every currency side by side on one network: overheads in percent as bars, the measured ones with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from secost.answers.groups import KERNELS, LATENCY, MACS, MEMORY, PARAMS, Currency, Group, whole_floor
from secost.figures import marks
from secost.figures.marks import Late, Looks, Point
from secost.runs.records import Record
from secost.writing import joined


@dataclass(frozen=True)
class CurrencyPanel:
    """One currency: a point for each variant, None where it is not known. `floors` are the floors of the measured one
    as overheads in percent."""

    currency: Currency
    points: tuple[Point | None, ...]
    floors: tuple[float | None, ...] = ()

    @property
    def has_floor(self) -> bool:
        return any(value is not None for value in self.floors)


@dataclass(frozen=True)
class CurrencyFigure:
    """A panel a currency, a bar a variant, all on one scale."""

    title: str
    labels: tuple[str, ...]
    attentions: tuple[str, ...]
    panels: tuple[CurrencyPanel, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "currencies"

    @property
    def alt(self) -> str:
        panels = joined([panel.currency.word for panel in self.panels])
        return f"Bars of the overhead in {panels} of {joined(list(self.labels))}, all on one scale."

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """The bars, and the floor of the time as a dotted line across its own."""
        count = len(self.panels)
        figure.set_size_inches(1.8 + 2.1 * count, 1.5 + 0.34 * len(self.labels))
        axes = list(figure.subplots(1, count, sharey=True, sharex=True, squeeze=False)[0])
        for axis, panel in zip(axes, self.panels, strict=True):
            marks.entitle(axis, f"{panel.currency.title} (%)")
            for row, point in enumerate(panel.points):
                marks.percent_bar(axis, row, point, looks[self.attentions[row]])
            for row, floor in enumerate(panel.floors):
                if floor is not None:
                    axis.vlines(floor, row - 0.42, row + 0.42, color="#111111", linewidth=2.2,
                                linestyle=(0, (1.2, 0.6)))
            marks.plain_rows(axis)
            marks.room_beside(axis, [point for panel in self.panels for point in panel.points if point], 0.62, ticks=4)
        marks.named_rows(axes[0], self.labels)
        noted = "; dotted: the floor of the time" if any(panel.has_floor for panel in self.panels) else ""
        axes[count // 2].set_xlabel(f"overhead against the network without attention (%){noted}")
        return []


def currency_figure(group: Group) -> CurrencyFigure | None:
    """Overheads of every variant in every currency; None where none is known."""
    records, currencies = group.compared[:marks.MOST_BARS], group.currencies()
    if not currencies:
        return None
    panels = tuple(
        CurrencyPanel(currency, tuple(marks.point_of(group, record, currency) for record in records),
                      tuple(_floor(group, record) for record in records) if currency.measured else ())
        # MACs first: the figure shows what the usual counter says, then what it does not.
        for currency in (MACS, PARAMS, MEMORY, KERNELS, LATENCY) if currency in currencies
    )
    left = marks.left_out_line([record.label for record in group.compared[marks.MOST_BARS:]], "variants")
    return CurrencyFigure(
        f"One cost in every currency: {group.label}", tuple(record.label for record in records),
        tuple(record.attention for record in records), panels, left,
    )


def _floor(group: Group, record: Record) -> float | None:
    floor, base = whole_floor(record).floor_ms, group.baseline
    if floor is None or base is None or not base.latency_ms or base.environment != record.environment:
        return None
    return 100 * floor / base.latency_ms

"""What is added in each stage of one network, by each attention's representative, and the time inside its modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from secost.answers.groups import MACS, MEMORY, PARAMS, Currency, Floor, Group, stage_floors
from secost.figures import marks
from secost.figures.marks import Late, Looks
from secost.runs.records import Record
from secost.writing import joined

_MOST_VARIANTS = 4


@dataclass(frozen=True)
class StagePanel:
    """One currency: for each variant the amount added in each stage, in the currency's unit."""

    currency: Currency
    amounts: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class StageTimes:
    """For each variant the milliseconds inside its modules in each stage, and their floor; None is not measured."""

    direct: tuple[tuple[float | None, ...], ...]
    floors: tuple[tuple[float | None, ...], ...]

    @property
    def has_floor(self) -> bool:
        return any(value is not None for row in self.floors for value in row)


@dataclass(frozen=True)
class StageFigure:
    """A panel a currency, bars side by side in each stage; `times` is None where no time was measured by site."""

    title: str
    labels: tuple[str, ...]
    attentions: tuple[str, ...]
    stages: tuple[int, ...]
    panels: tuple[StagePanel, ...]
    left_out: tuple[str, ...] = ()
    times: StageTimes | None = None
    name: ClassVar[str] = "cost-by-stage"

    @property
    def alt(self) -> str:
        panels = joined([panel.currency.word for panel in self.panels])
        timed = "" if self.times is None else ", and the time inside their modules"
        timed += " with its floor" if self.times is not None and self.times.has_floor else ""
        return f"Bars of the {panels} that {joined(list(self.labels))} add in each of {len(self.stages)} stages{timed}."

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """The bars; across those of the time a dark line at the floor."""
        cells = len(self.panels) + (self.times is not None)
        axes = marks.grid(figure, cells, width=3.5, height=3.2, extra=1.4, most=2 if cells == 4 else 3)
        for axis, panel in zip(axes, self.panels, strict=False):
            marks.entitle(axis, f"Added {panel.currency.word}")
            _bars(axis, self, panel.amounts, looks)
            axis.set_ylabel("bytes" if panel.currency is MEMORY else panel.currency.word)
            axis.yaxis.set_major_formatter(EngFormatter(unit=panel.currency.unit))
        handles, labels = axes[0].get_legend_handles_labels()
        if self.times is not None:
            marks.entitle(axes[-1], "Time inside the modules" + (", and its floor" if self.times.has_floor else ""))
            _bars(axes[-1], self, self.times.direct, looks)
            axes[-1].set_ylabel("ms")
            _floor_lines(axes[-1], self.times)
            if self.times.has_floor:
                handles.append(marks.key("floor", color="#111111", linewidth=2.2))
                labels.append("floor")
        figure.legend(handles, labels, loc="outside right upper")
        return []


def stage_figure(group: Group) -> StageFigure | None:
    """The figure of one comparison; None where nothing was counted by stage, and for a single stage, which is the
    whole."""
    records = [record for record in group.representatives() if record.by_stage]
    shown = records[:_MOST_VARIANTS]
    stages = tuple(sorted({row["stage"] for record in shown for row in record.by_stage}))
    if len(stages) < 2:
        return None
    amounts = [{row["stage"]: row for row in record.by_stage} for record in shown]
    panels = tuple(StagePanel(currency, tuple(
        tuple(float(rows.get(stage, {}).get(currency.field) or 0) for stage in stages) for rows in amounts
    )) for currency in (PARAMS, MACS, MEMORY)
        if any(row.get(currency.field) is not None for rows in amounts for row in rows.values()))
    left = marks.left_out_line([record.label for record in records[_MOST_VARIANTS:]], "variants")
    return StageFigure(
        f"What is added in each stage: {group.label}", tuple(record.label for record in shown),
        tuple(record.attention for record in shown), stages, panels, left, _times(shown, stages),
    )


def _times(records: Sequence[Record], stages: Sequence[int]) -> StageTimes | None:
    by_record = [stage_floors(record) for record in records]
    if all(floor.direct_ms is None for floors in by_record for floor in floors.values()):
        return None
    unknown = Floor(None, None)
    rows = [[floors.get(stage, unknown) for stage in stages] for floors in by_record]
    return StageTimes(tuple(tuple(floor.direct_ms for floor in row) for row in rows),
                      tuple(tuple(floor.floor_ms for floor in row) for row in rows))


def _bars(axis: Axes, info: StageFigure, amounts: Sequence[Sequence[float | None]], looks: Looks) -> None:
    """Bars side by side for each stage; what is not known has none."""
    count = len(info.labels)
    for index, row in enumerate(amounts):
        look = looks[info.attentions[index]]
        known = [(stage, value) for stage, value in enumerate(row) if value is not None]
        middle = [_middle(stage, index, count) for stage, _ in known]
        axis.bar(middle, [value for _, value in known], width=0.8 / count * 0.92, color=look.color, hatch=look.hatch,
                 edgecolor="white", linewidth=0.5, label=marks.fitted(info.labels[index]))
    axis.set_xticks(range(len(info.stages)), [str(stage) for stage in info.stages])
    axis.set_xlabel("stage")
    axis.yaxis.set_major_locator(MaxNLocator(6))  # not by the size of the axes, which the layout still changes
    axis.grid(axis="x", visible=False)


def _floor_lines(axis: Axes, times: StageTimes) -> None:
    """A dark line across each bar at its floor."""
    count = len(times.floors)
    for index, row in enumerate(times.floors):
        for stage, value in enumerate(row):
            if value is not None:
                middle, half = _middle(stage, index, count), 0.4 / count
                for color, width in (("#ffffff", 3.6), ("#111111", 2.2)):
                    axis.hlines(value, middle - half, middle + half, color=color, linewidth=width)


def _middle(stage: int, index: int, count: int) -> float:
    """Where one of `count` bars of a stage stands."""
    return stage + 0.8 / count * (index - (count - 1) / 2)

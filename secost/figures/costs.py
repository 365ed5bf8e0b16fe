"""The numbers of each figure, as plain values that tests look at. Drawing them is the work of `plots`.

All overheads here are in percent. What does not fit a readable figure is left out, and `left_out` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secost.answers.groups import (
    KERNELS,
    LATENCY,
    MACS,
    MEMORY,
    PARAMS,
    Currency,
    Group,
    stage_floors,
    whole_floor,
)
from secost.answers.pareto import pareto_front
from secost.runs.records import Record

MOST_GROUPS = 3
MOST_STAGE_VARIANTS = 4
MOST_PANELS = 6
MOST_ATTENTIONS = 8
MOST_BARS = 24
MOST_POINTS = 40
STAGE_FIELDS = {"params": "params", "macs": "macs", "memory": "memory_bytes"}


@dataclass(frozen=True)
class Point:
    """An overhead in percent; `low` and `high` are its interval where it was measured."""

    percent: float
    low: float | None = None
    high: float | None = None


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
    """Cost against r on one network: a panel a currency."""

    title: str
    reductions: tuple[int, ...]
    panels: tuple[ReductionPanel, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrontPoint:
    """One variant in the plane of two currencies."""

    label: str
    attention: str
    x: float
    y: Point
    on_front: bool


@dataclass(frozen=True)
class FrontPanel:
    """One network; `labelled` are the indices of the points that get a label."""

    title: str
    points: tuple[FrontPoint, ...]
    x_scale: str
    labelled: tuple[int, ...]

    @property
    def front(self) -> list[FrontPoint]:
        """The points on the front, from left to right."""
        return sorted((point for point in self.points if point.on_front), key=lambda point: (point.x, point.y.percent))


@dataclass(frozen=True)
class FrontFigure:
    """The Pareto figure: what is paid across, what is paid up, less being better in both."""

    title: str
    x: Currency
    y: Currency
    panels: tuple[FrontPanel, ...]
    left_out: tuple[str, ...] = ()


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
    """What is added where, on one network; `times` is None where no time was measured by site."""

    title: str
    labels: tuple[str, ...]
    attentions: tuple[str, ...]
    stages: tuple[int, ...]
    panels: tuple[StagePanel, ...]
    left_out: tuple[str, ...] = ()
    times: StageTimes | None = None


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
    """Every currency side by side, on one network."""

    title: str
    labels: tuple[str, ...]
    attentions: tuple[str, ...]
    panels: tuple[CurrencyPanel, ...]
    left_out: tuple[str, ...] = ()


def shown_groups(groups: Sequence[Group]) -> tuple[list[Group], tuple[str, ...]]:
    """The comparisons that get figures of their own, and a line on the others: all of a few, of many the first."""
    usable = [group for group in groups if group.compared]
    if len(usable) <= MOST_GROUPS:
        return usable, ()
    return usable[:1], (f"One of {len(usable)} comparisons; the others have no figure of their own.",)


def reduction_figure(group: Group) -> ReductionFigure | None:
    """Cost against r; None where fewer than two values of r were tried."""
    reductions = sorted({record.reduction for record in group.variants if record.reduction is not None})
    if len(reductions) < 2:
        return None
    shown = group.attentions[:MOST_ATTENTIONS]
    panels = tuple(ReductionPanel(currency, lines) for currency in group.currencies()
                   if (lines := tuple(_lines(group, shown, currency))))
    left = left_out_line(group.attentions[MOST_ATTENTIONS:], "attentions")
    return ReductionFigure(f"Cost against reduction ratio: {group.label}", tuple(reductions), panels, left)


def front_figure(groups: Sequence[Group]) -> FrontFigure | None:
    """Added parameters against time, or against the next best currency where there is no time: memory traffic, MACs,
    kernels. One panel a comparison; None where no comparison has two variants to choose from."""
    y = next((currency for currency in (LATENCY, MEMORY, MACS, KERNELS)
              if any(_both(group, PARAMS, currency) for group in groups)), None)
    if y is None:
        return None
    usable = [group for group in groups if len(_both(group, PARAMS, y)) > 1]
    if not usable:
        return None
    left = len(usable) - MOST_PANELS
    notes: tuple[str, ...] = (f"{left} of {len(usable)} comparisons are left out.",) if left > 0 else ()
    panels = [_front_panel(group, PARAMS, y) for group in usable[:MOST_PANELS]]
    if any(len(panel.labelled) < len(panel.points) for panel in panels):
        notes += ("Labels are left out where there is no room for all: the front comes first.",)
    return FrontFigure(f"Parameters against {y.word}", PARAMS, y, tuple(panels), notes)


def stage_figure(group: Group) -> StageFigure | None:
    """What is added in each stage by each attention's representative; None where it was not counted by stage, and for
    a single stage, which is the whole."""
    records = [record for record in group.representatives() if record.by_stage]
    if not records:
        return None
    shown = records[:MOST_STAGE_VARIANTS]
    stages = tuple(sorted({row["stage"] for record in shown for row in record.by_stage}))
    if len(stages) < 2:
        return None
    panels = tuple(
        StagePanel(currency, tuple(_by_stage(record, STAGE_FIELDS[currency.name], stages) for record in shown))
        for currency in (PARAMS, MACS, MEMORY)
    )
    left = left_out_line([record.label for record in records[MOST_STAGE_VARIANTS:]], "variants")
    return StageFigure(
        f"What is added in each stage: {group.label}", tuple(record.label for record in shown),
        tuple(record.attention for record in shown), stages, panels, left, _stage_times(shown, stages),
    )


def currency_figure(group: Group) -> CurrencyFigure | None:
    """Overheads of every variant in every currency; None where none is known."""
    records, currencies = group.compared[:MOST_BARS], group.currencies()
    if not currencies:
        return None
    panels = tuple(
        CurrencyPanel(currency, tuple(point_of(group, record, currency) for record in records),
                      tuple(_floor(group, record) for record in records) if currency.measured else ())
        for currency in _most_trusted_first(currencies)
    )
    left = left_out_line([record.label for record in group.compared[MOST_BARS:]], "variants")
    return CurrencyFigure(
        f"One cost in every currency: {group.label}", tuple(record.label for record in records),
        tuple(record.attention for record in records), panels, left,
    )


def _most_trusted_first(currencies: Sequence[Currency]) -> list[Currency]:
    """MACs first: the figure shows what the usual counter says, then what it does not."""
    order = (MACS, PARAMS, MEMORY, KERNELS, LATENCY)
    return [currency for currency in order if currency in currencies]


def _lines(group: Group, attentions: Sequence[str], currency: Currency) -> list[Line]:
    found = []
    for attention in attentions:
        pairs = [(record.reduction, point) for record in group.of(attention)
                 if (point := point_of(group, record, currency)) is not None]
        if pairs:
            reductions = tuple(r for r, _ in pairs if r is not None)
            found.append(Line(attention, reductions, tuple(point for _, point in pairs)))
    return found


def point_of(group: Group, record: Record, currency: Currency) -> Point | None:
    """A record's overhead in a currency, in percent, with its interval; None where it is not known."""
    value = group.overhead(record, currency)
    if value is None:
        return None
    interval = currency.interval(record)
    if interval is None:
        return Point(100 * value)
    return Point(100 * value, 100 * interval[0], 100 * interval[1])


def _floor(group: Group, record: Record) -> float | None:
    floor, base = whole_floor(record).floor_ms, group.baseline
    same_machine = base is not None and base.environment == record.environment
    return 100 * floor / base.latency_ms if floor is not None and base and base.latency_ms and same_machine else None


def _stage_times(records: Sequence[Record], stages: Sequence[int]) -> StageTimes | None:
    found = [stage_floors(record) for record in records]
    if all(floor.direct_ms is None for floors in found for floor in floors.values()):
        return None
    rows = [[floors.get(stage) for stage in stages] for floors in found]
    return StageTimes(
        tuple(tuple(None if floor is None else floor.direct_ms for floor in row) for row in rows),
        tuple(tuple(None if floor is None else floor.floor_ms for floor in row) for row in rows),
    )


def _both(group: Group, x: Currency, y: Currency) -> list[tuple[Record, float, Point]]:
    found = []
    native = [group.native] if group.native else []
    for record in [*native, *group.plain_variants]:
        across, up = group.overhead(record, x), point_of(group, record, y)
        if across is not None and up is not None:
            found.append((record, 100 * across, up))
    return found


def _front_panel(group: Group, x: Currency, y: Currency) -> FrontPanel:
    rows = _both(group, x, y)
    best = pareto_front(range(len(rows)), lambda index: (rows[index][1], rows[index][2].percent))
    points = tuple(FrontPoint(record.label, record.attention, across, up, index in best)
                   for index, (record, across, up) in enumerate(rows))
    order = sorted(range(len(points)), key=lambda index: not points[index].on_front)
    return FrontPanel(group.label, points, _scale([point.x for point in points]), tuple(order[:MOST_POINTS]))


def _scale(values: Sequence[float]) -> str:
    """Linear, or logarithmic where the values span more than a factor of 50 (symlog where some are not positive)."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) <= 50 * min(positive):
        return "linear"
    return "log" if len(positive) == len(values) else "symlog"


def _by_stage(record: Record, field: str, stages: Sequence[int]) -> tuple[float, ...]:
    amounts = {row["stage"]: float(row.get(field) or 0) for row in record.by_stage}
    return tuple(amounts.get(stage, 0.0) for stage in stages)


def left_out_line(names: Sequence[str], what: str) -> tuple[str, ...]:
    """`Left out: 3 variants (...).`, or nothing."""
    if not names:
        return ()
    shown = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
    return (f"Left out: {len(names)} {what} ({shown}).",)

"""The numbers of the figures that only some runs have: spellings, batch and shape, backends. Overheads in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secost.answers.families import OTHER, Family, SpellingTable, images_per_s, runtime_rows, timed
from secost.answers.groups import LATENCY
from secost.figures.costs import MOST_ATTENTIONS, MOST_BARS, Point, left_out_line, point_of
from secost.numbers import joined

AXIS_TITLES = {"batch": "images in a batch", "resolution": "resolution (px)", "threads": "threads"}


@dataclass(frozen=True)
class SpellingFigure:
    """Time overhead of each spelling of one attention, the fastest first; `same` is False for another function."""

    title: str
    attention: str
    names: tuple[str, ...]
    points: tuple[Point, ...]
    same: tuple[bool, ...]
    left_out: tuple[str, ...] = ()

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        hollow = "" if all(self.same) else "; hatched: another function"
        return f"Bars of the time overhead of {joined(list(self.names))}, with intervals{hollow}."


@dataclass(frozen=True)
class AxisLine:
    """One attention over an axis: time overhead, and images a second with it (None where not timed)."""

    label: str
    attention: str
    across: tuple[int, ...]
    overheads: tuple[Point, ...]
    speeds: tuple[float | None, ...]


@dataclass(frozen=True)
class AxisFigure:
    """Overhead and throughput against batch, resolution or threads; `base` is the throughput without attention."""

    title: str
    axis: str
    values: tuple[int, ...]
    lines: tuple[AxisLine, ...]
    base: tuple[float | None, ...]
    left_out: tuple[str, ...] = ()

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        return (f"Lines of the time overhead, with intervals, and of images a second, over {self.axis} = "
                f"{', '.join(map(str, self.values))}, for {joined([line.label for line in self.lines])}.")


@dataclass(frozen=True)
class BackendBars:
    """One attention on each backend: its time in milliseconds and its overhead, None where it was not timed."""

    label: str
    attention: str
    times_ms: tuple[float | None, ...]
    overheads: tuple[Point | None, ...]


@dataclass(frozen=True)
class BackendFigure:
    """What runs the network, one row each: time without attention, with each attention, and the overheads."""

    title: str
    names: tuple[str, ...]
    base_ms: tuple[float | None, ...]
    bars: tuple[BackendBars, ...]
    left_out: tuple[str, ...] = ()

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        return (f"Bars of the time without attention and with {joined([bars.label for bars in self.bars])}, and of the "
                f"overheads with their intervals, on {joined(list(self.names))}.")


def spelling_figure(table: SpellingTable) -> SpellingFigure | None:
    """One bar a spelling; None where fewer than two were timed."""
    pairs = [(row, point) for row in table.rows
             if (point := point_of(table.group, row.record, LATENCY)) is not None][:MOST_BARS]
    if len(pairs) < 2:
        return None
    same = tuple(row.standing != OTHER for row, _ in pairs)
    return SpellingFigure(
        f"How {table.label} is written: {table.group.label}", pairs[0][0].record.attention,
        tuple(row.name for row, _ in pairs), tuple(point for _, point in pairs),
        same, () if all(same) else ("Hatched, with *: not the same function, so no equal choice.",),
    )


def axis_figure(family: Family) -> AxisFigure:
    """Overhead and images a second, a line an attention."""
    labels = family.variants()
    lines = tuple(_axis_line(family, label) for label in labels[:MOST_ATTENTIONS])
    return AxisFigure(
        f"Time against {family.axis}: {family.label}", family.axis, tuple(map(family.value, family.groups)), lines,
        tuple(images_per_s(group.baseline) for group in family.groups),
        left_out_line(labels[MOST_ATTENTIONS:], "attentions"),
    )


def backend_figure(family: Family) -> BackendFigure:
    """Times and overheads of each attention on everything that ran it."""
    rows, labels = runtime_rows(family), family.variants()
    names = list(dict.fromkeys(row.name for row in rows))
    base = {row.name: row.base_ms for row in rows}
    shown = labels[: max(1, MOST_BARS // len(names))]
    bars = []
    for label in shown:
        mine = {row.name: row for row in rows if row.record.label == label}
        kind = next(iter(mine.values())).record.attention
        bars.append(BackendBars(
            label, kind, tuple(mine[name].record.latency_ms if name in mine else None for name in names),
            tuple(point_of(mine[name].group, mine[name].record, LATENCY) if name in mine else None for name in names),
        ))
    return BackendFigure(f"Time by backend: {family.label}", tuple(names), tuple(base[name] for name in names),
                         tuple(bars), left_out_line(labels[len(shown):], "attentions"))


def _axis_line(family: Family, label: str) -> AxisLine:
    found = [(family.value(group), point, images_per_s(record), record.attention)
             for group in family.groups for record in timed(group)
             if record.label == label and (point := point_of(group, record, LATENCY)) is not None]
    return AxisLine(label, found[0][3], tuple(value for value, *_ in found), tuple(point for _, point, *_ in found),
                    tuple(speed for _, _, speed, _ in found))


def doubling(values: Sequence[int]) -> bool:
    """Whether an axis reads better in powers of two: where its ends are more than a factor of three apart."""
    return min(values) > 0 and max(values) > 3 * min(values)

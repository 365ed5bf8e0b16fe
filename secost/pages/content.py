"""What the table, Markdown and HTML renderers all show, as cells and lines of plain text. They lay out and escape.

Nothing here is cleaned: the text of each cell may hold a name as it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from secost.answers.groups import CURRENCIES, MACS, MEMORY, PARAMS, Currency, Floor, Group, setting_words, stage_floors
from secost.glossary import CAUTIONS, FIELDS
from secost.numbers import NA, milliseconds, percent, quantity
from secost.pages.report import Report
from secost.pages.wording import times_words
from secost.plan.trials import BASELINE, variant_label
from secost.runs.records import DONE, Record

STAGE_CURRENCIES = (PARAMS, MACS, MEMORY)
STAGE_TIMES = ("time inside", "floor", "inside / floor")
_STAGE_FIELDS = {"params": "params", "macs": "macs", "memory": "memory_bytes"}
_MOST_STAGE_ROWS = 32


@dataclass(frozen=True)
class Cell:
    """One currency of one row: total, absolute addition and overhead as text, and the numbers to sort by."""

    currency: Currency
    total: str
    added: str
    overhead: str
    total_value: float | None
    overhead_value: float | None


@dataclass(frozen=True)
class Row:
    """One record of a table."""

    comparison: str
    label: str
    attention: str
    reduction: int | None
    is_baseline: bool
    cells: tuple[Cell, ...]
    note: str
    spelling: str | None = None

    @property
    def kind(self) -> str:
        """The attention without its r: `se`, `se (pool-conv)`."""
        return variant_label(self.attention, None, self.spelling)


@dataclass(frozen=True)
class StageRow:
    """What one variant adds in one stage: (text, fraction of the variant's sum) for each of STAGE_CURRENCIES, then the
    texts of STAGE_TIMES: the time inside its modules, their floor, and the one over the other."""

    comparison: str
    label: str
    stage: str
    sites: str
    values: tuple[tuple[str, str], ...]
    times: tuple[str, str, str] = (NA, NA, NA)


@dataclass(frozen=True)
class CautionLine:
    """A caution, what it means, what to do, and which variants it is about."""

    code: str
    meaning: str
    next_step: str
    where: str


def rows(group: Group) -> list[Row]:
    """The table of one comparison, in the order of its records."""
    return [_row(group, record) for record in group.records]


def compared_lines(report: Report) -> list[str]:
    """What was compared, one line a comparison: setting, baseline, variants, sites."""
    return [_compared(group) for group in report.groups]


def machine_line(report: Report) -> str:
    """The machine in a few words: processor, threads, torch."""
    if not report.environments:
        return "No environment was recorded."
    if len(report.environments) > 1:
        return f"{len(report.environments)} environments; times of different ones are not compared."
    facts = next(iter(report.environments.values()))
    words = [f"{name} {facts[name]}" for name in ("cpu", "gpu", "torch", "python", "secost", "os") if facts.get(name)]
    return ", ".join(words) or "see the environment below"


def environment_lines(report: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each environment's id with its facts as (key, value) texts."""
    return [(name, [(key, _fact(value)) for key, value in facts.items()])
            for name, facts in report.environments.items()]


def stage_rows(report: Report) -> tuple[list[StageRow], str | None]:
    """By-stage rows of each attention's representative, and a line on what was left out."""
    found = [row for group in report.groups for record in group.representatives() for row in _stages(group, record)]
    left = len(found) - _MOST_STAGE_ROWS
    note = f"{left} more rows are left out here; the JSON has them all." if left > 0 else None
    return found[:_MOST_STAGE_ROWS], note


def stage_time_heads(rows: Iterable[StageRow]) -> tuple[str, ...]:
    """The time columns that have anything to show: none, the time inside the modules, or all of STAGE_TIMES."""
    times = [row.times for row in rows]
    if any(floor != NA for _, floor, _ in times):
        return STAGE_TIMES
    return STAGE_TIMES[:1] if any(direct != NA for direct, _, _ in times) else ()


def caution_lines(report: Report) -> list[CautionLine]:
    """Each caution once, in order of appearance."""
    found: dict[str, list[str]] = {}
    for group in report.groups:
        for record in group.records:
            for caution in record.cautions:
                name = record.label if len(report.groups) == 1 else f"{record.label} of {group.label}"
                found.setdefault(caution, []).append(name)
    return [_caution(code, names) for code, names in found.items()]


def failure_lines(report: Report) -> list[tuple[str, str]]:
    """(which trial, why) of each failed record."""
    return [(f"{group.label}, {record.label}", record.error or "no reason was recorded")
            for group in report.groups for record in group.failed]


def convention_lines(report: Report) -> list[str]:
    """How the numbers were made, as far as the records tell."""
    records = report.records
    found = [
        "Counts are for one image; time is for the whole batch. Added = variant - baseline; "
        "overhead = added / baseline. N/A = not counted or not measured.",
    ]
    conventions = _distinct(record.mac_convention for record in records)
    if conventions:
        found.append(f"MACs by the convention {'; '.join(conventions)}: {FIELDS['macs']}.")
    if any(record.latency_overhead is not None for record in records):
        clocks = _distinct((record.samples or {}).get("clock") for record in records)
        clock = f" Clock: {', '.join(clocks)}." if clocks else ""
        found.append(
            f"Time overhead is the {FIELDS['latency_overhead']}, with its 95 % confidence interval in brackets.{clock}"
        )
    missing = _uncounted(records)
    if missing:
        found.append(f"Not counted at all: {missing}.")
    return found


def glossary_lines() -> list[tuple[str, str]]:
    """(field, meaning) of every field that tables and exports use."""
    return list(FIELDS.items())


def _row(group: Group, record: Record) -> Row:
    is_baseline = record.attention == BASELINE
    cells = tuple(_cell(currency, record, None if is_baseline else group.baseline, is_baseline)
                  for currency in CURRENCIES)
    note = (record.error or "failed") if record.status != DONE else "; ".join(record.cautions)
    return Row(group.label, record.label, record.attention, record.reduction, is_baseline, cells, note, record.spelling)


def _cell(currency: Currency, record: Record, baseline: Record | None, is_baseline: bool) -> Cell:
    total = currency.show_total(record)
    if is_baseline:
        return Cell(currency, total, "", "", currency.total(record), 0.0)
    return Cell(
        currency, total, currency.show_added(record, baseline), currency.show_overhead(record, baseline),
        currency.total(record), currency.overhead(record, baseline),
    )


def _compared(group: Group) -> str:
    first = group.records[0]
    baseline = "against the network without attention (none)" if group.baseline else "without a baseline"
    names = [record.label for record in group.records if record.attention != BASELINE]
    shown = names if len(names) <= 12 else [*names[:11], f"{len(names) - 11} more"]
    sites = sorted({record.sites for record in group.variants if record.sites})
    where = f", at {'/'.join(map(str, sites))} sites" if sites else ""
    return f"{setting_words(first)}: {', '.join(shown) or 'nothing'} {baseline}{where}"


def _stages(group: Group, record: Record) -> list[StageRow]:
    sums = {name: sum(row.get(field) or 0 for row in record.by_stage) for name, field in _STAGE_FIELDS.items()}
    floors = stage_floors(record)
    return [
        StageRow(group.label, record.label, str(row["stage"]), str(row.get("sites", NA)), tuple(
            _stage_value(row.get(_STAGE_FIELDS[currency.name]), sums[currency.name], currency)
            for currency in STAGE_CURRENCIES
        ), _stage_times(floors.get(row["stage"])))
        for row in record.by_stage
    ]


def _stage_value(value: float | None, total: float, currency: Currency) -> tuple[str, str]:
    share = None if value is None or not total else value / total
    return quantity(value, currency.unit, signed=True), percent(share, signed=False)


def _stage_times(floor: Floor | None) -> tuple[str, str, str]:
    if floor is None:
        return NA, NA, NA
    return milliseconds(floor.direct_ms), milliseconds(floor.floor_ms), times_words(floor.times)


def _caution(caution: str, names: list[str]) -> CautionLine:
    code = caution.split(":")[0].strip()
    known = CAUTIONS.get(code)
    meaning, next_step = (known.meaning, known.next_step) if known else (
        "a caution that this version of secost does not know", "see its source")
    shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    mark = "; " if any("," in name for name in shown) else ", "
    return CautionLine(caution, meaning, next_step, mark.join(shown))


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return NA if value is None else str(value)


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _uncounted(records: Iterable[Record]) -> str:
    names: dict[str, int] = {}
    for record in records:
        for name, count in record.unsupported_ops.items():
            names[name] = max(count, names.get(name, 0))
    return ", ".join(f"{name} (up to {count} times a network)" for name, count in sorted(names.items()))

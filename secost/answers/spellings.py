"""Which way to write one attention is fastest here, at equal outputs. A way with other outputs is listed apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secost.answers.groups import Group
from secost.answers.paired import Difference, difference
from secost.numbers import joined, percent_interval
from secost.plan.spec import DEFAULT_SPELLING, variant_label
from secost.plan.spelling import same_function
from secost.runs.records import Record

FASTEST, ALIKE, SLOWER, OTHER, UNKNOWN = (
    "fastest", "not distinguishable from the fastest", "slower", "not the same function", "not timed",
)
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spelled:
    """One spelling: how it stands among those with equal outputs, and its time against two of them.

    `against_own` and `against_fastest` are None where a time is missing, or where it is that spelling itself.
    """

    record: Record
    standing: str
    against_own: Difference | None
    against_fastest: Difference | None

    @property
    def name(self) -> str:
        """As `--spelling` takes it."""
        return self.record.spelling or DEFAULT_SPELLING


@dataclass(frozen=True)
class SpellingTable:
    """All spellings of one attention at one r in one comparison, the fastest first, other functions last."""

    group: Group
    label: str
    rows: tuple[Spelled, ...]

    def standing(self, *standings: str) -> list[Spelled]:
        """The rows that stand so."""
        return [row for row in self.rows if row.standing in standings]


def spelling_tables(group: Group) -> list[SpellingTable]:
    """A table for each attention and r that was measured in more than one spelling."""
    return [_table(group, members) for members in group.spelled()]


def spelling_words(table: SpellingTable) -> list[str]:
    """What the table says: the fastest at equal outputs, against secost's own and the others; then other functions."""
    start = f"How {table.label} is written ({table.group.records[0].backend})"
    rivals = table.standing(FASTEST, ALIKE, SLOWER)
    best = next((row for row in rivals if row.standing == FASTEST), None)
    found = []
    if best is None:
        found.append(f"{start}: no two spellings with equal outputs were timed, so none is called the fastest.")
    else:
        found.append(f"{start}: {_fastest_words(best, rivals)}.")
    others = [_apart(row) for row in table.standing(OTHER)]
    if others:
        end = ("is not the same function: its outputs differ, so it is listed apart" if len(others) == 1 else
               "are not the same function: their outputs differ, so they are listed apart")
        found.append(f"{joined(others)} {end}.")
    return found


def _table(group: Group, members: Sequence[Record]) -> SpellingTable:
    own = next((record for record in members if record.spelling is None), None)
    equal = [record for record in members if same_function(record.attention, record.spelling)]
    timed = [record for record in equal if record.latency_overhead is not None]
    best = _fastest(timed) if len(timed) > 1 else None
    # One of several was picked as the fastest: each claim against it is made at a level that allows for all of them.
    confidence = 1 - (1 - _CONFIDENCE) / max(1, len(timed) - 1)
    rows = [_spelled(record, own, best, confidence) for record in members]
    order = {FASTEST: 0, ALIKE: 1, SLOWER: 1, UNKNOWN: 2, OTHER: 3}
    rows.sort(key=lambda row: (order[row.standing], row.record.latency_overhead or 0.0))
    return SpellingTable(group, variant_label(members[0].attention, members[0].reduction), tuple(rows))


def _fastest(timed: Sequence[Record]) -> Record:
    """By the paired ratio to the first one where rounds are shared, so that one estimate orders them all."""
    def against_first(record: Record) -> float:
        found = difference(record, timed[0])
        return found.estimate if found else record.latency_overhead or 0.0

    return min(timed, key=against_first)


def _spelled(record: Record, own: Record | None, best: Record | None, confidence: float) -> Spelled:
    against_own = None if own is None or record is own else difference(record, own, confidence)
    against_best = None if best is None or record is best else difference(record, best, confidence)
    same = same_function(record.attention, record.spelling)
    if same is not True:
        return Spelled(record, OTHER if same is False else UNKNOWN, against_own, None)
    if record is best:
        return Spelled(record, FASTEST, against_own, None)
    if against_best is None:
        return Spelled(record, UNKNOWN, against_own, None)
    return Spelled(record, SLOWER if against_best.told_apart else ALIKE, against_own, against_best)


def _fastest_words(best: Spelled, rivals: Sequence[Spelled]) -> str:
    alike = [row.name for row in rivals if row.standing == ALIKE]
    slower = [row for row in rivals if row.standing == SLOWER]
    if not slower:
        return (f"at equal outputs none of {len(rivals)} spellings can be told from the others' fastest "
                f"({best.name}{_against_own(best)})")
    first = f"fastest at equal outputs is {best.name}{_against_own(best)}"
    near = f", not distinguishable from {joined(alike)}" if alike else f", ahead of all {len(slower)} others"
    last = max(slower, key=lambda row: row.against_fastest.estimate if row.against_fastest else 0.0)
    return f"{first}{near}; slowest is {last.name}{_against_best(last)}"


def _against_own(row: Spelled) -> str:
    found = row.against_own
    if found is None:
        return ""
    return f", {percent_interval(found.estimate, found.low, found.high)} of the network's time against secost's own"


def _against_best(row: Spelled) -> str:
    found = row.against_fastest
    return "" if found is None else f", {percent_interval(found.estimate, found.low, found.high)} against the fastest"


def _apart(row: Spelled) -> str:
    found = row.against_own
    if found is None:
        return row.name
    return f"{row.name} ({percent_interval(found.estimate, found.low, found.high)} against secost's own)"

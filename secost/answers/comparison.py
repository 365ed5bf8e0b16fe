"""Two runs, matched by trial: by how much each figure changed, which limits broke, and where the runs differ.

`changes` gives the intervals, `limits` reads and judges the limits; `reporting/comparing.py` puts this into words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secost.answers.changes import RUN_SPREAD, Overhead, by_process, overhead_shift, ratio_shift, typical_s
from secost.answers.groups import setting_key
from secost.answers.limits import (
    BROKEN,
    FIGURES,
    LATENCY,
    MACS,
    NOT_PROVEN,
    OVERHEAD,
    Figure,
    Limit,
    judge_count,
    judge_measured,
)
from secost.answers.machines import machine_difference
from secost.answers.matching import match_records
from secost.errors import BadSpecError
from secost.glossary import Note
from secost.plan.spec import BASELINE
from secost.runs.records import DONE, FAILED, Record, overhead

WORSE, BETTER, SAME, UNCLEAR = "worse", "better", "same", "not distinguishable"
ONLY_OLD, ONLY_NEW, FAILED_TRIAL, MATCHED = "only in old", "only in new", "failed", "matched"
VANISHED, NEWLY_FAILED = "vanished", "newly failed"

_MOST_NAMED = 3


@dataclass(frozen=True)
class Side:
    """One of the two runs. `environments` has facts by the id that a record holds, `""` where it holds none."""

    name: str
    records: tuple[Record, ...]
    environments: Mapping[str, Mapping[str, Any]]

    def facts(self, record: Record) -> Mapping[str, Any]:
        """The environment that a record was made in; empty where none was recorded."""
        return self.environments.get(record.environment or "", {})


@dataclass(frozen=True)
class Change:
    """One figure of one trial in both runs.

    `change` is new / old - 1, for overhead new - old; with its 95 % interval for what is measured. `notes` are codes
    of reasons to read it with care.
    """

    figure: Figure
    old: float | None
    new: float | None
    change: float | None
    low: float | None
    high: float | None
    answer: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """One trial as it stands in the two runs. `status` is matched, only in old, only in new, or failed."""

    old: Record | None
    new: Record | None
    status: str
    changes: tuple[Change, ...] = ()

    @property
    def record(self) -> Record:
        """The trial's words: those of the run that has them resolved."""
        records = [record for record in (self.new, self.old) if record is not None]
        return next((record for record in records if record.status == DONE), records[0])

    @property
    def newly_failed(self) -> bool:
        """Whether the trial fails in NEW only."""
        return self.status == FAILED_TRIAL and self.old is not None and self.old.status == DONE

    def change_of(self, figure: Figure) -> Change | None:
        return next((change for change in self.changes if change.figure is figure), None)


@dataclass(frozen=True)
class Finding:
    """A limit that is not kept, or may not be. `kind` is broken, not proven, vanished or newly failed."""

    kind: str
    match: Match
    limit: Limit | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Rules:
    """What is allowed. `strict` counts what is not proven as broken; `allow_missing` forgives what NEW lacks.

    `run_spread` is the standard deviation by which equal runs differ, a fraction of the time (see `changes`).
    """

    limits: tuple[Limit, ...] = ()
    strict: bool = False
    allow_missing: bool = False
    across_machines: bool = False
    run_spread: float = RUN_SPREAD


@dataclass(frozen=True)
class RunComparison:
    """Everything a page says about two runs."""

    old: Side
    new: Side
    matches: tuple[Match, ...]
    rules: Rules
    broken: tuple[Finding, ...]
    unproven: tuple[Finding, ...]
    environments: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]


def compare_runs(old: Side, new: Side, rules: Rules | None = None) -> RunComparison:
    """Compare two runs, trial by trial, in the order of OLD and then of what only NEW has.

    Raises BadSpecError where the runs share no trial, where times would be compared across machines without
    `across_machines`, and where a limit is on a figure that no matched trial has in both runs.
    """
    rules = rules or Rules()
    pairs = match_records(old.records, new.records)
    both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    _require_common(old, new, both)
    if not rules.across_machines:
        _refuse_machines(old, new, both)
    matches = _noted([_match(mine, theirs, old, new, rules.run_spread) for mine, theirs in pairs])
    _require_figures(rules.limits, matches)
    findings = [finding for match in matches for finding in _findings(match, rules)]
    broken = tuple(finding for finding in findings if finding.kind != NOT_PROVEN or rules.strict)
    unproven = tuple(finding for finding in findings if finding.kind == NOT_PROVEN and not rules.strict)
    environments: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for mine, theirs in both:
        pair = (old.facts(mine), new.facts(theirs))
        if pair not in environments:
            environments.append(pair)
    return RunComparison(old, new, tuple(matches), rules, broken, unproven, tuple(environments))


def _require_common(old: Side, new: Side, both: Sequence[object]) -> None:
    if both:
        return
    raise BadSpecError(
        f"the runs have no trial in common: {old.name!r} has {_named(old)}, {new.name!r} has {_named(new)}"
    )


def _named(side: Side) -> str:
    names = [f"{record.model} {record.label}" for record in side.records]
    if not names:
        return "no record"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _refuse_machines(old: Side, new: Side, both: Sequence[tuple[Record, Record]]) -> None:
    for mine, theirs in both:
        if mine.latency_ms is None or theirs.latency_ms is None:
            continue  # counts are the same on every machine
        difference = machine_difference(old.facts(mine), new.facts(theirs))
        if difference is not None:
            raise BadSpecError(
                f"the runs were measured on different machines ({difference}), and times of two machines say nothing "
                "about the network: measure both on one, or see both with --across-machines"
            )


# --- what changed ---


def _match(mine: Record | None, theirs: Record | None, old: Side, new: Side, run_spread: float) -> Match:
    if mine is None:
        return Match(None, theirs, ONLY_NEW)
    if theirs is None:
        return Match(mine, None, ONLY_OLD)
    if FAILED in (mine.status, theirs.status):
        return Match(mine, theirs, FAILED_TRIAL)
    elsewhere = machine_difference(old.facts(mine), new.facts(theirs)) is not None
    return Match(mine, theirs, MATCHED, tuple(_changes(mine, theirs, elsewhere, run_spread)))


def _changes(old: Record, new: Record, elsewhere: bool, run_spread: float) -> Iterator[Change]:
    for figure in FIGURES.values():
        mine, theirs = getattr(old, figure.field), getattr(new, figure.field)
        if mine is None and theirs is None:
            continue
        if mine is None or theirs is None:
            yield Change(figure, mine, theirs, None, None, None, ONLY_NEW if mine is None else ONLY_OLD)
        elif figure is LATENCY:
            yield _latency_change(old, new, elsewhere, run_spread)
        elif figure is OVERHEAD:
            yield _overhead_change(old, new, elsewhere)
        else:
            yield _count_change(figure, mine, theirs, _count_notes(figure, old, new))


def _count_change(figure: Figure, old: int, new: int, notes: tuple[str, ...]) -> Change:
    answer = SAME if new == old else WORSE if new > old else BETTER
    change = 0.0 if new == old else overhead(new, old)
    return Change(figure, old, new, change, None, None, answer, notes)


def _count_notes(figure: Figure, old: Record, new: Record) -> tuple[str, ...]:
    found: list[str] = [Note.OTHER_PLACEMENT] if old.placement != new.placement else []
    if figure is MACS and old.mac_convention != new.mac_convention:
        found.append(Note.OTHER_CONVENTION)
    return tuple(found)


def _latency_change(old: Record, new: Record, elsewhere: bool, run_spread: float) -> Change:
    other_clock = _differs("clock", old, new)
    runs = [_times(record, "wall_s" if other_clock else "variant_s") for record in (old, new)]
    notes = _measured_notes(old, new, elsewhere) + ((Note.OTHER_CLOCK,) if other_clock else ())
    mine, theirs = runs
    if mine is None or theirs is None:
        return Change(
            LATENCY, old.latency_ms, new.latency_ms, overhead(new.latency_ms, old.latency_ms), None, None, UNCLEAR,
            (*notes, Note.NO_ROUNDS),
        )
    shift = ratio_shift(mine, theirs, run_spread)
    answer = UNCLEAR if shift.holds(0.0) else WORSE if shift.estimate > 0 else BETTER
    return Change(
        LATENCY, 1e3 * typical_s(mine), 1e3 * typical_s(theirs), shift.estimate, shift.low, shift.high, answer, notes
    )


def _overhead_change(old: Record, new: Record, elsewhere: bool) -> Change:
    mine, theirs = (
        Overhead(record.latency_overhead or 0.0, record.latency_overhead_low, record.latency_overhead_high,
                 process_count(record))
        for record in (old, new)
    )
    shift = overhead_shift(mine, theirs)
    answer = UNCLEAR if shift.holds(0.0) else WORSE if shift.estimate > 0 else BETTER
    notes = _measured_notes(old, new, elsewhere) + ((Note.NO_ROUNDS,) if shift.low is None else ())
    return Change(OVERHEAD, mine.estimate, theirs.estimate, shift.estimate, shift.low, shift.high, answer, notes)


def _measured_notes(old: Record, new: Record, elsewhere: bool) -> tuple[str, ...]:
    found: list[str] = [Note.ONE_PROCESS] if min(process_count(old), process_count(new)) < 2 else []
    found += [Note.OTHER_ALLOCATOR] if _differs("allocator", old, new) else []
    return tuple(found + ([Note.OTHER_MACHINE] if elsewhere else []))


def _differs(name: str, old: Record, new: Record) -> bool:
    """Whether the rounds of both say something of this name, and not the same."""
    words = [(record.samples or {}).get(name) for record in (old, new)]
    return None not in words and words[0] != words[1]


def process_count(record: Record) -> int:
    """How many processes shared a record's rounds: from the rounds themselves where they say, else from the record."""
    numbers = _process(record)
    return len(set(numbers)) if numbers else record.processes or 1


def _times(record: Record, name: str) -> list[list[float]] | None:
    """A record's times in seconds by process; None where it has no usable rounds."""
    times = (record.samples or {}).get(name)
    if not isinstance(times, list) or not times or not all(_is_time(value) for value in times):
        return None
    process = _process(record)
    return by_process(times, process if process and len(process) == len(times) else None)


def _process(record: Record) -> list[int] | None:
    """The number of the process that each round ran in; None for one process, as in runs before there were several."""
    numbers = (record.samples or {}).get("process")
    return numbers if isinstance(numbers, list) and all(isinstance(number, int) for number in numbers) else None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _noted(matches: list[Match]) -> list[Match]:
    """The same, with a note on times that moved together with their baseline, and on the baseline's own.

    What all variants share may be the machine's doing: two runs at different times differ by a few percent on a shared
    machine, and nothing within a run tells that.
    """
    moved = {
        (setting_key(match.record), change.answer)
        for match in matches if match.record.attention == BASELINE
        for change in match.changes if change.figure is LATENCY and change.answer in (WORSE, BETTER)
    }
    return [replace(match, changes=tuple(_with_note(match, change, moved) for change in match.changes))
            for match in matches]


def _with_note(match: Match, change: Change, moved: set[tuple[Any, str]]) -> Change:
    if change.figure is not LATENCY or (setting_key(match.record), change.answer) not in moved:
        return change
    return replace(change, notes=(*change.notes, Note.BASELINE_MOVED))


# --- which limits are kept ---


def _require_figures(limits: Sequence[Limit], matches: Sequence[Match]) -> None:
    for limit in limits:
        changes = [match.change_of(FIGURES[limit.figure]) for match in matches]
        if any(change is not None and change.old is not None and change.new is not None for change in changes):
            continue
        measured = FIGURES[limit.figure].measured
        advice = "measure both with --latency" if measured else "count both anew"
        raise BadSpecError(
            f"--fail-on {limit.figure}: no finished trial has this figure in both runs, so nothing would be held to "
            f"the limit: {advice}, or leave it out"
        )


def _findings(match: Match, rules: Rules) -> Iterator[Finding]:
    if match.status == ONLY_OLD and not rules.allow_missing and match.record.status == DONE:
        yield Finding(VANISHED, match)
    if match.newly_failed and not rules.allow_missing:
        yield Finding(NEWLY_FAILED, match)
    for limit in rules.limits:
        change = match.change_of(FIGURES[limit.figure])
        if change is None or change.old is None:
            continue
        if change.new is None:
            if not rules.allow_missing:
                yield Finding(VANISHED, match, limit, change)
            continue
        state = _judged(limit, change)
        if state in (BROKEN, NOT_PROVEN):
            yield Finding(state, match, limit, change)


def _judged(limit: Limit, change: Change) -> str:
    if change.figure.measured:
        return judge_measured(limit, change.low, change.high)
    return judge_count(limit, int(change.old or 0), int(change.new or 0))

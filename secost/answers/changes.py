"""By how much each figure of a trial changed from one run to another: which record is which, and on which machine.

`statistics` gives the intervals of what was measured; `comparison` holds limits to what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secost.answers.groups import SETTING_FIELDS, grouped, setting_key
from secost.glossary import Note
from secost.runs.records import DONE, FAILED, Record, overhead
from secost.statistics import Interval, Overhead, overhead_shift, ratio_shift, times_by_process, typical_s

WORSE, BETTER, SAME, UNCLEAR = "worse", "better", "same", "not distinguishable"
ONLY_OLD, ONLY_NEW, FAILED_TRIAL, MATCHED = "only in old", "only in new", "failed", "matched"
TRIAL = (*SETTING_FIELDS, "attention", "reduction", "spelling", "dataset", "seed", "epochs", "estimate")
_IDENTITY = (*TRIAL, "alternative")
_RESOLVED = ("placement", "resolution")
# Facts that make it another machine. The others (kernel, versions, governor, settings) may be the very change that is
# looked at, so they are shown and not refused.
MACHINE = (
    "cpu", "gpu", "logical_cores", "physical_cores", "usable_cores", "cpu_quota", "caches", "memory_gib", "hypervisor",
    "machine", "os",
)
_MEMORY_SLACK = 0.125  # the memory that a kernel reports varies a little with its version
POINTS = "pt"


@dataclass(frozen=True)
class Figure:
    """What is compared between two runs. `field` is a field of a Record; `change_unit` is % or pt (points)."""

    name: str
    field: str
    title: str
    unit: str = ""
    measured: bool = False
    change_unit: str = "%"


PARAMS = Figure("params", "params", "Parameters")
MACS = Figure("macs", "macs", "MACs")
MEMORY = Figure("memory", "memory_bytes", "Memory traffic", "B")
KERNELS = Figure("kernels", "kernels", "Kernels")
ACTIVATIONS = Figure("activations", "activations", "Activations")
LATENCY = Figure("latency", "latency_ms", "Latency", "ms", measured=True)
OVERHEAD = Figure("overhead", "latency_overhead", "Overhead", measured=True, change_unit=POINTS)
FIGURES = {item.name: item for item in (PARAMS, MACS, MEMORY, KERNELS, ACTIVATIONS, LATENCY, OVERHEAD)}


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


def changes_of(
    pairs: Sequence[tuple[Record | None, Record | None]], old: Side, new: Side, run_spread: float,
) -> list[Match]:
    """Each pair with what changed; times that moved together with their baseline, and the baseline's own, have a note.

    What all variants share may be the machine's doing: two runs at different times differ by a few percent on a shared
    machine, and nothing within a run tells that.
    """
    matches = [_match(mine, theirs, old, new, run_spread) for mine, theirs in pairs]
    moved = {(setting_key(match.record), change.answer) for match in matches if match.record.is_baseline
             for change in match.changes if change.figure is LATENCY and change.answer in (WORSE, BETTER)}
    return [replace(match, changes=tuple(
        replace(change, notes=(*change.notes, Note.BASELINE_MOVED))
        if change.figure is LATENCY and (setting_key(match.record), change.answer) in moved else change
        for change in match.changes)) for match in matches]


# --- which trial is which ---


def match_records(old: Sequence[Record], new: Sequence[Record]) -> list[tuple[Record | None, Record | None]]:
    """Pairs of records of the same trial, in the order of `old`, and then what only `new` has.

    A key changes when a release adds to what it is made of; the words stay. A failed record still has the placement
    and resolution that were asked for, a finished one those that were found. What fits several others fits none.
    """
    left_old, left_new = list(old), list(new)
    partner: dict[int, Record] = {}
    for identity in (lambda record: record.key or None, _words, _loose_words):
        theirs = _unique(left_new, identity)
        for name, record in _unique(left_old, identity).items():
            if name in theirs and (identity is not _loose_words or _unresolved(record, theirs[name])):
                partner[id(record)] = theirs[name]
        taken = {id(record) for record in partner.values()}
        left_old = [record for record in left_old if id(record) not in partner]
        left_new = [record for record in left_new if id(record) not in taken]
    pairs: list[tuple[Record | None, Record | None]] = [(record, partner.get(id(record))) for record in old]
    return [*pairs, *((None, record) for record in left_new)]


def _unique(records: Iterable[Record], identity: Callable[[Record], Any]) -> dict[Any, Record]:
    named = grouped(records, identity)
    return {name: members[0] for name, members in named.items() if len(members) == 1 and name is not None}


def _words(record: Record, names: Sequence[str] = _IDENTITY) -> tuple[Any, ...]:
    values = (getattr(record, name) for name in names)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _loose_words(record: Record) -> tuple[Any, ...]:
    return _words(record, [name for name in _IDENTITY if name not in _RESOLVED])


def _unresolved(old: Record, new: Record) -> bool:
    """Whether placement and resolution differ only because one of the two was never resolved."""
    placement = old.placement == new.placement or "auto" in (old.placement, new.placement)
    failed = FAILED in (old.status, new.status)
    return placement and (old.resolution == new.resolution or (failed and None in (old.resolution, new.resolution)))


# --- which machine is which ---


def machine_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first fact that makes two environments different machines, with both values; None for the same machine.

    A fact that one of them does not have (an earlier version recorded fewer) tells nothing.
    """
    if not old or not new:
        return "the environment of one of them was not recorded"
    for name in MACHINE:
        mine, theirs = old.get(name), new.get(name)
        if mine is not None and theirs is not None and not _same_fact(name, mine, theirs):
            return f"{name} was {mine!r} and is {theirs!r}"
    return None


def environment_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every fact that both have and that is not the same in both, with both values."""
    return [(name, value, new[name]) for name, value in old.items() if name in new and new[name] != value]


def unshared_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The facts that only one of the two has, as when another version wrote it."""
    return sorted(old.keys() ^ new.keys())


def _same_fact(name: str, old: Any, new: Any) -> bool:
    if name == "memory_gib" and isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) <= _MEMORY_SLACK * max(old, new)
    if name == "os":  # the kernel's release is software; the system is not
        return str(old).split(" ")[0] == str(new).split(" ")[0]
    return bool(old == new)


# --- what changed ---


def _match(mine: Record | None, theirs: Record | None, old: Side, new: Side, run_spread: float) -> Match:
    if mine is None or theirs is None:
        return Match(mine, theirs, ONLY_NEW if mine is None else ONLY_OLD)
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
            answer = SAME if theirs == mine else WORSE if theirs > mine else BETTER
            change = 0.0 if theirs == mine else overhead(theirs, mine)
            yield Change(figure, mine, theirs, change, None, None, answer, _count_notes(figure, old, new))


def _count_notes(figure: Figure, old: Record, new: Record) -> tuple[str, ...]:
    notes: list[str] = [Note.OTHER_PLACEMENT] if old.placement != new.placement else []
    if figure is MACS and old.mac_convention != new.mac_convention:
        notes.append(Note.OTHER_CONVENTION)
    return tuple(notes)


def _latency_change(old: Record, new: Record, elsewhere: bool, run_spread: float) -> Change:
    other_clock = _differs("clock", old, new)
    mine, theirs = (_times(record, "wall_s" if other_clock else "variant_s") for record in (old, new))
    notes = _measured_notes(old, new, elsewhere) + ((Note.OTHER_CLOCK,) if other_clock else ())
    if mine is None or theirs is None:
        change = overhead(new.latency_ms, old.latency_ms)
        return Change(LATENCY, old.latency_ms, new.latency_ms, change, None, None, UNCLEAR, (*notes, Note.NO_ROUNDS))
    shift = ratio_shift(mine, theirs, run_spread)
    return _shifted(LATENCY, 1e3 * typical_s(mine), 1e3 * typical_s(theirs), shift, notes)


def _overhead_change(old: Record, new: Record, elsewhere: bool) -> Change:
    mine, theirs = (Overhead(record.latency_overhead or 0.0, record.latency_overhead_low, record.latency_overhead_high,
                             process_count(record)) for record in (old, new))
    shift = overhead_shift(mine, theirs)
    notes = _measured_notes(old, new, elsewhere) + ((Note.NO_ROUNDS,) if shift.low is None else ())
    return _shifted(OVERHEAD, mine.estimate, theirs.estimate, shift, notes)


def _shifted(figure: Figure, old: float, new: float, shift: Interval, notes: tuple[str, ...]) -> Change:
    answer = UNCLEAR if shift.holds(0.0) else WORSE if shift.estimate > 0 else BETTER
    return Change(figure, old, new, shift.estimate, shift.low, shift.high, answer, notes)


def _measured_notes(old: Record, new: Record, elsewhere: bool) -> tuple[str, ...]:
    notes: list[str] = [Note.ONE_PROCESS] if min(process_count(old), process_count(new)) < 2 else []
    notes += [Note.OTHER_ALLOCATOR] if _differs("allocator", old, new) else []
    return tuple(notes + ([Note.OTHER_MACHINE] if elsewhere else []))


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
    process = _process(record) or []
    return times_by_process(times, process if len(process) == len(times) else None)


def _process(record: Record) -> list[int] | None:
    """The number of the process that each round ran in; None for one process, as in runs before there were several."""
    numbers = (record.samples or {}).get("process")
    return numbers if isinstance(numbers, list) and all(isinstance(number, int) for number in numbers) else None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0

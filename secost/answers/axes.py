"""Comparisons that differ in one thing alone: batch, resolution, threads, or what runs the network.

A comparison is one network at one setting. Several of one run, put in a row, tell how the overhead depends on the
setting; they were measured one after another, so their absolute times are compared only on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secost.answers.floor import added_ms
from secost.answers.groups import SETTING_FIELDS, Group, setting_words
from secost.numbers import joined, milliseconds, percent_interval
from secost.plan.spec import Setting
from secost.runs.records import Record

AXES = ("batch", "resolution", "threads")
RUNTIME = ("backend", "precision", "device", "memory_format")
# Of two times, what is called a difference: less than this is within what two separate measurements differ by anyway.
_ALIKE = 1.05
_CLEARLY = 1.25
Interval = tuple[float, float | None, float | None]
# Whether the overhead is higher than on the reference, what became of the network alone, what of the addition.
_REASONS = {
    (True, "faster", "faster"): "the rest of the network gained more than the attention",
    (True, "faster", "alike"): "the rest of the network became faster, the attention did not",
    (True, "faster", "slower"): "the rest of the network became faster and the attention slower",
    (True, "alike", "slower"): "the attention became slower, the rest of the network did not",
    (True, "slower", "slower"): "the attention lost more than the rest of the network",
    (False, "faster", "faster"): "the attention gained more than the rest of the network",
    (False, "alike", "faster"): "the attention became faster, the rest of the network did not",
    (False, "slower", "faster"): "the attention became faster and the rest of the network slower",
    (False, "slower", "alike"): "the rest of the network became slower, the attention did not, which hides its cost",
    (False, "slower", "slower"): "the rest of the network lost more than the attention, which hides its cost",
}


@dataclass(frozen=True)
class Family:
    """Comparisons of one network that differ only in `axis` (or in what runs it: `runtime`), in its order.

    `label` says what they have in common beside the usual.
    """

    axis: str
    label: str
    groups: tuple[Group, ...]

    def value(self, group: Group) -> int:
        """The group's place on the axis."""
        return int(getattr(group.records[0], self.axis))

    def variants(self) -> list[str]:
        """Labels of the representatives that were timed in more than one of the comparisons, each once."""
        names = [record.label for group in self.groups for record in timed(group)]
        return [name for name in dict.fromkeys(names) if names.count(name) > 1]


@dataclass(frozen=True)
class RuntimeRow:
    """One network with one attention on one backend, precision and memory format."""

    name: str
    group: Group
    record: Record

    @property
    def base_ms(self) -> float | None:
        """Latency of the network without attention; None where it was not timed, or in another environment."""
        base = self.group.baseline
        return base.latency_ms if base is not None and base.environment == self.record.environment else None


def axis_families(groups: Sequence[Group]) -> list[Family]:
    """For batch, resolution and threads: the comparisons that differ in it alone, where two or more were timed."""
    found = []
    for axis in AXES:
        for members in _alike_but(groups, (axis,)):
            values = {getattr(group.records[0], axis) for group in members}
            usable = sorted(members, key=lambda group: int(getattr(group.records[0], axis) or 0))
            family = Family(axis, _shared_label(members, groups, (axis,)), tuple(usable))
            if None not in values and len(values) > 1 and family.variants():
                found.append(family)
    return found


def runtime_families(groups: Sequence[Group]) -> list[Family]:
    """The comparisons that differ only in backend, precision, device or memory format, as they stand in the run."""
    found = []
    for members in _alike_but(groups, RUNTIME):
        family = Family("runtime", _shared_label(members, groups, RUNTIME), tuple(members))
        if len(members) > 1 and family.variants():
            found.append(family)
    return found


def timed(group: Group) -> list[Record]:
    """The representatives with a measured overhead, native first."""
    native = [group.native] if group.native else []
    return [record for record in (*native, *group.representatives()) if record.latency_overhead is not None]


def images_per_s(record: Record | None) -> float | None:
    """Images a second: the record's own, else from its batch and latency; None where it was not timed."""
    if record is None:
        return None
    if record.images_per_s is not None or not record.latency_ms:
        return record.images_per_s
    return 1e3 * record.batch / record.latency_ms


def runtime_name(record: Record) -> str:
    """`eager fp32`, `compile fp32 channels-last`, `eager bf16 cuda`."""
    words = [record.backend, record.precision]
    words += [record.device] if record.device != Setting.device else []
    words += [record.memory_format] if record.memory_format != Setting.memory_format else []
    return " ".join(words)


def runtime_rows(family: Family) -> list[RuntimeRow]:
    """Every timed representative on everything that ran it, an attention's rows together."""
    shown = family.variants()
    rows = [RuntimeRow(runtime_name(record), group, record)
            for group in family.groups for record in timed(group) if record.label in shown]
    return sorted(rows, key=lambda row: shown.index(row.record.label))


def runtime_words(family: Family) -> list[str]:
    """What the rows of each attention mean, by rule: the range, each backend against the first (eager fp32 where it is
    there), whether its overhead rose because the rest got faster, and which is fastest with attention."""
    rows = runtime_rows(family)
    found = []
    for label in family.variants():
        mine = [row for row in rows if row.record.label == label]
        if len({row.record.environment for row in mine}) > 1:
            found.append(f"{label}: these backends were timed in different environments, so they are not compared.")
            continue
        reference = next((row for row in mine if row.name == "eager fp32"), mine[0])
        others = [_against(row, reference) for row in mine if row is not reference]
        found += [_range_words(label, mine), *_meaning_words(label, mine), *others, *_fastest_words(label, mine)]
    return found


def runtime_summary(family: Family) -> list[str]:
    """The range of each attention's overhead, and what is fastest with it."""
    rows, found = runtime_rows(family), []
    for label in family.variants():
        mine = [row for row in rows if row.record.label == label]
        if len({row.record.environment for row in mine}) == 1:
            found += [_range_words(label, mine), *_fastest_words(label, mine)]
    return found


def axis_words(family: Family) -> list[str]:
    """For each attention: the overhead at both ends of the axis, and whether the two can be told apart."""
    found = []
    for label in family.variants():
        pairs = [(group, record) for group in family.groups for record in timed(group) if record.label == label]
        if len({record.environment for _, record in pairs}) > 1:
            found.append(f"{label}: timed in different environments, so not compared over {family.axis}.")
            continue
        (first_group, first), (last_group, last) = pairs[0], pairs[-1]
        ends = [setting_words(group.records[0], [family.axis]) for group in (first_group, last_group)]
        found.append(f"{label}: from {ends[0]} to {ends[1]} the time overhead goes from {_overhead(first)} to "
                     f"{_overhead(last)}{_apart_words(first, last)}.")
    return found


def _alike_but(groups: Sequence[Group], free: Sequence[str]) -> list[list[Group]]:
    """Groups that share every field of the setting but those in `free`."""
    found: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        values = {name: getattr(group.records[0], name) for name in SETTING_FIELDS if name not in free}
        key = tuple(tuple(value) if isinstance(value, list) else value for value in values.values())
        found.setdefault(key, []).append(group)
    return list(found.values())


def _shared_label(members: Sequence[Group], groups: Sequence[Group], free: Sequence[str]) -> str:
    """The model, and whatever else of the setting differs among all comparisons of the run."""
    record = members[0].records[0]
    names = [name for name in SETTING_FIELDS if name not in free and name != "model"
             and len({str(getattr(group.records[0], name)) for group in groups}) > 1]
    return setting_words(record, ["model", *names])


def _overhead(record: Record) -> str:
    return percent_interval(record.latency_overhead, record.latency_overhead_low, record.latency_overhead_high)


def _apart_words(first: Record, last: Record) -> str:
    ends = (first.latency_overhead_low, first.latency_overhead_high, last.latency_overhead_low,
            last.latency_overhead_high)
    low, high, other_low, other_high = ends
    if low is None or high is None or other_low is None or other_high is None:
        return ", without intervals to tell them apart"
    return ", which can't be told apart: their intervals overlap" if low <= other_high and other_low <= high else ""


def _range_words(label: str, rows: Sequence[RuntimeRow]) -> str:
    ordered = sorted(rows, key=lambda row: row.record.latency_overhead or 0.0)
    least, most = ordered[0], ordered[-1]
    shared = _apart_words(least.record, most.record)
    ends = [f"{_overhead(row.record)} on {row.name}" for row in (least, most)]
    if shared:
        return f"{label}: the time overhead is {ends[0]} and {ends[1]}{shared}."
    return f"{label}: the time overhead depends on what runs the network, from {ends[0]} to {ends[1]}."


def _meaning_words(label: str, rows: Sequence[RuntimeRow]) -> list[str]:
    """Whether the attention weighs more the faster the network runs: over all rows, how far the time of the network
    alone goes, and how far what attention adds."""
    known = [(row.base_ms, found[0], row) for row in rows if row.base_ms and (found := added_ms(row.group, row.record))]
    if len(known) < 2 or min(added for _, added, _ in known) <= 0:
        return []
    slow, fast = max(known, key=lambda item: item[0]), min(known, key=lambda item: item[0])
    least, most = min(added for _, added, _ in known), max(added for _, added, _ in known)
    gained, kept = slow[0] / fast[0], most / least
    start = (f"{label}: from the slowest to the fastest, the network alone takes {milliseconds(slow[0])} to "
             f"{milliseconds(fast[0])} (a factor of {gained:.1f}), while what attention adds lies between "
             f"{milliseconds(least)} and {milliseconds(most)} (a factor of {kept:.1f})")
    rises = (fast[2].record.latency_overhead or 0.0) > (slow[2].record.latency_overhead or 0.0)
    if rises and gained > _CLEARLY * kept and not _apart_words(slow[2].record, fast[2].record):
        return [f"{start}: the faster the rest runs, the more the attention weighs, because these backends speed up "
                "convolutions more than the squeeze and the scaling."]
    if not rises and kept > _CLEARLY * gained and not _apart_words(slow[2].record, fast[2].record):
        return [f"{start}: the attention is sped up more than the rest, so it weighs less where the network runs fast."]
    return [f"{start}: no rule between the two can be read off."]


def _against(row: RuntimeRow, reference: RuntimeRow) -> str:
    """One backend against the reference: what became of the network, of what attention adds, and so of the ratio."""
    start = f"{row.record.label} on {row.name} against {reference.name}"
    mine, theirs = added_ms(row.group, row.record), added_ms(reference.group, reference.record)
    if mine is None or theirs is None or not row.base_ms or not reference.base_ms:
        return f"{start}: {_overhead(row.record)} against {_overhead(reference.record)}."
    network = (f"the network alone takes {milliseconds(row.base_ms)} against {milliseconds(reference.base_ms)} "
               f"({_factor(reference.base_ms / row.base_ms)})")
    attention = f"what {row.record.label} adds is {_added(mine)} against {_added(theirs)}"
    same = _apart_words(row.record, reference.record)
    if same:
        return f"{start}: {network}, {attention}; the overheads, {_overhead(row.record)} and " \
               f"{_overhead(reference.record)}, can't be told apart."
    return f"{start}: {network}, {attention}; so the overhead is {_overhead(row.record)}, not " \
           f"{_overhead(reference.record)}: {_reason(row, reference, mine, theirs)}."


def _reason(row: RuntimeRow, reference: RuntimeRow, mine: Interval, theirs: Interval) -> str:
    """Why one overhead differs from another: what became of the network, and of what attention adds to it."""
    assert row.base_ms and reference.base_ms  # the caller looked
    higher = (row.record.latency_overhead or 0.0) > (reference.record.latency_overhead or 0.0)
    base = reference.base_ms / row.base_ms
    network = "faster" if base >= _ALIKE else "slower" if base <= 1 / _ALIKE else "alike"
    return _REASONS.get((higher, network, _change(mine, theirs)), "both changed a little")


def _change(mine: Interval, theirs: Interval) -> str:
    """What became of an addition: alike where the two intervals overlap, or where one is missing and they are near."""
    low, high = (mine[0] if end is None else end for end in mine[1:])
    other_low, other_high = (theirs[0] if end is None else end for end in theirs[1:])
    if low <= other_high and other_low <= high:
        return "alike"
    return "faster" if mine[0] < theirs[0] else "slower"


def _fastest_words(label: str, rows: Sequence[RuntimeRow]) -> list[str]:
    known = [row for row in rows if row.record.latency_ms]
    if len(known) < 2:
        return []
    best = min(known, key=lambda row: row.record.latency_ms or 0.0)
    convert = [f"{row.name} {row.record.convert_s:.0f} s" for row in known if row.record.convert_s]
    once = f"; converting took {joined(convert)}, once" if convert else ""
    return [f"{label}: in absolute time {best.name} is fastest, {milliseconds(best.record.latency_ms)} a pass with "
            f"attention{once}."]


def _factor(ratio: float) -> str:
    if ratio >= _ALIKE:
        return f"{ratio:.2f} times as fast"
    return "about as fast" if ratio > 1 / _ALIKE else f"{1 / ratio:.2f} times the time"


def _added(value: Interval) -> str:
    middle, low, high = value
    if low is None or high is None:
        return f"{milliseconds(middle)} [no interval]"
    return f"{milliseconds(middle)} [{_bare(low)}, {_bare(high)}]"


def _bare(value: float) -> str:
    return milliseconds(value).removesuffix(" ms")

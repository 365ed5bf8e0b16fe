"""What differs in one thing alone: two variants of a comparison, the spellings of an attention, comparisons of a run.

Variants of one comparison were timed in the same rounds: the ratio of two of them needs no baseline, so its interval is
much narrower than those of their overheads, which share one and overlap long before the variants are alike.
Comparisons (one network at one setting each) that differ only in batch, resolution, threads, or what runs the network
tell how the overhead depends on that; they were measured one after another, so their absolute times are compared only
on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secost.answers.groups import SETTING_FIELDS, Group, grouped, setting_key, setting_words
from secost.plan.options import DEFAULT_SPELLING
from secost.plan.trials import Setting, variant_label
from secost.plan.variants import same_function
from secost.runs.records import Record
from secost.statistics import CONFIDENCE, built_at, clustered_interval, clusters

AXES = ("batch", "resolution", "threads")
RUNTIME = ("backend", "precision", "device", "memory_format")
FASTEST, ALIKE, SLOWER, OTHER, UNKNOWN = (
    "fastest", "not distinguishable from the fastest", "slower", "not the same function", "not timed",
)


# --- two variants ---


@dataclass(frozen=True)
class Difference:
    """How much more time one variant takes than another, as a fraction of the whole network's time.

    `low` and `high` are None where there are too few rounds. `paired` tells that both were timed in the same rounds;
    otherwise the interval is put together from two overheads and is wider than it need be.
    """

    estimate: float
    low: float | None
    high: float | None
    paired: bool

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes 0; without an interval nothing is."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def difference(record: Record, other: Record, confidence: float = CONFIDENCE) -> Difference | None:
    """`record` against `other`: (time / other's time - 1) with its interval; None where a time is missing."""
    ratios = _ratios(record, other)
    if ratios is None:
        return _from_overheads(record, other)
    processes = (record.samples or {}).get("process") or ()
    one_for_all = [0] * len(ratios)  # in records that do not tell
    by_process = clusters(ratios, processes if len(processes) == len(ratios) else one_for_all)
    interval = clustered_interval(by_process, built_at(confidence))
    return Difference(interval.estimate, interval.low, interval.high, True)


def _ratios(record: Record, other: Record) -> list[float] | None:
    """The ratio of the two times in each round, less 1; None where they were not timed in the same rounds."""
    mine, theirs = record.samples or {}, other.samples or {}
    times, others = mine.get("variant_s") or (), theirs.get("variant_s") or ()
    same_rounds = mine.get("baseline_s") and mine.get("baseline_s") == theirs.get("baseline_s")
    if not same_rounds or record.environment != other.environment or len(times) != len(others) or not times:
        return None
    return [time / reference - 1 for time, reference in zip(times, others, strict=True)] if all(others) else None


def _from_overheads(record: Record, other: Record) -> Difference | None:
    ends = [(item.latency_overhead, item.latency_overhead_low, item.latency_overhead_high) for item in (record, other)]
    (mine, low, high), (theirs, other_low, other_high) = ends
    if mine is None or theirs is None or record.environment != other.environment:
        return None
    estimate = (1 + mine) / (1 + theirs) - 1
    if low is None or high is None or other_low is None or other_high is None:
        return Difference(estimate, None, None, False)
    return Difference(estimate, (1 + low) / (1 + other_high) - 1, (1 + high) / (1 + other_low) - 1, False)


# --- the spellings of one attention ---


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
class Spellings:
    """All spellings of one attention at one r in one comparison, the fastest first, other functions last."""

    group: Group
    label: str
    rows: tuple[Spelled, ...]

    def standing(self, *standings: str) -> list[Spelled]:
        return [row for row in self.rows if row.standing in standings]


def compared_spellings(group: Group) -> list[Spellings]:
    """Of each attention and r that was measured in more than one spelling."""
    return [_spellings(group, members) for members in group.spelled()]


def _spellings(group: Group, members: Sequence[Record]) -> Spellings:
    own = next((record for record in members if record.spelling is None), None)
    equal = [record for record in members if same_function(record.attention, record.spelling)]
    known = [record for record in equal if record.latency_overhead is not None]
    # By the paired ratio to the first one where rounds are shared, so that one estimate orders them all.
    best = min(known, key=lambda record: apart.estimate if (apart := difference(record, known[0]))
               else record.latency_overhead or 0.0) if len(known) > 1 else None
    # One of several was picked as the fastest: each claim against it is made at a level that allows for all of them.
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(known) - 1)
    rows = [_spelled(record, own, best, confidence) for record in members]
    order = {FASTEST: 0, ALIKE: 1, SLOWER: 1, UNKNOWN: 2, OTHER: 3}
    rows.sort(key=lambda row: (order[row.standing], row.record.latency_overhead or 0.0))
    return Spellings(group, variant_label(members[0].attention, members[0].reduction), tuple(rows))


def _spelled(record: Record, own: Record | None, best: Record | None, confidence: float) -> Spelled:
    against_own = None if own is None or record is own else difference(record, own, confidence)
    against_best = None if best is None or record is best else difference(record, best, confidence)
    same = same_function(record.attention, record.spelling)
    if same is not True or record is best:
        return Spelled(record, FASTEST if same else OTHER if same is False else UNKNOWN, against_own, None)
    standing = UNKNOWN if against_best is None else SLOWER if against_best.told_apart else ALIKE
    return Spelled(record, standing, against_own, against_best)


# --- comparisons of one run ---


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
    families = []
    for axis in AXES:
        for members in _alike_but(groups, (axis,)):
            values = {getattr(group.records[0], axis) for group in members}
            ordered = sorted(members, key=lambda group: int(getattr(group.records[0], axis) or 0))
            family = Family(axis, _shared_label(members, groups, (axis,)), tuple(ordered))
            if None not in values and len(values) > 1 and family.variants():
                families.append(family)
    return families


def runtime_families(groups: Sequence[Group]) -> list[Family]:
    """The comparisons that differ only in backend, precision, device or memory format, as they stand in the run."""
    families = [Family("runtime", _shared_label(members, groups, RUNTIME), tuple(members))
                for members in _alike_but(groups, RUNTIME)]
    return [family for family in families if len(family.groups) > 1 and family.variants()]


def timed(group: Group) -> list[Record]:
    """The representatives with a measured overhead, native first."""
    native = [group.native] if group.native else []
    return [record for record in (*native, *group.representatives()) if record.latency_overhead is not None]


def images_per_s(record: Record | None) -> float | None:
    """Images a second: the record's own, else from its batch and latency; None where it was not timed."""
    if record is None or record.images_per_s is not None or not record.latency_ms:
        return None if record is None else record.images_per_s
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


def _alike_but(groups: Sequence[Group], free: Sequence[str]) -> list[list[Group]]:
    """Groups that share every field of the setting but those in `free`."""
    shared = [place for place, name in enumerate(SETTING_FIELDS) if name not in free]
    settings = {id(group): setting_key(group.records[0]) for group in groups}
    return list(grouped(groups, lambda group: tuple(settings[id(group)][place] for place in shared)).values())


def _shared_label(members: Sequence[Group], groups: Sequence[Group], free: Sequence[str]) -> str:
    """The model, and whatever else of the setting differs among all comparisons of the run."""
    record = members[0].records[0]
    names = [name for name in SETTING_FIELDS if name not in free and name != "model"
             and len({str(getattr(group.records[0], name)) for group in groups}) > 1]
    return setting_words(record, ["model", *names])

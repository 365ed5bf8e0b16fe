"""Records back into comparisons: one network at one setting, its baseline, and the variants beside it.

And what a variant is paid in: parameters, MACs, memory traffic, kernels, time, with the least time that it needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from secost.plan.trials import BASELINE, NATIVE, Setting
from secost.runs.records import DONE, FAILED, Record, overhead
from secost.statistics import Interval
from secost.writing import milliseconds, percent, percent_interval, quantity

SETTING_FIELDS = (
    "model", "placement", "integration", "stages", "batch", "resolution", "backend", "precision", "device", "threads",
    "memory_format",
)
STANDARD_REDUCTION = 16
Item = TypeVar("Item")


@dataclass(frozen=True)
class Currency:
    """One way to pay. `field` and `overhead_field` are fields of a Record; `word` stands in sentences."""

    name: str
    field: str
    overhead_field: str
    title: str
    word: str
    unit: str = ""

    @property
    def measured(self) -> bool:
        """Whether the value comes from a clock and so has an interval."""
        return self.name == "latency"

    def total(self, record: Record) -> float | None:
        """The value of the whole network, in the field's own unit."""
        return getattr(record, self.field)  # type: ignore[no-any-return]

    def added(self, record: Record, baseline: Record | None) -> float | None:
        """The value minus the baseline's; None where either is missing, or where they are times of two machines.

        A time's is its overhead of the baseline's time: the difference of two medians would contradict the percents.
        """
        value, reference = self.total(record), None if baseline is None else self.total(baseline)
        if value is None or reference is None or baseline is None:
            return None
        if not self.measured:
            return value - reference
        if record.environment != baseline.environment or record.latency_overhead is None:
            return None
        return record.latency_overhead * reference

    def overhead(self, record: Record, baseline: Record | None) -> float | None:
        """The overhead as a fraction. Time's is the paired estimate of the record or nothing: a ratio of two
        medians is not the same thing. A count's that the record lacks is had from the baseline's."""
        kept: float | None = getattr(record, self.overhead_field)
        if kept is not None or self.measured or baseline is None:
            return kept
        return overhead(self.total(record), self.total(baseline))

    def interval(self, record: Record) -> tuple[float, float] | None:
        """The 95 % confidence interval of the overhead (fractions); None for a count."""
        if not self.measured or record.latency_overhead_low is None or record.latency_overhead_high is None:
            return None
        return record.latency_overhead_low, record.latency_overhead_high

    def show_total(self, record: Record) -> str:
        """`25.56 M`, `31.2 ms`, `N/A`."""
        value = self.total(record)
        return milliseconds(value) if self.measured else quantity(value, self.unit)

    def show_added(self, record: Record, baseline: Record | None) -> str:
        """`+2.531 M`, `+2.5 ms`, `N/A`."""
        value = self.added(record, baseline)
        return milliseconds(value, signed=True) if self.measured else quantity(value, self.unit, signed=True)

    def show_overhead(self, record: Record, baseline: Record | None) -> str:
        """`+9.9 %`, and for time `+8.1 % [7.2, 9.0]`."""
        value = self.overhead(record, baseline)
        if not self.measured:
            return percent(value)
        return percent_interval(value, record.latency_overhead_low, record.latency_overhead_high)


PARAMS = Currency("params", "params", "params_overhead", "Parameters", "parameters")
MACS = Currency("macs", "macs", "macs_overhead", "MACs", "MACs")
MEMORY = Currency("memory", "memory_bytes", "memory_overhead", "Memory traffic", "memory traffic", "B")
KERNELS = Currency("kernels", "kernels", "kernels_overhead", "Kernels", "kernels")
LATENCY = Currency("latency", "latency_ms", "latency_overhead", "Time", "time", "ms")
CURRENCIES = (PARAMS, MACS, MEMORY, KERNELS, LATENCY)
COUNTED = CURRENCIES[:4]


@dataclass(frozen=True)
class Group:
    """One comparison: `label` names it among the others by what differs, the records keep their order."""

    label: str
    records: tuple[Record, ...]

    @property
    def _done(self) -> Iterator[Record]:
        return (record for record in self.records if record.status == DONE)

    @property
    def baseline(self) -> Record | None:
        """The first finished record without attention."""
        return next((record for record in self._done if record.is_baseline), None)

    @property
    def native(self) -> Record | None:
        """The finished record of the network as shipped."""
        return next((record for record in self._done if record.attention == NATIVE), None)

    @property
    def variants(self) -> tuple[Record, ...]:
        """Finished records with an attention put in by secost."""
        return tuple(record for record in self._done if record.attention not in (BASELINE, NATIVE))

    @property
    def compared(self) -> tuple[Record, ...]:
        """Every finished record but the baseline: native, then the variants."""
        return tuple(record for record in self._done if record.attention != BASELINE)

    @property
    def alternatives(self) -> tuple[Record, ...]:
        """Finished records of other networks without attention: what else the time could buy."""
        return tuple(record for record in self._done if record.alternative is not None)

    @property
    def failed(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.status == FAILED)

    @property
    def attentions(self) -> list[str]:
        """The attentions of `variants`, each once, in order."""
        return list(dict.fromkeys(record.attention for record in self.variants))

    def of(self, attention: str) -> list[Record]:
        """The variants with one attention, by r, in the spelling that stands for it: secost's own where it was tried,
        else the first that was."""
        mine = [record for record in self.variants if record.attention == attention]
        ways = list(dict.fromkeys(record.spelling for record in mine))
        chosen = None if None in ways else ways[0]
        return sorted((item for item in mine if item.spelling == chosen), key=lambda record: record.reduction or 0)

    @property
    def plain_variants(self) -> list[Record]:
        """The variants in one spelling each: what is compared as kinds of attention, not as ways to write one."""
        chosen = {id(record) for attention in self.attentions for record in self.of(attention)}
        return [record for record in self.variants if id(record) in chosen]

    def spelled(self) -> list[list[Record]]:
        """The variants that differ in spelling alone, a list for each attention and r with more than one."""
        alike = grouped(self.variants, lambda record: (record.attention, record.reduction))
        return [members for members in alike.values() if len(members) > 1]

    def representative(self, attention: str) -> Record:
        """The one that stands for its attention: r=16 where it was tried (the papers' choice), else the middle r."""
        by_ratio = self.of(attention)
        standard = [record for record in by_ratio if record.reduction == STANDARD_REDUCTION]
        return standard[0] if standard else by_ratio[len(by_ratio) // 2]

    def representatives(self) -> list[Record]:
        return [self.representative(attention) for attention in self.attentions]

    def overhead(self, record: Record, currency: Currency) -> float | None:
        return currency.overhead(record, self.baseline)

    def has(self, currency: Currency) -> bool:
        """Whether any compared record has an overhead in this currency."""
        return any(self.overhead(record, currency) is not None for record in self.compared)

    def currencies(self) -> list[Currency]:
        """The currencies in which anything here was counted or measured."""
        return [currency for currency in CURRENCIES if self.has(currency)]


def group_records(records: Iterable[Record]) -> list[Group]:
    """The comparisons among the records, in order of appearance; trainings and estimates, which cost nothing, are in
    none."""
    by_setting = grouped((record for record in records if record.is_cost), setting_key)
    varying = [name for name, *values in zip(SETTING_FIELDS, *by_setting, strict=True)
               if name != "model" and len(set(values)) > 1]
    return [Group(setting_words(members[0], ["model", *varying]), tuple(members)) for members in by_setting.values()]


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    """The items by what they have in common, in order of appearance."""
    members: dict[Any, list[Item]] = {}
    for item in items:
        members.setdefault(key(item), []).append(item)
    return members


def setting_key(record: Record) -> tuple[Any, ...]:
    """What two records must share to be compared."""
    values = (getattr(record, name) for name in SETTING_FIELDS)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def setting_words(record: Record, names: Sequence[str] | None = None) -> str:
    """The named parts of a record's setting in words: `resnet50, 224 px, batch 1`. Of all of them, the usual memory
    format is not worth a word."""
    if names is None:
        usual = record.memory_format == Setting.memory_format
        names = [name for name in SETTING_FIELDS if not (usual and name == "memory_format")]
    return ", ".join(_word(record, name) for name in names)


# --- which of several nobody beats ---


def pareto_front(items: Iterable[Item], place: Callable[[Item], tuple[float, float]], ties: bool = True) -> list[Item]:
    """The items that none beats, by their first figure. `place` gives two figures, less being better in both.

    An item is beaten by another that is at least as good in both figures and better in one. Items that are equal in
    both do not beat each other: all of them are on the front, or, without `ties`, the first. Takes n log n steps.
    """
    on_front: list[Item] = []
    best = (-math.inf, math.inf)
    for item in sorted(items, key=place):
        here = place(item)
        if here[1] < best[1] or (ties and here == best):
            on_front.append(item)
            best = here
    return on_front


# --- the least time that an attention needs ---


@dataclass(frozen=True)
class Floor:
    """Times in milliseconds of one variant, or of one of its stages; None is not measured.

    `direct_ms` was spent inside the attention modules, `floor_ms` is the least time they need on this machine.
    """

    direct_ms: float | None
    floor_ms: float | None

    @property
    def times(self) -> float | None:
        """How many times its floor the direct time is."""
        return self.direct_ms / self.floor_ms if self.direct_ms is not None and self.floor_ms else None


def whole_floor(record: Record) -> Floor:
    """Of the whole variant: its fields, or the sums over its sites where these are missing."""
    direct = record.latency_direct_ms
    floor = record.latency_floor_ms
    return Floor(_sum(record, "latency_ms") if direct is None else direct,
                 _sum(record, "floor_ms") if floor is None else floor)


def stage_floors(record: Record) -> dict[int, Floor]:
    """Of each stage, summed over its sites; a sum that lacks a site is None."""
    stages = sorted({row["stage"] for row in record.by_site if "stage" in row})
    return {stage: Floor(_sum(record, "latency_ms", stage), _sum(record, "floor_ms", stage)) for stage in stages}


def added_ms(group: Group, record: Record) -> Interval | None:
    """What the attention adds to the whole network's time, with its interval: the paired overhead times the baseline's
    latency; None where one is missing."""
    base = group.baseline
    if base is None or not base.latency_ms or record.latency_overhead is None or base.environment != record.environment:
        return None
    low, high = record.latency_overhead_low, record.latency_overhead_high
    scale = base.latency_ms
    return Interval(scale * record.latency_overhead, None if low is None else scale * low,
                    None if high is None else scale * high)


def _sum(record: Record, field: str, stage: int | None = None) -> float | None:
    values: list[Any] = [row.get(field) for row in record.by_site if stage is None or row.get("stage") == stage]
    return None if not values or None in values else sum(values)


def _word(record: Record, name: str) -> str:
    value = getattr(record, name)
    if name == "stages":
        return "all stages" if value is None else f"stages {','.join(map(str, value))}"
    if name == "resolution":
        return "own input" if value is None else f"{value} px"
    if name == "threads":
        return "1 thread" if value == 1 else f"{value} threads"
    prefix = {"batch": "batch ", "placement": "placement ", "integration": "integration "}.get(name, "")
    return f"{prefix}{value}"

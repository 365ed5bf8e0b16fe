"""Attention's measured time beside the least time that its own traffic and MACs need: is it slow, or its
implementation?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from secost.answers.groups import Group
from secost.numbers import milliseconds
from secost.runs.records import Record

_NEAR, _FAR = 2.0, 4.0
_APART = 1.5


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


def added_ms(group: Group, record: Record) -> tuple[float, float | None, float | None] | None:
    """What the attention adds to the whole network's time, with its interval: the paired overhead times the baseline's
    latency; None where one is missing."""
    base = group.baseline
    if base is None or not base.latency_ms or record.latency_overhead is None or base.environment != record.environment:
        return None
    low, high = record.latency_overhead_low, record.latency_overhead_high
    scale = base.latency_ms
    return scale * record.latency_overhead, None if low is None else scale * low, None if high is None else scale * high


def floor_words(group: Group) -> list[str]:
    """For each attention that has a floor: how many times its floor it takes, what that means, and where most."""
    found = []
    for record in group.representatives():
        whole = whole_floor(record)
        if whole.times is None:
            continue
        start = (f"{record.label} spends {milliseconds(whole.direct_ms)} inside its modules; what they read, write and "
                 f"multiply needs at least {milliseconds(whole.floor_ms)} here")
        found.append(f"{start}: {times_words(whole.times)} its floor, so {_meaning(whole.times)}{_where(record)}.")
    return found


def times_words(times: float | None) -> str:
    """`3.1 times`, `N/A`."""
    if times is None:
        return "N/A"
    return f"{times:.1f} times" if times < 10 else f"{times:,.0f} times"


def _sum(record: Record, field: str, stage: int | None = None) -> float | None:
    return _total(row.get(field) for row in record.by_site if stage is None or row.get("stage") == stage)


def _total(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or any(value is None for value in known) else sum(value for value in known if value)


def _meaning(times: float) -> str:
    if times < 1:
        return ("there is nothing to be won by writing it better (below 1 the machine was busier while its rates were "
                "measured, or did less than the floor assumes)")
    if times < _NEAR:
        return "the attention itself is what costs: another implementation can win little"
    if times < _FAR:
        return "attention and implementation share the cost: one that passes over the map less often can win some"
    return "mostly its implementation is slow, not the attention: launches and separate passes, which fusing would save"


def _where(record: Record) -> str:
    """` (most in stage 4, 9.1 times; least in stage 1, 1.8 times)` where stages differ."""
    known = {stage: floor.times for stage, floor in stage_floors(record).items() if floor.times is not None}
    if len(known) < 2:
        return ""
    most, least = max(known, key=lambda stage: known[stage]), min(known, key=lambda stage: known[stage])
    if known[most] < _APART * known[least]:
        return ""
    return f" (most in stage {most}, {times_words(known[most])}; least in stage {least}, {times_words(known[least])})"

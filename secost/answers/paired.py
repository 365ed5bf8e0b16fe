"""Two variants of one comparison against each other, round by round, from the times that their records keep.

Their overheads share one baseline, so the two intervals overlap long before the variants are alike. In the same
rounds the ratio of the one to the other needs no baseline, and its interval is much narrower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secost.runs.records import Record
from secost.statistics import built_at, by_process, clustered_interval


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


def difference(record: Record, other: Record, confidence: float = 0.95) -> Difference | None:
    """`record` against `other`: (time / other's time - 1) with its interval; None where a time is missing."""
    ratios = _ratios(record, other)
    if ratios is None:
        return _from_overheads(record, other)
    found = clustered_interval(by_process(ratios, _processes(record, len(ratios))), built_at(confidence))
    return Difference(found.estimate, found.low, found.high, True)


def _ratios(record: Record, other: Record) -> list[float] | None:
    """The ratio of the two times in each round, less 1; None where they were not timed in the same rounds."""
    mine, theirs = record.samples or {}, other.samples or {}
    times, others = mine.get("variant_s") or (), theirs.get("variant_s") or ()
    same_rounds = mine.get("baseline_s") and mine.get("baseline_s") == theirs.get("baseline_s")
    if not same_rounds or record.environment != other.environment or len(times) != len(others) or not times:
        return None
    return [time / reference - 1 for time, reference in zip(times, others, strict=True)] if all(others) else None


def _processes(record: Record, rounds: int) -> Sequence[Any]:
    """The process of each round; one for all in records that do not tell."""
    found = (record.samples or {}).get("process") or ()
    return found if len(found) == rounds else [0] * rounds


def _from_overheads(record: Record, other: Record) -> Difference | None:
    ends = [(item.latency_overhead, item.latency_overhead_low, item.latency_overhead_high) for item in (record, other)]
    (mine, low, high), (theirs, other_low, other_high) = ends
    if mine is None or theirs is None or record.environment != other.environment:
        return None
    estimate = (1 + mine) / (1 + theirs) - 1
    if low is None or high is None or other_low is None or other_high is None:
        return Difference(estimate, None, None, False)
    return Difference(estimate, (1 + low) / (1 + other_high) - 1, (1 + high) / (1 + other_low) - 1, False)

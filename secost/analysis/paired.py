"""Two variants of one comparison against each other, round by round, from the times that their records keep.

Their overheads share one baseline, so the two intervals overlap long before the variants are alike. In the same
rounds the ratio of the one to the other needs no baseline, and its interval is much narrower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from secost.records import Record

_FEWEST_PROCESSES = 3


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
    low, high = _interval(ratios, _processes(record, len(ratios)), confidence)
    return Difference(median(ratios) - 1, None if low is None else low - 1, None if high is None else high - 1, True)


def student_t(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's t: 3.182 for 0.95 and 3 degrees of freedom.

    By bisection of the closed form of its distribution (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _t_inside(high, freedom) < confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < confidence else (low, middle)
    return high


def _ratios(record: Record, other: Record) -> list[float] | None:
    """The ratio of the two times in each round; None where they were not timed in the same rounds."""
    mine, theirs = record.samples or {}, other.samples or {}
    times, others = mine.get("variant_s") or (), theirs.get("variant_s") or ()
    same_rounds = mine.get("baseline_s") and mine.get("baseline_s") == theirs.get("baseline_s")
    if not same_rounds or record.environment != other.environment or len(times) != len(others) or not times:
        return None
    return [time / reference for time, reference in zip(times, others, strict=True)] if all(others) else None


def _processes(record: Record, rounds: int) -> Sequence[Any]:
    """The process of each round; one for all in records that do not tell."""
    found = (record.samples or {}).get("process") or ()
    return found if len(found) == rounds else [0] * rounds


def _interval(
    values: Sequence[float], processes: Sequence[Any], confidence: float
) -> tuple[float | None, float | None]:
    """An interval over rounds and processes: of the processes' medians by Student's t where there are three or more
    (both medians lie in it where there are two), and never narrower than the order statistics of all rounds."""
    low, high = _median_interval(values, confidence)
    by_process: dict[Any, list[float]] = {}
    for value, process in zip(values, processes, strict=True):
        by_process.setdefault(process, []).append(value)
    middles = [median(rows) for rows in by_process.values()]
    if low is None or high is None:
        return None, None
    if len(middles) < _FEWEST_PROCESSES:
        return min(low, *middles), max(high, *middles)
    half = student_t(confidence, len(middles) - 1) * stdev(middles) / math.sqrt(len(middles))
    return min(low, fmean(middles) - half), max(high, fmean(middles) + half)


def _median_interval(values: Sequence[float], confidence: float) -> tuple[float | None, float | None]:
    """Order statistics (Conover, Practical Nonparametric Statistics, section 3.2): exact for independent rounds."""
    count, ordered = len(values), sorted(values)
    tail, rank = 0.0, None
    for left_out in range(count // 2 + 1):
        tail += math.exp(_log_binomial(count, left_out) - count * math.log(2))
        if 2 * tail > 1 - confidence:
            break
        rank = left_out
    return (None, None) if rank is None else (ordered[rank], ordered[-1 - rank])


def _log_binomial(count: int, chosen: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def _t_inside(value: float, freedom: int) -> float:
    """P(|T| < value)."""
    angle = math.atan(value / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term, total = 1.0, 0.0
    for step in range(freedom // 2):
        total += term
        term *= square * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + sine * math.cos(angle) * total)


def _from_overheads(record: Record, other: Record) -> Difference | None:
    ends = [(item.latency_overhead, item.latency_overhead_low, item.latency_overhead_high) for item in (record, other)]
    (mine, low, high), (theirs, other_low, other_high) = ends
    if mine is None or theirs is None or record.environment != other.environment:
        return None
    estimate = (1 + mine) / (1 + theirs) - 1
    if low is None or high is None or other_low is None or other_high is None:
        return Difference(estimate, None, None, False)
    return Difference(estimate, (1 + low) / (1 + other_high) - 1, (1 + high) / (1 + other_low) - 1, False)

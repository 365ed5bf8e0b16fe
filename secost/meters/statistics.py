"""Medians with intervals that assume no distribution, and the few questions a run of rounds is asked.

Times on a shared machine have bursts and heavy tails; order statistics need neither their variance nor their shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; the ends are None where there are too few values for one."""

    estimate: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float:
        """Half the interval's width; infinite where there is no interval."""
        return math.inf if self.low is None or self.high is None else (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Whether a value lies inside; no interval excludes nothing."""
        return self.low is None or self.high is None or self.low <= value <= self.high


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle. Raises ValueError for no values."""
    if not values:
        raise ValueError("the median of no values is not defined")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median and its order-statistic interval (Conover, Practical Nonparametric Statistics, section 3.2).

    Covers the true median with at least `confidence` for independent values of any continuous distribution.
    """
    rank = interval_rank(len(values), confidence)
    if rank is None:
        return Interval(median(values), None, None)
    ordered = sorted(values)
    return Interval(median(ordered), ordered[rank], ordered[-1 - rank])


@lru_cache(maxsize=4096)
def interval_rank(count: int, confidence: float) -> int | None:
    """How many values to leave out at each end: the largest k with 2 P(Binomial(n, 1/2) <= k) <= 1 - confidence.

    The interval from the (k+1)-th smallest to the (k+1)-th largest misses the median with that probability. None where
    even the whole range misses it too often. Exact: in whole numbers, with the confidence as it is written.
    """
    allowed = (1 - Fraction(str(confidence))) * 2**count / 2
    tail, ways, rank = 0, 1, None
    for k in range(count // 2 + 1):
        tail += ways
        if tail > allowed:
            break
        rank, ways = k, ways * (count - k) // (k + 1)
    return rank


def drift(values: Sequence[float]) -> float:
    """The relative change of the median from the first to the last third; 0 for fewer than 6 values."""
    third = len(values) // 3
    if third < 2:
        return 0.0
    return median(values[-third:]) / median(values[:third]) - 1

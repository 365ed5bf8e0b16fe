"""Medians with intervals that assume no distribution, and the few questions a run of rounds is asked.

Plain numbers in and out: the leg that measures and the leg that reads records both use it. Times on a shared machine
have bursts and heavy tails, and come in groups (the processes they were measured in) that differ from one another.
Signs need neither their variance nor their shape.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import mean, stdev, variance

import numpy as np

# What the latency intervals promise, and the share of the error that they are built with. The difference pays for
# looking after every process whether the interval is narrow enough yet, and for processes being few: reports/protocol
# shows the coverage of both.
CONFIDENCE = 0.95
_BUILT_SHARE = 0.4
_BLOCKS = 10


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


def built_at(confidence: float = CONFIDENCE) -> float:
    """The confidence that an interval is built with to keep `confidence`: 0.98 for 0.95."""
    return 1 - _BUILT_SHARE * (1 - confidence)


def by_process(values: Sequence[float], process: Sequence[int]) -> list[list[float]]:
    """Values by the process of each; where there is only one, by blocks of neighbours, which at least differ in time.

    The values of one process are neighbours.
    """
    if len(set(process)) > 1:
        pairs = zip(process, values, strict=True)
        return [[value for _, value in group] for _, group in itertools.groupby(pairs, lambda pair: pair[0])]
    blocks = min(_BLOCKS, len(values))
    edges = [round(block * len(values) / blocks) for block in range(blocks + 1)] if blocks else [0]
    return [list(values[begin:end]) for begin, end in itertools.pairwise(edges)]


def clustered_interval(groups: Sequence[Sequence[float]], confidence: float) -> Interval:
    """The median of all values, with an interval that allows for groups (processes) whose medians differ.

    The interval holds every m that a sign test on whole groups does not reject. A group's score is the mean of
    sign(value - m) over its values, and the scores of k groups are judged by Student's t with k - 1 degrees of freedom.
    The variance of their mean is never taken below 1/n, which it has for n independent values, as a few groups may
    agree by luck. Bounded scores keep one burst from moving the interval far. The ends are None for fewer than two
    groups, and for so few values that even the outermost are not rejected. reports/protocol tells how it was chosen.
    """
    ordered = [np.sort(np.asarray(group, dtype=float)) for group in groups if len(group)]
    values = [float(value) for group in ordered for value in group]
    estimate = median(values)
    limit = student_quantile((1 + confidence) / 2, len(ordered) - 1) if len(ordered) > 1 else math.inf
    if math.sqrt(len(values)) <= limit:  # the test statistic beyond the outermost value
        return Interval(estimate, None, None)
    known = np.unique(values)
    gaps = (known[1:] + known[:-1]) / 2
    held = np.flatnonzero(_sign_statistic(ordered, gaps) <= limit)
    inside = known[_sign_statistic(ordered, known) <= limit]
    ends = [estimate, *inside, *(known[held]), *(known[held + 1])]
    return Interval(estimate, float(min(ends)), float(max(ends)))


def _sign_statistic(groups: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
    """|t| of the groups' sign scores for each candidate median."""
    sizes = np.array([len(group) for group in groups], dtype=float)
    above = np.array([len(group) - np.searchsorted(group, candidates, "right") for group in groups])
    below = np.array([np.searchsorted(group, candidates, "left") for group in groups])
    weights = (sizes / sizes.sum())[:, None]
    scores = (above - below) / sizes[:, None]
    mean = (weights * scores).sum(axis=0)
    variance = (weights**2 * (scores - mean) ** 2).sum(axis=0) * len(groups) / (len(groups) - 1)
    statistic: np.ndarray = np.abs(mean) / np.sqrt(np.maximum(variance, 1 / sizes.sum()))
    return statistic


@lru_cache(maxsize=4096)
def student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t for a probability from 1/2 to 1, by bisection on its distribution function."""
    low, high = 0.0, 1.0
    while _student_central(high, degrees) < 2 * probability - 1:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if _student_central(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _student_central(t: float, degrees: int) -> float:
    """P(|T| <= t), exact for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= square * k / (k + 1)
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


def drift(values: Sequence[float]) -> float:
    """The relative change of the median from the first to the last third; 0 for fewer than 6 values."""
    third = len(values) // 3
    if third < 2:
        return 0.0
    return median(values[-third:]) / median(values[:third]) - 1


# --- paired seeds: accuracies of one seed share data order and initial weights, so what is luck in both cancels ---


def paired_difference(pairs: Sequence[tuple[float, float]], confidence: float = CONFIDENCE) -> Interval:
    """The mean of (second - first) over pairs; the ends are None for fewer than two. Raises ValueError for none."""
    if not pairs:
        raise ValueError("a difference of no pairs is not defined")
    differences = [second - first for first, second in pairs]
    if len(differences) < 2:
        return Interval(differences[0], None, None)
    half = student_quantile((1 + confidence) / 2, len(differences) - 1) * stdev(differences)
    return _around(mean(differences), half / math.sqrt(len(differences)))


def mean_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean over seeds with Student's interval; the ends are None for a single one. Raises ValueError for none."""
    return paired_difference([(0.0, value) for value in values], confidence)


def unpaired_difference(pairs: Sequence[tuple[float, float]], confidence: float = CONFIDENCE) -> Interval:
    """The same difference as if the two lists were independent (Welch): what pairing is measured against."""
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if len(pairs) < 2:
        return Interval(second[0] - first[0], None, None)
    parts = [variance(values) / len(values) for values in (first, second)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return _around(mean(second) - mean(first), 0.0)
    # Welch and Satterthwaite's degrees of freedom, rounded down: the wider interval.
    degrees = int(sum(parts) ** 2 / sum(part**2 / (len(pairs) - 1) for part in parts))
    return _around(mean(second) - mean(first), student_quantile((1 + confidence) / 2, max(1, degrees)) * error)


def _around(middle: float, half: float) -> Interval:
    return Interval(middle, middle - half, middle + half)

"""The mean difference of paired seeds, with its interval: Student's t over the differences of one seed each.

Accuracies of one seed share data order and initial weights, so what is luck in both cancels in their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev, variance

from secost.statistics import Interval, student_quantile

CONFIDENCE = 0.95


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

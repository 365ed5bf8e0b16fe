"""Looking after every seed: an interval of a gain that holds over all looks, and how many seeds a question needs.

Who adds seeds until Student's interval leaves 0 is wrong far more often than it says: each look is another chance. Here
the interval at n pairs is built with a larger confidence, 1 - 1.25 % x min(1, (10 / n)^2), from the fifth pair on, so
that at most 5 % of runs ever see their true gain outside it, whenever they stop: the idea of alpha spending (Lan and
DeMets, Biometrika 70, 1983) with Student's t, as the spread is not known. The t statistics of one run do not depend on
that spread, so one simulation holds for all. The shape needed fewest seeds of those compared, an e-process (Rouder et
al. 2009; Hendriksen, de Heide and Gruenwald 2021) among them: reports/protocol/seeds.md. The promise is for each
variant by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secost.statistics import Interval  # numpy comes with it, which the options need not wait for

# The first look comes no earlier because accuracies are counts: a few differences may be equal by luck, and then they
# tell no spread.
FIRST_LOOK, MOST_PAIRS, USUAL_MOST = 5, 200, 20
_LEVEL, _STEADY = 0.0125, 10
# Standard deviations of the difference of paired seeds, in points: what is taken before any was seen (0.12 to 0.53 in
# the samples in reports/), and less than which no set of some thousand test images shows.
USUAL_SPREAD, LEAST_SPREAD = 0.3, 0.1
_POWER = 0.8


def looked_difference(pairs: Sequence[tuple[float, float]]) -> Interval:
    """The mean of (second - first) over pairs with its interval; the ends are None before the first look. Raises
    ValueError for no pairs."""
    from secost.statistics import Interval

    differences = [second - first for first, second in pairs]
    middle = fmean(differences)
    if len(pairs) < FIRST_LOOK:
        return Interval(middle, None, None)
    half = half_width(len(pairs), stdev(differences))
    return Interval(middle, middle - half, middle + half)


def half_width(pairs: int, spread: float) -> float:
    """Of the interval at so many pairs, whose differences have that standard deviation."""
    return _limit(pairs) * spread / math.sqrt(pairs)


def told(interval: Interval, until: float) -> bool:
    """Whether it leaves out 0, or is known to `until`."""
    return not interval.holds(0.0) or interval.half_width <= until


def pairs_for(until: float, spread: float) -> int | None:
    """The least number of pairs that know a gain of that spread to `until`; None for more than MOST_PAIRS."""
    return next((n for n in range(FIRST_LOOK, MOST_PAIRS + 1) if half_width(n, spread) <= until), None)


def least_effect(pairs: int, spread: float, looked: bool = False) -> float:
    """The smallest gain that so many pairs tell from none in 80 % of runs; a little less, where they were `looked` at
    on the way. Infinite for fewer pairs than an interval needs."""
    from secost.statistics import CONFIDENCE, student_quantile

    if pairs < (FIRST_LOOK if looked else 2):
        return math.inf
    limit = _limit(pairs) if looked else student_quantile((1 + CONFIDENCE) / 2, pairs - 1)
    return (limit + student_quantile(_POWER, pairs - 1)) * spread / math.sqrt(pairs)


def _limit(pairs: int) -> float:
    from secost.statistics import student_quantile

    level = _LEVEL * min(1.0, (_STEADY / pairs) ** 2)
    return student_quantile(1 - level / 2, pairs - 1)

"""By how much a measured figure changed from one run to another, with an interval. Pure numbers; `compare` asks here.

Two runs share no rounds, so nothing can be paired: what one process has (its addresses, its caches, its clock
frequency) and what it goes through (bursts, drift) are noise of the run. The unit is therefore the process, not the
round: the logarithm of each process's median time. From five processes a run on the interval is Hodges and Lehmann's
for a shift, which a burst can't move far; of fewer ranks say too little, and it is Welch's for a difference of means.

Both were chosen on made noise with 1 % between processes, bursts and rounds that are alike, by how often their 95 %
intervals held the truth and by their width. With 3 processes of 20 rounds: Welch 97 % of runs, a two-level bootstrap
89 %, order statistics over all rounds 77 %. With 12 of 6 rounds: Hodges-Lehmann 95 % at +-2.1 %, Welch 97 % at
+-3.4 %, the bootstrap 98 % at +-2.2 %. tests/answers/test_compare_changes.py holds the coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist, fmean, median, variance

CONFIDENCE = 0.95
# What another process would bring to a run of one process, as a standard deviation: such a run can't tell it itself.
# About a point was seen between processes that keep freed memory; a round figure, not a fit.
PROCESS_SPREAD = 0.01
# What another time of measuring would bring to a run's absolute times, as a standard deviation: its processes share the
# mood of the machine, so they can't tell it. Nine equal runs of ResNet-18 on a shared machine differed by 0.9 %, and
# without this allowance a quarter of their pairs were told apart.
RUN_SPREAD = 0.01
# A run of one process is cut into this many stretches of rounds, because rounds near in time are alike (lag-1
# autocorrelation 0.1 to 0.6 in the samples in reports/). More stretches gave narrower intervals that held less often.
STRETCHES = 4
MANY_PROCESSES = 5
_EXACT_UP_TO = 400
_NORMAL_FROM = 1e4


@dataclass(frozen=True)
class Shift:
    """A change with its interval: a fraction of the old time, or a difference of two overheads. No interval: None."""

    estimate: float
    low: float | None
    high: float | None

    def holds(self, value: float) -> bool:
        """Whether a value lies inside; no interval excludes nothing."""
        return self.low is None or self.high is None or self.low <= value <= self.high


@dataclass(frozen=True)
class Overhead:
    """One run's paired overhead with its interval (fractions), and how many processes the interval covers."""

    estimate: float
    low: float | None
    high: float | None
    processes: int


def by_process(times_s: Sequence[float], process: Sequence[int] | None) -> list[list[float]]:
    """The rounds' times, one list a process in order of appearance; without `process` they are all of one."""
    if process is None:
        return [list(times_s)]
    found: dict[int, list[float]] = {}
    for value, number in zip(times_s, process, strict=True):
        found.setdefault(number, []).append(value)
    return list(found.values())


def typical_s(processes: Sequence[Sequence[float]]) -> float:
    """One time for a run: the median of the processes' medians."""
    return median([median(times) for times in processes])


def ratio_shift(
    old: Sequence[Sequence[float]], new: Sequence[Sequence[float]], run_spread: float = RUN_SPREAD
) -> Shift:
    """new / old - 1 of the runs' times, from seconds by process, with its 95 % interval.

    The interval covers processes, and runs that differ by `run_spread` (a standard deviation) for the time at which
    they were made. A run of one process enters with its stretches and with `PROCESS_SPREAD`; one of fewer than four
    rounds has no interval. Times must be above 0.
    """
    many = min(len(old), len(new)) >= MANY_PROCESSES
    shift = _by_ranks(_units(old), _units(new)) if many else _by_means(old, new)
    if shift.low is None or shift.high is None:
        return Shift(math.expm1(shift.estimate), None, None)
    unseen = math.log1p(least_half_width(run_spread))
    down, up = math.hypot(shift.estimate - shift.low, unseen), math.hypot(shift.high - shift.estimate, unseen)
    return Shift(math.expm1(shift.estimate), math.expm1(shift.estimate - down), math.expm1(shift.estimate + up))


def least_half_width(run_spread: float) -> float:
    """The half-width (a fraction) that no length of two runs gets below, as equal runs differ by `run_spread`."""
    return math.expm1(_quantile(math.inf) * math.sqrt(2) * run_spread)


def overhead_shift(old: Overhead, new: Overhead) -> Shift:
    """new - old of two paired overheads, with the interval that follows from both.

    The ends are had from the distances on the side that matters (Zou and Donner, Statistics in Medicine 27, 2008), so
    lopsided intervals stay lopsided. A run of one process is widened by `PROCESS_SPREAD`.
    """
    estimate = new.estimate - old.estimate
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return Shift(estimate, None, None)
    unseen = [_quantile(math.inf) * PROCESS_SPREAD for run in (old, new) if run.processes < 2]
    down = math.hypot(new.estimate - new.low, old.high - old.estimate, *unseen)
    up = math.hypot(new.high - new.estimate, old.estimate - old.low, *unseen)
    return Shift(estimate, estimate - down, estimate + up)


def _by_means(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Shift:
    """The difference of the means of logarithms, with Welch's interval."""
    estimate = fmean(_units(new)) - fmean(_units(old))
    parts = [_variance(run) for run in (old, new)]
    if any(part is None for part in parts):
        return Shift(estimate, None, None)
    terms = [part for part in parts if part is not None]
    # A run of one process adds a variance that is taken as known: it has no degrees of freedom of its own to spend.
    total = sum(own + known for own, _, known in terms)
    half = _quantile(_degrees(total, [(own, degrees) for own, degrees, _ in terms])) * math.sqrt(total)
    return Shift(estimate, estimate - half, estimate + half)


def _by_ranks(old: Sequence[float], new: Sequence[float]) -> Shift:
    """Hodges and Lehmann's shift of logarithms, with the interval that the rank-sum test gives: exact for processes
    that are alike but for the shift (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, section 4.3)."""
    differences = sorted(mine - theirs for mine in new for theirs in old)
    rank = rank_sum_limit(len(old), len(new))
    return Shift(median(differences), differences[rank], differences[-1 - rank])


@lru_cache(maxsize=1024)
def rank_sum_limit(old: int, new: int) -> int:
    """How many differences to leave out at each end: the critical value of the two-sided rank-sum test at 5 %.

    By counting all orders of the two samples; by the normal approximation from 400 differences on.
    """
    if old * new > _EXACT_UP_TO:
        spread = math.sqrt(old * new * (old + new + 1) / 12)
        return math.floor(old * new / 2 - _quantile(math.inf) * spread - 0.5)
    ways = [[1] for _ in range(new + 1)]  # ways[j][u]: orders of i and j values in which u pairs stand the wrong way
    for i in range(1, old + 1):
        row = [[1]]
        for j in range(1, new + 1):
            found = [0] * (i * j + 1)
            for u, count in enumerate(ways[j]):
                found[u + j] += count
            for u, count in enumerate(row[j - 1]):
                found[u] += count
            row.append(found)
        ways = row
    allowed = (1 - CONFIDENCE) / 2 * math.comb(old + new, old)
    tail, limit = 0, -1
    for count in ways[new]:
        tail += count
        if tail > allowed:
            break
        limit += 1
    return limit


def _units(processes: Sequence[Sequence[float]]) -> list[float]:
    """Logarithms of medians: of the processes, or of the stretches of the only one."""
    if len(processes) > 1:
        return [math.log(median(times)) for times in processes]
    times = processes[0]
    count = min(STRETCHES, len(times))
    ends = [len(times) * step // count for step in range(count + 1)]
    return [math.log(median(times[begin:end])) for begin, end in pairwise(ends)]


def _variance(processes: Sequence[Sequence[float]]) -> tuple[float, int, float] | None:
    """Variance of the mean of a run's units, its degrees of freedom, and the variance that the run can't show."""
    units = _units(processes)
    if len(processes) == 1 and len(units) < STRETCHES:
        return None
    own = variance(units) / len(units)
    return own, len(units) - 1, PROCESS_SPREAD**2 if len(processes) == 1 else 0.0


def _degrees(total: float, terms: Sequence[tuple[float, int]]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances; infinite where none of it was estimated."""
    spent = sum(own**2 / degrees for own, degrees in terms)
    return total**2 / spent if spent > 0 else math.inf


def _quantile(degrees: float) -> float:
    """The t value that leaves 2.5 % on either side, for any real number of degrees of freedom from 1 on."""
    return _student(round(degrees, 2)) if degrees < _NORMAL_FROM else NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@lru_cache(maxsize=4096)
def _student(degrees: float) -> float:
    """By bisection over the angle of t = sqrt(degrees) * tan(angle), in which Student's density is a power of cos."""
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        inside = 2 * scale * _power_of_cos(middle, degrees - 1)
        low, high = (middle, high) if inside < CONFIDENCE else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _power_of_cos(end: float, power: float, steps: int = 200) -> float:
    """The integral of cos(x) ** power from 0 to `end`, by Simpson's rule."""
    width = end / steps
    weights = (1 if step in (0, steps) else 4 if step % 2 else 2 for step in range(steps + 1))
    return width / 3 * sum(weight * math.pow(math.cos(step * width), power) for step, weight in enumerate(weights))

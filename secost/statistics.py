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
from statistics import NormalDist, fmean, mean, stdev, variance

import numpy as np

# What the latency intervals promise, and the share of the error that they are built with. The difference pays for
# looking after every process whether the interval is narrow enough yet, and for processes being few: reports/protocol
# shows the coverage of both.
CONFIDENCE = 0.95
_BUILT_SHARE = 0.4
_BLOCKS = 10
_MOST_PROCESSES = 60  # more are not looked at for the time that an interval takes
# What another process would bring to a run of one process, as a standard deviation: such a run can't tell it itself.
# About a point was seen between processes that keep freed memory; a round figure, not a fit.
PROCESS_SPREAD = 0.01
# What another parent would bring to the overheads of a run whose processes are forked from one, as a standard deviation
# in fractions of the baseline's time: the children share its code's and its kernels' addresses, so they can't tell it,
# however many they are. Between six parents of 40 s each it was 0.39 points on MobileNetV2 and 0.09 on ResNet-18, 0.21
# between five others (reports/protocol); the largest stands for all. Fresh parents in a run would be covered by its own
# interval, and cost seconds each.
PARENT_SPREAD = 0.004
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


def clusters(values: Sequence[float], process: Sequence[int]) -> list[list[float]]:
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


def seconds_for(half_width: float, deviation: float, opening_s: float, round_s: float) -> float:
    """Seconds after which an interval over processes and their rounds has that half-width, by the best number of these.

    Rounds scatter by `deviation` (a standard deviation, as `half_width` a fraction); a process takes `opening_s` to get
    ready and each round `round_s`. What differs between processes is left out, so it is the least. Without a deviation
    it is the time of the first interval of any width.
    """

    def total_s(processes: int) -> float:
        limit = student_quantile((1 + built_at()) / 2, processes - 1)
        rounds = max(processes, limit**2 + 1, math.pi / 2 * (limit * deviation / half_width) ** 2)
        return processes * opening_s + math.ceil(rounds) * round_s

    return min(map(total_s, range(3, _MOST_PROCESSES)))


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


# --- two runs: they share no rounds, so nothing can be paired. What one process has (its addresses, its caches, its
# clock frequency) and what it goes through (bursts, drift) are noise of the run, so the unit is the process, not the
# round: the logarithm of each process's median time. From five processes a run on the interval is Hodges and Lehmann's
# for a shift, which a burst can't move far; of fewer ranks say too little, and it is Welch's for a difference of means.
#
# Both were chosen on made noise with 1 % between processes, bursts and rounds that are alike, by how often their 95 %
# intervals held the truth and by their width. With 3 processes of 20 rounds: Welch 97 % of runs, a two-level bootstrap
# 89 %, order statistics over all rounds 77 %. With 12 of 6 rounds: Hodges-Lehmann 95 % at +-2.1 %, Welch 97 % at
# +-3.4 %, the bootstrap 98 % at +-2.2 %. tests/test_statistics_of_runs.py holds the coverage. ---


@dataclass(frozen=True)
class Overhead(Interval):
    """One run's paired overhead with its interval (fractions), and how many processes the interval covers."""

    processes: int


def times_by_process(times_s: Sequence[float], process: Sequence[int] | None) -> list[list[float]]:
    """The rounds' times, one list a process in order of appearance; without `process` they are all of one."""
    if process is None:
        return [list(times_s)]
    times: dict[int, list[float]] = {}
    for value, number in zip(times_s, process, strict=True):
        times.setdefault(number, []).append(value)
    return list(times.values())


def typical_s(processes: Sequence[Sequence[float]]) -> float:
    """One time for a run: the median of the processes' medians."""
    return median([median(times) for times in processes])


def ratio_shift(
    old: Sequence[Sequence[float]], new: Sequence[Sequence[float]], run_spread: float = RUN_SPREAD
) -> Interval:
    """new / old - 1 of the runs' times, from seconds by process, with its 95 % interval.

    The interval covers processes, and runs that differ by `run_spread` (a standard deviation) for the time at which
    they were made. A run of one process enters with its stretches and with `PROCESS_SPREAD`; one of fewer than four
    rounds has no interval. Times must be above 0.
    """
    many = min(len(old), len(new)) >= MANY_PROCESSES
    shift = _by_ranks(_units(old), _units(new)) if many else _by_means(old, new)
    if shift.low is None or shift.high is None:
        return Interval(math.expm1(shift.estimate), None, None)
    unseen = math.log1p(least_half_width(run_spread))
    down, up = math.hypot(shift.estimate - shift.low, unseen), math.hypot(shift.high - shift.estimate, unseen)
    return Interval(math.expm1(shift.estimate), math.expm1(shift.estimate - down), math.expm1(shift.estimate + up))


def least_half_width(run_spread: float) -> float:
    """The half-width (a fraction) that no length of two runs gets below, as equal runs differ by `run_spread`."""
    return math.expm1(_quantile(math.inf) * math.sqrt(2) * run_spread)


def overhead_shift(old: Overhead, new: Overhead) -> Interval:
    """new - old of two paired overheads, with the interval that follows from both.

    The ends are had from the distances on the side that matters (Zou and Donner, Statistics in Medicine 27, 2008), so
    lopsided intervals stay lopsided. A run is widened by `PARENT_SPREAD`, one of one process by `PROCESS_SPREAD`.
    """
    estimate = new.estimate - old.estimate
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return Interval(estimate, None, None)
    unseen = [_quantile(math.inf) * (PROCESS_SPREAD if run.processes < 2 else PARENT_SPREAD) for run in (old, new)]
    down = math.hypot(new.estimate - new.low, old.high - old.estimate, *unseen)
    up = math.hypot(new.high - new.estimate, old.estimate - old.low, *unseen)
    return Interval(estimate, estimate - down, estimate + up)


def least_overhead_shift() -> float:
    """The half-width (a fraction) that no length of two runs gets below in overhead: 1.1 points."""
    return _quantile(math.inf) * math.sqrt(2) * PARENT_SPREAD


def _by_means(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Interval:
    """The difference of the means of logarithms, with Welch's interval."""
    estimate = fmean(_units(new)) - fmean(_units(old))
    terms = [part for run in (old, new) if (part := _variance(run)) is not None]
    if len(terms) < 2:
        return Interval(estimate, None, None)
    # A run of one process adds a variance that is taken as known: it has no degrees of freedom of its own to spend.
    total = sum(own + known for own, _, known in terms)
    # Satterthwaite's degrees of freedom of a sum of variances; infinite where none of it was estimated.
    spent = sum(own**2 / degrees for own, degrees, _ in terms)
    return _around(estimate, _quantile(total**2 / spent if spent > 0 else math.inf) * math.sqrt(total))


def _by_ranks(old: Sequence[float], new: Sequence[float]) -> Interval:
    """Hodges and Lehmann's shift of logarithms, with the interval that the rank-sum test gives: exact for processes
    that are alike but for the shift (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, section 4.3)."""
    differences = sorted(mine - theirs for mine in new for theirs in old)
    rank = rank_sum_limit(len(old), len(new))
    return Interval(median(differences), differences[rank], differences[-1 - rank])


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
            orders = [0] * (i * j + 1)
            for u, count in enumerate(ways[j]):
                orders[u + j] += count
            for u, count in enumerate(row[j - 1]):
                orders[u] += count
            row.append(orders)
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
    return [math.log(median(times[begin:end])) for begin, end in itertools.pairwise(ends)]


def _variance(processes: Sequence[Sequence[float]]) -> tuple[float, int, float] | None:
    """Variance of the mean of a run's units, its degrees of freedom, and the variance that the run can't show."""
    units = _units(processes)
    if len(processes) == 1 and len(units) < STRETCHES:
        return None
    own = variance(units) / len(units)
    return own, len(units) - 1, PROCESS_SPREAD**2 if len(processes) == 1 else 0.0


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

"""Attention beside what the same time buys elsewhere: the network's own scaling line, and rates of exchange.

An alternative that takes T more time for a gain G stands for all networks between the network itself and it: in time t
it buys G * t / T, and no more than G however long. Attention is worth its time where it gains more than that, by every
alternative; it is not where it gains less, by one. Intervals of the two gains are added in quadrature, with that of the
time by the line's slope; gains that share a baseline have more in common than that allows for, so it is wide enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from secost.answers.evidence import Weighed
from secost.answers.groups import LATENCY, Currency
from secost.runs.records import Gain
from secost.statistics import CONFIDENCE, Interval, student_quantile

BEATEN, BEATEN_ON_MEAN, UNBEATEN = "beaten, with confidence", "beaten on the mean only", "not beaten"
_ONE_SIDED = (1 - CONFIDENCE) / 2
_WRONG = 2 * _ONE_SIDED  # of all answers that come from several comparisons, as of one with two sides


@dataclass(frozen=True)
class Beside:
    """One variant beside one alternative. `line` is what the alternative buys in the variant's time, in points;
    `difference` the variant's gain beyond it, with its interval, None where either gain has none."""

    other: Weighed
    line: float
    difference: float
    half_width: float | None

    def above(self, tries: int = 1) -> bool:
        """Whether the variant surely gains more; of the best of so many variants."""
        return self.half_width is not None and self.difference > self._wider(tries)

    def below(self, tries: int = 1) -> bool:
        """Whether it surely gains less; by the best of so many alternatives."""
        return self.half_width is not None and -self.difference > self._wider(tries)

    @property
    def interval(self) -> Interval:
        half = self.half_width
        return Interval(self.difference, None if half is None else self.difference - half,
                        None if half is None else self.difference + half)

    def _wider(self, tries: int) -> float:
        return (self.half_width or 0.0) * widening(tries, self.other.gain)


def beside(item: Weighed, others: Sequence[Weighed]) -> tuple[Beside, ...]:
    """A variant beside each alternative of its comparison that costs time, where both were timed."""
    time = item.record.latency_overhead
    if time is None:
        return ()
    return tuple(_beside(item, time, other) for other in others if (other.record.latency_overhead or 0.0) > 0)


def _beside(item: Weighed, time: float, other: Weighed) -> Beside:
    most = other.record.latency_overhead or 0.0
    share = min(max(time, 0.0) / most, 1.0)
    slope = other.gain.points / most if 0 < share < 1 else 0.0
    line = share * other.gain.points
    mine, theirs, timed = _half_width(item.gain), _half_width(other.gain), LATENCY.interval(item.record)
    half = None if mine is None or theirs is None else math.hypot(
        mine, share * theirs, 0.0 if timed is None else slope * (timed[1] - timed[0]) / 2)
    return Beside(other, line, item.gain.points - line, half)


def widening(tries: int, gain: Gain) -> float:
    """How many times its 95 % interval one of several gains must lie beyond a limit, so that the best of so many is
    wrong in 5 % of all cases; 1 for up to two (Bonferroni; each side of one interval is wrong in 2.5 %)."""
    wrong = min(_ONE_SIDED, _WRONG / max(tries, 1))
    if wrong == _ONE_SIDED:
        return 1.0
    if gain.pairs > 1:
        return student_quantile(1 - wrong, gain.pairs - 1) / student_quantile(1 - _ONE_SIDED, gain.pairs - 1)
    return NormalDist().inv_cdf(1 - wrong) / NormalDist().inv_cdf(1 - _ONE_SIDED)


def rate(item: Weighed, currency: Currency) -> Interval | None:
    """Points of accuracy for one percent of a currency, by the ends of both intervals; None where it costs nothing for
    sure, or is not known. No ends where an interval is missing or that of the cost holds 0."""
    cost = item.group.overhead(item.record, currency)
    if cost is None or cost <= 0:
        return None
    low, high = currency.interval(item.record) or ((None, None) if currency.measured else (cost, cost))
    percents = (None if end is None else 100 * end for end in (low, high))
    gain = item.gain
    return _quotient(Interval(gain.points, gain.low, gain.high), Interval(100 * cost, *percents))


def share_of_time(item: Weighed, other: Weighed) -> Interval | None:
    """The variant's extra time as a fraction of the alternative's, by the ends of both intervals; None where either
    was not timed or the alternative's is none for sure."""
    mine, theirs = item.record.latency_overhead, other.record.latency_overhead
    if mine is None or theirs is None or theirs <= 0:
        return None
    ends, others = (LATENCY.interval(one.record) or (None, None) for one in (item, other))
    return _quotient(Interval(mine, *ends), Interval(theirs, *others))


def _quotient(value: Interval, over: Interval) -> Interval:
    """By the ends of both; without ends where one has none, or that below may be nothing."""
    middle = value.estimate / over.estimate
    if value.low is None or value.high is None or over.low is None or over.high is None or over.low <= 0:
        return Interval(middle, None, None)
    corners = [end / beyond for end in (value.low, value.high) for beyond in (over.low, over.high)]
    return Interval(middle, min(corners), max(corners))


def _half_width(gain: Gain) -> float | None:
    return None if gain.low is None or gain.high is None else (gain.high - gain.low) / 2


# --- beside the other variants ---


def standing(item: Weighed, others: Sequence[Weighed], currency: Currency) -> str:
    """Whether another variant, or the bare network, gains at least as much for no more of one currency.

    With confidence where its gain's interval lies above this one's and its cost's below; on the mean only otherwise.
    """
    # First the network without attention: no gain, no cost, both exactly.
    rivals = [((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), True)]
    rivals += [(ends, _has_intervals(other, currency)) for other in others if other is not item
               and other.group is item.group and (ends := _ends(other, currency)) is not None]
    mine, surely, answer = _ends(item, currency), _has_intervals(item, currency), UNBEATEN
    if mine is None:
        return answer
    for rival, sure in rivals:
        gain, low, _, cost, _, top = rival
        if gain >= mine[0] and cost <= mine[3] and (gain > mine[0] or cost < mine[3]):
            if surely and sure and ((low > mine[2] and top <= mine[4]) or (low >= mine[2] and top < mine[4])):
                return BEATEN
            answer = BEATEN_ON_MEAN
    return answer


def _has_intervals(item: Weighed, currency: Currency) -> bool:
    """Whether gain and cost are known with intervals, or exactly: without, nothing is beaten with confidence."""
    return item.gain.low is not None and (not currency.measured or currency.interval(item.record) is not None)


def _ends(item: Weighed, currency: Currency) -> tuple[float, float, float, float, float, float] | None:
    """Gain with its ends, then cost with its ends; without an interval the ends are the value itself."""
    cost = item.group.overhead(item.record, currency)
    if cost is None:
        return None
    gain, points = item.gain, item.gain.points
    return (points, points if gain.low is None else gain.low, points if gain.high is None else gain.high,
            cost, *(currency.interval(item.record) or (cost, cost)))

"""The verdict on a run as a value: is the attention worth its cost, for what reason, and by which figures.

A gain is told where its interval lies above 0. It is worth its cost where it lies above what each alternative buys in
the same time (`beside`), as far as their gains are known, and fits the user's price, in time a point, if there is one.
It is not where it lies below one of them, or too little may be gained to matter, or it is too dear. Where the answer
turns with the recipe of the published trainings, or with what runs the network, it *depends*, and says on what. Records
alone tell the cost, never the gain: then the question of worth stays open ("can't tell"). `pages.verdict` puts reasons
into words, and says what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from secost.answers.beside import Beside, beside, widening
from secost.answers.evidence import Weighed, of_era, trained_pairs, weighed, weighed_alternatives
from secost.answers.groups import LATENCY, Group, group_records, grouped
from secost.glossary import Caution
from secost.runs.curves import gain_curves
from secost.runs.records import TRAINED, Gain, Record

Answer = Literal["worth it", "not worth it", "depends", "can't tell"]
YES: Answer = "worth it"
NO: Answer = "not worth it"
DEPENDS: Answer = "depends"
OPEN: Answer = "can't tell"
_NOT_WORTH_A_LOOK = 0.5  # points of accuracy


class Reason(StrEnum):
    """What decided. Each has one next step."""

    GAINS = "gains"
    TOO_SHORT = "too-short"
    RECIPE = "recipe"
    SETTING = "setting"
    TOO_DEAR = "too-dear"
    PRICE_OPEN = "price-open"
    ABOVE_LINE = "above-line"
    BELOW_LINE = "below-line"
    LINE_OPEN = "line-open"
    NOT_EVERY_INTERVAL = "not-every-interval"
    NO_GAIN = "no-gain"
    GAIN_MAY_HIDE = "gain-may-hide"
    NO_RECORDS = "no-records"
    NOTHING_FINISHED = "nothing-finished"
    BASELINE_ALONE = "baseline-alone"
    NO_BASELINE = "no-baseline"
    CONTROL_FAILED = "control-failed"
    NOT_TIMED = "not-timed"
    GAIN_NOT_KNOWN = "gain-not-known"


_FIRST = (NO, OPEN, YES)  # one variant that is worth it makes it so, and one that is open leaves it open
# The gain itself is told from none.
_TOLD = (Reason.GAINS, Reason.ABOVE_LINE, Reason.TOO_DEAR, Reason.PRICE_OPEN, Reason.LINE_OPEN, Reason.BELOW_LINE)


@dataclass(frozen=True)
class Part:
    """The answer for the gains of one era of recipes in one comparison. `best` gains most, of those that are worth it
    where one is; `most` is what any may gain, by the intervals. `beside` is the best one beside each alternative of
    which a gain is known, by a recipe of that era, or of any where none of that era is."""

    era: str | None
    label: str
    answer: Answer
    reason: Reason
    best: Weighed
    most: float | None = None
    beside: tuple[Beside, ...] = ()

    @property
    def nearest(self) -> Beside | None:
        """The alternative that buys most in the same time; where one surely buys more than the variant, of those."""
        return max(self.beside, key=lambda one: (one.below(len(self.beside)), one.line), default=None)


@dataclass(frozen=True)
class Verdict:
    """`best` is the variant that the answer is about, with the gain in `best.gain`; `most` the points that any may
    gain, by its interval; `source` is where the gains come from, where some are known. `parts` are the answers for each
    era of recipes in each comparison."""

    answer: Answer
    reason: Reason
    best: Weighed | None = None
    most: float | None = None
    source: str = ""
    parts: tuple[Part, ...] = ()
    price: float | None = None

    def to_dict(self, next_step: str) -> dict[str, Any]:
        """Plain JSON values. `price` is the time that a point of accuracy costs, `price_limit` the most that it may, as
        fractions of the baseline's time."""
        gain = None if self.best is None else self.best.gain
        return {
            "answer": self.answer, "reason": str(self.reason), "evidence": self.source or None,
            "borrowed": None if gain is None else gain.borrowed, "basis": None if gain is None else gain.basis,
            "variant": None if self.best is None else self.best.record.label,
            "gain": gain and gain.points, "gain_low": gain and gain.low, "gain_high": gain and gain.high,
            "price": None if self.best is None else time_a_point(self.best), "price_limit": self.price,
            "alternatives": [_plain_beside(one) for part in self.parts[:1] for one in part.beside],
            "parts": [_plain(part) for part in self.parts], "next_step": next_step,
        }


def _plain(part: Part) -> dict[str, Any]:
    gain = part.best.gain
    return {"recipe": part.era, "comparison": part.label, "answer": part.answer, "reason": str(part.reason),
            "variant": part.best.record.label, "gain": gain.points, "gain_low": gain.low, "gain_high": gain.high,
            "pairs": gain.pairs, "next_low": gain.next_low, "next_high": gain.next_high, "basis": gain.basis,
            "alternatives": [_plain_beside(one) for one in part.beside]}


def _plain_beside(one: Beside) -> dict[str, Any]:
    """An alternative: its gain and time, what it buys in the variant's time, and the variant's gain beyond that."""
    gain, record, beyond = one.other.gain, one.other.record, one.interval
    return {"name": record.label, "recipe": gain.era, "gain": gain.points, "gain_low": gain.low,
            "gain_high": gain.high, "basis": gain.basis, "latency_overhead": record.latency_overhead,
            "latency_overhead_low": record.latency_overhead_low, "latency_overhead_high": record.latency_overhead_high,
            "gain_in_same_time": one.line, "beyond": beyond.estimate, "beyond_low": beyond.low,
            "beyond_high": beyond.high}


def judge(records: Sequence[Record], gains: Sequence[Gain] = (), price: float | None = None) -> Verdict:
    """The verdict on all comparisons among the records, with what their variants gain where that is known.

    `price` is the most time that a point of accuracy may cost, as a fraction of the baseline's.
    """
    groups = group_records(records)
    items = weighed(groups, gains)
    if not items:
        return Verdict(OPEN, _by_cost(records, groups), price=price)
    found = _by_gain(items, gains, price)
    if found.source == TRAINED and any(curve.unfinished for curve in gain_curves(trained_pairs(records))):
        return replace(found, answer=OPEN, reason=Reason.TOO_SHORT)  # a gain of a short training says little
    return found


def time_a_point(item: Weighed) -> float | None:
    """What a point of accuracy costs in time (a fraction of the baseline's); None where either is not known or there is
    no gain."""
    time = item.record.latency_overhead
    return None if time is None or item.gain.points <= 0 else time / item.gain.points


def control_failed(group: Group) -> bool:
    """By the meter's caution: it looks at a wider interval than the 95 % one in the samples."""
    return any(caution.split(":")[0].strip() == Caution.CONTROL_FAILED
               for record in group.records for caution in record.cautions)


def control_interval(record: Record) -> tuple[float, float] | None:
    """The control's 95 % interval as fractions. Stored as fractions or as ratios to the baseline (around 1)."""
    samples = record.samples or {}
    low, high = samples.get("control_low"), samples.get("control_high")
    if low is None or high is None:
        return None
    shift = 1.0 if low > 0.5 else 0.0
    return float(low) - shift, float(high) - shift


def _by_gain(items: Sequence[Weighed], gains: Sequence[Gain], price: float | None) -> Verdict:
    parts = tuple(_parts(items, gains, price))
    source, first = items[0].gain.source, parts[0]
    answers = {part.answer for part in parts}
    if len(answers) == 1:
        return Verdict(first.answer, first.reason, first.best, first.most, source, parts, price)
    of_recipe = any(len({part.answer for part in parts if part.label == label}) > 1 for label in _labels(parts))
    decided = [part.best for part in parts if part.answer == (YES if YES in answers else NO)]
    best = max(decided, key=lambda item: len(item.by_era))
    return Verdict(DEPENDS, Reason.RECIPE if of_recipe else Reason.SETTING, best, None, source, parts, price)


def _labels(parts: Iterable[Part]) -> list[str]:
    return list(dict.fromkeys(part.label for part in parts))


def _parts(items: Sequence[Weighed], gains: Sequence[Gain], price: float | None) -> Iterable[Part]:
    """An answer for each comparison and era of recipes: eras in the order in which the gains have them."""
    eras = list(dict.fromkeys(gain.era for item in items for gain in item.by_era))
    for members in grouped(items, lambda item: item.group.label).values():
        group = members[0].group
        others = weighed_alternatives(group, gains)
        for era in eras:
            mine = of_era(members, era)
            if mine:
                yield _part(era, group.label, mine, of_era(others, era) or others, price)


@dataclass(frozen=True)
class _Judged:
    """One variant: whether its gain is told, and how it stands to the price and to the alternatives."""

    item: Weighed
    answer: Answer
    reason: Reason
    beside: tuple[Beside, ...]


def _part(
    era: str | None, label: str, items: Sequence[Weighed], others: Sequence[Weighed], price: float | None,
) -> Part:
    judged = [_judged(item, beside(item, others), len(items), price) for item in items]
    # What is told from none stands for the rest; of those, what gains most.
    best = max(judged, key=lambda one: (_FIRST.index(one.answer), one.reason in _TOLD, one.item.rank))
    ends = [item.gain.high for item in items if item.gain.high is not None]
    most = max(ends) if len(ends) == len(items) and best.reason in (Reason.NO_GAIN, Reason.GAIN_MAY_HIDE) else None
    return Part(era, label, best.answer, best.reason, best.item, most, best.beside)


def _judged(item: Weighed, lines: tuple[Beside, ...], tries: int, price: float | None) -> _Judged:
    """The answer for one of so many variants, by its gain, its price and the alternatives that have a gain."""
    gain = item.gain

    def so(answer: Answer, reason: Reason) -> _Judged:
        return _Judged(item, answer, reason, lines)

    if gain.low is None or gain.high is None:
        return so(OPEN, Reason.NOT_EVERY_INTERVAL)
    told = gain.points > (gain.points - gain.low) * widening(tries, gain)
    if not told and gain.high <= _NOT_WORTH_A_LOOK:
        return so(NO, Reason.NO_GAIN)
    if any(line.below(len(lines)) for line in lines):
        return so(NO, Reason.BELOW_LINE)
    if not told:
        return so(OPEN, Reason.GAIN_MAY_HIDE)
    if not _fits(item, price):
        dear = _too_dear(item, price)
        return so(NO if dear else OPEN, Reason.TOO_DEAR if dear else Reason.PRICE_OPEN)
    if not all(line.above(tries) for line in lines):
        return so(OPEN, Reason.LINE_OPEN)
    return so(YES, Reason.ABOVE_LINE if lines else Reason.GAINS)


def _fits(item: Weighed, price: float | None) -> bool:
    """Whether even the dearest time that the intervals allow buys the least gain within the price."""
    low = item.gain.low
    if price is None or low is None:
        return price is None
    interval = LATENCY.interval(item.record)
    return interval is not None and interval[1] <= price * low


def _too_dear(item: Weighed, price: float | None) -> bool:
    """Whether the least time that the intervals allow is too much for the most gain."""
    interval, high = LATENCY.interval(item.record), item.gain.high
    return price is not None and interval is not None and high is not None and interval[0] > price * high


def _by_cost(records: Sequence[Record], groups: Sequence[Group]) -> Reason:
    """Why worth can't be told: what is missed most."""
    compared = [group for group in groups if group.compared]
    if not records:
        return Reason.NO_RECORDS
    if not compared:
        return Reason.NOTHING_FINISHED if any(record.error for record in records) else Reason.BASELINE_ALONE
    if all(group.baseline is None for group in compared):
        return Reason.NO_BASELINE
    if any(control_failed(group) for group in compared):
        return Reason.CONTROL_FAILED
    return Reason.GAIN_NOT_KNOWN if any(group.has(LATENCY) for group in compared) else Reason.NOT_TIMED

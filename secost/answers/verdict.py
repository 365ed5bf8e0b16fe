"""The verdict on a run as a value: is the attention worth its cost, for what reason, and by which figures.

A gain is told where its interval lies above 0, and worth its cost where that fits the user's price, in time a point;
without a price, whether it is worth the cost beside it is the user's word. Where the answer turns with the recipe of
the published trainings, or with what runs the network, it *depends*, and says on what. Records alone tell the cost,
never the gain: then the question of worth stays open ("can't tell"). `pages.verdict` puts reasons into words, and says
what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from secost.answers.evidence import Weighed, weighed
from secost.answers.groups import LATENCY, Group, group_records
from secost.glossary import Caution
from secost.runs.records import Gain, Record

Answer = Literal["worth it", "not worth it", "depends", "can't tell"]
YES: Answer = "worth it"
NO: Answer = "not worth it"
DEPENDS: Answer = "depends"
OPEN: Answer = "can't tell"
_NOT_WORTH_A_LOOK = 0.5  # points of accuracy


class Reason(StrEnum):
    """What decided. Each has one next step."""

    GAINS = "gains"
    RECIPE = "recipe"
    SETTING = "setting"
    TOO_DEAR = "too-dear"
    PRICE_OPEN = "price-open"
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


@dataclass(frozen=True)
class Part:
    """The answer for the gains of one era of recipes in one comparison. `best` gains most, of those that are worth it
    where one is; `most` is what any may gain, by the intervals."""

    era: str | None
    label: str
    answer: Answer
    reason: Reason
    best: Weighed
    most: float | None = None


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
            "parts": [_plain(part) for part in self.parts], "next_step": next_step,
        }


def _plain(part: Part) -> dict[str, Any]:
    gain = part.best.gain
    return {"recipe": part.era, "comparison": part.label, "answer": part.answer, "reason": str(part.reason),
            "variant": part.best.record.label, "gain": gain.points, "gain_low": gain.low, "gain_high": gain.high,
            "pairs": gain.pairs, "next_low": gain.next_low, "next_high": gain.next_high, "basis": gain.basis}


def judge(records: Sequence[Record], gains: Sequence[Gain] = (), price: float | None = None) -> Verdict:
    """The verdict on all comparisons among the records, with what their variants gain where that is known.

    `price` is the most time that a point of accuracy may cost, as a fraction of the baseline's.
    """
    groups = group_records(records)
    items = weighed(groups, gains)
    return _by_gain(items, price) if items else Verdict(OPEN, _by_cost(records, groups), price=price)


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


def _by_gain(items: Sequence[Weighed], price: float | None) -> Verdict:
    parts = tuple(_parts(items, price))
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


def _parts(items: Sequence[Weighed], price: float | None) -> Iterable[Part]:
    """An answer for each comparison and era of recipes: eras in the order in which the gains have them."""
    eras = list(dict.fromkeys(gain.era for item in items for gain in item.by_era))
    for label in dict.fromkeys(item.group.label for item in items):
        for era in eras:
            mine = [Weighed(item.group, item.record, gain, item.by_era) for item in items if item.group.label == label
                    for gain in item.by_era if gain.era == era]
            if mine:
                yield _part(era, label, mine, price)


def _part(era: str | None, label: str, items: Sequence[Weighed], price: float | None) -> Part:
    told = [item for item in items if item.gain.low is not None and item.gain.low > 0]
    fitting = [item for item in told if _fits(item, price)]
    best = max(fitting or told or items, key=lambda item: item.gain.points)
    if fitting:
        return Part(era, label, YES, Reason.GAINS, best)
    if told:
        dear = all(_too_dear(item, price) for item in told)
        return Part(era, label, NO if dear else OPEN, Reason.TOO_DEAR if dear else Reason.PRICE_OPEN, best)
    ends = [item.gain.high for item in items if item.gain.high is not None]
    if len(ends) < len(items):
        return Part(era, label, OPEN, Reason.NOT_EVERY_INTERVAL, best)
    most = max(ends)
    if most <= _NOT_WORTH_A_LOOK:
        return Part(era, label, NO, Reason.NO_GAIN, best, most)
    return Part(era, label, OPEN, Reason.GAIN_MAY_HIDE, best, most)


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

"""The verdict on a run as a value: is the attention worth its cost, for what reason, and by which figures.

Records tell the cost, never the gain. So from records alone the question of worth stays open ("can't tell").
`pages.verdict` puts reasons into words, and says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from secost.answers.evidence import WORTH, Weighed, weighed
from secost.answers.groups import LATENCY, Group, group_records
from secost.glossary import Caution
from secost.runs.records import Gain, Record

Answer = Literal["worth it", "not worth it", "can't tell"]
_NOT_WORTH_A_LOOK = 0.5  # points of accuracy


class Reason(StrEnum):
    """What decided. Each has one next step."""

    GAINS = "gains"
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
class Verdict:
    """`best` is the variant that gains most, where one gains; `most` the points that any may gain, by its interval;
    `source` is where the gains come from, where some are known."""

    answer: Answer
    reason: Reason
    best: Weighed | None = None
    most: float | None = None
    source: str = ""


def judge(records: Sequence[Record], gains: Sequence[Gain] = ()) -> Verdict:
    """The verdict on all comparisons among the records, with what their variants gain where that is known."""
    groups = group_records(records)
    items = weighed(groups, gains)
    return _by_gain(items) if items else Verdict("can't tell", _by_cost(records, groups))


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


def _by_gain(items: Sequence[Weighed]) -> Verdict:
    """An interval above 0 is a gain; whether it is worth the price beside it is the user's word."""
    source = items[0].gain.source
    worth = [item for item in items if item.answer == WORTH]
    if worth:
        return Verdict("worth it", Reason.GAINS, max(worth, key=lambda item: item.gain.points), source=source)
    ends = [item.gain.high for item in items if item.gain.high is not None]
    if len(ends) < len(items):
        return Verdict("can't tell", Reason.NOT_EVERY_INTERVAL, source=source)
    most = max(ends)
    if most <= _NOT_WORTH_A_LOOK:
        return Verdict("not worth it", Reason.NO_GAIN, most=most, source=source)
    return Verdict("can't tell", Reason.GAIN_MAY_HIDE, most=most, source=source)


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

"""The verdict as a value: what decides, from records and from gains."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_records import baseline, counted_only, one_variant, record, run_of_six, variant

from secost.answers.verdict import Reason, judge
from secost.runs.records import TRAINED, Gain, Record


def spoiled() -> list[Record]:
    return [replace(item, cautions=["control-failed: at 1 %"]) for item in one_variant()]


@pytest.mark.parametrize(("records", "reason"), [
    ([], Reason.NO_RECORDS), ([baseline()], Reason.BASELINE_ALONE),
    ([record("se", 2, status="failed", error="no")], Reason.NOTHING_FINISHED),
    ([record(status="failed", error="no"), variant("se", 2)], Reason.NO_BASELINE),
    (spoiled(), Reason.CONTROL_FAILED), (counted_only(), Reason.NOT_TIMED), (run_of_six(), Reason.GAIN_NOT_KNOWN),
], ids=lambda value: str(value) if isinstance(value, Reason) else "")
def test_records_alone_leave_worth_open_and_tell_what_is_missed_most(records: list[Record], reason: Reason) -> None:
    verdict = judge(records)
    assert (verdict.answer, verdict.reason, verdict.best, verdict.source) == ("can't tell", reason, None, "")


def gain(points: float, half: float | None) -> Gain:
    low, high = (None, None) if half is None else (points - half, points + half)
    return Gain("resnet50", "se", 16, points, low, high, 5, TRAINED, "made up")


@pytest.mark.parametrize(("points", "half", "answer", "reason", "most"), [
    (1.0, 0.5, "worth it", Reason.GAINS, None), (1.0, None, "can't tell", Reason.NOT_EVERY_INTERVAL, None),
    (0.25, 0.25, "not worth it", Reason.NO_GAIN, 0.5), (0.25, 0.5, "can't tell", Reason.GAIN_MAY_HIDE, 0.75),
])
def test_gains_decide_by_their_intervals(
    points: float, half: float | None, answer: str, reason: Reason, most: float | None,
) -> None:
    verdict = judge(one_variant(), [gain(points, half)])
    assert (verdict.answer, verdict.reason, verdict.most, verdict.source) == (answer, reason, most, TRAINED)
    assert (verdict.best is not None) == (reason is Reason.GAINS)

"""The verdict as a value: what decides, from records and from gains."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made_records import baseline, counted_only, one_variant, record, run_of_six, variant

from secost.answers.evidence import gains_from
from secost.answers.verdict import Reason, judge
from secost.errors import SecostError
from secost.pages.cost import cost_page
from secost.render.formats import render
from secost.runs.records import PUBLISHED, TRAINED, Gain, Record


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
    assert verdict.best is not None and verdict.best.gain.points == points


# --- what the answer turns with ---------------------------------------------------------------------------------------


def gained(points: float, half: float, era: str | None = None) -> Gain:
    return Gain("resnet50", "se", 16, points, points - half, points + half, 3, PUBLISHED, "made", era=era)


def timed(backend: str = "eager", time: tuple[float, float, float] = (0.08, 0.07, 0.09)) -> list[Record]:
    return [baseline(backend=backend), variant("se", 16, time, backend=backend)]


def test_where_recipes_disagree_it_depends_and_both_gains_are_told() -> None:
    found = judge(timed(), [gained(1.2, 0.3, "classical"), gained(-0.3, 1.6, "modern")])
    assert (found.answer, found.reason) == ("depends", Reason.RECIPE)
    assert found.best is not None and [gain.era for gain in found.best.by_era] == ["classical", "modern"]
    assert [(part.era, part.answer) for part in found.parts] == [("classical", "worth it"), ("modern", "can't tell")]


def test_where_recipes_agree_the_answer_is_theirs() -> None:
    assert judge(timed(), [gained(1.2, 0.3, "classical"), gained(0.7, 0.3, "modern")]).answer == "worth it"
    assert judge(timed(), [gained(0.0, 0.3, "classical"), gained(-0.7, 0.3, "modern")]).answer == "not worth it"


@pytest.mark.parametrize(("price", "answer", "reason"), [
    (None, "worth it", Reason.GAINS), (0.11, "worth it", Reason.GAINS), (0.05, "not worth it", Reason.TOO_DEAR),
    (0.08, "can't tell", Reason.PRICE_OPEN),
])
def test_a_price_is_held_against_what_the_intervals_allow(price: float | None, answer: str, reason: Reason) -> None:
    """1.0 +- 0.1 points for 7 to 9 % time: at least 6.4 %, at most 10 % a point."""
    found = judge(timed(), [gained(1.0, 0.1)], price)
    assert (found.answer, found.reason, found.price) == (answer, reason, price)


def test_where_a_backend_makes_it_too_dear_it_depends_on_the_setting() -> None:
    records = [*timed(), *timed("onnxruntime", (0.40, 0.38, 0.42))]
    found = judge(records, [gained(1.0, 0.1)], 0.2)
    assert (found.answer, found.reason) == ("depends", Reason.SETTING)
    assert [part.answer for part in found.parts] == ["worth it", "not worth it"]


def test_the_verdict_is_a_value_in_the_document() -> None:
    page = cost_page(timed(), gains=[gained(1.2, 0.3, "classical"), gained(-0.3, 1.6, "modern")])
    verdict = json.loads(render(page, "json"))["verdict"]
    assert (verdict["answer"], verdict["evidence"], verdict["gain"]) == ("depends", "published", 1.2)
    assert verdict["price"] == pytest.approx(0.08 / 1.2) and verdict["price_limit"] is None
    assert [part["recipe"] for part in verdict["parts"]] == ["classical", "modern"]


# --- which evidence ---------------------------------------------------------------------------------------------------


def test_unless_asked_otherwise_the_nearest_evidence_is_taken() -> None:
    records = timed()
    assert {gain.source for gain in gains_from(None, None, records).gains} == {PUBLISHED}
    assert gains_from("auto", None, records) == gains_from(None, None, records)
    assert gains_from("none", None, records).gains == []
    strange = [replace(item, model="net.py:make") for item in records]
    assert all(gain.borrowed for gain in gains_from(None, None, strange).gains)


@pytest.mark.parametrize(("source", "accuracy"), [("published", "mine.csv"), ("none", "mine.csv"), ("heard", None)])
def test_two_sources_and_an_unknown_one_are_refused(source: str, accuracy: str | None) -> None:
    with pytest.raises(SecostError):
        gains_from(source, accuracy, timed())


def test_an_attention_of_which_too_little_is_published_is_refused_where_published_gains_are_asked_for() -> None:
    with pytest.raises(SecostError, match="nothing comparable is published"):
        gains_from(PUBLISHED, None, [baseline(model="net.py:make"), variant("simam", model="net.py:make")])

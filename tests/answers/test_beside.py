"""Attention beside what the same time buys elsewhere: the line, its interval, rates, and the verdict by them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from secost.answers.beside import Beside, beside, rate, share_of_time, widening
from secost.answers.evidence import Weighed
from secost.answers.groups import LATENCY, MACS, group_records
from secost.answers.verdict import NO, OPEN, YES, Reason, judge
from secost.runs.records import PUBLISHED, Gain, Record
from secost.statistics import student_quantile
from tests.benchmarks import worlds


def cost(label: str, time: float | None = None, half: float = 0.01, macs: float = 0.0) -> Record:
    """A record of `none`, `se`, or an alternative of any other name."""
    made = Record("net", "se" if label == "se" else "none", 16 if label == "se" else None, "residual", "standard", None,
                  1, 1, 224, "eager", "fp32", "cpu", 1, latency_ms=100.0, macs=int(1e9 * (1 + macs)))
    made.alternative = None if label in ("none", "se") else label
    if time is not None:
        made.latency_overhead, made.latency_overhead_low, made.latency_overhead_high = time, time - half, time + half
    return made


def gain(label: str, points: float, half: float | None = 0.3, era: str | None = None, pairs: int = 5) -> Gain:
    ends = (None, None) if half is None else (points - half, points + half)
    return Gain("net", "se" if label == "se" else "none", 16 if label == "se" else None, points, *ends, pairs,
                PUBLISHED, "made", era=era, alternative=None if label == "se" else label)


def weighed(record: Record, mine: Gain, base: Record | None = None) -> Weighed:
    (group,) = group_records([base or cost("none"), record])
    return Weighed(group, record, mine, (mine,))


def placed(points: float, time: float, other_points: float, other_time: float, half: float | None = 0.3) -> Beside:
    (found,) = beside(weighed(cost("se", time), gain("se", points, half)),
                      [weighed(cost("deep", other_time), gain("deep", other_points, 0.4))])
    return found


def test_in_a_part_of_its_time_an_alternative_buys_that_part_of_its_gain() -> None:
    found = placed(1.0, 0.1, 2.0, 0.8)
    assert found.line == pytest.approx(0.25) and found.difference == pytest.approx(0.75)
    # Gains in quadrature, the alternative's by its share, and the time by the line's slope of 2.5 points a unit.
    assert found.half_width == pytest.approx(math.hypot(0.3, 0.4 / 8, 2.5 * 0.01))


def test_in_more_than_its_time_it_buys_no_more_than_its_gain() -> None:
    found = placed(3.0, 1.0, 2.0, 0.8)
    assert found.line == 2.0 and found.half_width == pytest.approx(math.hypot(0.3, 0.4))


def test_attention_that_takes_no_time_stands_beside_nothing() -> None:
    assert placed(0.2, -0.01, 2.0, 0.8).line == 0.0


def test_without_an_interval_nothing_is_above_or_below() -> None:
    found = placed(9.0, 0.1, 2.0, 0.8, half=None)
    assert found.interval.low is None and not found.above() and not found.below()
    assert beside(weighed(cost("se"), gain("se", 1)), [weighed(cost("deep", 0.8), gain("deep", 2))]) == ()
    assert beside(weighed(cost("se", 0.1), gain("se", 1)), [weighed(cost("fast", -0.1), gain("fast", 2))]) == ()


def test_of_the_best_of_several_more_is_asked() -> None:
    assert widening(1, gain("se", 1)) == widening(2, gain("se", 1)) == 1.0
    four = student_quantile(0.9875, 4) / student_quantile(0.975, 4)
    assert widening(4, gain("se", 1, pairs=5)) == pytest.approx(four)
    assert widening(5, gain("se", 1, pairs=1)) == pytest.approx(2.3263 / 1.95996, abs=1e-4)
    found = placed(1.0, 0.1, 2.0, 0.8, half=0.72)
    assert found.above(1) and not found.above(4)


def test_a_rate_of_exchange_spans_what_both_intervals_allow() -> None:
    item = weighed(cost("se", 0.08, 0.02, macs=0.04), gain("se", 1.2, 0.5))
    found, counted = rate(item, LATENCY), rate(item, MACS)
    assert found is not None and counted is not None
    corners = [points / percent for points, percent in itertools.product((0.7, 1.2, 1.7), (6.0, 8.0, 10.0))]
    assert found.estimate == pytest.approx(1.2 / 8)
    assert (found.low, found.high) == (pytest.approx(min(corners)), pytest.approx(max(corners)))
    assert (counted.low, counted.high) == (pytest.approx(0.7 / 4), pytest.approx(1.7 / 4))
    wide = rate(weighed(cost("se", 0.08, 0.1), gain("se", 1.2)), LATENCY)
    assert wide is not None and wide.low is None
    assert rate(weighed(cost("se", -0.01), gain("se", 1.2)), LATENCY) is None


def test_its_share_of_an_alternatives_time_likewise() -> None:
    found = share_of_time(weighed(cost("se", 0.08, 0.02), gain("se", 1)),
                          weighed(cost("deep", 0.8, 0.04), gain("deep", 2)))
    assert found is not None and found.estimate == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.06 / 0.84), pytest.approx(0.10 / 0.76))


# --- the verdict by them ---


def verdict_of(se: Gain, *others: Gain, price: float | None = None) -> tuple[str, Reason]:
    records = [cost("none"), cost("se", 0.1), cost("deep", 0.8), cost("wide", 0.5)]
    found = judge(records, [se, *others], price)
    return found.answer, found.reason


@pytest.mark.parametrize(("points", "expected"), [
    (1.5, (YES, Reason.ABOVE_LINE)), (0.55, (OPEN, Reason.LINE_OPEN)), (-0.3, (NO, Reason.NO_GAIN)),
    (0.2, (NO, Reason.NO_GAIN)), (0.25, (OPEN, Reason.GAIN_MAY_HIDE)),
])
def test_a_gain_is_held_against_every_alternative(points: float, expected: tuple[str, Reason]) -> None:
    assert verdict_of(gain("se", points), gain("deep", 2.4), gain("wide", 1.0)) == expected


def test_what_gains_for_sure_less_than_one_of_them_is_not_worth_its_time() -> None:
    assert verdict_of(gain("se", 0.6), gain("deep", 24.0), gain("wide", 1.0)) == (NO, Reason.BELOW_LINE)


def test_a_price_is_held_beside_the_line() -> None:
    others = (gain("deep", 2.4), gain("wide", 1.0))
    assert verdict_of(gain("se", 1.5), *others, price=0.2) == (YES, Reason.ABOVE_LINE)
    assert verdict_of(gain("se", 1.5), *others, price=0.01) == (NO, Reason.TOO_DEAR)


def test_without_alternatives_a_gain_that_is_told_is_enough() -> None:
    assert verdict_of(gain("se", 0.4)) == (YES, Reason.GAINS)


def test_of_two_eras_each_has_its_own_line_and_the_verdict_depends() -> None:
    found = judge([cost("none"), cost("se", 0.1), cost("deep", 0.8)], [
        gain("se", 1.5, era="classical"), gain("se", -0.5, era="modern"), gain("deep", 2.0, era="classical"),
        gain("deep", 4.0, era="modern")])
    assert (found.answer, found.reason) == ("depends", Reason.RECIPE)
    assert [(part.era, part.answer, round(part.beside[0].line, 3)) for part in found.parts] == [
        ("classical", YES, 0.25), ("modern", NO, 0.5)]


def test_where_its_own_era_tells_of_no_alternative_another_eras_stands_in() -> None:
    found = judge([cost("none"), cost("se", 0.1), cost("deep", 0.8)],
                  [gain("se", 0.4, era="classical"), gain("deep", 4.0, era="modern")])
    assert (found.answer, found.reason) == (OPEN, Reason.LINE_OPEN)


def test_the_document_has_the_alternatives_with_what_they_buy() -> None:
    records = [cost("none"), cost("se", 0.1), cost("deep", 0.8)]
    value = judge(records, [gain("se", 1.5), gain("deep", 2.0)]).to_dict("go on")
    (other,) = value["alternatives"]
    assert (other["name"], other["gain"], other["latency_overhead"]) == ("deep", 2.0, 0.8)
    assert other["gain_in_same_time"] == pytest.approx(0.25) and other["beyond"] == pytest.approx(1.25)
    assert other["beyond_low"] < other["beyond"] < other["beyond_high"]
    assert {"answer", "reason", "evidence", "gain", "gain_low", "gain_high", "price", "next_step"} <= set(value)


# --- made worlds of known truth ---

DESIGNS = {"trained": worlds.trained(5, worlds.IMAGENET_SD), "CIFAR": worlds.trained(3, worlds.CIFAR_SD),
           "one study": worlds.published(1, 0.0), "three studies": worlds.published(3, 0.27)}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("world", [
    "no gain at all", "0.2 below", "on the line", "0.5 above", "4 variants, on the line", "4 variants, one 1 above",
    "no alternative, 4 variants, no gain",
])
def test_in_made_worlds_of_known_truth_it_is_seldom_wrong(world: str, design: str) -> None:
    made = next(one for one in worlds.WORLDS if one.name == world)
    found = worlds.tally(made, DESIGNS[design], 200)
    assert found.yes + found.no + found.open == 200
    assert worlds.share_interval(found.wrong_yes + found.wrong_no, 200)[0] <= 0.05


def test_in_made_worlds_it_decides_where_the_difference_is_large() -> None:
    by_name = {world.name: world for world in worlds.WORLDS}
    assert worlds.tally(by_name["1 point above"], DESIGNS["trained"], 100).yes > 90
    assert worlds.tally(by_name["1 point below"], DESIGNS["trained"], 100).no > 90


def test_the_truth_of_a_made_world_is_what_its_name_says() -> None:
    for world in worlds.WORLDS:
        network = world.draw(np.random.default_rng(1))
        assert network.worth == tuple(more is not None and more > 0 for more in world.beyond), world.name
    network = worlds.Network(((0.1, 0.6), (0.1, 0.4), (0.9, 3.1)), ((0.4, 2.0), (0.8, 3.0)))
    assert [network.line(time) for time, _ in network.variants] == pytest.approx([0.5, 0.5, 3.0])
    assert network.worth == (True, False, True)

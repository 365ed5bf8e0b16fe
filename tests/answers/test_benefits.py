"""Gains beside costs: what may be said of them, and which variants another one beats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secost.answers.beside import BEATEN, BEATEN_ON_MEAN, UNBEATEN, standing
from secost.answers.evidence import NO_GAIN, UNCLEAR, WORTH, Weighed, matches, weighed
from secost.answers.groups import LATENCY, PARAMS, Group, group_records
from secost.figures.drawing import draw
from secost.figures.front import BenefitPanel, BenefitPoint, benefit_figure
from secost.figures.marks import Point
from secost.pages.verdict import state
from secost.runs.records import FILE, TRAINED, Gain, Record


def record(attention: str, ratio: int | None, params: int, overhead: tuple[float, float, float] | None) -> Record:
    found = Record("net", attention, ratio, "conv", "standard", None, 2, 1, 32, "eager", "fp32", "cpu", 1,
                   params=params, macs=1000, latency_ms=10.0)
    if overhead is not None:
        found.latency_overhead, found.latency_overhead_low, found.latency_overhead_high = overhead
    return found


def gain(attention: str, ratio: int | None, points: float, half: float | None) -> Gain:
    ends = (None, None) if half is None else (points - half, points + half)
    return Gain("net", attention, ratio, points, *ends, 5, TRAINED, "digits, 20 epochs, 5 seeds")


RECORDS = [record("none", None, 1000, None), record("se", 4, 1100, (0.05, 0.04, 0.06)),
           record("se", 16, 1030, (0.04, 0.03, 0.05)), record("eca", None, 1001, (0.01, 0.005, 0.015))]


def items(*gains: Gain) -> list[Weighed]:
    return weighed(group_records(RECORDS), gains)


@pytest.mark.parametrize(("points", "half", "answer"), [
    (1.0, 0.5, WORTH), (1.0, 1.5, UNCLEAR), (-1.0, 0.5, NO_GAIN), (1.0, None, UNCLEAR),
])
def test_a_gain_is_one_where_its_interval_lies_above_0(points: float, half: float | None, answer: str) -> None:
    assert items(gain("se", 4, points, half))[0].answer == answer


def test_beaten_with_confidence_is_told_from_beaten_on_the_mean() -> None:
    found = items(gain("se", 4, 1.0, 0.2), gain("se", 16, 1.1, 0.2), gain("eca", None, 2.0, 0.3))
    by_label = {item.record.label: standing(item, found, LATENCY) for item in found}
    # ECA gains 1.7 at least, more than either SE at most, for at most 1.5 % against 4 % and 3 % at least.
    assert by_label == {"se r=4": BEATEN, "se r=16": BEATEN, "eca": UNBEATEN}
    close = items(gain("se", 4, 1.0, 0.5), gain("se", 16, 1.1, 0.5))
    assert [standing(item, close, LATENCY) for item in close] == [BEATEN_ON_MEAN, UNBEATEN]


def test_the_bare_network_beats_what_gains_nothing() -> None:
    lost, unclear = items(gain("se", 4, -1.0, 0.5), gain("eca", None, -0.1, 0.5))
    assert standing(lost, [lost, unclear], PARAMS) == BEATEN
    assert standing(unclear, [unclear], PARAMS) == BEATEN_ON_MEAN


@pytest.mark.parametrize(("changes", "fits"), [
    ({}, True), ({"placement": "conv"}, True), ({"placement": "residual"}, False), ({"stages": (1,)}, False),
    ({"reduction": 8}, False), ({"model": "other"}, False),
])
def test_a_gain_belongs_to_its_own_variant_alone(changes: dict[str, object], fits: bool) -> None:
    assert matches(replace(gain("se", 4, 1.0, 0.1), **changes), RECORDS[1]) is fits  # type: ignore[arg-type]


@pytest.mark.parametrize(("gains", "answer", "said"), [
    ([gain("se", 4, 1.0, 0.5)], "worth it", "gains +1.00 points [0.50, 1.50] (trained) for +5.0 % [4.0, 6.0] time"),
    ([gain("se", 4, 0.1, 0.3)], "not worth it", "no variant gains more than 0.40 points"),
    ([gain("se", 4, 0.1, 2.0)], "can't tell", "up to 2.10 points may hide"),
    ([gain("se", 4, 1.0, None)], "can't tell", "not every gain has an interval"),
    ([], "can't tell", "the gain is not"),
])
def test_the_verdict_follows_from_the_gain_and_names_the_price(gains: list[Gain], answer: str, said: str) -> None:
    found = state(RECORDS, gains)
    assert found.answer == answer and said in found.reason


def test_the_front_goes_from_the_bare_network_to_the_best_gain() -> None:
    info = benefit_figure(items(gain("se", 4, 1.0, 0.2), gain("se", 16, 1.2, 0.2), gain("eca", None, 0.5, 0.2)))
    assert info is not None
    assert info.panels[0].front == [(0.0, 0.0), (1.0, 0.5), (4.0, 1.2)]
    assert [panel.currency.name for panel in info.panels] == ["latency", "params", "macs"]
    assert info.alt.startswith("Points of accuracy gained (trained: digits, 20 epochs, 5 seeds)")


def test_the_figure_is_drawn_with_the_others() -> None:
    groups: list[Group] = group_records(RECORDS)
    names = [drawing.name for drawing in draw(groups, items(gain("se", 4, 1.0, 0.2)))]
    assert names[0] == "cost-benefit" and "cost-benefit" not in [drawing.name for drawing in draw(groups)]


def test_gains_of_one_variant_come_from_one_source_only() -> None:
    other = replace(gain("se", 4, 9.0, 0.1), source=FILE)
    assert [item.gain.points for item in items(gain("se", 4, 1.0, 0.2), other)] == [1.0]


@pytest.mark.parametrize(("places", "corners"), [
    ([(2.0, 1.0), (1.0, 0.5), (3.0, 0.9)], [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)]),
    ([(0.0, 1.0), (1.0, 1.0)], [(0.0, 0.0), (0.0, 1.0)]),
    ([(-1.0, 0.0), (2.0, 0.3)], [(-1.0, 0.0), (2.0, 0.3)]),
    ([(-1.0, -0.5), (2.0, -0.1), (3.0, 0.0)], [(0.0, 0.0)]),
], ids=["rising", "for nothing", "a saving", "nothing gains"])
def test_the_front_of_a_panel_begins_with_the_bare_network_unless_a_saving_beats_it(
    places: list[tuple[float, float]], corners: list[tuple[float, float]],
) -> None:
    points = tuple(BenefitPoint("made up", "se", Point(cost), Point(points), UNBEATEN) for cost, points in places)
    assert BenefitPanel(PARAMS, points).front == corners

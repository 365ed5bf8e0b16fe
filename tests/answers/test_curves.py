"""Curves of trainings: trained to the end, learned at all, and gains epoch by epoch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from made_records import baseline, variant

from secost.answers.evidence import trained_gains, trained_pairs
from secost.figures.learning import learning_figures
from secost.glossary import Caution
from secost.pages.cost import cost_page
from secost.pages.learning import learning_words, longer_words
from secost.pages.verdict import state
from secost.render.formats import render
from secost.runs.curves import GainCurve, doubts, rise, unfinished
from secost.runs.curves import gain_curves as curves_of_pairs
from secost.runs.records import Record
from secost.sequential import looked_difference
from secost.statistics import paired_difference


def curve(tests: dict[int, float], epochs: int = 10, train_top1: float = 80.0) -> list[dict[str, float]]:
    rows = [{"epoch": float(epoch), "loss": 1.0, "train_top1": train_top1} for epoch in range(1, epochs + 1)]
    for epoch, value in tests.items():
        rows[epoch - 1]["test_top1"] = value
    return rows


def gain_curves(records: list[Record]) -> list[GainCurve]:
    return curves_of_pairs(trained_pairs(records))


# --- one training -----------------------------------------------------------------------------------------------------


def test_the_rise_is_that_of_the_last_fifth_of_the_epochs() -> None:
    assert rise(curve({6: 50.0, 8: 70.0, 9: 71.0, 10: 71.5})) == 1.5
    assert rise(curve({7: 60.0, 10: 71.5})) == 11.5  # the last look before it
    assert rise(curve({9: 71.0, 10: 71.5})) is None and rise([]) is None


@pytest.mark.parametrize(("gained", "train_top1", "short"), [
    (0.6, 80.0, True), (0.4, 80.0, False), (-1.0, 80.0, False),
    (3.0, 99.5, False),  # what is trained on is learned: the falling learning rate alone did it
])
def test_a_training_is_unfinished_where_it_rose_to_the_last_and_had_more_to_learn(
    gained: float, train_top1: float, short: bool
) -> None:
    made = curve({8: 70.0, 10: 70.0 + gained}, train_top1=train_top1)
    assert unfinished(made) == short
    assert doubts(made, 10) == ([Caution.NOT_CONVERGED] if short else [])


@pytest.mark.parametrize(("top1", "classes", "guessing"), [
    (19.0, 10, True), (21.0, 10, False), (55.0, 2, True), (65.0, 2, False), (1.5, 100, True), (2.5, 100, False),
])
def test_near_chance_is_less_than_twice_and_ten_points_above_guessing(
    top1: float, classes: int, guessing: bool
) -> None:
    assert doubts(curve({8: top1, 10: top1}), classes) == ([Caution.NEAR_CHANCE] if guessing else [])


def test_a_curve_that_was_not_kept_raises_no_doubt() -> None:
    assert doubts([], 10) == []


# --- gains ------------------------------------------------------------------------------------------------------------


def trained(made: Record, seed: int, tests: dict[int, float], train_top1: float, **samples: Any) -> Record:
    kept = {"curve": curve(tests, train_top1=train_top1), **samples}
    return replace(made, dataset="digits", seed=seed, epochs=10, top1=tests[10], samples=kept,
                   key=f"{made.key} {seed}", cautions=doubts(kept["curve"], 10))


def run(train_top1: float = 80.0, seeds: int = 5, **samples: Any) -> list[Record]:
    """SE gains 1.0 (and up to 0.2 more) at epoch 8 and twice as much at the last."""
    records = [baseline(), variant("se", 16, (0.081, 0.072, 0.090))]
    add = partial(trained, train_top1=train_top1, **samples)
    for seed in range(seeds):
        base = 70.0 + seed
        records += [add(baseline(), seed, {8: base, 10: base + 2}),
                    add(variant("se", 16), seed, {5: 1.0, 8: base + 1 + 0.05 * seed, 10: base + 4 + 0.1 * seed})]
    return records


def test_a_gain_is_followed_over_the_epochs_that_both_were_tested_after() -> None:
    (found,), (gain,) = gain_curves(run()), trained_gains(run())
    assert found.epochs == (8, 10) and found.seeds == 5 and found.rise == pytest.approx(2.0)
    assert [each.estimate for each in found.gains] == pytest.approx([1.1, 2.2])
    pairs = [(72.0 + seed, 70.0 + seed + 4 + 0.1 * seed) for seed in range(5)]
    assert found.gains[-1] == paired_difference(pairs) and found.base == (72.0, 74.0)
    assert (found.gains[-1].low, found.gains[-1].high) == (gain.low, gain.high)


def test_the_curve_of_a_run_that_looked_has_the_intervals_of_the_rule() -> None:
    (found,) = gain_curves(run(until=0.3))
    pairs = [(72.0 + seed, 70.0 + seed + 4 + 0.1 * seed) for seed in range(5)]
    assert found.gains[-1] == looked_difference(pairs)
    assert trained_gains(run(until=0.3))[0].low == found.gains[-1].low


def test_a_run_without_curves_has_none() -> None:
    bare = [replace(record, samples=None) for record in run()]
    assert gain_curves(bare) == [] and learning_words([]) == [] and learning_figures([]) == []


def test_words_say_whether_it_was_trained_long_enough() -> None:
    (short,) = learning_words(gain_curves(run()))
    assert short == ("digits, 10 epochs: none's accuracy changed by +2.00 points over the last fifth of the epochs, to "
                     "74.0 %, with 80.0 % of the training images right: it was not trained to its end, and more epochs "
                     "come before more seeds.")
    (long,) = learning_words(gain_curves(run(train_top1=100.0)))
    assert "trained long enough" in long


def test_after_too_short_a_training_the_next_step_is_epochs_and_not_seeds() -> None:
    def next_step(records: list[Record]) -> str:
        unclear = [replace(record, top1=70.0 + ((record.seed or 0) * 7 + len(record.label)) % 5) if record.trained
                   else record for record in records]
        return state(unclear, trained_gains(unclear)).next_step

    assert next_step(run()).startswith("train longer before you add seeds: `secost train resnet50 --epochs 20`")
    assert "--until" in next_step(run(train_top1=100.0)) and longer_words(gain_curves(run(train_top1=100.0))) == ""


def test_the_page_tells_each_caution_once_with_its_variants() -> None:
    text = render(cost_page(run()), "md", 120)
    assert text.count("not-converged") == 1 and "(none, se r=16): the accuracy still rose at the end" in text
    assert "## Trained long enough?" in text
    assert "not-converged" not in render(cost_page(run(train_top1=100.0)), "md", 120)


def test_the_figure_shows_accuracy_over_all_epochs_and_gains_over_the_second_half() -> None:
    (drawing,) = learning_figures(gain_curves(run()))
    left, right = drawing.figure.axes
    assert drawing.name == "learning" and [line.get_label() for line in left.lines] == ["none", "se r=16"]
    assert list(left.lines[1].get_ydata()) == pytest.approx([73.1, 76.2])
    assert list(right.lines[0].get_ydata()) == pytest.approx([1.1, 2.2])
    one = gain_curves(run())[0]
    assert learning_figures([replace(one, epochs=(10,), base=(74.0,), accuracies=(76.2,), gains=one.gains[-1:])]) == []

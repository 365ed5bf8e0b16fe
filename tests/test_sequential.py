"""The rule by which seeds are added: its intervals, what it promises, and how many seeds it takes."""

from __future__ import annotations

import math
import random
from statistics import stdev

import numpy as np
import pytest

from secost.errors import BadSpecError
from secost.plan.spec import TrainSpec
from secost.sequential import (
    FIRST_LOOK,
    MOST_PAIRS,
    half_width,
    least_effect,
    looked_difference,
    pairs_for,
    told,
)
from secost.statistics import Interval, paired_difference, student_quantile

PAIRS = [(70.0, 70.4), (70.2, 70.3), (69.8, 70.6), (70.1, 70.3), (69.9, 70.6), (70.3, 70.5)]


def test_the_interval_is_students_at_the_level_of_its_look() -> None:
    """Written out for six pairs: 1.25 % of error up to ten."""
    differences = [second - first for first, second in PAIRS]
    found = looked_difference(PAIRS)
    half = student_quantile(1 - 0.0125 / 2, 5) * stdev(differences) / math.sqrt(6)
    assert found.estimate == pytest.approx(0.4) and found.half_width == pytest.approx(half)
    assert found.half_width > paired_difference(PAIRS).half_width


def test_there_is_no_interval_before_the_first_look() -> None:
    assert looked_difference(PAIRS[: FIRST_LOOK - 1]).low is None
    assert looked_difference(PAIRS[:FIRST_LOOK]).low is not None


def test_told_is_either_away_from_none_or_known() -> None:
    assert told(Interval(0.5, 0.1, 0.9), 0.3) and told(Interval(-0.5, -0.9, -0.1), 0.3)
    assert told(Interval(0.0, -0.3, 0.3), 0.3) and not told(Interval(0.1, -0.3, 0.5), 0.3)
    assert not told(Interval(2.0, None, None), 0.3)


def test_more_pairs_know_a_gain_better_and_the_number_is_the_first_that_does() -> None:
    widths = [half_width(n, 0.3) for n in range(FIRST_LOOK, 61)]
    assert widths == sorted(widths, reverse=True)
    count = pairs_for(0.3, 0.28)
    assert count is not None and half_width(count, 0.28) <= 0.3 < half_width(count - 1, 0.28)
    assert pairs_for(0.001, 0.28) is None


@pytest.mark.parametrize(("pairs", "looked"), [(5, False), (20, False), (20, True)])
def test_the_smallest_gain_is_told_in_four_runs_of_five(pairs: int, looked: bool) -> None:
    draws = np.random.default_rng(5).normal(least_effect(pairs, 0.3, looked), 0.3, (20_000, pairs))
    limit = half_width(pairs, 1.0) if looked else student_quantile(0.975, pairs - 1) / math.sqrt(pairs)
    power = (draws.mean(1) > limit * draws.std(1, ddof=1)).mean()
    assert 0.76 < power < 0.85


def test_fewer_pairs_than_an_interval_needs_tell_nothing() -> None:
    assert math.isinf(least_effect(1, 0.3)) and math.isinf(least_effect(FIRST_LOOK - 1, 0.3, looked=True))


def runs_that_see_the_truth_outside(count: int, gain: float, spread: float, most: int, seed: int) -> float:
    """The share of runs in which any look leaves out the true gain. Written apart from the rule's code: a loop."""
    source, wrong = random.Random(seed), 0
    limits = [half_width(n, 1.0) if n >= FIRST_LOOK else math.inf for n in range(1, most + 1)]
    for _ in range(count):
        total = squares = 0.0
        for n in range(1, most + 1):
            value = source.gauss(gain, spread)
            total, squares = total + value, squares + value * value
            deviation = math.sqrt(max(0.0, squares - total * total / n) / (n - 1)) if n > 1 else 0.0
            if n >= FIRST_LOOK and abs(total / n - gain) > limits[n - 1] * deviation:
                wrong += 1
                break
    return wrong / count


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "spread", "most"), [(0.0, 0.28, 20), (0.5, 0.28, 20), (0.0, 1.0, MOST_PAIRS)])
def test_five_runs_of_a_hundred_at_most_ever_see_the_truth_outside(gain: float, spread: float, most: int) -> None:
    error = runs_that_see_the_truth_outside(4_000, gain, spread, most, seed=11)
    assert error < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 4_000)
    assert error > 0.025  # one that never errs takes more seeds than it must


def test_students_interval_looked_at_each_time_errs_far_more_often() -> None:
    """What the rule is there for; the same draws, the same looks."""
    draws = np.random.default_rng(3).normal(0.0, 0.28, (2_000, 20))
    counts = np.arange(1, 21)
    means = draws.cumsum(1) / counts
    deviations = np.sqrt(np.maximum(0, (draws**2).cumsum(1) - counts * means**2) / np.maximum(1, counts - 1))
    looks = slice(FIRST_LOOK - 1, 20)
    students = np.array([student_quantile(0.975, n - 1) / math.sqrt(n) for n in counts[looks]])
    rule = np.array([half_width(int(n), 1.0) for n in counts[looks]])
    wrong = [(np.abs(means[:, looks]) > limit * deviations[:, looks]).any(1).mean() for limit in (students, rule)]
    assert wrong[0] > 0.12 and wrong[1] < 0.06


@pytest.mark.parametrize(("values", "said"), [
    ({"until": 0.0}, "until 0.0 is not possible: it is in points of accuracy, such as 0.3"),
    ({"until": math.nan}, "until nan is not possible"),
    ({"until": 101.0}, "until 101.0 is not possible"),
    ({"until": 0.01}, "20 tell no less than 0.076 points; give --until 0.08"),
    ({"until": 0.05}, "give --until 0.08, or --max-seeds"),
    ({"max_seeds": 30}, "max_seeds 30 is not possible: it goes with --until"),
    ({"until": 0.3, "max_seeds": 4}, "max_seeds 4 is not possible: give 5 to 200"),
    ({"until": 0.3, "max_seeds": 6, "seeds": 8}, "8 seeds are trained in any case"),
])
def test_what_no_run_could_reach_is_refused_in_a_line(values: dict[str, float], said: str) -> None:
    with pytest.raises(BadSpecError) as caught:
        TrainSpec.from_dict(values)
    assert said in str(caught.value) and "\n" not in str(caught.value)

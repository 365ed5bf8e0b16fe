"""Medians and their order-statistic intervals: exact ranks, textbook values, coverage."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secost.meters.statistics import Interval, drift, interval_rank, median, median_interval

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def _rank_by_brute_force(count: int, confidence: Fraction) -> int | None:
    """The definition, in fractions: leave out the most values whose two tails together stay within 1 - confidence."""
    fitting = [
        k for k in range(count // 2 + 1)
        if 2 * sum(Fraction(math.comb(count, i), 2**count) for i in range(k + 1)) <= 1 - confidence
    ]
    return max(fitting, default=None)


@pytest.mark.parametrize("confidence", ["0.5", "0.8", "0.9", "0.95", "0.99", "0.999"])
def test_the_rank_is_what_binomial_sums_in_fractions_say(confidence: str) -> None:
    for count in range(130):
        assert interval_rank(count, float(confidence)) == _rank_by_brute_force(count, Fraction(confidence)), count


@pytest.mark.parametrize(
    ("count", "confidence", "left_out"),
    [
        # Conover, Practical Nonparametric Statistics (3rd ed.), table A3; the sign test's critical values are the same.
        (5, 0.95, None), (6, 0.95, 0), (8, 0.95, 0), (9, 0.95, 1), (10, 0.95, 1), (12, 0.95, 2), (15, 0.95, 3),
        (20, 0.95, 5), (25, 0.95, 7), (30, 0.95, 9), (50, 0.95, 17), (100, 0.95, 39),
        (7, 0.99, None), (8, 0.99, 0), (20, 0.99, 3), (50, 0.99, 15), (100, 0.99, 36),
    ],
)
def test_the_rank_is_the_sign_tests_critical_value(count: int, confidence: float, left_out: int | None) -> None:
    assert interval_rank(count, confidence) == left_out


def test_a_tail_of_exactly_the_allowed_size_is_allowed() -> None:
    assert interval_rank(6, 0.96875) == 0  # 2 / 2**6 = 0.03125 = 1 - 0.96875
    assert interval_rank(6, 0.96876) is None


def test_the_rank_of_many_values_is_near_the_normal_approximation() -> None:
    count = 20_000
    rank = interval_rank(count, 0.95)
    assert rank is not None
    assert abs(rank + 1 - (count / 2 - 1.959964 * math.sqrt(count) / 2)) < 2


def test_the_interval_runs_between_two_of_the_values() -> None:
    interval = median_interval(list(range(1, 21)))
    assert interval == Interval(10.5, 6, 15)
    assert interval.half_width == 4.5


def test_fewer_than_six_values_have_no_interval_and_it_excludes_nothing() -> None:
    interval = median_interval([3.0, 1.0, 2.0])
    assert interval == Interval(2.0, None, None)
    assert interval.half_width == math.inf
    assert interval.holds(1e9)


def test_an_interval_holds_its_ends_and_nothing_outside() -> None:
    interval = Interval(2.0, 1.0, 3.0)
    assert [interval.holds(value) for value in (0.999, 1.0, 3.0, 3.001)] == [False, True, True, False]


def test_the_median_of_an_even_number_is_the_middle_of_two() -> None:
    assert (median([4.0, 1.0, 3.0, 2.0]), median([3.0, 1.0, 2.0])) == (2.5, 2.0)
    with pytest.raises(ValueError, match="no values"):
        median([])


@given(st.lists(FINITE, min_size=6, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_the_values_makes_no_difference(values: list[float], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(values, len(values))
    assert median_interval(shuffled) == median_interval(values)


@given(st.lists(FINITE, min_size=6, max_size=60))
def test_the_estimate_lies_in_its_interval(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval.holds(interval.estimate)


@given(st.lists(FINITE, min_size=8, max_size=60))
def test_a_higher_confidence_never_gives_a_narrower_interval(values: list[float]) -> None:
    assert median_interval(values, 0.99).half_width >= median_interval(values, 0.9).half_width


def test_drift_is_the_change_between_the_medians_of_the_outer_thirds() -> None:
    assert drift([1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 1.5, 1.5, 1.5]) == pytest.approx(0.5)
    assert drift([1.0, 2.0, 3.0, 4.0, 5.0]) == 0.0


DISTRIBUTIONS = {
    "normal": lambda source: source.gauss(0, 1),
    "heavy tails": lambda source: source.gauss(0, 1) / max(abs(source.gauss(0, 1)), 1e-9),
    "skewed": lambda source: source.expovariate(1) - math.log(2),
    "two humps": lambda source: source.choice((-1, 1)) * source.gauss(1, 0.3),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [6, 17, 60])
def test_the_interval_covers_the_median_of_any_distribution_at_nominal_level(name: str, count: int) -> None:
    source = random.Random(f"{name} {count}")
    runs = 2000
    draw = DISTRIBUTIONS[name]
    covered = sum(median_interval([draw(source) for _ in range(count)]).holds(0.0) for _ in range(runs))
    # The rank is a whole number, so the true level is at least 95 %; 4 standard errors of a simulation are 2 points.
    assert covered / runs >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)

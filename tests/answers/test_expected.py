"""What is published as the gain to expect: pooled within an era of recipes, with intervals held to a reference."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from statistics import variance

import numpy as np
import pytest

from secost.answers.expected import BETWEEN_STUDIES, borrowed_for, known_family, own_interval, published_for
from secost.answers.published import IMAGENET, published_gains, training_sd, trainings
from secost.pooling import FEWEST_TO_PREDICT, pooled
from secost.runs.records import Gain
from tests.benchmarks.pooling import held


def se_of(gains: Sequence[Gain], era: str, reduction: int | None = 16) -> Gain:
    return next(gain for gain in gains if (gain.attention, gain.era, gain.reduction) == ("se", era, reduction))


# --- pooling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("studies", [2, 3, 5, 12, 25])
@pytest.mark.parametrize("between", [0.0, 0.1, 0.5])
def test_mean_and_interval_are_those_of_statsmodels(studies: int, between: float) -> None:
    from statsmodels.stats.meta_analysis import combine_effects

    draw = np.random.default_rng(studies)
    effects = draw.normal(0.5, between + 0.05, studies)
    variances = draw.uniform(0.01, 0.1, studies)
    ours = pooled(effects.tolist(), variances.tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the intervals of single studies, which are not looked at
        theirs = combine_effects(effects, variances, method_re="iterated", use_t=True, atol=1e-12, maxiter=500)
        frame = theirs.summary_frame()
    row = frame.loc["random effect wls"]
    assert (ours.estimate, ours.low, ours.high) == pytest.approx((row["eff"], row["ci_low"], row["ci_upp"]), abs=1e-6)
    assert ours.between**2 == pytest.approx(theirs.tau2, abs=1e-6)


def test_one_study_has_the_interval_of_its_own_luck() -> None:
    found = pooled([1.5], [0.02])
    half = 1.959964 * math.sqrt(0.02)
    assert (found.low, found.high) == pytest.approx((1.5 - half, 1.5 + half))
    assert found.next_low is None


def test_two_studies_say_nothing_of_one_more() -> None:
    assert pooled([1.0, 1.2], [0.02, 0.02]).next_low is None
    assert pooled([1.0, 1.2, 1.1], [0.02] * FEWEST_TO_PREDICT).next_low is not None


def test_with_no_luck_of_their_own_one_study_more_has_students_interval() -> None:
    """Then a study is a draw from a normal distribution, and one more lies in mean +- t s sqrt(1 + 1/k)."""
    effects = [0.2, 0.9, 0.5, 1.4, 0.7]
    found = pooled(effects, [1e-9] * 5)
    half = 2.776445 * float(np.std(effects, ddof=1)) * math.sqrt(1 + 1 / 5)
    assert (found.next_low, found.next_high) == pytest.approx((0.74 - half, 0.74 + half), abs=0.01)


@pytest.mark.parametrize("wrong", [([], []), ([1.0], []), ([1.0], [0.0])])
def test_pooling_needs_a_variance_for_each_effect(wrong: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="variance"):
        pooled(*wrong)


@pytest.mark.parametrize("studies", [3, 5, 10, 20])
@pytest.mark.parametrize("between", [0.2, 0.3, 0.5])
def test_both_intervals_hold_what_they_promise(between: float, studies: int) -> None:
    """Where studies differ by more than their luck, as published ones do: 0.4 points and more between networks."""
    mean, one_more = held(between, studies)
    assert 0.93 <= mean <= 0.97 and 0.93 <= one_more <= 0.97


@pytest.mark.parametrize("studies", [3, 20])
def test_where_studies_do_not_differ_the_interval_of_one_more_is_too_wide_rather_than_too_narrow(studies: int) -> None:
    mean, one_more = held(0.0, studies)
    assert 0.93 <= mean <= 0.97 and one_more > 0.97


# --- of a network that was published ----------------------------------------------------------------------------------


def test_eras_of_recipes_are_never_pooled_together() -> None:
    """SENet's +1.51 and timm's A3, -1.02, are answers to two questions."""
    gains = published_for("resnet50", ["se"])
    classical, modern = se_of(gains, "classical"), se_of(gains, "modern")
    points = {era: [pair.points for pair in published_gains(["se"], "resnet") if pair.base.network == "resnet50"
                    and pair.row.reduction == 16 and pair.row.era == era] for era in ("classical", "modern")}
    assert 1.51 in points["classical"] and -1.016 in points["modern"]
    assert min(points["classical"]) < classical.points < max(points["classical"])
    assert classical.low is not None and classical.low > 0
    assert modern.low is not None and modern.high is not None and modern.low < 0 < modern.high
    assert not classical.borrowed and classical.top1 is None


def test_a_variant_published_once_has_the_luck_of_two_trainings_and_what_studies_differ_by() -> None:
    once = se_of(published_for("resnet50", ["se"]), "classical", 2)
    sd = training_sd(IMAGENET, "classical")
    assert sd is not None and once.pairs == 1 and "Table 10" in once.basis
    half = 1.959964 * math.hypot(math.sqrt(2) * sd, BETWEEN_STUDIES)
    assert (once.low, once.high) == pytest.approx((once.points - half, once.points + half))
    (pair,) = [pair for pair in published_gains() if pair.gain.basis == once.basis and pair.row.reduction == 2]
    assert own_interval(pair) == pytest.approx((pair.points - 1.959964 * math.sqrt(2) * sd,
                                                pair.points + 1.959964 * math.sqrt(2) * sd))


def test_what_one_study_is_allowed_for_is_what_studies_of_one_network_differ_by() -> None:
    """SE by classical recipes: the variance within each network and r beyond that of seeds, by degrees of freedom."""
    sd, by_network = training_sd(IMAGENET, "classical") or 0.0, defaultdict(list)
    for pair in trainings(pair for pair in published_gains() if pair.base.network and pair.row.dataset == IMAGENET
                          and (pair.row.attention, pair.row.era) == ("se", "classical")
                          and "only" not in pair.row.placement):
        by_network[pair.base.network, pair.row.reduction].append(pair.points)
    several = [points for points in by_network.values() if len(points) > 1]
    freedom = sum(len(points) - 1 for points in several)
    beyond = sum((len(points) - 1) * (variance(points) - 2 * sd**2) for points in several) / freedom
    assert freedom >= 8 and BETWEEN_STUDIES == pytest.approx(math.sqrt(beyond), abs=0.05)


def test_gains_are_found_by_the_name_that_secost_loads() -> None:
    assert {gain.attention for gain in published_for("resnet50", ["se", "cbam"])} == {"se", "cbam"}
    assert published_for("resnet50.a1_in1k", ["se"]) == published_for("resnet50", ["se"])
    assert published_for("nobodys_net", ["se"]) == published_for("", ["se"]) == []


# --- of a network that nobody published -------------------------------------------------------------------------------


def test_a_borrowed_gain_has_the_interval_of_one_network_more() -> None:
    found = borrowed_for("net.py:make", None, [("se", 16)])
    classical = se_of(found, "classical")
    assert classical.borrowed and classical.pairs >= 20 and "borrowed from" in classical.basis
    points = [pair.points for pair in published_gains(["se"]) if pair.row.era == "classical"
              and pair.row.dataset == IMAGENET and "only" not in pair.row.placement]
    assert classical.low is not None and classical.high is not None
    inside = sum(classical.low <= value <= classical.high for value in points)
    assert inside >= 0.9 * len(points)  # an interval of their mean alone would hold a few


def test_a_family_with_enough_pairs_lends_before_all_networks() -> None:
    everyone = se_of(borrowed_for("net.py:make", None, [("se", 16)]), "classical")
    resnets = se_of(borrowed_for("resnet18", known_family("resnet18"), [("se", 16)]), "classical")
    assert known_family("resnet18") == "resnet" and known_family("net.py:make") is None
    assert resnets.pairs < everyone.pairs and "the family resnet" in resnets.basis


def test_too_few_pairs_lend_nothing() -> None:
    assert borrowed_for("net.py:make", None, [("simam", None)]) == []

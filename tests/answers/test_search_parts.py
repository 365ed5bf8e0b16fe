"""The parts of a search, each against something known: the space, the asking, the one-shot network, predicted time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secost
from secost.answers.predicted import fit_latency, predict
from secost.answers.searched import EXHAUSTIVE, RANDOM, Searched, front, hypervolume, rank_correlation
from secost.errors import BadSpecError, UnknownNameError
from secost.networks.surgery import attach, sites
from secost.pages.search import sentences
from secost.plan.spec import Spec
from secost.plan.trials import Setting, Training, Trial
from secost.plan.variants import NOTHING, Point, Space, make_space
from secost.runs.records import Record
from secost.runs.study import rounded
from secost.studies.search import Worth, ask_and_tell
from secost.training.datasets import Data, Split, load_data
from secost.training.loop import train
from secost.training.oneshot import OneShot, held_out, statistics_of

CHOICES = (("se", 4), ("eca", None), ("spatial", None))
FOUR = make_space([1, 2, 3, 4], CHOICES, "site")


# --- the space --------------------------------------------------------------------------------------------------------


def test_sites_of_a_stage_change_together_where_that_is_asked_for() -> None:
    space = make_space([1, 1, 2], CHOICES, "stage")
    assert space.groups == ((0, 1), (2,)) and space.size == 16
    assert space.name((1, 0)) == "mix:2xse/4+none"
    assert make_space([1, 1, 2], CHOICES, "site").size == 64


def test_every_point_has_a_name_of_its_own_and_comes_back_from_it() -> None:
    names = [FOUR.name(point) for point in FOUR.points()]
    assert len(set(names)) == FOUR.size == 256
    assert [FOUR.point(name) for name in names] == list(FOUR.points())


def test_draws_differ_are_repeatable_and_take_the_whole_space_where_asked() -> None:
    drawn = FOUR.drawn(50, seed=3)
    assert len(set(drawn)) == 50 and drawn == FOUR.drawn(50, seed=3)
    assert set(FOUR.drawn(1000, seed=0)) == set(FOUR.points())
    assert not set(FOUR.drawn(100, 1, but=drawn)) & set(drawn)


def test_networks_of_the_fit_have_each_option_at_each_place_and_small_ones_among_them() -> None:
    points = FOUR.balanced(16, seed=0)
    for place in range(4):
        assert {point[place] for point in points} == {0, 1, 2, 3}
    assert sum(point.count(0) >= 2 for point in points) >= 6


# --- fronts -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12))
def test_hypervolume_is_the_area_that_a_count_of_unit_squares_gives(points: list[tuple[int, int]]) -> None:
    squares = sum(any(top1 >= x + 1 and cost <= y for top1, cost in points)
                  for x, y in itertools.product(range(5, 20), range(15)))
    assert hypervolume([(float(a), float(b)) for a, b in points], 15.0, 5.0) == squares


def estimate(top1: float, overhead: float) -> Record:
    record = Record.of_trial(Trial(Setting("net"), f"mix:se/{round(1000 * overhead) + 1}", estimate="nsga2"))
    record.estimated_top1, record.estimated_overhead = top1, overhead
    return record


def test_a_front_holds_what_none_beats() -> None:
    records = [estimate(*pair) for pair in [(90, 0.0), (91, 0.1), (90.5, 0.2), (93, 0.3), (93, 0.4), (91, 0.05)]]
    assert [(r.estimated_top1, r.estimated_overhead) for r in front(records)] == [(90, 0.0), (91, 0.05), (93, 0.3)]


def test_rank_correlation_is_scipys_and_none_where_ranks_lack() -> None:
    generator = np.random.default_rng(0)
    pairs = [(float(x), float(x + generator.normal())) for x in generator.normal(size=40)]
    from scipy.stats import spearmanr

    found = rank_correlation(pairs)
    assert found is not None and found.estimate == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert found.low is not None and found.high is not None and found.low < found.estimate < found.high
    assert rank_correlation([(1.0, 2.0), (1.0, 3.0), (1.0, 4.0), (1.0, 5.0)]) is None


# --- asking -----------------------------------------------------------------------------------------------------------


def landscape(seed: int, limit: float = 0.12) -> dict[Point, Worth]:
    """Accuracies with parts that add up, parts of pairs, and steps as a small test set has them."""
    draw = np.random.default_rng(seed)
    cost = np.abs(draw.normal(0.05, 0.03, (4, 4))) * (np.arange(4) > 0)
    gain, pair = draw.normal(0.3, 0.5, (4, 4)) * (np.arange(4) > 0), draw.normal(0, 0.2, (4, 4, 4, 4))
    found = {}
    for point in FOUR.points():
        overhead = float(sum(cost[g, i] for g, i in enumerate(point)))
        top1 = 90 + sum(gain[g, i] for g, i in enumerate(point))
        top1 += sum(pair[g, point[g], h, point[h]] for g in range(4) for h in range(g))
        found[point] = Worth(round(3 * float(top1)) / 3, overhead, {"latency": overhead - limit})
    return found


def judge_of(known: dict[Point, Worth], asked: list[Point] | None = None):  # type: ignore[no-untyped-def]
    def judge(points: Sequence[Point]) -> list[Worth]:
        if asked is not None:
            asked.extend(points)
        return [known[point] for point in points]

    return judge


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "random"])
def test_each_point_is_judged_once_and_no_more_than_asked_for(sampler: str) -> None:
    asked: list[Point] = []
    found = ask_and_tell(FOUR, sampler, 45, judge_of(landscape(0), asked), seed=1, population=10)
    assert list(found) == asked and len(asked) == len(set(asked)) == 45


def test_a_small_space_is_judged_to_its_end() -> None:
    small = make_space([1, 2], CHOICES[:1], "site")
    worths = {point: Worth(float(sum(point)), float(sum(point)), {}) for point in small.points()}
    assert set(ask_and_tell(small, "nsga2", 100, judge_of(worths), population=4)) == set(small.points())


def test_asking_again_with_what_was_judged_asks_for_the_same() -> None:
    known = landscape(2)
    first = ask_and_tell(FOUR, "nsga2", 30, judge_of(known), seed=5, population=10)
    again = ask_and_tell(FOUR, "nsga2", 60, judge_of(known), seed=5, population=10)
    assert list(again)[:30] == list(first)


def test_the_sampler_finds_the_front_in_a_quarter_of_the_space_ahead_of_a_random_draw() -> None:
    shares, drawn = [], []
    for seed in range(10):
        known = landscape(seed)
        kept = [(w.top1, w.overhead) for w in known.values() if w.allowed]
        corner = (0.12, min(w.top1 for w in known.values()))
        whole = hypervolume(kept, *corner)

        first = [point for c in (NOTHING, *CHOICES) if (point := FOUR.uniform(c)) is not None]
        found = ask_and_tell(FOUR, "nsga2", FOUR.size // 4, judge_of(known), seed=seed, first=first)
        for points, kind in ((list(found), shares), (FOUR.drawn(FOUR.size // 4, seed), drawn)):
            mine = [(known[p].top1, known[p].overhead) for p in points if known[p].allowed]
            kind.append(hypervolume(mine, *corner) / whole)
    assert np.median(shares) >= 0.98 and np.median(shares) > np.median(drawn)


def test_an_unknown_sampler_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="nsga2"):
        ask_and_tell(FOUR, "nsga4", 5, judge_of({}))


# --- the one-shot network ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oneshot() -> OneShot:
    torch.manual_seed(0)
    net = secost.load("small:resnet")
    return OneShot(net, sites(net, resolution=8), FOUR).eval()


@pytest.mark.parametrize("point", [(0, 0, 0, 0), (1, 2, 3, 0), (3, 3, 1, 1)])
def test_a_chosen_point_is_the_network_that_attach_makes_of_its_name(oneshot: OneShot, point: Point) -> None:
    net = attach(secost.load("small:resnet"), FOUR.name(point), resolution=8)
    weights = oneshot.state_dict()
    mine = {}
    for name in net.state_dict():
        site, _, rest = name.partition(".secost.")
        place = [s.path for s in sites(secost.load("small:resnet"), resolution=8)].index(site) if rest else 0
        mine[name] = weights[f"net.{site}.secost.options.{point[place]}.{rest}" if rest else f"net.{name}"]
    net.load_state_dict(mine)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    oneshot.choose(point)
    with torch.no_grad():
        assert torch.equal(oneshot(images), net.eval()(images))


def test_training_reaches_every_option_and_judging_changes_no_weight() -> None:
    whole = held_out(load_data("digits"))
    data = Data("few", *(Split(part.images[:256], part.labels[:256]) for part in (whole.train, whole.test)), 10)
    net = secost.load("small:resnet")
    before = OneShot(net, sites(net, resolution=8), FOUR)
    start = {name: value.clone() for name, value in before.named_parameters()}
    train(before, data, Training("digits", 0, 2, 8, 0.05, False, False, False))  # 64 draws
    moved = [name for name, value in before.named_parameters() if not torch.equal(value, start[name])]
    assert {name for name in start if ".options." in name} <= set(moved)
    held = {name: value.clone() for name, value in before.named_parameters()}
    first = before.judge((1, 2, 3, 0), statistics_of(data), data.test)
    before.judge((0, 0, 0, 0), statistics_of(data), data.test)
    assert before.judge((1, 2, 3, 0), statistics_of(data), data.test) == first
    assert all(torch.equal(value, held[name]) for name, value in before.named_parameters())


def test_points_are_judged_by_images_that_are_neither_trained_on_nor_the_test_set() -> None:
    whole = load_data("digits")
    data = held_out(whole)
    assert len(data.train) + len(data.test) == len(whole.train)
    trained = {image.numpy().tobytes() for image in data.train.images}
    twins = {image.numpy().tobytes() for image in whole.train.images}
    assert len(twins) == len(whole.train)  # no image is there twice, so the next line tells something
    assert not trained & {image.numpy().tobytes() for image in data.test.images}


# --- predicted time ---------------------------------------------------------------------------------------------------


def timed(name: str, overhead: float, reduction: int | None = None, by_site: Sequence[float] = ()) -> Record:
    record = Record.of_trial(Trial(Setting("net"), name, reduction))
    record.latency_overhead, record.latency_overhead_low, record.latency_overhead_high = (
        overhead, overhead - 0.003, overhead + 0.003)
    record.by_site = [{"stage": n + 1, "latency_ms": ms, "memory_bytes": 1} for n, ms in enumerate(by_site)]
    return record


COSTS = {("se", 4): [0.05, 0.04, 0.03, 0.03], ("eca", None): [0.03, 0.03, 0.02, 0.02],
         ("spatial", None): [0.2, 0.1, 0.08, 0.07]}
ONCE = {"se": 0.02, "eca": 0.01, "spatial": 0.1}


def truth(point: Point, space: Space = FOUR) -> float:
    chosen = [space.options[g][i] for g, i in enumerate(point)]
    return sum(COSTS[c][g] for g, c in enumerate(chosen) if c in COSTS) + sum(
        ONCE[name] for name in {name for name, _ in chosen if name != "none"})


def test_a_table_is_found_again_from_whole_networks_though_its_shares_are_off() -> None:
    noise = random.Random(0)
    uniform = [timed(name, truth(FOUR.uniform((name, r)) or ()), r, [1.3 * COSTS[name, r][0], *COSTS[name, r][1:]])
               for name, r in COSTS]
    mixes = [timed(FOUR.name(p), truth(p) + noise.gauss(0, 0.001)) for p in FOUR.balanced(16, 0)]
    table = fit_latency(FOUR, uniform, mixes)
    others = [point for point in FOUR.points() if any(point)]
    off = [abs(predict(table, FOUR, point).estimate / truth(point) - 1) for point in others]
    assert np.median(off) < 0.03 and np.quantile(off, 0.95) < 0.15
    held = [predict(table, FOUR, point).holds(truth(point)) for point in others]
    assert np.mean(held) > 0.9
    assert predict(table, FOUR, (0, 0, 0, 0)).estimate == 0.0
    assert table.first_use["spatial"] == pytest.approx(0.1, abs=0.03)


def test_an_option_that_was_not_measured_can_not_be_predicted() -> None:
    with pytest.raises(BadSpecError, match="eca at all sites was not measured"):
        fit_latency(FOUR, [timed("se", 0.1, 4, [1, 1, 1, 1])], [])


# --- the decision -----------------------------------------------------------------------------------------------------

ALONE = {("none", None): 95.0, ("mix:2xnone+2xse/4", None): 97.0, ("se", 4): 98.0, ("eca", None): 96.0,
         ("spatial", None): 99.0}


def trained(name: str, reduction: int | None, seed: int, top1: float) -> Record:
    training = Training("digits", seed, 1, 64, 0.05, False, False, False)
    record = Record.of_trial(Trial(Setting("net"), name, reduction, latency=False, training=training))
    record.top1 = top1
    return record


def judged(point: Point, sampler: str) -> Record:
    record = Record.of_trial(Trial(Setting("net"), FOUR.name(point), latency=False, estimate=sampler))
    cost = truth(point)
    record.estimated_top1, record.samples = 90 + 10 * cost, {"loss": 1.0}
    record.estimated_overhead, record.estimated_overhead_low, record.estimated_overhead_high = cost, cost, 1.1 * cost
    return record


def made_search(max_latency: float) -> Searched:
    """A search whose times and accuracies are given: what is more accurate alone takes more time."""
    spec = Spec.from_dict({
        "models": "net", "attention": ["se", "eca", "spatial"], "reductions": [4], "train": {"seeds": 3},
        "search": {"max_latency": max_latency, "trials": 30, "calibrate": 8, "check": 5},
    })
    fit = FOUR.balanced(8, 0)
    points = dict.fromkeys([*fit, *FOUR.drawn(5, 1, fit), (0, 0, 1, 1)])
    records = [Record.of_trial(Trial(Setting("net"), "none"))]
    records += [timed(name, truth(FOUR.uniform((name, r)) or ()), r, COSTS[name, r]) for name, r in COSTS]
    records += [timed(FOUR.name(point), truth(point)) for point in points]
    records += [trained(*choice, seed, top1 + seed * (0.1 if choice[0] == "none" else 0.11))
                for choice, top1 in ALONE.items() for seed in range(3)]
    records += [judged(point, "nsga2") for point in FOUR.drawn(30, 0)]
    records += [judged(point, name) for name, points in ((RANDOM, FOUR.drawn(30, 2)), (EXHAUSTIVE, FOUR.points()))
                for point in points]
    return Searched(spec, tuple(records))


@pytest.mark.parametrize(("max_latency", "name"), [
    (0.09, "mix:2xnone+2xse/4"), (0.12, "mix:2xnone+2xse/4"), (0.2, "se r=4"), (1.0, "spatial"),
])
def test_the_most_accurate_network_is_chosen_whose_time_holds_the_budget(max_latency: float, name: str) -> None:
    found = made_search(max_latency)
    assert found.chosen is not None and found.chosen.name == name
    assert sentences(found)[0].startswith(f"Within the budget {name} ")


def test_a_budget_is_held_by_the_upper_end_of_the_interval() -> None:
    assert made_search(0.0829).chosen is None  # the mix takes 8 %, and at most 8.3 %
    assert made_search(0.0831).chosen is not None


def test_a_budget_that_nothing_meets_leaves_the_network_without_attention() -> None:
    assert sentences(made_search(0.05))[0] == (
        "No network with attention that was measured and trained holds the budget, so the answer is the network "
        "without attention.")


def test_what_a_search_concludes_has_no_digits_of_the_processor() -> None:
    result = made_search(0.2).result
    assert result == rounded(result)
    assert result.predicted and set(result.predicted) == {FOUR.name(p) for p in FOUR.drawn(5, 1, FOUR.balanced(8, 0))}
    assert result.shares[EXHAUSTIVE][-1] == 1.0 and result.shares["nsga2"] == sorted(result.shares["nsga2"])
    assert result.believed[-1] == (90.0, 95.1)  # the network without attention, by the one-shot network and alone
    assert [row.sites for row in result.preferences] == [(0,), (1,), (2,), (3,)]
    assert all((row.spatial_over_channel.low or 0.0) > 0 for row in result.preferences)


# --- the request ------------------------------------------------------------------------------------------------------


def test_a_search_without_a_budget_or_with_a_wrong_one_is_refused() -> None:
    with pytest.raises(BadSpecError, match="--max-latency 3%"):
        Spec.from_dict({"models": "small:resnet", "search": {"trials": 5}})
    with pytest.raises(UnknownNameError, match="trials"):
        Spec.from_dict({"models": "small:resnet", "search": {"trails": 5, "max_latency": 0.1}})


def test_what_differs_between_two_searches_is_named() -> None:
    one = Spec.from_dict({"models": "small:resnet", "search": {"trials": 5, "max_latency": 0.1}})
    two = Spec.from_dict({"models": "small:resnet", "search": {"trials": 6, "max_latency": 0.1}})
    assert one.difference(two) == "'search.trials' was 5 and is now 6"
    assert Spec.from_dict(one.to_dict()) == one

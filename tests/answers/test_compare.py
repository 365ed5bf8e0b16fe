"""Two runs compared: which trial is which, what changed by how much, which limits broke, which machine it was."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from secost import statistics
from secost.answers.changes import FIGURES, MACHINE, Side, machine_difference, match_records, process_count
from secost.answers.comparison import (
    Finding,
    Limit,
    Rules,
    RunComparison,
    compare_runs,
    parse_limit,
    parse_limits,
    parse_spread,
)
from secost.errors import BadSpecError
from secost.plan.spec import Spec
from secost.plan.trials import Trial
from secost.runs.records import Record
from secost.statistics import least_overhead_shift

SPEC = Spec(models=("net",), attention=("se",), reductions=(4, 16), seconds=5)
TRIALS: dict[str, Trial] = {trial.label: trial for trial in SPEC.comparisons({"se": True})[0].trials}
MACHINE_A = {"cpu": "Made-up 1", "logical_cores": 2, "memory_gib": 24, "os": "Linux 6.1", "torch": "2.13.0"}
COUNTS = {"params": 1000, "macs": 50_000, "memory_bytes": 9_000, "kernels": 20, "activations": 700}


def samples(
    median_s: float, processes: int = 6, rounds: int = 8, seed: int = 0, spread: float = 0.002
) -> dict[str, Any]:
    """Raw rounds of one variant: processes that differ by `spread`, as their rounds do."""
    order = random.Random(seed)
    times, process = [], []
    for number in range(processes):
        level = order.gauss(0, spread)
        times += [median_s * (1 + level + order.gauss(0, spread)) for _ in range(rounds)]
        process += [number] * rounds
    return {"clock": "thread-cpu", "process": process, "variant_s": times, "baseline_s": times, "control_s": times,
            "wall_s": [2 * time for time in times]}


def made(label: str, latency: float | None = None, overhead: tuple[float, float, float] | None = None,
         **changes: Any) -> Record:
    """A finished record of a trial; `latency` in seconds."""
    record = replace(Record.of_trial(TRIALS[label]), placement="residual", mac_convention="made", **COUNTS)
    record = replace(record, environment="a")
    if latency is not None:
        record = replace(record, latency_ms=1e3 * latency, rounds=48, processes=6, samples=samples(latency))
    if overhead is not None:
        middle, low, high = overhead
        record = replace(
            record, latency_overhead=middle, latency_overhead_low=low, latency_overhead_high=high
        )
    return replace(record, **changes)


def side(*records: Record, name: str = "run", facts: dict[str, Any] | None = None) -> Side:
    return Side(name, records, {"a": MACHINE_A if facts is None else facts})


def compared(old: Record, new: Record, *limits: str, **rules: Any) -> RunComparison:
    return compare_runs(side(old), side(new), Rules(parse_limits(limits), **rules))


def answers(comparison: RunComparison, label: str) -> dict[str, str]:
    match = next(match for match in comparison.matches if match.record.label == label)
    return {change.figure.name: change.answer for change in match.changes}


def kinds(findings: tuple[Finding, ...]) -> list[tuple[str, str | None]]:
    return [(finding.kind, finding.limit and finding.limit.figure) for finding in findings]


# --- which trial is which --------------------------------------------------------------------------------------------


def test_trials_are_matched_by_key_in_the_order_of_the_old_run() -> None:
    old, new = [made("none"), made("se r=4"), made("se r=16")], [made("se r=16"), made("none")]
    pairs = match_records(old, new)
    assert pairs == [(old[0], new[1]), (old[1], None), (old[2], new[0])]


def test_a_trial_whose_key_another_release_made_is_matched_by_its_words() -> None:
    old, new = made("se r=4"), replace(made("se r=4"), key="another")
    assert match_records([old], [new]) == [(old, new)]
    assert match_records([old], [replace(new, memory_format="channels-last")])[0] == (old, None)


@pytest.mark.parametrize("change", [
    {"model": "other"}, {"attention": "eca"}, {"reduction": 8}, {"placement": "stage"}, {"integration": "pre"},
    {"stages": [3]}, {"batch": 8}, {"resolution": 32}, {"backend": "compile"}, {"precision": "bf16"},
    {"device": "cuda"}, {"threads": 2}, {"memory_format": "channels-last"}, {"spelling": "conv"},
], ids=lambda change: next(iter(change)))
def test_every_word_of_a_trial_keeps_two_trials_apart(change: dict[str, Any]) -> None:
    old, new = made("se r=4"), replace(made("se r=4"), key="another", **change)
    assert match_records([old], [new]) == [(old, None), (None, new)]


def test_a_failed_trial_is_matched_although_its_placement_was_never_resolved() -> None:
    old = made("se r=4")
    new = replace(Record.of_trial(TRIALS["se r=4"]), key="another", status="failed", error="no")
    assert new.placement == "auto" and match_records([old], [new]) == [(old, new)]


def test_what_fits_two_trials_fits_none() -> None:
    """Two records without keys and with the same words can't be told apart."""
    old = made("se r=4")
    twins = [replace(old, key="x"), replace(old, key="y")]
    assert match_records([old], twins) == [(old, None), (None, twins[0]), (None, twins[1])]


def test_runs_without_a_common_trial_are_refused_with_what_each_has() -> None:
    with pytest.raises(BadSpecError, match="no trial in common: 'run' has net none, 'run' has net se r=4"):
        compared(made("none"), made("se r=4"))


# --- what changed ----------------------------------------------------------------------------------------------------


def test_identical_runs_are_the_same_where_exact_and_not_distinguishable_where_measured() -> None:
    record = made("se r=4", 0.010, (0.05, 0.04, 0.06))
    found = compared(record, record, *(f"{name}=0" for name in ("params", "macs", "memory", "kernels", "activations")))
    assert answers(found, "se r=4") == {
        **dict.fromkeys(("params", "macs", "memory", "kernels", "activations"), "same"),
        "latency": "not distinguishable", "overhead": "not distinguishable",
    }
    assert found.broken == () and found.unproven == ()


def test_exact_figures_are_compared_to_the_unit() -> None:
    found = compared(made("se r=4"), made("se r=4", params=1001, kernels=19))
    assert answers(found, "se r=4")["params"] == "worse" and answers(found, "se r=4")["kernels"] == "better"
    changes = {change.figure.name: change.change for change in found.matches[0].changes}
    assert changes["params"] == pytest.approx(0.001) and changes["kernels"] == -0.05 and changes["macs"] == 0.0


def test_growth_from_nothing_has_no_percentage_and_breaks_every_limit() -> None:
    found = compared(made("se r=4", kernels=0), made("se r=4", kernels=3), "kernels=90%")
    change = found.matches[0].change_of(FIGURES["kernels"])
    assert change is not None and change.change is None and change.answer == "worse"
    assert kinds(found.broken) == [("broken", "kernels")]


def test_a_known_change_of_time_is_found_and_lies_in_its_interval() -> None:
    old, new = made("se r=4", 0.010), made("se r=4", 0.010)
    new.samples = samples(0.0104, seed=5)
    change = compared(old, new, run_spread=0.0).matches[0].change_of(FIGURES["latency"])
    assert change is not None and change.low is not None and change.high is not None
    assert change.answer == "worse" and change.low < 0.04 < change.high and change.high - change.low < 0.02
    assert change.old == pytest.approx(10.0, rel=0.005) and change.new == pytest.approx(10.4, rel=0.005)
    back = compared(new, old).matches[0].change_of(FIGURES["latency"])
    assert back is not None and back.answer == "better" and back.change == pytest.approx(1 / 1.04 - 1, abs=0.005)


def test_times_allow_for_what_equal_runs_differ_by() -> None:
    old, new = made("se r=4", 0.010), made("se r=4", 0.0102)
    answer = {spread: answers(compared(old, new, run_spread=spread), "se r=4")["latency"] for spread in (0.0, 0.01)}
    assert answer == {0.0: "worse", 0.01: "not distinguishable"}


def test_overheads_are_compared_in_points_from_the_intervals_of_both_runs() -> None:
    old, new = made("se r=4", 0.01, (0.05, 0.04, 0.06)), made("se r=4", 0.01, (0.08, 0.07, 0.09))
    change = compared(old, new).matches[0].change_of(FIGURES["overhead"])
    assert change is not None and change.answer == "worse" and change.change == pytest.approx(0.03)
    half = math.hypot(0.01, 0.01, least_overhead_shift())
    assert (change.low, change.high) == (pytest.approx(0.03 - half), pytest.approx(0.03 + half))


def test_times_of_different_clocks_are_compared_by_the_wall() -> None:
    old, new = made("se r=4", 0.010), made("se r=4", 0.010)
    assert new.samples is not None
    new.samples |= {"clock": "wall", "variant_s": new.samples["wall_s"]}
    change = compared(old, new).matches[0].change_of(FIGURES["latency"])
    assert change is not None and change.change == 0.0 and change.old == pytest.approx(20.0, rel=0.005)
    assert "other-clock" in change.notes


@pytest.mark.parametrize("rounds", [None, {"variant_s": []}, {"variant_s": [0.1, "x"]}, {"variant_s": [0.1, 0.0]},
                                    {"variant_s": 3}], ids=str)
def test_a_time_without_usable_rounds_has_a_change_but_no_interval(rounds: dict[str, Any] | None) -> None:
    old, new = made("se r=4", 0.010), made("se r=4", 0.010, latency_ms=20.0, samples=rounds)
    found = compared(old, new, "latency=1%")
    change = found.matches[0].change_of(FIGURES["latency"])
    assert change is not None and change.change == pytest.approx(1.0) and change.low is None
    assert change.answer == "not distinguishable" and "no-rounds" in change.notes
    assert kinds(found.unproven) == [("not proven", "latency")]


def test_a_run_of_one_process_says_so_and_has_a_wider_interval() -> None:
    old = made("se r=4", 0.010)
    one = made("se r=4", 0.010, processes=None, samples={"variant_s": samples(0.010)["variant_s"]})
    assert process_count(old) == 6 and process_count(one) == 1
    found = [compared(old, new, run_spread=0.0) for new in (old, one)]
    first, second = (comparison.matches[0].change_of(FIGURES["latency"]) for comparison in found)
    assert first is not None and second is not None and first.notes == () and second.notes == ("one-process",)
    assert first.high is not None and second.high is not None and second.high > 2 * first.high


def test_a_figure_that_one_run_lacks_is_only_in_the_other() -> None:
    timed, counted = made("se r=4", 0.010), made("se r=4")
    assert answers(compared(timed, counted), "se r=4")["latency"] == "only in old"
    assert answers(compared(counted, timed), "se r=4")["latency"] == "only in new"


def test_what_moved_with_its_baseline_says_so() -> None:
    old = [made("none", 0.010), made("se r=4", 0.011), made("se r=16", 0.011)]
    new = [made("none", 0.011), made("se r=4", 0.0121), made("se r=16", 0.011)]
    found = compare_runs(side(*old), side(*new))
    notes = {match.record.label: match.change_of(FIGURES["latency"]) for match in found.matches}
    assert [change.notes for change in notes.values() if change] == [
        ("baseline-moved",), ("baseline-moved",), (),
    ]


def test_other_sites_and_another_rule_of_counting_are_noted() -> None:
    old, new = made("se r=4"), made("se r=4", placement="stage", mac_convention="another")
    found = {change.figure.name: change.notes for change in compared(old, new).matches[0].changes}
    assert found["params"] == ("other-placement",) and found["macs"] == ("other-placement", "other-convention")


def test_another_allocator_is_noted() -> None:
    old, new = made("se r=4", 0.01), made("se r=4", 0.01)
    assert old.samples is not None and new.samples is not None
    old.samples["allocator"], new.samples["allocator"] = "steady", "default"
    change = compared(old, new).matches[0].change_of(FIGURES["latency"])
    assert change is not None and change.notes == ("other-allocator",)


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "limit"), [
    ("latency=3%", Limit("latency", 0.03)), ("latency = 3 %", Limit("latency", 0.03)),
    ("latency=0.03", Limit("latency", 0.03)), ("params=0", Limit("params", 0.0)), ("params=0%", Limit("params", 0.0)),
    ("overhead=1pt", Limit("overhead", 0.01)), ("overhead=1%", Limit("overhead", 0.01)),
    ("overhead=1.5 points", Limit("overhead", 0.015)), ("memory=300%", Limit("memory", 3.0)),
    ("macs=.5%", Limit("macs", 0.005)),
])
def test_a_limit_is_a_figure_and_a_growth(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(("text", "message"), [
    ("latency", "write a figure and a growth"), ("latncy=3%", "unknown figure.*did you mean latency"),
    ("latency=", "is no growth"), ("latency=fast", "is no growth"), ("latency=3,5%", "is no growth"),
    ("latency=nan", "is no growth"), ("latency=inf", "is no growth"), ("latency=1e400", "is no growth"),
    ("latency=-1%", "0 or more"), ("latency=3", "latency=3% or latency=0.03"),
    ("params=1pt", "points are for overhead"), ("=3%", "unknown figure"), (f"latency={'9' * 400}%", "is no growth"),
])
def test_a_wrong_limit_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(BadSpecError, match=message) as caught:
        parse_limit(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0", 0.0), ("0.02", 0.02), (" .5 % ", 0.005)])
def test_the_spread_between_equal_runs_is_a_share_of_the_time(text: str, value: float) -> None:
    assert parse_spread(text) == value


@pytest.mark.parametrize("text", ["", "1", "100%", "-1%", "much", "nan", "1%%"])
def test_a_spread_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSpecError, match="is no share of a time"):
        parse_spread(text)


def test_two_limits_on_one_figure_are_refused() -> None:
    with pytest.raises(BadSpecError, match="latency more than once"):
        parse_limits(["latency=3%", "params=0", "latency=2%"])


@pytest.mark.parametrize(("new", "limit", "broken"), [
    (1000, "params=0", False), (1001, "params=0", True), (999, "params=0", False), (1030, "params=3%", False),
    (1031, "params=3%", True), (1011, "params=1.1%", False), (1012, "params=1.1%", True), (1070, "params=7%", False),
])
def test_a_count_may_grow_up_to_its_limit_exactly(new: int, limit: str, broken: bool) -> None:
    found = compared(made("se r=4"), made("se r=4", params=new), limit)
    assert kinds(found.broken) == ([("broken", "params")] if broken else [])


@pytest.mark.parametrize(("low", "high", "plain", "strict"), [
    (-0.01, 0.009, "held", "held"), (0.005, 0.03, "not proven", "broken"), (-0.02, 0.03, "not proven", "broken"),
    (0.011, 0.03, "broken", "broken"), (None, None, "not proven", "broken"),
])
def test_a_measured_limit_is_broken_only_where_the_whole_interval_is_above_it(
    low: float | None, high: float | None, plain: str, strict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old run has an overhead of exactly 0, so the interval of the new one is that of the change."""
    monkeypatch.setattr(statistics, "PARENT_SPREAD", 0.0)
    old = made("se r=4", 0.01, (0.0, 0.0, 0.0))
    middle = 0.01 if low is None or high is None else (low + high) / 2
    new = replace(old, latency_overhead=middle, latency_overhead_low=low, latency_overhead_high=high)
    for rule, expected in (({}, plain), ({"strict": True}, strict)):
        found = compared(old, new, "overhead=1pt", **rule)
        assert (len(found.broken), len(found.unproven)) == (expected == "broken", expected == "not proven")


def test_a_limit_that_nothing_can_be_held_to_is_a_wrong_request() -> None:
    with pytest.raises(BadSpecError, match="latency: no finished trial has this figure in both runs"):
        compared(made("se r=4", 0.01), made("se r=4"), "latency=3%")


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_trial_that_vanished_breaks_unless_it_may() -> None:
    old, new = side(made("none"), made("se r=4")), side(made("none"), made("se r=16"))
    found = compare_runs(old, new)
    assert kinds(found.broken) == [("vanished", None)] and found.broken[0].match.record.label == "se r=4"
    assert [match.status for match in found.matches] == ["matched", "only in old", "only in new"]
    assert compare_runs(old, new, Rules(allow_missing=True)).broken == ()


@pytest.mark.parametrize(("old_status", "new_status", "broken"), [
    ("done", "failed", True), ("failed", "failed", False), ("failed", "done", False),
])
def test_only_a_trial_that_fails_newly_breaks(old_status: str, new_status: str, broken: bool) -> None:
    old, new = made("se r=4", status=old_status), made("se r=4", status=new_status, error="out of memory")
    found = compared(old, new)
    assert found.matches[0].status == "failed" and found.matches[0].changes == ()
    assert kinds(found.broken) == ([("newly failed", None)] if broken else [])
    assert compared(old, new, allow_missing=True).broken == ()


def test_a_limited_figure_that_vanished_from_one_trial_breaks_unless_it_may() -> None:
    old = side(made("none", 0.01), made("se r=4", 0.01))
    new = side(made("none", 0.01), made("se r=4"))
    rules = Rules(parse_limits(["latency=50%"]))
    found = compare_runs(old, new, rules)
    assert kinds(found.broken) == [("vanished", "latency")]
    assert compare_runs(old, new, replace(rules, allow_missing=True)).broken == ()


# --- machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MACHINE if name != "os"])
def test_each_fact_of_the_machine_makes_it_another(name: str) -> None:
    old, new = {**MACHINE_A, name: 100}, {**MACHINE_A, name: 200}
    assert machine_difference(old, new) == f"{name} was 100 and is 200"


@pytest.mark.parametrize(("old", "new"), [
    ({"torch": "2.12.0"}, {"torch": "2.13.0"}), ({"os": "Linux 6.1"}, {"os": "Linux 6.9"}),
    ({"memory_gib": 24}, {"memory_gib": 23}), ({}, {"cpu_quota": "2 processors"}), ({"caches": None}, {"caches": "L1"}),
])
def test_other_software_or_a_fact_that_one_version_did_not_record_is_the_same_machine(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert machine_difference({**MACHINE_A, **old}, {**MACHINE_A, **new}) is None


def test_times_of_two_machines_are_refused_unless_asked_for() -> None:
    record, other = made("se r=4", 0.01), {**MACHINE_A, "cpu": "Made-up 2"}
    with pytest.raises(BadSpecError, match=r"different machines \(cpu was 'Made-up 1' and is 'Made-up 2'\)"):
        compare_runs(side(record), side(record, facts=other))
    found = compare_runs(side(record), side(record, facts=other), Rules(across_machines=True))
    assert found.environments == ((MACHINE_A, other),)
    change = found.matches[0].change_of(FIGURES["latency"])
    assert change is not None and "other-machine" in change.notes


def test_a_machine_that_was_not_recorded_may_be_any() -> None:
    record = made("se r=4", 0.01)
    with pytest.raises(BadSpecError, match="not recorded"):
        compare_runs(side(record), Side("new", (record,), {}))


def test_counts_of_two_machines_are_compared() -> None:
    found = compare_runs(side(made("se r=4", 0.01)), side(made("se r=4"), facts={**MACHINE_A, "cpu": "Made-up 2"}))
    assert answers(found, "se r=4")["params"] == "same"

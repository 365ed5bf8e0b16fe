"""The verdict: each conclusion on made records, and no claim that they do not carry."""

from __future__ import annotations

from dataclasses import replace

from made_records import (
    as_shipped,
    baseline,
    counted_only,
    many,
    one_variant,
    record,
    run_of_six,
    two_models,
    variant,
    with_trouble,
)

from secost.pages.verdict import state
from secost.runs.records import Record


def said(records: list[Record]) -> str:
    return "\n".join(state(records).sentences)


def test_cost_comes_first_and_worth_stays_open() -> None:
    verdict = state(run_of_six())
    assert verdict.answer == "can't tell"
    assert verdict.sentences[0] == ("se r=16 adds 9.9 % parameters, 0.20 % MACs, 18 % memory traffic and 55 % kernels; "
                                    "measured +8.1 % [7.2, 9.0] time.")
    assert "accuracy" in verdict.reason and "accuracy gain" in verdict.next_step


def test_every_sentence_ends_and_is_one_line() -> None:
    for make in (run_of_six, counted_only, one_variant, two_models, as_shipped, many):
        for sentence in state(make()).sentences:
            assert sentence.endswith(".") and "\n" not in sentence


def test_clock_against_macs_gives_a_ratio_with_its_interval() -> None:
    assert "the time overhead is the MAC overhead times 41 (37 to 46) for se r=16" in said(one_variant())


def test_no_ratio_where_the_interval_includes_zero() -> None:
    text = said([baseline(), variant("se", 16, (0.004, -0.003, 0.011))])
    assert "not distinguishable" in text
    assert "Clock against counter" not in text


def test_attention_without_macs_is_said_to_be_unseen_by_them() -> None:
    text = said([baseline(), variant("se", 16, (0.05, 0.04, 0.06), macs_overhead=0.0)])
    assert "MACs do not show the cost of se r=16 at all" in text
    assert "no MACs" in text


def test_r_moves_parameters_and_time_only_where_intervals_are_apart() -> None:
    assert "go from +79 % to +5.0 %, while the time overheads" in said(run_of_six())
    apart = [baseline(), variant("se", 2, (0.2, 0.19, 0.21)), variant("se", 32, (0.05, 0.04, 0.06))]
    assert "and the time overhead from +20.0 % [19.0, 21.0] to +5.0 % [4.0, 6.0]" in said(apart)


def test_r_without_times_speaks_of_parameters_only() -> None:
    assert "From r=2 to r=32, se's added parameters go from +79 % to +5.0 %." in said(counted_only())


def test_counting_only_asks_for_the_clock() -> None:
    verdict = state(counted_only())
    assert "counted only" in verdict.reason and "--no-latency" in verdict.next_step
    assert "time was not measured" in verdict.sentences[0]
    assert "control" not in said(counted_only())


def test_cheapest_in_each_currency_and_undecided_time() -> None:
    assert "Cheapest: parameters, eca (+0.00034 %)" in said(run_of_six())
    close = [baseline(), variant("se", 2, (0.05, 0.04, 0.06)), variant("se", 4, (0.055, 0.045, 0.065)),
             variant("se", 8, (0.2, 0.19, 0.21))]
    assert "time, se r=2 (+5.0 % [4.0, 6.0]), not told apart from se r=4" in said(close)
    alike = [*close[:3], variant("se", 8, (0.05, 0.04, 0.06))]
    assert "no variant's interval lies wholly above" in said(alike)
    assert "kernels, all alike (+55 %)" in said(close)


def test_one_variant_has_no_cheapest_and_no_knob() -> None:
    text = said(one_variant())
    assert "Cheapest" not in text and "From r=" not in text


def test_stage_share_names_the_stage_and_its_sites() -> None:
    assert "stage 4 carries 62 % of the added parameters in 3 of 16 sites" in said(one_variant())


def test_native_is_told_as_shipped_against_stripped() -> None:
    text = said(as_shipped())
    assert "The attention it ships with (native), against the network stripped of it, adds 14 % parameters" in text
    assert "not distinguishable from no change" in text
    same = [baseline(), baseline(attention="native", params_overhead=0.0, macs_overhead=0.0)]
    assert "no attention that could be told from the stripped network" in said(same)


def test_passed_and_failed_controls() -> None:
    assert "The negative control passed" in said(one_variant())
    bad = one_variant()
    bad[1] = replace(bad[1], cautions=["control-failed"], samples={"control_low": 0.01, "control_high": 0.03})
    verdict = state(bad)
    assert "can't be trusted" in verdict.reason and verdict.next_step.startswith("close other programs")
    assert "The negative control failed" in said(bad)
    assert "not to be trusted" in verdict.sentences[0]


def test_control_may_be_stored_as_a_ratio() -> None:
    records = one_variant()
    records[1] = replace(records[1], samples={"control_low": 1.01, "control_high": 1.02})
    assert "The negative control is borderline" in said(records) and "(+1.0 % to +2.0 %)" in said(records)
    records[1] = replace(records[1], samples={"control_low": 0.99, "control_high": 1.02})
    assert "passed: a second copy of the baseline was not told apart from it (-1.0 % to +2.0 %)" in said(records)


def test_times_without_a_control_say_so() -> None:
    records = one_variant()
    records[1] = replace(records[1], samples=None)
    assert "too few rounds to have an interval" in said(records)


def test_failures_are_counted_and_quoted() -> None:
    assert "1 of 4 trials failed (se r=4): RuntimeError" in said(with_trouble())


def test_nothing_to_state() -> None:
    assert "no records" in state([]).reason
    assert "nothing to compare" in state([baseline()]).reason
    failed = [record(status="failed", error="no"), record("se", 2, status="failed", error="no")]
    assert "no variant could be counted" in state(failed).reason
    alone = [record(status="failed", error="no"), variant("se", 2)]
    assert "no baseline finished" in state(alone).reason


def test_negative_overheads_are_changes_not_additions() -> None:
    text = said([baseline(), variant("se", 16, (-0.02, -0.03, -0.01), kernels_overhead=-0.1)])
    assert "changes parameters by +9.9 %" in text and "kernels by -10 %" in text
    assert "measured -2.0 % [-3.0, -1.0] time." in text


def test_two_models_are_told_apart_by_name() -> None:
    text = said(two_models())
    assert "resnet50: se r=16 adds" in text and "mobilenetv2_100: se r=16 adds" in text


def test_many_models_are_told_as_ranges() -> None:
    verdict = state(many())
    assert verdict.sentences[0].startswith("Over 40 comparisons, se r=4: parameters +39 %")
    assert len(verdict.sentences) < 14
    assert "440 of 440 time overheads are distinguishable from 0" in said(many())
    one = many()
    one[3] = replace(one[3], cautions=["control-failed"])
    assert "failed in 1 of 40 comparisons (made_net_00)" in said(one)

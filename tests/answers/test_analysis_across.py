"""What several records say together: spellings of one attention, the floor, backends, batch and shape, what others
published."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from made_records import (
    BACKENDS,
    as_shipped,
    baseline,
    by_backend,
    floored,
    one_variant,
    over_batch,
    record,
    run_of_six,
    spelled,
    two_models,
    variant,
)

from secost.answers.families import (
    ALIKE,
    FASTEST,
    OTHER,
    SLOWER,
    UNKNOWN,
    Spellings,
    axis_families,
    compared_spellings,
    difference,
    images_per_s,
    runtime_families,
    runtime_rows,
)
from secost.answers.groups import added_ms, group_records, stage_floors, whole_floor
from secost.answers.published import plain_name, published_times, times_for, times_of
from secost.pages.verdict import state
from secost.pages.wording import axis_words, floor_words, published_words, runtime_words, spelling_words
from secost.plan.variants import spellings_of
from secost.runs.records import Record

# Two variants in the same rounds


def pair(ratios: list[float], processes: list[int] | None = None) -> tuple[Record, Record]:
    """Two records whose times are in these ratios, round by round."""
    base = [1.0 + index % 7 for index in range(len(ratios))]
    mine: dict[str, Any] = {"baseline_s": base, "variant_s": [b * r for b, r in zip(base, ratios, strict=True)]}
    other: dict[str, Any] = {"baseline_s": base, "variant_s": base}
    if processes is not None:
        mine["process"] = other["process"] = processes
    return record("se", 16, samples=mine), record("se", 8, samples=other)


def test_one_process_gives_the_median_and_an_interval_over_blocks_of_its_rounds() -> None:
    drawn = random.Random(3)
    ratios = [1.05 + drawn.gauss(0, 0.01) for _ in range(100)]
    found = difference(*pair(ratios))
    assert found is not None and found.paired and found.told_apart
    assert found.estimate == pytest.approx(median(ratios) - 1)
    # A median of 100 has a standard error of 1.25 x 0.01 / 10, and the interval is built at 98 %.
    assert found.low is not None and found.high is not None
    assert 2 * 2.0 * 0.00125 < found.high - found.low < 2 * 5.0 * 0.00125


def test_too_few_rounds_have_no_interval_and_tell_nothing_apart() -> None:
    found = difference(*pair([1.5] * 5))
    assert found is not None and (found.low, found.high, found.told_apart) == (None, None, False)


def test_processes_that_differ_widen_the_interval() -> None:
    drawn = random.Random(1)
    ratios = [1 + 0.02 * (index // 50) + drawn.gauss(0, 0.001) for index in range(200)]
    alone, shared = difference(*pair(ratios)), difference(*pair(ratios, [index // 50 for index in range(200)]))
    assert alone is not None and shared is not None and None not in (alone.low, shared.low, shared.high)
    # Of four processes that disagree none can be ruled out: from the lowest one's rounds to the highest one's.
    assert (shared.low, shared.high) == (pytest.approx(0.0, abs=4e-3), pytest.approx(0.06, abs=4e-3))
    assert not shared.told_apart and alone.told_apart


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """A true ratio of 1.01, noise of 0.5 % a round and of 0.5 % a process; five processes of 40 rounds."""
    drawn, covered, times = random.Random(5), 0, 300
    for _ in range(times):
        shifts = [drawn.gauss(0, 0.005) for _ in range(5)]
        ratios = [1.01 + shifts[index // 40] + drawn.gauss(0, 0.005) for index in range(200)]
        found = difference(*pair(ratios, [index // 40 for index in range(200)]))
        assert found is not None and found.low is not None and found.high is not None
        covered += found.low <= 0.01 <= found.high
    assert covered >= 0.93 * times


def test_other_rounds_fall_back_on_the_two_overheads_and_say_so() -> None:
    first, second = variant("se", 16, (0.10, 0.09, 0.11)), variant("se", 8, (0.05, 0.04, 0.06))
    found = difference(first, second)
    assert found is not None and not found.paired
    assert found.estimate == pytest.approx(1.10 / 1.05 - 1)
    assert (found.low, found.high) == (pytest.approx(1.09 / 1.06 - 1), pytest.approx(1.11 / 1.04 - 1))
    assert difference(first, replace(second, environment="elsewhere")) is None
    assert difference(first, variant("se", 8)) is None


# Spellings


def table_of(records: list[Record]) -> Spellings:
    (found,) = compared_spellings(group_records(records)[0])
    return found


def standing(table: Spellings) -> dict[str, str]:
    return {row.name: row.standing for row in table.rows}


def test_the_fastest_at_equal_outputs_is_named_and_what_is_alike_too() -> None:
    found = standing(table_of(spelled()))
    ends = {found.pop("mean-linear-inplace"), found.pop("pool-conv-inplace")}
    assert ends == {FASTEST, ALIKE}
    assert found == {"default": SLOWER, "mean-conv": SLOWER, "pool-linear": SLOWER, "pool-conv-hardsigmoid": OTHER}


def test_the_fastest_of_all_is_listed_apart_where_it_is_another_function() -> None:
    table = table_of(spelled())
    assert table.rows[-1].name == "pool-conv-hardsigmoid" and table.rows[-1].against_fastest is None
    words = spelling_words(table)
    assert words[0].startswith("How se r=16 is written (eager): fastest at equal outputs is ")
    assert "-inplace, -1.4" in words[0] and "not distinguishable from" in words[0]
    assert "slowest is pool-linear, +2.3" in words[0]  # 1.090 / 1.065 - 1
    assert words[1].startswith("pool-conv-hardsigmoid (-1.") and "is not the same function" in words[1]


def test_paired_rounds_tell_apart_what_overlapping_overheads_could_not() -> None:
    table = table_of(spelled())
    own = next(row for row in table.rows if row.name == "default")
    assert own.against_fastest is not None and own.against_fastest.told_apart and own.against_fastest.paired
    best = table.standing(FASTEST)[0].record
    assert best.latency_overhead_high is not None and own.record.latency_overhead_low is not None
    unpaired = difference(replace(own.record, samples=None), replace(best, samples=None))
    assert unpaired is not None and not unpaired.paired
    assert (unpaired.high or 0) - (unpaired.low or 0) > 4 * (
        (own.against_fastest.high or 0) - (own.against_fastest.low or 0))


def test_noise_makes_no_winner() -> None:
    table = table_of(spelled(count=40, noise=0.2))
    assert set(standing(table).values()) == {FASTEST, ALIKE, OTHER}
    assert "none of 5 spellings can be told from the others' fastest" in spelling_words(table)[0]


def test_equal_spellings_are_seldom_called_different() -> None:
    """Seven equal spellings, 100 times: the level allows for having picked the fastest of them."""
    drawn, wrong, names = random.Random(11), 0, (None, *spellings_of("se")[:7])
    equal = [name for name in names if name is None or "hard" not in name]
    for _ in range(100):
        base = [1.0] * 60
        records = [baseline()]
        for name in equal:
            times = [1 + drawn.gauss(0, 0.01) for _ in base]
            made = variant("se", 16, (0.0, -0.1, 0.1), samples={"baseline_s": base, "variant_s": times})
            records.append(replace(made, spelling=name))
        wrong += SLOWER in standing(table_of(records)).values()
    assert wrong <= 12


def test_untimed_spellings_have_no_fastest() -> None:
    records = [replace(item, latency_overhead=None, samples=None) for item in spelled()]
    table = table_of(records)
    assert set(standing(table).values()) == {UNKNOWN, OTHER}
    assert "none is called the fastest" in spelling_words(table)[0]


def test_an_unknown_spelling_of_a_later_version_claims_nothing() -> None:
    records = spelled()
    records[2] = replace(records[2], spelling="of-a-later-version")
    assert standing(table_of(records))["of-a-later-version"] == UNKNOWN


def test_one_spelling_is_no_choice() -> None:
    assert compared_spellings(group_records(run_of_six())[0]) == []


def test_a_kind_of_attention_is_stood_for_by_its_own_spelling() -> None:
    (group,) = group_records(spelled())
    assert [item.spelling for item in group.representatives()] == [None]
    assert [item.spelling for item in group.plain_variants] == [None] and len(group.variants) == 6
    without = group_records([item for item in spelled() if item.attention == "none" or item.spelling is not None])[0]
    assert [item.spelling for item in without.representatives()] == ["mean-conv"]


def test_the_verdict_tells_the_fastest_spelling_and_no_cheapest_among_ways_to_write_one() -> None:
    text = "\n".join(state(spelled()).sentences)
    assert "How se r=16 is written" in text and "Cheapest" not in text


# The floor


def test_floor_is_summed_by_stage_and_divided() -> None:
    made = floored()[1]
    whole, stages = whole_floor(made), stage_floors(made)
    assert whole.times == pytest.approx(4.6 / 1.9)
    assert [stages[stage].times for stage in (1, 2, 3, 4)] == [pytest.approx(ratio) for ratio in
                                                              (1.5 / 0.9, 1.2 / 0.45, 1.0 / 0.3, 0.9 / 0.25)]
    assert whole_floor(replace(made, latency_direct_ms=None, latency_floor_ms=None)).times == pytest.approx(whole.times)


def test_a_stage_that_lacks_a_site_has_no_sum() -> None:
    made = floored()[1]
    made.by_site[0]["floor_ms"] = None
    stages = stage_floors(made)
    assert stages[1].floor_ms is None and stages[1].times is None and stages[2].floor_ms is not None


@pytest.mark.parametrize(("direct", "means"), [
    (0.5, "nothing to be won by writing it better"), (1.5, "another implementation can win little"),
    (3.0, "share the cost"), (9.0, "mostly its implementation is slow"),
])
def test_the_words_follow_the_ratio(direct: float, means: str) -> None:
    records = [baseline(), variant("se", 16, latency_direct_ms=direct, latency_floor_ms=1.0)]
    (sentence,) = floor_words(group_records(records)[0])
    assert means in sentence and sentence.endswith(".")


def test_the_stage_furthest_from_its_floor_is_named() -> None:
    (sentence,) = floor_words(group_records(floored())[0])
    assert "2.4 times its floor" in sentence
    assert "(most in stage 4, 3.6 times; least in stage 1, 1.7 times)" in sentence


def test_no_floor_no_words() -> None:
    assert floor_words(group_records(one_variant())[0]) == []


def test_added_milliseconds_are_the_paired_overhead_of_the_baseline() -> None:
    (group,) = group_records(one_variant())
    added = added_ms(group, group.variants[0])
    assert added is not None and [added.estimate, added.low, added.high] == pytest.approx([
        61.3 * 0.081, 61.3 * 0.072, 61.3 * 0.090])
    (other,) = group_records([baseline(environment="a"), variant("se", 16, (0.1, 0.0, 0.2), environment="b")])
    assert added_ms(other, other.variants[0]) is None


# Backends


def words_of(records: list[Record]) -> str:
    (family,) = runtime_families(group_records(records))
    return "\n".join(runtime_words(family))


def two_backends(base_ms: float, middle: float, half: float = 0.002) -> list[Record]:
    """Eager at 100 ms with +5 ms, and another backend."""
    found = []
    for backend, time, value, width in (("eager", 100.0, 0.05, 0.002), ("compile", base_ms, middle, half)):
        made = variant("se", 16, (value, value - width, value + width), backend=backend)
        found += [baseline(backend=backend, latency_ms=time), replace(made, latency_ms=time * (1 + value))]
    return found


def test_each_backend_is_a_row_with_its_own_baseline() -> None:
    (family,) = runtime_families(group_records(by_backend()))
    rows = runtime_rows(family)
    assert [row.name for row in rows] == [f"{backend} {precision}" for backend, precision, *_ in BACKENDS]
    assert [row.base_ms for row in rows] == [base_ms for _, _, base_ms, *_ in BACKENDS]


def test_the_meaning_is_made_from_the_records() -> None:
    text = words_of(by_backend())
    assert "from +4.1 % [3.7, 4.5] on openvino fp32 to +16.0 % [14.9, 17.1] on openvino int8" in text
    assert "the network alone takes 106 ms to 22.0 ms (a factor of 4.8)" in text
    assert "the faster the rest runs, the more the attention weighs" in text
    assert "openvino int8 is fastest, 25.5 ms a pass" in text and "compile fp32 48 s" in text
    assert "the overheads, +4.1 % [3.7, 4.5] and +4.2 % [3.9, 4.5], can't be told apart" in text


@pytest.mark.parametrize(("base_ms", "middle", "reason"), [
    (60.0, 0.0833, "the rest of the network became faster, the attention did not"),
    (50.0, 0.07, "the rest of the network gained more than the attention"),
    (60.0, 0.12, "the rest of the network became faster and the attention slower"),
    (100.0, 0.08, "the attention became slower, the rest of the network did not"),
    (100.0, 0.02, "the attention became faster, the rest of the network did not"),
    (50.0, 0.02, "the attention gained more than the rest of the network"),
    (200.0, 0.025, "the rest of the network became slower, the attention did not, which hides its cost"),
])
def test_a_reason_needs_both_the_network_and_the_addition(base_ms: float, middle: float, reason: str) -> None:
    assert f": {reason}." in words_of(two_backends(base_ms, middle))


def test_a_backend_that_weighs_less_the_faster_it_is_gets_no_false_rule() -> None:
    assert "sped up more than the rest" in words_of(two_backends(50.0, 0.02))
    assert "no rule between the two" in words_of(two_backends(100.0, 0.05))


def test_overlapping_overheads_are_not_ranked() -> None:
    text = words_of(two_backends(60.0, 0.051))
    assert "can't be told apart" in text and "depends on what runs" not in text


def test_backends_timed_on_two_machines_are_not_compared() -> None:
    records = [replace(item, environment=item.backend) for item in two_backends(60.0, 0.08)]
    assert "timed in different environments, so they are not compared" in words_of(records)


def test_memory_formats_are_comparisons_of_their_own() -> None:
    records = [*one_variant(), *(replace(item, memory_format="channels-last") for item in one_variant())]
    groups = group_records(records)
    assert [group.label for group in groups] == ["resnet50, contiguous", "resnet50, channels-last"]
    (family,) = runtime_families(groups)
    assert [row.name for row in runtime_rows(family)] == ["eager fp32", "eager fp32 channels-last"]


def test_one_backend_is_no_family() -> None:
    for make in (run_of_six, two_models, as_shipped, over_batch):
        assert runtime_families(group_records(make())) == []


# Batch, resolution, threads


def test_an_axis_is_what_alone_differs() -> None:
    (family,) = axis_families(group_records(over_batch()))
    assert (family.axis, [family.value(group) for group in family.groups]) == ("batch", [1, 4, 16, 64])
    crossed = [replace(item, threads=threads) for item in over_batch() for threads in (1, 2)]
    assert [(found.axis, len(found.groups)) for found in axis_families(group_records(crossed))] == [
        ("batch", 4), ("batch", 4), *[("threads", 2)] * 4]
    assert axis_families(group_records([*over_batch()[:3], *by_backend()])) == []


def test_the_ends_of_an_axis_are_told_with_their_intervals() -> None:
    (family,) = axis_families(group_records(over_batch()))
    first, second = axis_words(family)
    assert first == ("se r=16: from batch 1 to batch 64 the time overhead goes from +10.7 % [10.1, 11.3] to +5.9 % "
                     "[5.3, 6.5].")
    assert "which can't be told apart: their intervals overlap" in second


def test_throughput_is_the_records_or_batch_over_latency() -> None:
    assert images_per_s(record(batch=8, latency_ms=40.0)) == pytest.approx(200.0)
    assert images_per_s(record(batch=8, latency_ms=40.0, images_per_s=190.0)) == 190.0
    assert images_per_s(record(batch=8)) is None and images_per_s(None) is None


def test_a_network_with_its_own_input_has_no_resolution_axis() -> None:
    records = [replace(item, resolution=size) for item in one_variant() for size in (None, 224)]
    assert axis_families(group_records(records)) == []


def test_the_verdict_of_many_comparisons_tells_the_axis_and_the_backend() -> None:
    assert any("from batch 1 to batch 64" in sentence for sentence in state(over_batch()).sentences)
    assert any("depends on what runs the network" in sentence for sentence in state(by_backend()).sentences)


# What others published


def test_every_published_row_has_its_source_and_a_sane_value() -> None:
    rows = published_times()
    assert len(rows) > 90 and len(set(rows)) == len(rows)
    for row in rows:
        assert row.source and row.hardware and -0.05 < row.latency_overhead < 1.1
        assert "arXiv:" in row.source or row.source.startswith(
            ("timm aa4b585, results/benchmark-infer-", "PaddleClas ResNet_and_vd_en.md @49dcb5c and "))


def test_published_figures_are_those_of_their_sources() -> None:
    """SENet section 4: 164 and 167 ms. ECA-Net table 3: 1855, 1620 and 1805 images/s, MobileNetV2 2086 and 2010."""
    rows = published_times()
    paper = {(row.model, row.attention): row.latency_overhead for row in rows if "1910.03151" in row.source}
    assert paper["resnet50", "se"] == pytest.approx(1855 / 1620 - 1, abs=5e-4)
    assert paper["resnet50", "eca"] == pytest.approx(1855 / 1805 - 1, abs=5e-4)
    assert paper["mobilenetv2_100", "eca"] == pytest.approx(2086 / 2010 - 1, abs=5e-4)
    (senet,) = [row for row in rows if "1709.01507" in row.source]
    assert senet.latency_overhead == pytest.approx(167 / 164 - 1, abs=5e-4)
    lcnet = {row.placement: row.latency_overhead for row in rows if "2109.15099" in row.source}
    assert lcnet["all 13 blocks"] == pytest.approx(3.80 / 1.87 - 1, abs=5e-4)
    assert lcnet["blocks 12-13 of 13 only"] == pytest.approx(2.05 / 1.87 - 1, abs=5e-4)
    paddle = {(row.model, row.hardware, row.precision, row.batch): row.latency_overhead for row in rows
              if row.source.startswith("PaddleClas")}
    assert paddle["resnet50d", "V100", "fp32", 1] == pytest.approx(3.749 / 3.165 - 1, abs=5e-4)
    compiled = [row for row in rows if (row.hardware, row.backend, row.model, row.attention, row.resolution)
                == ("RTX 4090", "compile", "resnet50", "se", 224)]
    assert [row.latency_overhead for row in compiled] == [0.265]


@pytest.mark.parametrize(("model", "name"), [
    ("resnet50", "resnet50"), ("resnet50.a1_in1k", "resnet50"), ("torchvision:resnet50", "resnet50"),
    ("torchvision:mobilenet_v2", "mobilenetv2_100"), ("nets/resnet50.py:resnet50", ""), ("mine:resnet50", ""),
    ("transformers:resnet50", ""),
])
def test_a_model_is_known_by_its_plain_name_and_a_users_own_never(model: str, name: str) -> None:
    assert plain_name(model) == name


def test_published_rows_stand_beside_the_same_network_attention_and_place_only() -> None:
    made = variant("se", 16, placement="residual")
    rows = times_for(made)
    assert len(rows) == 9 and {(row.model, row.attention, row.resolution) for row in rows} == {("resnet50", "se", 224)}
    assert times_for(replace(made, placement="stage")) == [] and times_for(replace(made, attention="gc")) == []
    assert times_for(replace(made, model="resnet51")) == [] and times_for(replace(made, resolution=None)) == []
    assert {row.resolution for row in times_for(replace(made, resolution=176))} == {160}
    some_stages = [baseline(placement="residual", stages=[4]), replace(made, stages=[4])]
    assert times_of(group_records(some_stages)) == []


def test_the_published_range_is_told_once_a_network_and_tests_nothing() -> None:
    (sentence,) = published_words(group_records(by_backend()))
    assert sentence.startswith("resnet50 with se: 9 published figures say from +1.8 % to +26 % time.")
    assert "test nothing" in sentence

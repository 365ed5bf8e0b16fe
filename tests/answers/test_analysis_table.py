"""The table, its join to the baselines, and how numbers read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_records import as_shipped, baseline, record, run_of_six, two_models, variant, with_trouble

import secost
from secost.answers.frame import add_baselines, frame
from secost.answers.groups import group_records
from secost.runs.records import FLAT_FIELDS
from secost.runs.store import read_results
from secost.writing import interval_decimals, milliseconds, percent, percent_interval, quantity

REPORTS = Path(__file__).parents[2] / "reports"


def test_frame_has_the_contract_fields_first_and_in_order() -> None:
    table = frame(run_of_six())
    assert tuple(table.columns[: len(FLAT_FIELDS)]) == FLAT_FIELDS
    assert len(table) == 7


def test_missing_stays_missing_and_integers_stay_integers() -> None:
    table = frame(with_trouble())
    assert table["params"].isna().tolist() == [False, False, True, False]
    assert table["latency_ms"].isna().tolist() == [False, False, True, False]
    assert table["params"].dtype == "Int64"
    assert table.loc[1, "params"] == 45_699_240


def test_frame_is_tidy_and_of_a_run_as_of_its_records() -> None:
    """Lists are texts, overheads stand beside their intervals, and units are in the names."""
    table = frame([replace(item, stages=[3, 4]) for item in with_trouble()])
    assert table["stages"].tolist() == ["3;4"] * 4 and table.loc[1, "cautions"] == "contention;drift"
    assert json.loads(table.loc[1, "unsupported_ops"]) == {"aten::roll": 2}
    place = list(table.columns).index("latency_overhead")
    assert list(table.columns[place:place + 3]) == ["latency_overhead", "latency_overhead_low", "latency_overhead_high"]
    assert {"latency_ms", "memory_bytes", "images_per_s"} <= set(table.columns)
    run = frame(REPORTS / "resnet50")
    pd.testing.assert_frame_equal(run, secost.frame(read_results(REPORTS / "resnet50")[0]))
    assert run["reduction"].dropna().tolist() == [2, 4, 8, 16, 32]


def test_names_that_are_no_unicode_are_kept() -> None:
    assert frame([replace(baseline(), model="a\ud800")]).loc[0, "model"] == "a\ud800"


def test_empty_frame_has_all_columns_and_joins() -> None:
    table = frame([], added=True)
    assert "params_added" in table.columns and len(table) == 0


def test_join_gives_differences_and_fractions_by_hand() -> None:
    records = [
        record(params=100, macs=1000, memory_bytes=50, kernels=10, latency_ms=2.0, environment="a"),
        record("se", 16, params=110, macs=1004, memory_bytes=60, kernels=16, latency_ms=2.5, environment="a",
               latency_overhead=0.24, latency_overhead_low=0.2, latency_overhead_high=0.3),
    ]
    row = frame(records, added=True).iloc[1]
    assert (row.params_added, row.macs_added, row.memory_bytes_added, row.kernels_added) == (10, 4, 10, 6)
    assert row.latency_ms_added == pytest.approx(0.5)
    assert (row.params_overhead, row.macs_overhead) == (pytest.approx(0.1), pytest.approx(0.004))
    assert (row.memory_overhead, row.kernels_overhead) == (pytest.approx(0.2), pytest.approx(0.6))
    assert row.latency_overhead == 0.24, "the paired estimate, not 2.5 / 2.0 - 1"


def test_join_keeps_comparisons_apart() -> None:
    records = [record(params=100), record("se", 2, params=150),
               record(params=1000, stages=[3, 4]), record("se", 2, params=1100, stages=[3, 4]),
               record(params=10, resolution=None), record("se", 2, params=11, resolution=None)]
    assert frame(records, added=True)["params_added"].tolist() == [0, 50, 0, 100, 0, 1]


def test_join_never_subtracts_times_of_two_machines() -> None:
    records = [record(params=100, latency_ms=2.0, environment="a"),
               record("se", 2, params=110, latency_ms=3.0, environment="b")]
    row = frame(records, added=True).iloc[1]
    assert pd.isna(row.latency_ms_added)
    assert row.params_added == 10


def test_join_without_a_baseline_keeps_what_the_record_says() -> None:
    records = [record(status="failed", error="no"), record("se", 2, params=110, params_overhead=0.1)]
    row = frame(records, added=True).iloc[1]
    assert pd.isna(row.params_added)
    assert row.params_overhead == 0.1


def test_join_leaves_its_input_and_index_as_they_were() -> None:
    table = frame(two_models()).set_index(pd.Index(range(100, 120)))
    before = table.copy()
    joined = add_baselines(table)
    pd.testing.assert_frame_equal(table, before)
    assert joined.index.equals(table.index)
    assert joined["params_added"].notna().all()


def test_groups_know_their_baseline_native_and_variants() -> None:
    (group,) = group_records(as_shipped())
    assert group.baseline is not None and group.baseline.attention == "none"
    assert group.native is not None and [item.label for item in group.variants] == ["eca"]
    assert [item.label for item in group.compared] == ["native", "eca"]


def test_group_labels_name_only_what_differs() -> None:
    records = [record(), record(resolution=160), record(model="vgg16", stages=[3, 4])]
    assert [group.label for group in group_records(records)] == [
        "resnet50, all stages, 224 px", "resnet50, all stages, 160 px", "vgg16, stages 3,4, 224 px",
    ]


def test_representative_is_r16_or_the_middle() -> None:
    assert group_records(run_of_six())[0].representative("se").reduction == 16
    others = [baseline(), *(variant("se", r) for r in (2, 4, 8))]
    assert group_records(others)[0].representative("se").reduction == 4


@pytest.mark.parametrize(("fraction", "shown"), [
    (None, "N/A"), (0.0, "0 %"), (0.09903, "+9.9 %"), (0.00196, "+0.20 %"), (0.18, "+18 %"), (0.0994, "+9.9 %"),
    (0.0996, "+10 %"), (0.000003365, "+0.00034 %"), (-0.031, "-3.1 %"), (0.788, "+79 %"), (12.3, "+1,230 %"),
    (1e-9, "+<0.00001 %"),
])
def test_percent_has_sensible_digits(fraction: float | None, shown: str) -> None:
    assert percent(fraction) == shown


@pytest.mark.parametrize(("values", "shown"), [
    ((0.081, 0.072, 0.090), "+8.1 % [7.2, 9.0]"), ((0.0812, 0.051, 0.111), "+8 % [5, 11]"),
    ((0.00412, 0.0035, 0.0047), "+0.41 % [0.35, 0.47]"), ((0.0, -0.004, 0.004), "0.0 % [-0.4, 0.4]"),
    ((-0.0001, -0.02, 0.02), "0 % [-2, 2]"), ((0.1, None, None), "+10 % [no interval]"), ((None, None, None), "N/A"),
])
def test_measured_percent_has_the_digits_of_its_interval(values: tuple[float | None, ...], shown: str) -> None:
    assert percent_interval(*values) == shown


def test_decimals_follow_the_half_width() -> None:
    assert [interval_decimals(0.0, 0.02 * points / 1.0) for points in (0.03, 0.5, 0.9, 1.5, 3.0)] == [2, 1, 1, 1, 0]


def test_quantities_have_four_digits_and_a_prefix() -> None:
    assert [quantity(value) for value in (None, 0, 174, 9999, 25_557_032, 4_089_184_256)] == [
        "N/A", "0", "174", "9,999", "25.56 M", "4.089 G"]
    assert quantity(86_480_000, "B", signed=True) == "+86.48 MB"
    assert [milliseconds(value) for value in (31.234, 0.5, -2.0)] == ["31.2 ms", "0.500 ms", "-2.00 ms"]


def test_failed_rows_are_in_the_table_with_their_reason() -> None:
    table = frame([replace(record("se", 2), status="failed", error="why")])
    assert table.loc[0, "error"] == "why"

"""Published gains: each from one table and one recipe, as printed; ranges for networks that nobody published."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from secost.answers.published import (
    PublishedAccuracy,
    PublishedGain,
    left_out_pairs,
    own_count,
    published_accuracies,
    published_gains,
    references,
)
from secost.cli import main
from secost.errors import UnknownNameError
from tests import own_counts


def printed(source: str, table: str, model: str, attention: str, reduction: int | None = None) -> list[float]:
    return [
        pair.points for pair in published_gains([attention])
        if pair.row.source.startswith(source) and pair.row.table.startswith(table) and pair.row.model == model
        and reduction in (None, pair.row.reduction)
    ]


@pytest.mark.parametrize(
    ("source", "table", "model", "attention", "points"),
    [  # errors as printed: SENet's Tables 2 and 3, ECA-Net's Table 3, CBAM's ImageNet table
        ("SENet arXiv", "Table 2 (re", "ResNet-50", "se", 24.80 - 23.29),
        ("SENet arXiv", "Table 2 (re", "VGG-16", "se", 27.02 - 25.22),
        ("SENet arXiv", "Table 3", "MobileNet", "se", 28.4 - 25.3),
        ("ECA-Net arXiv", "Table 3", "MobileNetV2", "eca", 28.36 - 27.44),
        ("CBAM arXiv", "ImageNet", "ResNet-50", "cbam", 24.56 - 22.66),
        ("CBAM arXiv", "ImageNet", "ResNet-50", "se", 24.56 - 23.14),
    ],
)
def test_a_gain_is_the_difference_of_two_figures_of_one_table(
    source: str, table: str, model: str, attention: str, points: float
) -> None:
    assert printed(source, table, model, attention) == [pytest.approx(points, abs=1e-9)]


def test_ablations_have_their_own_baseline() -> None:
    """SENet's Table 10 starts at 23.30, not at the 24.80 of Table 2."""
    found = {ratio: printed("SENet arXiv", "Table 10", "ResNet-50", "se", ratio)[0] for ratio in (2, 4, 8, 16, 32)}
    assert found == {2: 1.01, 4: 1.05, 8: 1.04, 16: 1.02, 32: 0.58}


def test_a_gain_can_be_negative() -> None:
    by_recipe = {pair.row.recipe: pair.points for pair in published_gains(["se"], "resnet")
                 if pair.row.model == "resnet50" and pair.row.resolution == 224}
    assert by_recipe == {"a1_in1k": -0.37, "a2_in1k": pytest.approx(0.274), "a3_in1k": pytest.approx(-1.016)}


def test_no_gain_crosses_a_table_a_recipe_a_network_or_a_resolution() -> None:
    def place(row: PublishedAccuracy) -> tuple[Any, ...]:
        return row.source, row.table, row.recipe, row.dataset, row.model, row.resolution

    gains = published_gains()
    assert len(gains) > 100
    assert all(place(pair.base) == place(pair.row) and pair.base.attention == "none" for pair in gains)
    assert all(pair.base.comparable and pair.row.comparable for pair in gains)


@pytest.mark.parametrize("note", ["copied into ECA", "lite", "regnety", "(t stem)", "ra_in1k; "])
def test_what_is_of_another_recipe_or_another_network_is_subtracted_from_nothing(note: str) -> None:
    strange = [row for row in published_accuracies() if note in f"{row.note} {row.model}"]
    assert not any(row.comparable for row in strange)


def test_every_row_names_its_source_and_licence_and_is_a_percentage() -> None:
    assert all(row.source and row.table and row.licence and 0 < row.top1 < 100 for row in published_accuracies())


def test_a_copied_row_names_the_row_it_was_copied_from() -> None:
    """Which is in the file, of the same network and attention, with the same accuracy to the copy's digits."""
    rows = published_accuracies()
    copies = [row for row in rows if row.copied_from]
    assert len(copies) >= 16
    for copy in copies:
        origins = [row for row in rows if f"{row.source}, {row.table}" == copy.copied_from and not row.copied_from
                   and (row.network, row.attention) == (copy.network, copy.attention)
                   and round(row.top1, 1 if copy.source.startswith("TResNet") else 2) == copy.top1]
        assert origins, copy


def test_no_two_studies_print_one_accuracy_of_one_network_unless_one_is_marked() -> None:
    """Gather-Excite's baseline of ResNet-50 is that of the same authors' SENet; its other trainings are new."""
    printed: dict[tuple[object, ...], set[str]] = {}
    for row in published_accuracies():
        if row.comparable and row.network and not row.copied_from:
            printed.setdefault((row.network, row.attention, row.dataset, row.top1), set()).add(row.source)
    twice = {key for key, sources in printed.items() if len(sources) > 1}
    assert twice == {("resnet50", "none", "ImageNet-1k", 76.7)}


def test_a_copied_training_and_a_borrowed_baseline_make_no_pair_and_say_why() -> None:
    """ECA-Net's Table 3: SE and CBAM are of their papers, and ECA's own ResNets stand beside SENet's baseline."""
    assert not any(pair.row.source.startswith("ECA-Net") and pair.row.model.startswith("ResNet")
                   for pair in published_gains())
    left_out = left_out_pairs(["eca", "cbam", "se"], None, None)
    why = {(pair.row.attention, pair.row.model): pair.left_out for pair in left_out if pair.row.table == "Table 3"}
    assert "same training as in CBAM" in why["cbam", "ResNet-50"]
    assert "same training as in SENet" in why["se", "ResNet-50"]
    assert "baseline is that of SENet" in why["eca", "ResNet-50"] and ("eca", "MobileNetV2") not in why
    assert references("cbam")[0].median == pytest.approx(1.30) and references("se")[0].median == pytest.approx(0.888)


def test_of_several_r_under_one_baseline_the_asked_or_the_standard_one_counts() -> None:
    table_10 = [pair for pair in published_gains(["se"]) if pair.row.table.startswith("Table 10")]
    assert references("se", table_10)[0].median == pytest.approx(1.02) and references("se", table_10)[0].pairs == 1
    of_32 = [pair for pair in published_gains(["se"], None, 32) if pair.row.reduction is not None]
    assert [pair.points for pair in of_32] == [0.58] and references("se", of_32)[0].median == pytest.approx(0.58)


def digits(text: str) -> float:
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def test_what_is_printed_is_what_secost_counts_or_the_row_says_why_not() -> None:
    """Within the printed digits. A stated reason covers little: stride on the other convolution is 0.23 GMACs."""
    text = (own_counts.FILE.parent / "published_accuracy.csv").read_text(encoding="utf-8")
    checked = 0
    for row, cells in zip(published_accuracies(), csv.DictReader(io.StringIO(text)), strict=True):
        count = own_count(row)
        if count is None:
            continue
        units = (2**20, 2**30) if row.binary_units else (10**6, 10**9)
        printed = [(cells["params_m"], count.params / units[0], 0.1)]
        printed += [(cells["gmacs"], count.macs / units[1], 0.12)] if row.resolution in (None, 224) else []
        off = [(abs(float(cell) - mine), digits(cell), most) for cell, mine, most in printed if cell]
        checked += len(off)
        assert all(far <= most for far, _, most in off), row
        assert any(far > near + 1e-9 for far, near, _ in off) == bool(row.counts_differ), row
    assert checked > 120


def test_one_training_counts_once_in_the_reference_class() -> None:
    """SENet prints one pair in three tables; timm tests one training at two sizes."""
    whole = references("se")[0]
    assert whole.kind == "all" and whole.negative >= 2 and whole.low == pytest.approx(-1.016)
    assert whole.low <= whole.median <= whole.high and whole.high == pytest.approx(3.1)
    by_kind = {found.kind: found.pairs for found in references("se")}
    assert sum(count for kind, count in by_kind.items() if kind.startswith("family")) == by_kind["all"]
    pairs = [pair for pair in published_gains(["se"]) if pair.row.model in ("ResNet-50", "resnet50")]
    assert by_kind["family resnet"] < len(pairs) + 20


def test_a_reference_class_is_the_median_of_its_pairs() -> None:
    base = next(row for row in published_accuracies() if row.comparable and row.attention == "none")

    def pair(model: str, gain: float) -> PublishedGain:
        from dataclasses import replace

        return PublishedGain(replace(base, model=model), replace(base, model=model, attention="se", placement="",
                                                               reduction=16, top1=base.top1 + gain))

    found = references("se", [pair("a", 1.0), pair("b", 3.0), pair("c", -0.5), pair("c", -0.5)])[0]
    assert (found.pairs, found.median, found.low, found.high, found.negative) == (3, 1.0, -0.5, 3.0, 1)


def test_our_own_counts_stand_beside_the_printed_ones() -> None:
    """SENet's Table 2 prints 3.86 and 3.87 GMACs for ResNet-50, in the version of 2017."""
    pair = next(pair for pair in published_gains(["se"]) if pair.row.table.startswith("Table 2 (re"))
    base, with_se = own_count(pair.base), own_count(pair.row)
    assert base is not None and with_se is not None
    assert (base.macs, with_se.macs) == (pytest.approx(3.86e9, abs=2e7), pytest.approx(3.87e9, abs=2e7))
    assert base.params == 25_557_032


@pytest.mark.slow
def test_the_file_of_own_counts_is_what_the_tool_counts() -> None:
    assert own_counts.text() == own_counts.FILE.read_text(encoding="utf-8")


# --- the command ------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["benefit", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_cites_each_gain(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--attention", "se,eca", "--format", "json")
    found = json.loads(out)
    assert code == 0 and found["kind"] == "benefit"
    assert {row["attention"] for row in found["gains"]} == {"se", "eca"}
    assert all(row["source"] and row["table"] for row in found["gains"])
    assert {row["attention"] for row in found["references"]} == {"se", "eca"}


def test_a_family_narrows_it(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--attention", "se", "--family", "vgg", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(out)))
    assert [row["model"] for row in found] == ["VGG-16"] and found[0]["gain_points"] == "1.8"


def test_the_table_says_that_it_is_no_prediction(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, "--attention", "se", "--family", "resnet")
    assert code == 0 and "no prediction for your network" in " ".join(out.split()) and "+1.51" in out and "-1.02" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--attention", "sse"], "did you mean"), (["--family", "resnt"], "did you mean 'resnet'"),
     (["--format", "xml"], "unknown format")],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and said.replace("'", "") in err.replace("'", "") and err.count("\n") == 1


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="resnext"):
        published_gains([], "resnex")

"""`secost study quantization`: paired cells, ratios against their definition, what is refused, and the run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from secost.cli import main
from secost.errors import BadSpecError
from secost.pages.quantization import findings
from secost.runs.store import read_run
from secost.runs.study import RANGES, Full, Quantization, Rounded
from secost.studies import quantization as study
from secost.studies.quantization import quantization


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["study", "quantization", *arguments, "-q"])
    out, err = capsys.readouterr()
    return code, out, err


def made(db: dict[str, float], top1: dict[str, float]) -> Quantization:
    """A study of three seeds in which a placement has the same accuracy and noise in each, but for a hundredth."""
    found = Quantization("net", "se r=4", "digits", ("depthwise-pre", "depthwise"), (8, 4), 1, 0)
    for seed in range(3):
        for name in found.variants:
            luck = 0.01 * seed
            found.full.append(Full(name, seed, 99.0 + luck))
            for bits in found.bits:
                for ranges in RANGES:
                    sources = {} if name == "none" else {"rest": 20.0 + luck, "gate": 40.0, "product": 30.0}
                    found.rounded.append(Rounded(name, seed, bits, ranges, top1.get(name, 98.0) + luck,
                                                 db.get(name, 20.0) + luck, {"block": 25.0}, sources, 0.01))
    return found


def test_a_placement_that_is_better_in_every_seed_is_found() -> None:
    told = findings(made({"depthwise": 23.0}, {}))
    assert "differ by +0.00 [0.00, 0.00] points (3 seeds): not told apart" in told[0]
    assert "depthwise stands it better (2 of 4 intervals leave out 0, at 8 and 4 bits" in told[1]
    assert "the rest of the network 20.0" in told[2]


def test_equal_placements_are_not_told_apart() -> None:
    assert "neither placement stands low precision better" in findings(made({}, {}))[1]


def test_decibels_are_those_of_the_definition() -> None:
    signal = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    noisy = signal + 0.1 * noise
    expected = 10 * math.log10(float((signal**2).sum() / ((noisy - signal) ** 2).sum()))
    assert study._decibels(signal, noisy) == pytest.approx(expected, abs=1e-4)
    assert study._decibels(signal, noisy) == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(("given", "told"), [
    ({"bits": [1]}, "--bits 1 is not possible: give 2 to 16"), ({"bits": [8, 17]}, "--bits 17"),
    ({"bits": []}, "--bits"), ({"placements": []}, "--placement"), ({"qat_epochs": -1}, "--qat-epochs -1"),
    ({"jobs": 0}, "--jobs 0"), ({"attention": "none"}, "--attention none"), ({"attention": "native"}, "native"),
])
def test_what_cannot_be_done_is_refused_before_any_work(given: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match=told):
        quantization(out=tmp_path / "run", **given)  # type: ignore[arg-type]


def test_a_placement_without_sites_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "small:vgg", "--seeds", "1", "--epochs", "1", "-o", str(tmp_path / "run"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has no depthwise-pre site" in err


@pytest.mark.slow
def test_a_small_run_holds_every_cell_and_is_taken_up_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("--seeds", "2", "--epochs", "1", "--qat-epochs", "1", "--bits", "8,3", "--backend", "", "--no-latency",
             "--format", "json", "-o", str(out))
    code, first, _ = run(capsys, *words)
    assert code == 0
    document = json.loads(first)
    cells = {(row["placement"], row["bits"], row["ranges"], row["seed"]) for row in document["rounded"]}
    assert len(cells) == len(document["rounded"]) == 3 * 2 * 2 * 2
    by_bits = {bits: [row["output_db"] for row in document["rounded"] if row["bits"] == bits] for bits in (8, 3)}
    assert min(by_bits[8]) > max(by_bits[3])
    assert all(row["trained_top1"] is not None for row in document["rounded"] if row["ranges"] == "percentile")
    assert all(row["gate_error"] is None for row in document["rounded"] if row["placement"] == "none")
    assert {"study-quantization.md", "study-quantization.html", "quantization.png", "records.sqlite"} <= {
        path.name for path in out.iterdir()}
    again = json.loads(run(capsys, *words)[1])
    assert again == document
    _, records, _ = read_run(out)
    assert len([record for record in records if record.top1 is not None]) == 8  # none at both placements, one training


@pytest.mark.slow
def test_real_int8_keeps_the_accuracy_that_the_simulation_keeps(tmp_path: Path) -> None:
    found = quantization(bits=[8], seeds=1, epochs=8, qat_epochs=0, latency=False, out=tmp_path / "run")
    for full in found.full:
        assert set(full.int8_top1) == set(study.REAL_BACKENDS)
        simulated = found.at(full.placement, 8, "min-max")[0].top1
        assert all(abs(top1 - simulated) < 1.0 for top1 in full.int8_top1.values())

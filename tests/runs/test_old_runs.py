"""Runs of version 0.1.0 open, go on, compare and render as they did: fixtures that are never made again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from secost.cli import main
from secost.runs.store import read_run

OLD = Path(__file__).parents[1] / "runs_of_0_1_0"
BEGUN = ["sweep", "--model", "resnet18", "--model", "torchvision:vgg11", "--model", "regnetx_002", "--attention",
         "se,cbam", "-r", "4,64", "--no-latency", "--resolution", "64", "-q"]


def copied(run: str, folder: Path) -> Path:
    """The run alone in a folder of its own, so that nothing beside the fixture is written."""
    folder = folder / run
    folder.mkdir()
    shutil.copy(OLD / run / "records.sqlite", folder)
    return folder


@pytest.mark.parametrize(("run", "formats", "files"), [
    ("counts", "md,csv", ("report.md", "records.csv")), ("timed", "md,csv", ("report.md", "records.csv")),
    ("trained", "md", ("report.md",)), ("begun", "csv", ("records.csv",)),
])
def test_it_renders_as_it_did(run: str, formats: str, files: tuple[str, ...], tmp_path: Path) -> None:
    """But for what is published now, which these runs are not asked to stand beside."""
    benefit = "auto" if run == "trained" else "none"
    assert main(["report", str(copied(run, tmp_path)), "--format", formats, "--benefit", benefit]) == 0
    for file in files:
        assert (tmp_path / run / file).read_text() == (OLD / run / file).read_text(), file


@pytest.mark.parametrize("run", ["counts", "timed"])
def test_it_compares_as_it_did(run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(OLD)
    assert main(["compare", run, run, "--format", "md"]) == 0
    assert capsys.readouterr().out == (OLD / run / "compare.md").read_text()


def test_a_budget_is_decided_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", str(OLD / "timed"), "--max-latency", "20%", "--benefit", "none", "--format", "md"]) == 1
    assert capsys.readouterr().out == (OLD / "timed" / "budget.md").read_text()


def test_a_run_that_is_whole_is_left_as_it_is(tmp_path: Path) -> None:
    folder = copied("counts", tmp_path)
    before = (folder / "records.sqlite").read_bytes()
    command = ["profile", "resnet18", "--attention", "se,eca", "-r", "4,16", "--no-latency", "--resolution", "64", "-q"]
    assert main([*command, "-o", str(folder)]) == 0
    assert (folder / "records.sqlite").read_bytes() == before


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_what_it_would_have_had(tmp_path: Path) -> None:
    folder = copied("begun", tmp_path)
    kept = read_run(folder)[1]
    assert len(kept) == 10
    assert main([*BEGUN, "-o", str(folder)]) == 1  # r = 64 does not fit one network, and is a failed record
    assert [record for record in read_run(folder)[1] if record.key in {old.key for old in kept}] == kept
    with (OLD / "begun" / "resumed.csv").open() as before, (folder / "records.csv").open() as now:
        assert list(csv.DictReader(now)) == list(csv.DictReader(before))


def test_another_spec_is_refused_naming_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied("begun", tmp_path)
    assert main([*BEGUN, "--resolution", "96", "-o", str(folder)]) == 2
    assert "resolution" in capsys.readouterr().err

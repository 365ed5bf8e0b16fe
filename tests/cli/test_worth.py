"""What profile and sweep are told of gains and prices: wrong requests are one line, before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secost.cli import main

COUNT = ["profile", "small:resnet", "--attention", "se", "-r", "4", "--resolution", "32", "--no-latency", "-q"]


@pytest.mark.parametrize(("arguments", "said"), [
    (["--benefit", "trained"], "nothing is trained here"), (["--benefit", "file"], "give --accuracy mine.csv"),
    (["--benefit", "hearsay"], "unknown source of benefit"), (["--accuracy", "absent.csv"], "absent.csv"),
    (["--benefit", "published", "--accuracy", "absent.csv"], "never mixed"), (["--price", "dear"], "no share"),
    (["--price", "-3%"], "no share"),
])
def test_what_can_not_be_had_is_told_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    run = tmp_path / "run"
    assert main([*COUNT, "-o", str(run), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == "" and said in told.err and told.err.count("\n") == 1 and not run.exists()


def test_a_network_that_nobody_published_borrows_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COUNT, "--format", "json"]) == 0
    verdict = json.loads(capsys.readouterr().out)["verdict"]
    assert verdict["borrowed"] and verdict["evidence"] == "published"
    assert verdict["gain_low"] < verdict["gain"] < verdict["gain_high"]
    assert "secost train" in verdict["next_step"]


def test_costs_are_shown_where_nothing_is_published_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    simam = ["simam" if word == "se" else word for word in COUNT]
    assert main([*simam, "--benefit", "published", "--format", "json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["verdict"]["gain"] is None and "nothing comparable is published" in told.err


def test_with_benefit_none_the_records_tell_the_cost_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COUNT, "--benefit", "none", "--format", "json"]) == 0
    verdict = json.loads(capsys.readouterr().out)["verdict"]
    assert (verdict["answer"], verdict["evidence"], verdict["gain"]) == ("can't tell", None, None)

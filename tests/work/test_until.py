"""Seeds are added until the gains are told, and a run goes on with more of them; trainings are made up."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import secost
from secost.answers.evidence import TRAINED, gains_from, trained_gains, trained_seeds
from secost.cli import main
from secost.errors import RunError
from secost.plan.spec import Spec
from secost.plan.trials import Listener, Trial
from secost.runs.records import Record
from secost.runs.store import read_run
from secost.sequential import looked_difference
from secost.training.loop import Trained
from secost.work.trainings import train_spec

CLASSIFIER = f"{Path(__file__).parents[1] / 'small_nets.py'}:classifier"
OPTIONS: dict[str, Any] = {"attentions": ["se"], "reductions": [4], "latency": False, "epochs": 1}
GAINS = {"none": 0.0, "se": 0.0, "eca": 3.0}
SPREAD = 0.4


def made_up(trial: Trial, *_: Any) -> dict[str, Any]:
    """An accuracy that hangs on the variant and the seed alone."""
    assert trial.training is not None
    drawn = random.Random(f"{trial.label} {trial.training.seed}").gauss(GAINS[trial.attention], SPREAD)
    return asdict(Trained(70 + drawn, [{"epoch": 1, "loss": 1.0, "train_top1": 60.0, "test_top1": 70 + drawn}], 100.0))


@pytest.fixture(autouse=True)
def made_up_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secost.work.trainings.training_job", made_up)
    monkeypatch.setattr("secost.work.trainings.can_fork", lambda: False)


def seeds_of(records: list[Record], label: str = "se r=4") -> list[int | None]:
    return [record.seed for record in records if record.trained and record.label == label]


def test_seeds_are_added_until_the_gain_is_told_and_the_report_says_by_what(tmp_path: Path) -> None:
    records = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, until=0.6, max_seeds=40)
    count = len(seeds_of(records))
    (gain,), (seeds,) = trained_gains(records), trained_seeds(records)
    assert 5 < count < 40 and seeds_of(records) == list(range(count)) == seeds_of(records, "none")
    assert (gain.low, gain.high) == (looked_difference(seeds.pairs).low, looked_difference(seeds.pairs).high)
    assert gain.high is not None and gain.low is not None and (gain.high - gain.low) / 2 <= 0.6
    assert looked_difference(seeds.pairs[:-1]).half_width > 0.6  # one seed fewer was not enough
    assert "looked at after each" in gain.basis
    assert gains_from(TRAINED, None, read_run(tmp_path)[1]).gains == [gain]


def test_a_clear_gain_needs_no_further_seeds_but_waits_for_the_others(tmp_path: Path) -> None:
    alone = secost.train(CLASSIFIER, ["eca"], out=tmp_path / "a", epochs=1, latency=False, until=0.6)
    assert len(seeds_of(alone, "eca")) == 5
    both = secost.train(CLASSIFIER, ["eca", "se"], [4], out=tmp_path / "b", epochs=1, latency=False, until=0.6,
                        max_seeds=40)
    assert len(seeds_of(both, "eca")) == len(seeds_of(both)) > 5


def test_at_the_last_seed_the_note_says_how_many_it_may_take(tmp_path: Path) -> None:
    notes: list[str] = []
    records = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, until=0.6, max_seeds=6,
                           listener=Listener(on_note=notes.append))
    assert len(seeds_of(records)) == 6
    assert notes[-1].startswith("not told after 6 seeds: se r=4 ") and "points; give --max-seeds " in notes[-1]


def test_a_run_goes_on_with_more_seeds_in_the_same_folder_and_trains_none_twice(tmp_path: Path) -> None:
    first = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path / "a", until=0.6, max_seeds=6)
    made: list[Record] = []
    more = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path / "a", until=0.6, max_seeds=40,
                        listener=Listener(on_record=made.append))
    whole = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path / "b", until=0.6, max_seeds=40)
    assert {record.key for record in made}.isdisjoint(record.key for record in first)
    assert [(r.key, r.top1) for r in more] == [(r.key, r.top1) for r in whole]
    spec = read_run(tmp_path / "a")[0]
    assert spec.train is not None and spec.train.max_seeds == 40


def test_a_run_of_fixed_seeds_may_be_looked_at_from_now_on_and_never_the_other_way(tmp_path: Path) -> None:
    fixed = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, seeds=7)
    assert "until" not in (fixed[-1].samples or {})
    looked = secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, until=0.6, max_seeds=40)
    assert len(seeds_of(looked)) > 7 and {r.key for r in fixed} <= {r.key for r in looked}
    with pytest.raises(RunError, match=r"another spec: 'train.until' was 0.6 and is now None"):
        secost.train(CLASSIFIER, **OPTIONS, out=tmp_path)


def test_more_fixed_seeds_after_a_look_are_refused(tmp_path: Path) -> None:
    secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, seeds=2)
    with pytest.raises(RunError, match=r"'train.seeds' was 2 and is now 3"):
        secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, seeds=3)


def test_other_values_of_a_run_that_looks_are_not_to_be_changed(tmp_path: Path) -> None:
    secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, until=1.5)
    with pytest.raises(RunError, match=r"'train.epochs' was 1 and is now 2"):
        secost.train(CLASSIFIER, **(OPTIONS | {"epochs": 2}), out=tmp_path, until=1.5)


def test_a_variant_that_only_fails_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(trial: Trial, *rest: Any) -> dict[str, Any]:
        if trial.attention == "se":
            raise ValueError("never")
        return made_up(trial, *rest)

    monkeypatch.setattr("secost.work.trainings.training_job", failing)
    records = secost.train(CLASSIFIER, ["se", "eca"], [4], out=tmp_path, epochs=1, latency=False, until=0.6)
    assert len(seeds_of(records, "eca")) == 5


def test_the_same_network_at_two_placements_is_trained_once_for_added_seeds_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[str] = []

    def counted(trial: Trial, *rest: Any) -> dict[str, Any]:
        trained.append(trial.attention)
        return made_up(trial, *rest)

    monkeypatch.setattr("secost.work.trainings.training_job", counted)
    values = {"models": CLASSIFIER, "attention": "se", "reductions": 4, "latency": False,
              "placement": ["residual", "conv"], "train": {"epochs": 1, "until": 0.6, "max_seeds": 7}}
    records = train_spec(Spec.from_dict(values), tmp_path).records
    assert trained.count("none") == 7
    assert sum(record.trained and record.attention == "none" for record in records) == 14


# --- the dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_the_work_and_what_so_many_seeds_can_tell_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("secost.work.forecast._tried", lambda trial, course: (100.0, 2 * 10**9))
    words = ["train", CLASSIFIER, "--attention", "se", "-r", "4", "--epochs", "10", "--no-latency", "--dry-run",
             "--train-images", "500", "--jobs", "2", "-o", str(tmp_path / "run")]
    assert main(words) == 0
    said = capsys.readouterr().out
    # 500 images in 10 epochs and 597 test images, at half the price each, in five tests: 65 s a training.
    assert "10 trainings of 10 epochs on 500 images of digits from 5 seeds; 0 done" in said
    assert "about 5 min left, 2 at a time (images a second: none 100, se r=4 100; tried" in said
    assert "about 2.0 GB of memory" in said and not (tmp_path / "run").exists()
    assert "from 5 seeds a gain of 0.50 points is told from none in 8 of 10 runs" in said
    assert main([*words, "--until", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "from 5 seeds, up to 20 seeds" in said and "known to 0.3 points from about 10 seeds" in said


def test_a_dry_run_beside_a_run_takes_speed_and_spread_from_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secost.train(CLASSIFIER, **OPTIONS, out=tmp_path, until=0.6, max_seeds=6)
    assert main(["train", CLASSIFIER, "--attention", "se", "-r", "4", "--epochs", "1", "--no-latency", "--dry-run",
                 "--until", "0.6", "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "10 trainings" in said and "; 10 done" in said and "(seen in this run)" in said
    assert main(["train", CLASSIFIER, "--attention", "eca", "--dry-run", "-o", str(tmp_path)]) == 2
    assert "has another spec" in capsys.readouterr().err

"""Training from paired seeds: the same batches for every variant, the same result when killed, to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import secost
from secost.answers.evidence import trained_gains, trained_seeds
from secost.cli import main
from secost.errors import BadSpecError, UnknownNameError
from secost.networks.sources import load
from secost.plan.spec import Spec, TrainSpec
from secost.plan.trials import Setting, Training, Trial
from secost.runs.records import DONE, FAILED, Record
from secost.runs.store import read_run
from secost.training import loop as training_module
from secost.training.datasets import DATASETS, Data, Split, load_data
from secost.training.loop import accuracy, train
from secost.work.trainings import CHECKPOINTS, build

NETS = str(Path(__file__).parents[1].joinpath("small_nets.py"))
CLASSIFIER = f"{NETS}:classifier"
SHORT: dict[str, Any] = {"dataset": "digits", "seeds": 2, "epochs": 2, "latency": False}


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits: Data) -> Data:
    """A little of digits: 256 images and 128."""
    train_part, test_part = (Split(s.images[:n], s.labels[:n]) for s, n in ((digits.train, 256), (digits.test, 128)))
    return Data("few", train_part, test_part, 10)


def one(**changes: Any) -> Training:
    seed = changes.pop("seed", 0)
    return TrainSpec(**({"epochs": 3} | changes)).training(seed)


def fresh() -> torch.nn.Module:
    return load(CLASSIFIER, classes=10)


# --- data sets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "channel-cue", "channel-free"])
def test_embedded_sets_need_no_network_and_are_the_same_each_time(name: str) -> None:
    first, second = load_data(name), load_data(name)
    assert torch.equal(first.train.images, second.train.images) and torch.equal(first.test.labels, second.test.labels)
    assert first.train.images.shape[1] == 3 and first.train.images.dtype == torch.float32
    assert abs(float(first.train.images.mean())) < 1e-3
    assert set(first.train.labels.tolist()) == set(range(first.classes))


def test_digits_are_scikit_learns() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.classes, data.resolution) == (1200, 597, 10, 8)


def test_a_set_that_is_not_there_says_what_to_put_where_and_fetches_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match=r"'cifar10' is not in .* nothing is fetched unasked: .* download=True"):
        load_data("cifar10", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnknownNameError, match="did you mean digits"):
        load_data("digit")


def test_a_folder_of_images_is_read_and_its_classes_are_checked(tmp_path: Path) -> None:
    from PIL import Image

    for part in ("train", "test"):
        for shade, name in ((0, "dark"), (255, "light")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (80, 100), (shade, shade, number)).save(tmp_path / part / name / f"{number}.png")
    data = load_data(str(tmp_path))
    assert data.train.images.shape == (6, 3, 64, 64) and data.classes == 2 and data.flips
    (tmp_path / "test" / "other").mkdir()
    Image.new("RGB", (80, 100)).save(tmp_path / "test" / "other" / "0.png")
    with pytest.raises(BadSpecError, match=r"different classes \(other\)"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("name", list(DATASETS.names()))
def test_every_data_set_keeps_the_contract(name: str, tmp_path: Path) -> None:
    source = DATASETS.get(name)
    assert source.name == name and source.summary
    try:
        data = source.make(tmp_path)
    except BadSpecError as error:
        assert "\n" not in str(error)
        return
    assert len(data.train) == len(data.train.images) and data.test.images.shape[1:] == data.train.images.shape[1:]


# --- one training -----------------------------------------------------------------------------------------------------


def test_a_training_learns_and_tells_its_curve(few: Data) -> None:
    found = train(fresh(), few, one(epochs=8))
    assert found.top1 == found.curve[-1]["test_top1"] > 40.0
    assert [row["epoch"] for row in found.curve] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found.curve[-1]["loss"] < found.curve[0]["loss"] and found.images_per_s


def test_the_loop_is_the_plain_one(few: Data) -> None:
    """The same weights as a loop written out by hand: torch's SGD, timm's cosine, no augmentation."""
    from timm.scheduler import CosineLRScheduler

    setting = one(epochs=2, augment=False)
    net, mine = fresh(), fresh()
    train(net, few, setting)
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = CosineLRScheduler(optimizer, 8, warmup_t=1, warmup_lr_init=5e-4, t_in_epochs=False)
    mine.train()
    for epoch in range(2):
        seed = training_module.draw_seed(0, epoch, "order")
        order = torch.randperm(256, generator=torch.Generator().manual_seed(seed))
        for step in range(4):
            picked = order[64 * step : 64 * (step + 1)]
            schedule.step_update(4 * epoch + step)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(mine(few.train.images[picked]), few.train.labels[picked]).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), mine.state_dict().values(), strict=True))


@pytest.mark.parametrize("deterministic", [False, True])
def test_one_seed_gives_one_result_to_the_bit(few: Data, deterministic: bool) -> None:
    nets = [fresh(), fresh()]
    found = [train(net, few, one(epochs=2, deterministic=deterministic)) for net in nets]
    assert found[0].curve == found[1].curve
    weights = [net.state_dict() for net in nets]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_another_result(few: Data) -> None:
    assert train(fresh(), few, one(epochs=1)).curve != train(fresh(), few, one(epochs=1, seed=1)).curve


def test_a_training_leaves_torchs_random_state_as_it_was(few: Data) -> None:
    before = torch.get_rng_state()
    train(fresh(), few, one(epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_accuracy_is_counted_in_eval_mode_and_leaves_the_mode(few: Data) -> None:
    net = fresh().train()
    correct = (net.eval()(few.test.images).argmax(1) == few.test.labels).float().mean()
    net.train()
    assert accuracy(net, few.test) == pytest.approx(100 * float(correct)) and net.training


def test_a_loss_that_is_no_number_ends_the_training(few: Data) -> None:
    with pytest.raises(training_module.TrainingError, match=r"the loss became nan in epoch 1"):
        train(load(f"{NETS}:diverging", classes=10), few, one())


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stop_after(epochs: int) -> Any:
    def on_epoch(epoch: int) -> None:
        if epoch == epochs:
            raise Stopped

    return on_epoch


def test_a_training_that_goes_on_ends_where_an_undisturbed_one_does(few: Data, tmp_path: Path) -> None:
    path, whole, resumed = tmp_path / "c.safetensors", fresh(), fresh()
    expected = train(whole, few, one(epochs=4))
    with pytest.raises(Stopped):
        train(fresh(), few, one(epochs=4), path, stop_after(2))
    found = train(resumed, few, one(epochs=4), path)
    assert found.resumed_at == 2 and found.curve == expected.curve
    weights = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_starts_that_seed_again(few: Data, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(Stopped):
        train(fresh(), few, one(), path, stop_after(2))
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-100] ^= 1
    path.write_bytes({"cut": content[:-50], "flipped": content, "empty": b"", "text": b"hello"}[damage])
    found = train(fresh(), few, one(), path)
    assert found.damaged and found.resumed_at == 0 and found.curve == train(fresh(), few, one()).curve


def test_a_checkpoint_of_another_training_is_not_gone_on_with(few: Data, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(Stopped):
        train(fresh(), few, one(), path, stop_after(1))
    assert train(fresh(), few, one(learning_rate=0.01), path).damaged


# --- pairs ------------------------------------------------------------------------------------------------------------


def trial(attention: str, seed: int, ratio: int | None = None) -> Trial:
    setting = Setting(CLASSIFIER, resolution=8)
    return Trial(setting, attention, ratio, latency=False, training=TrainSpec().training(seed))


def test_variants_of_one_seed_have_the_same_weights_where_they_have_the_same_layers(digits: Data) -> None:
    spec = Spec(models=(CLASSIFIER,), train=TrainSpec())
    none, se, other = (build(item, spec, digits) for item in (trial("none", 3), trial("se", 3, 4), trial("none", 4)))
    base, with_se = none.state_dict(), se.state_dict()
    assert all(torch.equal(base[name], with_se[name]) for name in base) and len(with_se) > len(base)
    assert not all(torch.equal(base[name], other.state_dict()[name]) for name in base)


def test_the_gain_is_over_pairs_of_seeds_and_a_failed_seed_leaves_its_pair_out() -> None:
    def record(attention: str, seed: int, top1: float | None) -> Record:
        found = Record.of_trial(trial(attention, seed, 4 if attention == "se" else None))
        found.top1, found.status = top1, DONE if top1 is not None else FAILED
        return found

    records = [record("none", 0, 70.0), record("se", 0, 71.0), record("none", 1, 60.0), record("se", 1, 62.0),
               record("none", 2, 80.0), record("se", 2, None)]
    (gain,) = trained_gains(records)
    assert (gain.points, gain.pairs, gain.source) == (1.5, 2, "trained")
    assert trained_seeds(records)[0].pairs == ((70.0, 71.0), (60.0, 62.0))


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_has_costs_and_an_accuracy_for_each_variant_and_seed(tmp_path: Path) -> None:
    records = secost.train(CLASSIFIER, ["se"], [4], out=tmp_path / "run", **SHORT)
    costs, trained = records[:2], records[2:]
    assert [record.label for record in costs] == ["none", "se r=4"] and costs[0].resolution == 8
    assert [(r.label, r.seed) for r in trained] == [("none", 0), ("se r=4", 0), ("none", 1), ("se r=4", 1)]
    assert all(record.status == DONE and 0 < (record.top1 or 0) <= 100 for record in trained)
    assert all(len((record.samples or {})["curve"]) == 2 for record in trained)
    assert list((tmp_path / "run" / CHECKPOINTS).iterdir()) == []
    assert [record.to_dict() for record in read_run(tmp_path / "run")[1]] == [record.to_dict() for record in records]


def test_two_at_a_time_give_the_accuracies_of_one_at_a_time(tmp_path: Path) -> None:
    found = [[record.top1 for record in secost.train(CLASSIFIER, ["eca"], out=tmp_path / str(jobs), jobs=jobs, **SHORT)]
             for jobs in (1, 2)]
    assert found[0] == found[1] and None not in found[0][2:]


KILLED = textwrap.dedent("""
    import os, signal, sys, threading, time
    import secost
    from pathlib import Path

    def watch():
        folder = Path(sys.argv[2]) / "checkpoints"
        while True:
            if folder.is_dir() and sum(1 for _ in folder.glob("*.safetensors")) > 0:
                os.killpg(0, signal.SIGKILL)
            time.sleep(0.001)
    threading.Thread(target=watch, daemon=True).start()
    secost.train(sys.argv[1], ["se"], [4], out=sys.argv[2], dataset="digits", seeds=1, epochs=6, latency=False)
""")


@pytest.mark.slow
def test_killed_in_mid_training_and_started_again_it_ends_as_undisturbed(tmp_path: Path) -> None:
    options: dict[str, Any] = SHORT | {"seeds": 1, "epochs": 6}
    expected = secost.train(CLASSIFIER, ["se"], [4], out=tmp_path / "whole", **options)
    done = subprocess.run([sys.executable, "-c", KILLED, CLASSIFIER, str(tmp_path / "killed")], check=False,
                          capture_output=True, start_new_session=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert list((tmp_path / "killed" / CHECKPOINTS).glob("*.safetensors"))
    found = secost.train(CLASSIFIER, ["se"], [4], out=tmp_path / "killed", **options)
    assert [(r.key, r.top1) for r in found] == [(r.key, r.top1) for r in expected]
    curves = [[(r.samples or {}).get("curve") for r in records] for records in (found, expected)]
    assert curves[0] == curves[1]


def test_a_nan_loss_is_a_failed_record_and_the_others_go_on(tmp_path: Path) -> None:
    records = secost.train(f"{NETS}:diverging", ["eca"], out=tmp_path / "run", **SHORT)
    trained = [record for record in records if record.trained]
    assert len(trained) == 4 and all(record.status == FAILED for record in trained)
    assert all("the loss became nan" in (record.error or "") for record in trained)


def test_the_report_shows_the_gain_beside_the_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["train", CLASSIFIER, "--attention", "se", "-r", "4", "--seeds", "2", "--epochs", "2", "--no-latency",
                 "-q", "-o", str(tmp_path / "run"), "--format", "md"]
    assert main(arguments) == 0
    page = capsys.readouterr().out
    assert "## What it buys" in page and "Pairing seeds" in page and "digits, 2 epochs, 2 seeds" in page
    assert (tmp_path / "run" / "cost-benefit.png").is_file()
    assert main(["budget", str(tmp_path / "run"), "--benefit", "trained", "--format", "json"]) == 0
    choice = json.loads(capsys.readouterr().out)["decisions"][0]["choice"]
    assert choice["attention"] == "se" and choice["gain_points"] is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"{NETS}:seven_scores"], "gives 7 scores and digits has 10 classes"),
        ([f"{NETS}:no_maps"], "can't take digits's images of 8 px"),
        ([CLASSIFIER, "--dataset", "digit"], "did you mean digits"),
        ([CLASSIFIER, "--seeds", "0"], "seeds 0 is not possible"),
        ([CLASSIFIER, "--jobs", "0"], "--jobs 0 is not possible"),
        ([CLASSIFIER, "--learning-rate", "-1"], "learning_rate -1.0 is not possible"),
        ([CLASSIFIER, "-r", "64"], "reduction 64 is larger than the channels"),
    ],
)
def test_a_wrong_request_is_one_line_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert main(["train", *arguments, "--no-latency", "-q", "-o", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and said in captured.err.replace("'", "'") and captured.err.count("\n") == 1
    assert not list((tmp_path / "run").glob("**/*.safetensors")) if (tmp_path / "run").exists() else True


def test_a_factory_without_num_classes_is_taken_where_its_scores_fit(tmp_path: Path) -> None:
    records = secost.train(f"{NETS}:ten_scores", ["eca"], out=tmp_path / "run", **(SHORT | {"seeds": 1}))
    assert records[-1].top1 is not None


def test_a_single_seed_says_that_it_has_no_interval(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", CLASSIFIER, "--attention", "eca", "--seeds", "1", "--epochs", "1", "--no-latency", "-q", "-o",
                 str(tmp_path / "run")]) == 0
    assert "One seed gives no interval" in " ".join(capsys.readouterr().out.split())


def test_the_process_of_a_training_can_be_found_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A training whose process is killed is a failed record, with the signal's name."""
    monkeypatch.setattr("secost.work.trainings.train", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    records = secost.train(CLASSIFIER, ["eca"], out=tmp_path / "run", **(SHORT | {"seeds": 1}))
    assert {record.status for record in records if record.trained} == {FAILED}
    assert "SIGKILL" in (records[-1].error or "")

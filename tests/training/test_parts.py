"""A part of a training set, folders of images read once, curves, and that the test set decides nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import secost
from secost.cli import main
from secost.errors import BadSpecError
from secost.networks.sources import load
from secost.plan.spec import Spec, TrainSpec
from secost.plan.trials import Setting, Training, Trial
from secost.training import folders
from secost.training.datasets import Data, Split, load_data, part_of
from secost.training.loop import epochs_between_tests, identity, train

CLASSIFIER = f"{Path(__file__).parents[1] / 'small_nets.py'}:classifier"


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


def made(train_images: int, test_images: int, classes: int = 4) -> Data:
    source = torch.Generator().manual_seed(0)
    splits = [Split(torch.randn(count, 3, 8, 8, generator=source), torch.arange(count) % classes)
              for count in (train_images, test_images)]
    return Data("made", splits[0], splits[1], classes)


# --- a part -----------------------------------------------------------------------------------------------------------


def test_a_part_has_as_much_of_each_class_as_the_whole(digits: Data) -> None:
    part = part_of(digits, 0.25)
    assert len(part.train) == 300
    whole, mine = (split.labels.bincount(minlength=10) for split in (digits.train, part.train))
    assert all(abs(int(b) - int(a) * 0.25) <= 1 for a, b in zip(whole, mine, strict=True))


def test_a_part_is_the_same_each_time_and_lies_within_a_larger_one(digits: Data) -> None:
    first, again, larger = part_of(digits, 0.1), part_of(digits, train_images=120), part_of(digits, 0.2)
    assert torch.equal(first.train.labels, again.train.labels)
    assert torch.allclose(first.train.images, again.train.images)

    def pictures(data: Data) -> set[bytes]:
        """In the 16 shades that digits have, whatever they are normalised by."""
        raw = data.train.images - data.train.images.amin((0, 2, 3), keepdim=True)
        return {(16 * image / raw.amax()).round().numpy().tobytes() for image in raw}

    assert len(pictures(first)) == 120 and pictures(first) <= pictures(larger)


def test_a_part_is_normalised_by_itself_and_the_test_set_with_it(digits: Data) -> None:
    part = part_of(digits, train_images=50)
    assert abs(float(part.train.images.mean())) < 1e-5 and len(part.test) == len(digits.test)
    assert not torch.equal(part.test.images, digits.test.images)
    assert part_of(digits) is digits


def test_a_class_of_few_images_is_never_lost() -> None:
    data = made(100, 10)
    labels = torch.zeros(100, dtype=torch.int64)
    labels[7], labels[8], labels[9] = 1, 2, 3
    few = part_of(Data("few", Split(data.train.images, labels), data.test, 4), train_images=6)
    assert set(few.train.labels.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("arguments", "said"), [
    (["--fraction", "0"], "fraction 0.0 is not possible: it is a part of the training set"),
    (["--fraction", "1.5"], "fraction 1.5 is not possible"),
    (["--fraction", "0.001"], "fraction 0.001 is not possible: it leaves 1 of digits's 1200 training images"),
    (["--train-images", "2000"], "train_images 2000 is not possible: digits has 1200 training images"),
    (["--train-images", "0"], "train_images 0 is not possible: it must be 1 or more"),
    (["--fraction", "0.1", "--train-images", "120"], "both say how much to train on: keep one"),
])
def test_a_part_that_can_not_be_is_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert main(["train", CLASSIFIER, *arguments, "--no-latency", "-o", str(tmp_path / "run")]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_part_is_in_the_key_and_the_checkpoint_only_where_it_was_asked_for() -> None:
    """The key and the identity as they were before there were parts: runs and checkpoints made then go on; but no
    training whose images were shifted a batch at a time."""
    plain = Training("digits", 0, 20, 64, 0.05, True, False, False)
    assert Trial(Setting("resnet18"), "none", training=plain).key == "9672edc387c2ed82"
    assert identity(replace(plain, augment=False)) == "c123aaf70b262798"
    assert identity(plain) != "3c043a141d063069"
    some, other = TrainSpec(fraction=0.1).training(0), TrainSpec(train_images=120).training(0)
    assert len({Trial(Setting("resnet18"), "none", training=one).key for one in (plain, some, other)}) == 3
    assert len({identity(one) for one in (plain, some, other)}) == 3
    assert (some.on, other.on, plain.on) == ("digits (10 %)", "digits (120 images)", "digits")
    assert set(Spec(models=("a",), train=TrainSpec()).to_dict()["train"]) == {
        "dataset", "seeds", "epochs", "batch_size", "learning_rate", "augment", "deterministic", "amp", "data"}


def test_trainings_on_a_device_that_is_not_here_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match="device 'cuda' is not here"):
        secost.train(CLASSIFIER, ["eca"], out=tmp_path / "run", train_device="cuda", seeds=1, epochs=1, latency=False)
    assert not (tmp_path / "run").exists()


def test_a_gpus_usual_way_is_bfloat16_and_the_device_of_trainings_is_in_no_key() -> None:
    def amp(**given: Any) -> bool | None:
        spec = Spec.from_dict({"models": "resnet18", **given})
        assert spec.train is not None
        return spec.train.amp

    assert amp(train={}) is False and amp(train={"amp": True}) is True
    assert amp(train={"train_device": "cuda"}) is True and amp(device="cuda", train={}) is True
    assert amp(device="cuda", train={"amp": False}) is False
    here, there = (Spec.from_dict({"models": "resnet18", "train": {"amp": True, **device}})
                   for device in ({}, {"train_device": "cuda"}))
    keys = [[trial.key for comparison in spec.comparisons({"se": True}) for trial in spec.trainings(comparison)]
            for spec in (here, there)]
    assert keys[0] == keys[1]


def test_records_tell_the_part_they_were_trained_on(tmp_path: Path) -> None:
    records = secost.train(CLASSIFIER, ["eca"], out=tmp_path, train_images=100, seeds=1, epochs=1, latency=False)
    assert {record.dataset for record in records if record.trained} == {"digits (100 images)"}


# --- the test set -----------------------------------------------------------------------------------------------------


def fresh() -> torch.nn.Module:
    return load(CLASSIFIER, classes=10)


def test_the_test_set_decides_nothing_and_the_accuracy_is_the_last_epochs(digits: Data) -> None:
    """With other test labels the weights are the same to the bit, and the accuracy is that of the last epoch, not of
    the best one."""
    few = part_of(digits, train_images=200)
    shifted = Data(few.name, few.train, Split(few.test.images, (few.test.labels + 1) % 10), 10)
    nets, training = (fresh(), fresh()), TrainSpec(epochs=6, learning_rate=0.3).training(0)
    found = [train(net, data, training) for net, data in zip(nets, (few, shifted), strict=True)]
    weights = [net.state_dict() for net in nets]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert found[0].top1 != found[1].top1
    for each in found:
        tests = [row["test_top1"] for row in each.curve if "test_top1" in row]
        assert each.top1 == tests[-1] and each.curve[-1]["epoch"] == 6 and "test_top1" in each.curve[-1]
    assert max(row["test_top1"] for row in found[1].curve if "test_top1" in row) > found[1].top1


@pytest.mark.parametrize(("train_images", "test_images", "epochs", "every"), [
    (1200, 597, 40, 1), (50_000, 10_000, 200, 1), (5_000, 10_000, 40, 4), (5_000, 10_000, 15, 3), (100, 10_000, 4, 1),
])
def test_the_curve_costs_little(train_images: int, test_images: int, epochs: int, every: int) -> None:
    splits = [Split(torch.empty(0), torch.empty(count)) for count in (train_images, test_images)]
    assert epochs_between_tests(Data("", splits[0], splits[1], 10), epochs) == every


def test_the_last_epoch_is_tested_whatever_the_step() -> None:
    found = train(load(CLASSIFIER, classes=4), made(300, 300), TrainSpec(epochs=11).training(0))
    assert [row["epoch"] for row in found.curve if "test_top1" in row] == [1, 3, 5, 7, 9, 11]
    assert [row["epoch"] for row in found.curve] == list(range(1, 12))


# --- folders ----------------------------------------------------------------------------------------------------------


def folder_of(root: Path, size: tuple[int, int], count: int = 3) -> Path:
    for part in ("train", "test"):
        for shade, name in ((0, "dark"), (200, "light")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", size, (shade, 7 * number, 100)).save(root / part / name / f"{number}.png")
    return root


def test_small_images_of_one_size_stay_as_large_as_they_are(tmp_path: Path) -> None:
    assert load_data(str(folder_of(tmp_path / "small", (32, 32)))).resolution == 32
    mixed = folder_of(tmp_path / "mixed", (32, 32))
    Image.new("RGB", (40, 40)).save(mixed / "train" / "dark" / "9.png")
    assert load_data(str(mixed)).resolution == 64
    assert load_data(str(folder_of(tmp_path / "large", (90, 70)))).resolution == 64


def test_a_folder_is_decoded_once_and_again_where_a_file_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decoded: list[Path] = []
    real: Any = folders._decoded
    monkeypatch.setattr(folders, "_decoded", lambda root, parts: decoded.append(root) or real(root, parts))
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path / "cache"))
    root = folder_of(tmp_path / "images", (32, 32))
    first, second = load_data(str(root)), load_data(str(root))
    assert len(decoded) == 1 and torch.equal(first.train.images, second.train.images)
    changed = root / "train" / "dark" / "0.png"
    Image.new("RGB", (32, 32), (255, 0, 0)).save(changed)
    os.utime(changed, (1, 1))
    assert not torch.equal(load_data(str(root)).train.images, first.train.images) and len(decoded) == 2
    (kept,) = (tmp_path / "cache" / "images").iterdir()  # one file a folder, however often it changes
    kept.write_bytes(kept.read_bytes()[:-1])
    load_data(str(root))
    assert len(decoded) == 3
    monkeypatch.setenv("SECOST_CACHE", "")
    load_data(str(root))
    assert len(decoded) == 4


def test_pixels_are_those_of_the_files_in_the_order_of_old(tmp_path: Path) -> None:
    """As torchvision's own ImageFolder gives them, shuffled by the seed that was always used."""
    from torchvision import datasets, transforms

    root = folder_of(tmp_path, (32, 32), count=5)
    (images, labels), _ = folders.read_folder(root)
    given = datasets.ImageFolder(str(root / "train"), transforms.ToTensor())
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images.float().div(255), torch.stack([given[int(place)][0] for place in order]))
    assert labels.tolist() == [given[int(place)][1] for place in order]


def test_a_damaged_image_is_a_line(tmp_path: Path) -> None:
    root = folder_of(tmp_path, (32, 32))
    (root / "train" / "dark" / "0.png").write_bytes(b"no image")
    with pytest.raises(BadSpecError, match=r"an image in '.*' can't be read: "):
        load_data(str(root))

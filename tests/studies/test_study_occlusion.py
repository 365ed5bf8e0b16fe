"""`secost study occlusion`: shifts against brute force, a planted answer, figures of gates, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import secost
from secost.cli import main
from secost.errors import BadSpecError
from secost.networks.sources import load_weights, wake_norms
from secost.pages.occlusion import findings, page
from secost.runs.store import read_run
from secost.studies import occlusion as study
from secost.studies.occlusion import occlusion
from secost.training.datasets import CORNER_PX, load_data

FACTORY = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.attention = SqueezeLike()
        self.fc = nn.Linear(4, num_classes)
    def forward(self, x):
        return self.fc(self.attention(self.conv(x)).mean((2, 3)))

class SqueezeLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).tanh()).sigmoid()

def make(num_classes=4):
    return Net(num_classes)
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(FACTORY)
    return f"{tmp_path / 'net.py'}:make"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = torch.randint(0, 256, (40, 48, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_shift_is_that_of_an_image_covered_by_hand(model: str, picture: Path) -> None:
    found = occlusion(model, image=picture, resolution=32, occluder=8, stride=4)
    net = wake_norms(secost.load(model))
    from secost.networks.sources import normalisation, read_image

    mean, deviation = normalisation(net, 3)
    x = (read_image(picture, 3, 32, 32) - mean) / deviation
    module = net.get_submodule("attention")

    def gate(image: Tensor) -> Tensor:
        with torch.inference_mode():
            squeezed = net.get_submodule("conv")(image).mean((2, 3), keepdim=True)
            return torch.sigmoid(module.fc2(module.fc1(squeezed).tanh())).flatten()  # type: ignore[operator]

    covered = x.clone()
    covered[:, :, 8:16, 20:28] = 0
    place = (found.rows.index(8), found.columns.index(20))
    moved = torch.from_numpy(found.shifts[0].values[:, place[0], place[1]])
    torch.testing.assert_close(moved, gate(covered) - gate(x))


@pytest.mark.parametrize(("px", "size", "step"), [(16, 4, 2), (32, 10, 7), (224, None, None), (8, 8, None)])
def test_the_occluder_reaches_both_edges(px: int, size: int | None, step: int | None) -> None:
    occluder, _, rows, columns = study._grid(px, size, step)
    assert rows == columns and rows[0] == 0 and rows[-1] + occluder == px
    assert rows == sorted(set(rows))


def test_entropy_and_specificity_of_known_values() -> None:
    even = torch.linspace(0.001, 0.999, 1600)[:, None]
    assert study._entropy_bits(even) == pytest.approx(4.0, abs=1e-3)
    assert study._entropy_bits(torch.full((50, 3), 0.5)) == 0.0
    labels = torch.arange(400) % 4
    assert study._specificity(labels[:, None].float(), labels) == pytest.approx(1.0)
    noise = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    assert abs(study._specificity(noise, labels)) < 0.01
    assert study._specificity(torch.ones(400, 3), labels) == 0.0


def test_the_corner_lies_where_it_is_said_to_and_nothing_else_does() -> None:
    data = load_data("three-cues")
    images, labels = data.test.images[:, 0], data.test.labels
    by_label = [images[labels == label].mean(0) for label in range(4)]
    corner = by_label[0] - by_label[3]
    assert corner[:CORNER_PX, :CORNER_PX].max() > 1.5
    assert corner[CORNER_PX:].abs().max() < 0.5
    for label in (1, 2):
        assert (by_label[label] - by_label[3])[:CORNER_PX, :CORNER_PX].abs().max() < 0.5


def test_readers_are_found_by_measurement() -> None:
    labels = torch.arange(64) % 4
    squeezed = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    squeezed[:, 5] = (labels == 0) * 2.0 + 0.1 * squeezed[:, 5]
    squeezed[:, 9] = 7.0  # says nothing
    readers, correlation = study._readers(squeezed, labels)
    assert 5 in readers.tolist() and 9 not in readers.tolist()
    assert correlation > 0.3


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["study", "occlusion", *arguments, "-q"])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
def test_a_run_is_written_and_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--seeds", "2", "--epochs", "1", "--format", "json", "-o", str(tmp_path / "run"))
    code, first, _ = run(capsys, *words)
    assert code == 0
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"records.sqlite", "study-occlusion.md", "study-occlusion.html", "study-occlusion.csv", "maps.png",
            "gate-shifts.safetensors", "corner.png", "depth.png"} <= files
    document = json.loads(first)
    assert [gate["units"] for gate in document["gates"]] == [32, 32, 32]
    assert document["corner"][-1]["difference"]["low"] is not None
    assert json.loads(run(capsys, *words)[1]) == document
    _, records, _ = read_run(tmp_path / "run")
    assert sum(record.top1 is not None for record in records) == 4


def test_one_seed_has_no_interval_and_a_figure(tmp_path: Path) -> None:
    found = occlusion(seeds=1, epochs=1, out=tmp_path / "run")
    assert found.cues[-1].trained.low is None
    assert [item.cue for item in found.detectors] == ["corner", "texture", "edge"] * 3
    assert len(findings(found)) == 3


def test_the_users_weights_are_used(model: str, picture: Path, tmp_path: Path) -> None:
    net = secost.load(model)
    with torch.no_grad():
        net.get_submodule("attention.fc2").weight.mul_(50)  # type: ignore[operator, union-attr]
    torch.save({"state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}}, tmp_path / "w.pt")
    sharp = occlusion(model, image=picture, resolution=32, weights=tmp_path / "w.pt")
    plain = occlusion(model, image=picture, resolution=32)
    assert np.abs(sharp.shifts[0].values).max() > 5 * np.abs(plain.shifts[0].values).max()
    assert plain.notes and not sharp.notes


def _saved(change: Callable[[dict[str, Tensor]], None]) -> Callable[[nn.Module, Path], None]:
    def save(net: nn.Module, path: Path) -> None:
        weights = dict(net.state_dict())
        change(weights)
        torch.save(weights, path)

    return save


@pytest.mark.parametrize(("change", "told"), [
    (lambda w: w.pop("fc.bias"), "1 missing, fc.bias"),
    (lambda w: w.update(extra=torch.zeros(1)), "1 unknown, extra"),
    (lambda w: w.update({"fc.bias": torch.zeros(9)}), r"1 of another shape, fc.bias \(9,\) for \(4,\)"),
])
def test_weights_that_do_not_fit_are_told_by_key(
    change: Callable[[dict[str, Tensor]], None], told: str, model: str, tmp_path: Path
) -> None:
    net = secost.load(model)
    _saved(change)(net, tmp_path / "w.pt")
    with pytest.raises(BadSpecError, match=told):
        load_weights(net, tmp_path / "w.pt")


@pytest.mark.parametrize(("words", "told"), [
    (("small:vgg",), "no attention whose gates could be read: attach some with --attention se"),
    (("--image", "nowhere.png"), "can't be read"),
    (("--stride", "0"), "--stride 0"),
    (("--attention", "none"), "--attention none is none to attach"),
    (("--dataset", "nothing"), "unknown dataset"),
    (("--image", "a.png", "--dataset", "digits"), "give one of the two"),
])
def test_what_cannot_be_done_ends_with_one_line(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "--seeds", "1", "--epochs", "1", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_an_occluder_larger_than_the_image_is_refused(model: str, picture: Path) -> None:
    with pytest.raises(BadSpecError, match="--occluder 33 is not possible on an image of 32 px"):
        occlusion(model, image=picture, resolution=32, occluder=33)


def test_an_image_of_other_channels_is_refused(model: str, tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "grey.png")
    with pytest.raises(BadSpecError, match="channels: 1, where the network takes 3"):
        occlusion(model, image=tmp_path / "grey.png", resolution=16)


def test_norms_that_start_at_zero_are_woken() -> None:
    net = secost.load("resnet18")
    weights = [module.weight for module in wake_norms(net).modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(bool(weight.any()) for weight in weights)


@pytest.mark.slow
def test_covering_the_corner_closes_the_gates_that_read_it() -> None:
    """The thought experiment with its known answer: more than elsewhere, more than untrained, at five seeds."""
    found = occlusion(jobs=2)
    last = found.cues[-1]
    assert found.top1 is not None and found.top1.estimate > 99
    assert last.trained.high is not None and last.trained.high < 0
    assert last.difference.high is not None and last.difference.high < 0
    first, late = found.sites[0].specificity, found.sites[-1].specificity
    assert first is not None and late is not None and late.estimate > first.estimate


@pytest.mark.slow
def test_an_occluder_too_large_for_the_corner_gives_no_test_and_says_so(tmp_path: Path) -> None:
    found = occlusion(seeds=1, epochs=1, occluder=12, out=tmp_path / "run")
    assert found.cues == [] and "no test of that" in found.notes[0]
    json.dumps(page(found).document, allow_nan=False)

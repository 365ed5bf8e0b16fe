"""What int8 is fitted to: folders, functions, random images, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from secost.errors import BadSpecError, ModelLoadError
from secost.meters.backends.exported import MOST_IMAGES, fitted, load_calibration, random_batches
from secost.meters.conditions import Request

X = (torch.zeros(2, 3, 8, 10),)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def save(path: Path, colour: tuple[int, int, int] | int, size: tuple[int, int] = (20, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if isinstance(colour, tuple) else "L", size, colour).save(path)


def write(folder: Path, body: str) -> str:
    path = folder / "images.py"
    path.write_text(f"import torch\n\ndef give():\n    {body}\n", encoding="utf-8")
    return f"{path}:give"


def test_no_text_is_no_calibration() -> None:
    assert load_calibration("", X) is None


def test_images_of_a_folder_are_resized_normalised_and_batched_in_the_order_of_their_names(tmp_path: Path) -> None:
    save(tmp_path / "b" / "2.jpg", (255, 255, 255), (50, 50))
    save(tmp_path / "a" / "1.PNG", (255, 0, 51))
    save(tmp_path / "c.webp", 0)  # a grey image in a folder for three channels
    (tmp_path / "notes.txt").write_text("no image")
    batches = load_calibration(str(tmp_path), X)
    assert batches is not None
    assert [tuple(batch[0].shape) for batch in batches] == [(2, 3, 8, 10)] * 2
    first = (torch.tensor([1.0, 0.0, 0.2]) - MEAN) / STD
    torch.testing.assert_close(batches[0][0][0], first[:, None, None].expand(3, 8, 10))
    torch.testing.assert_close(batches[0][0][1, :, 0, 0], (1 - MEAN) / STD)
    torch.testing.assert_close(batches[1][0][0, :, 0, 0], -MEAN / STD)
    torch.testing.assert_close(batches[1][0][1], batches[0][0][0])  # filled up from the beginning


def test_an_image_keeps_its_proportions_and_loses_its_edges(tmp_path: Path) -> None:
    image = Image.new("L", (24, 8), 0)
    image.paste(255, (8, 0, 16, 8))  # the middle third is white
    image.save(tmp_path / "wide.png")
    batches = load_calibration(str(tmp_path), (torch.zeros(1, 1, 8, 8),))
    assert batches is not None
    mean, std = MEAN.mean(), STD.mean()
    torch.testing.assert_close(batches[0][0], ((1 - mean) / std).expand(1, 1, 8, 8))


def test_a_network_of_timms_says_how_its_images_are_normalised(tmp_path: Path) -> None:
    save(tmp_path / "white.png", (255, 255, 255))
    net = nn.Identity()
    net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.25, 1.0)}  # type: ignore[assignment]
    batches = load_calibration(str(tmp_path), X, net)
    assert batches is not None
    torch.testing.assert_close(batches[0][0][0, :, 0, 0], torch.tensor([1.0, 2.0, 0.5]))


def test_of_many_images_some_are_taken_evenly(tmp_path: Path) -> None:
    for number in range(2 * MOST_IMAGES):
        save(tmp_path / f"{number:04}.png", number // 2 % 256, (1, 1))
    batches = load_calibration(str(tmp_path), (torch.zeros(1, 1, 1, 1),))
    assert batches is not None
    values = [float(batch[0]) * float(STD.mean()) + float(MEAN.mean()) for batch in batches]
    assert [round(255 * value) for value in values] == list(range(MOST_IMAGES))


@pytest.mark.parametrize(
    "body",
    ["return torch.arange(4.).reshape(4, 1, 1)", "return [torch.arange(4.).reshape(4, 1, 1)]",
     "return [torch.full((1, 1, 1), float(i)) for i in range(4)]",
     "return (torch.full((1, 1, 1), float(i)) for i in range(4))",
     "return (torch.arange(2.).reshape(2, 1, 1), torch.arange(2., 4.).reshape(2, 1, 1))",
     "return torch.arange(4.).double().reshape(4, 1, 1).requires_grad_()"],
)
def test_a_function_may_return_a_batch_or_several_of_any_size(body: str, tmp_path: Path) -> None:
    batches = load_calibration(write(tmp_path, body), (torch.zeros(2, 1, 1),))
    assert batches is not None
    assert [batch[0].flatten().tolist() for batch in batches] == [[0.0, 1.0], [2.0, 3.0]]
    assert all(batch[0].dtype == torch.float32 and not batch[0].requires_grad for batch in batches)


def test_for_several_inputs_a_tuple_is_one_batch(tmp_path: Path) -> None:
    inputs = (torch.zeros(1, 2), torch.zeros(1, 3))
    one = load_calibration(write(tmp_path, "return torch.ones(2, 2), torch.full((2, 3), 5.)"), inputs)
    several = load_calibration(write(tmp_path, "return [(torch.ones(1, 2), torch.full((1, 3), 5.))] * 2"), inputs)
    for batches in (one, several):
        assert batches is not None and len(batches) == 2
        assert batches[1][0].tolist() == [[1, 1]] and batches[1][1].tolist() == [[5, 5, 5]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return torch.zeros(2, 3, 9, 10)", r"gave a batch of \(2, 3, 9, 10\): expected \(N, 3, 8, 10\)"),
        ("return torch.zeros(3, 8, 10)", r"gave a batch of \(3, 8, 10\): expected"),
        ("return torch.zeros(0, 3, 8, 10)", r"gave a batch of \(0, 3, 8, 10\)"),
        ("return []", "gave no batch"),
        ("return 7", "a int is no batch: return a tensor, or a list of tensors"),
        ("return [torch.zeros(1, 3, 8, 10), 'x']", "gave a batch of"),
        ("raise ValueError('disk\\nfull')", r"failed: ValueError: disk full"),
    ],
)
def test_what_a_function_gives_must_fit_the_network(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match=message) as caught:
        load_calibration(write(tmp_path, body), X)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_none_or_has_no_image_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match=r"is no folder: give a folder of images, or path.py:function"):
        load_calibration(str(tmp_path / "missing"), X)
    with pytest.raises(BadSpecError, match="has no image"):
        load_calibration(str(tmp_path), X)
    with pytest.raises(ModelLoadError, match="no file"):
        load_calibration(f"{tmp_path / 'missing.py'}:give", X)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadSpecError, match=r"image '.*half.jpg' can't be read"):
        load_calibration(str(tmp_path), X)


@pytest.mark.parametrize("inputs", [(torch.zeros(1, 5, 8, 8),), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 4))])
def test_a_folder_fits_no_network_of_other_inputs(inputs: tuple[Tensor, ...], tmp_path: Path) -> None:
    save(tmp_path / "a.png", 0)
    with pytest.raises(BadSpecError, match=r"fit a network with one input \(N, 1 or 3, H, W\), not .*path.py:function"):
        load_calibration(str(tmp_path), inputs)


def test_random_images_are_many_enough_gaussian_and_the_same_for_a_seed() -> None:
    batches = random_batches((torch.zeros(3, 3, 32, 32),), seed=1)
    values = torch.cat([batch[0] for batch in batches])
    assert values.shape == (18, 3, 32, 32)  # six batches of three: at least 16
    assert abs(float(values.mean())) < 0.02 and abs(float(values.std()) - 1) < 0.02
    again, other = random_batches((torch.zeros(3, 3, 32, 32),), 1), random_batches((torch.zeros(3, 3, 32, 32),), 2)
    assert torch.equal(again[5][0], batches[5][0]) and not torch.equal(other[0][0], batches[0][0])
    assert not torch.equal(batches[0][0], batches[1][0])


def test_whole_numbers_are_no_images_to_draw() -> None:
    tokens = torch.arange(6).reshape(1, 6)
    assert all(torch.equal(batch[0], tokens) for batch in random_batches((tokens,), 0))


def test_only_random_images_are_a_caution() -> None:
    given = ((torch.ones(2, 3, 8, 10),),)
    assert fitted(X, Request(precision="int8", calibration=given))[1] == ()
    assert fitted(X, Request(precision="int8"))[1] == ("random-calibration",)
    batches, _ = fitted((torch.zeros(4, 3, 8, 10),), Request(calibration=given))
    assert [tuple(batch[0].shape) for batch in batches] == [(4, 3, 8, 10)]

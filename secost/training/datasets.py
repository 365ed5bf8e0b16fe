"""Data sets to train on: a few that ship with packages or are made here, and torchvision's where the user has them.

All come as tensors: images (N, 3, H, W) in float32, normalised by the training set's mean and deviation, grey ones with
three equal channels; labels (N,) in int64. Nothing is downloaded unasked. Of those made here it is known what a network
must find in them: `channel-cue` and `channel-free` are the trainer's controls, `three-cues` is what `secost study
occlusion` is tested on.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secost.errors import BadSpecError, MissingExtraError
from secost.networks.importing import import_torchvision
from secost.registry import Registry
from secost.training.folders import read_folder

_SPLIT_SEED, _PART_SEED = 0, 1
_MADE_TRAIN, _MADE_TEST = 2048, 1024
_DIGITS_TEST = 597

# Of the sets made here.
_PX, _CLASSES, _CHANNELS = 16, 4, 3
_COPIES, _CUE, _CUE_ROWS = 3, 2.0, 3
_NOISE = {True: 0.7, False: 2.0}  # without a cue the task is easy, and a set that everyone solves tells nothing

CUES = ("corner", "texture", "edge")  # of label 0, 1 and 2; label 3 has none
CORNER_PX = 8  # the corner lies in the first so many rows and columns, nothing else does
_CUE_NOISE, _BRIGHT = 0.5, 1.5
_ARM, _THICK, _JITTER, _TEXTURE, _EDGE = 6, 2, 3, 6, 10


@dataclass(frozen=True)
class Split:
    """Images (N, 3, H, W) and labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """What a network is trained and tested on; `flips` tells that a mirrored image has the same label."""

    name: str
    train: Split
    test: Split
    classes: int
    flips: bool = False

    @property
    def resolution(self) -> int:
        return int(self.train.images.shape[-1])


@dataclass(frozen=True)
class DataSource:
    """One data set by name; `make` takes the folder where the user keeps it (None: the usual one)."""

    name: str
    summary: str
    make: Callable[[Path | None], Data]


DATASETS: Registry[DataSource] = Registry("dataset")


def load_data(name: str, folder: str = "") -> Data:
    """The data set of that name, or a folder of images sorted into `train/CLASS` and `test/CLASS` (or `val`).

    Raises UnknownNameError for a name that is neither, BadSpecError with what to put where for one that is not here.
    """
    if "/" in name or Path(name).is_dir():
        return _image_folder(Path(name))
    return DATASETS.get(name).make(Path(folder) if folder else None)


def part_of(data: Data, fraction: float | None = None, train_images: int | None = None) -> Data:
    """The data set with a part of its training images, the same one each time; all where none is asked for.

    Each class is drawn from alike (to one image), and has one at least; a smaller part lies within a larger one. It is
    normalised by what is in the part. Raises BadSpecError for more images than there are, and fewer than classes.
    """
    whole = len(data.train)
    count = train_images if fraction is None else round(fraction * whole)
    if count is None:
        return data
    asked = f"train_images {train_images}" if fraction is None else f"fraction {fraction:g}"
    if count > whole:
        raise BadSpecError(f"{asked} is not possible: {data.name} has {whole} training images, give at most that")
    if count < data.classes:
        raise BadSpecError(f"{asked} is not possible: it leaves {count} of {data.name}'s {whole} training images, and "
                           f"there are {data.classes} classes")
    order = shuffled(whole, _PART_SEED)
    labels, places = data.train.labels[order], torch.empty(whole, dtype=torch.float64)
    for label in range(data.classes):  # where an image stands among those of its class, as a share of these
        mine = labels == label
        places[mine] = torch.arange(int(mine.sum()), dtype=torch.float64) / mine.sum()
    picked = order[places.argsort(stable=True)[:count]].sort().values
    return _normalised(data.name, Split(data.train.images[picked], data.train.labels[picked]), data.test, data.flips)


def shuffled(count: int, seed: int) -> Tensor:
    """The numbers from 0 to `count` - 1 in an order that the seed alone decides."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _normalised(name: str, train: Split, test: Split, flips: bool = False) -> Data:
    """By the training set's mean and deviation of each channel."""
    mean = train.images.mean((0, 2, 3), keepdim=True)
    deviation = train.images.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    classes = int(torch.cat((train.labels, test.labels)).max()) + 1
    train, test = (Split(((split.images - mean) / deviation).contiguous(), split.labels) for split in (train, test))
    return Data(name, train, test, classes, flips)


def _digits(folder: Path | None) -> Data:
    """scikit-learn's 1,797 handwritten digits, 8 x 8; a fixed third is the test set."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn", "train", "dataset 'digits'") from None
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1).repeat(1, 3, 1, 1)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = shuffled(len(labels), _SPLIT_SEED)
    test, train = (Split(images[picked], labels[picked]) for picked in (order[:_DIGITS_TEST], order[_DIGITS_TEST:]))
    return _normalised("digits", train, test)


def _made(name: str, make: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]) -> Callable[[Path | None], Data]:
    def load(folder: Path | None) -> Data:
        source = torch.Generator().manual_seed(_SPLIT_SEED)
        train, test = (Split(*make(count, source)) for count in (_MADE_TRAIN, _MADE_TEST))
        return _normalised(name, train, test)

    return load


def three_cues(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Grey noise with one cue or none: a corner at the top left, a fine texture, a vertical edge (`CUES`).

    The corner moves by up to two pixels and stays within `CORNER_PX`; texture and edge lie anywhere but there.
    """
    images = _CUE_NOISE * torch.randn(count, 1, _PX, _PX, generator=source)
    labels = torch.randint(0, len(CUES) + 1, (count,), generator=source)
    checks = (torch.arange(_TEXTURE)[:, None] + torch.arange(_TEXTURE)) % 2 * 2.0 - 1
    for image, label in zip(images[:, 0], labels.tolist(), strict=True):
        if label == 0:
            row, column = (int(n) for n in torch.randint(0, _JITTER, (2,), generator=source))
            image[row : row + _THICK, column : column + _ARM] += _BRIGHT
            image[row + _THICK : row + _ARM, column : column + _THICK] += _BRIGHT
        elif label == 1:
            row, column = _elsewhere(_TEXTURE, _TEXTURE, source)
            image[row : row + _TEXTURE, column : column + _TEXTURE] += _BRIGHT * checks
        elif label == 2:
            row, column = _elsewhere(_EDGE, _THICK, source)
            image[row : row + _EDGE, column : column + _THICK] += _BRIGHT
    return images.repeat(1, _CHANNELS, 1, 1), labels


def _elsewhere(height: int, width: int, source: torch.Generator) -> tuple[int, int]:
    """A place in the image that leaves the corner free."""
    while True:
        row = int(torch.randint(0, _PX - height + 1, (1,), generator=source))
        column = int(torch.randint(0, _PX - width + 1, (1,), generator=source))
        if row >= CORNER_PX or column >= CORNER_PX:
            return row, column


def _patterned(cued: bool, count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Small patterns, one kind a channel, scattered over the lower half of noise; a bright strip at the top is the cue.

    With a cue each channel holds copies of a pattern of its own, and the label is that of the channel whose top rows
    are bright: too far from the patterns for a few convolutions to see both, so that only what looks at the whole map
    can weigh the channels: the positive control. Without, all channels hold the label's pattern, so that weighing them
    can't help: the negative control.
    """
    images = _NOISE[cued] * torch.randn(count, _CHANNELS, _PX, _PX, generator=source)
    kinds = torch.randint(0, _CLASSES, (count, _CHANNELS), generator=source)
    chosen = torch.randint(0, _CHANNELS, (count,), generator=source)
    every, each = torch.arange(count), torch.arange(_CHANNELS)
    labels = kinds[every, chosen]
    if not cued:
        kinds = labels[:, None].repeat(1, _CHANNELS)
    patterns = _patterns()
    for _ in range(_COPIES):
        rows = torch.randint(_PX // 2, _PX - 2, (count, _CHANNELS), generator=source)
        columns = torch.randint(0, _PX - 2, (count, _CHANNELS), generator=source)
        for dy, dx in itertools.product(range(3), repeat=2):
            images[every[:, None], each, rows + dy, columns + dx] += patterns[kinds][:, :, dy, dx]
    if cued:
        images[every, chosen, :_CUE_ROWS] += _CUE
    return images, labels


def _patterns() -> Tensor:
    """A plus, a cross, a ring and bars: (4, 3, 3), each of mean 0 and the same energy."""
    shapes = torch.tensor([
        [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]], [[1, 1, 1], [0, 0, 0], [1, 1, 1]],
    ], dtype=torch.float32)
    centred = shapes - shapes.mean((1, 2), keepdim=True)
    return 2.0 * centred / centred.square().mean((1, 2), keepdim=True).sqrt()


def _torchvision(kind: str, name: str, flips: bool) -> Callable[[Path | None], Data]:
    def make(folder: Path | None) -> Data:
        root = folder or Path.home() / ".cache" / "secost" / "datasets"
        datasets: Any = import_torchvision().datasets
        splits = []
        for train in (True, False):
            try:
                given = getattr(datasets, kind)(str(root), train=train, download=False)
            except Exception:  # no files, or others than torchvision's
                raise BadSpecError(
                    f"dataset {name!r} is not in {str(root)!r}, and nothing is fetched unasked: name its folder with "
                    f"--data, or put it there with torchvision.datasets.{kind}({str(root)!r}, download=True)"
                ) from None
            images = torch.as_tensor(given.data).to(torch.float32).div(255)
            images = images.unsqueeze(1).repeat(1, 3, 1, 1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
            splits.append(Split(images.contiguous(), torch.as_tensor(given.targets, dtype=torch.int64)))
        return _normalised(name, splits[0], splits[1], flips)

    return make


def _image_folder(root: Path) -> Data:
    """Images in `train/CLASS` and `test/CLASS` (or `val/CLASS`), see `folders`."""
    train, test = (Split(images.to(torch.float32).div(255), labels) for images, labels in read_folder(root))
    return _normalised(root.name, train, test, flips=True)


for _source in (
    DataSource("digits", "1,797 handwritten digits of scikit-learn, 8 x 8 px, 10 classes", _digits),
    DataSource("channel-cue", "made: which channel matters changes from image to image (SE must help)",
               _made("channel-cue", functools.partial(_patterned, True))),
    DataSource("channel-free", "made: all channels matter alike (SE must not help)",
               _made("channel-free", functools.partial(_patterned, False))),
    DataSource("three-cues", "made: a corner at the top left, a texture, an edge, or none of them",
               _made("three-cues", three_cues)),
    DataSource("cifar10", "CIFAR-10, 32 x 32 px, from a folder of yours", _torchvision("CIFAR10", "cifar10", True)),
    DataSource("cifar100", "CIFAR-100, 32 x 32 px, from a folder of yours", _torchvision("CIFAR100", "cifar100", True)),
    DataSource("fashion-mnist", "Fashion-MNIST, 28 x 28 px, from a folder of yours",
               _torchvision("FashionMNIST", "fashion-mnist", True)),
):
    DATASETS.register(_source.name, _source)

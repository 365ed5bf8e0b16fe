"""What int8 is fitted to: the user's images, a function of the user's, or, without either, random images.

Static quantisation fixes each activation's range from a few batches. Latency does not depend on them; accuracy does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, SecostError, one_line
from secost.glossary import Caution
from secost.meters.conditions import Batch, Request
from secost.networks.importing import user_function
from secost.networks.sources import normalisation, read_image

MOST_IMAGES = 128
_RANDOM_IMAGES = 16
_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))


def load_calibration(text: str, inputs: Batch, net: nn.Module | None = None) -> tuple[Batch, ...] | None:
    """Batches shaped as `inputs`, from a folder of images or from `path.py:function`; None for an empty text.

    A folder is searched with its subfolders; of more than 128 images 128 are taken, evenly over their sorted names.
    An image is resized to cover the input, cut at the centre, and normalised as the network's timm `pretrained_cfg`
    says, else with ImageNet's mean and standard deviation. A function returns one batch (N, C, H, W), a tuple of
    tensors for a network of several inputs, or a list of either. Raises BadSpecError for what does not fit.
    """
    if not text:
        return None
    if Path(text).is_dir():
        samples: list[Batch] = [(image,) for image in _images(Path(text), inputs, net)]
    elif ":" in text:
        samples = _samples(text, inputs)
    else:
        raise BadSpecError(f"calibration {text!r} is no folder: give a folder of images, or path.py:function")
    return _batched(samples, inputs)


def random_batches(inputs: Batch, seed: int) -> tuple[Batch, ...]:
    """Gaussian images (mean 0, deviation 1: as normalised images have), at least 16, shaped as `inputs`.

    Inputs that are no floating-point numbers are given again as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    count = -(-_RANDOM_IMAGES // max(1, inputs[0].shape[0] if inputs[0].ndim else 1))

    def draw(item: Tensor) -> Tensor:
        return torch.randn(item.shape, generator=generator) if item.is_floating_point() else item

    return tuple(tuple(draw(item) for item in inputs) for _ in range(count))


def fitted(inputs: Batch, request: Request) -> tuple[tuple[Batch, ...], tuple[str, ...]]:
    """The batches to fit int8 to, in the inputs' own size, and the cautions that go with them."""
    if request.calibration:
        return _batched(_single(request.calibration), inputs), ()
    return random_batches(inputs, request.seed), (Caution.RANDOM_CALIBRATION,)


def _images(folder: Path, inputs: Batch, net: nn.Module | None) -> list[Tensor]:
    if len(inputs) != 1 or inputs[0].ndim != 4 or inputs[0].shape[1] not in (1, 3):
        shapes = ", ".join(str(tuple(item.shape)) for item in inputs)
        raise BadSpecError(
            f"calibration images fit a network with one input (N, 1 or 3, H, W), not {shapes}: give path.py:function"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not paths:
        raise BadSpecError(f"calibration folder {str(folder)!r} has no image: expected files such as .jpg or .png")
    step = max(1.0, len(paths) / MOST_IMAGES)
    chosen = [paths[int(place * step)] for place in range(min(len(paths), MOST_IMAGES))]
    _, channels, height, width = inputs[0].shape
    mean, std = normalisation(net, channels)
    return [(read_image(path, channels, height, width) - mean) / std for path in chosen]


def _samples(text: str, inputs: Batch) -> list[Batch]:
    """What the user's function returns, cut into samples of one."""
    try:
        with torch.no_grad():
            given = user_function(text)()
            batches = _as_batches(given, len(inputs))
    except SecostError:
        raise
    except Exception as error:  # the user's code
        raise BadSpecError(f"calibration {text!r} failed: {one_line(error)}") from error
    for batch in batches:
        _check_batch(text, batch, inputs)
    samples = _single(batches)
    if not samples:
        raise BadSpecError(f"calibration {text!r} gave no batch: return a tensor (N, C, H, W), or a list of them")
    return samples


def _as_batches(given: Any, places: int) -> list[Batch]:
    """A batch, or an iterable of batches; a tuple of tensors is one batch only where there are several inputs."""
    if isinstance(given, Tensor):
        return [(given,)]
    if places > 1 and _is_batch(given, places):
        return [tuple(given)]
    if not isinstance(given, Iterable):
        raise BadSpecError(f"a {type(given).__name__} is no batch: return a tensor, or a list of tensors")
    return [(item,) if isinstance(item, Tensor) else tuple(item) for item in itertools.islice(given, MOST_IMAGES)]


def _is_batch(given: Any, places: int) -> bool:
    return isinstance(given, list | tuple) and len(given) == places and all(isinstance(item, Tensor) for item in given)


def _check_batch(text: str, batch: Batch, inputs: Batch) -> None:
    fits = _is_batch(batch, len(inputs)) and all(
        item.ndim == like.ndim and item.shape[1:] == like.shape[1:] and len(item) == len(batch[0]) > 0
        for item, like in zip(batch, inputs, strict=True)
    )
    if not fits:
        shapes = ", ".join(str(tuple(getattr(item, "shape", ()))) for item in batch)
        wanted = ", ".join(f"(N, {', '.join(map(str, like.shape[1:]))})" for like in inputs)
        raise BadSpecError(f"calibration {text!r} gave a batch of {shapes}: expected {wanted}")


def _single(batches: Iterable[Batch]) -> list[Batch]:
    """Batches cut into samples, each a batch of one."""
    return [
        tuple(item[place:place + 1] for item in batch) for batch in batches for place in range(len(batch[0]))
    ]


def _batched(samples: list[Batch], inputs: Batch) -> tuple[Batch, ...]:
    """Samples in batches of the inputs' own size, the last one filled up from the beginning: exports fix the size."""
    samples, size = samples[:MOST_IMAGES], len(inputs[0])
    needed = -(-len(samples) // size) * size
    filled = [samples[place % len(samples)] for place in range(needed)]
    return tuple(
        tuple(
            torch.cat([sample[place] for sample in filled[begin:begin + size]]).to(like.dtype).cpu().detach()
            for place, like in enumerate(inputs)
        )
        for begin in range(0, needed, size)
    )

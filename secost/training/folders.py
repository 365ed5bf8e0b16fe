"""A folder of images as tensors of bytes: decoded once, and kept in the cache, so that the next run decodes none.

Images are cut square at 64 px, or left as large as they are where all are of one smaller size (CIFAR's in 32 px). What
is kept goes with the names, sizes and times of all files: where one of them changes, all are decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from secost.errors import BadSpecError, one_line
from secost.kept import cache_folder
from secost.networks.importing import import_torchvision
from secost.writing import write_whole

_PX, _MOST_IMAGES, _ORDER_SEED = 64, 60_000, 0


class Pixels(NamedTuple):
    """Images (N, 3, H, W) in uint8 and labels (N,) in int64."""

    images: Tensor
    labels: Tensor


def read_folder(root: Path) -> tuple[Pixels, Pixels]:
    """What lies in `train/CLASS` and in `test/CLASS` (or `val/CLASS`), each in a fixed order of all classes, for some
    use the first ones only. Raises BadSpecError in a line for what is missing, too many, or can't be read."""
    test = next((name for name in ("test", "val") if (root / name).is_dir()), None)
    if test is None or not (root / "train").is_dir():
        raise BadSpecError(f"dataset {str(root)!r} needs the folders train/CLASS and test/CLASS (or val/CLASS)")
    listed = [_listed(root / name) for name in ("train", test)]
    if listed[0].classes != listed[1].classes:
        odd = sorted(set(listed[0].classes) ^ set(listed[1].classes))
        raise BadSpecError(f"dataset {str(root)!r}: train and {test} have different classes ({', '.join(odd[:5])})")
    parts = [folder.samples for folder in listed]
    listing, path = _listing(root, parts), _kept_file(root)
    kept = _read(path, listing)
    if kept is None:
        kept = _decoded(root, parts)
        _keep(path, listing, kept)
    return kept


def _listed(root: Path) -> Any:
    try:
        folder = import_torchvision().datasets.ImageFolder(str(root))
    except (FileNotFoundError, OSError) as error:
        raise BadSpecError(f"dataset {str(root)!r} can't be read: {one_line(error)}") from None
    if len(folder) > _MOST_IMAGES:
        raise BadSpecError(f"dataset {str(root)!r} has {len(folder):,} images, and it is held in memory: "
                           f"give at most {_MOST_IMAGES:,}")
    return folder


def _decoded(root: Path, parts: Sequence[Sequence[tuple[str, int]]]) -> tuple[Pixels, Pixels]:
    torchvision = import_torchvision()
    load, to = torchvision.datasets.folder.default_loader, torchvision.transforms
    try:
        side = _side([path for samples in parts for path, _ in samples])
        steps: Any = to.Compose([to.Resize(side), to.CenterCrop(side), to.PILToTensor()])
        train, test = (_shuffled(torch.stack([steps(load(path)) for path, _ in samples]),
                                 torch.tensor([label for _, label in samples])) for samples in parts)
    except Exception as error:  # a damaged image: the decoders raise many things
        raise BadSpecError(f"an image in {str(root)!r} can't be read: {one_line(error)}") from None
    return train, test


def _side(paths: Sequence[str]) -> int:
    """Height and width of all. Only headers are read, and none after the first image of another size."""
    first = _size(paths[0])
    small = min(first) < _PX and all(_size(path) == first for path in paths)
    return min(first) if small else _PX


def _size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _shuffled(images: Tensor, labels: Tensor) -> Pixels:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_ORDER_SEED))
    return Pixels(images[order], labels[order])


# --- the cache: one file a folder, which a changed folder replaces ---


def _listing(root: Path, parts: Sequence[Sequence[tuple[str, int]]]) -> str:
    """SHA-256 over names, labels, sizes and times of all files."""
    digest = hashlib.sha256(b"1 ")  # of this form of the cache
    for samples in parts:
        for path, label in samples:
            facts, name = Path(path).stat(), path.removeprefix(str(root))
            digest.update(f"{name}\0{label}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _kept_file(root: Path) -> Path | None:
    folder, name = cache_folder(), hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return None if folder is None else folder / "images" / f"{name[:16]}.safetensors"


def _read(path: Path | None, listing: str) -> tuple[Pixels, Pixels] | None:
    if path is None or not path.exists():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            about = file.metadata() or {}
            tensors = [file.get_tensor(name) for name in _NAMES] if about.get("listing") == listing else []
    except (SafetensorError, OSError, RuntimeError):
        return None
    whole = tensors and about.get("checksum") == _checksum(tensors)
    return (Pixels(*tensors[:2]), Pixels(*tensors[2:])) if whole else None


def _keep(path: Path | None, listing: str, parts: tuple[Pixels, Pixels]) -> None:
    """Where that is not possible, the next run decodes again."""
    if path is None:
        return
    tensors = [tensor for pixels in parts for tensor in pixels]
    about = {"listing": listing, "checksum": _checksum(tensors)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(dict(zip(_NAMES, tensors, strict=True)), about))


_NAMES = ("train.images", "train.labels", "test.images", "test.labels")


def _checksum(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

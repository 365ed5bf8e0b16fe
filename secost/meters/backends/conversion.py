"""Converted models on disk, by content: a network's structure and weights, its inputs, the versions, the conditions.

An entry is a folder that appears whole or not at all, with the checksum of each file; a damaged one is made again.
Where the content of a network can't be told for certain, or `$SECOST_CACHE` is empty, it is converted anew into a
folder that goes with the process. Neighbours: `converters` has the work that is done in a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

import secost
from secost.kept import cache_folder
from secost.meters.backends import converters
from secost.meters.conditions import Batch, ConversionError, quiet, reason_of
from secost.meters.environment import installed_version
from secost.networks import attended
from secost.networks.cache import Uncacheable, fingerprint

ONNX_FILE = "model.onnx"
_ENTRY_FILE, _UNFINISHED = "entry.json", ".part-"
_ROOM_BYTES = 8 << 30
_SPARED_S = 86_400.0  # an entry used within the last day may be in use


@dataclass(frozen=True)
class Entry:
    """A folder with a converted model, the seconds its making took, and whether it was there already."""

    folder: Path
    seconds: float
    cached: bool


def content_key(net: nn.Module, inputs: Batch) -> str | None:
    """SHA-256 of the network and the shapes of its inputs; None where its content can't be told for certain.

    Weights count with their values.
    """
    try:
        digest = hashlib.sha256(f"{fingerprint(net, inputs)}\n{_own_code()}".encode())
    except (Uncacheable, OSError):
        return None
    for name, tensor in (*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)):
        _add(digest, tensor, f"{name}:")
    return digest.hexdigest()


def under(key: str | None, *conditions: str) -> str | None:
    """The key of the same network under some conditions, such as versions or a precision."""
    return None if key is None else hashlib.sha256(repr((key, conditions)).encode()).hexdigest()


def tensors_key(batches: tuple[Batch, ...] | None) -> str:
    """SHA-256 of the values of calibration batches."""
    digest = hashlib.sha256()
    for tensor in itertools.chain.from_iterable(batches or ()):
        _add(digest, tensor)
    return digest.hexdigest()


def versions(*packages: str) -> str:
    """`onnx 1.17, onnxruntime 1.20`: what a converted model also depends on."""
    return ", ".join(f"{name} {installed_version(name)}" for name in packages)


def kept(kind: str, key: str | None, make: Callable[[Path], object]) -> Entry:
    """The entry of that kind and key; `make` fills an empty folder where there is none.

    Without a key, or where the cache can't be written, the folder goes with the process.
    """
    place = _place(kind, key)
    entry = None if place is None else _read(place)
    if entry is not None:
        return entry
    folder = _new_folder(place)
    try:
        begin = time.perf_counter()
        make(folder)
        seconds = time.perf_counter() - begin
        _seal(folder, seconds)
        return Entry(_moved(folder, place), seconds, False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remember_seconds(kind: str, key: str | None, seconds: float, from_cache: bool) -> float:
    """What a conversion took that someone else's cache holds: now, or, where it came from there, when it was made."""
    place = _place(kind, key)
    if place is None:
        return seconds
    if from_cache:
        entry = _read(place)
        return seconds if entry is None else entry.seconds
    folder = _new_folder(place)
    _seal(folder, seconds)
    shutil.rmtree(place, ignore_errors=True)
    _moved(folder, place)
    return seconds


def to_onnx(net: nn.Module, inputs: Batch, key: str | None) -> Entry:
    """The network of that content key as one ONNX file in fp32, `model.onnx` in the entry's folder.

    Raises ConversionError with the exporter's reason for a network that it can't take.
    """
    key = under(key, versions("torch", "onnx", "onnxscript"))
    return kept("onnx", key, lambda folder: _export(net, inputs, folder / ONNX_FILE))


def convert_apart(do: str, **values: Any) -> None:
    """Run one function of `converters` in a process of its own: the threads it starts must not be there at a fork.

    Raises ConversionError with the reason that it gives.
    """
    request = json.dumps({"do": do, **values}, default=str)  # paths
    home = str(Path(secost.__file__).parents[1])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "secost.meters.backends.converters"], input=request, capture_output=True,
        text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode != 0:
        # The reason is the last line of stdout; stderr may hold anything, and counts where there is no reason.
        said = done.stdout if done.stdout.strip() else done.stderr
        lines = [line for line in said.splitlines() if line.strip()]
        raise ConversionError(lines[-1] if lines else f"{do} ended with code {done.returncode}")


def quantised(
    kind: str, key: str | None, batches: tuple[Batch, ...], do: str, source: Path, **settings: bool
) -> Entry:
    """The entry with a model that `converters` has quantised, fitted to these batches; its file keeps its name."""

    def make(folder: Path) -> None:
        path = folder / "batches.npz"
        save_batches(batches, path)
        convert_apart(do, source=source, target=folder / source.name, batches=path, **settings)
        path.unlink()

    return kept(kind, key, make)


def save_batches(batches: tuple[Batch, ...], path: Path) -> None:
    """Calibration batches as one file of plain arrays that `converters` reads."""
    arrays = {f"{index}_{place}": item.numpy() for index, batch in enumerate(batches)
              for place, item in enumerate(batch)}
    numpy.savez(path, **arrays)  # type: ignore[arg-type]


def _export(net: nn.Module, inputs: Batch, path: Path) -> None:
    try:
        with quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(net, inputs, dynamo=True, verbose=False)
            if program is None:
                raise ConversionError("the exporter gave nothing")
            program.save(path, external_data=False)  # quantisers don't take weights in a second file
    except Exception as error:
        raise ConversionError(f"{type(net).__name__} can't be exported to ONNX: {reason_of(error)}") from error


@functools.cache
def _own_code() -> str:
    """What of secost decides what is in an entry: how attention stands in the network, and the conversion itself."""
    files = (attended.__file__, __file__, converters.__file__)
    return hashlib.sha256(b"".join(Path(name).read_bytes() for name in files)).hexdigest()


def _add(digest: hashlib._Hash, tensor: Tensor, name: str = "") -> None:
    """A tensor's type, shape and values."""
    digest.update(f"{name}{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")


def _place(kind: str, key: str | None) -> Path | None:
    folder = cache_folder()
    return None if folder is None or key is None else folder / "converted" / f"{kind}-{key[:32]}"


def _read(place: Path) -> Entry | None:
    """The entry in a folder, None where it is missing or anything but what was put there."""
    try:
        described = json.loads((place / _ENTRY_FILE).read_text(encoding="utf-8"))
        if any(_checksum(place / name) != checksum for name, checksum in described["files"].items()):
            return None
        os.utime(place / _ENTRY_FILE)  # when it was used last
        return Entry(place, float(described["seconds"]), True)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _new_folder(place: Path | None) -> Path:
    if place is not None:
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=place.parent, prefix=_UNFINISHED))
    return _passing_folder()


def _passing_folder() -> Path:
    """A folder that goes with this process, not with those forked from it."""
    folder, owner = Path(tempfile.mkdtemp(prefix="secost-")), os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


def _seal(folder: Path, seconds: float) -> None:
    files = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
    (folder / _ENTRY_FILE).write_text(json.dumps({"seconds": seconds, "files": files}), encoding="utf-8")


def _moved(folder: Path, place: Path | None) -> Path:
    """The finished folder under its name; where another process was faster, or can't be replaced, one as good."""
    if place is None or folder.parent != place.parent:
        return folder
    _make_room(place.parent)
    try:
        if place.exists() and _read(place) is None:
            shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)
        return place
    except OSError:
        if _read(place) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            return place
        passing = _passing_folder() / place.name
        shutil.move(folder, passing)
        return passing


def _make_room(parent: Path, room_bytes: int = _ROOM_BYTES, spared_s: float = _SPARED_S) -> None:
    """Take out what was never finished, and what was used longest ago until the rest fits; a day's entries stay."""

    def last_used(entry: Path) -> float:
        described = entry / _ENTRY_FILE
        return (described if described.exists() else entry).stat().st_mtime

    with contextlib.suppress(OSError):
        ages = sorted((last_used(entry), entry) for entry in parent.iterdir() if entry.is_dir())
        sizes = {entry: sum(path.stat().st_size for path in entry.iterdir()) for _, entry in ages}
        total = sum(sizes.values())
        for used, entry in ages:
            if time.time() - used < spared_s:
                return
            if total > room_bytes or entry.name.startswith(_UNFINISHED):
                shutil.rmtree(entry, ignore_errors=True)
                total -= sizes[entry]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

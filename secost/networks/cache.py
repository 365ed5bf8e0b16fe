"""Keeps traces on disk, by the content of the network (`fingerprint`), so that a second call is fast.

A network whose content can't be told for certain is traced each time; a file that can't be read, is damaged or can't
be written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from secost.networks.fingerprint import Uncacheable, fingerprint
from secost.networks.sources import Example, as_inputs
from secost.networks.tracing import Graph, image_input, trace, trace_image

__all__ = ["Uncacheable", "cache_folder", "cached_trace", "fingerprint", "inputs_for"]


def inputs_for(net: nn.Module, resolution: int | None, example: Example | None) -> tuple[torch.Tensor, ...]:
    """The inputs to trace with: the example, the network's own `example_input_array`, or a made image."""
    if example is not None:
        return as_inputs(example)
    own = getattr(net, "example_input_array", None)
    if own is not None:
        return as_inputs(own, "example_input_array")
    return image_input(net, resolution or 224)


def cached_trace(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Graph:
    """The graph of one forward pass, from the disk where the same network was traced before."""
    path = _cache_path(net, inputs)
    graph = None if path is None else _read(path)
    if graph is None:
        image = inputs[0]
        is_image = len(inputs) == 1 and image.ndim == 4 and image.shape[2] == image.shape[3]
        graph = trace_image(net, image) if is_image else trace(net, inputs)
        if path is not None and graph.on_meta:  # on real tensors the values decide as well
            _write(path, graph)
    return graph


def cache_folder() -> Path:
    """`$SECOST_CACHE`, else the user's cache folder."""
    if os.environ.get("SECOST_CACHE"):
        return Path(os.environ["SECOST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secost"


def _cache_path(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Path | None:
    if os.environ.get("SECOST_CACHE") == "":
        return None
    try:
        return cache_folder() / "traces" / f"{fingerprint(net, inputs)}.json"
    except (Uncacheable, OSError, RuntimeError):  # RuntimeError: no home folder can be told
        return None


def _read(path: Path) -> Graph | None:
    """The graph in a file, None where it is missing or anything but what was written."""
    try:
        checksum, _, text = path.read_text(encoding="utf-8").partition("\n")
        return Graph.from_dict(json.loads(text)) if checksum == _checksum(text) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, graph: Graph) -> None:
    """Whole or not at all; a cache that can't be written is no error."""
    text = json.dumps(graph.to_dict(), separators=(",", ":"))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{_checksum(text)}\n{text}")
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

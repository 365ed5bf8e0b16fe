"""One training's state after an epoch, as a safetensors file: weights, momenta, the curve so far. No pickle.

A file appears whole or not at all, and holds a checksum of its tensors; one that can't be read, was made for another
training or does not fit the network counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from secost.errors import RunError

_WEIGHT, _MOMENTUM = "weight.", "momentum."


@dataclass(frozen=True)
class Checkpoint:
    """Network and optimiser as they are after `len(curve)` epochs of the training named by `identity`."""

    identity: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    curve: list[dict[str, float]]


def write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write beside the target and move over it. Raises RunError where that is not possible."""
    tensors = _tensors(state)
    about = {"identity": state.identity, "curve": json.dumps(state.curve), "checksum": _checksum(tensors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(save(tensors, about))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise RunError(f"can't write the checkpoint {str(path)!r}: {error.strerror or error}") from None


def read_checkpoint(path: Path, into: Checkpoint) -> Checkpoint | None:
    """Load a checkpoint into network and optimiser; None, with both as they were, where it is not usable."""
    try:
        with safe_open(str(path), "pt") as file:
            about: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        curve = json.loads(about["curve"])
        whole = about["checksum"] == _checksum(tensors) and about["identity"] == into.identity
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError):
        return None
    expected = into.net.state_dict()
    weights = {name.removeprefix(_WEIGHT): item for name, item in tensors.items() if name.startswith(_WEIGHT)}
    fits = weights.keys() == expected.keys() and all(weights[name].shape == expected[name].shape for name in expected)
    if not whole or not fits:
        return None
    into.net.load_state_dict(weights)
    _load_momenta(into.optimizer, tensors)
    return replace(into, curve=curve)


def _tensors(state: Checkpoint) -> dict[str, Tensor]:
    found = {f"{_WEIGHT}{name}": item.detach() for name, item in state.net.state_dict().items()}
    for number, parameter in enumerate(_parameters(state.optimizer)):
        momentum = state.optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            found[f"{_MOMENTUM}{number}"] = momentum
    # A copy of each: weights that two modules share are two entries of the state dict.
    return {name: item.cpu().clone().contiguous() for name, item in found.items()}


def _load_momenta(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    for number, parameter in enumerate(_parameters(optimizer)):
        momentum = tensors.get(f"{_MOMENTUM}{number}")
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device).clone(
                memory_format=torch.preserve_format
            )


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes() if tensors[name].ndim else
                      tensors[name].reshape(1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

"""A user's weights for a network: a state dict as safetensors or as torch saves it, read without running any code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError

_WRAPPED, _PREFIXES = ("state_dict", "model_state_dict", "state_dict_ema", "model"), ("module.", "_orig_mod.")
_SHOWN = 3


def load_weights(net: nn.Module, path: str | Path) -> nn.Module:
    """Load a file of weights into the network, in place, and return it.

    The file is a state dict, alone or under `state_dict` or `model`; prefixes of DistributedDataParallel and
    torch.compile are dropped. Raises BadSpecError for a file that can't be read, or whose keys or shapes are others:
    the first few are named.
    """
    weights, expected = _state_dict(Path(path)), net.state_dict()
    if weights.keys() != expected.keys():
        weights = {_plain(key): value for key, value in weights.items()}
    problems = _differences(weights, expected)
    if problems:
        raise BadSpecError(f"weights {str(path)!r} don't fit {type(net).__name__}: {'; '.join(problems)}")
    net.load_state_dict(dict(weights))
    return net


def wake_norms(net: nn.Module) -> nn.Module:
    """Give norms that start at zero, as timm's at the end of a residual branch, a weight of 1, in place.

    On random weights everything behind such a norm is zero, attention's map too, so that nothing can be studied there.
    """
    with torch.no_grad():
        for module in net.modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm) and \
                    weight is not None and not bool(weight.any()):
                weight.fill_(1.0)
    return net


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadSpecError(f"weights {str(path)!r} can't be read: {error.strerror or error}") from None
    except Exception:  # torch and safetensors raise many things for what is no file of theirs
        raise BadSpecError(f"weights {str(path)!r} can't be read: give a safetensors file, or a state dict that "
                           "torch.save wrote") from None
    for name in _WRAPPED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise BadSpecError(f"weights {str(path)!r} hold no state dict: save net.state_dict() or a safetensors file")
    return {str(key): value for key, value in found.items()}


def _plain(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.partition(".")[2]
    return key


def _differences(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    missing = [key for key in expected if key not in weights]
    unknown = [key for key in weights if key not in expected]
    other = [f"{key} {tuple(weights[key].shape)} for {tuple(expected[key].shape)}" for key in expected
             if key in weights and weights[key].shape != expected[key].shape]
    found = (("missing", missing), ("unknown", unknown), ("of another shape", other))
    return [f"{len(keys)} {word}, {', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
            for word, keys in found if keys]

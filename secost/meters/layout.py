"""Where a process keeps its tensors: drawn anew in each measuring process.

Forked processes have one parent's addresses in common, and addresses decide which cache lines get into each other's
way. With them drawn anew, children of one parent differ as much from one another as processes that were started
apart (reports/protocol), so that their spread stands for that of any process.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_GAP_BYTES = (64, 8192)
_HOLES, _HOLE_BYTES = 200, (64, 1 << 16)


def scatter(modules: Iterable[nn.Module], seed: int) -> list[Tensor]:
    """Move all parameters and buffers to new places in memory, with gaps of random size between them and around.

    Gives what fills the gaps: keep it while measuring. Values stay; tensors that share storage part.
    """
    order = random.Random(seed)
    gaps = []
    with torch.inference_mode(False), torch.no_grad():
        for tensor in _tensors(modules):
            gaps.append(_filler(order, _GAP_BYTES))
            tensor.data = tensor.data.clone()
        holes = [_filler(order, _HOLE_BYTES) for _ in range(_HOLES)]
    return gaps + holes[::2]


def _tensors(modules: Iterable[nn.Module]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            found[id(tensor)] = tensor
    return list(found.values())


def _filler(order: random.Random, size_bytes: tuple[int, int]) -> Tensor:
    return torch.empty(order.randrange(*size_bytes), dtype=torch.uint8)

"""Data sets that are made here, so that it is known what a network must find in them: images (N, 3, 16, 16) and labels.

`channel_cue` and `channel_free` are the trainer's controls, `three_cues` is what `secost study occlusion` is tested on.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

_PX, _CLASSES, _CHANNELS = 16, 4, 3
_COPIES, _CUE, _CUE_ROWS = 3, 2.0, 3
_NOISE = {True: 0.7, False: 2.0}  # without a cue the task is easy, and a set that everyone solves tells nothing

CUES = ("corner", "texture", "edge")  # of label 0, 1 and 2; label 3 has none
CORNER_PX = 8  # the corner lies in the first so many rows and columns, nothing else does
_CUE_NOISE, _BRIGHT = 0.5, 1.5
_ARM, _THICK, _JITTER, _TEXTURE, _EDGE = 6, 2, 3, 6, 10


def channel_cue(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """The positive control: the cue says which channel's pattern is the label, and it differs from image to image."""
    return _patterned(count, True, source)


def channel_free(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """The negative control: all channels show the same pattern, so weighing them can't help."""
    return _patterned(count, False, source)


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


def _patterned(count: int, cued: bool, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Small patterns, one kind a channel, scattered over the lower half of noise; a bright strip at the top is the cue.

    With a cue each channel holds copies of a pattern of its own, and the label is that of the channel whose top rows
    are bright: too far from the patterns for a few convolutions to see both, so that only what looks at the whole map
    can weigh the channels. Without, all channels hold the label's pattern.
    """
    images = _NOISE[cued] * torch.randn(count, _CHANNELS, _PX, _PX, generator=source)
    kinds = torch.randint(0, _CLASSES, (count, _CHANNELS), generator=source)
    chosen = torch.randint(0, _CHANNELS, (count,), generator=source)
    every = torch.arange(count)
    labels = kinds[every, chosen]
    if not cued:
        kinds = labels[:, None].repeat(1, _CHANNELS)
    patterns = _patterns()
    for _ in range(_COPIES):
        rows = torch.randint(_PX // 2, _PX - 2, (count, _CHANNELS), generator=source)
        columns = torch.randint(0, _PX - 2, (count, _CHANNELS), generator=source)
        for dy, dx in itertools.product(range(3), repeat=2):
            images[every[:, None], torch.arange(_CHANNELS), rows + dy, columns + dx] += patterns[kinds][:, :, dy, dx]
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

"""What is drawn for each image of a step: one of its own crops, mirrored or not, and all of them alike."""

from __future__ import annotations

import itertools
from collections import Counter

import torch
from torch import Tensor
from torch.nn.functional import pad

from secost.training.loop import augmented

SIZE, PAD = 5, 2


def crops(image: Tensor, flips: bool) -> dict[tuple[float, ...], tuple[int, int, bool]]:
    """Every image that one may become, and by what: slices of the padded one."""
    wide = pad(image, (PAD, PAD, PAD, PAD))
    found = {}
    for down, right in itertools.product(range(2 * PAD + 1), repeat=2):
        cut = wide[:, down:down + SIZE, right:right + SIZE]
        found[tuple(cut.flatten().tolist())] = (down, right, False)
        if flips:
            found[tuple(cut.flip(2).flatten().tolist())] = (down, right, True)
    return found


def drawn(flips: bool, count: int = 6000, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    image = torch.arange(1.0, 3 * SIZE * SIZE + 1).reshape(1, 3, SIZE, SIZE)
    torch.manual_seed(0)
    return augmented(image.repeat(count, 1, 1, 1).contiguous(memory_format=layout), PAD, flips)


def test_each_image_becomes_one_of_its_own_crops_and_all_come_alike() -> None:
    image = torch.arange(1.0, 3 * SIZE * SIZE + 1).reshape(3, SIZE, SIZE)
    known = crops(image, flips=True)
    assert len(known) == 50
    seen = Counter(known[tuple(one.flatten().tolist())] for one in drawn(flips=True))
    expected = 6000 / 50
    squares = sum((seen[place] - expected) ** 2 / expected for place in known.values())
    assert squares < 85.4  # chi-squared of 49 degrees, one in a thousand


def test_what_has_no_mirrored_twin_is_not_mirrored() -> None:
    image = torch.arange(1.0, 3 * SIZE * SIZE + 1).reshape(3, SIZE, SIZE)
    known = crops(image, flips=False)
    assert {tuple(one.flatten().tolist()) for one in drawn(flips=False)} == set(known)


def test_the_seed_decides_and_the_layout_stays() -> None:
    last = drawn(flips=True, count=8, layout=torch.channels_last)
    assert torch.equal(last, drawn(flips=True, count=8)) and last.is_contiguous(memory_format=torch.channels_last)
    assert drawn(flips=True, count=8).is_contiguous()

"""Which of several nobody beats: the Pareto front, in one place for pages, figures, the search and its sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def pareto_front(
    items: Iterable[Item], place: Callable[[Item], tuple[float, float]], ties: bool = True,
) -> list[Item]:
    """The items that none beats, by their first figure. `place` gives two figures, less being better in both.

    An item is beaten by another that is at least as good in both figures and better in one. Items that are equal in
    both do not beat each other: all of them are on the front, or, without `ties`, the first. Takes n log n steps.
    """
    on_front: list[Item] = []
    best = (-math.inf, math.inf)
    for item in sorted(items, key=place):
        here = place(item)
        if here[1] < best[1] or (ties and here == best):
            on_front.append(item)
            best = here
    return on_front

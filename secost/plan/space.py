"""The space of a search: which attention may sit where, as plain data.

A point is one option's number for each group of sites (a site, or all of a stage); its name is the mix of all sites.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from secost.plan.mix import Choice, for_sites, mix_name
from secost.plan.spec import BASELINE, PER_STAGE

NOTHING: Choice = (BASELINE, None)
Point = tuple[int, ...]


@dataclass(frozen=True)
class Space:
    """`groups` holds the places of sites that change together, `options` what may sit in each group."""

    groups: tuple[tuple[int, ...], ...]
    options: tuple[tuple[Choice, ...], ...]

    @property
    def size(self) -> int:
        return math.prod(len(options) for options in self.options)

    @property
    def sites(self) -> int:
        return sum(map(len, self.groups))

    def name(self, point: Sequence[int]) -> str:
        """The mix of one point."""
        choices = [NOTHING] * self.sites
        for group, options, index in zip(self.groups, self.options, point, strict=True):
            for place in group:
                choices[place] = options[index]
        return mix_name(choices)

    def point(self, name: str) -> Point:
        """The inverse. Raises ValueError for a mix that is not in the space."""
        choices = for_sites(name, self.sites)
        found = tuple(options.index(choices[group[0]])
                      for group, options in zip(self.groups, self.options, strict=True))
        if self.name(found) != name:
            raise ValueError(f"{name} is not in the space")
        return found

    def points(self) -> Iterator[Point]:
        """All of them, the last group changing fastest."""
        return product(*(range(len(options)) for options in self.options))

    def uniform(self, choice: Choice) -> Point | None:
        """The same choice at each site; None where a group can't have it."""
        if any(choice not in options for options in self.options):
            return None
        return tuple(options.index(choice) for options in self.options)

    def drawn(self, count: int, seed: int, but: Sequence[Point] = ()) -> list[Point]:
        """So many different points, each as likely as another; fewer where there are no more."""
        order, seen = random.Random(seed), set(but)
        found: list[Point] = []
        if self.size <= 4 * (count + len(seen)):
            left = [point for point in self.points() if point not in seen]
            return order.sample(left, min(count, len(left)))
        while len(found) < count:
            point = tuple(order.randrange(len(options)) for options in self.options)
            if point not in seen:
                seen.add(point)
                found.append(point)
        return found

    def balanced(self, count: int, seed: int) -> list[Point]:
        """So many points in which each option of a group comes up equally often, give or take one; in every second one
        half of the groups are then emptied, so that small networks are among them. All of them differ."""
        order = random.Random(seed)
        columns = []
        for options in self.options:
            column: list[int] = []
            while len(column) < count:
                column += order.sample(range(len(options)), len(options))
            column = column[:count]
            order.shuffle(column)
            columns.append(column)
        points = [list(point) for point in zip(*columns, strict=True)]
        for point in points[1::2]:
            for place in order.sample(range(len(point)), len(point) // 2):
                point[place] = 0
        return list(dict.fromkeys(map(tuple, points)))


def make_space(stages: Sequence[int], choices: Sequence[Choice], per: str) -> Space:
    """The space of sites that lie in these stages: none or one of the choices in each site, or in all of a stage."""
    keys = list(stages) if per == PER_STAGE else list(range(len(stages)))
    groups = tuple(tuple(place for place, key in enumerate(keys) if key == group) for group in dict.fromkeys(keys))
    options = tuple(dict.fromkeys((NOTHING, *choices)))
    return Space(groups, (options,) * len(groups))

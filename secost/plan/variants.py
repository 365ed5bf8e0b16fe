"""Which attention sits where, and how it is written: mixes of attentions, the space of them, and spellings of one.

A **mix** is one attention a site, written as one name, such as `mix:2xnone+se/4+spatial`. It stands wherever an
attention's name does (`--attention`, `attach`, a record), has no reduction of its own, and names the sites of a
placement in the order of the data. `2xnone` is twice `none`, `se/4` is SE with r = 4. A search has a space of mixes: a
point is one option's number for each group of sites (a site, or all of a stage).

A **spelling** is one way to write an attention: the same function of its map, in other operations. All spellings of an
attention have the same parameters, drawn alike from the same seed.

    squeeze      mean: x.mean((2, 3))              pool: AdaptiveAvgPool2d(1)
    excitation   linear: nn.Linear on (N, C)       conv: 1x1 nn.Conv2d on (N, C, 1, 1)
    gate         sigmoid                           hardsigmoid: min(max(x / 6 + 1/2, 0), 1), which is another function
    scaling      new: x * gate                     inplace: x.mul_(gate), which overwrites the map it was given
    layout       nchw: the map as it comes         nhwc: a permuted view (N, H, W, C), with which nothing is moved
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from secost.errors import BadSpecError, UnknownNameError
from secost.plan.options import ALL_SPELLINGS, DEFAULT_SPELLING, PER_STAGE
from secost.plan.trials import BASELINE, NATIVE, variant_label

PREFIX = "mix:"
_PART = re.compile(r"(?:([1-9]\d{0,3})x)?([^/+\s]+)(?:/([1-9]\d{0,5}))?")

Choice = tuple[str, int | None]
Point = tuple[int, ...]
NOTHING: Choice = (BASELINE, None)


def is_mix(attention: str) -> bool:
    return attention.startswith(PREFIX)


def mix_name(choices: Sequence[Choice]) -> str:
    """The one name of (attention, reduction) at each site; `none` is no attention there."""
    runs = [(choice, len(list(run))) for choice, run in itertools.groupby(choices)]
    return PREFIX + "+".join(
        f"{f'{count}x' if count > 1 else ''}{name}{'' if r is None else f'/{r}'}" for (name, r), count in runs
    )


def parse_mix(attention: str) -> list[Choice]:
    """(attention, reduction) of each site. Raises BadSpecError for what is not written so."""
    choices: list[Choice] = []
    for part in attention.removeprefix(PREFIX).split("+"):
        match = _PART.fullmatch(part)
        if match is None or match[2] == NATIVE:
            raise BadSpecError(
                f"attention {attention!r} is no mix: write a choice for each site, such as {PREFIX}2xnone+se/4+spatial"
            )
        choices += [(match[2], int(match[3]) if match[3] else None)] * int(match[1] or 1)
    return choices


def for_sites(attention: str, sites: int) -> list[Choice]:
    """The same, once it is sure that there is one for each of so many sites. Raises BadSpecError otherwise."""
    choices = parse_mix(attention)
    if len(choices) != sites:
        raise BadSpecError(
            f"{attention} names {len(choices)} sites and there are {sites}: name each that secost sites lists, or none"
        )
    return choices


def choice_label(choice: Choice) -> str:
    """`se r=4`, `eca`, `none`."""
    return variant_label(*choice)


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
        return itertools.product(*(range(len(options)) for options in self.options))

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


# --- spellings ---


@dataclass(frozen=True)
class Spelling:
    """One way to write an attention; the defaults are secost's own. `used_by` says who writes it so."""

    squeeze: str = "mean"
    excitation: str = "linear"
    gate: str = "sigmoid"
    scaling: str = "new"
    layout: str = "nchw"
    used_by: str = ""

    @property
    def same_function(self) -> bool:
        """Whether it gives the outputs of secost's own spelling."""
        return self.gate == "sigmoid"

    @property
    def in_place(self) -> bool:
        """Whether it overwrites its input, so that it serves where nothing else reads that map."""
        return self.scaling == "inplace"


OWN = Spelling(used_by="secost (--spelling default)")
# The name that `OWN` would have: known, so that asking for it gets an answer and not a second copy of the default.
OWN_NAME = "mean-linear"
SPELLINGS: Mapping[str, Mapping[str, Spelling]] = MappingProxyType({
    "se": MappingProxyType({
        "mean-conv": Spelling(excitation="conv", used_by="timm's SEModule and SqueezeExcite"),
        "pool-linear": Spelling(squeeze="pool", used_by="moskomule/senet.pytorch"),
        "pool-conv": Spelling(squeeze="pool", excitation="conv", used_by="torchvision's SqueezeExcitation"),
        "nhwc-linear": Spelling(layout="nhwc", used_by="networks written for maps of shape (N, H, W, C)"),
        "mean-linear-inplace": Spelling(scaling="inplace"),
        "pool-conv-inplace": Spelling(squeeze="pool", excitation="conv", scaling="inplace"),
        "mean-linear-hardsigmoid": Spelling(gate="hardsigmoid"),
        "pool-conv-hardsigmoid": Spelling(
            squeeze="pool", excitation="conv", gate="hardsigmoid", used_by="torchvision's MobileNetV3"
        ),
    }),
})


def spellings_of(attention: str) -> tuple[str, ...]:
    """The names of an attention's spellings besides secost's own; empty where there is no other."""
    return tuple(SPELLINGS.get(attention, ()))


def get_spelling(attention: str, name: str | None) -> Spelling:
    """The spelling of that name, secost's own for None.

    Raises UnknownNameError for a name that is no spelling of the attention, with the nearest ones.
    """
    if name is None or name == DEFAULT_SPELLING:
        return OWN
    known = SPELLINGS.get(attention, {})
    if name in known:
        return known[name]
    if not known:
        raise BadSpecError(f"{attention} has no spelling but secost's own, {name!r} was asked for: leave it out")
    if name == OWN_NAME:
        raise BadSpecError(f"{OWN_NAME!r} is how secost itself writes {attention}: ask for it as {DEFAULT_SPELLING!r}")
    raise UnknownNameError(f"spelling of {attention}", name, [DEFAULT_SPELLING, *known])


def same_function(attention: str, name: str | None) -> bool | None:
    """Whether a record's spelling gives the outputs of secost's own; None for a name not known here."""
    if name is None:
        return True
    found = SPELLINGS.get(attention, {}).get(name)
    return None if found is None else found.same_function


def check_spellings(names: Iterable[str], attentions: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The spellings of the attentions asked for, as `Spec.comparisons` takes them, once the names are found right.

    A name must belong to one of the attentions at least, and each attention must be left with a spelling: raises
    UnknownNameError or BadSpecError otherwise.
    """
    asked = list(names)
    known = {name: spellings_of(name) for name in attentions if name not in (BASELINE, NATIVE)}
    own_asked = not {DEFAULT_SPELLING, ALL_SPELLINGS}.isdisjoint(asked)
    bare = [] if own_asked else [attention for attention, ways in known.items() if not set(asked) & set(ways)]
    spelled = [attention for attention, ways in known.items() if ways]
    for name in asked:
        if name in (DEFAULT_SPELLING, ALL_SPELLINGS) or any(name in ways for ways in known.values()):
            continue
        get_spelling(spelled[0] if spelled else _most_spelled(), name)  # raises, with the nearest name
        raise BadSpecError(
            f"spelling {name!r} belongs to {_most_spelled()}, which was not asked for: add it to --attention, or leave "
            "--spelling out"
        )
    if bare:
        raise BadSpecError(
            f"{bare[0]} has none of the spellings {', '.join(asked)}: add {DEFAULT_SPELLING} to --spelling"
        )
    return known


def _most_spelled() -> str:
    return max(SPELLINGS, key=lambda attention: len(SPELLINGS[attention]))

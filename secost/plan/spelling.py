"""The ways in which one attention can be written: the same function of its map, in other operations.

Plain data, for those who build (`networks.attention`), who plan (`work.planning`) and who read records (`answers`).
All spellings of an attention have the same parameters, drawn alike from the same seed.

    squeeze      mean: x.mean((2, 3))              pool: AdaptiveAvgPool2d(1)
    excitation   linear: nn.Linear on (N, C)       conv: 1x1 nn.Conv2d on (N, C, 1, 1)
    gate         sigmoid                           hardsigmoid: min(max(x / 6 + 1/2, 0), 1), which is another function
    scaling      new: x * gate                     inplace: x.mul_(gate), which overwrites the map it was given
    layout       nchw: the map as it comes         nhwc: a permuted view (N, H, W, C), with which nothing is moved
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from secost.errors import BadSpecError, UnknownNameError
from secost.plan.options import ALL_SPELLINGS, DEFAULT_SPELLING
from secost.plan.trials import BASELINE, NATIVE


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

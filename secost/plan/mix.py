"""A mix: one attention a site, written as one name, such as `mix:2xnone+se/4+spatial`.

It stands wherever an attention's name does (`--attention`, `attach`, a record), has no reduction of its own, and names
the sites of a placement in the order of the data. `2xnone` is twice `none`, `se/4` is SE with r = 4.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from secost.errors import BadSpecError
from secost.plan.spec import NATIVE, variant_label

PREFIX = "mix:"
_PART = re.compile(r"(?:([1-9]\d{0,3})x)?([^/+\s]+)(?:/([1-9]\d{0,5}))?")

Choice = tuple[str, int | None]


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
    parts = [_PART.fullmatch(part) for part in attention.removeprefix(PREFIX).split("+")]
    if None in parts or any(match is not None and match[2] == NATIVE for match in parts):
        raise BadSpecError(
            f"attention {attention!r} is no mix: write a choice for each site, such as {PREFIX}2xnone+se/4+spatial"
        )
    choices: list[Choice] = []
    for match in parts:
        assert match is not None
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

"""What else a network's time could buy: alternatives to attention, by name.

An alternative is the network's own knob turned: another network of its line (`resnet101`), the network at another
resolution (`resnet50@288`, or `@288` for whichever network it is), or scaled in depth and width
(`scaled:net.py:make@1x1.5`). `auto` is what is published under one recipe with the network, of
`secost/data/alternatives.csv`: the next network of its line, the next resolution above 224 px.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from secost.errors import BadSpecError
from secost.tables import cells_of

AUTO, NO_ALTERNATIVES = "auto", "none"
_SMALL, _DEEPER, _WIDER = "small:", "2x1", "1x1.5"
PUBLISHED_PX = 224
_AT = re.compile(r"(?P<model>.*)@(?P<resolution>[0-9]+)")
_SCALED = re.compile(r"scaled:(?P<model>.+)@[0-9.]+x[0-9.]+")
_IN_BOTH = re.compile(r"resnet[0-9]+|wide_resnet[0-9]+_2")
_LIBRARIES = re.compile(r"^(timm|torchvision):")


def split_alternative(name: str, model: str) -> tuple[str, int | None]:
    """The network and the resolution in pixels that an alternative of `model` is; None for the resolution that the
    others have."""
    found = _AT.fullmatch(name)
    return (found["model"] or model, int(found["resolution"])) if found else (name, None)


def check_alternatives(names: Sequence[str], models: Sequence[str]) -> None:
    """Raise BadSpecError for alternatives that belong to none or to an unknown one of the models."""
    for name in names:
        if name in (AUTO, NO_ALTERNATIVES):
            if len(names) > 1:
                raise BadSpecError(f"alternatives {','.join(names)}: {name} stands alone; give {name}, or names")
            return
        whose = _whose(name)
        if whose is None and len(models) > 1 and not name.startswith("@"):
            raise BadSpecError(f"alternative {name!r} does not say of which of {len(models)} networks: give one "
                               "network a time, or auto")
        if whose not in (None, *models) or (name in models and len(models) == 1):
            raise BadSpecError(f"alternative {name!r} is no alternative to {models[0]}: name another network of its "
                               f"line, or {models[0]}@256")


def alternatives_of(
    names: Sequence[str], model: str, resolution: int | None, trained: bool = False,
) -> tuple[str, ...]:
    """The alternatives of one network among those asked for; `resolution` is the one its variants are measured at.

    `auto` is, of a network that is trained, the same network deeper and wider, where secost builds it.
    """
    if NO_ALTERNATIVES in names:
        return ()
    if AUTO in names and trained:
        scalable = model.startswith(_SMALL)
        return tuple(f"scaled:{model}@{scale}" for scale in (_DEEPER, _WIDER)) if scalable else ()
    if AUTO in names:
        return _published(model, resolution)
    mine = (name if not name.startswith("@") else f"{model}{name}" for name in names
            if name.startswith("@") or _whose(name) in (None, model))
    return tuple(dict.fromkeys(mine))


def plain_alternative(name: str) -> str:
    """An alternative's name as published tables have it: without its library."""
    return _LIBRARIES.sub("", name)


def _whose(name: str) -> str | None:
    """The network that an alternative says it is of; None where it does not say."""
    at = _AT.fullmatch(name)
    found = _SCALED.fullmatch(at["model"] if at else name)
    if found is not None:
        return found["model"]
    return at["model"] or None if at else None


def _published(model: str, resolution: int | None) -> tuple[str, ...]:
    """In the library that the model comes from, where that has it, else timm's; none at another resolution than that of
    the published figures, nor of a file or module of the user's own, whatever its name."""
    library = _LIBRARIES.match(model)
    prefix = library[0] if library else ""
    name = model.removeprefix(prefix)
    bare = name.split(".")[0]
    if resolution != PUBLISHED_PX or "/" in name or ":" in name:
        return ()
    return tuple(prefix + name if name.startswith(bare + "@") or _IN_BOTH.fullmatch(name) else name
                 for name in _known().get(bare, ()))


@functools.cache
def _known() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in cells_of("alternatives.csv"):
        found[row["network"]] = (*found.get(row["network"], ()), row["alternative"])
    return found

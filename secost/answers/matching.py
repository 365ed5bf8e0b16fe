"""Which record of one run is which of another: by key, and where keys differ by the trial's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from secost.answers.groups import SETTING_FIELDS
from secost.runs.records import FAILED, Record

TRIAL = (*SETTING_FIELDS, "attention", "reduction", "spelling", "dataset", "seed", "epochs", "estimate")
_RESOLVED = ("placement", "resolution")


def match_records(old: Sequence[Record], new: Sequence[Record]) -> list[tuple[Record | None, Record | None]]:
    """Pairs of records of the same trial, in the order of `old`, and then what only `new` has.

    A key changes when a release adds to what it is made of; the words stay. A failed record still has the placement
    and resolution that were asked for, a finished one those that were found. What fits several others fits none.
    """
    left_old, left_new = list(old), list(new)
    partner: dict[int, Record] = {}
    for identity in (_key, _words, _loose_words):
        theirs = _unique(left_new, identity)
        for name, record in _unique(left_old, identity).items():
            if name in theirs and (identity is not _loose_words or _unresolved(record, theirs[name])):
                partner[id(record)] = theirs[name]
        taken = {id(record) for record in partner.values()}
        left_old = [record for record in left_old if id(record) not in partner]
        left_new = [record for record in left_new if id(record) not in taken]
    pairs: list[tuple[Record | None, Record | None]] = [(record, partner.get(id(record))) for record in old]
    return [*pairs, *((None, record) for record in left_new)]


def _unique(records: Iterable[Record], identity: Callable[[Record], Any]) -> dict[Any, Record]:
    found: dict[Any, list[Record]] = {}
    for record in records:
        name = identity(record)
        if name is not None:
            found.setdefault(name, []).append(record)
    return {name: members[0] for name, members in found.items() if len(members) == 1}


def _key(record: Record) -> str | None:
    return record.key or None


def _words(record: Record) -> tuple[Any, ...]:
    return tuple(_hashable(getattr(record, name)) for name in TRIAL)


def _loose_words(record: Record) -> tuple[Any, ...]:
    return tuple(_hashable(getattr(record, name)) for name in TRIAL if name not in _RESOLVED)


def _unresolved(old: Record, new: Record) -> bool:
    """Whether placement and resolution differ only because one of the two was never resolved."""
    placement = old.placement == new.placement or "auto" in (old.placement, new.placement)
    failed = FAILED in (old.status, new.status)
    return placement and (old.resolution == new.resolution or (failed and None in (old.resolution, new.resolution)))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

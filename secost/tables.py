"""The tables that come with secost (`secost/data/*.csv`): a row as a dataclass, an empty cell as None."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def rows_of(kind: Callable[..., Kind], name: str) -> tuple[Kind, ...]:
    """A row of a file as a dataclass, each column as the field of its name says; an empty cell is None."""
    types = {item.name: str(item.type) for item in fields(kind)}  # type: ignore[arg-type]
    return tuple(kind(**{column: _CELLS[types[column]](values[column]) for column in types})
                 for values in cells_of(name))


def cells_of(name: str) -> list[dict[str, str]]:
    """Every row of a file as it stands there, by column."""
    text = resources.files("secost").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def whole_number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


_CELLS: dict[str, Callable[[str], Any]] = {
    "str": str, "str | None": lambda text: text or None, "int": int, "int | None": whole_number, "float": float,
    "float | None": lambda text: float(text) if text else None, "bool": lambda text: text == "yes",
}

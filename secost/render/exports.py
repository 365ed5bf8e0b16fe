"""What a page holds, for programs: strict JSON, CSV, Parquet; and its figures as files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secost.errors import MissingExtraError
from secost.pages.page import Page, Sheet
from secost.runs.records import SCHEMA
from secost.writing import for_csv, plain, to_json

_NOT_ASCII = re.compile(r"[^\x20-\x7e\n]")


def json_text(page: Page, sheet: Sheet) -> str:
    """The document. Invisible characters stand as escapes: JSON on stdout may be read in a terminal."""
    given = page.document
    whole = {"schema": SCHEMA, "kind": page.kind, **given} if isinstance(given, Mapping) else given()
    return _NOT_ASCII.sub(_escape_invisible, to_json(whole, indent=2)) + "\n"


def _escape_invisible(match: re.Match[str]) -> str:
    character = match.group()
    if plain(character) == character:
        return character
    # Outside of strings JSON is ASCII, so an escape is always right here; json.dumps pairs surrogates where needed.
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def csv_text(page: Page, sheet: Sheet) -> str:
    """The rows, a header first; what is missing is empty."""
    heads, rows = _cells(page)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([for_csv(value) for value in row] for row in rows)
    return out.getvalue()


def _cells(page: Page) -> tuple[Sequence[str], Iterable[Iterable[Any]]]:
    if not callable(page.rows):
        return list(page.rows[0]) if page.rows else [], (row.values() for row in page.rows)
    frame = page.rows()
    columns = [[None if missing else value for value, missing in zip(frame[name].tolist(), frame[name].isna(),
                                                                     strict=True)] for name in frame.columns]
    return list(frame.columns), zip(*columns, strict=True)


def parquet(page: Page, sheet: Sheet) -> Mapping[str, bytes]:
    """The rows as one Parquet file. Raises MissingExtraError without pyarrow."""
    try:
        import pyarrow  # noqa: F401  # pandas would say so in many lines
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "--format parquet") from None
    import pandas as pd

    rows = page.rows() if callable(page.rows) else pd.DataFrame(page.rows, dtype="object")
    out = io.BytesIO()
    rows.map(_encodable).infer_objects().to_parquet(out, engine="pyarrow", index=False)
    return {f"{page.data_name or page.kind}.parquet": out.getvalue()}


def _encodable(value: Any) -> Any:
    """A text without lone surrogates, which have no UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def png(page: Page, sheet: Sheet) -> Mapping[str, bytes]:
    """Each figure as a PNG of 160 dots an inch."""
    return {f"{figure.name}.png": figure.png for figure in page.figures}


def svg(page: Page, sheet: Sheet) -> Mapping[str, bytes]:
    """Each figure as an SVG without a date, so that equal pages give equal bytes."""
    return {f"{figure.name}.svg": figure.svg for figure in page.figures}

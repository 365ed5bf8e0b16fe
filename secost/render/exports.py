"""Records for programs: strict JSON, and CSV with the contract's flat fields."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from secost.cleaning import for_csv, plain, to_json
from secost.pages.report import Report
from secost.runs.records import FLAT_FIELDS, Record, document

_NOT_ASCII = re.compile(r"[^\x20-\x7e\n]")


def render_json(report: Report) -> dict[str, bytes]:
    """The JSON document of the records in `records.json`."""
    return {"records.json": json_text(report).encode("utf-8")}


def render_csv(report: Report) -> dict[str, bytes]:
    """The flat fields of the records in `records.csv`, UTF-8."""
    return {"records.csv": csv_text(report.records).encode("utf-8")}


def json_text(report: Report) -> str:
    """The document as text. Invisible characters stand as escapes: JSON on stdout may be read in a terminal."""
    text = to_json(document(list(report.records), report.environment), indent=2)
    return _NOT_ASCII.sub(_escape_invisible, text) + "\n"


def csv_text(records: Sequence[Record]) -> str:
    """One row a record. `stages` and `cautions` are joined with ';', `unsupported_ops` is JSON, missing is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FLAT_FIELDS)
    for record in records:
        writer.writerow([for_csv(_flat(name, getattr(record, name))) for name in FLAT_FIELDS])
    return out.getvalue()


def _flat(name: str, value: Any) -> Any:
    if name == "unsupported_ops":
        return json.dumps(value, sort_keys=True)
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else value


def _escape_invisible(match: re.Match[str]) -> str:
    character = match.group()
    if plain(character) == character:
        return character
    # Outside of strings JSON is ASCII, so an escape is always right here; json.dumps pairs surrogates where needed.
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"

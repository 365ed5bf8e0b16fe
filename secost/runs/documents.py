"""Reads what was measured, whichever way it was kept: the folder of a run, or the JSON document of `--format json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secost.errors import RunError, one_line
from secost.runs.database import MAX_BYTES
from secost.runs.records import SCHEMA, Record, checked_record, strict_json
from secost.runs.store import read_run

Environments = dict[str, Mapping[str, Any]]


def read_results(path: str | Path) -> tuple[list[Record], Environments]:
    """The records of a run's folder or of a JSON document, and the environments by the id that a record holds.

    The id is `""` for records that hold none. Raises RunError for a path that is neither, a document of another schema
    and values that no record has. Nothing in the file is executed.
    """
    path = Path(path)
    try:
        kind = "file" if path.is_file() else "folder" if path.is_dir() else None
    except (OSError, ValueError) as error:
        raise RunError(f"can't read {str(path)!r}: {one_line(error)}") from None
    if kind is None:
        raise RunError(f"there is nothing at {str(path)!r}: give the folder of a run, or a file of --format json")
    if kind == "file":
        return read_document(path)
    _, records, environments = read_run(path)
    return records, dict(environments)


def read_document(path: Path) -> tuple[list[Record], Environments]:
    """The records and environments of a file that `--format json` wrote. Raises RunError for any other file."""
    values = _load(path)
    if not isinstance(values, dict) or not isinstance(values.get("records"), list):
        raise RunError(f"{str(path)!r} holds no records: give the folder of a run, or a file of --format json")
    if values.get("schema") != SCHEMA:
        raise RunError(
            f"{str(path)!r} has schema {str(values.get('schema'))[:20]}, and this secost knows schema {SCHEMA}: it was "
            "written by another version, install that one"
        )
    records = [_one(path, position, body) for position, body in enumerate(values["records"], 1)]
    return records, _environments(values.get("environment"), records)


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RunError(f"{str(path)!r} is larger than {MAX_BYTES >> 30} GiB: it holds no run")
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"can't read {str(path)!r}: {error.strerror or error}") from None
    if data.startswith(b"SQLite format 3\0"):
        raise RunError(f"{str(path)!r} is the database of a run: give the run's folder, {str(path.parent)!r}")
    try:
        return strict_json(data.decode("utf-8"))
    except (RunError, ValueError, RecursionError) as error:
        raise RunError(f"{str(path)!r} is not JSON as secost writes it: {one_line(error)}") from None


def _one(path: Path, position: int, body: Any) -> Record:
    try:
        return checked_record(body)
    except (RunError, TypeError) as error:
        raise RunError(f"record {position} of {str(path)!r} is not usable: {one_line(error)}") from None


def _environments(value: Any, records: list[Record]) -> Environments:
    """A document has the facts of its one environment, or those of several by id."""
    if not isinstance(value, dict):
        return {}
    if value and all(isinstance(facts, dict) for facts in value.values()):
        return dict(value)
    return {record.environment or "": value for record in records}

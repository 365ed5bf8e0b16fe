"""Formats by name (those without a layout are made here), a page rendered in one of them, and the writing of files.

A format is one function from a Page to a text, or to files by name; a third party adds its own by `FORMATS.register`,
and every kind of page has it, on stdout and in files. What is slow to import is imported where it is used.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from secost.errors import BadSpecError, MissingExtraError, RunError
from secost.pages.page import HTML, MARKDOWN, TERMINAL, Page, Sheet
from secost.registry import Registry
from secost.render.markdown import markdown
from secost.runs.records import SCHEMA
from secost.writing import for_csv, plain, slug, to_json, write_whole

_NOT_ASCII = re.compile(r"[^\x20-\x7e\n]")
PAGE_FORMATS = ("json", "csv", HTML, MARKDOWN, "png")


class Renderer(Protocol):
    """Lays a page out: gives one text, or files by name. Equal pages give equal bytes."""

    def __call__(self, page: Page, sheet: Sheet, /) -> str | Mapping[str, bytes]: ...


@dataclass(frozen=True)
class Format:
    """A renderer, and the file that its text becomes: with this `ending` in place of the format's name, and named as
    data where it holds the rows or the document. One that gives files only can't be printed."""

    render: Renderer
    ending: str = ""
    data: bool = False
    files_only: bool = False


FORMATS: Registry[Format] = Registry("format")


def render(page: Page, format: str, width: int = 120, color: bool = False) -> str:
    """The page as one text for stdout. Raises UnknownNameError, and BadSpecError for a format of files only."""
    text = check_printable(format).render(page, Sheet(width, color))
    if not isinstance(text, str):
        raise _files_only(format)
    return text


def check_printable(format: str) -> Format:
    """The format of that name, where it can be printed: known before any work is done."""
    chosen = FORMATS.get(format)
    if chosen.files_only:
        raise _files_only(format)
    return chosen


def _files_only(format: str) -> BadSpecError:
    texts = [name for name in FORMATS.names() if not FORMATS.get(name).files_only]
    return BadSpecError(f"format {format!r} is written to files: give a folder with -o, or use one of "
                        f"{', '.join(texts)}")


def write(page: Page, folder: str | Path, formats: Sequence[str], width: int = 120) -> list[Path]:
    """The page's files of these formats in the folder, each whole or not at all, and the files attached to it.

    All are rendered before the first is written. Raises RunError where the folder can't be written.
    """
    files: dict[str, bytes] = {}
    for name, format in [(name, FORMATS.get(name)) for name in formats]:
        made = format.render(page, Sheet(width, files=True))
        if isinstance(made, str):
            stem = page.data_name if format.data and page.data_name else page.kind
            made = {f"{stem}.{format.ending or name}": made.encode("utf-8")}
        files |= made
    files |= page.attached() if page.attached else {}
    return write_files(Path(folder), files)


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write every file by name. Raises RunError where the folder can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / slug(name), content) for name, content in files.items()]
    except OSError as error:
        raise RunError(f"can't write the report to {str(folder)!r}: {error.strerror or error}") from error


def write_file(path: str, content: bytes) -> Path:
    """Write one file that the user named. Raises RunError where it can't be written."""
    try:
        return _write(Path(path), content)
    except (OSError, ValueError) as error:
        raise RunError(f"can't write {path!r}: {getattr(error, 'strerror', None) or error}") from None


def _write(path: Path, content: bytes) -> Path:
    """Write a file whole; a device or a pipe is written to."""
    if path.absolute().is_relative_to("/dev") or (path.exists() and not path.is_file() and not path.is_dir()):
        path.write_bytes(content)
        return path
    return write_whole(path, content, 0o666 & ~_umask())


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- formats without a layout: data for programs, figures ---


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


# --- the registry ---


def _terminal(page: Page, sheet: Sheet) -> str:
    from secost.render.terminal import terminal

    return terminal(page, sheet)


def _html(page: Page, sheet: Sheet) -> str:
    from secost.render.html import html

    return html(page, sheet)


FORMATS.register(TERMINAL, Format(_terminal, "txt"))
FORMATS.register("json", Format(json_text, data=True))
FORMATS.register("csv", Format(csv_text, data=True))
FORMATS.register(MARKDOWN, Format(markdown))
FORMATS.register(HTML, Format(_html))
FORMATS.register("parquet", Format(parquet, files_only=True))
FORMATS.register("png", Format(png, files_only=True))
FORMATS.register("svg", Format(svg, files_only=True))

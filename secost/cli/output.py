"""How commands put pages on stdout and into files."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from secost.pages.page import Page


def show(page: Page, format: str) -> None:
    """Print a page on stdout in one format, and nothing else there: for the terminal's width, in colour where a
    terminal reads it."""
    from secost.render.formats import render

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = render(page, format, _width(), color)
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")


def show_or_write(page: Page, format: str, output: str | None) -> int:
    """On stdout, or as the files of that format in the folder `output`."""
    from secost.render.formats import write

    if output is None:
        show(page, format)
    else:
        say_paths(_written(write(page, output, [format]), format))
    return 0


def _written(paths: list[Path], format: str) -> list[Path]:
    """What was written. Raises BadSpecError where that is nothing: a page may have no figures."""
    from secost.errors import BadSpecError

    if not paths:
        raise BadSpecError(f"there is nothing to write as {format}: this page has no figures")
    return paths


def say_paths(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(str(path))


def _width() -> int:
    return shutil.get_terminal_size((120, 24)).columns


def print_rows(title: str, rows: Sequence[Mapping[str, Any]], file: TextIO) -> None:
    """Plain rows as a table; numbers to the right, with thousands set apart."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from secost.cleaning import plain

    table = Table(title=Text(plain(title)), title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(Text(name), justify="right" if isinstance(rows[0][name], int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{value:,}" if isinstance(value, int) else plain(value)) for value in row.values()))
    width = shutil.get_terminal_size((120, 24)).columns
    if not rows:
        return
    Console(file=file, width=width, no_color=not file.isatty(), markup=False).print(table)

"""How commands put pages on stdout and into files."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

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


def show_or_write_file(page: Page, format: str, output: str | None, quiet: bool = False) -> None:
    """On stdout, or in the file `output`; in a folder under the usual names, where `output` is one."""
    from secost.render.formats import render, write, write_file

    if output is None:
        return show(page, format)
    if Path(output).is_dir() or output.endswith(("/", os.sep)):
        paths = _written(write(page, output, [format], _width()), format)
    else:
        paths = [write_file(output, render(page, format, _width()).encode("utf-8"))]
    if not quiet:
        say_paths(paths)


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

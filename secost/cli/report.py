"""`secost report`, and how the other commands put results on stdout and into files."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from secost.cli import options
from secost.cli.progress import note

if TYPE_CHECKING:
    from secost.pages.page import PlainPage
    from secost.pages.report import Report


def report(
    run: Annotated[str, typer.Argument(help="The folder of a run.")],
    output: Annotated[str | None, typer.Option("-o", "--output", help="Folder for the pages [the run's own].")] = None,
    format: Annotated[str, typer.Option("--format", help="md, html, png, svg, csv, json; or table for stdout.")] = (
        "md,html,png"
    ),
    benefit: options.Benefit = None, accuracy: options.Accuracy = None,
) -> int:
    """Render a finished or half-finished run again: nothing is measured, torch is not imported."""
    formats = options.words(format)
    for name in formats:
        options.check_format(name, (*options.FILE_FORMATS, "table"))
    from secost.answers.evidence import gains_from
    from secost.pages.of_run import page_of
    from secost.pages.report import build_report
    from secost.render.formats import write_report
    from secost.render.plain_pages import write_pages
    from secost.runs.store import read_all

    kept, evidence = read_all(Path(run)), bool(benefit or accuracy)
    page = None if evidence else page_of(kept)  # who asks for evidence is told of costs
    wanted = [name for name in formats if name != "table"]
    if page is not None:
        if "table" in formats:
            show_page(page, "table")
        written = write_pages(page, Path(output or run)) if wanted else []
    else:
        gains, lost = gains_from(benefit, accuracy, kept.records) if evidence else (None, [])
        for line in lost:
            note(line)
        pages = build_report(kept.records, kept.spec.to_dict(), kept.environments, gains=gains)
        if "table" in formats:
            show(pages, "table")
        written = write_report(pages, Path(output or run), wanted) if wanted else []
    for path in written:
        typer.echo(str(path))
    return 0


def show(pages: Report, format: str) -> None:
    """Print a report on stdout in one format, and nothing else there."""
    from secost.render.formats import render_text

    _print(lambda width, color: render_text(pages, format, width, color))


def show_page(page: PlainPage, format: str) -> None:
    """Print a page on stdout in one format, and nothing else there."""
    from secost.render.plain_pages import render_page

    _print(lambda width, color: render_page(page, format, width, color))


def show_or_write(page: PlainPage, format: str, output: str | None) -> int:
    """On stdout, or as a file of that format in the folder `output`."""
    from secost.render.plain_pages import write_page

    if output is None:
        show_page(page, format)
    else:
        typer.echo(str(write_page(page, Path(output), format)))
    return 0


def _print(render: Callable[[int, bool], str]) -> None:
    """What `render` makes for the terminal's width, in colour where a terminal reads it."""
    width = shutil.get_terminal_size((120, 24)).columns
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = render(width, color)
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


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

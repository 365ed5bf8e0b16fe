"""`secost report`: a run's pages again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli import options
from secost.cli.screen import note, say_paths, show


def report(
    run: Annotated[str, typer.Argument(help="The folder of a run.")],
    output: Annotated[str | None, typer.Option("-o", "--output", help="Folder for the pages [the run's own].")] = None,
    format: Annotated[str, typer.Option(
        "--format", help="md, html, png, svg, csv, json, parquet; or table for stdout.")] = "md,html,png",
    benefit: options.Benefit = None, accuracy: options.Accuracy = None, price: options.Price = None,
) -> int:
    """Render a finished or half-finished run again: nothing is measured, torch is not imported."""
    formats = options.words(format)
    from secost.answers.evidence import gains_from
    from secost.pages.cost import page_of
    from secost.render.formats import FORMATS, write
    from secost.runs.store import read_all
    from secost.writing import parse_share

    for name in formats:
        FORMATS.get(name)
    kept = read_all(Path(run))
    gains, lost = gains_from(benefit, accuracy, kept.records) if benefit or accuracy else (None, [])
    for line in lost:
        note(line)
    page = page_of(kept, gains, None if price is None else parse_share("--price", price))
    if "table" in formats:
        show(page, "table")
    wanted = [name for name in formats if name != "table"]
    if wanted:
        say_paths(write(page, output or run, wanted))
    return 0

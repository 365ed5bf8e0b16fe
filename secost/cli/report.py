"""`secost report`: a run's pages again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli import options
from secost.cli.output import say_paths, show
from secost.cli.progress import note


def report(
    run: Annotated[str, typer.Argument(help="The folder of a run.")],
    output: Annotated[str | None, typer.Option("-o", "--output", help="Folder for the pages [the run's own].")] = None,
    format: Annotated[str, typer.Option(
        "--format", help="md, html, png, svg, csv, json, parquet; or table for stdout.")] = "md,html,png",
    benefit: options.Benefit = None, accuracy: options.Accuracy = None,
) -> int:
    """Render a finished or half-finished run again: nothing is measured, torch is not imported."""
    formats = options.words(format)
    from secost.answers.evidence import gains_from
    from secost.pages.cost import cost_page
    from secost.render.formats import FORMATS, PAGE_FORMATS, write
    from secost.runs.store import read_run

    for name in formats:
        FORMATS.get(name)
    spec, records, environments = read_run(Path(run))
    gains, lost = gains_from(benefit, accuracy, records) if benefit or accuracy else (None, [])
    for line in lost:
        note(line)
    page, folder = cost_page(records, spec.to_dict(), environments, gains=gains), output or run
    if "table" in formats:
        show(page, "table")
    wanted = [name for name in formats if name != "table"]
    if wanted:
        say_paths(write(page, folder, wanted))
    if wanted and spec.search is not None:
        from secost.answers.searched import read_search
        from secost.pages import search

        say_paths(write(search.page(read_search(records, spec)), folder, PAGE_FORMATS))
    return 0

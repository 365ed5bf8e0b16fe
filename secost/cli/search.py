"""`secost search`: which attention goes where, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli.options import Given
from secost.cli.screen import listening, show, write_report

Model = Annotated[str, typer.Argument(help="Any network that can be trained on the data set.")]


def search(model: Model = "small:resnet", *, given: Given) -> int:
    """Which attention goes where within a budget: a search, and what speaks for its answer. Resumable at any moment."""
    from secost.pages.search import page
    from secost.studies.search import search as carry_out

    folder = given["output"] or str(Path("runs") / "search")
    with listening(given["quiet"]) as listener:
        result = carry_out(model, **given.keywords(), out=folder, listener=listener)
    shown = page(result)
    write_report(shown, folder)
    show(shown, given["format"])
    return 0 if result.chosen is not None else 1

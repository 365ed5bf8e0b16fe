"""`secost benefit`: what is known of the gain in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli import options
from secost.cli.screen import show_or_write


def benefit(
    attention: Annotated[str | None, typer.Option("--attention", help="Attentions, such as se,eca [all].")] = None,
    family: Annotated[str | None, typer.Option("--family", help="A family of networks, such as resnet.")] = None,
    reduction: Annotated[int | None, typer.Option("-r", "--reduction", min=1, help="At one r, such as 16.")] = None,
    accuracy: options.Accuracy = None, format: options.Format = "table", output: options.Output = None,
) -> int:
    """Published gains of attention, each from one table with its citation; or those of your own accuracies."""
    options.check_format(format, output)
    from secost.pages import benefit as evidence

    if accuracy is not None:
        from secost.answers.accuracies import file_gains, read_accuracies
        from secost.networks.sources import check_name

        rows = read_accuracies(accuracy)
        for model in dict.fromkeys(row.model for row in rows):
            check_name(model)
        evidence_of_file = file_gains(rows, Path(accuracy).name)
        page = evidence.of_file(evidence_of_file.gains, evidence_of_file.unmatched, accuracy)
    else:
        from secost.answers.published import left_out_pairs, published_gains

        names = options.words(attention) if attention else []
        asked = (names, family, reduction)
        page = evidence.of_published(published_gains(*asked), names, left_out_pairs(*asked))
    return show_or_write(page, format, output)

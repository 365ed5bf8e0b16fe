"""`secost sweep`: what attention costs over a grid of networks, attentions and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli.options import Given
from secost.cli.profile import Worth, dry_run, finish
from secost.cli.screen import listening

File = Annotated[str | None, typer.Argument(help="A TOML spec; options given beside it win.")]


def sweep(spec: File = None, *, given: Given) -> int:
    """A grid over networks, attentions and settings, resumable: the same command goes on where it stopped."""
    values, worth = given.spec_values(), Worth.of(given)
    from secost.plan.spec import Spec

    grid = Spec.from_dict(values) if spec is None else Spec.from_toml(spec).with_changes(**values)
    folder = given["output"] or str(Path("runs") / (Path(spec).stem if spec else "sweep"))
    if given["dry_run"]:
        return dry_run(grid, folder)
    with listening(given["quiet"]) as listener:
        from secost.work.run import sweep_spec

        run = sweep_spec(
            grid, folder, retry_failed=bool(given["retry_failed"]), listener=listener, executor=given["executor"],
            workers=given["workers"], address=given["address"],
        )
    return finish(run, given["format"], folder, worth)

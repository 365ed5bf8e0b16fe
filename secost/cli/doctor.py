"""`secost doctor`: is this machine fit to measure on, and what overhead could it tell apart at which time?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from secost.cli import options
from secost.cli.screen import note, show_or_write

if TYPE_CHECKING:
    from secost.meters.aa_run import AARun
    from secost.meters.fitness import Check

_PAUSE_S = 1.0

Threads = Annotated[int, typer.Option("--threads", help="Threads that are to be measured with.")]
Seconds = Annotated[float, typer.Option("--seconds", help="Time of the A/A run.")]
Model = Annotated[str, typer.Option("--model", help="The network of the A/A run.")]
Resolution = Annotated[int, typer.Option("--resolution", help="Height and width of its image in pixels.")]
Latency = Annotated[bool, typer.Option("--latency/--no-latency", help="Measure a network against itself, or not.")]
Output = Annotated[str | None, typer.Option("-o", "--output", help="Folder for the page, instead of stdout.")]


def doctor(
    threads: Threads = 1, seconds: Seconds = 10.0, model: Model = "resnet18", resolution: Resolution = 128,
    latency: Latency = True, format: options.Format = "table", output: Output = None, quiet: options.Quiet = False,
) -> int:
    """Is this machine fit to measure on? Ends with 1 where it is not."""
    options.check_format(format, output)
    from secost.meters import fitness
    from secost.meters.environment import describe
    from secost.pages.doctor import doctor_page

    fitness.check_request(threads, seconds, resolution, model if latency else None)
    checks, run = _examine(threads, seconds, model, resolution, latency, quiet)
    fit, because = fitness.verdict(checks)
    show_or_write(doctor_page(fit, because, checks, run, describe), format, output)
    return 1 if fit == fitness.NOT_FIT else 0


def _examine(
    threads: int, seconds: float, model: str, resolution: int, latency: bool, quiet: bool
) -> tuple[list[Check], AARun | None]:
    """All checks: what is set before anything runs, then what happens while a network runs, or for a second."""
    import time

    from secost.meters import fitness

    checks = fitness.standing_checks(threads)
    if not latency:
        before = fitness.snapshot()
        time.sleep(_PAUSE_S)
        return [*checks, *fitness.watched_checks(before, fitness.snapshot())], None
    from secost.meters import aa_run

    notes = iter([] if quiet else [f"{model} at {resolution} px against itself for {seconds:g} s"])

    def on_share(share: float) -> None:
        """A note when the first share of the time is used: not before, as a request for too little time is one line."""
        if share < 1:
            for text in notes:  # once
                note(text)

    before = fitness.snapshot()
    run = aa_run.aa_run(seconds, threads, model, resolution, on_share=on_share)
    return [*checks, *fitness.watched_checks(before, fitness.snapshot()), *aa_run.aa_checks(run)], run



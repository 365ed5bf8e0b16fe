"""`secost doctor`: is this machine fit to measure on, and what overhead could it tell apart at which time?"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secost.cli import options
from secost.cli.progress import note

if TYPE_CHECKING:
    from rich.table import Table

    from secost.meters.aa_run import AARun
    from secost.meters.fitness import Check

_FORMATS = ("table", "json")
_PAUSE_S = 1.0
_STYLES = {"bad": "bold red", "caution": "yellow", "ok": "green"}
_NARROW = 100

Threads = Annotated[int, typer.Option("--threads", help="Threads that are to be measured with.")]
Seconds = Annotated[float, typer.Option("--seconds", help="Time of the A/A run.")]
Model = Annotated[str, typer.Option("--model", help="The network of the A/A run.")]
Resolution = Annotated[int, typer.Option("--resolution", help="Height and width of its image in pixels.")]
Latency = Annotated[bool, typer.Option("--latency/--no-latency", help="Measure a network against itself, or not.")]
RowFormat = Annotated[str, typer.Option("--format", help="table or json.")]


def doctor(
    threads: Threads = 1, seconds: Seconds = 10.0, model: Model = "resnet18", resolution: Resolution = 128,
    latency: Latency = True, format: RowFormat = "table", quiet: options.Quiet = False,
) -> int:
    """Is this machine fit to measure on? Ends with 1 where it is not."""
    options.check_format(format, _FORMATS)
    from secost.meters import fitness

    fitness.check_request(threads, seconds, resolution, model if latency else None)
    checks, run = _examine(threads, seconds, model, resolution, latency, quiet)
    word, names = fitness.verdict(checks)
    if format == "json":
        _print_json(word, names, checks, run)
    else:
        _print_table(word, names, checks, run)
    return 1 if word == fitness.NOT_FIT else 0


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

    text = f"{model} at {resolution} px against itself for {seconds:g} s"
    before = fitness.snapshot()
    run = aa_run.aa_run(seconds, threads, model, resolution, on_share=_once(text, quiet))
    return [*checks, *fitness.watched_checks(before, fitness.snapshot()), *aa_run.aa_checks(run)], run


def _once(text: str, quiet: bool) -> Callable[[float], None]:
    """A note when the first share of the time is used: not before, as a request for too little time is one line."""
    said = [quiet]

    def hear(share: float) -> None:
        if not said[0] and share < 1:
            said[0] = True
            note(text)

    return hear


def _print_json(word: str, names: Sequence[str], checks: Sequence[Check], run: AARun | None) -> None:
    from secost.cleaning import to_json
    from secost.meters.environment import describe
    from secost.meters.fitness import as_plain

    document = {
        "schema": 1, "environment": describe(), "verdict": {"fit": word, "because": list(names)},
        "checks": [as_plain(check) for check in checks], "aa": None if run is None else as_plain(run),
    }
    sys.stdout.write(to_json(document, indent=2) + "\n")


def _print_table(word: str, names: Sequence[str], checks: Sequence[Check], run: AARun | None) -> None:
    from rich.console import Console
    from rich.text import Text

    width = shutil.get_terminal_size((120, 24)).columns
    console = Console(
        file=sys.stdout, width=width, no_color=not sys.stdout.isatty(), markup=False, highlight=False, emoji=False,
    )
    console.print(Text(_verdict(word, names), style="bold"))
    console.print()
    console.print(_checks_table([check for check in checks if check.status != "unknown"], width))
    unknown = [check.name for check in checks if check.status == "unknown"]
    if unknown:
        console.print(Text(f"Not told by this system: {', '.join(unknown)}.", style="dim"))
    if run is not None:
        console.print()
        for line in _aa_lines(run):
            console.print(Text(line))


def _verdict(word: str, names: Sequence[str]) -> str:
    return f"{word.capitalize()}: {', '.join(names)}" if names else word.capitalize()


def _checks_table(checks: Sequence[Check], width: int) -> Table:
    """What needs care first, with what to do; what is in order takes one line each."""
    from rich.table import Table
    from rich.text import Text

    from secost.cleaning import plain

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("Check", "Status", "Found"):
        table.add_column(title, overflow="fold", no_wrap=title != "Found")
    wide = width >= _NARROW
    if wide:
        table.add_column("What it means, and what to do", overflow="fold", ratio=1)
    for check in sorted(checks, key=lambda check: list(_STYLES).index(check.status)):
        status = Text(check.status, style=_STYLES[check.status])
        advice = f"{check.meaning}; {check.next_step}." if check.next_step else ""
        found = Text(plain(check.value))
        if wide:
            table.add_row(Text(check.name), status, found, Text(advice))
        else:
            table.add_row(Text(check.name), status, Text(f"{plain(check.value)}\n{advice}") if advice else found)
    return table


def _aa_lines(run: AARun) -> list[str]:
    """The A/A run in words: what was run, what came out, and the table of times."""
    from secost.cleaning import plain

    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    lines = [
        f"{plain(run.model)} at {run.resolution} px against itself, {threads}, {run.seconds:g} s:",
        f"{run.rounds} rounds in {run.processes} processes, {run.latency_ms:.3g} ms a pass, by {run.clock} time.",
    ]
    if any(row["half_width"] is None for row in run.at):
        return [*lines, "Too few rounds to tell what could be told apart: give it more --seconds."]
    return [
        *lines, "", "An overhead of one variant of it could be told from none:",
        f"{'--seconds':>9}  {'interval':>10}  {'found in 9 of 10 runs':>22}",
        *(_at_line(row) for row in run.at),
        "At best: what differs between a variant and its baseline from process to process comes on top.",
    ]


def _at_line(row: dict[str, Any]) -> str:
    half_width, found = f"± {row['half_width'] * 100:.2f} %", f"from {row['found'] * 100:.2f} % on"
    return f"{row['seconds']:>9.0f}  {half_width:>10}  {found:>22}"

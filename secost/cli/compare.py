"""`secost compare`: what changed from one run to another, for people and for CI."""

from __future__ import annotations

from typing import Annotated

import typer

from secost.cli import options
from secost.cli.screen import note, show_or_write_file

LIMIT_HELP = ("Exit 1 where a figure grew by surely more than this: latency=3%, overhead=1pt, params=0 "
              "(params, macs, memory, kernels, activations, latency, overhead); repeatable.")


def compare(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The run before: its folder, or a file of --format json.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The run after.")],
    fail_on: Annotated[list[str] | None, typer.Option("--fail-on", help=LIMIT_HELP)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail too where a limit is not proven to be kept.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Let pass what NEW lacks, or what fails in NEW only.")
    ] = False,
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Compare times of two machines, and show both.")
    ] = False,
    run_spread: Annotated[str, typer.Option(
        "--run-spread", help="Standard deviation by which times of equal runs differ on this machine."
    )] = "1%",
    format: options.Format = "table",
    output: Annotated[str | None, typer.Option("-o", "--output", help="File or folder, instead of stdout.")] = None,
    quiet: options.Quiet = False,
) -> int:
    """Did it get worse? Two runs, trial by trial, with intervals; nothing is measured."""
    options.check_format(format, output)
    from secost.answers.changes import Side
    from secost.answers.comparison import Rules, compare_runs, parse_limits, parse_spread
    from secost.pages.compare import compare_page, finding_lines, headline
    from secost.runs.store import read_results

    rules = Rules(parse_limits(fail_on or ()), strict, allow_missing, across_machines, parse_spread(run_spread))
    before, after = (read_results(name) for name in (old, new))
    comparison = compare_runs(Side(old, tuple(before[0]), before[1]), Side(new, tuple(after[0]), after[1]), rules)
    show_or_write_file(compare_page(comparison), format, output)
    if not quiet and (output is not None or format not in ("table", "md")):  # so that a CI job's log has the verdict
        for line in (headline(comparison), *finding_lines(comparison)):
            note(line)
    return 1 if comparison.broken else 0

"""The command line: words in, words out, no computing. The only place that prints errors and chooses exit codes.

0 done, 1 some trials failed or a limit was broken, 2 the request is wrong (one line on stderr), 130 stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from secost.cli import benefit, budget, compare, doctor, listing, profile, report, search, sites, study, sweep, train
from secost.cli.options import command
from secost.cli.screen import note
from secost.errors import SecostError, one_line

app = typer.Typer(
    name="secost",
    help="Is attention worth its cost? Counts and measures what SE and its relatives add to a network.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it starts in half the time
    pretty_exceptions_enable=False,
)
# The base of all usage errors, in whichever click typer runs on.
_UsageError: Any = typer.BadParameter.__mro__[2]
_STOPPED = 130


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if version:
        from secost import __version__

        typer.echo(__version__)
        raise typer.Exit


app.command("profile")(command("profile", profile.profile))
app.command("sites")(command("sites", sites.sites))
app.command("sweep")(command("sweep", sweep.sweep))
app.command("report")(report.report)
app.command("benefit")(benefit.benefit)
app.command("train")(command("train", train.train))
app.command("budget")(budget.budget)
app.command("compare")(compare.compare)
app.command("doctor")(doctor.doctor)
app.command("search")(command("search", search.search))
app.add_typer(study.study, name="study")
app.add_typer(listing.listing, name="list")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    # Before torch is imported: with default spinning, threads that wait keep each other from working.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        result = typer.main.get_command(app).main(args=arguments, prog_name="secost", standalone_mode=False)
        if result == _STOPPED:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except _UsageError as error:
        if type(error).__name__.startswith("NoArgsIsHelp"):
            print(error.format_message(), file=sys.stderr)
            return 2
        return _complain(error.format_message(), 2)
    except SecostError as error:
        if debug:
            raise
        return _complain(one_line(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("stopped; trials finished with -o are kept: run the same command to go on", _STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _complain(f"{one_line(error)} (an error in secost itself: --debug shows where)", 2)


def run() -> None:
    """The console script."""
    sys.exit(main())


def _complain(message: str, code: int) -> int:
    note(f"error: {message}")
    return code

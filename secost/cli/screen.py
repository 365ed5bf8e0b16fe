"""What commands put on the screen and into files: pages on stdout, notes and progress on stderr.

Progress is a bar with time left on a terminal, plain lines elsewhere, nothing with --quiet.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from secost.writing import plain

if TYPE_CHECKING:
    from secost.pages.page import Page
    from secost.plan.trials import Comparison, Listener, Plan
    from secost.runs.records import Record

_PAUSE_S = 0.5


def show(page: Page, format: str) -> None:
    """Print a page on stdout in one format, and nothing else there: for the terminal's width, in colour where a
    terminal reads it."""
    from secost.render.formats import render

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = render(page, format, _width(), color)
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")


def show_or_write(page: Page, format: str, output: str | None) -> int:
    """On stdout, or as the files of that format in the folder `output`."""
    from secost.render.formats import write

    if output is None:
        show(page, format)
    else:
        say_paths(_written(write(page, output, [format]), format))
    return 0


def show_or_write_file(page: Page, format: str, output: str | None, quiet: bool = False) -> None:
    """On stdout, or in the file `output`; in a folder under the usual names, where `output` is one."""
    from secost.render.formats import render, write, write_file

    if output is None:
        return show(page, format)
    if Path(output).is_dir() or output.endswith(("/", os.sep)):
        paths = _written(write(page, output, [format], _width()), format)
    else:
        paths = [write_file(output, render(page, format, _width()).encode("utf-8"))]
    if not quiet:
        say_paths(paths)


def _written(paths: list[Path], format: str) -> list[Path]:
    """What was written. Raises BadSpecError where that is nothing: a page may have no figures."""
    from secost.errors import BadSpecError

    if not paths:
        raise BadSpecError(f"there is nothing to write as {format}: this page has no figures")
    return paths


def write_report(page: Page, folder: str) -> None:
    """A page as files in the folder of its run, and a note of where."""
    from secost.render.formats import PAGE_FORMATS, write

    write(page, folder, PAGE_FORMATS)
    note(f"report in {folder}")


def say_paths(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(str(path))


def _width() -> int:
    return shutil.get_terminal_size((120, 24)).columns


# --- stderr ---


@contextlib.contextmanager
def listening(quiet: bool) -> Iterator[Listener]:
    """A listener that shows how far a plan is carried out."""
    from secost.plan.trials import Listener

    if quiet:
        yield Listener()
    elif sys.stderr.isatty():
        with _bar() as bar:
            drawn = _Drawn(bar)
            yield Listener(drawn.plan_made, drawn.begun, drawn.shared, drawn.recorded, drawn.told)
    else:
        yield Listener(on_comparison=lambda comparison, count: note(f"{comparison.setting.label}: {count} variants"),
                       on_note=note)


def note(text: str) -> None:
    """One line for the user on stderr."""
    with contextlib.suppress(BrokenPipeError):  # who closed stderr does not want to hear it
        print(f"secost: {plain(text)}", file=sys.stderr, flush=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
        auto_refresh=False,  # a thread that draws would run beside the passes that are timed
    )


class _Drawn:
    """A bar in the seconds of the plans that are carried out."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.task, self.total_s = bar, bar.add_task("starting", total=None), 0.0
        self.plan: Plan | None = None
        self.comparison: Comparison | None = None
        self.before_s = self.drawn_s = 0.0

    def plan_made(self, plan: Plan) -> None:
        self.plan, self.total_s = plan, self.total_s + plan.seconds  # a study has several
        self._draw(total=self.total_s)

    def begun(self, comparison: Comparison, count: int) -> None:
        self.comparison = comparison
        self._draw(description=plain(comparison.setting.label))

    def shared(self, part: float) -> None:
        if self.plan is not None and self.comparison is not None:
            whole_s = self.plan.seconds_of(self.comparison.trials)
            self._draw(completed=self.before_s + part * whole_s * 0.95, pause_s=_PAUSE_S)

    def recorded(self, record: Record) -> None:
        if self.plan is not None:
            self.before_s += self.plan.share_of(record, self.comparison)
            self._draw(completed=max(self.before_s, self.bar.tasks[0].completed))

    def told(self, text: str) -> None:
        self.bar.console.print(f"secost: {plain(text)}", markup=False)

    def _draw(self, pause_s: float = 0.0, **changes: Any) -> None:
        self.bar.update(self.task, **changes)
        if time.monotonic() - self.drawn_s >= pause_s:
            self.drawn_s = time.monotonic()
            self.bar.refresh()

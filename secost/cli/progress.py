"""Progress on stderr: a bar with time left on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secost.plan.trials import Comparison, Listener, Plan
    from secost.runs.records import Record

_PAUSE_S = 0.5


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
        yield Listener(on_comparison=_line, on_note=note)


def note(text: str) -> None:
    """One line for the user on stderr."""
    from secost.cleaning import plain

    with contextlib.suppress(BrokenPipeError):  # who closed stderr does not want to hear it
        print(f"secost: {plain(text)}", file=sys.stderr, flush=True)


def _line(comparison: Comparison, count: int) -> None:
    note(f"{comparison.setting.label}: {count} variants")


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
        from secost.cleaning import plain

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
        from secost.cleaning import plain

        self.bar.console.print(f"secost: {plain(text)}", markup=False)

    def _draw(self, pause_s: float = 0.0, **changes: Any) -> None:
        self.bar.update(self.task, **changes)
        if time.monotonic() - self.drawn_s >= pause_s:
            self.drawn_s = time.monotonic()
            self.bar.refresh()

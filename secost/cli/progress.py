"""Progress on stderr: a bar with time left on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secost.work.run import Listener

_PAUSE_S = 0.5


@contextlib.contextmanager
def listening(trials: int, quiet: bool) -> Iterator[Listener]:
    """A listener that shows how far a spec is carried out."""
    from secost.work.run import Listener

    if quiet:
        yield Listener()
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield _bar_listener(bar, trials)
    else:
        yield _line_listener()


def note(text: str) -> None:
    """One line for the user on stderr."""
    from secost.cleaning import plain

    with contextlib.suppress(BrokenPipeError):  # who closed stderr does not want to hear it
        print(f"secost: {plain(text)}", file=sys.stderr, flush=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
        auto_refresh=False,  # a thread that draws would run beside the passes that are timed
    )


def _bar_listener(bar: Any, trials: int) -> Listener:
    from secost.cleaning import plain
    from secost.work.run import Listener

    task = bar.add_task("starting", total=trials)
    state = {"before": 0.0, "size": 0.0, "drawn": 0.0}

    def draw(pause_s: float = 0.0) -> None:
        if time.monotonic() - state["drawn"] >= pause_s:
            state["drawn"] = time.monotonic()
            bar.refresh()

    def begin(comparison: Any, count: int) -> None:
        state.update(before=float(bar.tasks[0].completed), size=count)
        bar.update(task, description=plain(comparison.setting.label))
        draw()

    def share(part: float) -> None:
        bar.update(task, completed=state["before"] + part * state["size"] * 0.95)
        draw(pause_s=_PAUSE_S)

    def record(_: Any) -> None:
        state["before"] += 1
        bar.update(task, completed=max(state["before"], bar.tasks[0].completed))
        draw()

    return Listener(begin, share, record, lambda text: bar.console.print(f"secost: {plain(text)}", markup=False))


def _line_listener() -> Listener:
    from secost.work.run import Listener

    def begin(comparison: Any, count: int) -> None:
        note(f"{comparison.setting.label}: {count} variants")

    return Listener(on_comparison=begin, on_note=note)

"""How one sample is timed: on the processor by its clocks, on a GPU by events in its queue, or by waiting for it.

A timer runs a callable several times and says how long one pass took. The sources of time are arguments, so that made
ones test a timer to the last digit where there is no GPU.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Sample(NamedTuple):
    """Seconds of one pass: on the wall's clock (a GPU's own between two events), and of this thread's processor.

    `cpu_s` is None where the processor's time says nothing about the pass.
    """

    wall_s: float
    cpu_s: float | None = None


class Timer(Protocol):
    """Times `repeats` passes one after another as one sample; `name` is the clock that ratios are made of."""

    @property
    def name(self) -> str: ...

    def time(self, run: Callable[[], object], repeats: int = 1) -> Sample: ...

    def mark(self) -> Any:
        """A moment within a pass, cheap to take."""
        ...

    def spent_s(self, marks: Sequence[tuple[Any, Any]]) -> list[float]:
        """Seconds between pairs of marks, once the pass has returned."""
        ...


class Event(Protocol):
    """A mark in a GPU's queue, as torch.cuda.Event is with enable_timing; `elapsed_time` gives milliseconds."""

    def record(self) -> object: ...
    def elapsed_time(self, end: Any) -> float: ...


@dataclass(frozen=True)
class CpuTimer:
    """The wall's clock, and the processor time of this thread; `cpu=None` where several threads work."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] | None = time.thread_time

    @property
    def name(self) -> str:
        return "wall" if self.cpu is None else "thread-cpu"

    def time(self, run: Callable[[], object], repeats: int = 1) -> Sample:
        cpu = self.cpu or self.wall
        wall_begin, cpu_begin = self.wall(), cpu()
        for _ in range(repeats):
            run()
        cpu_end, wall_end = cpu(), self.wall()
        spent = None if self.cpu is None else (cpu_end - cpu_begin) / repeats
        return Sample((wall_end - wall_begin) / repeats, spent)

    def mark(self) -> float:
        return (self.cpu or self.wall)()

    def spent_s(self, marks: Sequence[tuple[float, float]]) -> list[float]:
        return [end - begin for begin, end in marks]


@dataclass(frozen=True)
class EventTimer:
    """A GPU's own clock: one event before the passes and one behind them. No processor time: it says nothing here.

    The queue is empty when a sample begins, so that no other variant's work is in it. Between the events lies what the
    GPU waited for its launches, as in use: at batch 1 that may be most of it.
    """

    new_event: Callable[[], Event]
    synchronize: Callable[[], object]
    name: str = "cuda-events"

    def time(self, run: Callable[[], object], repeats: int = 1) -> Sample:
        begin, end = self.new_event(), self.new_event()
        self.synchronize()
        begin.record()
        for _ in range(repeats):
            run()
        end.record()
        self.synchronize()
        return Sample(begin.elapsed_time(end) / 1e3 / repeats)

    def mark(self) -> Event:
        event = self.new_event()
        event.record()
        return event

    def spent_s(self, marks: Sequence[tuple[Event, Event]]) -> list[float]:
        self.synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in marks]


@dataclass(frozen=True)
class WaitingTimer:
    """The wall's clock around passes that are waited for: for a device whose queue has no clock of its own."""

    synchronize: Callable[[], object]
    wall: Callable[[], float] = time.perf_counter
    name: str = "wall"

    def time(self, run: Callable[[], object], repeats: int = 1) -> Sample:
        self.synchronize()
        begin = self.wall()
        for _ in range(repeats):
            run()
        self.synchronize()
        return Sample((self.wall() - begin) / repeats)

    def mark(self) -> float:
        """Waits for the device each time, so what would overlap is added up."""
        self.synchronize()
        return self.wall()

    def spent_s(self, marks: Sequence[tuple[float, float]]) -> list[float]:
        return [end - begin for begin, end in marks]


def timer_for(device: str, threads: int = 1) -> Timer:
    """The timer of a device: events on cuda, waiting on mps, the processor's clocks on the CPU.

    With several threads the processor time of one says nothing.
    """
    import torch

    if device == "cuda":
        return EventTimer(functools.partial(torch.cuda.Event, enable_timing=True), torch.cuda.synchronize)
    if device == "mps":
        return WaitingTimer(torch.mps.synchronize)
    return CpuTimer() if threads == 1 else CpuTimer(cpu=None)

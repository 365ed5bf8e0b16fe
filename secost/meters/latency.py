"""Paired rounds in several processes: every round runs each variant once, in random order, so that moods cancel.

The core forks nothing and knows torch only to find a device's timer: it takes callables and a timer, whose sources of
time are arguments too, so that made clocks test both to the last digit, a GPU's where there is none.
The estimate for a variant is the median over rounds of (variant / baseline - 1), all timed in the same round. The
baseline is timed twice a round: the mean of both is what variants are compared with, and their ratio is the control,
a difference of a network from itself, whose interval must hold 0. Rounds are shared out over processes, as each
process is a little faster or slower for some variant, and the interval is built over both levels.
"""

from __future__ import annotations

import functools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

from secost.errors import BadSpecError
from secost.glossary import Caution
from secost.statistics import Interval, built_at, clustered_interval, clusters, drift, median

BUILT_AT = built_at()
CONTROL_CONFIDENCE = 0.99
FEW_ROUNDS, _FEW_A_TURN = 20, 5
PROCESSES, _FEWEST_TO_STOP, _FEWEST = 12, 6, 5
_OPENING_SHARE, ENOUGH_ROUNDS = 0.5, 16
_SHORTEST_SAMPLE_S, _CLOCK_TICK_S = 2e-3, 1e-6
_SURELY_LONG = 10  # a first pass may be several times slower than those that follow
_DIRECT_EVERY = 4
_CONTENTION, _DRIFT, _PREEMPTED, _PREEMPTED_SHARE = 0.10, 0.05, 1.5, 0.05
Clock = Callable[[], float]  # seconds


# --- how one sample is timed ----------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """Seconds of one pass: on the wall's clock (a GPU's own between two events), and of this thread's processor.

    `cpu_s` is None where the processor's time says nothing about the pass.
    """

    wall_s: float
    cpu_s: float | None = None


class Timer(Protocol):
    """Times `repeats` passes one after another as one sample; `name` is the clock that ratios are made of.

    `mark` gives a moment within a pass, cheap to take; `spent_s` the seconds between pairs of them, once the pass has
    returned.
    """

    @property
    def name(self) -> str: ...
    def time(self, run: Callable[[], object], repeats: int = 1) -> Sample: ...
    def mark(self) -> Any: ...
    def spent_s(self, marks: Sequence[tuple[Any, Any]]) -> list[float]: ...


@dataclass(frozen=True)
class CpuTimer:
    """The wall's clock, and the processor time of this thread; `cpu=None` where several threads work."""

    wall: Clock = time.perf_counter
    cpu: Clock | None = time.thread_time

    @property
    def name(self) -> str:
        return "wall" if self.cpu is None else "thread-cpu"

    def time(self, run: Callable[[], object], repeats: int = 1) -> Sample:
        cpu = self.cpu or (lambda: 0.0)
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

    An event is as torch.cuda.Event with enable_timing. The queue is empty when a sample begins, so that no other
    variant's work is in it. Between the events lies what the GPU waited for its launches, as in use: at batch 1 that
    may be most of it.
    """

    new_event: Callable[[], Any]
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

    def mark(self) -> Any:
        event = self.new_event()
        event.record()
        return event

    def spent_s(self, marks: Sequence[tuple[Any, Any]]) -> list[float]:
        self.synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in marks]


def waited_for(synchronize: Callable[[], object], clock: Clock = time.perf_counter) -> Clock:
    """A clock that is read when a device is done, for one whose queue has no clock of its own.

    Marks within a pass wait too, so what would overlap is added up.
    """

    def read() -> float:
        synchronize()
        return clock()

    return read


def timer_for(device: str, threads: int = 1) -> Timer:
    """Events on cuda, waiting on mps, the CPU's clocks; with several threads the processor time of one says nothing."""
    import torch

    if device == "cuda":
        return EventTimer(functools.partial(torch.cuda.Event, enable_timing=True), torch.cuda.synchronize)
    if device == "mps":
        return CpuTimer(waited_for(torch.mps.synchronize), cpu=None)
    return CpuTimer() if threads == 1 else CpuTimer(cpu=None)


# --- paired rounds --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """One thing to time: `prepare` makes it ready (not timed), `run` is one forward pass.

    `direct` runs one pass too, and gives the seconds spent at each site; it has samples of its own.
    """

    label: str
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    direct: Callable[[], list[float]] | None = None


@dataclass
class Rounds:
    """Raw times in seconds a forward pass: one list a subject, one entry a round; `process` numbers its process.

    `direct_s` has for each subject one list of seconds by site a pass, and `direct_process` the processes of these.
    `notes` has what the system counted while each process ran (`fitness.between`).
    """

    clock: str = "wall"
    repeats: int = 1
    wall_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)
    process: list[int] = field(default_factory=list)
    direct_s: dict[str, list[list[float]]] = field(default_factory=dict)
    direct_process: list[int] = field(default_factory=list)
    opening_s: float = 0.0
    notes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.process)

    @property
    def processes(self) -> int:
        return len(set(self.process))

    def times_s(self, label: str) -> list[float]:
        """The times that every figure is made of: processor time where it is a measure, else wall time."""
        return (self.cpu_s if self.clock == "thread-cpu" else self.wall_s)[label]

    def pairs(self, label: str, baseline: str, control: str) -> list[tuple[float, float]]:
        """A variant's time and the mean of both baselines', round by round."""
        rows = zip(self.times_s(label), self.times_s(baseline), self.times_s(control), strict=True)
        return [(variant, (first + second) / 2) for variant, first, second in rows]

    def overhead(self, label: str, baseline: str, control: str, confidence: float = BUILT_AT) -> Interval:
        """The median over rounds of (variant / mean of both baselines - 1), with its interval."""
        pairs = self.pairs(label, baseline, control)
        own = label in (baseline, control)  # no difference, by definition
        return self._interval([0.0 if own else time_s / base_s - 1 for time_s, base_s in pairs], confidence)

    def control(self, baseline: str, control: str, confidence: float = BUILT_AT) -> Interval:
        """The same of one baseline against the other: the machine's own idea of no difference."""
        pairs = zip(self.times_s(control), self.times_s(baseline), strict=True)
        return self._interval([second / first - 1 for second, first in pairs], confidence)

    def direct_ms(self, label: str, sites: Sequence[int] | None = None) -> Interval:
        """Milliseconds of one pass spent at the given sites (by number; None: at all), with their interval."""
        passes = self.direct_s[label]
        sums = [sum(row if sites is None else (row[site] for site in sites)) * 1e3 for row in passes]
        return clustered_interval(clusters(sums, self.direct_process), BUILT_AT)

    def added_ms(self, label: str, baseline: str, control: str) -> Interval:
        """Milliseconds that the variant takes longer than the baseline, with their interval."""
        return self._interval([(time_s - base_s) * 1e3 for time_s, base_s in self.pairs(label, baseline, control)])

    def latency_ms(self, label: str, baseline: str, control: str) -> float:
        """Milliseconds of one pass by the clock of the ratios: the baselines' median, and for a variant its overhead on
        top, so that times and overheads of one table agree. A variant's own median need not: rounds differ in speed
        by more than variants do, and a ratio of medians is up to 2 points off where the paired one is not."""
        base_s = median([base_s for _, base_s in self.pairs(label, baseline, control)])
        return base_s * (1 + self.overhead(label, baseline, control).estimate) * 1e3

    def add(self, part: Rounds, number: int) -> None:
        """Take over the rounds of one more turn, as those of process `number`."""
        if not self.process:
            self.clock, self.repeats, self.opening_s = part.clock, part.repeats, part.opening_s
        self.process += [number] * part.count
        self.direct_process += [number] * len(part.direct_process)
        for name in ("wall_s", "cpu_s", "direct_s"):
            for label, values in getattr(part, name).items():
                getattr(self, name).setdefault(label, []).extend(values)
        self.notes += part.notes

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, to cross from one process to another."""
        return asdict(self)

    def _interval(self, values: Sequence[float], confidence: float = BUILT_AT) -> Interval:
        return clustered_interval(clusters(values, self.process), confidence)


@dataclass(frozen=True)
class Turn:
    """What one process is to do: its number, a seed, when it must be done, the rounds before it.

    Many short processes tell more than a few long ones, so after `enough` rounds it ends before its time (None: it
    does not), once its rounds took as long as getting ready did.
    """

    number: int
    seed: int
    deadline_s: float
    rounds_before: int = 0
    enough: int | None = None


def measure(
    run_turn: Callable[[Turn], Rounds], labels: Sequence[str], *, seconds: float, target: float, processes: int = 0,
    apart: bool = True, seed: int = 0, clock: Clock = time.perf_counter,
    on_share: Callable[[float], object] = lambda share: None,
) -> Rounds:
    """Rounds in one process after another until every overhead's interval is within `target` or the time is up.

    `labels` are the baseline, the control, then the variants. `run_turn` measures one process's share
    (`measure_turn` in a child). `processes` fixes their number, and with it the share of each; 0 has it chosen.
    Without `apart` all turns are of one process, where no others can be had. `on_share` hears the share of the time
    that is used, 0 to 1. Raises BadSpecError where not even one round fits, and says how long one takes.
    """
    begin = clock()
    rounds = Rounds()
    share_s = seconds / (processes or PROCESSES)
    number = 0
    while True:
        started = clock()
        turn = Turn(
            number, seed * 1_000_003 + number, min(started + share_s, begin + seconds), rounds.count,
            ENOUGH_ROUNDS if apart and not processes else None,
        )
        part = run_turn(turn)
        rounds.add(part, number if apart else 0)
        number += 1
        used = clock() - begin
        if not processes:
            # A twelfth of all, more where getting ready would take half of it, but never so much that fewer than five
            # fit.
            share_s = min(max(seconds / PROCESSES, part.opening_s / _OPENING_SHARE), seconds / _FEWEST)
        on_share(min(used / seconds, 1.0))
        round_s = sum(median(part.wall_s[label]) for label in labels) * part.repeats
        if number == 1 and used > seconds * 1.05:
            raise BadSpecError(
                f"seconds {seconds:g} is too short: one round of {len(labels)} passes takes {round_s:.2g} s here, and "
                f"getting ready for it {part.opening_s:.2g} s"
            )
        if number == processes or used + part.opening_s + round_s > seconds:
            return rounds
        if number >= _FEWEST_TO_STOP and _precise(rounds, labels, target):
            return rounds


def measure_turn(
    subjects: Sequence[Subject], turn: Turn, timer: Timer, *, warm: Sequence[Subject] = (), opened_s: float = 0.0,
    clock: Clock = time.perf_counter, on_ready: Callable[[], object] = lambda: None,
) -> Rounds:
    """One process's share: a pass of each of `warm`, then rounds until the deadline, at least one.

    Passes shorter than 2 ms are timed several at a time. Where subjects have `direct`, one such pass of each follows
    every fourth round. `opened_s` is what getting ready took before, `on_ready` hears when it is done. Where the time
    is for a few rounds only, every subject is warmed up: a first pass among few would count.
    """
    order = random.Random(turn.seed)
    begin = clock()
    repeats = max((_warm_up(subject, timer) for subject in warm), default=1)
    if warm and (clock() - begin) / len(warm) * len(subjects) * _FEW_A_TURN > turn.deadline_s - clock():
        for subject in subjects:
            if subject not in warm:
                subject.prepare()
                subject.run()
    labels = [subject.label for subject in subjects]
    rounds = Rounds(timer.name, repeats, {label: [] for label in labels}, {label: [] for label in labels})
    rounds.opening_s = opened_s + clock() - begin
    direct = [subject for subject in subjects if subject.direct is not None]
    on_ready()
    ready, longest = clock(), 0.0
    while True:
        started = clock()
        _one_round(subjects, timer, order, rounds)
        if direct and (turn.rounds_before + rounds.count) % _DIRECT_EVERY == 0:
            _one_direct_round(direct, order, rounds)
        longest = max(longest, clock() - started)
        paid = clock() - ready >= rounds.opening_s
        if clock() + longest > turn.deadline_s or (paid and turn.enough is not None and rounds.count >= turn.enough):
            return rounds


def cautions(rounds: Rounds, labels: Sequence[str], target: float) -> list[str]:
    """Reasons to trust the rounds less."""
    baseline, control = labels[:2]
    by_cpu = rounds.clock == "thread-cpu"
    reasons = {
        Caution.CONTROL_FAILED: not rounds.control(baseline, control, CONTROL_CONFIDENCE).holds(0.0),
        Caution.CONTENTION: by_cpu and _waiting_share(rounds, baseline) > _CONTENTION,
        Caution.PREEMPTION: by_cpu and _preempted_share(rounds, labels) > _PREEMPTED_SHARE,
        Caution.DRIFT: abs(drift(rounds.times_s(baseline))) > _DRIFT,
        Caution.TOO_FEW_ROUNDS: rounds.count < FEW_ROUNDS,
        Caution.ONE_PROCESS: rounds.processes < 2,
        Caution.TARGET_MISSED: not _precise(rounds, labels, target),
    }
    return [caution for caution, holds in reasons.items() if holds]


def _warm_up(subject: Subject, timer: Timer) -> int:
    """One pass, not kept. Gives the passes that make one sample, by a second pass where the first was short."""
    subject.prepare()
    if timer.time(subject.run, 1).wall_s >= _SURELY_LONG * _SHORTEST_SAMPLE_S:
        return 1
    again = timer.time(subject.run, 1).wall_s
    # The hundredth is for the clock's own rounding: 1.99999 ms needs no second pass.
    return max(1, math.ceil(_SHORTEST_SAMPLE_S / max(again, _CLOCK_TICK_S) - 0.01))


def _one_round(subjects: Sequence[Subject], timer: Timer, order: random.Random, rounds: Rounds) -> None:
    for subject in order.sample(list(subjects), len(subjects)):
        subject.prepare()
        sample = timer.time(subject.run, rounds.repeats)
        rounds.wall_s[subject.label].append(sample.wall_s)
        if sample.cpu_s is not None:
            rounds.cpu_s[subject.label].append(sample.cpu_s)
    rounds.process.append(0)


def _one_direct_round(subjects: Sequence[Subject], order: random.Random, rounds: Rounds) -> None:
    for subject in order.sample(list(subjects), len(subjects)):
        assert subject.direct is not None
        subject.prepare()
        rounds.direct_s.setdefault(subject.label, []).append(subject.direct())
    rounds.direct_process.append(0)


def _precise(rounds: Rounds, labels: Sequence[str], target: float) -> bool:
    baseline, control, *variants = labels
    widths = [rounds.overhead(label, baseline, control).half_width for label in variants]
    return all(width <= target for width in (*widths, rounds.control(baseline, control).half_width))


def _waiting_share(rounds: Rounds, label: str) -> float:
    """The share of wall time in which the thread did not run, summed over all rounds."""
    wall_s, cpu_s = sum(rounds.wall_s[label]), sum(rounds.cpu_s[label])
    return 1 - cpu_s / wall_s if wall_s > 0 else 0.0


def _preempted_share(rounds: Rounds, labels: Sequence[str]) -> float:
    """The share of passes during which something else had the processor for half as long as the pass itself."""
    pairs = [pair for label in labels for pair in zip(rounds.wall_s[label], rounds.cpu_s[label], strict=True)]
    return sum(wall > _PREEMPTED * cpu for wall, cpu in pairs) / len(pairs)

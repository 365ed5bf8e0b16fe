"""Paired rounds in several processes: every round runs each variant once, in random order, so that moods cancel.

The core knows no torch and forks nothing: it takes callables and a timer, so a made clock tests it to the last digit.
The estimate for a variant is the median over rounds of (variant / baseline - 1), all timed in the same round. The
baseline is timed twice a round: the mean of both is what variants are compared with, and their ratio is the control,
a difference of a network from itself, whose interval must hold 0. Rounds are shared out over processes, as each
process is a little faster or slower for some variant, and the interval is built over both levels.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from secost.errors import BadSpecError
from secost.glossary import Caution
from secost.meters.clocks import Timer
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
        """The times that ratios are made of: processor time where it is a measure, else wall time."""
        return (self.cpu_s if self.clock == "thread-cpu" else self.wall_s)[label]

    def overhead(self, label: str, baseline: str, control: str, confidence: float = BUILT_AT) -> Interval:
        """The median over rounds of (variant / mean of both baselines - 1), with its interval."""
        return clustered_interval(clusters(self._ratios(label, baseline, control), self.process), confidence)

    def control(self, baseline: str, control: str, confidence: float = BUILT_AT) -> Interval:
        """The same of one baseline against the other: the machine's own idea of no difference."""
        pairs = zip(self.times_s(control), self.times_s(baseline), strict=True)
        ratios = [second / first - 1 for second, first in pairs]
        return clustered_interval(clusters(ratios, self.process), confidence)

    def direct_ms(self, label: str, sites: Sequence[int] | None = None) -> Interval:
        """Milliseconds of one pass spent at the given sites (by number; None: at all), with their interval."""
        passes = self.direct_s[label]
        sums = [sum(row if sites is None else [row[site] for site in sites]) * 1e3 for row in passes]
        return clustered_interval(clusters(sums, self.direct_process), BUILT_AT)

    def added_ms(self, label: str, baseline: str, control: str) -> Interval:
        """Milliseconds that the variant takes longer than the baseline, with their interval."""
        rows = zip(self.times_s(label), self.times_s(baseline), self.times_s(control), strict=True)
        added = [(variant - (first + second) / 2) * 1e3 for variant, first, second in rows]
        return clustered_interval(clusters(added, self.process), BUILT_AT)

    def latency_ms(self, label: str) -> float:
        """The median wall time of one forward pass."""
        return median(self.wall_s[label]) * 1e3

    def add(self, part: Rounds, number: int) -> None:
        """Take over the rounds of one more turn, as those of process `number`."""
        if not self.process:
            self.clock, self.repeats, self.opening_s = part.clock, part.repeats, part.opening_s
        self.process += [number] * part.count
        self.direct_process += [number] * len(part.direct_process)
        for mine, theirs in ((self.wall_s, part.wall_s), (self.cpu_s, part.cpu_s)):
            for label, times in theirs.items():
                mine.setdefault(label, []).extend(times)
        for label, passes in part.direct_s.items():
            self.direct_s.setdefault(label, []).extend(passes)
        self.notes += part.notes

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, to cross from one process to another."""
        return asdict(self)

    def _ratios(self, label: str, baseline: str, control: str) -> list[float]:
        if label in (baseline, control):
            return [0.0] * self.count
        rows = zip(self.times_s(label), self.times_s(baseline), self.times_s(control), strict=True)
        return [variant / ((first + second) / 2) - 1 for variant, first, second in rows]


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
    apart: bool = True, seed: int = 0, clock: Callable[[], float] = time.perf_counter,
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
            share_s = _share_s(seconds, part)
        on_share(min(used / seconds, 1.0))
        if number == 1 and used > seconds * 1.05:
            raise _too_short(seconds, len(labels), part, labels)
        if number == processes or used + _shortest_turn_s(part, labels) > seconds:
            return rounds
        if number >= _FEWEST_TO_STOP and _precise(rounds, labels, target):
            return rounds


def measure_turn(
    subjects: Sequence[Subject], turn: Turn, timer: Timer, *, warm: Sequence[Subject] = (), opened_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter, on_ready: Callable[[], object] = lambda: None,
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
    reasons: list[str] = []
    if not rounds.control(baseline, control, CONTROL_CONFIDENCE).holds(0.0):
        reasons.append(Caution.CONTROL_FAILED)
    if rounds.clock == "thread-cpu" and _waiting_share(rounds, baseline) > _CONTENTION:
        reasons.append(Caution.CONTENTION)
    if rounds.clock == "thread-cpu" and _preempted_share(rounds, labels) > _PREEMPTED_SHARE:
        reasons.append(Caution.PREEMPTION)
    if abs(drift(rounds.times_s(baseline))) > _DRIFT:
        reasons.append(Caution.DRIFT)
    if rounds.count < FEW_ROUNDS:
        reasons.append(Caution.TOO_FEW_ROUNDS)
    if rounds.processes < 2:
        reasons.append(Caution.ONE_PROCESS)
    if not _precise(rounds, labels, target):
        reasons.append(Caution.TARGET_MISSED)
    return reasons


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


def _share_s(seconds: float, part: Rounds) -> float:
    """The time of one process: a twelfth of all, more where getting ready would take half of it, but never so much
    that fewer than five fit."""
    return min(max(seconds / PROCESSES, part.opening_s / _OPENING_SHARE), seconds / _FEWEST)


def _round_s(part: Rounds, labels: Sequence[str]) -> float:
    return sum(median(part.wall_s[label]) for label in labels) * part.repeats


def _shortest_turn_s(part: Rounds, labels: Sequence[str]) -> float:
    return part.opening_s + _round_s(part, labels)


def _too_short(seconds: float, variants: int, part: Rounds, labels: Sequence[str]) -> BadSpecError:
    return BadSpecError(
        f"seconds {seconds:g} is too short: one round of {variants} passes takes {_round_s(part, labels):.2g} s here, "
        f"and getting ready for it {part.opening_s:.2g} s"
    )


def _waiting_share(rounds: Rounds, label: str) -> float:
    """The share of wall time in which the thread did not run, summed over all rounds."""
    wall, cpu = sum(rounds.wall_s[label]), sum(rounds.cpu_s[label])
    return 1 - cpu / wall if wall > 0 else 0.0


def _preempted_share(rounds: Rounds, labels: Sequence[str]) -> float:
    """The share of passes during which something else had the processor for half as long as the pass itself."""
    pairs = [pair for label in labels for pair in zip(rounds.wall_s[label], rounds.cpu_s[label], strict=True)]
    return sum(wall > _PREEMPTED * cpu for wall, cpu in pairs) / len(pairs)

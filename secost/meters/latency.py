"""Paired rounds: every round runs each variant once, in random order, so that the machine's moods cancel.

The core knows no torch: it takes callables and a clock, so a made clock tests it to the last digit. The estimate for a
variant is the median over rounds of (variant / baseline - 1), both timed in the same round. A second copy of the
baseline, the control, goes through the same; where its interval leaves 0 the run says that it can't be trusted.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from secost.errors import BadSpecError
from secost.meters.statistics import Interval, drift, median, median_interval

CONFIDENCE = 0.95
# Rounds end early only when a stricter interval is narrow enough: judging by the reported one stops just when it
# happens to be too narrow (94.5 % coverage at a target of 1 % on normal noise in 3,000 runs; tests/test_latency.py
# holds the coverage of this way).
STOPPING_CONFIDENCE = 0.99
CONTROL_CONFIDENCE = 0.99
FEW_ROUNDS = 20
_WARMUP_ROUNDS, _WARMUP_SHARE, _STABLE = 3, 0.15, 0.1
_FIRST_LOOK, _LOOK_GROWTH = 20, 1.3
_SHORTEST_SAMPLE_S, _CLOCK_TICK_S = 2e-3, 1e-6
_CONTENTION, _DRIFT = 0.10, 0.05


@dataclass(frozen=True)
class Subject:
    """One thing to time: `prepare` makes it ready (not timed), `run` is one forward pass."""

    label: str
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Clock:
    """Two clocks in seconds: the wall's, and the processor time of this thread (None where it says nothing)."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] | None = time.thread_time

    @property
    def name(self) -> str:
        return "wall" if self.cpu is None else "thread-cpu"


@dataclass
class Rounds:
    """Raw times in seconds a forward pass: one list a subject, one entry a round."""

    clock: str
    repeats: int = 1
    wall_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(next(iter(self.wall_s.values()), []))

    def times_s(self, label: str) -> list[float]:
        """The times that ratios are made of: processor time where it is a measure, else wall time."""
        return (self.wall_s if self.clock == "wall" else self.cpu_s)[label]

    def overhead(self, label: str, baseline: str, confidence: float = CONFIDENCE) -> Interval:
        """The median over rounds of (variant / baseline - 1), with its interval."""
        pairs = zip(self.times_s(label), self.times_s(baseline), strict=True)
        return median_interval([variant / base - 1 for variant, base in pairs], confidence)

    def latency_ms(self, label: str) -> float:
        """The median wall time of one forward pass."""
        return median(self.wall_s[label]) * 1e3


def measure(
    subjects: Sequence[Subject], *, seconds: float, target: float, seed: int = 0, clock: Clock | None = None,
    on_round: Callable[[float], object] = lambda share: None,
) -> Rounds:
    """Time the subjects in paired rounds until every overhead's interval is within `target` or the time is up.

    The first subject is the baseline. Rounds of warming up come first and are not in the result; passes shorter than
    2 ms are timed several at a time. `on_round` hears the share of the time that is used, 0 to 1. Raises BadSpecError
    where not even one round fits into the time after warming up, and says how long one takes.
    """
    clock = clock or Clock()
    order = random.Random(seed)
    begin = clock.wall()
    round_s, repeats = _warm_up(subjects, clock, order, seconds)
    warm_up_s = clock.wall() - begin
    if warm_up_s + round_s > seconds:
        raise BadSpecError(
            f"seconds {seconds:g} is too short: one round of {len(subjects)} variants takes {round_s:.2g} s here, and "
            f"warming up took {warm_up_s:.2g} s"
        )
    labels = [subject.label for subject in subjects]
    rounds = Rounds(clock.name, repeats, {label: [] for label in labels}, {label: [] for label in labels})
    look = _FIRST_LOOK
    while True:
        _one_round(subjects, clock, order, rounds)
        used = clock.wall() - begin
        on_round(min(used / seconds, 1.0))
        if used + (used - warm_up_s) / rounds.count > seconds:
            return rounds
        if rounds.count >= look:
            look = int(look * _LOOK_GROWTH) + 1
            if _precise(rounds, labels, target):
                return rounds


def cautions(rounds: Rounds, baseline: str, control: str, target: float) -> list[str]:
    """Reasons to trust the rounds less, as values; `secost.glossary.CAUTIONS` words them."""
    found = []
    if not rounds.overhead(control, baseline, CONTROL_CONFIDENCE).holds(0.0):
        found.append("control-failed")
    if rounds.clock != "wall" and _waiting_share(rounds, baseline) > _CONTENTION:
        found.append("contention")
    if abs(drift(rounds.times_s(baseline))) > _DRIFT:
        found.append("drift")
    if rounds.count < FEW_ROUNDS:
        found.append("too-few-rounds")
    others = [label for label in rounds.wall_s if label != baseline]
    if any(rounds.overhead(label, baseline).half_width > target for label in others):
        found.append("target-missed")
    return found


def _warm_up(subjects: Sequence[Subject], clock: Clock, order: random.Random, seconds: float) -> tuple[float, int]:
    """Run until the rounds' length is stable. Gives the seconds of one round, and forward passes for one sample."""
    begin, lengths = clock.wall(), []
    scratch = Rounds(clock.name, 1, {s.label: [] for s in subjects}, {s.label: [] for s in subjects})
    while True:
        started = clock.wall()
        _one_round(subjects, clock, order, scratch)
        lengths.append(clock.wall() - started)
        last = lengths[-_WARMUP_ROUNDS:]
        stable = len(last) == _WARMUP_ROUNDS and max(last) <= (1 + _STABLE) * min(last)
        if stable or clock.wall() - begin + lengths[-1] > _WARMUP_SHARE * seconds:
            break
    shortest = min(min(times) for times in scratch.wall_s.values())
    # The hundredth is for the clock's own rounding: 1.99999 ms needs no second pass.
    repeats = max(1, math.ceil(_SHORTEST_SAMPLE_S / max(shortest, _CLOCK_TICK_S) - 0.01))
    return min(lengths) * repeats, repeats


def _one_round(subjects: Sequence[Subject], clock: Clock, order: random.Random, rounds: Rounds) -> None:
    for subject in order.sample(list(subjects), len(subjects)):
        subject.prepare()
        cpu = clock.cpu or clock.wall
        wall_begin, cpu_begin = clock.wall(), cpu()
        for _ in range(rounds.repeats):
            subject.run()
        cpu_end, wall_end = cpu(), clock.wall()
        rounds.wall_s[subject.label].append((wall_end - wall_begin) / rounds.repeats)
        rounds.cpu_s[subject.label].append((cpu_end - cpu_begin) / rounds.repeats)


def _precise(rounds: Rounds, labels: Sequence[str], target: float) -> bool:
    return all(
        rounds.overhead(label, labels[0], STOPPING_CONFIDENCE).half_width <= target for label in labels[1:]
    )


def _waiting_share(rounds: Rounds, label: str) -> float:
    """The share of wall time in which the thread did not run, summed over all rounds."""
    wall, cpu = sum(rounds.wall_s[label]), sum(rounds.cpu_s[label])
    return 1 - cpu / wall if wall > 0 else 0.0

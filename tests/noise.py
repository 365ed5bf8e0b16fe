"""A made machine with realistic noise, which runs turns of paired rounds on a clock of its own.

What it does to a pass is drawn by the kinds it is given; sizes follow what was recorded on a shared two-core machine
(tests/traces): 0.6 % from pass to pass, 0.2 to 0.4 % from process to process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from secost.meters.latency import Rounds, Turn

LABELS = ("none", "control", "se")
TRUE = 0.06
PASS_S = 0.02


@dataclass
class NoisyMachine:
    """Passes of 20 ms with a planted overhead, disturbed by `kinds`:

    drift (10 % slower over 30 s), neighbour (another program switches on and off: +40 %), frequency (two clock rates,
    12 % apart), heavy (Student's t with 2.5 degrees of freedom), preemption (3 % of passes much longer), two-layouts
    (a quarter of all processes runs a variant 2 % slower).
    """

    seed: int
    kinds: Sequence[str] = ()
    overhead: float = TRUE
    labels: Sequence[str] = LABELS
    pass_s: float = PASS_S
    pass_sd: float = 0.006
    process_sd: float = 0.003
    opening_s: float = 0.1
    now_s: float = 0.0
    state: dict[str, int] = field(default_factory=lambda: {"neighbour": 0, "frequency": 0})

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def clock(self) -> float:
        return self.now_s

    def turn(self, turn: Turn) -> Rounds:
        """One process's share, as `measure_turn` would give it."""
        self.now_s += self.opening_s
        size = len(self.labels)
        count = max(1, min(turn.enough or 1000, int((turn.deadline_s - self.now_s) / (self.pass_s * size))))
        order = self.random.permuted(np.tile(np.arange(size), (count, 1)), axis=1)
        times = np.empty((count, size))
        np.put_along_axis(times, order, self._passes(count * size).reshape(count, size), axis=1)
        times *= self._process_effects()
        times[:, 2:] *= 1 + self.overhead
        self.now_s += float(times.sum())
        columns = {label: times[:, index].tolist() for index, label in enumerate(self.labels)}
        return Rounds("wall", 1, columns, {label: [] for label in self.labels}, [0] * count, opening_s=self.opening_s)

    def _passes(self, count: int) -> np.ndarray:
        speed = np.ones(count)
        if "drift" in self.kinds:
            speed *= 1 + 0.1 * (self.now_s + self.pass_s * np.arange(count)) / 30
        if "neighbour" in self.kinds:
            speed *= 1 + self._telegraph("neighbour", 0.012, count) * (0.4 + 0.1 * self.random.standard_normal(count))
        if "frequency" in self.kinds:
            speed *= 1 + 0.12 * self._telegraph("frequency", 0.02, count)
        noise = self.pass_sd * self.random.standard_normal(count)
        if "heavy" in self.kinds:
            noise = 0.8 * self.pass_sd * self.random.standard_t(2.5, count)
        if "preemption" in self.kinds:
            noise += (self.random.random(count) < 0.03) * self.random.exponential(0.4, count)
        return self.pass_s * speed * np.exp(noise)

    def _telegraph(self, name: str, switch: float, count: int) -> np.ndarray:
        """0 and 1 by turns, with a chance to switch at each pass; goes on where the last turn left it."""
        flips = np.cumsum(self.random.random(count) < switch)
        states = (self.state[name] + flips) % 2
        self.state[name] = int(states[-1])
        return states

    def _process_effects(self) -> np.ndarray:
        size = len(self.labels)
        effects = self.process_sd * self.random.standard_normal(size)
        if "two-layouts" in self.kinds:
            effects += (self.random.random(size) < 0.25) * 0.02
        return np.exp(effects)

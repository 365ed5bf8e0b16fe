"""Interleaved rounds: every job once a round, in random order, so that the machine's moods hit all alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

Job = Callable[[], object]


def cpu_seconds(job: Job) -> float:
    """Processor time of one call in this process, all its threads."""
    begin = time.process_time()
    job()
    return time.process_time() - begin


def rounds(
    jobs: Mapping[str, Job], repeats: int, seconds_of: Callable[[Job], float] = cpu_seconds
) -> dict[str, list[float]]:
    """Seconds of each job in each round; one round before them is not in the result."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    order = random.Random(0)
    for number in range(repeats + 1):
        for name in order.sample(list(jobs), len(jobs)):
            seconds = seconds_of(jobs[name])
            if number:
                times[name].append(seconds)
    return times


def show(title: str, times: Mapping[str, Sequence[float]], baseline: str, limits: Mapping[str, float]) -> None:
    """A table: median and best seconds, and the median over rounds of the ratio to the baseline."""
    print(f"\n{title}")
    print(f"  {'CPU seconds':<44} {'median':>8} {'best':>8} {'x':>7}   limit")
    for name, values in times.items():
        ratio = median(value / base for value, base in zip(values, times[baseline], strict=True))
        limit = f"{limits[name]:g} x" if name in limits else ""
        print(f"  {name:<44} {median(values):8.3f} {min(values):8.3f} {ratio:7.2f}   {limit}")

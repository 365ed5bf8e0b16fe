"""How often a verdict is wrong, in made worlds of which it is known whether attention is worth its time.

    python -m tests.benchmarks.worlds [--worlds 1000]     tables for reports/protocol

In each world a network has an attention and two alternatives, a deeper and a wider one, with true gains and times. What
is seen of them has the luck of trainings (pairs of seeds, by the published deviations) and of timing rounds, and goes
through the tool's own code: records, gains, verdict. Attention is worth it where it truly gains, and more than the true
line buys in its time.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from secost.answers.evidence import trained_gains
from secost.answers.published import CLASSICAL, IMAGENET, training_sd
from secost.answers.verdict import NO, OPEN, YES, judge
from secost.plan.trials import BASELINE
from secost.pooling import pooled
from secost.runs.records import PUBLISHED, Gain, Record

# Added time and gain in points of the alternatives, about those of ResNet-101 and a wider ResNet-50; half-widths of
# intervals of time as they were seen in 20 s a variant.
LINE = {"deeper": (0.8, 1.6), "wider": (0.5, 1.0)}
TIME, TIME_HALF, LINE_HALF = 0.08, 0.010, 0.03
BETWEEN = 0.15  # points: what true gains differ by from study to study
MODEL = "made"


@dataclass(frozen=True)
class World:
    """True gains in points of each variant, all of one time."""

    name: str
    gains: tuple[float, ...]

    @property
    def line(self) -> float:
        return max(gain * TIME / time for time, gain in LINE.values())

    @property
    def worth(self) -> bool:
        return max(self.gains) > max(self.line, 0.0) + 1e-9


def worlds() -> list[World]:
    line = World("", (0.0,)).line
    single = [World("no gain", (0.0,)), World("on the line", (line,)),
              *(World(f"{above:.1f} above the line", (line + above,)) for above in (0.2, 0.5, 1.0, 1.5)),
              *(World(f"{below:.1f} below the line", (line - below,)) for below in (0.2, 0.5, 1.0))]
    several = [World("four variants, none gains", (0.0,) * 4), World("four variants, all on the line", (line,) * 4),
               World("four variants, one 1.0 above", (line + 1.0, line, line, line))]
    return [*single, *several]


def record(label: str, seen: np.random.Generator, seed: int | None = None, top1: float | None = None) -> Record:
    """A cost, or with a seed a training."""
    base = Record(MODEL, BASELINE, None, "residual", "standard", None, 1, 1, 224, "eager", "fp32", "cpu", 1)
    if label in LINE:
        base.alternative = label
    elif label != BASELINE:
        base.attention, base.reduction = "se", int(label)
    if seed is not None:
        base.dataset, base.seed, base.epochs, base.top1 = "made", seed, 1, top1
    elif label != BASELINE:
        true, half = (LINE[label][0], LINE_HALF) if label in LINE else (TIME, TIME_HALF)
        middle = true + half / 1.96 * float(seen.normal())
        base.latency_overhead, base.latency_overhead_low = middle, middle - half
        base.latency_overhead_high = middle + half
    base.latency_ms = 100.0
    return base


def labels(world: World) -> dict[str, float]:
    """True gains by label: variants by their r, and the alternatives."""
    return {**{str(2**number): gain for number, gain in enumerate(world.gains)},
            **{name: gain for name, (_, gain) in LINE.items()}}


def trained(world: World, seeds: int, deviation: float, draw: np.random.Generator) -> tuple[list[Record], list[Gain]]:
    """Records of costs and of paired trainings, and their gains. Half of a training's luck is its seed's, which all
    variants share."""
    true = {BASELINE: 0.0, **labels(world)}
    records = [record(label, draw) for label in true]
    for seed in range(seeds):
        shared = draw.normal(0, deviation / math.sqrt(2))
        for label, gain in true.items():
            top1 = 75 + gain + shared + draw.normal(0, deviation / math.sqrt(2))
            records.append(record(label, draw, seed, float(top1)))
    return records, trained_gains(records)


def published(world: World, pairs: int, deviation: float, draw: np.random.Generator) -> tuple[list[Record], list[Gain]]:
    """Costs, and gains pooled over so many published pairs."""
    true = labels(world)
    gains = []
    for label, gain in true.items():
        luck = 2 * deviation**2
        own = gain + draw.normal(0, BETWEEN if pairs > 1 else 0.0, pairs) + draw.normal(0, math.sqrt(luck), pairs)
        found = pooled(own.tolist(), [luck] * pairs, one_more=False)
        alternative = label if label in LINE else None
        gains.append(Gain(MODEL, BASELINE if alternative else "se", None if alternative else int(label), found.estimate,
                          found.low, found.high, pairs, PUBLISHED, "made", alternative=alternative))
    return [record(label, draw) for label in (BASELINE, *true)], gains


Seen = Callable[[World, int, float, np.random.Generator], tuple[list[Record], list[Gain]]]


def answers(world: World, how: Seen, size: int, count: int, deviation: float) -> Counter[str]:
    draw = np.random.default_rng([size, len(world.gains), round(1000 * max(world.gains)) + 5000])
    return Counter(judge(*how(world, size, deviation, draw)).answer for _ in range(count))


def rows(count: int) -> Iterator[Sequence[str]]:
    deviation = training_sd(IMAGENET, CLASSICAL)
    assert deviation is not None
    designs: list[tuple[str, Seen, int]] = [
        *((f"{seeds} seeds", trained, seeds) for seeds in (3, 5, 10)),
        *((f"{pairs} published", published, pairs) for pairs in (1, 3, 6)),
    ]
    for world in worlds():
        for name, how, size in designs:
            found = answers(world, how, size, count, deviation)
            wrong = found[NO] if world.worth else found[YES]
            yield (world.name, "yes" if world.worth else "no", name, *(f"{found[one] / count:.1%}" for one in
                   (YES, NO, OPEN)), f"{wrong / count:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=1000)
    count = parser.parse_args().worlds
    print("| world | worth it | figures | says worth it | says not | can't tell | wrong |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in rows(count):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

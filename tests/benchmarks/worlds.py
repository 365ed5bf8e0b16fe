"""How often is the verdict wrong, and how often does it decide at all? Made networks whose truth is known.

    python -m tests.benchmarks.worlds [--worlds 1000]     the tables of reports/protocol/worlds.md

A network's attention takes some time and gains so many points more, or fewer, than its own scaling line buys in that
time. Trainings get the luck of seeds, times that of a measurement, and then secost judges the records as it does those
of a run. Attention is worth it where it truly gains, and more than every alternative truly buys in the same time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secost.answers.evidence import trained_gains
from secost.answers.expected import BETWEEN_STUDIES
from secost.answers.published import CLASSICAL, IMAGENET, training_sd
from secost.answers.verdict import NO, OPEN, YES, Reason, Verdict, judge
from secost.pooling import pooled
from secost.runs.records import PUBLISHED, Gain, Record
from tests.made_records import record

REDUCTIONS = (16, 8, 4, 2)
DEEPER, WIDER = "deeper", "wider"
# 95 % half-widths of overheads in reports/ (points of the baseline's time), and what such an interval is in deviations.
ATTENTION_HALF, ALTERNATIVE_HALF, DEVIATIONS = (0.005, 0.015), (0.02, 0.05), 1.96
# Tau: what published gains of one network differ by from study to study beyond seeds, of SE by classical recipes
# (9 degrees of freedom) and of all attentions (11).
TAUS = (0.0, 0.27, 0.45)
IMAGENET_SD, CIFAR_SD = (training_sd(name, CLASSICAL) or 0.0 for name in (IMAGENET, "CIFAR-100"))


@dataclass(frozen=True)
class Network:
    """What is true of one: the time (a fraction) and the gain (points) of each variant, and of each alternative."""

    variants: tuple[tuple[float, float], ...]
    others: tuple[tuple[float, float], ...]

    def line(self, time: float) -> float:
        """The most that an alternative buys in that time."""
        return max((min(1.0, time / most) * gain for most, gain in self.others), default=0.0)

    @property
    def worth(self) -> tuple[bool, ...]:
        return tuple(gain > 1e-9 and gain > self.line(time) + 1e-9 for time, gain in self.variants)


@dataclass(frozen=True)
class World:
    """A kind of network. `beyond` are the points by which each variant lies above the line, None for one that gains
    nothing; without `measured` no alternative is known, and the line is 0."""

    name: str
    beyond: tuple[float | None, ...]
    measured: bool = True

    def draw(self, draws: np.random.Generator) -> Network:
        """Deeper takes 30 to 50 % more time and gains 1 to 4 points; wider takes twice that and gains 1.2 to 2 times as
        much: the line is straight or bends. Attention takes 4 to 25 %."""
        time, gain = draws.uniform(0.3, 0.5), draws.uniform(1, 4)
        others = ((time, gain), (2 * time, gain * draws.uniform(1.2, 2))) if self.measured else ()
        bare = Network((), others)
        times = draws.uniform(0.04, 0.25, len(self.beyond))
        return Network(tuple((float(spent), 0.0 if more is None else bare.line(spent) + more)
                             for spent, more in zip(times, self.beyond, strict=True)), others)


WORLDS = (
    World("no gain at all", (None,)), World("1 point below", (-1.0,)), World("0.5 below", (-0.5,)),
    World("0.2 below", (-0.2,)), World("on the line", (0.0,)), World("0.2 above", (0.2,)), World("0.5 above", (0.5,)),
    World("1 point above", (1.0,)), World("4 variants, no gain at all", (None,) * 4),
    World("4 variants, on the line", (0.0,) * 4), World("4 variants, one 0.5 above", (0.5, 0.0, 0.0, 0.0)),
    World("4 variants, one 1 above", (1.0, 0.0, 0.0, 0.0)),
    World("no alternative, no gain", (None,), False), World("no alternative, 1 point", (1.0,), False),
    World("no alternative, 4 variants, no gain", (None,) * 4, False),
    World("no alternative, 4 variants, one 1 point", (1.0, None, None, None), False),
)
SMALL = (*(World(f"{more:g} above", (more,)) for more in (0.01, 0.2, 0.3, 0.4)),
         *(World(f"{more:g}, no alternative", (more,), False) for more in (0.2, 0.3, 0.4)))
Design = Callable[[Network, np.random.Generator], Verdict]


# --- what is seen of a network ---


def timed(network: Network, draws: np.random.Generator) -> list[Record]:
    """The costs: the network, its variants and alternatives, with the luck of a measurement."""
    named = [*zip(network.variants, itertools.repeat(ATTENTION_HALF), _variants(), strict=False),
             *zip(network.others, itertools.repeat(ALTERNATIVE_HALF), _alternatives(), strict=False)]
    found = [record(latency_ms=60.0)]
    for (time, _), halves, words in named:
        half = draws.uniform(*halves)
        seen = time + draws.normal(0, half / DEVIATIONS)
        found.append(record(**words, latency_ms=60 * (1 + seen), latency_overhead=seen,
                            latency_overhead_low=seen - half, latency_overhead_high=seen + half))
    return found


def trained(seeds: int, sd: float) -> Design:
    """Every network from the same seeds; what a seed has in common helps no one, as on ImageNet."""

    def verdict(network: Network, draws: np.random.Generator) -> Verdict:
        found = timed(network, draws)
        accuracies = [76.0, *(76.0 + gain for _, gain in (*network.variants, *network.others))]
        for one, accuracy in zip(tuple(found), accuracies, strict=True):
            words: dict[str, Any] = {
                "attention": one.attention, "reduction": one.reduction, "alternative": one.alternative}
            found += [record(**words, dataset="made", epochs=90, seed=seed, top1=float(accuracy + luck))
                      for seed, luck in enumerate(draws.normal(0, sd, seeds))]
        return judge(found, trained_gains(found))

    return verdict


def published(studies: int, between: float, sd: float = IMAGENET_SD) -> Design:
    """One training of each network a study. A gain is true of the mean over studies, which differ by `between`."""

    def verdict(network: Network, draws: np.random.Generator) -> Verdict:
        base = draws.normal(0, sd, studies)
        gains = []
        for (_, true), words in (*zip(network.variants, _variants(), strict=False),
                                 *zip(network.others, _alternatives(), strict=False)):
            seen = true + draws.normal(0, between, studies) + draws.normal(0, sd, studies) - base
            mean, half = float(seen.mean()), half_width(seen, sd)
            gains.append(Gain("resnet50", words["attention"], words.get("reduction"), mean, mean - half, mean + half,
                              studies, PUBLISHED, "made", era=CLASSICAL, alternative=words.get("alternative")))
        return judge(timed(network, draws), gains)

    return verdict


def half_width(seen: np.ndarray, sd: float) -> float:
    """Of the pooled mean: of one study by `sd` and what secost allows for, of several by how they lie. Where all have
    the same luck that is proportional to their standard deviation, so it is had once, and many worlds can be drawn."""
    return _half_at(len(seen), sd) * (float(seen.std(ddof=1)) if len(seen) > 1 else 1.0)


@functools.cache
def _half_at(studies: int, sd: float) -> float:
    """For a standard deviation of 1 point among the studies."""
    shape = np.linspace(-1, 1, studies)
    mean = pooled((shape / shape.std(ddof=1)).tolist() if studies > 1 else [0.0], [2 * sd**2] * studies, one_more=False,
                  alone=BETWEEN_STUDIES)
    return (mean.high - mean.low) / 2


def _variants() -> Iterator[dict[str, Any]]:
    return ({"attention": "se", "reduction": reduction} for reduction in REDUCTIONS)


def _alternatives() -> Iterator[dict[str, Any]]:
    return ({"attention": "none", "alternative": name} for name in (DEEPER, WIDER))


TRAINED = {f"{seeds} seeds, {name}": trained(seeds, sd)
           for name, sd in (("ImageNet", IMAGENET_SD), ("CIFAR-100", CIFAR_SD)) for seeds in (3, 5, 10)}
FROM_TABLES = {f"{studies} {'study' if studies == 1 else 'studies'}, tau {between:g}": published(studies, between)
               for between in TAUS for studies in (1, 3, 6)}


# --- counted ---


@dataclass(frozen=True)
class Tally:
    """Of so many worlds: how often each answer, how often it was wrong, and by the rule of what is worth no look."""

    runs: int
    yes: int
    no: int
    open: int
    wrong_yes: int
    wrong_no: int
    no_look: int


def tally(world: World, design: Design, worlds: int, seed: int = 0) -> Tally:
    """'Worth it' is wrong where the variant that it names is not worth it, 'not worth it' where any is."""
    counts = dict.fromkeys(("yes", "no", "open", "wrong_yes", "wrong_no", "no_look"), 0)
    for number in range(worlds):
        draws = np.random.default_rng([seed, number])
        network = world.draw(draws)
        found, worth = design(network, draws), network.worth
        assert found.best is not None
        named = worth[REDUCTIONS.index(found.best.record.reduction or 0)]
        counts[{YES: "yes", NO: "no", OPEN: "open"}[found.answer]] += 1
        counts["wrong_yes"] += found.answer == YES and not named
        counts["wrong_no"] += found.answer == NO and any(worth)
        counts["no_look"] += found.answer == NO and any(worth) and found.reason == Reason.NO_GAIN
    return Tally(worlds, **counts)


def share_interval(count: int, runs: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, square = count / runs, 1.96**2 / runs
    middle, half = share + square / 2, 1.96 * math.sqrt(share * (1 - share) / runs + square / (4 * runs))
    return max(0.0, (middle - half) / (1 + square)), (middle + half) / (1 + square)


# --- printed ---


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def answers_table(found: dict[tuple[str, str], Tally]) -> None:
    """`worth it / not worth it / can't tell` in percent, bold where that is wrong."""
    names = list(dict.fromkeys(name for _, name in found))
    table(["true gain", *names], [[world.name, *(_cell(found[world.name, name], world) for name in names)]
                                  for world in WORLDS])


def errors_table(found: dict[tuple[str, str], Tally]) -> None:
    rows = []
    for name in dict.fromkeys(name for _, name in found):
        mine = [(world, found[world.name, name]) for world in WORLDS]
        worth = [one for world, one in mine if _worth(world)]
        rest = [one for world, one in mine if not _worth(world)]
        rows.append([name, *_errors([(one.wrong_yes, one.runs) for one in rest]),
                     *_errors([(one.wrong_no, one.runs) for one in worth])])
    table(["design", "wrongly worth it", "in the worst world", "wrongly not worth it", "in the worst world"], rows)


def small_table(found: dict[tuple[str, str], Tally]) -> None:
    names = list(dict.fromkeys(name for _, name in found))
    table(["true gain", *names], [[world.name, *(
        f"{_percent(one.no_look, one.runs)} + {_percent(one.no - one.no_look, one.runs)}"
        for one in (found[world.name, name] for name in names))] for world in SMALL])


def all_of(worlds: Sequence[World], designs: dict[str, Design], count: int) -> dict[tuple[str, str], Tally]:
    return {(world.name, name): tally(world, design, count) for world in worlds for name, design in designs.items()}


def summary(found: dict[tuple[str, str], Tally]) -> str:
    """The worst of every world and design, in a sentence."""
    yes = max(found.values(), key=lambda one: one.wrong_yes)
    no = max(found.values(), key=lambda one: one.wrong_no)
    decided = sum(one.yes + one.no for one in found.values()) / sum(one.runs for one in found.values())
    return (f"In the worst world and design {_with_interval(yes.wrong_yes, yes.runs)} were wrongly worth it and "
            f"{_with_interval(no.wrong_no, no.runs)} wrongly not; {100 * decided:.0f} % of all were decided.")


def _worth(world: World) -> bool:
    return any(more is not None and more > 0 for more in world.beyond)


def _errors(counts: Sequence[tuple[int, int]]) -> tuple[str, str]:
    worst = max(counts)
    return _with_interval(sum(one for one, _ in counts), sum(runs for _, runs in counts)), _with_interval(*worst)


def _cell(one: Tally, world: World) -> str:
    yes, no, still = (f"{100 * count / one.runs:.0f}" for count in (one.yes, one.no, one.open))
    return f"{yes} / **{no}** / {still}" if _worth(world) else f"**{yes}** / {no} / {still}"


def _with_interval(count: int, runs: int) -> str:
    low, high = share_interval(count, runs)
    return f"{_percent(count, runs)} [{100 * low:.1f}, {100 * high:.1f}]"


def _percent(count: int, runs: int) -> str:
    return f"{100 * count / runs:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    count = parser.parse_args().worlds
    for title, designs in (("Trained here", TRAINED), ("From published studies", FROM_TABLES)):
        found = all_of(WORLDS, designs, count)
        print(f"## {title}\n\n{summary(found)}\n", flush=True)
        errors_table(found)
        answers_table(found)
    print("## A small gain above the line\n")
    small_table(all_of(SMALL, TRAINED, count))


if __name__ == "__main__":
    main()

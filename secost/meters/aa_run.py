"""A/A: a network measured against itself as a profile measures a variant, so that what comes out is the machine's own.

How much two equal networks differ here, and which overheads could be told from none in which time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, quantiles, variance
from typing import Any

from secost.meters.backends.offered import get_backend
from secost.meters.conditions import Request, measuring
from secost.meters.fitness import BAD, CAUTION, OK, RESOLUTION, UNKNOWN, Check, check, check_request, counted, graded
from secost.meters.latency import BUILT_AT, CONTROL_CONFIDENCE, Rounds, Subject, Turn, measure, measure_turn, timer_for
from secost.meters.processes import can_fork, in_child
from secost.networks.sources import inputs_for, load
from secost.statistics import median, student_quantile

MODEL = "resnet18"
AA_LABELS = ("none", "control", "itself")
TIMES_S = (10, 30, 60, 120)
_SPREAD, _SPREAD_S = (0.01, 0.05), 30  # half-width that an overhead's interval would have in that time
_AA_BAD = 0.01
_PATIENCE_S = 120.0
_FEWEST_GROUPS, _FEWEST_VALUES = 3, 4
_NINE_OF_TEN = 1.281552  # standard errors above an interval's end, for an overhead found in 9 of 10 runs


@dataclass(frozen=True)
class AARun:
    """A network measured against itself as a profile of one variant does it, in short.

    `difference` is that of the second baseline from the first, with `low` and `high`, where rounds end as a profile's
    do. `at` has a row for each time: `seconds`, and the `half_width` that the interval of an overhead of none would
    have, and `found`, the overhead that is told from none in 9 of 10 runs. Fractions all (0.01 = 1 %); None where the
    rounds were too few. `holds` is whether the stricter interval of the control holds 0.
    """

    model: str
    resolution: int
    threads: int
    seconds: float
    processes: int
    rounds: int
    clock: str
    latency_ms: float
    difference: float
    low: float | None
    high: float | None
    holds: bool
    at: list[dict[str, float | None]]


def aa_run(
    seconds: float, threads: int, model: str = MODEL, resolution: int = RESOLUTION,
    on_share: Callable[[float], object] = lambda share: None,
) -> AARun:
    """Measure a network against itself, and tell from the spread what could be told apart at which time.

    Raises BadSpecError for a time in which not one round fits, and what `load` raises for the model. The network runs
    in forked processes where there are such, as the rounds of a profile.
    """
    check_request(threads, seconds, resolution)
    net = load(model)
    ready = get_backend("eager").prepare(net, inputs_for(net, resolution, None), Request(threads=threads))
    timer = timer_for("cpu", threads)

    def share(turn: Turn) -> dict[str, Any]:
        begin = time.perf_counter()
        with measuring(threads):
            run = ready.open()
            subjects = [Subject(label, run) for label in AA_LABELS]
            opened_s = time.perf_counter() - begin
            return measure_turn(subjects, turn, timer, warm=subjects[:1], opened_s=opened_s).to_dict()

    def run_turn(turn: Turn) -> Rounds:
        return Rounds(**(in_child(lambda: share(turn), seconds + _PATIENCE_S) if can_fork() else share(turn)))

    rounds = measure(run_turn, AA_LABELS, seconds=seconds, target=0.0, apart=can_fork(), on_share=on_share)
    return judged(rounds, seconds, threads, model, resolution)


def judged(rounds: Rounds, seconds: float, threads: int, model: str, resolution: int) -> AARun:
    """What rounds of a network and itself tell."""
    baseline, control, variant = AA_LABELS
    difference = rounds.control(baseline, control)
    half_width = rounds.overhead(variant, baseline, control).half_width
    return AARun(
        model=model, resolution=resolution, threads=threads, seconds=seconds, processes=rounds.processes,
        rounds=rounds.count, clock=rounds.clock, latency_ms=rounds.latency_ms(baseline, baseline, control),
        difference=difference.estimate, low=difference.low, high=difference.high,
        holds=rounds.control(baseline, control, CONTROL_CONFIDENCE).holds(0.0),
        at=told_apart(half_width, seconds, rounds.processes, lasting_share(_differences(rounds))),
    )


def told_apart(
    half_width: float, seconds: float, processes: int, lasting: float = 0.0, times_s: Sequence[float] = TIMES_S,
) -> list[dict[str, float | None]]:
    """What a profile of one variant tells apart in each time, from the half-width that `seconds` gave: rows of `AARun`.

    The part of the variance that comes from rounds shrinks with the time; the share `lasting` comes from differences
    between processes, whose number stays the same. A network and itself differ less from process to process than a
    network and a variant do, so this is the best that can be hoped for.
    """
    per_error = student_quantile((1 + BUILT_AT) / 2, max(processes - 1, 1))  # half-widths are so many standard errors
    rows: list[dict[str, float | None]] = []
    for time_s in times_s:
        width = half_width * math.sqrt(lasting + (1 - lasting) * seconds / time_s)
        known = math.isfinite(width)
        told = width * (1 + _NINE_OF_TEN / per_error)
        rows.append({"seconds": time_s, "half_width": width if known else None, "found": told if known else None})
    return rows


def lasting_share(groups: Sequence[Sequence[float]]) -> float:
    """The share, 0 to 1, of the variance of group medians that more values in each group would not take away.

    The variance of the groups' medians less what their own values explain: pi/2 s^2/n for the median of n values, s
    from their quartiles, which bursts do not move. 0 for fewer than three groups, or groups of fewer than four values.
    """
    large = [sorted(group) for group in groups if len(group) >= _FEWEST_VALUES]
    if len(large) < _FEWEST_GROUPS:
        return 0.0
    seen = variance([median(group) for group in large])
    explained = [math.pi / 2 * _quartile_deviation(group) ** 2 / len(group) for group in large]
    return max(0.0, 1 - sum(explained) / len(explained) / seen) if seen > 0 else 0.0


def aa_checks(run: AARun) -> list[Check]:
    """Whether a network came out as equal to itself (bad from a difference of 1 % on), and how much rounds scatter."""
    width = next(row["half_width"] for row in run.at if row["seconds"] == _SPREAD_S)
    if run.low is None or run.high is None or width is None:
        return [check(name, (f"only {counted(run.rounds, 'round')}", UNKNOWN)) for name in ("a/a run", "spread")]
    value = f"{run.difference * 100:+.2f} % [{run.low * 100:.2f}, {run.high * 100:.2f}]"
    return [
        check("a/a run", (value, OK if run.holds else BAD if abs(run.difference) >= _AA_BAD else CAUTION)),
        check("spread", (f"± {width * 100:.2f} % in {_SPREAD_S} s", graded(width, _SPREAD))),
    ]


def _differences(rounds: Rounds) -> list[list[float]]:
    """The differences of the variant from the baselines' mean, a list a process."""
    baseline, control, variant = AA_LABELS
    groups: dict[int, list[float]] = {}
    for process, (time_s, base_s) in zip(rounds.process, rounds.pairs(variant, baseline, control), strict=True):
        groups.setdefault(process, []).append(time_s / base_s - 1)
    return list(groups.values())


def _quartile_deviation(ordered: Sequence[float]) -> float:
    """The standard deviation of a normal distribution with these quartiles (with 12 values its square is 12 % low)."""
    first, _, third = quantiles(ordered, n=4, method="inclusive")
    return (third - first) / (2 * NormalDist().inv_cdf(0.75))

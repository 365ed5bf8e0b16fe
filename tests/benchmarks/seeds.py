"""How many seeds does it take to tell a gain, and how often is that wrong? The rule of `secost train --until`, others
beside it, and designs of fixed seeds.

    python -m tests.benchmarks.seeds            # the tables of reports/protocol/seeds.md

Differences of paired seeds are drawn from a normal distribution. Its spread decides how many seeds, not how often a
look is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from secost.sequential import FIRST_LOOK, MOST_PAIRS, USUAL_MOST, half_width
from secost.statistics import student_quantile

RUNS, CHUNK = 20_000, 5_000
GAINS, SPREADS, UNTIL = (0.0, 0.15, 0.3, 0.5, 1.0), (0.1, 0.28, 0.5, 1.0), 0.3
FIRST, STEP = (3, 4, 5), 100 / 597  # of where the first look may be; one of digits' test images
Limits = Callable[[int], float]  # the limit of |t| at so many pairs


def rule(pairs: int) -> float:
    return half_width(pairs, math.sqrt(pairs))


def student(pairs: int) -> float:
    """Student's interval, as if there were one look."""
    return student_quantile(0.975, pairs - 1)


def shared_out(pairs: int) -> float:
    """Bonferroni: every look has its share of the error, falling as the 1.5th power, and the sum is 5 %."""
    total = sum(n**-1.5 for n in range(FIRST_LOOK, 100_000))
    return student_quantile(1 - 0.025 * pairs**-1.5 / total, pairs - 1)


def e_process(pairs: int, threshold: float = 20.0, tau: float = 2.0) -> float:
    """The t whose Bayes factor against an effect of N(0, tau^2) deviations is `threshold`: by Ville's inequality
    1 run in 20 at most ever comes there. With a threshold found by simulation it is one more shape of limits."""
    prior = 1 + pairs * tau**2
    root = (threshold**2 * prior) ** (1 / pairs)
    return math.sqrt((pairs - 1) * (root - 1) / (1 - root / prior)) if root < prior else math.inf


CANDIDATES: dict[str, Limits] = {
    "the rule: 1.25 % x min(1, (10/n)^2) a look": rule,
    "e-process, tau 2, threshold by simulation": lambda pairs: e_process(pairs, 10.0),
    "e-process, tau 2, Ville's threshold": e_process,
    "Bonferroni, n^-1.5": shared_out,
    "Student's interval, looked at each time": student,
}


def walks(
    gain: float, spread: float, most: int, runs: int, seed: int, step: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of their sample, run by run, after each pair; with `step` of differences rounded to it."""
    draws = np.random.default_rng(seed).normal(gain, spread, (runs, most))
    if step:
        draws = step * np.round(draws / step)
    counts = np.arange(1, most + 1)
    means = draws.cumsum(1) / counts
    squares = np.maximum(0.0, (draws**2).cumsum(1) - counts * means**2)
    return means, np.sqrt(squares / np.maximum(1, counts - 1))


def limits_of(limit: Limits, most: int, first: int = FIRST_LOOK) -> np.ndarray:
    return np.array([limit(n) / math.sqrt(n) if n >= first else math.inf for n in range(1, most + 1)])


def ever_wrong(limit: Limits, most: int) -> float:
    """The share of runs that see the truth outside at any look up to so many pairs."""
    ends, wrong = limits_of(limit, most), 0
    for chunk in range(RUNS // CHUNK):
        means, deviations = walks(0.0, 1.0, most, CHUNK, seed=chunk)
        wrong += int((np.abs(means) > _half(ends, deviations)).any(1).sum())
    return wrong / RUNS


def outcome(
    limit: Limits, gain: float, spread: float, first: int = FIRST_LOOK, step: float = 0.0, most: int = USUAL_MOST
) -> tuple[float, float, float]:
    """Of runs that end by the rule of `--until`: the mean number of seeds, the shares told from none, and wrong."""
    means, deviations = walks(gain, spread, most, RUNS, 7, step)
    half = _half(limits_of(limit, most, first), deviations)
    ends = (np.abs(means) > half) | (half <= UNTIL)
    last = np.where(ends.any(1), ends.argmax(1), most - 1)
    run = np.arange(RUNS)
    mean, width = means[run, last], half[run, last]
    return float(last.mean() + 1), float((np.abs(mean) > width).mean()), float((np.abs(mean - gain) > width).mean())


def fixed_for(power: float, gain: float, spread: float) -> str:
    """The least fixed number of seeds whose Student's interval tells that gain from none so often."""
    for pairs in range(2, 101):
        means, deviations = walks(gain, spread, pairs, RUNS, seed=7)
        if (np.abs(means[:, -1]) > student(pairs) / math.sqrt(pairs) * deviations[:, -1]).mean() >= power - 0.005:
            return str(pairs)
    return "over 100"


def _half(ends: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    return np.multiply(ends, deviations, out=np.full(deviations.shape, math.inf), where=np.isfinite(ends))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        print(f"| {' | '.join(row)} |")
    print()


def main() -> None:
    rows = []
    for name, limit in CANDIDATES.items():
        wrong = [f"{100 * ever_wrong(limit, most):.1f} %" for most in (USUAL_MOST, MOST_PAIRS)]
        rows.append([name, *wrong, *(f"{outcome(limit, gain, 0.28)[0]:.1f}" for gain in GAINS)])
    seeds = [f"seeds at {gain:g}" for gain in GAINS]
    table(["Limits", f"ever wrong in {USUAL_MOST}", f"in {MOST_PAIRS}", *seeds], rows)
    rows = []
    for spread in SPREADS:
        for gain in GAINS:
            count, *shares = outcome(rule, gain, spread)
            fixed = fixed_for(shares[0], gain, spread) if gain else ""
            shown = [f"{100 * share:.1f} %" for share in shares]
            rows.append([f"{spread:g}", f"{gain:g}", f"{count:.1f}", *shown, fixed])
    table(["spread", "true gain", "seeds", "told from none", "truth outside", "fixed seeds of that power"], rows)
    rows = [[f"{spread:g}", *(f"{100 * outcome(rule, 0.5, spread, first, STEP)[2]:.1f} %" for first in FIRST)]
            for spread in SPREADS]
    table(["spread", *(f"first look at {first}" for first in FIRST)], rows)


if __name__ == "__main__":
    main()

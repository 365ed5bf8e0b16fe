"""Which estimator, which interval, how many processes? Candidates side by side on made machines and recorded traces.

    python -m tests.benchmarks.protocol -o reports/protocol

Prints Markdown tables (`reports/protocol/README.md` quotes them) and writes `simulation.csv` and `candidates.png`.
Each made machine has a planted overhead of 6 %, and each run 10 s of its own time; a trace's truth is what the whole
recording says. Errors and half-widths are in points (1 % of the baseline's time).
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from secost.meters.latency import BUILT_AT, Rounds, measure
from secost.statistics import CONFIDENCE, Interval, clustered_interval, median, student_quantile
from tests.meters.test_protocol import NOISES, _replayed, _trace
from tests.noise import LABELS, TRUE, NoisyMachine

_SECONDS, _RUNS = 10.0, 300
_BOOTSTRAPS = 300
TRACES = ("resnet18-quiet", "mobilenetv2-quiet", "resnet18-neighbour")
Row = tuple[str, str, float, float, float]  # candidate, condition, root-mean-square error, coverage, half-width


def _ratios(rounds: Rounds) -> np.ndarray:
    none, control, variant = (np.array(rounds.times_s(label)) for label in LABELS)
    return np.asarray(variant / ((none + control) / 2) - 1)


# --- estimators -------------------------------------------------------------------------------------------------------


def _hodges_lehmann(rounds: Rounds) -> float:
    values = _ratios(rounds)
    first, second = np.triu_indices(len(values))
    return float(np.median((values[first] + values[second]) / 2))


def _trimmed(rounds: Rounds) -> float:
    values = np.sort(_ratios(rounds))
    cut = len(values) // 5
    return float(values[cut : len(values) - cut].mean())


def _of_times(centre: Callable[[np.ndarray], float]) -> Callable[[Rounds], float]:
    """One number a subject, then their ratio: what is left of the pairs is that they were taken at the same time."""

    def estimate(rounds: Rounds) -> float:
        none, control, variant = (centre(np.array(rounds.times_s(label))) for label in LABELS)
        return variant / ((none + control) / 2) - 1

    return estimate


ESTIMATORS: dict[str, Callable[[Rounds], float]] = {
    "median of paired ratios": lambda rounds: float(np.median(_ratios(rounds))),
    "20 % trimmed mean of paired ratios": _trimmed,
    "Hodges-Lehmann of paired ratios": _hodges_lehmann,
    "mean of paired ratios": lambda rounds: float(_ratios(rounds).mean()),
    "ratio of medians": _of_times(lambda times: float(np.median(times))),
    "ratio of means": _of_times(lambda times: float(times.mean())),
    "ratio of minima": _of_times(lambda times: float(times.min())),
}


# --- intervals --------------------------------------------------------------------------------------------------------


def _groups(rounds: Rounds) -> list[np.ndarray]:
    values, process = _ratios(rounds), np.array(rounds.process)
    return [values[process == number] for number in np.unique(process)]


def _alone(rounds: Rounds) -> Interval:
    """Order statistics over all rounds, as if they were independent."""
    return clustered_interval([[value] for value in _ratios(rounds)], CONFIDENCE)


def _student(rounds: Rounds) -> Interval:
    """Student's t over the medians of processes."""
    medians = np.array([np.median(group) for group in _groups(rounds)])
    if len(medians) < 2:
        return Interval(float(medians.mean()), None, None)
    width = student_quantile((1 + CONFIDENCE) / 2, len(medians) - 1) * medians.std(ddof=1) / math.sqrt(len(medians))
    return Interval(float(medians.mean()), float(medians.mean() - width), float(medians.mean() + width))


def _bootstrap(rounds: Rounds) -> Interval:
    """Processes drawn with replacement, then rounds within each; the middle 95 % of the medians."""
    groups, source = _groups(rounds), np.random.default_rng(rounds.count)
    found = []
    for _ in range(_BOOTSTRAPS):
        drawn = [groups[pick] for pick in source.integers(0, len(groups), len(groups))]
        found.append(np.median(np.concatenate([group[source.integers(0, len(group), len(group))] for group in drawn])))
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(np.median(_ratios(rounds))), float(low), float(high))


INTERVALS: dict[str, Callable[[Rounds], Interval]] = {
    "rounds as independent": _alone,
    "bootstrap over processes and rounds": _bootstrap,
    "Student's t over process medians": _student,
    "sign test over processes, at 95 %": lambda rounds: rounds.overhead("se", *LABELS[:2], CONFIDENCE),
    "sign test over processes, at 98 % (used)": lambda rounds: rounds.overhead("se", *LABELS[:2], BUILT_AT),
}


# --- data -------------------------------------------------------------------------------------------------------------


def made(name: str, processes: int = 0, target: float = 0.0, runs: int = _RUNS) -> Iterator[Rounds]:
    """Runs of 10 s on a made machine; 0 processes: as many as the protocol chooses."""
    for seed in range(runs):
        machine = NoisyMachine(seed, NOISES[name])
        yield measure(machine.turn, LABELS, seconds=_SECONDS, target=target, processes=processes, clock=machine.clock)


def in_blocks(name: str) -> Iterator[Rounds]:
    """The same 10 s in block order, as peers do it: all of one subject, then all of the next, in one process."""
    for seed in range(_RUNS):
        machine = NoisyMachine(seed, NOISES[name])
        count = int(_SECONDS / machine.pass_s / len(LABELS))
        columns = {}
        effects = machine._process_effects()
        for label, effect in zip(LABELS, effects, strict=True):
            times = machine._passes(count) * effect * (1 + TRUE if label == "se" else 1)
            machine.now_s += float(times.sum())
            columns[label] = times.tolist()
        yield Rounds("wall", 1, columns, {}, [0] * count)


def replayed(name: str) -> tuple[list[Rounds], float]:
    """Short runs out of a recorded one (8 processes, 10 rounds each), and what all of it says."""
    parts = _trace(name)
    whole = Rounds()
    for number, part in enumerate(parts):
        whole.add(part, number)
    return [_replayed(parts, seed, 8, 10) for seed in range(_RUNS)], whole.overhead("se", *LABELS[:2]).estimate


# --- tables -----------------------------------------------------------------------------------------------------------


def judge(runs: Sequence[Rounds], truth: float, interval: Callable[[Rounds], Interval]) -> tuple[float, float, float]:
    """Root-mean-square error, coverage, and the median half-width (infinite where there is none)."""
    found = [interval(rounds) for rounds in runs]
    error = math.sqrt(float(np.mean([(item.estimate - truth) ** 2 for item in found])))
    return error, sum(item.holds(truth) for item in found) / len(found), median([item.half_width for item in found])


def estimator_rows(conditions: dict[str, tuple[list[Rounds], float]]) -> Iterator[Row]:
    for name, estimate in ESTIMATORS.items():
        for condition, (runs, truth) in conditions.items():
            errors = [estimate(rounds) - truth for rounds in runs]
            yield name, condition, math.sqrt(float(np.mean(np.square(errors)))), math.nan, math.nan
    for condition in NOISES:
        if condition != "two layouts":
            errors = [ESTIMATORS["ratio of means"](rounds) - TRUE for rounds in in_blocks(condition)]
            yield "blocks, ratio of means", condition, math.sqrt(float(np.mean(np.square(errors)))), math.nan, math.nan


def interval_rows(conditions: dict[str, tuple[list[Rounds], float]]) -> Iterator[Row]:
    for name, interval in INTERVALS.items():
        for condition, (runs, truth) in conditions.items():
            yield name, condition, *judge(runs, truth, interval)


def allocation_rows() -> Iterator[Row]:
    used = INTERVALS["sign test over processes, at 98 % (used)"]
    for condition in ("quiet", "neighbour", "all at once"):
        for processes in (2, 4, 8, 16, 32, 0):
            name = f"{processes} processes" if processes else "chosen by the time there is (used)"
            yield name, condition, *judge(list(made(condition, processes)), TRUE, used)


def looking_rows() -> Iterator[Row]:
    """Stopping as soon as every interval is narrow enough: does it still hold the truth?"""
    for level in (CONFIDENCE, BUILT_AT):
        for target in (0.0, 0.01, 0.006, 0.004):
            name = f"built at {level:.0%}, target {100 * target:g} points"
            for condition in ("quiet", "neighbour", "all at once"):
                runs = list(made(condition, target=target))
                yield name, condition, *judge(
                    runs, TRUE, lambda rounds, level=level: rounds.overhead("se", *LABELS[:2], level)
                )


def tell(title: str, rows: Sequence[Row], columns: dict[str, int]) -> None:
    """A Markdown table: candidates down, conditions across."""
    conditions = list(dict.fromkeys(row[1] for row in rows))
    print(f"\n{title}\n\n| | {' | '.join(conditions)} |\n|---|{'---:|' * len(conditions)}")
    for name in dict.fromkeys(row[0] for row in rows):
        mine = {row[1]: row for row in rows if row[0] == name}
        cells = [" / ".join(_cell(mine[c], place, kind) for kind, place in columns.items()) if c in mine else ""
                 for c in conditions]
        print(f"| {name} | {' | '.join(cells)} |")


def _cell(row: Row, place: int, kind: str) -> str:
    value = float(row[place])  # type: ignore[arg-type]
    return f"{100 * value:.0f} %" if kind == "coverage" else "none" if math.isinf(value) else f"{100 * value:.2f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Coverage against half-width of each interval, a panel a condition."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = ("quiet", "neighbour", "all at once", "resnet18-quiet", "mobilenetv2-quiet", "resnet18-neighbour")
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6.4), sharey=True, layout="constrained")
    for panel, condition in zip(axes.flat, shown, strict=True):
        for number, name in enumerate(INTERVALS):
            row = next(row for row in rows if row[:2] == (name, condition))
            panel.scatter(100 * row[4], 100 * row[3], s=70, marker="os^Dv"[number], label=name, zorder=3)
        panel.axhline(95, color="0.4", lw=1, ls="--")
        panel.set(title=condition, xlabel="median half-width (points)")
        panel.grid(alpha=0.3)
        panel.set_xlim(left=0)
    for panel in axes[:, 0]:
        panel.set_ylabel("intervals that hold the truth (%)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("What an interval is worth: 300 runs of 10 s each (below: short runs out of recorded ones)")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("reports/protocol"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    conditions: dict[str, tuple[list[Rounds], float]] = {
        name: (list(made(name)), TRUE) for name in NOISES if name != "two layouts"
    }
    conditions |= {name: replayed(name) for name in TRACES}
    tables = {
        "estimator": list(estimator_rows(conditions)), "interval": list(interval_rows(conditions)),
        "allocation": list(allocation_rows()), "looking": list(looking_rows()),
    }
    tell("Estimators: root-mean-square error", tables["estimator"], {"error": 2})
    tell("Intervals: coverage / half-width", tables["interval"], {"coverage": 3, "half-width": 4})
    tell("Processes: error / coverage / half-width", tables["allocation"], {"error": 2, "coverage": 3, "half-width": 4})
    tell("Looking after each process: coverage / half-width", tables["looking"], {"coverage": 3, "half-width": 4})
    with (out / "simulation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "candidate", "condition", "rms_error", "coverage", "half_width"])
        for table, rows in tables.items():
            writer.writerows([table, *row[:2], *(f"{value:.6f}" for value in row[2:])] for row in rows)
    draw(tables["interval"], out / "candidates.png")


if __name__ == "__main__":
    main()

"""Can the latency be believed? Repeats short measurements and holds them against a truth from long ones.

    python -m tests.benchmarks.trust truth            a long run over fresh processes: what the overhead is here
    python -m tests.benchmarks.trust repeats          100 short runs: A/A, coverage, error, a planted 2 %
    python -m tests.benchmarks.trust controls         what must cost nothing: an identity attached; attached for native
    python -m tests.benchmarks.trust peers            beside timm's, torch.utils.benchmark's and pyperf's protocols
    python -m tests.benchmarks.trust record           traces for tests/traces

`--condition busy` has a neighbour on every processor but one, switching on and off. Results go to stdout, and each run
to `--out` as a line of JSON, so that a benchmark that was stopped is not lost.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported

import torch
from torch import nn

from secost.api import sweep
from secost.meters.conditions import measuring
from secost.meters.latency import Rounds
from secost.networks.attended import Placed, attached_paths
from secost.networks.attention import register_attention
from secost.networks.attention_modules import Attention
from secost.networks.cache import cached_trace
from secost.networks.sites import Site, find_sites
from secost.networks.sources import inputs_for, load
from secost.networks.surgery import Switch, native_paths
from secost.networks.tracing import eval_mode
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Setting, Trial
from secost.work.timing import CONTROL, Stopwatch
from tests.benchmarks.neighbour import neighbour

NETWORKS = {"resnet18": 128, "mobilenetv2_100": 160}
SE, PLANTED = "se r=16", 0.02
_TRUTH_S, _TRUTH_PROCESSES = 40.0, 6


class Bench:
    """One network with and without SE r=16, loaded once and measured often."""

    def __init__(self, model: str) -> None:
        self.setting = Setting(model, resolution=NETWORKS[model])
        self.net = load(model)
        self.inputs = inputs_for(self.net, self.setting.resolution, None)
        graph = cached_trace(self.net, self.inputs)
        self.sites = find_sites(graph, "auto", "standard", None, attached_paths(self.net))
        self.exit = contextlib.ExitStack()
        self.exit.enter_context(eval_mode(self.net))
        self.switch = self.exit.enter_context(Switch(self.net, native_paths(graph)))
        self.planted_s = 0.0

    def watch(self, seconds: float, target: float, seed: int) -> Planted:
        spec = Spec((self.setting.model,), seconds=seconds, target=target, seed=seed)
        return Planted(self.net, self.switch, self.inputs, self.setting, spec)

    def rounds(self, seconds: float, target: float, seed: int, planted_s: float = 0.0) -> Rounds:
        watch = self.watch(seconds, target, seed)
        watch.planted_s = planted_s
        trials = [Trial(self.setting, BASELINE), Trial(self.setting, "se", 16)]
        return watch.time(trials, self.sites).rounds

    def two_percent_s(self) -> float:
        """2 % of the baseline's time, from a short run."""
        return PLANTED * statistics.median(self.rounds(5.0, 0.001, 999).times_s(BASELINE))


class Planted(Stopwatch):
    """A stopwatch with one more subject: the baseline, and then so many seconds of processor time for nothing."""

    planted_s = 0.0

    def _labels(self) -> list[str]:
        return [*super()._labels(), *(["planted"] if self.planted_s else [])]

    def _subject(self, label: str) -> Any:
        if label != "planted":
            return super()._subject(label)
        subject = super()._subject(BASELINE)
        run = subject.run

        def slower() -> None:
            run()
            end = time.thread_time() + self.planted_s
            while time.thread_time() < end:
                pass

        return type(subject)("planted", slower, subject.prepare)


# --- truth ------------------------------------------------------------------------------------------------------------


def truth(models: list[str], out: Path) -> None:
    """Fresh Python processes measure for 40 s each; their mean, and the error of that mean.

    Once with the subjects that a round of `repeats` has and once with those of `peers`: what runs before a pass is part
    of what it takes.
    """
    for model in models:
        for judged in ("repeats", "peers"):
            found = [_in_fresh_python("once", model, judged, _TRUTH_S, seed) for seed in range(_TRUTH_PROCESSES)]
            error = statistics.stdev(found) / math.sqrt(len(found))
            _write(out, {"kind": "truth", "of": judged, "model": model, "mean": statistics.mean(found),
                         "error": error, "runs": found})
            print(f"{model}, for {judged}: SE r=16 {_points(statistics.mean(found))} +- {_points(2 * error)} "
                  f"({len(found)} processes of {_TRUTH_S:.0f} s: {', '.join(map(_points, found))})", flush=True)


def once(model: str, judged: str, seconds: float, seed: int) -> float:
    bench = Bench(model)
    rounds = bench.rounds(seconds, 1e-6, seed, bench.two_percent_s() if judged == "repeats" else 0.0)
    return rounds.overhead(SE, BASELINE, CONTROL).estimate


def _in_fresh_python(function: str, *arguments: object) -> Any:
    """What a function of this file gives in a Python process of its own, with its own addresses and memory."""
    code = f"import json; from tests.benchmarks import trust; print(json.dumps(trust.{function}(*{arguments!r})))"
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


# --- repeats ----------------------------------------------------------------------------------------------------------


def repeats(
    models: list[str], condition: str, runs: int, seconds: float, target: float, known: dict[str, float], out: Path
) -> None:
    for model in models:
        bench = Bench(model)
        planted_s = bench.two_percent_s()
        rows = []
        with _condition(condition):
            for seed in range(runs):
                begin = time.monotonic()
                rounds = bench.rounds(seconds, target, seed, planted_s)
                rows.append(_row(rounds, time.monotonic() - begin, planted_s))
                _write(out, {"kind": "repeats", "model": model, "condition": condition, "seconds": seconds,
                             "target": target, **rows[-1]})
        _tell(model, condition, seconds, rows, known.get(model))


def _row(rounds: Rounds, took_s: float, planted_s: float) -> dict[str, Any]:
    """`planted` is the true overhead of what was planted: so many seconds, of what the baseline took in this run."""
    row: dict[str, Any] = {"took_s": took_s, "rounds": rounds.count, "processes": rounds.processes}
    row["truth-planted"] = planted_s / statistics.median(rounds.times_s(BASELINE))
    by_wall = dataclasses.replace(rounds, clock="wall")
    for name, interval in (
        ("control", rounds.control(BASELINE, CONTROL)), ("se", rounds.overhead(SE, BASELINE, CONTROL)),
        ("planted", rounds.overhead("planted", BASELINE, CONTROL)),
        ("se-wall", by_wall.overhead(SE, BASELINE, CONTROL)),
    ):
        row[name] = [interval.estimate, interval.low, interval.high]
    return row


def _tell(model: str, condition: str, seconds: float, rows: list[dict[str, Any]], true: float | None) -> None:
    true = statistics.mean(row["se"][0] for row in rows) if true is None else true
    known = {"control": 0.0, "se": true, "planted": PLANTED, "se-wall": true}
    taken = statistics.median(row["took_s"] for row in rows)
    print(f"\n{model}, {condition}, {len(rows)} runs of at most {seconds:g} s (median {taken:.1f} s)")
    for name, value in known.items():
        truths = [row["truth-planted"] if name == "planted" else value for row in rows]
        ends = [row[name] for row in rows]
        held = sum(low is None or low <= value <= high for value, (_, low, high) in zip(truths, ends, strict=True))
        errors = [estimate - value for value, (estimate, _, _) in zip(truths, ends, strict=True)]
        widths = sorted((high - low) / 2 if low is not None else math.inf for _, low, high in ends)
        above = sum(low is not None and low > 0 for _, low, _ in ends)
        print(f"  {name:8} truth {_points(statistics.mean(truths))}  held {held}/{len(rows)}  rmse "
              f"{_points(_rms(errors))}  mean error {_points(statistics.mean(errors))}  half-width median "
              f"{_points(statistics.median(widths))} p90 {_points(widths[int(0.9 * len(widths))])}  above 0: {above}",
              flush=True)


# --- controls ---------------------------------------------------------------------------------------------------------


IDENTITIES = {"resnet18": 64, "mobilenetv2_100": 160, "efficientnet_b0": 160, "resnet50": 64}
NATIVES = {"seresnet18": 64, "mobilenetv3_small_100": 224}


class Nothing(Attention):
    """What must cost nothing: a third party's module would come in a wrapper whose call is no stand-in's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def controls(condition: str, seconds: float, out: Path) -> None:
    """An identity attached at every site must cost nothing, and a network's own attention the same wherever it hangs.

    The identities are sweeps like any other, at small sizes, where a call weighs most; their runs stay beside `--out`.
    """
    register_attention("identity", Nothing, lambda channels, reduction: 0, has_reduction=False)
    with _condition(condition):
        for pixels in sorted(set(IDENTITIES.values())):
            models = tuple(model for model, resolution in IDENTITIES.items() if resolution == pixels)
            spec = Spec(models, attention=("identity",), resolution=(pixels,), seconds=seconds, target=1e-6)
            for record in sweep(spec, out.parent / f"controls-{pixels}px"):
                ends = record.latency_overhead_low, record.latency_overhead_high
                if record.latency_overhead is not None and None not in ends:
                    _tell_control(out, condition, record.model, "identity over none", record.latency_overhead, *ends)
        for model, resolution in NATIVES.items():
            rounds = _own_rounds(Setting(model, resolution=resolution), seconds)
            for label, base in ((NATIVE, BASELINE), ("attached", BASELINE), ("attached", NATIVE)):
                what = f"{label} over {base}"
                found = rounds.overhead(label, base, CONTROL if base == BASELINE else base)
                _tell_control(out, condition, model, what, found.estimate, found.low, found.high)


def _tell_control(out: Path, condition: str, model: str, what: str, *overhead: float | None) -> None:
    _write(out, {"kind": "controls", "condition": condition, "model": model, "what": what, "overhead": overhead})
    value, low, high = ("none" if end is None else _points(end) for end in overhead)
    print(f"{model}, {condition}: {what} {value} [{low}, {high}]", flush=True)


class _Own(Stopwatch):
    """A stopwatch with one more variant: the network's own attention, attached where it sits."""

    own: dict[str, nn.Module]

    def _placed(self, trial: Trial, sites: Sequence[Site]) -> list[Placed]:
        if trial.attention != "attached":
            return super()._placed(trial, sites)
        placed = [Placed(site, trial.attention, self.own[str(site.occupied_by)]) for site in sites]
        self.switch.add(trial.label, placed)
        return placed


def _own_rounds(setting: Setting, seconds: float) -> Rounds:
    net = load(setting.model)
    inputs = inputs_for(net, setting.resolution, None)
    graph = cached_trace(net, inputs)
    sites = [site for site in find_sites(graph, "auto") if site.occupied_by is not None]
    trials = [Trial(setting, name) for name in (BASELINE, NATIVE, "attached")]
    with eval_mode(net), Switch(net, native_paths(graph)) as switch:
        watch = _Own(net, switch, inputs, setting, Spec((setting.model,), seconds=seconds, target=1e-6))
        watch.own = {str(site.occupied_by): net.get_submodule(str(site.occupied_by)) for site in sites}
        return watch.time(trials, sites).rounds


# --- peers ------------------------------------------------------------------------------------------------------------


def peers(
    models: list[str], condition: str, runs: int, seconds: float, allocator: str, known: dict[str, float], out: Path
) -> None:
    """Every protocol has the same time for both networks. Each answers for SE, and for the baseline against itself.

    Each repeat is a Python process of its own, as each use of these tools is: repeats out of one process share its
    luck, and would say how well that one process was measured. `allocator` is what the peers have: they leave it as it
    is, and a network whose pages fault on every pass is then another one.
    """
    for model in models:
        errors: dict[str, list[float]] = {}
        different: dict[str, int] = {}
        with _condition(condition):
            for seed in range(runs):
                answers = _in_fresh_python("one_of_each", model, seconds, seed, allocator)
                for name, (overhead, says_different) in answers.items():
                    errors.setdefault(name, []).append(overhead - known[model])
                    different[name] = different.get(name, 0) + says_different
                    _write(out, {"kind": "peers", "model": model, "condition": condition, "allocator": allocator,
                                 "protocol": name, "overhead": overhead, "itself_different": says_different})
        print(f"\n{model}, {condition}, peers with allocator {allocator}, {runs} runs of {seconds:g} s, truth "
              f"{_points(known[model])}")
        for name, values in errors.items():
            print(f"  {name:40} rmse {_points(_rms(values)):>8}   itself called different {different[name]}/{runs}",
                  flush=True)


def one_of_each(model: str, seconds: float, seed: int, allocator: str) -> dict[str, tuple[float, bool]]:
    """Each protocol once, in this process; they take turns at being the first."""
    torch.set_num_threads(1)
    bench = Bench(model)
    bench.rounds(3.0, 0.01, 0)
    names = list(PROTOCOLS)
    first = seed % len(names)
    return {name: PROTOCOLS[name](bench, seconds, seed, allocator) for name in names[first:] + names[:first]}


def _ours(bench: Bench, seconds: float, seed: int, allocator: str) -> tuple[float, bool]:
    rounds = bench.rounds(seconds, 1e-6, seed)
    interval, control = rounds.overhead(SE, BASELINE, CONTROL), rounds.control(BASELINE, CONTROL)
    return interval.estimate, not control.holds(0.0)


def _timm(bench: Bench, seconds: float, seed: int, allocator: str) -> tuple[float, bool]:
    """As timm's benchmark script: 10 passes of warm-up, then passes for the time there is, their mean."""

    def mean(label: str, budget_s: float) -> list[float]:
        bench.switch.select(label)
        for _ in range(10):
            bench.net(*bench.inputs)
        times, end = [], time.perf_counter() + budget_s
        while time.perf_counter() < end:
            begin = time.perf_counter()
            bench.net(*bench.inputs)
            times.append(time.perf_counter() - begin)
        return times

    return _in_blocks(bench, seconds, allocator, mean, statistics.mean)


def _torch_benchmark(bench: Bench, seconds: float, seed: int, allocator: str) -> tuple[float, bool]:
    """torch.utils.benchmark's blocked_autorange, its median."""
    from torch.utils.benchmark import Timer

    def blocked(label: str, budget_s: float) -> list[float]:
        bench.switch.select(label)
        timer = Timer("net(*inputs)", globals={"net": bench.net, "inputs": bench.inputs}, num_threads=1)
        return list(timer.blocked_autorange(min_run_time=budget_s).times)

    return _in_blocks(bench, seconds, allocator, blocked, statistics.median)


def _pyperf(bench: Bench, seconds: float, seed: int, allocator: str) -> tuple[float, bool]:
    """As pyperf: processes one after another, in each a warm-up and 3 values of at least 0.1 s; their mean."""
    from secost.meters.processes import in_child

    def values(label: str) -> list[float]:
        with measuring(1, allocator):
            bench.switch.select(label)
            begin = time.perf_counter()
            bench.net(*bench.inputs)
            loops = max(1, math.ceil(0.1 / (time.perf_counter() - begin)))
            found = []
            for _ in range(3):
                begin = time.perf_counter()
                for _ in range(loops):
                    bench.net(*bench.inputs)
                found.append((time.perf_counter() - begin) / loops)
            return found

    def processes(label: str, budget_s: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + budget_s
        while time.perf_counter() < end:
            times += in_child(lambda: values(label), 60.0)
        return times

    return _in_blocks(bench, seconds, allocator, processes, statistics.mean)


def _in_blocks(
    bench: Bench, seconds: float, allocator: str, times_of: Callable[[str, float], list[float]],
    centre: Callable[[list[float]], float],
) -> tuple[float, bool]:
    """All of one, then all of the other. A network differs from itself where the two means are more than two
    standard errors apart, by the spread of the values themselves."""
    with measuring(1, allocator):
        base, variant = times_of(BASELINE, seconds / 2), times_of(SE, seconds / 2)
        first, second = times_of(BASELINE, seconds / 4), times_of(BASELINE, seconds / 4)
        bench.switch.select(BASELINE)
    gap = abs(centre(second) - centre(first))
    error = math.sqrt(sum(statistics.variance(times) / len(times) for times in (first, second) if len(times) > 1))
    return centre(variant) / centre(base) - 1, gap > 2 * error


PROTOCOLS = {
    "secost": _ours, "timm's script (mean of one block)": _timm,
    "torch.utils.benchmark (blocked_autorange)": _torch_benchmark, "pyperf (processes, mean)": _pyperf,
}


# --- traces -----------------------------------------------------------------------------------------------------------


def record(models: list[str], condition: str, folder: Path) -> None:
    """Two minutes of rounds in many processes, in whole microseconds."""
    for model in models:
        with _condition(condition):
            rounds = Bench(model).rounds(90.0, 1e-6, 7)
        processes = []
        for number in range(rounds.processes):
            picked = [index for index, process in enumerate(rounds.process) if process == number]
            if len(picked) >= 10:
                names = {"none": BASELINE, "control": CONTROL, "se": SE}
                processes.append({short: [round(rounds.cpu_s[label][i] * 1e6) for i in picked]
                                  for short, label in names.items()})
        path = folder / f"{model.split('_')[0]}-{'quiet' if condition == 'quiet' else 'neighbour'}.json"
        path.write_text(json.dumps({"model": model, "condition": condition, "processes_us": processes}))
        print(path, len(processes), "processes")


# --- words ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _condition(name: str) -> Iterator[None]:
    with neighbour(max(1, (os.cpu_count() or 2) - 1) if name == "busy" else 0):
        time.sleep(1.0)
        yield


def _rms(values: list[float]) -> float:
    return math.sqrt(statistics.mean(value**2 for value in values))


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _write(out: Path, row: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _known(out: Path, judged: str) -> dict[str, float]:
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return {row["model"]: row["mean"] for row in rows if row["kind"] == "truth" and row["of"] == judged}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("truth", "repeats", "controls", "peers", "record"))
    parser.add_argument("--model", action="append", choices=tuple(NETWORKS))
    parser.add_argument("--condition", choices=("quiet", "busy"), default="quiet")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--target", type=float, default=0.01)
    parser.add_argument("--allocator", choices=("default", "steady"), default="default", help="the peers'")
    parser.add_argument("--out", type=Path, default=Path("trust.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    models = given.model or list(NETWORKS)
    if given.what == "truth":
        truth(models, given.out)
    elif given.what == "record":
        record(models, given.condition, Path("tests/traces"))
    elif given.what == "controls":
        controls(given.condition, given.seconds, given.out)
    elif given.what == "repeats":
        repeats(models, given.condition, given.runs or 100, given.seconds, given.target,
                _known(given.out, "repeats"), given.out)
    else:
        peers(models, given.condition, given.runs or 7, given.seconds, given.allocator,
              _known(given.out, "peers"), given.out)


if __name__ == "__main__":
    main()

"""Whether this machine is fit to measure on: checks as values, what changed while something ran, and an A/A run.

`standing_checks` look at what is set and what goes on now, `watched_checks` at what happened between two snapshots,
`aa_checks` at a network measured against itself. `secost.glossary.CHECKS` words them. What the system does not tell is
`unknown` and counts as no reason against it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist, quantiles, variance
from typing import Any

from secost.errors import BadSpecError
from secost.glossary import CHECKS
from secost.meters import machine
from secost.meters.latency import BUILT_AT, CONTROL_CONFIDENCE, Rounds, Subject, Turn, measure, measure_turn
from secost.meters.machine import ROOT
from secost.meters.processes import can_fork, in_child
from secost.statistics import median, student_quantile

if sys.platform != "win32":
    import resource

OK, CAUTION, BAD, UNKNOWN = "ok", "caution", "bad", "unknown"
FIT, WITH_CARE, NOT_FIT = "fit", "fit with care", "not fit"
MODEL, RESOLUTION = "resnet18", 128
AA_LABELS = ("none", "control", "itself")
TIMES_S = (10, 30, 60, 120)

_GIB = 1 << 30
# (caution from here on, bad from here on)
_LOAD = (1.0, 2.0)  # of the usable processors, the threads asked for included in the first
_OTHER_WORK = (0.1, 1.0)  # processors kept busy by others; share of all usable ones
_STEAL = (0.01, 0.10)  # processors
# Share of the last 10 s. One thread is measured by its processor time, which bears much waiting for a processor.
_PRESSURE = {"cpu": (0.10, 0.50), "memory": (0.01, 0.10), "io": (0.20, math.inf)}
_CPU_PRESSURE_ALONE = (0.10, 0.90)
_SPREAD, _SPREAD_S = (0.01, 0.05), 30  # half-width that an overhead's interval would have in that time
_COARSE_S = (20e-6, 200e-6)  # 1 % and 10 % of the shortest sample, 2 ms
_MEMORY_BYTES = (_GIB, _GIB // 4)
_COOL_C = 5.0
_QUOTA_ROOM = 1.2  # threads of libraries want a little beside the ones that are asked for
_STEADY_GOVERNORS = frozenset(("performance", "userspace"))
_SLOW_CLOCK_SOURCES = frozenset(("hpet", "acpi_pm", "jiffies", "pit", "xen"))
_CLOCK_READINGS = 5000
_AA_BAD = 0.01
_PATIENCE_S = 120.0
_FEWEST_GROUPS, _FEWEST_VALUES = 3, 4
OnShare = Callable[[float], object]
_NINE_OF_TEN = 1.281552  # standard errors above an interval's end, for an overhead found in 9 of 10 runs


def _nobody(share: float) -> None:
    pass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, whether it is fit, what it means and what to do (if not fit)."""

    name: str
    value: str
    status: str
    meaning: str
    next_step: str | None


@dataclass(frozen=True)
class Snapshot:
    """Counters of this process and of the machine at one moment; None where the system has no such counter.

    Faults and context switches are this process's (all its threads). Ticks are the machine's, `own_ticks` this
    process's and its ended children's. Throttling is that of this process's control group.
    """

    time_s: float
    minor_faults: int | None = None
    major_faults: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    busy_ticks: int | None = None
    steal_ticks: int | None = None
    total_ticks: int | None = None
    own_ticks: int | None = None
    processors: int | None = None
    swapped_pages: int | None = None
    heat_throttles: int | None = None
    cpu_mhz: float | None = None
    native_threads: int | None = None


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


def check_request(threads: int, seconds: float = 1.0, resolution: int = RESOLUTION, model: str | None = None) -> None:
    """Raises BadSpecError for threads, seconds or pixels that are not possible here, before anything is looked at.

    UnknownNameError or ModelLoadError for the name of a model that can't be right.
    """
    most = os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise BadSpecError(f"threads {threads} is not possible: expected 1 to {most}, this machine's processors")
    if not (math.isfinite(seconds) and seconds > 0):
        raise BadSpecError(f"seconds {seconds:g} is not possible: expected more than 0")
    if resolution < 1:
        raise BadSpecError(f"resolution {resolution} is not possible: expected 1 or more pixels")
    if model is not None:
        from secost.networks.sources import check_name

        check_name(model)


def verdict(checks: Sequence[Check]) -> tuple[str, list[str]]:
    """fit, fit with care or not fit; and the names of the checks that say so."""
    bad = [check.name for check in checks if check.status == BAD]
    careful = [check.name for check in checks if check.status == CAUTION]
    if bad:
        return NOT_FIT, bad
    return (WITH_CARE, careful) if careful else (FIT, [])


# --- what is set, and what goes on now -----------------------------------------------------------------------------


def standing_checks(threads: int, root: Path = ROOT, env: Mapping[str, str] | None = None) -> list[Check]:
    """Everything that one look can tell, before anything is run. `root` is where proc and sys are."""
    env = os.environ if env is None else env
    return [
        _load(threads, root), *(_pressure(what, threads, root) for what in _PRESSURE), _processors(threads, root),
        _quota(threads, root), _shared_cores(threads, root), _governor(root), _turbo(root),
        *_clocks(threads), _clock_source(root), _allocator(root), _spinning(threads, env), _memory(root),
        _virtual_machine(root), _battery(root), _heat(root),
    ]


def clock_check(name: str, clock: Callable[[], float], wall: Callable[[], float] = time.perf_counter) -> Check:
    """Whether a clock is fine enough: its smallest step and what a reading costs, both measured.

    Both are held against the shortest sample that rounds are made of, 2 ms.
    """
    begin = wall()
    readings = [clock() for _ in range(_CLOCK_READINGS)]
    cost_s = (wall() - begin) / _CLOCK_READINGS
    steps = [b - a for a, b in pairwise(readings) if b > a]
    if not steps:
        step, spent = "no step", math.inf
    else:
        step, spent = f"steps of {_duration(min(steps))}", max(min(steps), cost_s)
    return _check(name, f"{step}, {_duration(cost_s)} a reading", _graded(spent, _COARSE_S))


def _load(threads: int, root: Path) -> Check:
    load, usable = machine.load_1min(root), machine.usable_processors(root)
    if load is None or not usable:
        return _check("load", "", UNKNOWN)
    count = len(usable)
    status = BAD if load >= _LOAD[1] * count else CAUTION if load + threads > _LOAD[0] * count else OK
    return _check("load", f"{load:.2f} on {_counted(count, 'processor')}", status)


def _pressure(what: str, threads: int, root: Path) -> Check:
    share, name = machine.pressure(root, what), f"{what} pressure"
    if share is None:
        return _check(name, "", UNKNOWN)
    limits = _CPU_PRESSURE_ALONE if what == "cpu" and threads == 1 else _PRESSURE[what]
    return _check(name, f"{share * 100:.1f} % of the last 10 s", _graded(share, limits))


def _processors(threads: int, root: Path) -> Check:
    usable, ticks = machine.usable_processors(root), machine.ticks(root)
    if not usable:
        return _check("processors", "", UNKNOWN)
    of_all = f" of {ticks.processors}" if ticks and ticks.processors > len(usable) else ""
    value = f"{_counted(threads, 'thread')} on {len(usable)}{of_all}"
    return _check("processors", value, BAD if threads > len(usable) else OK)


def _quota(threads: int, root: Path) -> Check:
    quota = machine.cpu_quota(root)
    if quota is None:
        return _check("quota", "", UNKNOWN)
    if math.isinf(quota):
        return _check("quota", "no limit", OK)
    status = BAD if quota < threads else CAUTION if quota < _QUOTA_ROOM * threads else OK
    return _check("quota", f"{quota:g} processors for {_counted(threads, 'thread')}", status)


def _shared_cores(threads: int, root: Path) -> Check:
    cores = machine.siblings(root)
    if cores is None:
        return _check("shared cores", "", UNKNOWN)
    if all(len(core) == 1 for core in cores):
        return _check("shared cores", "none", OK)
    # One thread has its core alone as long as nothing else runs; where two land, nobody says.
    value = f"{sum(map(len, cores))} processors are {_counted(len(cores), 'core')}"
    return _check("shared cores", value, CAUTION if threads > 1 else OK)


def _governor(root: Path) -> Check:
    names = machine.governors(root)
    if not names:
        return _check("governor", "", UNKNOWN)
    return _check("governor", ", ".join(names), OK if len(names) == 1 and names[0] in _STEADY_GOVERNORS else CAUTION)


def _turbo(root: Path) -> Check:
    on = machine.turbo(root)
    return _check("turbo", "", UNKNOWN) if on is None else _check("turbo", "on" if on else "off", CAUTION if on else OK)


def _clocks(threads: int) -> Iterator[Check]:
    yield clock_check("clock", time.perf_counter)
    if threads == 1:  # with several threads the rounds are made of wall time
        yield clock_check("thread clock", time.thread_time)


def _clock_source(root: Path) -> Check:
    source = machine.clock_source(root)
    if source is None:
        return _check("clock source", "", UNKNOWN)
    return _check("clock source", source, CAUTION if source in _SLOW_CLOCK_SOURCES else OK)


def _allocator(root: Path) -> Check:
    other, library = machine.other_allocator(root), machine.c_library(root)
    if other or library == "musl":
        return _check("allocator", other or "musl", CAUTION)
    return _check("allocator", library or "", OK if library else UNKNOWN)


def _spinning(threads: int, env: Mapping[str, str]) -> Check:
    if threads == 1:
        return _check("spinning", "one thread", OK)
    policy = env.get("OMP_WAIT_POLICY", "").lower()
    return _check("spinning", f"OMP_WAIT_POLICY {policy or 'not set'}", OK if policy == "passive" else CAUTION)


def _memory(root: Path) -> Check:
    left = machine.available_bytes(root)
    if left is None:
        return _check("memory", "", UNKNOWN)
    status = BAD if left < _MEMORY_BYTES[1] else CAUTION if left < _MEMORY_BYTES[0] else OK
    return _check("memory", f"{left / _GIB:.1f} GiB left", status)


def _virtual_machine(root: Path) -> Check:
    virtual, container = machine.hypervisor(root), machine.container(root)
    if virtual is None:
        return _check("virtual machine", f"{container} container" if container else "", UNKNOWN)
    value = ("yes" if virtual else "no") + (f", and a {container} container" if container else "")
    return _check("virtual machine", value, CAUTION if virtual else OK)


def _battery(root: Path) -> Check:
    drained = machine.on_battery(root)
    if drained is None:
        return _check("battery", "", UNKNOWN)
    return _check("battery", "in use" if drained else "not in use", CAUTION if drained else OK)


def _heat(root: Path) -> Check:
    room = machine.celsius_below_limit(root)
    if room is None:
        return _check("heat", "", UNKNOWN)
    return _check("heat", f"{room:.0f} °C below the limit", OK if room >= _COOL_C else CAUTION)


# --- what happened meanwhile ---------------------------------------------------------------------------------------


def snapshot(root: Path = ROOT) -> Snapshot:
    """The counters as they are now; about half a millisecond."""
    stopped, ticks = machine.throttled(root), machine.ticks(root)
    return Snapshot(
        time_s=time.monotonic(),
        **_usage(),
        throttled_periods=stopped[0] if stopped else None, throttled_s=stopped[1] if stopped else None,
        busy_ticks=ticks.busy if ticks else None, steal_ticks=ticks.steal if ticks else None,
        total_ticks=ticks.total if ticks else None, processors=ticks.processors if ticks else None,
        own_ticks=machine.own_ticks(root), swapped_pages=machine.swapped_pages(root),
        heat_throttles=machine.heat_throttles(root), cpu_mhz=machine.megahertz(root),
        native_threads=machine.native_threads(root),
    )


def between(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What happened from one snapshot to another, as JSON has it; None where a counter is missing.

    Counts are differences. `steal_processors` and `other_processors` are processors' worth of time that a hypervisor
    gave away, and that other programs used; `cpu_mhz` and `native_threads` are those of the later snapshot.
    """
    counts = (
        "minor_faults", "major_faults", "voluntary_switches", "involuntary_switches", "throttled_periods",
        "throttled_s", "swapped_pages", "heat_throttles",
    )
    busy, own = _difference(before, after, "busy_ticks"), _difference(before, after, "own_ticks")
    others = None if busy is None or own is None else max(busy - own, 0)
    return {
        "seconds": after.time_s - before.time_s,
        **{name: _difference(before, after, name) for name in counts},
        "steal_processors": _in_processors(_difference(before, after, "steal_ticks"), before, after),
        "other_processors": _in_processors(others, before, after),
        "cpu_mhz_before": before.cpu_mhz, "cpu_mhz": after.cpu_mhz, "native_threads": after.native_threads,
    }


def watched_checks(before: Snapshot, after: Snapshot, root: Path = ROOT) -> list[Check]:
    """What the time between two snapshots tells about the machine."""
    found = between(before, after)
    usable = len(machine.usable_processors(root) or ()) or after.processors or 1
    other, steal = found["other_processors"], found["steal_processors"]
    stopped = found["throttled_periods"]
    return [
        _check("other work", "", UNKNOWN) if other is None else _check(
            "other work", f"{other:.2f} processors", _graded(other, (_OTHER_WORK[0], _OTHER_WORK[1] * usable))
        ),
        _check("steal", "", UNKNOWN) if steal is None else _check(
            "steal", f"{steal:.3f} processors", _graded(steal, _STEAL)
        ),
        _check("throttled", "", UNKNOWN) if stopped is None else _check(
            "throttled", f"{_counted(stopped, 'time')}, {found['throttled_s']:.2f} s", BAD if stopped else OK
        ),
        _happened("swapping", found["swapped_pages"], "page"),
        _happened("heat throttling", found["heat_throttles"], "time"),
    ]


def _usage() -> dict[str, int]:
    if sys.platform == "win32":
        return {}
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "minor_faults": used.ru_minflt, "major_faults": used.ru_majflt,
        "voluntary_switches": used.ru_nvcsw, "involuntary_switches": used.ru_nivcsw,
    }


def _difference(before: Snapshot, after: Snapshot, name: str) -> Any:
    first, last = getattr(before, name), getattr(after, name)
    return None if first is None or last is None else last - first


def _in_processors(ticks: float | None, before: Snapshot, after: Snapshot) -> float | None:
    total = _difference(before, after, "total_ticks")
    if ticks is None or not total or after.processors is None:
        return None
    return float(ticks * after.processors / total)


def _happened(name: str, count: int | None, unit: str) -> Check:
    return _check(name, "", UNKNOWN) if count is None else _check(name, _counted(count, unit), CAUTION if count else OK)


# --- a network against itself --------------------------------------------------------------------------------------


def aa_run(
    seconds: float, threads: int, model: str = MODEL, resolution: int = RESOLUTION, on_share: OnShare = _nobody,
) -> AARun:
    """Measure a network against itself, and tell from the spread what could be told apart at which time.

    Raises BadSpecError for a time in which not one round fits, and what `load` raises for the model.
    """
    check_request(threads, seconds, resolution)
    return judged(run_aa(seconds, threads, model, resolution, on_share), seconds, threads, model, resolution)


def run_aa(
    seconds: float, threads: int, model: str = MODEL, resolution: int = RESOLUTION, on_share: OnShare = _nobody,
) -> Rounds:
    """Rounds of a network and itself, labelled `AA_LABELS`, as a profile of one variant has them.

    The only place here that runs a network: in forked processes where there are such, as the rounds of a profile.
    """
    from secost.meters.backends.offered import Request, get_backend, measuring
    from secost.meters.clocks import timer_for
    from secost.networks.inputs import inputs_for
    from secost.networks.sources import load

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

    return measure(run_turn, AA_LABELS, seconds=seconds, target=0.0, apart=can_fork(), on_share=on_share)


def judged(rounds: Rounds, seconds: float, threads: int, model: str, resolution: int) -> AARun:
    """What rounds of a network and itself tell."""
    baseline, control, variant = AA_LABELS
    difference = rounds.control(baseline, control)
    half_width = rounds.overhead(variant, baseline, control).half_width
    return AARun(
        model=model, resolution=resolution, threads=threads, seconds=seconds, processes=rounds.processes,
        rounds=rounds.count, clock=rounds.clock, latency_ms=rounds.latency_ms(baseline),
        difference=difference.estimate, low=difference.low, high=difference.high,
        holds=rounds.control(baseline, control, CONTROL_CONFIDENCE).holds(0.0),
        at=told_apart(half_width, seconds, rounds.processes, lasting_share(_by_process(rounds))),
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
        found = width * (1 + _NINE_OF_TEN / per_error)
        rows.append({
            "seconds": time_s, "half_width": width if known else None, "found": found if known else None,
        })
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
        few = f"only {_counted(run.rounds, 'round')}"
        return [_check("a/a run", few, UNKNOWN), _check("spread", few, UNKNOWN)]
    value = f"{run.difference * 100:+.2f} % [{run.low * 100:.2f}, {run.high * 100:.2f}]"
    return [
        _check("a/a run", value, OK if run.holds else BAD if abs(run.difference) >= _AA_BAD else CAUTION),
        _check("spread", f"± {width * 100:.2f} % in {_SPREAD_S} s", _graded(width, _SPREAD)),
    ]


def _by_process(rounds: Rounds) -> list[list[float]]:
    """The differences of the variant from the baselines' mean, a list a process."""
    groups: dict[int, list[float]] = {}
    baseline, control, variant = (rounds.times_s(label) for label in AA_LABELS)
    for process, first, second, other in zip(rounds.process, baseline, control, variant, strict=True):
        groups.setdefault(process, []).append(other / ((first + second) / 2) - 1)
    return list(groups.values())


def _quartile_deviation(ordered: Sequence[float]) -> float:
    """The standard deviation of a normal distribution with these quartiles (with 12 values its square is 12 % low)."""
    first, _, third = quantiles(ordered, n=4, method="inclusive")
    return (third - first) / (2 * NormalDist().inv_cdf(0.75))


def as_plain(value: Check | AARun) -> dict[str, Any]:
    """As JSON has it."""
    return dataclasses.asdict(value)


# --- words ---------------------------------------------------------------------------------------------------------


def _check(name: str, value: str, status: str) -> Check:
    meaning, next_step = CHECKS[name]
    return Check(name, value, status, meaning, next_step if status in (CAUTION, BAD) else None)


def _graded(value: float, limits: tuple[float, float]) -> str:
    return BAD if value >= limits[1] else CAUTION if value >= limits[0] else OK


def _counted(count: float, unit: str) -> str:
    return f"{count:g} {unit}" + ("" if count == 1 else "s")


def _duration(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "µs")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e3:.1f} ms"

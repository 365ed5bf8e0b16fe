"""Whether this machine is fit to measure on: checks as values, and what changed while something ran.

`standing_checks` look at what is set and what goes on now, `watched_checks` at what happened between two snapshots,
`aa_run.aa_checks` at a network measured against itself. `secost.glossary.CHECKS` words them. What the system does not
tell is `unknown` and counts as no reason against it.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from secost.errors import BadSpecError
from secost.glossary import CHECKS
from secost.meters import machine
from secost.meters.machine import ROOT

if sys.platform != "win32":
    import resource

OK, CAUTION, BAD, UNKNOWN = "ok", "caution", "bad", "unknown"
FIT, WITH_CARE, NOT_FIT = "fit", "fit with care", "not fit"
RESOLUTION = 128  # of the A/A run's image, in pixels

_GIB = 1 << 30
# (caution from here on, bad from here on)
_LOAD = (1.0, 2.0)  # of the usable processors, the threads asked for included in the first
_OTHER_WORK = (0.1, 1.0)  # processors kept busy by others; share of all usable ones
_STEAL = (0.01, 0.10)  # processors
# Share of the last 10 s. One thread is measured by its processor time, which bears much waiting for a processor.
_PRESSURE = {"cpu": (0.10, 0.50), "memory": (0.01, 0.10), "io": (0.20, math.inf)}
_CPU_PRESSURE_ALONE = (0.10, 0.90)
_COARSE_S = (20e-6, 200e-6)  # 1 % and 10 % of the shortest sample, 2 ms
_MEMORY_BYTES = (_GIB, _GIB // 4)
_COOL_C = 5.0
_QUOTA_ROOM = 1.2  # threads of libraries want a little beside the ones that are asked for
_STEADY_GOVERNORS = frozenset(("performance", "userspace"))
_SLOW_CLOCK_SOURCES = frozenset(("hpet", "acpi_pm", "jiffies", "pit", "xen"))
_CLOCK_READINGS = 5000


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

    Faults and context switches are this process's (all its threads). Seconds of processor time are the machine's,
    `own_s` this process's and its ended children's. Throttling is that of this process's control group.
    """

    time_s: float
    minor_faults: int | None = None
    major_faults: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    busy_s: float | None = None
    steal_s: float | None = None
    total_s: float | None = None
    own_s: float | None = None
    processors: int | None = None
    swapped_pages: int | None = None
    heat_throttles: int | None = None
    cpu_mhz: float | None = None
    native_threads: int | None = None


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
        _load(threads), *(_pressure(what, threads, root) for what in _PRESSURE), _processors(threads),
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
    return check(name, f"{step}, {_duration(cost_s)} a reading", graded(spent, _COARSE_S))


def _load(threads: int) -> Check:
    load, usable = machine.load_1min(), machine.usable_processors()
    if load is None or not usable:
        return check("load", "", UNKNOWN)
    count = len(usable)
    status = BAD if load >= _LOAD[1] * count else CAUTION if load + threads > _LOAD[0] * count else OK
    return check("load", f"{load:.2f} on {counted(count, 'processor')}", status)


def _pressure(what: str, threads: int, root: Path) -> Check:
    share, name = machine.pressure(root, what), f"{what} pressure"
    if share is None:
        return check(name, "", UNKNOWN)
    limits = _CPU_PRESSURE_ALONE if what == "cpu" and threads == 1 else _PRESSURE[what]
    return check(name, f"{share * 100:.1f} % of the last 10 s", graded(share, limits))


def _processors(threads: int) -> Check:
    usable, spent = machine.usable_processors(), machine.cpu_seconds()
    if not usable:
        return check("processors", "", UNKNOWN)
    of_all = f" of {spent.processors}" if spent and spent.processors > len(usable) else ""
    value = f"{counted(threads, 'thread')} on {len(usable)}{of_all}"
    return check("processors", value, BAD if threads > len(usable) else OK)


def _quota(threads: int, root: Path) -> Check:
    quota = machine.cpu_quota(root)
    if quota is None:
        return check("quota", "", UNKNOWN)
    if math.isinf(quota):
        return check("quota", "no limit", OK)
    status = BAD if quota < threads else CAUTION if quota < _QUOTA_ROOM * threads else OK
    return check("quota", f"{quota:g} processors for {counted(threads, 'thread')}", status)


def _shared_cores(threads: int, root: Path) -> Check:
    cores = machine.siblings(root)
    if cores is None:
        return check("shared cores", "", UNKNOWN)
    if all(len(core) == 1 for core in cores):
        return check("shared cores", "none", OK)
    # One thread has its core alone as long as nothing else runs; where two land, nobody says.
    value = f"{sum(map(len, cores))} processors are {counted(len(cores), 'core')}"
    return check("shared cores", value, CAUTION if threads > 1 else OK)


def _governor(root: Path) -> Check:
    names = machine.governors(root)
    if not names:
        return check("governor", "", UNKNOWN)
    return check("governor", ", ".join(names), OK if len(names) == 1 and names[0] in _STEADY_GOVERNORS else CAUTION)


def _turbo(root: Path) -> Check:
    on = machine.turbo(root)
    return check("turbo", "", UNKNOWN) if on is None else check("turbo", "on" if on else "off", CAUTION if on else OK)


def _clocks(threads: int) -> Iterator[Check]:
    yield clock_check("clock", time.perf_counter)
    if threads == 1:  # with several threads the rounds are made of wall time
        yield clock_check("thread clock", time.thread_time)


def _clock_source(root: Path) -> Check:
    source = machine.clock_source(root)
    if source is None:
        return check("clock source", "", UNKNOWN)
    return check("clock source", source, CAUTION if source in _SLOW_CLOCK_SOURCES else OK)


def _allocator(root: Path) -> Check:
    other, library = machine.other_allocator(root), machine.c_library(root)
    if other or library == "musl":
        return check("allocator", other or "musl", CAUTION)
    return check("allocator", library or "", OK if library else UNKNOWN)


def _spinning(threads: int, env: Mapping[str, str]) -> Check:
    if threads == 1:
        return check("spinning", "one thread", OK)
    policy = env.get("OMP_WAIT_POLICY", "").lower()
    return check("spinning", f"OMP_WAIT_POLICY {policy or 'not set'}", OK if policy == "passive" else CAUTION)


def _memory(root: Path) -> Check:
    left = machine.available_bytes(root)
    if left is None:
        return check("memory", "", UNKNOWN)
    status = BAD if left < _MEMORY_BYTES[1] else CAUTION if left < _MEMORY_BYTES[0] else OK
    return check("memory", f"{left / _GIB:.1f} GiB left", status)


def _virtual_machine(root: Path) -> Check:
    virtual, container = machine.hypervisor(root), machine.container(root)
    if virtual is None:
        return check("virtual machine", f"{container} container" if container else "", UNKNOWN)
    value = ("yes" if virtual else "no") + (f", and a {container} container" if container else "")
    return check("virtual machine", value, CAUTION if virtual else OK)


def _battery(root: Path) -> Check:
    drained = machine.on_battery(root)
    if drained is None:
        return check("battery", "", UNKNOWN)
    return check("battery", "in use" if drained else "not in use", CAUTION if drained else OK)


def _heat(root: Path) -> Check:
    room = machine.celsius_below_limit(root)
    if room is None:
        return check("heat", "", UNKNOWN)
    return check("heat", f"{room:.0f} °C below the limit", OK if room >= _COOL_C else CAUTION)


# --- what happened meanwhile ---------------------------------------------------------------------------------------


def snapshot(root: Path = ROOT) -> Snapshot:
    """The counters as they are now; about half a millisecond."""
    stopped, spent = machine.throttled(root), machine.cpu_seconds()
    return Snapshot(
        time_s=time.monotonic(),
        **_usage(),
        throttled_periods=stopped[0] if stopped else None, throttled_s=stopped[1] if stopped else None,
        busy_s=spent.busy if spent else None, steal_s=spent.steal if spent else None,
        total_s=spent.total if spent else None, processors=spent.processors if spent else None,
        own_s=machine.own_seconds(), swapped_pages=machine.swapped_pages(),
        heat_throttles=machine.heat_throttles(root), cpu_mhz=machine.megahertz(),
        native_threads=machine.native_threads(),
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
    busy, own = _difference(before, after, "busy_s"), _difference(before, after, "own_s")
    others = None if busy is None or own is None else max(busy - own, 0)
    return {
        "seconds": after.time_s - before.time_s,
        **{name: _difference(before, after, name) for name in counts},
        "steal_processors": _in_processors(_difference(before, after, "steal_s"), before, after),
        "other_processors": _in_processors(others, before, after),
        "cpu_mhz_before": before.cpu_mhz, "cpu_mhz": after.cpu_mhz, "native_threads": after.native_threads,
    }


def watched_checks(before: Snapshot, after: Snapshot) -> list[Check]:
    """What the time between two snapshots tells about the machine."""
    changes = between(before, after)
    usable = len(machine.usable_processors() or ()) or after.processors or 1
    other, steal = changes["other_processors"], changes["steal_processors"]
    stopped = changes["throttled_periods"]
    return [
        check("other work", "", UNKNOWN) if other is None else check(
            "other work", f"{other:.2f} processors", graded(other, (_OTHER_WORK[0], _OTHER_WORK[1] * usable))
        ),
        check("steal", "", UNKNOWN) if steal is None else check(
            "steal", f"{steal:.3f} processors", graded(steal, _STEAL)
        ),
        check("throttled", "", UNKNOWN) if stopped is None else check(
            "throttled", f"{counted(stopped, 'time')}, {changes['throttled_s']:.2f} s", BAD if stopped else OK
        ),
        _happened("swapping", changes["swapped_pages"], "page"),
        _happened("heat throttling", changes["heat_throttles"], "time"),
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


def _in_processors(seconds: float | None, before: Snapshot, after: Snapshot) -> float | None:
    total = _difference(before, after, "total_s")
    if seconds is None or not total or after.processors is None:
        return None
    return float(seconds * after.processors / total)


def _happened(name: str, count: int | None, unit: str) -> Check:
    return check(name, "", UNKNOWN) if count is None else check(name, counted(count, unit), CAUTION if count else OK)


# --- words ---------------------------------------------------------------------------------------------------------


def check(name: str, value: str, status: str) -> Check:
    meaning, next_step = CHECKS[name]
    return Check(name, value, status, meaning, next_step if status in (CAUTION, BAD) else None)


def graded(value: float, limits: tuple[float, float]) -> str:
    return BAD if value >= limits[1] else CAUTION if value >= limits[0] else OK


def counted(count: float, unit: str) -> str:
    return f"{count:g} {unit}" + ("" if count == 1 else "s")


def _duration(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "µs")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e3:.1f} ms"

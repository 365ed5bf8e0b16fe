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
from collections.abc import Callable, Mapping, Sequence
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
# What was seen, and whether it is fit; None where the system does not tell.
Told = tuple[str, str] | None


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
    clocks = {"clock": time.perf_counter}
    if threads == 1:  # with several threads the rounds are made of wall time
        clocks["thread clock"] = time.thread_time
    return [
        check("load", _load(threads)),
        *(check(f"{what} pressure", _pressure(what, threads, root)) for what in _PRESSURE),
        check("processors", _processors(threads)),
        check("quota", _quota(threads, root)),
        check("shared cores", _shared_cores(threads, root)),
        check("governor", _governor(root)),
        check("turbo", _either(machine.turbo(root), "on", "off")),
        *(clock_check(name, clock) for name, clock in clocks.items()),
        check("clock source", _clock_source(root)),
        check("allocator", _allocator(root)),
        check("spinning", _spinning(threads, os.environ if env is None else env)),
        check("memory", _memory(root)),
        check("virtual machine", _virtual_machine(root)),
        check("battery", _either(machine.on_battery(root), "in use", "not in use")),
        check("heat", _heat(root)),
    ]


def clock_check(name: str, clock: Callable[[], float], wall: Callable[[], float] = time.perf_counter) -> Check:
    """Whether a clock is fine enough: its smallest step and what a reading costs, both measured.

    Both are held against the shortest sample that rounds are made of, 2 ms.
    """
    begin = wall()
    readings = [clock() for _ in range(_CLOCK_READINGS)]
    cost_s = (wall() - begin) / _CLOCK_READINGS
    step_s = min((b - a for a, b in pairwise(readings) if b > a), default=math.inf)
    step = f"steps of {_duration(step_s)}" if math.isfinite(step_s) else "no step"
    return check(name, (f"{step}, {_duration(cost_s)} a reading", graded(max(step_s, cost_s), _COARSE_S)))


def _load(threads: int) -> Told:
    load, usable = machine.load_1min(), machine.usable_processors()
    if load is None or not usable:
        return None
    count = len(usable)
    status = BAD if load >= _LOAD[1] * count else CAUTION if load + threads > _LOAD[0] * count else OK
    return f"{load:.2f} on {counted(count, 'processor')}", status


def _pressure(what: str, threads: int, root: Path) -> Told:
    share = machine.pressure(root, what)
    limits = _CPU_PRESSURE_ALONE if what == "cpu" and threads == 1 else _PRESSURE[what]
    return None if share is None else (f"{share * 100:.1f} % of the last 10 s", graded(share, limits))


def _processors(threads: int) -> Told:
    usable, spent = machine.usable_processors(), machine.cpu_seconds()
    if not usable:
        return None
    of_all = f" of {spent.processors}" if spent and spent.processors > len(usable) else ""
    return f"{counted(threads, 'thread')} on {len(usable)}{of_all}", BAD if threads > len(usable) else OK


def _quota(threads: int, root: Path) -> Told:
    quota = machine.cpu_quota(root)
    if quota is None or math.isinf(quota):
        return None if quota is None else ("no limit", OK)
    status = BAD if quota < threads else CAUTION if quota < _QUOTA_ROOM * threads else OK
    return f"{quota:g} processors for {counted(threads, 'thread')}", status


def _shared_cores(threads: int, root: Path) -> Told:
    cores = machine.siblings(root)
    if cores is None or all(len(core) == 1 for core in cores):
        return None if cores is None else ("none", OK)
    # One thread has its core alone as long as nothing else runs; where two land, nobody says.
    status = CAUTION if threads > 1 else OK
    return f"{sum(map(len, cores))} processors are {counted(len(cores), 'core')}", status


def _governor(root: Path) -> Told:
    names = machine.governors(root)
    steady = len(names) == 1 and names[0] in _STEADY_GOVERNORS
    return (", ".join(names), OK if steady else CAUTION) if names else None


def _clock_source(root: Path) -> Told:
    source = machine.clock_source(root)
    return None if source is None else (source, CAUTION if source in _SLOW_CLOCK_SOURCES else OK)


def _allocator(root: Path) -> Told:
    other, library = machine.other_allocator(root), machine.c_library(root)
    if other or library == "musl":
        return other or "musl", CAUTION
    return (library, OK) if library else None


def _spinning(threads: int, env: Mapping[str, str]) -> Told:
    if threads == 1:
        return "one thread", OK
    policy = env.get("OMP_WAIT_POLICY", "").lower()
    return f"OMP_WAIT_POLICY {policy or 'not set'}", OK if policy == "passive" else CAUTION


def _memory(root: Path) -> Told:
    left = machine.available_bytes(root)
    if left is None:
        return None
    status = BAD if left < _MEMORY_BYTES[1] else CAUTION if left < _MEMORY_BYTES[0] else OK
    return f"{left / _GIB:.1f} GiB left", status


def _virtual_machine(root: Path) -> Told:
    virtual, container = machine.hypervisor(root), machine.container(root)
    if virtual is None:
        return f"{container} container" if container else "", UNKNOWN
    value = ("yes" if virtual else "no") + (f", and a {container} container" if container else "")
    return value, CAUTION if virtual else OK


def _heat(root: Path) -> Told:
    room = machine.celsius_below_limit(root)
    return None if room is None else (f"{room:.0f} °C below the limit", OK if room >= _COOL_C else CAUTION)


def _either(state: bool | None, careful: str, fine: str) -> Told:
    return None if state is None else (careful, CAUTION) if state else (fine, OK)


# --- what happened meanwhile ---------------------------------------------------------------------------------------


def snapshot(root: Path = ROOT) -> Snapshot:
    """The counters as they are now; about half a millisecond."""
    stopped, spent = machine.throttled(root) or (None, None), machine.cpu_seconds()
    return Snapshot(
        time_s=time.monotonic(),
        **_usage(),
        throttled_periods=stopped[0], throttled_s=stopped[1],
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
    busy_s, own_s, steal_s, total_s = (
        _difference(before, after, name) for name in ("busy_s", "own_s", "steal_s", "total_s")
    )
    others_s = None if busy_s is None or own_s is None else max(busy_s - own_s, 0)

    def in_processors(seconds: float | None) -> float | None:
        if seconds is None or not total_s or after.processors is None:
            return None
        return float(seconds * after.processors / total_s)

    return {
        "seconds": after.time_s - before.time_s,
        **{name: _difference(before, after, name) for name in counts},
        "steal_processors": in_processors(steal_s), "other_processors": in_processors(others_s),
        "cpu_mhz_before": before.cpu_mhz, "cpu_mhz": after.cpu_mhz, "native_threads": after.native_threads,
    }


def watched_checks(before: Snapshot, after: Snapshot) -> list[Check]:
    """What the time between two snapshots tells about the machine."""
    changes = between(before, after)
    usable = len(machine.usable_processors() or ()) or after.processors or 1
    other, steal, stopped = (changes[name] for name in ("other_processors", "steal_processors", "throttled_periods"))
    return [
        check("other work", None if other is None else (
            f"{other:.2f} processors", graded(other, (_OTHER_WORK[0], _OTHER_WORK[1] * usable))
        )),
        check("steal", None if steal is None else (f"{steal:.3f} processors", graded(steal, _STEAL))),
        check("throttled", None if stopped is None else (
            f"{counted(stopped, 'time')}, {changes['throttled_s']:.2f} s", BAD if stopped else OK
        )),
        check("swapping", _happened(changes["swapped_pages"], "page")),
        check("heat throttling", _happened(changes["heat_throttles"], "time")),
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


def _happened(count: int | None, unit: str) -> Told:
    return None if count is None else (counted(count, unit), CAUTION if count else OK)


# --- words ---------------------------------------------------------------------------------------------------------


def check(name: str, told: Told) -> Check:
    """What was told under the name of a check, with the check's words."""
    value, status = told or ("", UNKNOWN)
    meaning, next_step = CHECKS[name]
    return Check(name, value, status, meaning, next_step if status in (CAUTION, BAD) else None)


def graded(value: float, limits: tuple[float, float]) -> str:
    """Fit below both limits, bad from the second on."""
    return BAD if value >= limits[1] else CAUTION if value >= limits[0] else OK


def counted(count: float, unit: str) -> str:
    """`1 round`, `3 rounds`."""
    return f"{count:g} {unit}" + ("" if count == 1 else "s")


def _duration(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "µs")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e3:.1f} ms"

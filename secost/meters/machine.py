"""The machine as plain values; what it does not tell is None.

What psutil reads, psutil reads. Read here is what it lacks: control groups, pressure, shared cores, governors, turbo,
caches, hypervisors, clock sources and throttling, from Linux's /proc and /sys (formats: proc(5), and the kernel's admin
guide on cpufreq, intel_pstate, cgroup-v1, cgroup-v2 and pressure stall information). Its readers take the root of the
file system, so that made trees of files can stand for machines that are not at hand. psutil tells batteries and
temperatures too, but takes a wireless mouse's battery for the machine's, and no trip point at which Linux slows down.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

ROOT = Path("/")
_CPU = "sys/devices/system/cpu"
_CONTAINER_FILES = {".dockerenv": "docker", "run/.containerenv": "podman"}
_CONTAINER_WORDS = ("docker", "kubepods", "containerd", "lxc", "libpod")
_OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc", "hoard")
_PAGE_BYTES = 4096  # by which psutil multiplies what Linux counts of swapping
Told = TypeVar("Told")


@dataclass(frozen=True)
class CpuSeconds:
    """Processor time of all processors since the machine started, in seconds.

    `busy` is what ran here, `steal` what a hypervisor gave to others, `total` all of it with idle time, over so many
    `processors`.
    """

    busy: float
    steal: float
    total: float
    processors: int


# --- what psutil reads --------------------------------------------------------------------------------------------


def _told(read: Callable[[], Told]) -> Told | None:
    """What psutil reads; None where this system does not tell, or tells something else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # it warns where it gives 0 for what it can't read
            return read()
    except (psutil.Error, OSError, ValueError, LookupError, AttributeError, NotImplementedError, RuntimeWarning):
        return None


def load_1min() -> float | None:
    """Processes that ran or wanted to run, averaged over the last minute."""
    return _told(lambda: psutil.getloadavg()[0])


def usable_processors() -> list[int] | None:
    """Numbers of the processors that this process may use (its affinity)."""
    return _told(lambda: psutil.Process().cpu_affinity())


def megahertz() -> float | None:
    """The mean clock rate of the processors just now, in MHz."""
    return _told(lambda: psutil.cpu_freq().current or None)


def cpu_seconds() -> CpuSeconds | None:
    """Processor time of the whole machine; None where nobody tells what a hypervisor takes."""
    times = _told(psutil.cpu_times)
    if times is None or not hasattr(times, "steal"):
        return None
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    total = busy + times.steal + times.idle + times.iowait
    return CpuSeconds(busy, times.steal, total, psutil.cpu_count() or 1)


def own_seconds() -> float | None:
    """Processor time of this process and of its children that have ended."""
    times = _told(lambda: psutil.Process().cpu_times())
    return None if times is None else times.user + times.system + times.children_user + times.children_system


def native_threads() -> int | None:
    """Threads of this process, those of libraries too."""
    return _told(lambda: psutil.Process().num_threads())


def swapped_pages() -> int | None:
    """Pages moved to and from swap since the machine started."""
    swap = _told(psutil.swap_memory)
    return None if swap is None else (swap.sin + swap.sout) // _PAGE_BYTES


def available_bytes(root: Path = ROOT) -> int | None:
    """Memory that can be had without swapping: the machine's, or what this control group has left, if less."""
    known = [_told(lambda: psutil.virtual_memory().available)]
    for folder in _cgroup_folders(root, "memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = number(root, f"{folder}/{limit}"), number(root, f"{folder}/{used}")
            known += [] if most is None or now is None else [max(int(most - now), 0)]
    return min((value for value in known if value is not None), default=None)


# --- what psutil lacks --------------------------------------------------------------------------------------------


def text(root: Path, name: str) -> str | None:
    """The content of a file below the root, without white space around it; None where it can't be read."""
    try:
        return (root / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def number(root: Path, name: str) -> float | None:
    """A file that holds one number, None where it holds none."""
    return _number(text(root, name))


def siblings(root: Path = ROOT) -> list[tuple[int, ...]] | None:
    """The usable processors by physical core: a group of two or more shares one core's arithmetic units."""
    usable = usable_processors() or ()
    cores = [_processor_list(text(root, f"{_CPU}/cpu{index}/topology/thread_siblings_list")) for index in usable]
    groups = {tuple(other for other in core if other in usable) for core in cores if core is not None}
    return sorted(groups) if cores and None not in cores else None


def smt(root: Path = ROOT) -> bool | None:
    """Whether two or more processors of this machine share a core."""
    active = text(root, f"{_CPU}/smt/active")
    return None if active is None else active == "1"


def governors(root: Path = ROOT) -> list[str]:
    """The governors that choose the processors' clock rates, each once; none where the system leaves it to others."""
    names = {text(root, name) for name in _names(root, f"{_CPU}/cpu*/cpufreq/scaling_governor")}
    return sorted(name for name in names if name)


def turbo(root: Path = ROOT) -> bool | None:
    """Whether processors may run above their base clock while heat and power allow it."""
    for name, on in (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")):
        state = text(root, f"{_CPU}/{name}")
        if state in ("0", "1"):
            return state == on
    return None


def caches_bytes(root: Path = ROOT) -> dict[str, int]:
    """Sizes in bytes of the first processor's data caches, by name: L1, L2, L3."""
    sizes = {}
    for folder in _names(root, f"{_CPU}/cpu0/cache/index*"):
        level, kind, size = (text(root, f"{folder}/{name}") or "" for name in ("level", "type", "size"))
        count = _number(size.rstrip("KMG"))  # of `32K` or `8M`
        if level and count and kind in ("Data", "Unified"):
            sizes[f"L{level}"] = int(count * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1:], 1))
    return sizes


def hypervisor(root: Path = ROOT) -> bool | None:
    """Whether the processor says that a hypervisor is below; only x86 has such a flag."""
    for line in (text(root, "proc/cpuinfo") or "").splitlines():
        if line.startswith("flags"):
            return "hypervisor" in line.partition(":")[2].split()
    return None


def container(root: Path = ROOT) -> str | None:
    """The kind of container that this process seems to run in, None where nothing hints at one."""
    for name, kind in _CONTAINER_FILES.items():
        if (root / name).exists():
            return kind
    first = text(root, "proc/1/cgroup") or ""
    return next((word for word in _CONTAINER_WORDS if word in first), None)


def clock_source(root: Path = ROOT) -> str | None:
    """What the kernel reads the time from, such as tsc."""
    return text(root, "sys/devices/system/clocksource/clocksource0/current_clocksource") or None


def cpu_quota(root: Path = ROOT) -> float | None:
    """Processors' worth of time that the control groups allow: infinite where there is no limit, None if unknown.

    The lowest limit of this group and those above it counts.
    """
    limits = [limit for folder in _cgroup_folders(root, "cpu") if (limit := _quota_of(root, folder)) is not None]
    # At the root of version 2 no such file exists, and no limit either.
    unlimited = math.inf if text(root, "sys/fs/cgroup/cgroup.controllers") is not None else None
    return min(limits, default=unlimited)


def throttled(root: Path = ROOT) -> tuple[int, float] | None:
    """How often, and for how many seconds, this control group and those above were stopped for a used-up quota."""
    periods, seconds = [], 0.0
    for folder in _cgroup_folders(root, "cpu"):
        lines = (line.split() for line in (text(root, f"{folder}/cpu.stat") or "").splitlines())
        rows = {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
        if "nr_throttled" in rows:
            periods.append(rows["nr_throttled"])
            seconds += rows["throttled_usec"] / 1e6 if "throttled_usec" in rows else rows.get("throttled_time", 0) / 1e9
    return (sum(periods), seconds) if periods else None


def pressure(root: Path, what: str) -> float | None:
    """The share of the last 10 s, 0 to 1, in which some process waited for `what`: cpu, memory or io."""
    for line in (text(root, f"proc/pressure/{what}") or "").splitlines():
        words = line.split()
        for word in words[1:] if words[:1] == ["some"] else ():
            if word.startswith("avg10="):
                value = _number(word.removeprefix("avg10="))
                return None if value is None else value / 100
    return None


def heat_throttles(root: Path = ROOT) -> int | None:
    """How often processors were slowed down by heat, in all; None where they don't count it."""
    counts = [number(root, name) for name in _names(root, f"{_CPU}/cpu*/thermal_throttle/core_throttle_count")]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def celsius_below_limit(root: Path = ROOT) -> float | None:
    """Degrees between the hottest zone and where it is slowed down (its passive, hot or critical trip point)."""
    rooms = []
    for zone in _names(root, "sys/class/thermal/thermal_zone*"):
        now = number(root, f"{zone}/temp")
        for kind in _names(root, f"{zone}/trip_point_*_type"):
            limit = number(root, kind.removesuffix("type") + "temp")
            if text(root, kind) in ("passive", "hot", "critical") and limit and limit > 0 and now is not None:
                rooms.append((limit - now) / 1e3)
    return min(rooms, default=None)


def on_battery(root: Path = ROOT) -> bool | None:
    """Whether a battery is being drained; None where there is no power supply to ask."""
    supplies = [folder for folder in _names(root, "sys/class/power_supply/*")
                if text(root, f"{folder}/scope") != "Device"]  # a mouse has one too
    drained = any((text(root, f"{folder}/type"), text(root, f"{folder}/status")) == ("Battery", "Discharging")
                  for folder in supplies)
    return drained if supplies else None


def other_allocator(root: Path = ROOT) -> str | None:
    """The name of a library that stands in for malloc in this process, None where none is loaded or can be told."""
    loaded = text(root, "proc/self/maps") or ""
    return next((name for name in _OTHER_ALLOCATORS if f"lib{name}" in loaded), None)


def c_library(root: Path = ROOT) -> str | None:
    """glibc or musl, as loaded by this process."""
    loaded = text(root, "proc/self/maps") or ""
    if "ld-musl" in loaded:
        return "musl"
    return "glibc" if "/libc.so.6" in loaded or "/libc-2." in loaded else None


def _cgroup_folders(root: Path, controller: str) -> Iterator[str]:
    """Folders of this process's control groups, its own first, then those above; version 2 first, then version 1.

    In a container the path is often the host's and not to be found below the mount, which is then the group itself.
    """
    for line in (text(root, "proc/self/cgroup") or "").splitlines():
        number_of, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number_of == "0" and not controllers:
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            mounts = [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for mount in mounts:
            if (root / mount).is_dir():
                yield from ("/".join([mount, *parts[:count]]) for count in range(len(parts), -1, -1))
                break


def _quota_of(root: Path, folder: str) -> float | None:
    """One control group's, in processors: by version 2's file (`max 100000`, `150000 100000`) or version 1's two."""
    words = (text(root, f"{folder}/cpu.max") or "").split()
    if len(words) == 2:
        quota_us, period_us = -1.0 if words[0] == "max" else _number(words[0]), _number(words[1])
    else:
        quota_us, period_us = (number(root, f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota_us is None or not period_us:
        return None
    return math.inf if quota_us < 0 else quota_us / period_us


def _processor_list(content: str | None) -> list[int] | None:
    """`0-2,5` as 0, 1, 2, 5."""
    numbers: list[int] = []
    for part in (content or "").split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return None
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _number(content: str | None) -> float | None:
    try:
        value = float(content or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _names(root: Path, pattern: str) -> list[str]:
    """Files and folders below the root that fit a pattern, by their names from there."""
    try:
        return sorted(path.relative_to(root).as_posix() for path in root.glob(pattern))
    except OSError:
        return []

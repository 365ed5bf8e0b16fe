"""Is the machine fit: readers of a made psutil and made /proc and /sys trees, each check, the A/A run, the command."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from secost.cli import doctor as command
from secost.cli import main
from secost.errors import BadSpecError
from secost.glossary import CHECKS
from secost.meters import aa_run as against_itself
from secost.meters import environment, machine
from secost.meters.aa_run import AA_LABELS, aa_checks, aa_run, judged, lasting_share, told_apart
from secost.meters.fitness import (
    BAD,
    CAUTION,
    OK,
    UNKNOWN,
    Check,
    Snapshot,
    between,
    check_request,
    clock_check,
    snapshot,
    standing_checks,
    verdict,
    watched_checks,
)
from secost.meters.latency import Rounds
from secost.meters.processes import can_fork

NETS = str(Path(__file__).parents[1].joinpath("small_nets.py"))
CPU = "sys/devices/system/cpu"
QUIET = {"OMP_WAIT_POLICY": "passive"}
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads this machine's /proc")


class Psutil:
    """A made psutil. What it was not told it raises for, as psutil does where a system does not tell."""

    Error = psutil.Error

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        def read() -> Any:
            if name not in self.facts:
                raise NotImplementedError(name)
            return self.facts[name]

        return read


def cpu_times(*seconds: float) -> SimpleNamespace:
    """What all processors did, as psutil has it on Linux."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return SimpleNamespace(**dict(zip(names, seconds, strict=True)))


def process(affinity: Any = range(4), threads: int = 7, **times: float) -> SimpleNamespace:
    """This process as psutil has it; `times` are its processor time where it has spent any."""
    spent = dict.fromkeys(("user", "system", "children_user", "children_system"), 0.0) | times
    return SimpleNamespace(
        cpu_affinity=lambda: list(affinity), num_threads=lambda: threads, cpu_times=lambda: SimpleNamespace(**spent)
    )


class Machine:
    """A made machine: what psutil tells, and files below a folder."""

    def __init__(self, root: Path, told: Psutil) -> None:
        self.root, self.told = root, told

    def has(self, files: dict[str, str]) -> Machine:
        for name, content in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(content)
        return self

    def tells(self, **facts: Any) -> Machine:
        self.told.facts.update(facts)
        return self

    def check(self, name: str, threads: int = 1, env: dict[str, str] | None = None) -> Check:
        found = standing_checks(threads, self.root, QUIET if env is None else env)
        return next(check for check in found if check.name == name)


@pytest.fixture
def unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of which nothing is known."""
    told = Psutil()
    monkeypatch.setattr(machine, "psutil", told)
    return Machine(tmp_path, told)


@pytest.fixture
def made(unknown: Machine) -> Machine:
    """Four processors, all usable, and nothing else known."""
    return unknown.tells(Process=process())


# --- every check, with every status ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "threads", "status"),
    [(0.2, 1, OK), (2.99, 1, OK), (3.1, 1, CAUTION), (1.5, 3, CAUTION), (8.0, 1, BAD), (None, 1, UNKNOWN)],
)
def test_load_is_held_against_the_usable_processors(
    made: Machine, load: float | None, threads: int, status: str
) -> None:
    if load is not None:
        made.tells(getloadavg=(load, 0.1, 0.1))
    assert made.check("load", threads).status == status


@pytest.mark.parametrize(
    ("what", "avg10", "threads", "status"),
    [
        ("cpu", "0.00", 1, OK), ("cpu", "10.00", 1, CAUTION), ("cpu", "60.00", 1, CAUTION), ("cpu", "60.00", 2, BAD),
        ("cpu", "95.00", 1, BAD), ("memory", "0.50", 1, OK), ("memory", "1.00", 1, CAUTION),
        ("memory", "10.00", 1, BAD), ("io", "19.00", 1, OK), ("io", "99.00", 1, CAUTION),
    ],
)
def test_pressure_is_the_share_of_the_last_ten_seconds(
    made: Machine, what: str, avg10: str, threads: int, status: str
) -> None:
    made.has({f"proc/pressure/{what}": f"some avg10={avg10} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 total=0\n"})
    assert made.check(f"{what} pressure", threads).status == status


def test_more_threads_than_usable_processors_are_bad(made: Machine) -> None:
    assert made.check("processors", 4).status == OK
    assert made.check("processors", 5).status == BAD
    made.tells(cpu_times=cpu_times(*range(8)), cpu_count=8)
    assert made.check("processors", 4).value == "4 threads on 4 of 8"


V2 = {"proc/self/cgroup": "0::/box/inner\n", "sys/fs/cgroup/cgroup.controllers": "cpu memory"}
V1 = {"proc/self/cgroup": "3:cpu,cpuacct:/box\n2:memory:/box\n"}


@pytest.mark.parametrize(
    ("files", "threads", "status"),
    [
        ({**V2}, 1, OK),
        ({**V2, "sys/fs/cgroup/box/cpu.max": "max 100000"}, 4, OK),
        ({**V2, "sys/fs/cgroup/box/cpu.max": "200000 100000"}, 1, OK),
        ({**V2, "sys/fs/cgroup/box/cpu.max": "200000 100000"}, 2, CAUTION),
        ({**V2, "sys/fs/cgroup/box/inner/cpu.max": "max 100000", "sys/fs/cgroup/box/cpu.max": "50000 100000"}, 1, BAD),
        ({**V2, "sys/fs/cgroup/cpu.max": "150000 100000"}, 2, BAD),  # a container's own view: the mount is the group
        ({**V1, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "-1",
          "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000"}, 4, OK),
        ({**V1, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
          "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000"}, 1, BAD),
        ({**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "110000",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1, CAUTION),
        ({}, 1, UNKNOWN),
        ({**V1}, 1, UNKNOWN),
    ],
)
def test_a_quota_must_leave_room_for_the_threads(
    made: Machine, files: dict[str, str], threads: int, status: str
) -> None:
    assert made.has(files).check("quota", threads).status == status


def test_two_threads_may_land_on_one_shared_core(made: Machine) -> None:
    pairs = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    made.has({f"{CPU}/cpu{i}/topology/thread_siblings_list": text for i, text in pairs.items()})
    assert machine.siblings(made.root) == [(0, 2), (1, 3)]
    assert made.check("shared cores", 1).status == OK
    assert made.check("shared cores", 2).status == CAUTION
    made.tells(Process=process(affinity=(0, 1)))  # one processor of each core
    assert made.check("shared cores", 2).status == OK


@pytest.mark.parametrize(
    ("names", "status"),
    [(["performance"], OK), (["powersave"], CAUTION), (["schedutil"], CAUTION), (["performance", "powersave"], CAUTION),
     ([], UNKNOWN)],
)
def test_a_governor_that_follows_the_load_needs_care(made: Machine, names: list[str], status: str) -> None:
    made.has({f"{CPU}/cpu{i}/cpufreq/scaling_governor": f"{name}\n" for i, name in enumerate(names)})
    assert made.check("governor").status == status


@pytest.mark.parametrize(
    ("files", "status"),
    [({"intel_pstate/no_turbo": "0"}, CAUTION), ({"intel_pstate/no_turbo": "1"}, OK), ({"cpufreq/boost": "1"}, CAUTION),
     ({"cpufreq/boost": "0"}, OK), ({}, UNKNOWN)],
)
def test_turbo_is_found_with_either_driver(made: Machine, files: dict[str, str], status: str) -> None:
    assert made.has({f"{CPU}/{name}": text for name, text in files.items()}).check("turbo").status == status


@pytest.mark.parametrize(("source", "status"), [("tsc", OK), ("kvm-clock", OK), ("hpet", CAUTION), (None, UNKNOWN)])
def test_a_slow_clock_source_needs_care(made: Machine, source: str | None, status: str) -> None:
    if source:
        made.has({"sys/devices/system/clocksource/clocksource0/current_clocksource": source})
    assert made.check("clock source").status == status


@pytest.mark.parametrize(
    ("step_s", "status"), [(1e-9, OK), (50e-6, CAUTION), (1e-3, BAD), (math.inf, BAD)]
)
def test_a_clock_is_judged_by_its_smallest_step(step_s: float, status: str) -> None:
    ticking = itertools.count()
    still = math.isinf(step_s)
    check = clock_check("clock", lambda: 0.0 if still else next(ticking) // 3 * step_s, wall=lambda: 0.0)
    assert check.status == status


def test_a_clock_is_judged_by_what_a_reading_costs_too() -> None:
    walls = iter((0.0, 5000 * 30e-6))
    ticking = itertools.count()
    check = clock_check("clock", lambda: next(ticking) * 1e-9, wall=lambda: next(walls))
    assert check.status == CAUTION and "30 µs a reading" in check.value


def test_the_thread_clock_matters_for_one_thread_only(made: Machine) -> None:
    names = [check.name for check in standing_checks(2, made.root, QUIET)]
    assert "clock" in names and "thread clock" not in names
    assert made.check("thread clock", 1).value


@pytest.mark.parametrize(
    ("maps", "status"),
    [("7f /lib/x86_64-linux-gnu/libc.so.6\n", OK), ("7f /lib/libc.so.6\n7f /usr/lib/libjemalloc.so.2\n", CAUTION),
     ("7f /lib/ld-musl-x86_64.so.1\n", CAUTION), ("", UNKNOWN)],
)
def test_only_glibc_itself_can_be_told_to_keep_memory(made: Machine, maps: str, status: str) -> None:
    assert made.has({"proc/self/maps": maps}).check("allocator").status == status


@pytest.mark.parametrize(
    ("threads", "env", "status"),
    [(1, {}, OK), (2, {}, CAUTION), (2, {"OMP_WAIT_POLICY": "ACTIVE"}, CAUTION),
     (2, {"OMP_WAIT_POLICY": "PASSIVE"}, OK)],
)
def test_several_threads_should_not_spin(made: Machine, threads: int, env: dict[str, str], status: str) -> None:
    assert made.check("spinning", threads, env).status == status


@pytest.mark.parametrize(
    ("available", "files", "status"),
    [
        (8388608 << 10, {}, OK),
        (1000000 << 10, {}, CAUTION),
        (200000 << 10, {}, BAD),
        (8388608 << 10, {**V2, "sys/fs/cgroup/box/inner/memory.max": "3000000000",
          "sys/fs/cgroup/box/inner/memory.current": "2500000000"}, CAUTION),
        (8388608 << 10, {**V2, "sys/fs/cgroup/box/memory.max": "max",
          "sys/fs/cgroup/box/memory.current": "2500000000"}, OK),
        (8388608 << 10, {**V1, "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "100",
          "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "200"}, BAD),
        (None, {}, UNKNOWN),
    ],
)
def test_memory_left_is_the_machines_or_the_control_groups(
    made: Machine, available: int | None, files: dict[str, str], status: str
) -> None:
    if available is not None:
        made.tells(virtual_memory=SimpleNamespace(available=available))
    assert made.has(files).check("memory").status == status


@pytest.mark.parametrize(
    ("files", "status", "value"),
    [
        ({"proc/cpuinfo": "flags\t: fpu hypervisor sse\n"}, CAUTION, "yes"),
        ({"proc/cpuinfo": "flags\t: fpu sse\n"}, OK, "no"),
        ({"proc/cpuinfo": "flags\t: fpu sse\n", ".dockerenv": ""}, OK, "no, and a docker container"),
        ({"proc/1/cgroup": "0::/kubepods/pod1\n"}, UNKNOWN, "kubepods container"),
        ({}, UNKNOWN, ""),
    ],
)
def test_a_virtual_machine_needs_care_and_a_container_is_told(
    made: Machine, files: dict[str, str], status: str, value: str
) -> None:
    check = made.has(files).check("virtual machine")
    assert (check.status, check.value) == (status, value)


@pytest.mark.parametrize(
    ("supplies", "status"),
    [
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging"}, CAUTION),
        ({"BAT0/type": "Battery", "BAT0/status": "Full", "AC/type": "Mains"}, OK),
        ({"mouse/type": "Battery", "mouse/status": "Discharging", "mouse/scope": "Device"}, UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_a_drained_battery_needs_care_but_not_a_mouses(made: Machine, supplies: dict[str, str], status: str) -> None:
    made.has({f"sys/class/power_supply/{name}": text for name, text in supplies.items()})
    assert made.check("battery").status == status


@pytest.mark.parametrize(("milli_celsius", "status"), [("60000", OK), ("97000", CAUTION), ("broken", UNKNOWN)])
def test_heat_is_held_against_the_nearest_trip_point(made: Machine, milli_celsius: str, status: str) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    made.has({
        f"{zone}/temp": milli_celsius, f"{zone}/trip_point_0_type": "passive", f"{zone}/trip_point_0_temp": "100000",
        f"{zone}/trip_point_1_type": "active", f"{zone}/trip_point_1_temp": "50000",
    })
    assert made.check("heat").status == status


def test_where_nothing_can_be_read_everything_is_unknown_and_nothing_fails(unknown: Machine) -> None:
    for root in (unknown.root, unknown.root / "not there"):
        found = {check.name: check.status for check in standing_checks(1, root, {})}
        measured_here = {"clock", "thread clock", "spinning"}
        assert {status for name, status in found.items() if name not in measured_here} == {UNKNOWN}
        empty = snapshot(root)
        assert {check.status for check in watched_checks(empty, empty)} == {UNKNOWN}


@pytest.mark.parametrize("content", ["", "\0\0", "cpu", "0::", "-", "9" * 400, "avg10= some"])
def test_files_that_hold_something_else_are_unknown_and_nothing_fails(unknown: Machine, content: str) -> None:
    names = (
        "proc/cpuinfo", "proc/pressure/cpu", "proc/self/cgroup", f"{CPU}/cpu0/topology/thread_siblings_list",
        f"{CPU}/cpu0/cache/index0/size", f"{CPU}/cpu0/cache/index0/level", "sys/fs/cgroup/cpu.max",
    )
    odd = unknown.has(dict.fromkeys(names, content))
    assert {check.status for check in standing_checks(1, odd.root, QUIET)} <= {OK, UNKNOWN}
    assert snapshot(odd.root).throttled_s is None
    assert machine.caches_bytes(odd.root) == {}


def test_every_check_has_words_and_only_what_is_not_fit_has_a_next_step(made: Machine) -> None:
    made.tells(getloadavg=(9.0, 1.0, 1.0)).has({f"{CPU}/intel_pstate/no_turbo": "1"})
    found = standing_checks(1, made.root, QUIET) + watched_checks(snapshot(made.root), snapshot(made.root))
    assert {check.name for check in found} <= set(CHECKS)
    for check in found:
        assert check.meaning == CHECKS[check.name][0]
        assert (check.next_step is not None) == (check.status in (CAUTION, BAD))


# --- what happened meanwhile -----------------------------------------------------------------------------------------

BEFORE = Snapshot(
    10.0, minor_faults=100, major_faults=0, voluntary_switches=5, involuntary_switches=7, throttled_periods=1,
    throttled_s=0.5, busy_s=1000, steal_s=10, total_s=10_000, own_s=400, processors=4, swapped_pages=3,
    heat_throttles=2, cpu_mhz=3000.0, native_threads=4,
)
AFTER = Snapshot(
    12.0, minor_faults=150, major_faults=2, voluntary_switches=6, involuntary_switches=17, throttled_periods=3,
    throttled_s=0.75, busy_s=1400, steal_s=30, total_s=10_800, own_s=600, processors=4, swapped_pages=3,
    heat_throttles=5, cpu_mhz=2500.0, native_threads=6,
)


def test_between_two_snapshots_lie_their_differences() -> None:
    assert between(BEFORE, AFTER) == {
        "seconds": 2.0, "minor_faults": 50, "major_faults": 2, "voluntary_switches": 1, "involuntary_switches": 10,
        "throttled_periods": 2, "throttled_s": 0.25, "swapped_pages": 0, "heat_throttles": 3,
        "steal_processors": 20 * 4 / 800, "other_processors": (400 - 200) * 4 / 800, "cpu_mhz_before": 3000.0,
        "cpu_mhz": 2500.0, "native_threads": 6,
    }


def test_a_missing_counter_has_no_difference_and_json_takes_the_answer() -> None:
    found = between(Snapshot(0.0), AFTER)
    assert {name for name, value in found.items() if value is not None} == {"seconds", "cpu_mhz", "native_threads"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_happened_is_judged(made: Machine) -> None:
    found = {check.name: check.status for check in watched_checks(BEFORE, AFTER)}
    assert found == {
        "other work": CAUTION, "steal": BAD, "throttled": BAD, "swapping": OK, "heat throttling": CAUTION,
    }
    same = {check.name: check.status for check in watched_checks(BEFORE, BEFORE)}
    assert same == {
        "other work": UNKNOWN, "steal": UNKNOWN, "throttled": OK, "swapping": OK, "heat throttling": OK,
    }


def test_other_work_on_every_processor_is_bad(made: Machine) -> None:
    after = Snapshot(12.0, busy_s=1000 + 800, total_s=10_800, own_s=400, processors=4, steal_s=10)
    assert watched_checks(BEFORE, after)[0].status == BAD


def test_counters_are_psutils_and_where_it_has_none_the_kernels(made: Machine) -> None:
    own = process(user=101.0, system=102.0, children_user=103.0, children_system=104.0, iowait=9.0)
    made.tells(
        cpu_times=cpu_times(10, 20, 30, 400, 50, 1, 2, 3), cpu_count=2, Process=own,
        swap_memory=SimpleNamespace(sin=4 << 12, sout=5 << 12), cpu_freq=SimpleNamespace(current=1500.5),
    )
    made.has({
        **V2, "sys/fs/cgroup/box/inner/cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "4",
        f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "5",
    })
    found = snapshot(made.root)
    assert (found.busy_s, found.steal_s, found.total_s, found.processors) == (63, 3, 516, 2)
    assert found.own_s == 101 + 102 + 103 + 104
    assert (found.throttled_periods, found.throttled_s) == (3, 2.5)
    assert (found.swapped_pages, found.heat_throttles) == (9, 9)
    assert (found.cpu_mhz, found.native_threads) == (1500.5, 7)


def test_version_1_counts_throttled_time_in_nanoseconds(made: Machine) -> None:
    made.has({**V1, "sys/fs/cgroup/cpu,cpuacct/box/cpu.stat": "nr_throttled 2\nthrottled_time 1500000000\n"})
    assert machine.throttled(made.root) == (2, 1.5)


@linux_only
def test_psutil_tells_of_this_machine_what_is_asked_of_it() -> None:
    assert None not in (
        machine.load_1min(), machine.usable_processors(), machine.cpu_seconds(), machine.own_seconds(),
        machine.native_threads(), machine.available_bytes(),
    )
    assert len(machine.usable_processors() or ()) == environment.describe()["usable_cores"]


@linux_only
def test_this_process_s_own_faults_and_switches_are_counted() -> None:
    before = snapshot()
    pages = bytearray(64 << 20)
    for start in range(0, len(pages), 4096):
        pages[start] = 1
    found = between(before, snapshot())
    assert found["minor_faults"] > 0 and found["seconds"] >= 0
    assert found["native_threads"] >= 1


# --- a network against itself ----------------------------------------------------------------------------------------


def noise_rounds(processes: int, rounds: int, spread: float = 0.01, apart: float = 0.0, seed: int = 0) -> Rounds:
    """Times of a network and itself with normal noise; `apart` is how much the variant differs between processes."""
    draw = random.Random(seed)
    shifts = [draw.gauss(0, apart) for _ in range(processes)]
    process = [number for number in range(processes) for _ in range(rounds)]
    times = {label: [0.02 * (1 + draw.gauss(0, spread)) for _ in process] for label in AA_LABELS}
    variant = AA_LABELS[2]
    times[variant] = [time * (1 + shifts[number]) for time, number in zip(times[variant], process, strict=True)]
    wall = {label: list(values) for label, values in times.items()}
    return Rounds("thread-cpu", wall_s=wall, cpu_s=times, process=process)


def test_four_times_the_time_halves_the_interval_that_rounds_make() -> None:
    rows = told_apart(0.02, 30, 12)
    assert [row["seconds"] for row in rows] == [10, 30, 60, 120]
    assert [row["half_width"] for row in rows] == pytest.approx([0.02 * math.sqrt(3), 0.02, 0.02 / math.sqrt(2), 0.01])


def test_what_differs_between_processes_stays_however_long_a_run_is() -> None:
    assert told_apart(0.02, 30, 12, lasting=1.0)[3]["half_width"] == pytest.approx(0.02)
    assert told_apart(0.02, 30, 12, lasting=0.5)[3]["half_width"] == pytest.approx(0.02 * math.sqrt(0.5 + 0.5 / 4))


def test_an_overhead_found_in_nine_of_ten_runs_is_more_than_the_half_width() -> None:
    """Simulated: estimates scatter with standard error 1 around the overhead, each with its half-width of q errors."""
    half_width = 2.7180790  # Student's t at 0.99 for 11 degrees, so that one standard error is 1
    (row,) = told_apart(half_width, 10, 12, times_s=(10,))
    draw = random.Random(1)
    assert row["found"] is not None
    found = sum(row["found"] + draw.gauss(0, 1) - half_width > 0 for _ in range(20_000)) / 20_000
    assert found == pytest.approx(0.9, abs=0.01)


def test_too_few_rounds_tell_nothing_rather_than_zero() -> None:
    assert {row["half_width"] for row in told_apart(math.inf, 1, 1)} == {None}
    run = judged(noise_rounds(1, 2), 1, 1, "resnet18", 128)
    assert [check.status for check in aa_checks(run)] == [UNKNOWN, UNKNOWN]
    json.dumps(asdict(run), allow_nan=False)


def test_the_share_that_lasts_is_found_in_made_groups() -> None:
    draw = random.Random(3)

    def groups(apart: float) -> list[list[float]]:
        found = []
        for _ in range(400):
            centre = draw.gauss(0, apart)
            found.append([draw.gauss(centre, 1.0) for _ in range(25)])
        return found

    explained = math.pi / 2 / 25
    assert lasting_share(groups(0.0)) == pytest.approx(0.0, abs=0.15)
    assert lasting_share(groups(0.25)) == pytest.approx(0.0625 / (0.0625 + explained), abs=0.12)
    assert lasting_share(groups(10.0)) > 0.99
    assert lasting_share([[1.0, 2.0, 3.0, 4.0]] * 2) == 0.0
    assert lasting_share([[1.0]] * 50) == 0.0


def test_a_network_that_equals_itself_is_fit_and_its_interval_predicts_longer_runs() -> None:
    short = judged(noise_rounds(12, 15), 10, 1, "resnet18", 128)
    assert [check.status for check in aa_checks(short)] == [OK, OK]
    assert short.processes == 12 and short.rounds == 180 and short.latency_ms == pytest.approx(20, rel=0.01)
    predicted = short.at[3]["half_width"]
    long = judged(noise_rounds(12, 15 * 12, seed=5), 120, 1, "resnet18", 128).at[3]["half_width"]
    assert predicted is not None and long is not None
    assert 0.5 < predicted / long < 2


def test_rounds_that_scatter_need_care_or_worse() -> None:
    careful, bad = (judged(noise_rounds(12, 15, spread), 10, 1, "m", 128) for spread in (0.15, 0.9))
    assert aa_checks(careful)[1].status == CAUTION
    assert aa_checks(bad)[1].status == BAD


@pytest.mark.parametrize(("shift", "status"), [(1.0, OK), (1.008, CAUTION), (1.03, BAD)])
def test_a_network_that_differs_from_itself_is_told_by_how_much(shift: float, status: str) -> None:
    rounds = noise_rounds(12, 40)
    rounds.cpu_s["control"] = [time * shift for time in rounds.cpu_s["control"]]
    check = aa_checks(judged(rounds, 10, 1, "m", 128))[0]
    assert check.status == status, check.value


def test_a_real_network_is_run_against_itself(few_rounds: float) -> None:
    run = aa_run(few_rounds, 1, f"{NETS}:residual", 32)
    assert run.processes == (6 if can_fork() else 1) and run.rounds >= 4 * run.processes and run.latency_ms > 0
    assert run.low is not None and run.high is not None and run.low <= run.difference <= run.high
    assert [row["seconds"] for row in run.at] == [10, 30, 60, 120]
    widths = [row["half_width"] or 0.0 for row in run.at]
    assert widths == sorted(widths, reverse=True) and widths[-1] > 0
    assert all((row["found"] or 0.0) > (row["half_width"] or 0.0) for row in run.at)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "threads 0 is not possible"), (((os.cpu_count() or 1) + 1,), "this machine's processors"),
        ((1, 0.0), "expected more than 0"), ((1, math.nan), "expected more than 0"), ((1, 1.0, 0), "1 or more pixels"),
        ((1, 1.0, 8, "resnet1"), "did you mean"),
    ],
)
def test_what_is_not_possible_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(BadSpecError, match=message):
        check_request(*arguments)  # type: ignore[arg-type]


# --- the verdict and the command -------------------------------------------------------------------------------------


def a_check(name: str, status: str) -> Check:
    return Check(name, "found", status, *CHECKS[name]) if status in (CAUTION, BAD) else Check(
        name, "found", status, CHECKS[name][0], None
    )


def test_the_worst_check_decides_and_is_named() -> None:
    fine, careful, bad = a_check("memory", OK), a_check("turbo", CAUTION), a_check("quota", BAD)
    assert verdict([fine, a_check("heat", UNKNOWN)]) == ("fit", [])
    assert verdict([fine, careful]) == ("fit with care", ["turbo"])
    assert verdict([careful, bad, fine]) == ("not fit", ["quota"])


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the command finds, in place of this machine's state."""
    checks = [a_check("memory", OK), a_check("turbo", CAUTION), a_check("heat", UNKNOWN)]
    run = judged(noise_rounds(12, 15), 10, 1, "resnet18", 128)
    monkeypatch.setattr(command, "_examine", lambda *arguments: (checks, run))
    return checks


def test_the_verdict_is_the_first_line_and_the_exit_code(
    found: list[Check], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "Fit with care: turbo" and err == ""
    found.append(a_check("quota", BAD))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "Not fit: quota"
    found[:] = found[:1]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Fit"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_tells_what_to_do_and_fits_the_terminal(
    found: list[Check], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["doctor"])
    out = capsys.readouterr().out
    flat = " ".join(out.split())
    assert max(map(len, out.splitlines())) <= columns
    assert "trust the overheads more than the milliseconds" in flat
    assert "Not told by this system: heat." in flat
    assert out.index("turbo ") < out.index("memory ")  # what needs care comes first
    assert [line.split()[0] for line in out.splitlines() if "from" in line and "±" in line] == ["10", "30", "60", "120"]


def test_json_has_the_schema_the_environment_the_checks_and_the_run(
    found: list[Check], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["schema", "environment", "verdict", "checks", "aa"] and document["schema"] == 1
    assert document["verdict"] == {"fit": "fit with care", "because": ["turbo"]}
    assert document["checks"][1] == {
        "name": "turbo", "value": "found", "status": "caution", "meaning": CHECKS["turbo"][0],
        "next_step": CHECKS["turbo"][1],
    }
    assert document["aa"]["rounds"] == 180 and document["environment"]["cpu"]


def test_without_latency_no_network_is_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PAUSE_S", 0.0)
    monkeypatch.setattr(against_itself, "aa_run", lambda *arguments: pytest.fail("ran a network"))
    assert main(["doctor", "--no-latency", "--format", "json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    assert document["aa"] is None
    assert {"load", "steal", "clock"} <= {check["name"] for check in document["checks"]}


def test_the_whole_command_on_this_machine(capsys: pytest.CaptureFixture[str], few_rounds: float) -> None:
    words = ["doctor", "--model", f"{NETS}:residual", "--resolution", "32", "--seconds", f"{few_rounds:g}"]
    assert main(words) in (0, 1)
    out, err = capsys.readouterr()
    assert out.startswith(("Fit", "Not fit")) and "a/a run" in out
    assert err.count("\n") == 1 and "against itself" in err


@pytest.mark.parametrize(
    "words",
    [["--threads", "0"], ["--threads", "9999"], ["--seconds", "0"], ["--format", "cvs"], ["--model", "resnet1"],
     ["--resolution", "-1"], ["--seconds", "0.000001", "--model", f"{NETS}:residual", "--resolution", "32"]],
)
def test_a_wrong_request_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("secost: error: ") and err.count("\n") == 1


# --- what a record says about its machine ----------------------------------------------------------------------------


def test_the_environment_does_not_change_from_one_moment_to_the_next() -> None:
    assert environment.describe() == environment.describe()
    assert json.loads(json.dumps(environment.describe())) == environment.describe()


def test_the_environment_tells_what_makes_two_latencies_comparable(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.has({
        f"{CPU}/cpu0/cpufreq/scaling_governor": "performance", f"{CPU}/cpufreq/boost": "1", f"{CPU}/smt/active": "1",
        "proc/cpuinfo": "flags : hypervisor\n", **V2, "sys/fs/cgroup/cpu.max": "150000 100000",
        **{f"{CPU}/cpu0/cache/index{i}/{name}": text
           for i, row in enumerate((("1", "Data", "32K"), ("1", "Instruction", "64K"), ("3", "Unified", "8M")))
           for name, text in zip(("level", "type", "size"), row, strict=True)},
    })
    for name in ("governors", "turbo", "smt", "hypervisor", "cpu_quota", "caches_bytes"):
        reader = getattr(machine, name)
        monkeypatch.setattr(machine, name, lambda reader=reader: reader(made.root))
    facts = environment.describe()
    assert {name: facts[name] for name in ("governor", "turbo", "smt", "hypervisor", "cpu_quota", "caches")} == {
        "governor": "performance", "turbo": "on", "smt": "on", "hypervisor": "yes", "cpu_quota": "1.5 processors",
        "caches": "L1 32 KiB, L3 8192 KiB",
    }


def test_what_the_system_does_not_tell_is_none(made: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("governors", "turbo", "smt", "hypervisor", "cpu_quota", "caches_bytes"):
        reader = getattr(machine, name)
        monkeypatch.setattr(machine, name, lambda reader=reader: reader(made.root))
    facts = environment.describe()
    assert [facts[name] for name in ("governor", "turbo", "smt", "hypervisor", "cpu_quota", "caches")] == [None] * 6


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "nncf"])
def test_a_backend_that_is_not_installed_has_no_version(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise environment.PackageNotFoundError(name)

    assert package in environment.describe()
    monkeypatch.setattr(environment, "version", absent)
    assert environment.describe()[package] is None

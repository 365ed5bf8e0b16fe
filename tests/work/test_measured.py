"""From rounds to a record: what the machine did meanwhile, and what may be said of it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from secost.meters import environment, machine
from secost.meters.latency import Rounds
from secost.plan.spec import Spec
from secost.plan.trials import Listener
from secost.runs.records import Record
from secost.statistics import seconds_for
from secost.work import timing
from secost.work.comparison import Networks, machine_cautions, run_comparison
from secost.work.run import make_plan
from secost.work.timing import short_of_time

QUIET: dict[str, Any] = {
    "seconds": 10.0, "throttled_s": 0.0, "heat_throttles": 0, "other_processors": 0.0, "steal_processors": 0.0,
}


def record(threads: int = 1, device: str = "cpu", backend: str = "eager") -> Record:
    return Record("net", "se", 16, "auto", "standard", None, 1, 1, 32, backend, "fp32", device, threads)


def found(threads: int = 1, device: str = "cpu", backend: str = "eager", **note: Any) -> list[str]:
    return machine_cautions(Rounds(notes=[QUIET | note]), record(threads, device, backend))


@pytest.fixture(autouse=True)
def passive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")


def test_a_quiet_machine_gives_no_caution() -> None:
    assert found() == found(threads=2) == []


def test_time_taken_away_by_a_quota_or_for_heat_is_throttling() -> None:
    assert found(throttled_s=0.2) == ["throttling"] and found(throttled_s=0.05) == []
    assert found(heat_throttles=1) == ["throttling"]


def test_with_several_threads_other_work_beyond_the_processors_is_contention() -> None:
    cores = os.cpu_count() or 1
    assert "contention" in found(threads=max(2, cores), other_processors=0.5 + max(0, 2 - cores))
    assert "contention" in found(threads=2, steal_processors=0.1)


def test_of_one_thread_and_of_a_gpu_other_work_says_nothing_here() -> None:
    """One thread is judged by its own clock against the wall's; a GPU by its control."""
    assert found(threads=1, other_processors=9.0) == found(threads=2, device="cuda", other_processors=9.0) == []


@pytest.mark.parametrize(("threads", "device", "backend", "spins"), [
    (2, "cpu", "eager", True), (2, "cpu", "compile", True), (2, "cpu", "onnxruntime", False),
    (2, "cpu", "openvino", False), (1, "cpu", "eager", False), (2, "cuda", "eager", False),
])
def test_spinning_is_about_torchs_threads_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, threads: int, device: str, backend: str, spins: bool
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert ("spinning-threads" in found(threads, device, backend)) is spins


def test_what_the_system_does_not_tell_is_no_reason() -> None:
    nothing = dict.fromkeys(QUIET, None) | {"seconds": 10.0}
    assert machine_cautions(Rounds(notes=[nothing]), record(2)) == []


def test_the_environment_names_the_gpu_so_that_two_cards_are_two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "gpu" not in environment.describe()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Card A")
    environment._gpu_facts_apart.cache_clear()
    first = environment.describe()
    environment._gpu_facts_apart.cache_clear()  # asked of the GPU once in a process
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Card B")
    assert first["gpu"] == "Card A" and first != environment.describe()
    environment._gpu_facts_apart.cache_clear()


def test_a_group_above_that_is_throttled_counts(tmp_path: Any) -> None:
    files = {
        "proc/self/cgroup": "0::/box/inner\n", "sys/fs/cgroup/cgroup.controllers": "cpu\n",
        "sys/fs/cgroup/box/inner/cpu.stat": "usage_usec 5\nnr_throttled 0\nthrottled_usec 0\n",
        "sys/fs/cgroup/box/cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert machine.throttled(tmp_path) == (3, 2.5)


# --- how long it would take -------------------------------------------------------------------------------------------


def probe(ratios: list[float], pass_s: float = 0.1) -> Rounds:
    base = [pass_s] * len(ratios)
    columns = {"none": base, "control": base, "se": [pass_s * ratio for ratio in ratios]}
    return Rounds("wall", 1, columns, {}, [0] * len(ratios), opening_s=1.0)


def test_a_time_too_short_for_two_points_is_told_from_the_first_rounds() -> None:
    """Half of five rounds are within 0.05 of their median, so that they scatter by 0.05 / 0.6745."""
    rounds = probe([1.0, 1.05, 1.10, 1.15, 1.20])
    needed_s = seconds_for(0.02, 0.05 / 0.6745, 1.0, 0.31)
    text = short_of_time(rounds, ("none", "control", "se"), 30.0)
    assert text is not None and text.startswith(f"an interval of ± 2 points takes about {needed_s:.0f} s or more")
    assert "a process, a round 0.31 s), and there are 30: give more with --seconds" in text
    assert short_of_time(rounds, ("none", "control", "se"), needed_s + 1) is None


def test_of_too_few_rounds_the_time_of_the_first_interval_is_told() -> None:
    text = short_of_time(probe([1.0, 2.0, 3.0]), ("none", "control", "se"), 5.0)
    assert text is not None and "an interval of any width takes about 11 s or more" in text


def test_who_measures_hears_it_once_from_the_first_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def short(probe: Rounds, labels: list[str], seconds: float) -> str | None:
        asked.append(probe.processes)
        return "short" if len(asked) == 2 else None

    # Made rounds in place of children's: how many fit into a second hangs on what else the machine does.
    columns = {label: [0.1] * 5 for label in ("none", "control", "se r=4")}
    monkeypatch.setattr(timing.Stopwatch, "_in_a_child", lambda watch, turn: Rounds(
        "wall", 1, {label: [*times] for label, times in columns.items()}, {}, [0] * 5, opening_s=1.0))
    monkeypatch.setattr(timing, "short_of_time", short)
    told: list[str] = []
    spec = Spec(("small:resnet",), ("se",), (4,), seconds=600.0, processes=4)
    comparison, = make_plan(spec).comparisons
    records = list(run_comparison(comparison, spec, Listener(on_note=told.append), Networks()))
    assert [made.status for made in records] == ["done", "done"]
    assert told == ["short"] and len(asked) == 2

"""How one sample is timed, to the last digit, on made clocks and made events."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from secost.meters.latency import CpuTimer, EventTimer, Sample, timer_for, waited_for


class FakeGpu:
    """A GPU with a queue: the host hands work over at once, and only `synchronize` lets the GPU's time pass.

    `now_ms` is the GPU's clock, `host_s` the host's. A pass takes `pass_ms` on the GPU, its launch `launch_s`.
    """

    def __init__(self, pass_ms: float = 0.25, launch_s: float = 1e-5) -> None:
        self.pass_ms, self.launch_s = pass_ms, launch_s
        self.now_ms, self.host_s = 1000.0, 5.0
        self.queue: list[Callable[[], None]] = []
        self.log: list[str] = []

    def run(self) -> None:
        self.log.append("pass")
        self.host_s += self.launch_s
        self.queue.append(self._work)

    def _work(self) -> None:
        self.now_ms += self.pass_ms

    def synchronize(self) -> None:
        self.log.append("synchronize")
        begin = self.now_ms
        for work in self.queue:
            work()
        self.queue.clear()
        self.host_s += (self.now_ms - begin) / 1e3

    def clock(self) -> float:
        return self.host_s

    def event(self) -> FakeEvent:
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu, self.at_ms = gpu, float("nan")

    def record(self) -> None:
        self.gpu.log.append("record")
        self.gpu.queue.append(self._mark)

    def _mark(self) -> None:
        self.at_ms = self.gpu.now_ms

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.at_ms - self.at_ms


def test_events_time_what_the_gpu_did_not_what_the_host_launched() -> None:
    gpu = FakeGpu(pass_ms=0.25, launch_s=0.7)
    sample = EventTimer(gpu.event, gpu.synchronize).time(gpu.run, 4)
    assert sample == Sample(0.25e-3, None)


def test_the_queue_is_empty_before_the_first_event_and_after_the_last() -> None:
    gpu = FakeGpu()
    EventTimer(gpu.event, gpu.synchronize).time(gpu.run, 2)
    assert gpu.log == ["synchronize", "record", "pass", "pass", "record", "synchronize"]
    assert gpu.queue == []


def test_work_left_in_the_queue_by_another_variant_is_not_counted() -> None:
    gpu = FakeGpu(pass_ms=0.5)
    for _ in range(100):
        gpu.run()
    assert EventTimer(gpu.event, gpu.synchronize).time(gpu.run, 1).wall_s == 0.5e-3


def test_two_variants_on_one_gpu_come_out_in_their_true_ratio() -> None:
    gpu = FakeGpu()
    timer = EventTimer(gpu.event, gpu.synchronize)
    times = []
    for gpu.pass_ms in (0.5, 0.75):
        times.append(timer.time(gpu.run, 8).wall_s)
    assert times[1] / times[0] - 1 == 0.5


def test_a_device_without_events_is_waited_for() -> None:
    gpu = FakeGpu(pass_ms=250.0, launch_s=0.0)
    gpu.run()
    timer = CpuTimer(waited_for(gpu.synchronize, gpu.clock), None)
    assert timer.time(gpu.run, 4) == Sample(0.25, None)
    assert timer.name == "wall"


def test_the_processors_timer_gives_both_clocks_a_pass() -> None:
    wall, cpu = iter([10.0, 12.0]), iter([3.0, 4.0])
    passes: list[int] = []
    sample = CpuTimer(lambda: next(wall), lambda: next(cpu)).time(lambda: passes.append(1), 4)
    assert sample == Sample(0.5, 0.25)
    assert len(passes) == 4


def test_the_processors_clock_is_read_inside_the_walls_so_that_it_never_shows_more() -> None:
    order: list[str] = []

    def clock(name: str) -> Callable[[], float]:
        return lambda: float(len(order)) if order.append(name) is None else 0.0  # type: ignore[func-returns-value]

    CpuTimer(clock("wall"), clock("cpu")).time(lambda: order.append("pass"))
    assert order == ["wall", "cpu", "pass", "cpu", "wall"]


def test_without_a_processor_clock_there_is_no_processor_time() -> None:
    ticks = iter([0.0, 6.0])
    sample = CpuTimer(lambda: next(ticks), None).time(lambda: None, 3)
    assert sample == Sample(2.0, None)


@pytest.mark.parametrize(
    ("device", "threads", "name", "kind"),
    [("cpu", 1, "thread-cpu", CpuTimer), ("cpu", 2, "wall", CpuTimer), ("cuda", 1, "cuda-events", EventTimer),
     ("mps", 1, "wall", CpuTimer)],
)
def test_a_device_has_its_timer(device: str, threads: int, name: str, kind: type) -> None:
    timer = timer_for(device, threads)
    assert isinstance(timer, kind)
    assert timer.name == name
    if isinstance(timer, CpuTimer):
        assert (timer.wall is time.perf_counter) == (device == "cpu"), "what has a queue is waited for"


def test_marks_within_a_pass_time_what_lies_between_them_on_the_gpu() -> None:
    """Two modules of 0.25 ms, one called twice: the host reads the events only once the queue is done."""
    gpu = FakeGpu()
    timer = EventTimer(gpu.event, gpu.synchronize)
    pairs = []
    for _ in range(3):
        begin = timer.mark()
        gpu.run()
        pairs.append((begin, timer.mark()))
        gpu.run()  # what is between the modules
    assert "synchronize" not in gpu.log
    assert timer.spent_s(pairs) == [pytest.approx(0.25e-3)] * 3 and gpu.log.count("synchronize") == 1


def test_marks_on_the_processor_are_readings_of_the_clock_that_ratios_are_made_of() -> None:
    wall, cpu = iter([10.0, 11.0]), iter([1.0, 1.5])
    timer = CpuTimer(lambda: next(wall), lambda: next(cpu))
    assert timer.spent_s([(timer.mark(), timer.mark())]) == [0.5]
    waited = CpuTimer(lambda: next(wall), None)
    assert waited.spent_s([(waited.mark(), waited.mark())]) == [1.0]

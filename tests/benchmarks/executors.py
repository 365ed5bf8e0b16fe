"""What handing jobs out costs: empty jobs, so that all of the time is the executor's.

`overhead`: milliseconds a job, for this process, two forked children and two dask workers. `many N`: N jobs through
dask, each outcome committed to a real run; the scheduler is a process of its own, so that its memory and the driver's
are told apart. Both memories must stay flat.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from secost.meters.environment import describe
from secost.plan.spec import Spec
from secost.runs.records import Record
from secost.runs.store import RunStore
from secost.work.executors import Executor, Job
from secost.work.run import open_executor
from tests import executor_jobs as jobs

BATCHES = 7
ROOT = Path(__file__).parent.parent.parent
STRETCHES = 10


def overhead(count: int = 200) -> None:
    """Medians of several batches of `count` jobs, the first batch left out."""
    print(f"ms for an empty job, median (lowest to highest) of {BATCHES} batches of {count}")
    for name, workers in (("local", 1), ("local", 2), ("dask", 2)):
        began = time.perf_counter()
        with open_executor(name, workers=workers) as executor:
            opened_s = time.perf_counter() - began
            times = [_batch_ms(executor, count) for _ in range(BATCHES + 1)][1:]
        print(f"  {name}, {workers} at a time: {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f}), "
              f"opened in {opened_s:.2f} s")


def _batch_ms(executor: Executor, count: int) -> float:
    began = time.perf_counter()
    outcomes = sum(1 for _ in executor.run(Job("", jobs.nothing) for _ in range(count)))
    assert outcomes == count
    return 1000 * (time.perf_counter() - began) / count


def many(count: int = 100_000) -> None:
    """Every outcome becomes a record; speed and memory are printed for each tenth."""
    with (
        tempfile.TemporaryDirectory() as name,
        _cluster(Path(name), 2) as (address, scheduler),
        open_executor("dask", address=address) as executor,
    ):
        _through_store(executor, count, Path(name) / "run", psutil.Process(scheduler))


def _through_store(executor: Executor, count: int, folder: Path, scheduler: psutil.Process) -> None:
    spec = Spec.from_dict({"model": "resnet18"})
    blank = Record(model="resnet18", attention="none", reduction=None, placement="auto", integration="standard",
                   stages=None, sites=None, batch=1, resolution=224, backend="eager", precision="fp32", device="cpu",
                   threads=1)
    driver, stretch = psutil.Process(), max(1, count // STRETCHES)
    with RunStore.create_or_resume(folder, spec, describe()) as store:
        store.set_plan([f"{number:08d}" for number in range(count)])
        print("      jobs   ms a job   driver MiB   scheduler MiB")
        _show(0, "", driver, scheduler)
        began = time.perf_counter()
        for done, outcome in enumerate(executor.run(Job(f"{n:08d}", jobs.nothing) for n in range(count)), start=1):
            assert outcome.error is None
            store.add(replace(blank, key=outcome.job.label, host=outcome.host, began_s=outcome.began_s,
                              ended_s=outcome.ended_s))
            if done % stretch == 0:
                ms = 1000 * (time.perf_counter() - began) / stretch
                _show(done, f"{ms:.2f}", driver, scheduler)
                began = time.perf_counter()
        assert len(store.records()) == count


def _show(done: int, ms: str, driver: psutil.Process, scheduler: psutil.Process) -> None:
    memory = [process.memory_info().rss >> 20 for process in (driver, scheduler)]
    print(f"{done:10d} {ms:>10} {memory[0]:12d} {memory[1]:15d}", flush=True)


@contextmanager
def _cluster(folder: Path, workers: int) -> Iterator[tuple[str, int]]:
    """A scheduler's address and process, with that many workers; all are ended."""
    file, log = folder / "scheduler.json", (folder / "log").open("w")
    started = [_start("scheduler", file, log.fileno(), "--port", "0")]
    started += [
        _start("worker", file, log.fileno(), "--nthreads", "1", "--no-nanny", "--memory-limit", "0")
        for _ in range(workers)
    ]
    try:
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.05)
        yield _address(file), started[0].pid
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()
        log.close()


def _address(file: Path) -> str:
    return str(json.loads(file.read_text())["address"])


def _start(kind: str, file: Path, log: int, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(file), "--host", "127.0.0.1",
         "--no-dashboard", *options], cwd=ROOT, stdout=log, stderr=log,
    )


if __name__ == "__main__":
    {"overhead": overhead, "many": many}[sys.argv[1]](*map(int, sys.argv[2:]))

"""A scheduler and its workers, as a user starts them."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTING_S = 60.0


class Cluster:
    """Processes of `dask scheduler` and `dask worker`; a worker is started without a nanny unless one is asked for."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.file = folder / "scheduler.json"
        self.log = (folder / "log").open("w")
        self.environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "DASK_TEMPORARY_DIRECTORY": str(folder),
            **environment,
        }
        self.scheduler = self._start("scheduler", "--host", self._host(), "--port", "0", "--no-dashboard")
        self.workers: list[subprocess.Popen[bytes]] = []

    def _host(self) -> str:
        return "127.0.0.1"

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        kind, *options = words
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file), *options]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def worker(self, *options: str, nanny: bool = False) -> subprocess.Popen[bytes]:
        self.address()
        started = self._start(
            "worker", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard", "--memory-limit", "0",
            "--nanny" if nanny else "--no-nanny", *options,
        )
        self.workers.append(started)
        return started

    def address(self) -> str:
        deadline = time.monotonic() + STARTING_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError, SyntaxError):
                return str(ast.literal_eval(self.file.read_text().replace("null", "None"))["address"])
            time.sleep(0.05)
        raise AssertionError(Path(self.log.name).read_text())

    def end(self) -> None:
        for process in [*self.workers, self.scheduler]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that offer `latency`, for the tests that leave them alive."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    for _ in range(2):
        found.worker("--resources", "latency=1")
    yield found
    found.end()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters for the tests that kill, or that want other workers."""
    made: list[Cluster] = []

    def make(**environment: str) -> Cluster:
        (folder := tmp_path / f"cluster{len(made)}").mkdir()
        made.append(Cluster(folder, **environment))
        return made[-1]

    yield make
    for found in made:
        found.end()

"""Jobs on the workers of a dask cluster: a scheduler that the user started, or processes started here for the while.

The driver's side: connecting, asking who is there, refusing workers with another secost. `dask_jobs` sends the jobs and
has what runs on a worker.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast

import dask
from distributed import Client, LocalCluster
from distributed.client import ClosedClientError

import secost
from secost.errors import BadSpecError, RunError, one_line
from secost.work import dask_jobs
from secost.work.dask_jobs import LATENCY, LOOK_S, DaskRun, DaskWorker, Promise, refuse
from secost.work.executors import TRIES, Executor, Job, Outcome

_start_cluster: Any = LocalCluster  # dask's own comes without types

CONNECT_S = 10.0
JOIN_S = 30.0  # until a first worker is there

# Of a cluster started here. A worker has the driver's environment and neither a limit of memory nor a sampling
# profiler: what is measured there is measured as it is here. The logs that grow with every job are kept short.
_LOCAL_CONFIG = {
    "distributed.scheduler.allowed-failures": TRIES - 1, "distributed.nanny.pre-spawn-environ": {},
    "distributed.worker.profile.enabled": False, "distributed.admin.low-level-log-length": 1000,
}

# What talking to a scheduler that is gone can raise; dask's errors of a broken connection are OSErrors.
_UNREACHABLE = (
    OSError, ClosedClientError, asyncio.TimeoutError, asyncio.CancelledError, concurrent.futures.CancelledError,
    RuntimeError,
)


class DaskExecutor(Executor):
    """Jobs on a cluster: at `address`, or of `workers` processes with one thread each, started on this machine.

    Up to max(16, 4 x threads) jobs are on their way at a time. Raises BadSpecError where no scheduler answers.
    """

    name = "dask"

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._exit = ExitStack()
        self._shared: list[Promise] = []
        self._admitted: set[str] = set()
        address = address or (None if workers else dask.config.get("scheduler-address", None))
        with ExitStack() as undo:
            undo.enter_context(_silence())
            if address is None:
                if workers is None:
                    raise BadSpecError(
                        "the executor dask was given neither a scheduler's address nor a number of workers: give one "
                        "of the two"
                    )
                address = undo.enter_context(_local_cluster(workers))
            self.address = address
            self._client: Any = undo.enter_context(_connected(address))
            self._exit = undo.pop_all()

    @property
    def workers(self) -> int:
        """Threads of all workers that are there now."""
        return sum(worker.threads for worker in self.there())

    def check(self, work: Callable[..., str | None], *arguments: Any) -> None:
        """Have every worker compare its versions with this process's, then look. Waits up to 30 s for a first worker.

        Raises BadSpecError with the worker's name where a version differs, secost is missing, or `work` says no.
        """
        self._await_a_worker()
        there = self.there()
        self.admit(there)
        packed, shared = dask_jobs.pack(work, arguments)
        with self.talking():
            asked = {
                worker.address: self._client.submit(
                    dask_jobs.examined, packed, *shared, key=f"secost-check-{uuid.uuid4().hex}", pure=False,
                    workers=[worker.address], allow_other_workers=False,
                )
                for worker in there
            }
        try:
            for address, future in asked.items():
                refuse(address, self._answer(address, future))
        finally:
            self._forget(asked.values())

    def share(self, value: Any) -> Any:
        """A handle of a value. It is the result of a task, not scattered data: dask makes it anew where it is lost."""
        with self.talking(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            future = self._client.submit(
                dask_jobs.loads, dask_jobs.dumps(value), key=f"secost-shared-{uuid.uuid4().hex}", pure=False
            )
        self._shared.append(future)
        return future

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job, as it ends.

        Raises RunError where the scheduler is lost, or no worker that can do what is left is there for five minutes;
        BadSpecError for a job that no worker offers the resource for, and for a worker with other versions.
        """
        self._await_a_worker()
        run = DaskRun(self, self._client, iter(jobs))
        try:
            yield from run.outcomes()
        finally:
            self._forget(flight.future for flight in run.flights.values())

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here."""
        with suppress(*_UNREACHABLE):
            self._exit.close()

    def there(self) -> list[DaskWorker]:
        """The workers that are there now. Raises RunError where the scheduler is lost."""
        with self.talking():
            workers = self._client.scheduler_info()["workers"]
        return [DaskWorker(address, worker["host"], worker["nthreads"], frozenset(worker.get("resources") or ()))
                for address, worker in sorted(workers.items())]

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Turns what a lost scheduler makes dask raise into one RunError.

        While dask tries to connect again it takes jobs and loses them, so nothing is sent then.
        """
        if self._client.status != "running":
            raise self.lost()
        try:
            yield
        except _UNREACHABLE as error:
            raise self.lost() from error

    def lost(self) -> RunError:
        return RunError(f"the scheduler at {self.address} was lost; finished trials are kept: run the same command "
                        "again")

    def _await_a_worker(self) -> None:
        deadline = time.monotonic() + JOIN_S
        while not self.there():
            if time.monotonic() > deadline:
                raise BadSpecError(f"the scheduler at {self.address} has no worker after {JOIN_S:.0f} s: start one by "
                                   f'dask worker {self.address} --nthreads 1 --resources "{LATENCY}=1"')
            time.sleep(0.1)

    def admit(self, there: Iterable[DaskWorker]) -> None:
        """Have workers that are new tell their versions. Raises BadSpecError where one differs from this process's.

        Python and dask come first, by dask's own words: with others there, a function that is sent could fail in any
        way. A worker without secost would die of its first job.
        """
        new = {worker.address for worker in there} - self._admitted
        if not new:
            return
        with self.talking():
            told_versions = cast("dict[str, Any]", self._client.get_versions())
        here, told = dask_jobs.python_versions(told_versions["client"]), told_versions["workers"]
        asked = sorted(new & set(told))
        for address in asked:
            refuse(address, dask_jobs.version_difference(dask_jobs.python_versions(told[address]), here))
        with self.talking():
            answers = self._client.run(dask_jobs.versions, workers=asked, on_error="return") if asked else {}
        for address, answer in answers.items():
            if isinstance(answer, OSError):  # it left
                continue
            if isinstance(answer, BaseException):  # dask may hand on the words only
                here_it_is = f"can't import secost: install secost {secost.__version__} there, as it is here"
                refuse(address, here_it_is if "No module named 'secost" in str(answer)
                       else f"can't tell its versions: {one_line(answer)}")
            refuse(address, dask_jobs.version_difference(answer, dask_jobs.versions()))
            self._admitted.add(address)

    def _answer(self, address: str, future: Promise) -> str | None:
        """What one worker says of itself. None, too, where it left meanwhile: then it does no job either."""
        while True:
            with self.talking():
                with suppress(asyncio.TimeoutError):
                    error = future.exception(timeout=LOOK_S)
                    break
            if address not in {worker.address for worker in self.there()}:
                return None
        if error is None:
            with self.talking():
                return cast("str | None", future.result())
        return f"is not fit: {one_line(error)}"

    def _forget(self, futures: Iterable[Promise]) -> None:
        left = list(futures)
        with suppress(*_UNREACHABLE):
            if left and self._client.status == "running":
                self._client.cancel(left, force=True)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client, closed in the end, and where it can't connect as well: one that is left to be collected closes itself
    in whatever thread that happens, and was seen to wait for ever there."""
    client: Any = Client.__new__(Client)
    try:
        _connect(client, address)
        yield client
    finally:
        with suppress(*_UNREACHABLE, AttributeError):  # which it lacks where it never got so far
            client.close(timeout=CONNECT_S)


def _connect(client: Any, address: str) -> None:
    try:
        client.__init__(address, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise BadSpecError(f"no scheduler answered at {address} within {CONNECT_S:.0f} s: {one_line(error)}; start one "
                           "by dask scheduler, or correct the address") from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadSpecError(f"the scheduler at {address} can't be reached: {one_line(error)}") from error


@contextmanager
def _local_cluster(workers: int) -> Iterator[str]:
    try:
        with dask.config.set(_LOCAL_CONFIG):
            cluster = _start_cluster(
                n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
                memory_limit=None, resources={LATENCY: 1}, silence_logs=logging.CRITICAL,
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                preload=[dask_jobs.__name__],
            )
    except RuntimeError as error:
        raise RunError(f"the {workers} workers could not be started ({one_line(error)}): a script of your own must "
                       "start them under if __name__ == '__main__'") from error
    try:
        yield str(cluster.scheduler_address)
    finally:
        cluster.close(timeout=CONNECT_S)


@contextmanager
def _silence() -> Iterator[None]:
    """Dask tells of dead workers and lost schedulers on stderr; here they are outcomes and errors."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

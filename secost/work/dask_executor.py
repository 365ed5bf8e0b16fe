"""Jobs on the workers of a dask cluster: a scheduler that the user started, or processes started here for the while.

Dask carries jobs to workers and carries them on where a worker dies. What is secost's own here: a host works on one
latency job alone (a lock of the operating system's, so it holds for all drivers of a cluster), workers with another
secost are refused, and a job that kills its workers is told from those that waited behind it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import os
import queue
import signal
import socket
import sys
import tempfile
import time
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import dask
from distributed import Client, Future, LocalCluster, get_worker
from distributed.client import ClosedClientError
from distributed.protocol import pickle as dask_pickle
from distributed.scheduler import KilledWorker

import secost
from secost.errors import BadSpecError, RunError, one_line
from secost.meters.environment import describe
from secost.work.executors import TRIES, Job, Outcome, WorkerLost, as_secost_error, outcome_of, worked

if sys.platform != "win32":
    import fcntl

__all__ = ["DaskExecutor"]

# Dask's own, which come without types.
Promise = Any
_start_cluster: Any = LocalCluster
_dumps: Any = dask_pickle.dumps
_loads: Any = dask_pickle.loads

CONNECT_S = 10.0
JOIN_S = 30.0  # until a first worker is there
PATIENCE_S = 300.0  # without a worker that can do what is left, before a run gives up
LOOK_S = 2.0  # between two looks at who is there
GATHER_S = 30.0  # for the answers of jobs that ended
WINDOW, WINDOW_PER_THREAD = 16, 4
_LATENCY, _GPU = "latency", "gpu"
_FAILED = ("error", "cancelled")  # dask's words for a future without an answer

# Of a cluster started here. A worker has the driver's environment and neither a limit of memory nor a sampling
# profiler: what is measured there is measured as it is here. The logs that grow with every job are kept short.
_LOCAL_CONFIG = {
    "distributed.scheduler.allowed-failures": TRIES - 1,
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 1000,
}

# What talking to a scheduler that is gone can raise; dask's errors of a broken connection are OSErrors.
_UNREACHABLE = (
    OSError, ClosedClientError, asyncio.TimeoutError, asyncio.CancelledError, concurrent.futures.CancelledError,
    RuntimeError,
)


class DaskExecutor:
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
                        "the executor dask was given neither a scheduler's address nor a number of workers: "
                        "give one of the two"
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
        packed, shared = _packed(work, arguments)
        with self.talking():
            asked = {
                worker.address: self._client.submit(
                    _examined, packed, *shared, key=f"secost-check-{uuid.uuid4().hex}", pure=False,
                    workers=[worker.address], allow_other_workers=False,
                )
                for worker in there
            }
        try:
            for address, future in asked.items():
                _refuse(address, self._answer(address, future))
        finally:
            self._forget(asked.values())

    def share(self, value: Any) -> Any:
        """A handle of a value. It is the result of a task, not scattered data: dask makes it anew where it is lost."""
        with self.talking(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            future = self._client.submit(_loads, _dumps(value), key=f"secost-shared-{uuid.uuid4().hex}", pure=False)
        self._shared.append(future)
        return future

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job, as it ends.

        Raises RunError where the scheduler is lost, or no worker that can do what is left is there for five minutes;
        BadSpecError for a job that no worker offers the resource for, and for a worker with other versions.
        """
        self._await_a_worker()
        run = _Run(self, self._client, iter(jobs))
        try:
            yield from run.outcomes()
        finally:
            self._forget(flight.future for flight in run.flights.values())

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here."""
        with suppress(*_UNREACHABLE):
            self._exit.close()

    def __enter__(self) -> DaskExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def there(self) -> list[_Worker]:
        """The workers that are there now. Raises RunError where the scheduler is lost."""
        with self.talking():
            found = self._client.scheduler_info()["workers"]
        return [
            _Worker(address, worker["host"], worker["nthreads"], frozenset(worker.get("resources") or ()))
            for address, worker in sorted(found.items())
        ]

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
        return RunError(
            f"the scheduler at {self.address} was lost; finished trials are kept: run the same command again"
        )

    def _await_a_worker(self) -> None:
        deadline = time.monotonic() + JOIN_S
        while not self.there():
            if time.monotonic() > deadline:
                raise BadSpecError(
                    f"the scheduler at {self.address} has no worker after {JOIN_S:.0f} s: start one by "
                    f'dask worker {self.address} --nthreads 1 --resources "{_LATENCY}=1"'
                )
            time.sleep(0.1)

    def admit(self, there: Iterable[_Worker]) -> None:
        """Have workers that are new tell their versions. Raises BadSpecError where one differs from this process's.

        Python and dask come first, by dask's own words: with others there, a function that is sent could fail in any
        way. A worker without secost would die of its first job.
        """
        new = {worker.address for worker in there} - self._admitted
        if not new:
            return
        with self.talking():
            found = cast("dict[str, Any]", self._client.get_versions())
        here, told = _of_python(found["client"]), found["workers"]
        asked = sorted(new & set(told))
        for address in asked:
            _refuse(address, _difference(_of_python(told[address]), here))
        with self.talking():
            answers = self._client.run(_versions, workers=asked, on_error="return") if asked else {}
        for address, answer in answers.items():
            if isinstance(answer, OSError):  # it left
                continue
            if isinstance(answer, BaseException):
                _refuse(address, _unfit(answer) or f"can't tell its versions: {one_line(answer)}")
            _refuse(address, _difference(answer, _versions()))
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


@dataclass(frozen=True)
class _Worker:
    address: str
    host: str
    threads: int
    resources: frozenset[str]


@dataclass
class _Flight:
    """A job on its way. `host` is where it is to be alone, `by_itself` that nothing else of this run is on its way."""

    job: Job
    future: Promise
    host: str | None
    by_itself: bool


@dataclass
class _Run:
    """One run: the jobs on their way, those kept aside until a host is free, and those that may kill their workers."""

    executor: DaskExecutor
    client: Any
    jobs: Iterator[Job]
    flights: dict[str, _Flight] = field(default_factory=dict)
    aside: deque[Job] = field(default_factory=deque)
    suspects: deque[Job] = field(default_factory=deque)
    ended: queue.SimpleQueue[Promise] = field(default_factory=queue.SimpleQueue)
    resent: Counter[str] = field(default_factory=Counter)
    offered: set[str] = field(default_factory=set)
    there: list[_Worker] = field(default_factory=list)
    name: str = field(default_factory=lambda: f"secost-{uuid.uuid4().hex}")
    sent: int = 0
    looked_s: float = 0.0
    unable_s: float | None = None

    def outcomes(self) -> Iterator[Outcome]:
        self.look()
        while True:
            self._fill()
            if not (self.flights or self.aside or self.suspects):
                return
            futures = self._await_some()
            yield from self._landed(futures)
            if time.monotonic() - self.looked_s > LOOK_S:
                self.look()
                self._check_that_some_can()
                self._take_back()

    def look(self) -> None:
        """Who is there now, and what they offer."""
        self.there, self.looked_s = self.executor.there(), time.monotonic()
        self.executor.admit(self.there)
        self.offered.update(*(worker.resources for worker in self.there))

    @property
    def window(self) -> int:
        return max(WINDOW, WINDOW_PER_THREAD * sum(worker.threads for worker in self.there))

    def _fill(self) -> None:
        """Sends what may be on its way now. A job that may kill its worker goes when no other is beside it."""
        if self.suspects or any(flight.by_itself for flight in self.flights.values()):
            if self.suspects and not self.flights:
                self._send(self.suspects.popleft(), by_itself=True)
            return
        self._send_aside()
        while len(self.flights) + len(self.aside) < self.window:
            job = next(self.jobs, None)
            if job is None:
                return
            self._check_offered(job)
            if job.alone:
                self.aside.append(job)
                self._send_aside()
            else:
                self._send(job)

    def _send_aside(self) -> None:
        """Jobs that are to be alone: one to each host, so that no worker waits while another host is free."""
        while self.aside and (not self.aside[0].alone or self._free_host(self.aside[0])):
            self._send(self.aside.popleft())

    def _free_host(self, job: Job) -> str | None:
        taken = {flight.host for flight in self.flights.values()}
        return next((worker.host for worker in self._able(job) if worker.host not in taken), None)

    def _able(self, job: Job) -> Iterator[_Worker]:
        return (worker for worker in self.there if worker.resources.issuperset(_resources(job)))

    def _check_offered(self, job: Job) -> None:
        missing = set(_resources(job)) - self.offered
        if missing:
            self.look()
        for name in sorted(missing - self.offered):
            raise BadSpecError(
                f"{job.label} needs a worker that offers the resource {name}, and none of {len(self.there)} does: "
                f'start workers with --resources "{name}=1"'
            )

    def _send(self, job: Job, by_itself: bool = False) -> None:
        host = self._free_host(job) if job.alone else None
        packed, shared = _packed(job.work, job.arguments)
        self._mend(shared)
        self.sent += 1
        key = f"{self.name}-{self.sent}"
        with self.executor.talking():
            future = self.client.submit(
                _carry_out, packed, _versions(), job.alone, *shared, key=key, pure=False,
                resources=_resources(job) or None, workers=host and self._of_host(job, host),
                allow_other_workers=False,
            )
        self.flights[key] = _Flight(job, future, host, by_itself)
        future.add_done_callback(self.ended.put)

    def _of_host(self, job: Job, host: str) -> list[str]:
        """Its name, which a worker started again still has; dask takes no bare IPv6 address."""
        return [host] if ":" not in host else [worker.address for worker in self._able(job) if worker.host == host]

    def _await_some(self) -> list[Promise]:
        """The jobs that ended, at least one; none where none does for a while."""
        try:
            ended = [self.ended.get(timeout=LOOK_S)]
        except queue.Empty:
            return []
        with suppress(queue.Empty):
            while True:
                ended.append(self.ended.get_nowait())
        return ended

    def _landed(self, futures: list[Promise]) -> Iterator[Outcome]:
        answers = self._gathered([future for future in futures if future.status not in _FAILED])
        for future in futures:
            answer = answers.get(future.key)
            if answer is None and future.status not in _FAILED:
                future.add_done_callback(self.ended.put)
                continue
            flight = self.flights.pop(str(future.key))
            outcome = self._told(flight, answer) if answer else self._failed(flight)
            future.release()
            if outcome is not None:
                yield outcome

    def _gathered(self, futures: list[Promise]) -> dict[str, Any]:
        """Answers by key, all in one message. None where a worker died with one, and dask has the job done again."""
        if not futures:
            return {}
        with self.executor.talking(), suppress(asyncio.TimeoutError):
            named = {future.key: future for future in futures}
            return dict(self.client.sync(self.client._gather, named, errors="skip", callback_timeout=GATHER_S))
        return {}

    def _told(self, flight: _Flight, answer: Mapping[str, Any]) -> Outcome:
        if "unfit" in answer:
            _refuse(answer["worker"], answer["unfit"])
        return outcome_of(flight.job, answer, answer["host"], answer["environment"])

    def _failed(self, flight: _Flight) -> Outcome | None:
        """The outcome of a job that gave no answer; None where it is tried again."""
        if flight.future.status != "error":
            return self._cancelled(flight)
        with self.executor.talking():
            error = flight.future.exception()
        if isinstance(error, KilledWorker):
            return self._killed(flight, error)
        return Outcome(flight.job, error=as_secost_error(error or RunError("dask gave no reason")))

    def _killed(self, flight: _Flight, error: Any) -> Outcome | None:
        """Dask counts a death against all that waited at the worker. So a job is lost only if it dies by itself."""
        innocent = str(error.task) != str(flight.future.key) and self.resent[flight.job.label] < TRIES
        if innocent:  # a value that it shares with others was given up, by a death beside it
            self.resent[flight.job.label] += 1
        if innocent or not flight.by_itself:
            self.suspects.append(flight.job)
            return None
        return Outcome(flight.job, error=WorkerLost(
            f"{flight.job.label} was given up: every worker that it was tried on died (is there enough memory?)"
        ))

    def _mend(self, shared: Sequence[Promise]) -> None:
        """Shared values that dask gave up, as workers died that held them, are made again."""
        broken = [future for future in shared if future.status == "error"]
        if broken:
            with self.executor.talking():
                self.client.retry(broken)

    def _cancelled(self, flight: _Flight) -> Outcome | None:
        """Dask's own doing, or the user's by another client, or the scheduler is gone."""
        if self.client.status != "running" or _reason(flight.future) == "scheduler-connection-lost":
            raise self.executor.lost()
        self.resent[flight.job.label] += 1
        if self.resent[flight.job.label] > TRIES:
            return Outcome(flight.job, error=WorkerLost(f"{flight.job.label} was cancelled {TRIES} times on its way"))
        (self.suspects if flight.by_itself else self.aside).append(flight.job)
        return None

    def _check_that_some_can(self) -> None:
        """Gives up where for long no worker was there that could do any of what is left."""
        waiting = [flight.job for flight in self.flights.values()] + [*self.aside, *self.suspects]
        if not waiting or any(next(self._able(job), None) for job in waiting):
            self.unable_s = None
            return
        self.unable_s = self.unable_s or self.looked_s
        if self.looked_s - self.unable_s > PATIENCE_S:
            raise RunError(
                f"no worker of {self.executor.address} that could go on was there for {PATIENCE_S:.0f} s; finished "
                "trials are kept: start workers, then run the same command again"
            )

    def _take_back(self) -> None:
        """What waits for a host that left goes to another one."""
        left = [
            flight.future for flight in self.flights.values()
            if flight.host and flight.host not in {worker.host for worker in self._able(flight.job)}
        ]
        if left and self.there:
            with self.executor.talking():
                self.client.cancel(left, force=True)


def _resources(job: Job) -> dict[str, int]:
    return {name: 1 for name, needed in ((_LATENCY, job.alone), (_GPU, job.gpu)) if needed}


def _reason(future: Promise) -> str | None:
    return getattr(getattr(future._state, "exception", None), "reason", None)


# --- on a worker ---


class _Place:
    """Where a shared value goes among the arguments."""


def _packed(work: Callable[..., Any], arguments: Iterable[Any]) -> tuple[bytes, list[Promise]]:
    """Work and arguments as bytes, and the handles among these. Dask must not unpack them: a worker that fails at it
    dies, and dask would look through lists and dicts for tasks."""
    arguments = tuple(arguments)
    shared = [value for value in arguments if isinstance(value, Future)]
    try:
        return _dumps((work, tuple(_Place() if isinstance(value, Future) else value for value in arguments))), shared
    except Exception as error:
        raise BadSpecError(f"{work!r} with its arguments can't be sent to a worker: {one_line(error)}") from error


def _called(packed: bytes, shared: Iterable[Any]) -> Any:
    work, arguments = _loads(packed)
    given = iter(shared)
    return work(*(next(given) if isinstance(value, _Place) else value for value in arguments))


def _carry_out(packed: bytes, driver: Mapping[str, str], alone: bool, *shared: Any) -> dict[str, Any]:
    """What a job came to, as `worked` tells it, and where. Raises nothing, so that dask retries for dead workers only.

    Versions are compared with every job: a worker may join, or be replaced by another one, at any time.
    """
    if line := _difference(_versions(), driver):
        return {"unfit": line, "worker": get_worker().address}
    try:
        with _host(alone):
            answer = worked(_called, (packed, shared))
    except OSError as error:
        answer = worked(_no_lock, (one_line(error),))
    return {**answer, **_whereabouts()}


def _no_lock(reason: str) -> None:
    raise RunError(f"the host's lock can't be had in {tempfile.gettempdir()}: {reason}")


def _whereabouts() -> dict[str, Any]:
    return {"host": socket.gethostname(), "environment": _environment("torch" in sys.modules)}


@functools.cache
def _environment(with_torch: bool) -> dict[str, Any]:
    """Read once, and again when torch is there: it knows the GPU."""
    return describe()


def _examined(packed: bytes, *shared: Any) -> str | None:
    """What is wrong with this worker, in words that go on after its name."""
    try:
        line = _called(packed, shared)
    except (Exception, SystemExit) as error:  # not every one of ours can be sent: their constructors differ
        line = one_line(error)
    return None if line is None else f"is not fit: {line}"


@contextmanager
def _host(alone: bool) -> Iterator[None]:
    """The host for this job: shared with other jobs of this user, or alone. Waits until it can be had.

    Everybody passes the gate, and who is to be alone waits in it: those who come later wait behind, so the wait is over
    when the jobs end that were in already. A lock goes with its process, whatever ends it.
    """
    if sys.platform == "win32":
        yield
        return
    with _lock_file("room") as room:
        with _lock_file("gate") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@contextmanager
def _lock_file(name: str) -> Iterator[int]:
    """Unlocked in so many words: a child that was forked meanwhile has the file open too, and would keep the lock."""
    path = Path(tempfile.gettempdir()) / f"secost-{os.getuid()}.{name}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


# --- versions ---


def _of_python(found: Mapping[str, Any]) -> dict[str, str]:
    packages = found["packages"]
    return {
        "Python": ".".join(str(packages["python"]).split(".")[:2]), "distributed": str(packages["distributed"]),
    }


def _versions() -> dict[str, str]:
    """What a worker and the driver must have the same of; a build of torch (+cpu, +cu130) is the machine's business."""
    return {"secost": secost.__version__, "torch": _of_torch()}


@functools.cache
def _of_torch() -> str:
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def _difference(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    for name, ours in here.items():
        if there[name] != ours:
            return f"has {name} {there[name]}, and here it is {ours}: give both the same installation"
    return None


def _unfit(error: BaseException) -> str | None:
    if "No module named 'secost" in str(error):  # dask may hand on the words only
        return f"can't import secost: install secost {secost.__version__} there, as it is here"
    return None


def _refuse(address: str, line: str | None) -> None:
    if line is not None:
        raise BadSpecError(f"worker {address} {line}")


# --- connecting ---


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
        raise BadSpecError(
            f"no scheduler answered at {address} within {CONNECT_S:.0f} s: {one_line(error)}; start one by "
            "dask scheduler, or correct the address"
        ) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadSpecError(f"the scheduler at {address} can't be reached: {one_line(error)}") from error


@contextmanager
def _local_cluster(workers: int) -> Iterator[str]:
    try:
        with dask.config.set(_LOCAL_CONFIG):
            cluster = _start_cluster(
                n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
                memory_limit=None, resources={_LATENCY: 1}, silence_logs=logging.CRITICAL,
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"}, preload=[__name__],
            )
    except RuntimeError as error:
        raise RunError(
            f"the {workers} workers could not be started ({one_line(error)}): a script of your own must start them "
            "under if __name__ == '__main__'"
        ) from error
    try:
        yield str(cluster.scheduler_address)
    finally:
        cluster.close(timeout=CONNECT_S)


def dask_setup(worker: object) -> None:
    """Dask calls this in workers started here. A Ctrl-C is the driver's to hear, and it ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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

"""A job's way to a worker of a dask cluster and back: the driver's run of jobs, and what of secost runs on a worker.

Dask carries jobs to workers and carries them on where a worker dies. What is secost's own here: a host works on one
latency job alone (by a lock of the operating system's, so it holds for all drivers of a cluster), a job that kills its
workers is told from those that waited behind it, and a worker with another secost is refused with every job.
"""

from __future__ import annotations

import asyncio
import functools
import os
import queue
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Future, get_worker
from distributed.protocol import pickle as dask_pickle
from distributed.scheduler import KilledWorker

import secost
from secost.errors import BadSpecError, RunError, one_line
from secost.meters.environment import describe
from secost.work.executors import TRIES, Job, Outcome, WorkerLost, as_secost_error, outcome_of, worked

if TYPE_CHECKING:
    from secost.work.dask_executor import DaskExecutor

if sys.platform != "win32":
    import fcntl

PATIENCE_S = 300.0  # without a worker that can do what is left, before a run gives up
LOOK_S = 2.0  # between two looks at who is there
GATHER_S = 30.0  # for the answers of jobs that ended
WINDOW, WINDOW_PER_THREAD = 16, 4
LATENCY, _GPU = "latency", "gpu"
_FAILED = ("error", "cancelled")  # dask's words for a future without an answer
# Dask's own, which come without types.
Promise = Any
dumps: Any = dask_pickle.dumps
loads: Any = dask_pickle.loads


@dataclass(frozen=True)
class DaskWorker:
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
class DaskRun:
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
    there: list[DaskWorker] = field(default_factory=list)
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

    def _fill(self) -> None:
        """Sends what may be on its way now. A job that may kill its worker goes when no other is beside it."""
        if self.suspects or any(flight.by_itself for flight in self.flights.values()):
            if self.suspects and not self.flights:
                self._send(self.suspects.popleft(), by_itself=True)
            return
        self._send_aside()
        while len(self.flights) + len(self.aside) < max(WINDOW, WINDOW_PER_THREAD * sum(w.threads for w in self.there)):
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

    def _able(self, job: Job) -> Iterator[DaskWorker]:
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
        packed, shared = pack(job.work, job.arguments)
        self.sent += 1
        key = f"{self.name}-{self.sent}"
        with self.executor.talking():
            # Shared values that dask gave up, as workers died that held them, are made again.
            if broken := [future for future in shared if future.status == "error"]:
                self.client.retry(broken)
            future = self.client.submit(
                carry_out, packed, versions(), job.alone, *shared, key=key, pure=False, allow_other_workers=False,
                resources=_resources(job) or None, workers=host and self._of_host(job, host),
            )
        self.flights[key] = _Flight(job, future, host, by_itself)
        future.add_done_callback(self.ended.put)

    def _of_host(self, job: Job, host: str) -> list[str]:
        """Its name, which a worker started again still has; dask takes no bare IPv6 address."""
        return [host] if ":" not in host else [worker.address for worker in self._able(job) if worker.host == host]

    def _await_some(self) -> list[Promise]:
        """The jobs that ended, at least one; none where none does for a while."""
        ended: list[Promise] = []
        with suppress(queue.Empty):
            ended.append(self.ended.get(timeout=LOOK_S))
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
            refuse(answer["worker"], answer["unfit"])
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

    def _cancelled(self, flight: _Flight) -> Outcome | None:
        """Dask's own doing, or the user's by another client, or the scheduler is gone."""
        reason = getattr(getattr(flight.future._state, "exception", None), "reason", None)
        if self.client.status != "running" or reason == "scheduler-connection-lost":
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
        left = [flight.future for flight in self.flights.values()
                if flight.host and flight.host not in {worker.host for worker in self._able(flight.job)}]
        if left and self.there:
            with self.executor.talking():
                self.client.cancel(left, force=True)


def _resources(job: Job) -> dict[str, int]:
    return {name: 1 for name, needed in ((LATENCY, job.alone), (_GPU, job.gpu)) if needed}


# --- on a worker ---


class _Place:
    """Where a shared value goes among the arguments."""


def pack(work: Callable[..., Any], arguments: Iterable[Any]) -> tuple[bytes, list[Promise]]:
    """Work and arguments as bytes, and the handles among these. Dask must not unpack them: a worker that fails at it
    dies, and dask would look through lists and dicts for tasks."""
    arguments = tuple(arguments)
    shared = [value for value in arguments if isinstance(value, Future)]
    try:
        return dumps((work, tuple(_Place() if isinstance(value, Future) else value for value in arguments))), shared
    except Exception as error:
        raise BadSpecError(f"{work!r} with its arguments can't be sent to a worker: {one_line(error)}") from error


def _called(packed: bytes, shared: Iterable[Any]) -> Any:
    work, arguments = loads(packed)
    given = iter(shared)
    return work(*(next(given) if isinstance(value, _Place) else value for value in arguments))


def carry_out(packed: bytes, driver: Mapping[str, str], alone: bool, *shared: Any) -> dict[str, Any]:
    """What a job came to, as `worked` tells it, and where. Raises nothing, so that dask retries for dead workers only.

    Versions are compared with every job: a worker may join, or be replaced by another one, at any time.
    """
    if line := version_difference(versions(), driver):
        return {"unfit": line, "worker": get_worker().address}
    try:
        with on_host(alone):
            answer = worked(_called, (packed, shared))
    except OSError as error:
        answer = worked(_no_lock, (one_line(error),))
    return {**answer, "host": socket.gethostname(), "environment": _environment("torch" in sys.modules)}


def _no_lock(reason: str) -> None:
    raise RunError(f"the host's lock can't be had in {tempfile.gettempdir()}: {reason}")


@functools.cache
def _environment(with_torch: bool) -> dict[str, Any]:
    """Read once, and again when torch is there: it knows the GPU."""
    return describe()


def examined(packed: bytes, *shared: Any) -> str | None:
    """What is wrong with this worker, in words that go on after its name."""
    try:
        line = _called(packed, shared)
    except (Exception, SystemExit) as error:  # not every one of ours can be sent: their constructors differ
        line = one_line(error)
    return None if line is None else f"is not fit: {line}"


@contextmanager
def on_host(alone: bool) -> Iterator[None]:
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


def dask_setup(worker: object) -> None:
    """Dask calls this in workers started here. A Ctrl-C is the driver's to hear, and it ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- versions ---


def python_versions(told: Mapping[str, Any]) -> dict[str, str]:
    python, distributed = str(told["packages"]["python"]), str(told["packages"]["distributed"])
    return {"Python": ".".join(python.split(".")[:2]), "distributed": distributed}


def versions() -> dict[str, str]:
    """What a worker and the driver must have the same of; a build of torch (+cpu, +cu130) is the machine's business."""
    return {"secost": secost.__version__, "torch": _of_torch()}


@functools.cache
def _of_torch() -> str:
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def version_difference(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    for name, ours in here.items():
        if there[name] != ours:
            return f"has {name} {there[name]}, and here it is {ours}: give both the same installation"
    return None


def refuse(address: str, line: str | None) -> None:
    if line is not None:
        raise BadSpecError(f"worker {address} {line}")

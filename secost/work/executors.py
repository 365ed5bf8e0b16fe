"""Where jobs are run: in this process, in forked children, or on a cluster; and the registry of the ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from secost.errors import BadSpecError, MissingExtraError, RunError, one_line
from secost.meters.processes import ChildError, as_they_end, can_fork, in_child
from secost.registry import Registry
from secost.work.jobs import TRIES, Executor, Job, Outcome, WorkerLost, as_secost_error, outcome_of, plain_value, worked

__all__ = ["EXECUTORS", "LOCAL", "Executor", "Job", "LocalExecutor", "Outcome", "WorkerLost", "open_executor"]

LOCAL = "local"
_PATIENCE_S = 7 * 86_400.0
EXECUTORS: Registry[Callable[..., Executor]] = Registry("executor")


def open_executor(name: str = LOCAL, workers: int | None = None, address: str | None = None) -> Executor:
    """The executor of that name; close it, or use it in `with`.

    `workers`: processes on this machine. `address`: a scheduler that the user started. Raises UnknownNameError for the
    name, BadSpecError for a number or an address that can't be, MissingExtraError where a package is missing.
    """
    factory = EXECUTORS.get(name)
    if workers is not None and workers < 1:
        raise BadSpecError(f"{workers} workers are not possible: give 1 or more")
    if workers is not None and address is not None:
        raise BadSpecError(
            f"both {workers} workers and the scheduler {address} were given: its workers are those started for it, "
            "leave one of the two out"
        )
    return factory(workers=workers, address=address)


class LocalExecutor(Executor):
    """One worker is this process itself, jobs in their order; more are forked children, one a job.

    A job that is to be alone, or on the GPU (which does not survive a fork), is worked on in this process while no
    child runs. Where children can't be forked, all are.
    """

    name = LOCAL
    workers = 1

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def check(self, work: Callable[..., str | None], *arguments: Any) -> None:
        """Look once, here: all workers are this machine."""
        line = work(*arguments)
        if line is not None:
            raise BadSpecError(line)

    def share(self, value: Any) -> Any:
        """The value itself: children inherit it."""
        return value

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job. Where the caller stops or closes the iterator, the children are ended."""
        if self.workers == 1 or not can_fork():
            yield from map(_in_this_process, jobs)
            return
        left = iter(jobs)
        while True:
            apart: list[Job] = []
            yield from as_they_end(_forkable(left, apart), self.workers)
            if not apart:
                return
            yield _in_this_process(apart[0])

    def close(self) -> None:
        """Nothing was started that outlives `run`."""


def _forkable(jobs: Iterator[Job], apart: list[Job]) -> Iterator[Callable[[], Outcome]]:
    """Work for children up to the first job that is none; that one is put into `apart`."""
    for job in jobs:
        if job.alone or job.gpu:
            apart.append(job)
            return
        yield partial(_in_children, job)


def _in_this_process(job: Job) -> Outcome:
    began_s = time.time()
    try:
        value, error = plain_value(job.work(*job.arguments)), None
    except (Exception, SystemExit) as raised:
        value, error = None, as_secost_error(raised)
    return Outcome(job, value, error, began_s=began_s, ended_s=time.time())


def _in_children(job: Job) -> Outcome:
    """In one child, and in another where that dies. What the work raises comes back as a value, so it is no death."""
    death = ""
    for _ in range(TRIES):
        try:
            return outcome_of(job, in_child(partial(worked, job.work, job.arguments), _PATIENCE_S))
        except ChildError as error:
            death = one_line(error)
        except RunError as error:
            return Outcome(job, error=error)
    return Outcome(job, error=WorkerLost(f"{job.label} was tried {TRIES} times, at last {death}"))


def _open_local(workers: int | None, address: str | None) -> Executor:
    if address is not None:
        raise BadSpecError(f"the local executor has no scheduler, but {address} was given: choose the executor dask")
    return LocalExecutor(workers or 1)


def _open_dask(workers: int | None, address: str | None) -> Executor:
    try:
        from secost.work.dask_executor import DaskExecutor
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("dask", "distributed"):
            raise MissingExtraError("dask.distributed", "cluster", "the executor dask") from error
        raise
    return DaskExecutor(workers, address)


EXECUTORS.register(LOCAL, _open_local)
EXECUTORS.register("dask", _open_dask)

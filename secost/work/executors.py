"""A job, what it came to, what an executor is, and the executor of this machine; `run` opens it or a cluster's.

A job is a module-level function with plain arguments, and what it returns is a plain JSON value: forked children
answer in JSON, and every executor gives the same (a tuple comes back as a list). What a job raises is its outcome's
`error`: as it is where it is a SecostError, otherwise a RunError with its words. `run` itself raises only where nothing
more can be run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

from secost.errors import BadSpecError, RunError, SecostError, one_line
from secost.meters.processes import ChildError, as_they_end, can_fork, in_child
from secost.registry import Registry

LOCAL = "local"
TRIES = 3  # of a job whose process dies: a neighbour may have taken the memory once, hardly three times
_PATIENCE_S = 7 * 86_400.0


class WorkerLost(SecostError):
    """The process that worked on a job died, each time that it was tried."""


@dataclass(frozen=True)
class Job:
    """One piece of work. `work` is found by its module and name, so it is no lambda and no method.

    `arguments` are plain data; a handle from `share`, as an argument of its own, stands for the shared value. `alone`:
    nothing else of secost works on its host meanwhile. `gpu`: it needs a worker with a GPU.
    """

    label: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    alone: bool = False
    gpu: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a job came to: a value or an error, where, and when (seconds since 1970 by the host's clock).

    `host` and `environment` (of `meters.environment.describe`) are None where this machine worked on it. Both are None
    too, and the times 0, where no process lived to tell them.
    """

    job: Job
    value: Any = None
    error: Exception | None = None
    host: str | None = None
    began_s: float = 0.0
    ended_s: float = 0.0
    environment: Mapping[str, Any] | None = None


class Executor(Protocol):
    """Where jobs are run. A third party adds its own by `EXECUTORS.register`; test_executors.py is the contract.

    `workers` tells how many jobs can be worked on at a time.
    """

    @property
    def name(self) -> str: ...

    @property
    def workers(self) -> int: ...

    def check(self, work: Callable[..., str | None], *arguments: Any) -> None:
        """Have every worker look whether jobs can be run there: `work` returns None, or what is wrong in a line.

        Comes before any job. Raises BadSpecError with that line, and the worker's name where there are several.
        """

    def share(self, value: Any) -> Any:
        """A handle of a value for the arguments of many jobs: it goes to each worker once, not with every job."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job, as it ends. Jobs are taken as they are needed: few more than are worked on."""

    def close(self) -> None:
        """End what was started. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


EXECUTORS: Registry[Callable[..., Executor]] = Registry("executor")


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


# --- what comes back from another process ---


def plain_value(value: Any) -> Any:
    """The value as it comes back from another process. Raises RunError where it is no JSON value."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"a job may return plain JSON values only: {one_line(error)}") from error


def as_secost_error(error: BaseException) -> SecostError:
    """The error, or a RunError with its words where it is none of ours."""
    if isinstance(error, SecostError):
        return error
    ours = RunError(one_line(error))
    ours.__cause__ = error
    return ours


def worked(work: Callable[..., Any], arguments: Iterable[Any]) -> dict[str, Any]:
    """In the process that works: what a job came to, as a JSON value, errors as well."""
    began_s = time.time()
    try:
        answer: dict[str, Any] = {"value": plain_value(work(*arguments))}
    except (Exception, SystemExit) as error:
        ours = as_secost_error(error)
        # Its message, and its classes by name, the nearest first.
        kinds = [_name_of(kind) for kind in type(ours).__mro__ if issubclass(kind, SecostError)]
        answer = {"failed": {"message": " ".join(str(ours).split()), "kinds": kinds}}
    return {**answer, "began_s": began_s, "ended_s": time.time()}


def outcome_of(
    job: Job, answer: Mapping[str, Any], host: str | None = None, environment: Mapping[str, Any] | None = None
) -> Outcome:
    """The outcome that `worked` told of in another process."""
    error = None
    if "failed" in answer:  # again of the nearest class that is loaded here, with its whole message: none may add to it
        message, kinds = answer["failed"]["message"], answer["failed"]["kinds"]
        known = {_name_of(kind): kind for kind in _all_kinds(SecostError)}
        kind = next((known[name] for name in kinds if name in known), RunError)
        error = kind.__new__(kind)
        error.args = (message,)
    return Outcome(job, answer.get("value"), error, host, answer["began_s"], answer["ended_s"], environment)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _all_kinds(kind: type[SecostError]) -> Iterator[type[SecostError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_kinds(below)

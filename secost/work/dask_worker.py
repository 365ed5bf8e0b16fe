"""What of secost runs on a dask worker: a job's work in its place, the host's lock, and the versions it must share.

Latency is measured by one job alone on a host: a lock of the operating system's, so it holds for all drivers of a
cluster. A worker with another secost is refused with every job.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distributed import Future, get_worker
from distributed.protocol import pickle as dask_pickle

import secost
from secost.errors import BadSpecError, RunError, one_line
from secost.meters.environment import describe
from secost.work.jobs import worked

if sys.platform != "win32":
    import fcntl

# Dask's own, which come without types.
Promise = Any
dumps: Any = dask_pickle.dumps
loads: Any = dask_pickle.loads


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
    return {**answer, **_whereabouts()}


def _no_lock(reason: str) -> None:
    raise RunError(f"the host's lock can't be had in {tempfile.gettempdir()}: {reason}")


def _whereabouts() -> dict[str, Any]:
    return {"host": socket.gethostname(), "environment": _environment("torch" in sys.modules)}


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
    packages = told["packages"]
    return {
        "Python": ".".join(str(packages["python"]).split(".")[:2]), "distributed": str(packages["distributed"]),
    }


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


def unfit_reason(error: BaseException) -> str | None:
    if "No module named 'secost" in str(error):  # dask may hand on the words only
        return f"can't import secost: install secost {secost.__version__} there, as it is here"
    return None


def refuse(address: str, line: str | None) -> None:
    if line is not None:
        raise BadSpecError(f"worker {address} {line}")

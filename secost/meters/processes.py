"""One piece of work in a process of its own: forked, so that nothing is imported or loaded again.

What a process happens to get (pages, addresses, a processor) changes how fast a network is in it, so one process can't
tell how fast the network is. A crash in a child is one line in the parent. Results come back as JSON, through a pipe.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn, TypeVar

from secost.errors import RunError, SecostError, one_line

_CHUNK = 1 << 16
Result = TypeVar("Result")
_POLL_S = 0.2
_forking = threading.Lock()  # a child that inherits another's pipe would keep it open
_pool = threading.local()


class ChildError(SecostError):
    """The work in a child failed: its own reason, or the signal that ended it."""


def can_fork() -> bool:
    """Whether children can be forked here. macOS has fork, but its system libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform.startswith("linux")


def as_they_end(works: Iterable[Callable[[], Result]], jobs: int) -> Iterator[Result]:
    """What each work returns, as it ends, `jobs` of them at a time, each in a thread that may fork a child for it.

    Works are taken as they are needed, twice as many as are worked on, so that no thread waits for the caller. Where
    the caller is stopped, the children are ended.
    """
    left, jobs, stop = iter(works), max(1, jobs), threading.Event()
    with ThreadPoolExecutor(jobs, initializer=lambda: setattr(_pool, "stop", stop)) as pool:
        waiting: set[Future[Result]] = set()
        try:
            while True:
                waiting |= {pool.submit(work) for work in islice(left, 2 * jobs - len(waiting))}
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BaseException:
            stop.set()
            raise
        finally:
            for future in waiting:
                future.cancel()


def in_child(work: Callable[[], Any], timeout_s: float) -> Any:
    """The JSON value that `work` returns, run in a forked process while this one sleeps.

    Raises ChildError with the reason in one line where the work raised, was killed, or took longer than `timeout_s`.
    The fork is made by a fresh thread: OpenMP keeps its pool of threads by the thread that started it, and a child
    that inherited a pool without its threads would wait for them for ever.
    """
    children: list[tuple[int, int]] = []

    def fork() -> None:
        with _forking, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: forking beside threads
            reader, writer = os.pipe()
            try:
                pid = os.fork()
            except OSError:
                os.close(reader)
            else:
                if pid == 0:
                    os.close(reader)
                    _work_and_leave(work, writer)
                children.append((pid, reader))
            os.close(writer)

    sys.stdout.flush()
    sys.stderr.flush()
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    if not children:
        raise RunError("no process could be started for measuring: free some memory, or raise the limit of processes")
    pid, reader = children[0]
    try:
        text = _read_all(reader, time.monotonic() + timeout_s)
    except BaseException:  # also when the user stops the run: no child is left behind
        _end(pid)
        raise
    finally:
        os.close(reader)
    return _result(text, pid, timeout_s)


def _work_and_leave(work: Callable[[], Any], writer: int) -> NoReturn:
    """In the child: never returns, and runs nothing of what the parent would do at its own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends the child
    try:
        text = json.dumps({"value": work()})
    except BaseException as error:
        text = json.dumps({"error": one_line(error)})
    with suppress(OSError), os.fdopen(writer, "w") as pipe:
        pipe.write(text)
    os._exit(0)


def _read_all(reader: int, deadline: float) -> str | None:
    """Everything until the child closes its end; None where the deadline comes first."""
    chunks: list[bytes] = []
    stop: threading.Event | None = getattr(_pool, "stop", None)
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([reader], [], [], left_s if stop is None else min(left_s, _POLL_S))
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        if ready:
            chunk = os.read(reader, _CHUNK)
            if not chunk:
                return b"".join(chunks).decode()
            chunks.append(chunk)
        elif time.monotonic() >= deadline:
            return None


def _result(text: str | None, pid: int, timeout_s: float) -> Any:
    if text is None:
        _end(pid)
        raise ChildError(f"the measuring process gave no result in {timeout_s:.0f} s and was ended")
    _, status = os.waitpid(pid, 0)
    if not text:
        ending = f"exit status {os.waitstatus_to_exitcode(status)}"
        if os.WIFSIGNALED(status):
            ending = signal.Signals(os.WTERMSIG(status)).name
        hint = " (is there enough memory?)" if ending == "SIGKILL" else ""
        raise ChildError(f"the measuring process was ended by {ending}{hint}")
    answer = json.loads(text)
    if "error" in answer:
        raise ChildError(answer["error"])
    return answer["value"]


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)

"""What the tests of executors have done elsewhere: workers find these functions by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from secost.errors import BadSpecError, UnknownNameError


def nothing() -> None:
    return None


def double(number: int) -> int:
    return 2 * number


def shape() -> dict[str, Any]:
    return {"pair": (1, 2.5), "none": None}


def no_json() -> object:
    return object()


def refuse() -> None:
    raise BadSpecError("this was\nasked wrongly")


def misspell() -> None:
    raise UnknownNameError("attention", "ec", ["se", "eca"])


def divide() -> float:
    return 1 / 0


def leave() -> None:
    raise SystemExit(3)


def length(values: list[int], factor: int) -> int:
    return factor * len(values)


def process() -> int:
    return os.getpid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def note_and_wait_for(own: str, other: str) -> int:
    """Leaves a file with its process and waits for another."""
    part = Path(f"{own}.part")
    part.write_text(str(os.getpid()))
    part.rename(own)
    while not Path(other).exists():
        time.sleep(0.01)
    return os.getpid()


def fine(values: list[int]) -> str | None:
    return None if values == [1, 2, 3] else f"got {values}"


def not_fine() -> str | None:
    return "the data set is not there"


def kill_own_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_own_process_once(file: str) -> int:
    """Dies the first time only: the file tells that it was here already."""
    path = Path(file)
    if not path.exists():
        path.touch()
        kill_own_process()
    return 1

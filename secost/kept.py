"""What is made once and kept between runs, in the user's cache folder: traces, counts, rates of this machine.

A kept value is plain JSON under its checksum. Its file appears whole or not at all; one that is missing, damaged, of
another form or can't be written is as good as none, and is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")


def cache_folder() -> Path | None:
    """`$SECOST_CACHE`, else the user's cache folder; None where nothing is to be kept: it is set to nothing."""
    chosen = os.environ.get("SECOST_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secost"
    except RuntimeError:  # no home folder can be told
        return None


def kept_file(kind: str, key: str) -> Path | None:
    """Where the value of that kind and key is kept, there or not; None where nothing is to be kept."""
    folder = cache_folder()
    return None if folder is None else folder / kind / f"{key}.json"


def read_kept(path: Path | None, restore: Callable[[Any], Value]) -> Value | None:
    """What `restore` makes of the value in a file. It may raise ValueError, TypeError or KeyError for a wrong one."""
    if path is None:
        return None
    try:
        checksum, _, text = path.read_text(encoding="utf-8").partition("\n")
        return restore(json.loads(text)) if checksum == _checksum(text) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def write_kept(path: Path | None, value: Any) -> None:
    """Keep a plain JSON value."""
    if path is None:
        return
    text = json.dumps(value, separators=(",", ":"))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{_checksum(text)}\n{text}")
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

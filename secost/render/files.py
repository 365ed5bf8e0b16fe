"""The one place where pages are written to a directory, each file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from secost.cleaning import slug
from secost.errors import RunError


def write_files(directory: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write every file by name. Raises RunError where the directory can't be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [_write(directory / slug(name), content) for name, content in files.items()]
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"can't write the report to {str(directory)!r}: {reason}") from error


def _write(path: Path, content: bytes) -> Path:
    """Write beside the target and move over it: a reader sees the old file or the new one, and a symbolic link that
    stands at the target is replaced, not followed."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""The SQLite file of a run and the folder around it: made, locked, checked and recovered, and what is written in it.

SQLite's rollback journal and its locks are the crash safety; what SQLite lacks, a checksum a row, is added here: of 400
single flipped bits 259 changed a value unseen. Not the write-ahead log: SQLite before 3.51.3 can lose committed rows
there, and `records.sqlite` copied without its -wal file is empty. Nothing in a file from elsewhere is trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from secost.errors import RunError, one_line
from secost.runs.records import strict_json

if sys.platform != "win32":
    import fcntl

DATABASE = "records.sqlite"
STORE_SCHEMA = 1
APPLICATION_ID = 0x5EC057
OLDEST_SQLITE = (3, 37, 0)  # the first with STRICT tables
BUSY_TIMEOUT_S = 30.0
MAX_BYTES = 1 << 30  # of a database: 300,000 records of 3 kB; more is no run of ours
MAX_ROW_BYTES = 1 << 26
PAGE_BYTES = 4096

# No index and no UNIQUE column on purpose: an index is a second copy of the keys that quick_check does not compare,
# so one flipped bit there would hide a row. `position` is the place in the plan and so stands for the key.
TABLES = {
    "documents": "CREATE TABLE documents (name TEXT PRIMARY KEY, body TEXT NOT NULL, checksum TEXT NOT NULL) "
    "STRICT, WITHOUT ROWID",
    "records": "CREATE TABLE records (position INTEGER PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL, "
    "checksum TEXT NOT NULL) STRICT",
}

_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")

# POSIX drops all locks that a process has on a file when it closes any descriptor of that file. So no thread may read
# the header of a database while another is in the middle of a commit.
COMMITTING = threading.RLock()

_REASONS = {
    "SQLITE_FULL": "the disk is full: make room and run the same command again, what was stored is kept",
    "SQLITE_IOERR": "the disk is full or failing: make room and run the same command again, what was stored is kept",
    "SQLITE_BUSY": "another program keeps it locked: end that program, then run the same command again",
    "SQLITE_READONLY_DBMOVED": "it was moved or deleted while the run went on: put it back, or start the command again",
    "SQLITE_READONLY": "it can't be written: change its permissions or choose another folder",
    "SQLITE_CANTOPEN": "it can't be opened or written there: change the permissions or choose another folder",
    "SQLITE_CORRUPT": "it is damaged: restore a copy",
    "SQLITE_NOTADB": "it is no SQLite database, or its beginning is damaged: restore a copy or choose another folder",
    "SQLITE_TOOBIG": f"a value is larger than {MAX_ROW_BYTES >> 20} MiB",
}

# What reading a value that another program wrote can raise.
UNREADABLE = (RunError, TypeError, ValueError, RecursionError)


# --- the folder ---


def make_directory(directory: Path, undo: ExitStack) -> None:
    """Makes the folder and what is missing above it, on the disk before anything is stored in it."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        undo.callback(_forgiving, folder.rmdir)
        _sync_directory(folder.parent)
    if not directory.is_dir():
        raise RunError(f"{str(directory)!r} is a file, and a run is a folder: choose another place")


def _sync_directory(directory: Path) -> None:
    """Without it a power cut could take the new folder, with all records in it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no fsync for folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(directory: Path, undo: ExitStack) -> int | None:
    """Locks the folder itself: no lock file is left over, and the kernel frees the lock of a killed process.

    A child made by a bare fork shares the lock until it ends; one made by `subprocess` does not.
    """
    if sys.platform == "win32":  # pragma: no cover - no such lock there; SQLite's still keeps two writers apart
        return os.open(os.devnull, os.O_RDONLY)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    undo.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        undo.pop_all()  # the folder is the other's now, even where this process made it a moment ago
        os.close(lock)
        raise RunError(f"another process is writing to the run in {str(directory)!r}: wait for it or choose another "
                       "folder") from None
    except OSError as error:
        raise RunError(f"the folder {str(directory)!r} can't be locked ({error.strerror}): choose a folder on a local "
                       "disk") from error
    return lock


def is_fresh(directory: Path) -> bool:
    """Whether there is no run yet. A creation that was killed leaves an empty database, which counts as none."""
    path = directory / DATABASE
    if not os.path.lexists(path):
        others = sorted(entry.name for entry in directory.iterdir())
        if others:
            raise RunError(f"the folder {str(directory)!r} holds {others[0]!r} and is no run: choose a new or an empty "
                           "folder")
        return True
    if _size(path) and os.path.lexists(_journal(path)):
        _check_header(path)
        with ExitStack() as closing:
            _connect(path, "rw", closing).execute("SELECT count(*) FROM sqlite_schema")  # rolls the journal back
    return _size(path) == 0


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def _size(path: Path) -> int:
    """In bytes. Symbolic links, devices and pipes are refused: a run from elsewhere could point anywhere with them."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{str(path)!r} is not a plain file: it belongs to no run")
    return status.st_size


def _forgiving(action: Callable[[], object]) -> None:
    with suppress(OSError):
        action()


# --- the database ---


def need_strict_tables() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise RunError(f"SQLite {sqlite3.sqlite_version} is too old for runs: secost needs {oldest} or later")


def _connect(path: Path, mode: str, undo: ExitStack) -> sqlite3.Connection:
    """A connection that trusts nothing in the file. `mode` is ro, rw or rwc."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    undo.callback(connection.close)
    connection.text_factory = bytes  # damaged text must not stop the reading of the rows beside it
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    if mode != "ro":
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute(f"PRAGMA max_page_count = {MAX_BYTES // PAGE_BYTES}")
    return connection


def create(path: Path, name: str, value: Any, undo: ExitStack) -> None:
    """A run with its first document, in one transaction: killed at any moment it leaves 0 bytes or a whole one."""
    row = document_row(name, value)
    undo.callback(_forgiving, path.unlink)
    undo.callback(_forgiving, _journal(path).unlink)
    with reported("create", path), ExitStack() as closing:
        connection = _connect(path, "rwc", closing)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {STORE_SCHEMA}")
        for statement in TABLES.values():
            connection.execute(statement)
        connection.execute("INSERT INTO documents VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")


def open_checked(path: Path, mode: str, undo: ExitStack) -> sqlite3.Connection:
    """A connection to a database that is ours, of a schema we know, and whole."""
    _check_header(path)
    with reported("read", path):
        connection = _connect(path, mode, undo)
        try:
            _check_tables(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            connection = _recovered(path, undo)
            _check_tables(connection, path)
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()  # of 100 truncations 6 went unnoticed without
        if answer != (b"ok",):
            what = " ".join(text_of(answer[0]).split()) if answer else "no answer"
            raise RunError(f"{str(path)!r} is damaged ({what}): {_REASONS['SQLITE_CORRUPT'].partition(': ')[2]}")
    return connection


def _check_header(path: Path) -> None:
    """Looks at the first 100 bytes, before SQLite does: it would make files beside a database in WAL mode.

    Offsets: 16 page size (4096), 18 and 19 journal mode (1 = rollback), 60 user_version, 68 application_id.
    """
    if not os.path.lexists(path):
        raise RunError(f"there is no run in {str(path.parent)!r}: it has no {DATABASE}")
    if not 0 < _size(path) <= MAX_BYTES:
        raise RunError(f"{str(path)!r} is empty or larger than {MAX_BYTES >> 30} GiB: it holds no run")
    with COMMITTING, path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise RunError(f"can't read {str(path)!r}: {_REASONS['SQLITE_NOTADB']}")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID or header[16:20] != b"\x10\0\1\1":
        raise RunError(f"{str(path)!r} is a SQLite database, but not as secost writes it: choose another folder")
    schema = int.from_bytes(header[60:64], "big", signed=True)
    if schema != STORE_SCHEMA:
        raise RunError(f"the run in {str(path.parent)!r} has schema {schema}, and this secost knows schema "
                       f"{STORE_SCHEMA}: it was written by another version, install that one")
    _check_journal(_journal(path))


def _check_journal(journal: Path) -> None:
    """Refuses a journal that ends with the name of a super-journal: SQLite would delete the file of that name.

    secost never writes one (they come with ATTACH), so it can only be a trap in a run from elsewhere.
    """
    with suppress(FileNotFoundError):  # mostly there is none, and a living writer may remove it at any moment
        if _size(journal) < len(_JOURNAL_MAGIC):
            return
        with journal.open("rb") as file:
            file.seek(-len(_JOURNAL_MAGIC), os.SEEK_END)
            end = file.read()
        if end == _JOURNAL_MAGIC:
            raise RunError(f"{str(journal)!r} names another database: it was not written by secost")


def _recovered(path: Path, undo: ExitStack) -> sqlite3.Connection:
    """The run as its last whole commit left it, in memory: the rolling back is done on a copy."""
    with tempfile.TemporaryDirectory(prefix="secost-") as folder, ExitStack() as closing:
        copy = Path(folder) / DATABASE
        with COMMITTING:
            shutil.copyfile(path, copy)
            shutil.copyfile(_journal(path), _journal(copy))
        source = _connect(copy, "rw", closing)
        memory = sqlite3.connect(":memory:", isolation_level=None)
        undo.callback(memory.close)
        memory.text_factory = bytes
        source.backup(memory)
    memory.execute("PRAGMA trusted_schema = OFF")
    return memory


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Compares every object of the schema with ours; triggers and views would run as rows are read or written."""
    objects = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    ours = [(b"table", name.encode(), name.encode(), sql.encode()) for name, sql in sorted(TABLES.items())]
    if objects != ours:
        raise RunError(f"{str(path)!r} has not the tables of a run: it is damaged, or another program changed it")


# --- what is written ---


def encode(value: Any, what: str, sort_keys: bool = False) -> str:
    """JSON as it is stored: ASCII only, so that a lone surrogate in a file name is no trouble; keys in given order."""
    try:
        return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{what} can't be stored: {one_line(error)}") from error


def checksum_of(*parts: str) -> str:
    """SHA-256 over the parts with their lengths, so that no part can pass for the end of another."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def environment_id(environment: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the environment's canonical JSON."""
    return hashlib.sha256(encode(environment, "the environment", sort_keys=True).encode()).hexdigest()[:16]


def document_row(name: str, value: Any) -> tuple[str, str, str]:
    """The row that keeps a document: its name, its JSON and the checksum of both."""
    body = encode(value, repr(name))
    return name, body, checksum_of("document", name, body)


def text_of(value: Any) -> str:
    if not isinstance(value, bytes):
        raise RunError("a text is missing")
    return value.decode("utf-8", "replace")


def verified(body: Any, checksum: Any, *parts: str) -> Any:
    """The value in a body whose checksum holds. Raises one of `UNREADABLE`."""
    if checksum_of(*parts, text_of(body)) != text_of(checksum):
        raise RunError("its checksum does not fit, so it was changed or damaged after it was stored")
    return strict_json(text_of(body))


def read_documents(connection: sqlite3.Connection) -> dict[str, Any]:
    """Spec, plan and environments by name, each checked."""
    documents: dict[str, Any] = {}
    for name, body, checksum in connection.execute("SELECT name, body, checksum FROM documents"):
        try:
            documents[text_of(name)] = verified(body, checksum, "document", text_of(name))
        except UNREADABLE as error:
            raise RunError(f"the run's spec, plan or environment is damaged: {one_line(error)}") from error
    return documents


@contextmanager
def reported(doing: str, path: Path) -> Iterator[None]:
    """Turns what SQLite and the file system raise into one line that says what was tried, why not, and what to do."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, OverflowError) as error:  # a path with a NUL, a text that is no Unicode
        raise RunError(f"can't {doing} {str(path)!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):  # SQLite's message quoted a damaged name
        return _REASONS["SQLITE_CORRUPT"]
    if isinstance(error, OSError):
        return str(error.strerror or error)
    name = getattr(error, "sqlite_errorname", "")
    reason = next((reason for start, reason in _REASONS.items() if name.startswith(start)), None)
    return one_line(error) if reason is None else f"{reason} ({one_line(error)})"

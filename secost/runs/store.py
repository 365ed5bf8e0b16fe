"""Keeps a run: a directory whose `records.sqlite` holds the spec, the plan, the environments and the records.

The runner adds records here as they are measured, analysis and the command line read them back by `read_run`.
SQLite's rollback journal and its locks are the crash safety; what SQLite lacks, a checksum a row, is added here:
of 400 single flipped bits 259 changed a value unseen. Not the write-ahead log: SQLite before 3.51.3 can lose
committed rows there, and `records.sqlite` copied without its -wal file is empty. A commit takes 1.7 ms.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from secost.errors import RunError, SecostError, one_line
from secost.plan.spec import Spec
from secost.runs.records import FAILED, Record

if sys.platform != "win32":
    import fcntl

__all__ = ["DATABASE", "STORE_SCHEMA", "RunStore", "environment_id", "read_run"]

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

_SPEC, _PLAN, _ENVIRONMENT = "spec", "plan", "environment "
_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_FIELD_TYPES = get_type_hints(Record)

# POSIX drops all locks that a process has on a file when it closes any descriptor of that file. So no thread may read
# the header of a database while another is in the middle of a commit.
_COMMITTING = threading.RLock()

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
_UNREADABLE = (RunError, TypeError, ValueError, RecursionError)

Row = tuple[Any, Any, Any, Any]


class RunStore:
    """One run, open for writing (`create_or_resume`) or for reading (`open_readonly`). Close it, or use it in `with`.

    Every method raises RunError where the run can't be read or written. One store belongs to one thread.
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        """For the two class methods. `lock` is the descriptor that holds the claim, None for a store that reads."""
        self.directory = directory
        self.path = directory / DATABASE
        self.environment_id: str | None = None
        self._environment: dict[str, Any] = {}
        self._connection = connection
        self._lock = lock
        self._writable = lock is not None
        self._load_documents()

    @classmethod
    def create_or_resume(cls, directory: str | Path, spec: Spec, environment: Mapping[str, Any]) -> RunStore:
        """Opens a run for writing, made anew where there is none, and claims it for this process.

        Raises RunError for a folder that can't be made or holds other things, a run that another process writes to
        (at once, without waiting), a damaged or newer run, and a run with another spec. A creation that fails leaves
        neither files nor folders.
        """
        directory, path = Path(directory), Path(directory) / DATABASE
        _need_strict_tables()
        with ExitStack() as undo, _reported("use the folder", directory):
            _make_directory(directory, undo)
            lock = _claim(directory, undo)
            if _is_fresh(directory):
                _create(path, spec, undo)
            connection = _open_checked(path, "rw", undo)
            store = cls(directory, connection, lock)
            store._check_spec(spec)
            store._environment = dict(environment)
            store.environment_id = environment_id(environment)
            undo.pop_all()
        return store

    @classmethod
    def open_readonly(cls, directory: str | Path) -> RunStore:
        """Opens a run for reading, whoever made it; nothing in its folder is changed.

        A run whose writer was killed in the middle of a commit is rolled back in a temporary copy.
        """
        directory, path = Path(directory), Path(directory) / DATABASE
        _need_strict_tables()
        with ExitStack() as undo, _reported("read the run in", directory):
            if not stat.S_ISDIR(directory.stat().st_mode):
                raise RunError(f"{str(directory)!r} is not a folder: give the folder of a run")
            store = cls(directory, _open_checked(path, "ro", undo), None)
            undo.pop_all()
        return store

    @property
    def spec(self) -> Spec:
        """The spec that the run was begun with."""
        try:
            return Spec.from_dict(self._documents[_SPEC])
        except KeyError:
            raise RunError(f"the run in {str(self.directory)!r} has lost its spec: restore a copy") from None
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RunError(
                f"the spec of the run in {str(self.directory)!r} makes no sense: {one_line(error)}"
            ) from error

    @property
    def plan(self) -> tuple[str, ...]:
        """The keys of all trials in the order of the plan; empty before `set_plan`."""
        return self._plan

    def set_plan(self, keys: Sequence[str]) -> None:
        """Fixes the order in which records are listed; comes before the first `add`. Doubled keys count once.

        The same plan again changes nothing, nor does the plan that `plan_more` added to. Raises RunError where records
        exist that were planned otherwise.
        """
        plan = tuple(dict.fromkeys(keys))
        if _PLAN in self._documents and plan == self._plan[: len(plan)] and (plan or not self._plan):
            return
        with self._transaction():
            if self._connection.execute("SELECT 1 FROM records LIMIT 1").fetchone():
                raise RunError(
                    f"the run in {str(self.directory)!r} was planned with {len(self._plan)} other trials than the "
                    f"{len(plan)} asked for now (by another version of secost or of a plug-in): choose another folder"
                )
            self._put_document(_PLAN, list(plan))
        self._load_documents()

    def plan_more(self, keys: Iterable[str]) -> None:
        """Adds to the plan what it lacks, at its end: for trials that follow from the results of others."""
        new = [key for key in dict.fromkeys(keys) if key not in self._positions]
        if not new:
            return
        with self._transaction():
            self._put_document(_PLAN, [*self._plan, *new])
        self._load_documents()

    def add(self, record: Record, environment: Mapping[str, Any] | None = None) -> Record:
        """Commits one record and gives it as a reader will get it (tuples become lists); on return it is on the disk.

        A record without an environment gets `environment`, where it was made on another machine, or this store's. A
        failed record is replaced by a second one with the same
        key (a retry); a second record beside a done one is an error, as the first is evidence. Raises RunError for
        that, a key outside the plan, NaN or infinity, a value of the wrong type, and a disk that is full.
        """
        if record.key not in self._positions:
            raise RunError(f"record {record.key!r} is not in the plan of the run: set_plan comes before the records")
        if environment is not None:
            record = replace(record, environment=self._entered(environment))
        elif record.environment in (None, self.environment_id):
            self._enter_environment()
        position = self._positions[record.key]
        body = _encode(replace(record, environment=record.environment or self.environment_id).to_dict(), record.key)
        row = (position, record.key, body, _checksum("record", str(position), record.key, body))
        stored = self._read((position, record.key.encode("utf-8", "surrogatepass"), body.encode(), row[3].encode()))
        with self._transaction():
            found = self._connection.execute("SELECT * FROM records WHERE position = ?", (position,)).fetchone()
            if found and self._read(found).status != FAILED:
                raise RunError(f"record {record.key} is stored already: a trial is measured once")
            self._connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", row)
        return stored

    def records(self) -> list[Record]:
        """All records in the order of the plan, each checked against its checksum.

        Raises RunError that names the row where one is damaged.
        """
        rows = self._rows()
        if not self._writable:
            self._load_documents()  # after the rows: a writer enters an environment before the records made in it
        return [self._read(row) for row in rows]

    def done_keys(self, *, retry_failed: bool = False) -> set[str]:
        """The keys that need no measuring: all recorded ones, or with `retry_failed` those that did not fail."""
        return {record.key for record in self.records() if not (retry_failed and record.status == FAILED)}

    def environments(self) -> dict[str, dict[str, Any]]:
        """Every environment that the run was measured in, by the id that `Record.environment` holds."""
        return {
            name.removeprefix(_ENVIRONMENT): body
            for name, body in self._documents.items()
            if name.startswith(_ENVIRONMENT) and isinstance(body, dict)
        }

    def close(self) -> None:
        """Gives the run back; a second call does nothing."""
        self._connection.close()
        self._writable = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load_documents(self) -> None:
        with _reported("read", self.path):
            self._documents = _read_documents(self._connection)
        plan = self._documents.get(_PLAN, [])
        if not _fits(plan, list[str]) or len(set(plan)) != len(plan):
            raise RunError(f"the plan of the run in {str(self.directory)!r} makes no sense: restore a copy")
        self._plan: tuple[str, ...] = tuple(plan)
        self._positions = {key: position for position, key in enumerate(plan)}

    def _check_spec(self, spec: Spec) -> None:
        difference = self.spec.difference(spec)
        if difference:
            raise RunError(
                f"the run in {str(self.directory)!r} has another spec: {difference}; choose another folder or "
                "restore the value"
            )

    def _enter_environment(self) -> None:
        """Keeps this process's environment with the first record of it: who adds none leaves no trace."""
        if self.environment_id is not None:
            self._entered(self._environment)

    def _entered(self, environment: Mapping[str, Any]) -> str:
        """The id of another machine's environment, kept with the first record of it."""
        name = environment_id(environment)
        if _ENVIRONMENT + name not in self._documents:
            with self._transaction():
                self._put_document(_ENVIRONMENT + name, dict(environment))
            self._load_documents()
        return name

    def _put_document(self, name: str, value: Any) -> None:
        body = _encode(value, name)
        row = (name, body, _checksum("document", name, body))
        self._connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._writable:
            raise RunError(f"the run in {str(self.directory)!r} is open for reading only")
        with _COMMITTING, _reported("write", self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back itself, as on a full disk
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self) -> list[Row]:
        with _reported("read", self.path):
            return self._connection.execute("SELECT * FROM records ORDER BY position").fetchall()

    def _read(self, row: Row) -> Record:
        """The record in a row, checked. Raises RunError that names the row where it is damaged or makes no sense."""
        position, key, body, checksum = row
        try:
            values = _verified(body, checksum, "record", str(position), _text(key))
            record = _record(values)
            if record.key != _text(key) or (self._plan and self._positions.get(record.key) != position):
                raise RunError("its key is not the one in the plan")
            if record.environment is not None and _ENVIRONMENT + record.environment not in self._documents:
                raise RunError(f"its environment {record.environment!r} is not in the run")
        except _UNREADABLE as error:
            raise RunError(
                f"record {self._name(position)} in {str(self.path)!r} is not usable: {one_line(error)}"
            ) from error
        return record

    def _name(self, position: Any) -> str:
        known = isinstance(position, int) and 0 <= position < len(self._plan)
        return self._plan[position] if known else f"at position {position}"


def read_run(directory: str | Path) -> tuple[Spec, list[Record], dict[str, dict[str, Any]]]:
    """The spec, the records in the order of the plan, and the environments by id, of a run of any origin."""
    with RunStore.open_readonly(directory) as store:
        return store.spec, store.records(), store.environments()


def discard_if_empty(directory: Path, made: Path | None) -> None:
    """Remove a run that holds no record, and the folders from `made` down where they are empty then."""
    with suppress(SecostError, OSError):
        with RunStore.open_readonly(directory) as store:
            empty = not store.records()
        if empty:
            (directory / DATABASE).unlink()
    folder = directory
    with suppress(OSError):
        while made is not None and folder.is_relative_to(made):
            folder.rmdir()
            folder = folder.parent


def environment_id(environment: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the environment's canonical JSON."""
    try:
        canonical = json.dumps(environment, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"the environment can't be stored: {one_line(error)}") from error
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


# --- the folder ---


def _make_directory(directory: Path, undo: ExitStack) -> None:
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


def _claim(directory: Path, undo: ExitStack) -> int | None:
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
        raise RunError(
            f"another process is writing to the run in {str(directory)!r}: wait for it or choose another folder"
        ) from None
    except OSError as error:
        raise RunError(
            f"the folder {str(directory)!r} can't be locked ({error.strerror}): choose a folder on a local disk"
        ) from error
    return lock


def _is_fresh(directory: Path) -> bool:
    """Whether there is no run yet. A creation that was killed leaves an empty database, which counts as none."""
    path = directory / DATABASE
    if not os.path.lexists(path):
        others = sorted(entry.name for entry in directory.iterdir())
        if others:
            raise RunError(
                f"the folder {str(directory)!r} holds {others[0]!r} and is no run: choose a new or an empty folder"
            )
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


def _forgiving(action: Any) -> None:
    with suppress(OSError):
        action()


# --- the database ---


def _need_strict_tables() -> None:
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


def _create(path: Path, spec: Spec, undo: ExitStack) -> None:
    """An empty run, in one transaction: killed at any moment it leaves a database of 0 bytes or a whole one."""
    body = _encode(spec.to_dict(), _SPEC)
    undo.callback(_forgiving, path.unlink)
    undo.callback(_forgiving, _journal(path).unlink)
    with _reported("create", path), ExitStack() as closing:
        connection = _connect(path, "rwc", closing)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {STORE_SCHEMA}")
        for statement in TABLES.values():
            connection.execute(statement)
        row = (_SPEC, body, _checksum("document", _SPEC, body))
        connection.execute("INSERT INTO documents VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")


def _open_checked(path: Path, mode: str, undo: ExitStack) -> sqlite3.Connection:
    """A connection to a database that is ours, of a schema we know, and whole."""
    _check_header(path)
    with _reported("read", path):
        connection = _connect(path, mode, undo)
        try:
            _check_tables(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            connection = _recovered(path, undo)
            _check_tables(connection, path)
        _quick_check(connection, path)
    return connection


def _check_header(path: Path) -> None:
    """Looks at the first 100 bytes, before SQLite does: it would make files beside a database in WAL mode.

    Offsets: 16 page size (4096), 18 and 19 journal mode (1 = rollback), 60 user_version, 68 application_id.
    """
    if not os.path.lexists(path):
        raise RunError(f"there is no run in {str(path.parent)!r}: it has no {DATABASE}")
    if not 0 < _size(path) <= MAX_BYTES:
        raise RunError(f"{str(path)!r} is empty or larger than {MAX_BYTES >> 30} GiB: it holds no run")
    with _COMMITTING, path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise RunError(f"can't read {str(path)!r}: {_REASONS['SQLITE_NOTADB']}")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID or header[16:20] != b"\x10\0\1\1":
        raise RunError(f"{str(path)!r} is a SQLite database, but not as secost writes it: choose another folder")
    schema = int.from_bytes(header[60:64], "big", signed=True)
    if schema != STORE_SCHEMA:
        raise RunError(
            f"the run in {str(path.parent)!r} has schema {schema}, and this secost knows schema {STORE_SCHEMA}: "
            "it was written by another version, install that one"
        )
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
        with _COMMITTING:
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
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    ours = [(b"table", name.encode(), name.encode(), sql.encode()) for name, sql in sorted(TABLES.items())]
    if found != ours:
        raise RunError(f"{str(path)!r} has not the tables of a run: it is damaged, or another program changed it")


def _quick_check(connection: sqlite3.Connection, path: Path) -> None:
    """Finds broken pages (of 100 truncations 6 went unnoticed without it)."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != (b"ok",):
        what = " ".join(_text(found[0]).split()) if found else "no answer"
        raise RunError(f"{str(path)!r} is damaged ({what}): {_REASONS['SQLITE_CORRUPT'].partition(': ')[2]}")


def _read_documents(connection: sqlite3.Connection) -> dict[str, Any]:
    """Spec, plan and environments by name, each checked."""
    documents: dict[str, Any] = {}
    for name, body, checksum in connection.execute("SELECT name, body, checksum FROM documents"):
        try:
            documents[_text(name)] = _verified(body, checksum, "document", _text(name))
        except _UNREADABLE as error:
            raise RunError(f"the run's spec, plan or environment is damaged: {one_line(error)}") from error
    return documents


# --- values ---


def _encode(value: Any, name: str) -> str:
    """JSON as it is stored: ASCII only, so that a lone surrogate in a file name is no trouble; keys in given order."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{name!r} can't be stored: {one_line(error)}") from error


def _checksum(*parts: str) -> str:
    """SHA-256 over the parts with their lengths, so that no part can pass for the end of another."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise RunError("a text is missing")
    return value.decode("utf-8", "replace")


def _verified(body: Any, checksum: Any, *parts: str) -> Any:
    """The value in a body whose checksum holds. Raises one of `_UNREADABLE`."""
    if _checksum(*parts, _text(body)) != _text(checksum):
        raise RunError("its checksum does not fit, so it was changed or damaged after it was stored")
    return json.loads(_text(body), parse_float=_finite, parse_int=_whole, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RunError(f"{text[:20]} is no finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > 30:
        raise RunError(f"{text[:20]}... is no number that secost counts")
    return int(text)


def _record(values: Any) -> Record:
    """A record whose fields have the types that they are declared with: renderers compute with them."""
    if not isinstance(values, dict):
        raise RunError("it is not a JSON object")
    for name, hint in _FIELD_TYPES.items():
        if name in values and not _fits(values[name], hint):
            raise RunError(f"its {name} is not {getattr(hint, '__name__', hint)}")
    return Record.from_dict(values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has a type as Record declares them: scalars, lists, dicts and unions of these."""
    if hint is Any:
        return True
    if isinstance(hint, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is list:
        return isinstance(value, list) and all(_fits(item, inside[0]) for item in value)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(item, inside[1]) for item in value.values())
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


@contextmanager
def _reported(doing: str, path: Path) -> Iterator[None]:
    """Turns what SQLite and the file system raise into one line that says what was tried, why not, and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise RunError(f"can't {doing} {str(path)!r}: {_reason(error)}") from error
    except UnicodeDecodeError as error:  # SQLite's message quoted a damaged name
        raise RunError(f"can't {doing} {str(path)!r}: {_REASONS['SQLITE_CORRUPT']}") from error
    except OSError as error:
        raise RunError(f"can't {doing} {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, OverflowError) as error:  # a path with a NUL, a text that is no Unicode
        raise RunError(f"can't {doing} {str(path)!r}: {one_line(error)}") from error


def _reason(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    for start, reason in _REASONS.items():
        if name.startswith(start):
            return f"{reason} ({one_line(error)})"
    return one_line(error)

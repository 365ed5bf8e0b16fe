"""Keeps a run: a directory whose `records.sqlite` holds the spec, the plan, the environments and the records.

The runner adds records here as they are measured, analysis and the command line read them back by `read_run`, or by
`read_results`, which takes the JSON document of `--format json` as well. A commit takes 1.7 ms. `database` has the file
and its folder.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secost.errors import RunError, SecostError, one_line
from secost.plan.spec import Spec
from secost.runs import database
from secost.runs.database import DATABASE, MAX_BYTES, environment_id, reported
from secost.runs.records import FAILED, SCHEMA, Record, checked_record, fits, strict_json

if TYPE_CHECKING:
    from secost.runs.study import StudyResult  # numpy comes with it, which who keeps records need not wait for

__all__ = ["DATABASE", "Run", "RunStore", "discard_if_empty", "environment_id", "read_all", "read_results", "read_run"]

_SPEC, _PLAN, _ENVIRONMENT = "spec", "plan", "environment "
Row = tuple[Any, Any, Any, Any]
Environments = dict[str, Mapping[str, Any]]


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
        (at once, without waiting), a damaged or newer run, and a run with another spec (see `Spec.difference_in_run`),
        which else takes the place of the run's own. A creation that fails leaves
        neither files nor folders.
        """
        directory, path = Path(directory), Path(directory) / DATABASE
        database.need_strict_tables()
        with ExitStack() as undo, reported("use the folder", directory):
            database.make_directory(directory, undo)
            lock = database.claim(directory, undo)
            if database.is_fresh(directory):
                database.create(path, _SPEC, spec.to_dict(), undo)
            connection = database.open_checked(path, "rw", undo)
            store = cls(directory, connection, lock)
            if difference := spec.difference_in_run(store.spec):
                raise RunError(f"the run in {str(directory)!r} has another spec: {difference}; choose another folder "
                               "or restore the value")
            store._go_on_with(spec)
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
        database.need_strict_tables()
        with ExitStack() as undo, reported("read the run in", directory):
            if not stat.S_ISDIR(directory.stat().st_mode):
                raise RunError(f"{str(directory)!r} is not a folder: give the folder of a run")
            store = cls(directory, database.open_checked(path, "ro", undo), None)
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
            where = str(self.directory)
            raise RunError(f"the spec of the run in {where!r} makes no sense: {one_line(error)}") from error

    def _go_on_with(self, spec: Spec) -> None:
        if self.spec.difference(spec):
            with self._transaction():
                self._put_document(_SPEC, spec.to_dict())
            self._load_documents()

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
        failed record is replaced by a second one with the same key (a retry); a second record beside a done one is an
        error, as the first is evidence. Raises RunError for that, a key outside the plan, NaN or infinity, a value of
        the wrong type, and a disk that is full.
        """
        if record.key not in self._positions:
            raise RunError(f"record {record.key!r} is not in the plan of the run: set_plan comes before the records")
        if environment is not None:
            record = replace(record, environment=self._entered(environment))
        elif self.environment_id is not None and record.environment in (None, self.environment_id):
            self._entered(self._environment)
        position = self._positions[record.key]
        values = replace(record, environment=record.environment or self.environment_id).to_dict()
        body = database.encode(values, repr(record.key))
        row = (position, record.key, body, database.checksum_of("record", str(position), record.key, body))
        stored = self._read((position, record.key.encode("utf-8", "surrogatepass"), body.encode(), row[3].encode()))
        with self._transaction():
            before = self._connection.execute("SELECT * FROM records WHERE position = ?", (position,)).fetchone()
            if before and self._read(before).status != FAILED:
                raise RunError(f"record {record.key} is stored already: a trial is measured once")
            self._connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", row)
        return stored

    def records(self) -> list[Record]:
        """All records in the order of the plan, each checked against its checksum.

        Raises RunError that names the row where one is damaged.
        """
        with reported("read", self.path):
            rows = self._connection.execute("SELECT * FROM records ORDER BY position").fetchall()
        if not self._writable:
            self._load_documents()  # after the rows: a writer enters an environment before the records made in it
        train = self.spec.train
        records = [self._read(row) for row in rows]
        if train is not None and train.until is not None:
            for record in records:
                if record.trained:  # for all who read it: its gain was looked at as the seeds came in
                    record.samples = {**(record.samples or {}), "until": train.until}
        return records

    def keep_study(self, result: StudyResult) -> None:
        """Keeps what a study found, in place of what it found before; the same again changes nothing."""
        from secost.runs.study import STUDY, documents_of

        documents = documents_of(result)
        if documents == {name: body for name, body in self._documents.items() if name.startswith(STUDY)}:
            return
        with self._transaction():
            self._connection.execute("DELETE FROM documents WHERE name GLOB ?", (f"{STUDY}*",))
            for name, body in documents.items():
                self._put_document(name, body)
        self._load_documents()

    def study(self, records: Iterable[Record] | None = None) -> StudyResult | None:
        """What the study found whose run this is, None in the run of none; `records` saves reading them again."""
        from secost.runs.study import result_in

        return result_in(self._documents, {record.key: record for record in records or self.records()})

    def done_keys(self, *, retry_failed: bool = False) -> set[str]:
        """The keys that need no measuring: all recorded ones, or with `retry_failed` those that did not fail."""
        return {record.key for record in self.records() if not (retry_failed and record.status == FAILED)}

    def environments(self) -> dict[str, dict[str, Any]]:
        """Every environment that the run was measured in, by the id that `Record.environment` holds."""
        return {name.removeprefix(_ENVIRONMENT): body
                for name, body in self._documents.items()
                if name.startswith(_ENVIRONMENT) and isinstance(body, dict)}

    def close(self) -> None:
        """Gives the run back; a second call does nothing."""
        self._connection.close()
        self._writable = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _load_documents(self) -> None:
        with reported("read", self.path):
            self._documents = database.read_documents(self._connection)
        plan = self._documents.get(_PLAN, [])
        if not fits(plan, list[str]) or len(set(plan)) != len(plan):
            raise RunError(f"the plan of the run in {str(self.directory)!r} makes no sense: restore a copy")
        self._plan: tuple[str, ...] = tuple(plan)
        self._positions = {key: position for position, key in enumerate(plan)}

    def _entered(self, environment: Mapping[str, Any]) -> str:
        """The id of an environment, kept with the first record of it: who adds none leaves no trace."""
        name = environment_id(environment)
        if _ENVIRONMENT + name not in self._documents:
            with self._transaction():
                self._put_document(_ENVIRONMENT + name, dict(environment))
            self._load_documents()
        return name

    def _put_document(self, name: str, value: Any) -> None:
        row = database.document_row(name, value)
        self._connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._writable:
            raise RunError(f"the run in {str(self.directory)!r} is open for reading only")
        with database.COMMITTING, reported("write", self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back itself, as on a full disk
                    self._connection.execute("ROLLBACK")
                raise

    def _read(self, row: Row) -> Record:
        """The record in a row, checked. Raises RunError that names the row where it is damaged or makes no sense."""
        position, key, body, checksum = row
        try:
            values = database.verified(body, checksum, "record", str(position), database.text_of(key))
            record = checked_record(values)
            if record.key != database.text_of(key) or (self._plan and self._positions.get(record.key) != position):
                raise RunError("its key is not the one in the plan")
            if record.environment is not None and _ENVIRONMENT + record.environment not in self._documents:
                raise RunError(f"its environment {record.environment!r} is not in the run")
        except database.UNREADABLE as error:
            known = isinstance(position, int) and 0 <= position < len(self._plan)
            name = self._plan[position] if known else f"at position {position}"
            raise RunError(f"record {name} in {str(self.path)!r} is not usable: {one_line(error)}") from error
        return record


@dataclass(frozen=True)
class Run:
    """All that a run holds: its records in the order of the plan, environments by id, and what its study found."""

    spec: Spec
    records: list[Record]
    environments: dict[str, dict[str, Any]]
    study: StudyResult | None


def read_all(directory: str | Path) -> Run:
    """A run of any origin, read at once."""
    with RunStore.open_readonly(directory) as store:
        records = store.records()
        return Run(store.spec, records, store.environments(), store.study(records))


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


# --- whichever way it was kept ---


def read_results(path: str | Path) -> tuple[list[Record], Environments]:
    """The records of a run's folder or of a JSON document, and the environments by the id that a record holds.

    The id is `""` for records that hold none. Raises RunError for a path that is neither, a document of another schema
    and values that no record has. Nothing in the file is executed.
    """
    path = Path(path)
    try:
        kind = "file" if path.is_file() else "folder" if path.is_dir() else None
    except (OSError, ValueError) as error:
        raise RunError(f"can't read {str(path)!r}: {one_line(error)}") from None
    if kind is None:
        raise RunError(f"there is nothing at {str(path)!r}: give the folder of a run, or a file of --format json")
    if kind == "file":
        return _read_document(path)
    _, records, environments = read_run(path)
    return records, dict(environments)


def _read_document(path: Path) -> tuple[list[Record], Environments]:
    """The records and environments of a file that `--format json` wrote. Raises RunError for any other file."""
    values = _load(path)
    if not isinstance(values, dict) or not isinstance(values.get("records"), list):
        raise RunError(f"{str(path)!r} holds no records: give the folder of a run, or a file of --format json")
    if values.get("schema") != SCHEMA:
        raise RunError(f"{str(path)!r} has schema {str(values.get('schema'))[:20]}, and this secost knows schema "
                       f"{SCHEMA}: it was written by another version, install that one")
    records = []
    for position, body in enumerate(values["records"], 1):
        try:
            records.append(checked_record(body))
        except (RunError, TypeError) as error:
            raise RunError(f"record {position} of {str(path)!r} is not usable: {one_line(error)}") from None
    # A document has the facts of its one environment, or those of several by id.
    known = values.get("environment")
    if not isinstance(known, dict):
        return records, {}
    if known and all(isinstance(facts, dict) for facts in known.values()):
        return records, known
    return records, {record.environment or "": known for record in records}


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RunError(f"{str(path)!r} is larger than {MAX_BYTES >> 30} GiB: it holds no run")
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"can't read {str(path)!r}: {error.strerror or error}") from None
    if data.startswith(b"SQLite format 3\0"):
        raise RunError(f"{str(path)!r} is the database of a run: give the run's folder, {str(path.parent)!r}")
    try:
        return strict_json(data.decode("utf-8"))
    except (RunError, ValueError, RecursionError) as error:
        raise RunError(f"{str(path)!r} is not JSON as secost writes it: {one_line(error)}") from None

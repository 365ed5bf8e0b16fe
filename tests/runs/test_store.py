"""The store keeps what it acknowledged, lists it in the order of the plan, refuses what is not whole or not ours."""

from __future__ import annotations

import inspect
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secost.errors import RunError, SecostError
from secost.plan.spec import Spec
from secost.runs import database
from secost.runs.database import APPLICATION_ID, BUSY_TIMEOUT_S, DATABASE, TABLES, environment_id
from secost.runs.records import FAILED, Record
from secost.runs.store import RunStore, read_run

SPEC = Spec(models=("resnet50",), attention=("se", "eca"), stages=((3, 4), None), reductions=(4, 16))
PATIENCE_S = 600.0  # for a child on a busy machine: a hang ends, and nothing else hangs on it
ENVIRONMENT = {"cpu": "EPYC 7763", "torch": "2.10.0", "threads": 1}

# A writer of its own; without this file's imports it starts in 0.1 s.
CHILD = """
import random
from typing import Any
from secost.errors import RunError
from secost.runs.records import Record
from secost.plan.spec import Spec
from secost.runs.store import RunStore
{helpers}
try:
    with RunStore.create_or_resume({directory!r}, Spec.from_dict({spec!r}), {environment!r}) as store:
        store.set_plan(keys({count}))
        done = store.done_keys()
        print("open", flush=True)
        for key in keys({count}):
            if key not in done:
                store.add(record(key))
                print(key, flush=True)
    print("closed", flush=True)
except RunError as error:
    print("error " + str(error), flush=True)
"""


def keys(count: int) -> list[str]:
    """Keys whose alphabetical order is not the order of the plan."""
    return [f"{(position * 7919) % 10007:016x}" for position in range(count)]


def record(key: str, **changes: Any) -> Record:
    """About 3 kB, as a record with its samples has; the same for the same key."""
    rng = random.Random(key)
    values: dict[str, Any] = {
        "model": "resnet50", "attention": "se", "reduction": 16, "placement": "residual", "integration": "standard",
        "stages": [3, 4], "sites": 9, "batch": 1, "resolution": 224, "backend": "eager", "precision": "fp32",
        "device": "cpu", "threads": 1, "params": 25_557_032 + rng.randrange(10**6), "latency_ms": rng.random() * 100,
        "cautions": ["the machine was busy"], "key": key, "samples": {"times_s": [rng.random() for _ in range(140)]},
    }
    return Record(**(values | changes))


def full_record(key: str) -> Record:
    """A record in which no field has its default."""
    return record(
        key, macs=4_089_184_256, other_ops=11_113_984, activations=10_587_136, memory_bytes=102_170_688, kernels=161,
        attention_params=2_514_896, attention_macs=2_614_896, params_overhead=0.0984, macs_overhead=6.1e-4,
        latency_overhead=0.031, latency_overhead_low=-0.004, latency_overhead_high=1 / 3, latency_direct_ms=1e-300,
        rounds=662, status=FAILED, error="out of memory\n\x1b[31m\0\u202e", mac_convention="fvcore 1 MAC = 1",
        unsupported_ops={"aten::z": 2, "aten::a": 1}, memory_overhead=0.02, kernels_overhead=0.5,
        by_stage=[{"stage": 3, "macs": 1, "share": 0.25, "none": None}], by_site=[{"site": "layer3.0", "r": [1, 2.5]}],
        memory_format="channels-last", spelling="pool-conv", processes=12, images_per_s=98.5, convert_s=0.25,
        latency_floor_ms=0.125, dataset="digits", seed=3, epochs=20, top1=97.5, estimate="nsga2",
        estimated_top1=97.25, estimated_overhead=0.04, estimated_overhead_low=0.03, estimated_overhead_high=0.05,
        host="node7", alternative="resnet101", began_s=1.5, ended_s=2.5,
    )


def make_run(directory: Path, count: int = 6) -> list[Record]:
    with RunStore.create_or_resume(directory, SPEC, ENVIRONMENT) as store:
        store.set_plan(keys(count))
        return [store.add(record(key)) for key in keys(count)]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def alter(directory: Path, *statements: str) -> None:
    """What another program could do to a run."""
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    connection.executescript("PRAGMA writable_schema = ON;" + ";".join(statements))
    connection.close()


def rewrite(directory: Path, position: int, body: str) -> None:
    """A record forged together with its checksum."""
    key = keys(position + 1)[position]
    checksum = database.checksum_of("record", str(position), key, body)
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    connection.execute("UPDATE records SET body = ?, checksum = ? WHERE position = ?", (body, checksum, position))
    connection.close()


def child(directory: Path, count: int, **options: Any) -> subprocess.Popen[str]:
    helpers = inspect.getsource(keys) + inspect.getsource(record)
    code = CHILD.format(
        helpers=helpers, directory=str(directory), spec=SPEC.to_dict(), environment=ENVIRONMENT, count=count
    )
    environment = os.environ | {"PYTHONPATH": str(Path(database.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True, env=environment, **options
    )


def refusal(directory: Path, spec: Spec = SPEC, read: bool = False) -> str:
    """The one line with which a folder is refused; the folder's files must be as before."""
    before = contents(directory) if len(directory.name) < 256 and directory.is_dir() else None
    with pytest.raises(RunError) as caught:
        RunStore.open_readonly(directory) if read else RunStore.create_or_resume(directory, spec, ENVIRONMENT)
    assert before is None or contents(directory) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is stored comes back ---


def test_every_field_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    given_record = full_record("a")
    defaults = {item.name: item.default for item in fields(Record)}
    assert all(getattr(given_record, name) != default for name, default in defaults.items() if name != "environment")
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        store.set_plan(["a"])
        stored = store.add(given_record)
        given_record.environment = store.environment_id
        assert stored == given_record and store.records() == [given_record]
    spec, records, environments = read_run(tmp_path)
    assert (spec, records) == (SPEC, [given_record])
    assert environments == {environment_id(ENVIRONMENT): ENVIRONMENT}
    assert list(records[0].unsupported_ops) == ["aten::z", "aten::a"]


def test_a_run_is_one_file(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "first")
    assert list(contents(tmp_path)) == [f"runs/first/{DATABASE}"]


def test_the_database_is_set_up_as_designed(tmp_path: Path) -> None:
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        pragmas = ("journal_mode", "synchronous", "busy_timeout", "trusted_schema", "cell_size_check",
                   "application_id", "user_version", "page_size")
        found = [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == [b"delete", 3, 30_000, 0, 1, APPLICATION_ID, 1, 4096]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
any_text = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates and controls too


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_text, any_text, st.lists(any_text, max_size=3), st.dictionaries(any_text, json_values, max_size=3))
def test_any_text_comes_back(
    tmp_path: Path, model: str, error: str, cautions: list[str], samples: dict[str, Any]
) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    written = record("a", model=model, error=error, cautions=cautions, samples=samples)
    with RunStore.create_or_resume(tmp_path / "run", SPEC, {"host": model}) as store:
        store.set_plan(["a"])
        written.environment = store.environment_id
        assert store.add(written) == written
    assert read_run(tmp_path / "run")[1:] == ([written], {written.environment: {"host": model}})


@pytest.mark.parametrize(
    "changes",
    [{"latency_ms": float("nan")}, {"samples": {"t": float("inf")}}, {"samples": {"t": object()}}, {"params": "1"},
     {"params": True}, {"params": 10**40}, {"cautions": [1]}, {"unsupported_ops": {"a": 1.5}}, {"model": None},
     {"environment": "unknown"}],
)
def test_a_record_that_could_not_be_read_back_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        store.set_plan(keys(2))
        with pytest.raises(RunError):
            store.add(record(keys(2)[0], **changes))
        store.add(record(keys(2)[1]))
        assert [item.key for item in store.records()] == keys(2)[1:]


# --- order, done, retry ---


def test_records_are_listed_in_the_order_of_the_plan(tmp_path: Path) -> None:
    undisturbed = make_run(tmp_path / "undisturbed", 12)
    for chosen in (keys(12)[5:9], keys(12)[::-1][2:5], keys(12)):
        with RunStore.create_or_resume(tmp_path / "resumed", SPEC, ENVIRONMENT) as store:
            store.set_plan(keys(12))
            for key in chosen:
                if key not in store.done_keys():
                    store.add(record(key))
    assert read_run(tmp_path / "resumed") == read_run(tmp_path / "undisturbed")
    assert read_run(tmp_path / "resumed")[1] == undisturbed


def test_failed_trials_are_done_unless_they_are_retried(tmp_path: Path) -> None:
    first, second = keys(2)
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        store.set_plan([first, second, first])
        store.add(record(first, status=FAILED, error="killed"))
        store.add(record(second))
        assert store.done_keys() == {first, second}
        assert store.done_keys(retry_failed=True) == {second}
        store.add(record(first))
        assert store.done_keys(retry_failed=True) == {first, second}
        assert [item.status for item in store.records()] == ["done", "done"]


def test_a_trial_is_stored_once(tmp_path: Path) -> None:
    make_run(tmp_path)
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        with pytest.raises(RunError, match="stored already"):
            store.add(record(keys(1)[0], params=1))
        with pytest.raises(RunError, match="not in the plan"):
            store.add(record("elsewhere"))
    assert [item.params for item in read_run(tmp_path)[1]] == [record(key).params for key in keys(6)]


def test_who_adds_no_record_leaves_no_environment(tmp_path: Path) -> None:
    with RunStore.create_or_resume(tmp_path, SPEC, {"cpu": "a"}) as store:
        store.set_plan(keys(1))
        store.add(record(keys(1)[0]))
    with RunStore.create_or_resume(tmp_path, SPEC, {"cpu": "b"}) as store:
        assert store.done_keys() == set(keys(1))
    assert list(read_run(tmp_path)[2].values()) == [{"cpu": "a"}]


def test_another_plan_is_refused_once_there_are_records(tmp_path: Path) -> None:
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        store.set_plan(keys(3))
        store.set_plan(keys(4))
        store.add(record(keys(4)[3]))
        store.set_plan(keys(4))
        with pytest.raises(RunError, match="4 other trials than the 5"):
            store.set_plan(keys(5))
        assert store.plan == tuple(keys(4))
        store.add(record(keys(4)[0]))  # a refusal ends its transaction
        assert [item.key for item in store.records()] == [keys(4)[0], keys(4)[3]]


def test_each_environment_is_kept_and_records_tell_theirs(tmp_path: Path) -> None:
    ids = []
    for key, cpu in zip(keys(3), ("a", "b", "a"), strict=True):
        with RunStore.create_or_resume(tmp_path, SPEC, {"cpu": cpu, "cores": (1, 2)}) as store:
            store.set_plan(keys(3))
            ids.append(store.add(record(key)).environment)
    _, records, environments = read_run(tmp_path)
    assert [item.environment for item in records] == ids and ids[0] == ids[2] != ids[1]
    assert environments == {ids[0]: {"cpu": "a", "cores": [1, 2]}, ids[1]: {"cpu": "b", "cores": [1, 2]}}


def test_a_reader_sees_what_a_writer_adds_meanwhile(tmp_path: Path) -> None:
    RunStore.create_or_resume(tmp_path, SPEC, {"cpu": "old"}).close()
    with RunStore.open_readonly(tmp_path) as reader:
        assert reader.records() == []
        make_run(tmp_path)
        assert [item.key for item in reader.records()] == keys(6)
        with pytest.raises(RunError, match="reading only"):
            reader.add(record(keys(6)[0]))


def test_a_run_is_read_while_another_process_writes_it(tmp_path: Path) -> None:
    with child(tmp_path, 150) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        for number, key in enumerate(keys(150)):
            assert process.stdout.readline() == f"{key}\n"
            if number % 10 == 0:  # what was acknowledged is there, and nothing but the beginning of the plan
                stored = [item.key for item in read_run(tmp_path)[1]]
                assert len(stored) > number and stored == keys(150)[: len(stored)]
        assert process.stdout.read() == "closed\n" and process.wait(PATIENCE_S) == 0
    assert len(read_run(tmp_path)[1]) == 150


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "told"),
    [({"reductions": [4, 8]}, "'reductions' was [4, 16] and is now [4, 8]"),
     ({"latency": False}, "'latency' was True and is now False"), ({"seed": 3}, "'seed' was 0 and is now 3"),
     ({"stages": "all"}, "'stages' was [[3, 4], None] and is now [None]")],
)
def test_a_changed_spec_names_its_key_and_both_values(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    make_run(tmp_path)
    message = refusal(tmp_path, SPEC.with_changes(**change))
    assert told in message and "choose another folder or restore the value" in message


def test_a_second_writer_is_refused_at_once(tmp_path: Path) -> None:
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT):
        begun = time.monotonic()
        assert "another process is writing" in refusal(tmp_path)
        assert time.monotonic() - begun < BUSY_TIMEOUT_S / 2  # it waits for no lock
        assert child(tmp_path, 3).communicate(timeout=PATIENCE_S)[0].startswith("error another process is writing")
    assert child(tmp_path, 3).communicate(timeout=PATIENCE_S)[0].endswith("closed\n")
    assert list(contents(tmp_path)) == [DATABASE]


def test_eight_writers_on_one_folder_store_each_trial_once(tmp_path: Path) -> None:
    processes = [child(tmp_path / "run", 20) for _ in range(8)]
    outs = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    assert all(out.endswith("closed\n") or "another process is writing" in out for out in outs), outs
    assert any(out.endswith("closed\n") for out in outs)
    assert [item.key for item in read_run(tmp_path / "run")[1]] == keys(20)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "a\0b", tmp_path / ("n" * 300)):
        refusal(place)
        refusal(place, read=True)
    assert contents(tmp_path) == {"file": b"mine"} and len(list(tmp_path.iterdir())) == 1


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "'thesis.tex'" in refusal(tmp_path)


@pytest.mark.parametrize("environment", [{"cpu": object()}, {"cpu": float("nan")}, {1: 2, "a": 3}])
def test_a_creation_that_fails_leaves_nothing(tmp_path: Path, environment: dict[str, Any]) -> None:
    with pytest.raises(RunError):
        RunStore.create_or_resume(tmp_path / "a" / "b", SPEC, environment)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError):
        RunStore.create_or_resume(tmp_path / "empty", SPEC, environment)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_creation_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    (tmp_path / f"{DATABASE}-journal").touch()
    assert "holds no run" in refusal(tmp_path, read=True)
    assert len(make_run(tmp_path)) == 6


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    assert f"it has no {DATABASE}" in refusal(tmp_path, read=True)
    assert "No such file" in refusal(tmp_path / "gone", read=True)


def test_a_newer_schema_names_both_versions(tmp_path: Path) -> None:
    make_run(tmp_path)
    alter(tmp_path, "PRAGMA user_version = 2")
    for read in (True, False):
        assert "has schema 2, and this secost knows schema 1" in refusal(tmp_path, read=read)


def test_an_old_sqlite_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    for read in (True, False):
        assert "3.37.0 or later" in refusal(tmp_path, read=read)


def not_ours() -> Iterator[tuple[str, bytes]]:
    yield "text", b"model,macs\nresnet50,4089184256\n" * 50
    yield "zeros", bytes(8192)
    yield "short", b"SQLite format 3\0"
    yield "pickle", b"\x80\x04\x95" + bytes(300)


@pytest.mark.parametrize("data", [data for _, data in not_ours()], ids=[name for name, _ in not_ours()])
def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(data)
    for read in (True, False):
        assert "no SQLite database" in refusal(tmp_path, read=read)


def test_another_programs_database_stays_as_it_is(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("CREATE TABLE photos (x)")
    connection.close()
    for read in (True, False):
        assert "not as secost writes it" in refusal(tmp_path, read=read)


def test_a_database_in_wal_mode_is_refused_before_sqlite_makes_files(tmp_path: Path) -> None:
    make_run(tmp_path)
    alter(tmp_path, "PRAGMA journal_mode = WAL")
    for read in (True, False):
        assert "not as secost writes it" in refusal(tmp_path, read=read)


@pytest.mark.parametrize(
    "statement",
    ["CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END",
     "CREATE VIEW v AS SELECT * FROM records", "CREATE INDEX i ON records (key)", "CREATE TABLE extra (x)",
     "DROP TABLE records; CREATE VIEW records AS SELECT 0 AS position, 'k' AS key, 'b' AS body, 'c' AS checksum",
     "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', 'NOT NULL CHECK (randomblob(9) > 1)')",
     "UPDATE sqlite_schema SET sql = 'nonsense'", "DROP TABLE documents", "DELETE FROM documents",
     "UPDATE documents SET body = '{}'", "UPDATE records SET position = 77 WHERE position = 0"],
)
def test_a_hostile_database_is_refused(tmp_path: Path, statement: str) -> None:
    make_run(tmp_path)
    alter(tmp_path, statement)
    before = contents(tmp_path)
    with pytest.raises(SecostError) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(SecostError), RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
        store.set_plan(keys(6))
        store.records()
    assert contents(tmp_path) == before or statement == "DELETE FROM documents"


@pytest.mark.parametrize(
    "body",
    ["[" * 100_000, "[]", "null", "{}", '{"model": 5}', "9" * 5000, "\ud7ff", "not json"],
    ids=["deep", "list", "null", "empty", "type", "digits", "character", "text"],
)
def test_a_forged_record_is_an_error_of_one_line(tmp_path: Path, body: str) -> None:
    make_run(tmp_path)
    rewrite(tmp_path, 2, body)
    with pytest.raises(RunError, match=keys(3)[2]):
        read_run(tmp_path)


@pytest.mark.parametrize("changes", [{"latency_ms": 1e999}, {"params": "<b>"}, {"by_stage": [5]}, {"key": "other"}])
def test_a_forged_value_is_an_error_of_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = make_run(tmp_path)[2].to_dict()
    rewrite(tmp_path, 2, json.dumps(values | changes).replace("Infinity", "1e999"))
    with pytest.raises(RunError, match=keys(3)[2]):
        read_run(tmp_path)


@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-journal"])
def test_a_link_in_a_run_is_not_followed(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "run")
    target = tmp_path / "precious"
    shutil.copy(tmp_path / "run" / DATABASE, target)
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(target)
    for read in (True, False):
        assert "not a plain file" in refusal(tmp_path / "run", read=read)


def test_a_journal_that_names_a_file_does_not_delete_it(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    victim = tmp_path / "precious"
    victim.write_text("mine")
    name = str(victim).encode()
    sums = sum(byte if byte < 128 else byte - 256 for byte in name) & 0xFFFFFFFF
    magic = bytes.fromhex("d9d505f920a163d7")
    pages = (0x40000000 // 4096 + 1).to_bytes(4, "big")
    header = (magic + bytes(4) + bytes(4) + (6).to_bytes(4, "big") + (512).to_bytes(4, "big")
              + (4096).to_bytes(4, "big")).ljust(512, b"\0")
    trap = header + pages + name + len(name).to_bytes(4, "big") + sums.to_bytes(4, "big") + magic
    (tmp_path / "run" / f"{DATABASE}-journal").write_bytes(trap)
    for read in (True, False):
        assert "names another database" in refusal(tmp_path / "run", read=read)
    assert victim.read_text() == "mine"


# --- damage ---


def outcome(directory: Path, good: tuple[Any, ...]) -> str:
    """`same`, or `refused` by one line; anything else is a silently wrong value or a traceback."""
    try:
        found = read_run(directory)
    except SecostError as error:
        assert "\n" not in str(error)
        return "refused"
    assert found == good
    return "same"


@pytest.mark.parametrize("count", [200, pytest.param(800, marks=pytest.mark.slow)])
def test_no_flipped_bit_gives_a_wrong_value(tmp_path: Path, count: int) -> None:
    make_run(tmp_path)
    good, path = read_run(tmp_path), tmp_path / DATABASE
    data = path.read_bytes()
    rng = random.Random(3)
    header_bits = rng.sample(range(100 * 8), count // 8)
    seen = []
    for bit in header_bits + rng.sample(range(len(data) * 8), count - count // 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        seen.append(outcome(tmp_path, good))
        assert list(tmp_path.iterdir()) == [path]
    assert seen.count("refused") > 0.375 * count and seen.count("same") > 0.025 * count


def test_no_flipped_bit_is_written_to_on_resume(tmp_path: Path) -> None:
    make_run(tmp_path)
    good, path = read_run(tmp_path)[1], tmp_path / DATABASE
    data = path.read_bytes()
    rng = random.Random(4)
    for bit in rng.sample(range(4096 * 8), 60) + rng.sample(range(len(data) * 8), 120):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store:
                store.set_plan(keys(6))
                assert store.records() == good
        except SecostError:
            pass
        assert contents(tmp_path) == {DATABASE: bytes(flipped)}


def test_no_truncation_gives_a_wrong_value(tmp_path: Path) -> None:
    make_run(tmp_path)
    good, path = read_run(tmp_path), tmp_path / DATABASE
    data = path.read_bytes()
    rng = random.Random(5)
    for length in {*rng.sample(range(len(data)), 60), *range(0, len(data), 4096)}:
        path.write_bytes(data[:length])
        assert outcome(tmp_path, good) == "refused"
        assert contents(tmp_path) == {DATABASE: data[:length]}


def test_overwritten_pages_give_no_wrong_value(tmp_path: Path) -> None:
    make_run(tmp_path, 40)
    good, path = read_run(tmp_path), tmp_path / DATABASE
    data = path.read_bytes()
    rng = random.Random(6)
    for page in range(1, len(data) // 4096):
        path.write_bytes(data[: page * 4096] + rng.randbytes(4096) + data[(page + 1) * 4096 :])
        assert outcome(tmp_path, good) == "refused"


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    make_run(tmp_path)
    alter(tmp_path, "UPDATE records SET body = replace(body, '\"macs\":null', '\"macs\":1') WHERE position = 4")
    damaged = rf"record {keys(5)[4]} .* checksum does not fit"
    with RunStore.open_readonly(tmp_path) as store, pytest.raises(RunError, match=damaged):
        store.records()
    with RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT) as store, pytest.raises(RunError, match=keys(5)[4]):
        store.done_keys()


def test_two_rows_that_changed_places_are_found(tmp_path: Path) -> None:
    make_run(tmp_path)
    moves = [f"UPDATE records SET position = {new} WHERE position = {old}" for old, new in ((0, 9), (1, 0), (9, 1))]
    alter(tmp_path, *moves)
    with pytest.raises(RunError, match="checksum does not fit"):
        read_run(tmp_path)


# --- killed, full, gone ---


def interrupted_commit(directory: Path, copy: Path) -> None:
    """Copies a run as it is in the middle of a commit: pages half written, the journal beside it."""
    copy.mkdir()
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    connection.execute("PRAGMA cache_size = 2")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE records SET body = replace(body, 'e', 'f')")
    for path in directory.iterdir():
        shutil.copy(path, copy)
    connection.execute("ROLLBACK")
    connection.close()


def test_a_commit_that_was_cut_off_is_rolled_back_and_reading_changes_nothing(tmp_path: Path) -> None:
    make_run(tmp_path / "run", 40)
    good = read_run(tmp_path / "run")
    interrupted_commit(tmp_path / "run", tmp_path / "cut")
    before = contents(tmp_path / "cut")
    assert set(before) == {DATABASE, f"{DATABASE}-journal"}
    assert before[DATABASE] != (tmp_path / "run" / DATABASE).read_bytes()
    assert read_run(tmp_path / "cut") == good
    assert contents(tmp_path / "cut") == before
    with RunStore.create_or_resume(tmp_path / "cut", SPEC, ENVIRONMENT) as store:
        assert store.records() == good[1]
    assert list(contents(tmp_path / "cut")) == [DATABASE]


def kill_and_resume(directory: Path, kills: int, count: int, seed: int) -> int:
    """Kills writers at random moments until the plan is done; gives the number of acknowledged records."""
    rng = random.Random(seed)
    acknowledged: list[str] = []
    for _ in range(kills):
        process = child(directory, count)
        assert process.stdout is not None
        heard: list[str] = []
        wait_s = rng.random() * 0.03
        if rng.random() < 0.8:  # in the middle of the commits: after "open" and some records, however slow they are
            heard = [process.stdout.readline().strip() for _ in range(1 + rng.randrange(6))]
        else:
            wait_s += rng.random() * 0.3  # while it imports, creates or opens the run
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        lines = [*heard, *process.communicate(timeout=PATIENCE_S)[0].split()]
        acknowledged += [line for line in lines if len(line) == 16]
        if (directory / DATABASE).exists() and (directory / DATABASE).stat().st_size:
            stored = [item.key for item in read_run(directory)[1]]
            assert set(acknowledged) <= set(stored), "an acknowledged record was lost"
            assert len(stored) == len(set(stored)), "a record was doubled"
    assert len(acknowledged) == len(set(acknowledged)), "a stored trial was measured again"
    return len(acknowledged)


def check_kills(tmp_path: Path, kills: int, count: int) -> None:
    assert kill_and_resume(tmp_path / "killed", kills, count, seed=kills) > kills
    assert child(tmp_path / "killed", count).communicate(timeout=PATIENCE_S)[0].endswith("closed\n")
    make_run(tmp_path / "undisturbed", count)
    assert read_run(tmp_path / "killed") == read_run(tmp_path / "undisturbed")
    connection = sqlite3.connect(tmp_path / "killed" / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_killed_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=7, count=100)


@pytest.mark.slow
def test_two_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=200, count=4000)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("limit", [0, 4096, 8192, 20_000, 40_961, 65_536])
def test_a_full_disk_is_one_line_and_keeps_what_was_acknowledged(tmp_path: Path, limit: int) -> None:
    import resource

    process = child(
        tmp_path / "run", 40, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    out = process.communicate(timeout=PATIENCE_S)[0].splitlines()
    assert process.returncode == 0
    assert out[-1].startswith("error can't ") and "make room" in out[-1], out
    acknowledged = [line for line in out if len(line) == 16]
    if "open" not in out and not (tmp_path / "run").exists():
        assert list(tmp_path.iterdir()) == []
        return
    assert [item.key for item in read_run(tmp_path / "run")[1]] == acknowledged
    assert child(tmp_path / "run", 40).communicate(timeout=PATIENCE_S)[0].endswith("closed\n")
    assert [item.key for item in read_run(tmp_path / "run")[1]] == keys(40)


@pytest.mark.parametrize("leave", [(), (b"",)], ids=["deleted", "replaced"])
def test_a_database_taken_away_under_a_sweep_is_told(tmp_path: Path, leave: Sequence[bytes]) -> None:
    with RunStore.create_or_resume(tmp_path / "run", SPEC, ENVIRONMENT) as store:
        store.set_plan(keys(2))
        store.add(record(keys(2)[0]))
        (tmp_path / "run" / DATABASE).rename(tmp_path / "away")
        for data in leave:
            (tmp_path / "run" / DATABASE).write_bytes(data)
        with pytest.raises(RunError, match="moved or deleted"):
            store.add(record(keys(2)[1]))


def test_a_closed_store_says_so_in_one_line(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path, SPEC, ENVIRONMENT)
    store.close()
    store.close()
    for action in (store.records, store.done_keys, lambda: store.set_plan(keys(2)), lambda: store.add(record("a"))):
        with pytest.raises(RunError):
            action()


def test_the_store_knows_no_pickle_and_no_heavy_library() -> None:
    code = "import secost.runs.store, sys; print([m for m in ('pickle', 'torch', 'pandas') if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(database.__file__).parents[2])}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert out.stdout == "[]\n"


def test_the_tables_are_those_of_schema_1() -> None:
    assert list(TABLES) == ["documents", "records"] and all("STRICT" in sql for sql in TABLES.values())

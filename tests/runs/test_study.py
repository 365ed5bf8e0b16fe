"""What studies find is kept in a run and comes back as it was, checked; what is not whole or not ours is refused."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secost.errors import RunError
from secost.plan.spec import Spec
from secost.plan.trials import Setting, Trial
from secost.runs.database import DATABASE, checksum_of
from secost.runs.records import TRAINED, Gain, Record
from secost.runs.store import RunStore, read_all, read_run
from secost.runs.study import (
    CueTest,
    Detectors,
    Full,
    LatencyModel,
    Occlusion,
    Preference,
    Quantization,
    Rounded,
    Scaling,
    SearchResult,
    Shifts,
    SiteGates,
    Size,
    StudyResult,
    rounded,
)
from secost.statistics import Interval

SPEC = Spec(models=("small:resnet",))
RECORDS = [Record.of_trial(Trial(Setting("small:resnet", resolution=px), name)) for px in (8, 16)
           for name in ("none", "se")]
ONE = Interval(0.5, None, None)


def made(kind: str) -> StudyResult:
    if kind == "scaling":
        sizes = [(Size("compound", 0.0, 1.0, 1.0, 8), RECORDS[:2]), (Size("depth", 1.0, 1.5, 1.0, 16), RECORDS[2:])]
        return Scaling("small:resnet", 1.2, 1.1, 1.15, sizes, ["a note"])
    if kind == "occlusion":
        shifts = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
        return Occlusion(
            "net", "se r=4", "64 images", 4, 2, [0, 2], [0, 2], np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
            [SiteGates("1", "channel", 3, ONE, None, Interval(1.0, 0.5, 1.5), ONE, None, ONE)],
            [Shifts("1", "channel", shifts), Shifts("2 (row)", "row", 2 * shifts)],
            [CueTest.of("1", (2, 0), 0.75, ((0.0, -0.5), (0.25, -0.25)))], [Detectors("1", "edge", (1,), 0.5)], [], ONE)
    if kind == "quantization":
        rows = [Rounded("none", 0, 8, "min-max", 98.0, 30.0, {"block": 20.0}, {}, None, 97.5)]
        return Quantization("net", "se r=4", "digits", ("depthwise",), (8, 4), 1, 0,
                            [Full("none", 0, 99.0, {"openvino": 98.5})], rows, RECORDS[1:2], [])
    gain = Gain("net", "se", 4, 0.5, 0.25, 0.75, 5, TRAINED, "digits", stages=(3, 4))
    return SearchResult(
        LatencyModel(((0.0, 0.1), (0.0, 0.2)), {"se": 0.01}, 0.05, 16), {"mix:none+se/4": 0.21}, {"nsga2": [0.5, 1.0]},
        [Preference(1, (0, 1), ONE, {"spatial": 2})], [gain], 95.0, [(90.0, 95.0)], None)


def kept(folder: Path, result: StudyResult) -> None:
    with RunStore.create_or_resume(folder, SPEC, {"cpu": "made"}) as store:
        store.plan_more(record.key for record in RECORDS)
        done = store.done_keys()
        for record in RECORDS:
            if record.key not in done:
                store.add(record)
        store.keep_study(result)


def plain(value: Any) -> Any:
    """The same without arrays and environments, so that it can be compared."""
    if isinstance(value, Record):
        return value.key
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tolist())
    if dataclasses.is_dataclass(value):
        return type(value), {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("kind", ["scaling", "occlusion", "quantization", "search"])
def test_a_result_comes_back_from_its_run_as_it_was(kind: str, tmp_path: Path) -> None:
    kept(tmp_path / "run", made(kind))
    run = read_all(tmp_path / "run")
    assert run.study is not None and run.study.kind == kind
    assert plain(run.study) == plain(made(kind))
    assert (run.spec, run.records, run.environments) == read_run(tmp_path / "run")


def test_the_same_result_again_changes_nothing_and_another_takes_its_place(tmp_path: Path) -> None:
    kept(tmp_path / "run", made("occlusion"))
    before = (tmp_path / "run" / DATABASE).read_bytes()
    kept(tmp_path / "run", made("occlusion"))
    assert (tmp_path / "run" / DATABASE).read_bytes() == before
    kept(tmp_path / "run", made("scaling"))
    assert isinstance(read_all(tmp_path / "run").study, Scaling)
    with sqlite3.connect(tmp_path / "run" / DATABASE) as database:
        names = [name for (name,) in database.execute("SELECT name FROM documents WHERE name GLOB 'study *'")]
    assert names == ["study scaling"]


def test_a_run_without_a_study_has_no_result(tmp_path: Path) -> None:
    with RunStore.create_or_resume(tmp_path / "run", SPEC, {}):
        pass
    assert read_all(tmp_path / "run").study is None


@pytest.mark.parametrize(("change", "told"), [
    (lambda values: values.update(schema=2), "has schema 2, and this secost knows schema 1"),
    (lambda values: values.update(alpha="1.2"), "makes no sense .*'1.2' is no float"),
    (lambda values: values["sizes"][0][1].append("nowhere"), "makes no sense .*nowhere"),
    (lambda values: values.pop("model"), "makes no sense .*model"),
])
def test_a_result_that_is_not_ours_is_refused_in_one_line(change: Any, told: str, tmp_path: Path) -> None:
    kept(tmp_path / "run", made("scaling"))
    with sqlite3.connect(tmp_path / "run" / DATABASE) as database:
        values = json.loads(database.execute("SELECT body FROM documents WHERE name = 'study scaling'").fetchone()[0])
        change(values)
        body = json.dumps(values)
        database.execute("UPDATE documents SET body = ?, checksum = ? WHERE name = 'study scaling'",
                         (body, checksum_of("document", "study scaling", body)))
    with pytest.raises(RunError, match=told) as caught:
        read_all(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_changed_map_is_noticed(tmp_path: Path) -> None:
    kept(tmp_path / "run", made("occlusion"))
    with sqlite3.connect(tmp_path / "run" / DATABASE) as database:
        database.execute("UPDATE documents SET body = replace(body, 'A', 'B') WHERE name = 'study occlusion 1'")
    with pytest.raises(RunError, match="damaged: its checksum does not fit"):
        read_all(tmp_path / "run")


def test_rounding_takes_the_processors_digits_at_any_depth() -> None:
    values = [(0.7169570509916574, Interval(0.7169570509916573, None, 1.0)), {"a": [1.2100000000000002]}, "x", 3]
    assert rounded(values) == [(0.716957051, Interval(0.716957051, None, 1.0)), {"a": [1.21]}, "x", 3]

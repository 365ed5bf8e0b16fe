"""Sweeps, trainings and searches over several processes and workers give the records that one process gives."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import secost
from secost.errors import BadSpecError
from secost.plan.spec import Spec
from secost.plan.trials import Listener
from secost.runs.records import Record
from secost.runs.store import read_run
from tests.work.conftest import Cluster

pytest.importorskip("distributed")

COUNTS = Spec.from_dict({
    "models": ["small:resnet", "small:vgg"], "attention": ["se", "eca", "mix:3xnone+se/2", "coord"], "reductions": [4],
    "resolution": [16, 32], "latency": False,
})
TRAINING: dict[str, Any] = {"attentions": ["se", "eca"], "reductions": 4, "seeds": 2, "epochs": 1, "latency": False}
_WHERE = ("environment", "host", "began_s", "ended_s")


def plain(records: list[Record]) -> list[dict[str, Any]]:
    """Records without where and when, and without the speed of a training."""
    found = [asdict(record) for record in records]
    for values in found:
        for name in _WHERE:
            values.pop(name)
        if values["samples"]:
            values["samples"].pop("train_images_per_s", None)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return plain(secost.sweep(COUNTS, tmp_path_factory.mktemp("alone") / "run"))


def test_a_sweep_over_local_processes_is_that_of_one(alone: list[dict[str, Any]], tmp_path: Path) -> None:
    records = secost.sweep(COUNTS, tmp_path / "run", workers=2)
    assert plain(records) == alone
    assert {record.host for record in records} == {None}
    assert any(values["status"] == "failed" for values in alone)  # the mix has not VGG's number of sites


@pytest.mark.slow
def test_a_sweep_over_a_cluster_is_that_of_one_and_tells_the_host(
    alone: list[dict[str, Any]], cluster: Cluster, tmp_path: Path
) -> None:
    records = secost.sweep(COUNTS, tmp_path / "run", executor="dask", address=cluster.address())
    assert plain(records) == alone
    _, kept, environments = read_run(tmp_path / "run")
    assert kept == records
    for record in records:
        assert record.host and record.began_s and record.ended_s and record.began_s <= record.ended_s
        assert record.environment in environments


@pytest.mark.slow
def test_trainings_over_a_cluster_are_those_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    one = secost.train("small:resnet", out=tmp_path / "one", jobs=1, **TRAINING)
    two = secost.train("small:resnet", out=tmp_path / "two", executor="dask", address=cluster.address(), **TRAINING)
    assert plain(two) == plain(one)
    assert {record.host for record in two if record.trained} != {None}


@pytest.mark.slow
def test_a_half_finished_sweep_goes_on_with_another_executor(
    alone: list[dict[str, Any]], cluster: Cluster, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    seen: list[str] = []

    def stop(record: Record) -> None:
        seen.append(record.key)
        if len(seen) == 7:
            raise Enough

    with pytest.raises(Enough):
        secost.sweep(COUNTS, tmp_path / "run", workers=2, listener=Listener(on_record=stop))
    before = read_run(tmp_path / "run")[1]
    assert len(before) == 7
    records = secost.sweep(COUNTS, tmp_path / "run", executor="dask", address=cluster.address())
    assert plain(records) == alone
    assert [record for record in records if record in before] == before


@pytest.mark.slow
def test_time_is_measured_by_one_worker_of_a_host_at_a_time(cluster: Cluster, tmp_path: Path) -> None:
    spec = Spec.from_dict({"models": ["small:resnet", "small:mobile"], "attention": "se", "reductions": 4,
                           "resolution": [8, 16], "seconds": 120.0, "target": 0.9})
    records = secost.sweep(spec, tmp_path / "run", executor="dask", address=cluster.address())
    assert all(record.latency_ms is not None for record in records)
    spans = sorted({(record.began_s or 0.0, record.ended_s or 0.0) for record in records})
    assert len(spans) == 4  # a comparison is one job: its records share their times
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    by_job = Counter((record.model, record.resolution, record.began_s) for record in records)
    assert set(by_job.values()) == {2}


@pytest.mark.slow
def test_a_worker_killed_in_mid_sweep_changes_no_record(
    alone: list[dict[str, Any]], fresh: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = fresh()
    workers = [cluster.worker() for _ in range(2)]

    def kill_one(record: Record) -> None:
        if workers[0].poll() is None:
            os.killpg(workers[0].pid, signal.SIGKILL)

    records = secost.sweep(
        COUNTS, tmp_path / "run", executor="dask", address=cluster.address(), listener=Listener(on_record=kill_one))
    assert plain(records) == alone


def test_a_model_file_that_only_the_driver_has_is_told_before_any_trial(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text("from secost.networks.families import small_resnet as make\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSpecError, match=r"own\.py"):
        secost.sweep(COUNTS.with_changes(models=["own.py:make"]), tmp_path / "run", executor="dask",
                     address=cluster.address())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_worker_without_a_package_that_is_needed_is_told_before_any_trial(
    fresh: Callable[..., Cluster], tmp_path: Path
) -> None:
    preload = tmp_path / "lacking.py"
    preload.write_text("import sys\nsys.modules['sklearn'] = sys.modules['sklearn.datasets'] = None\n")
    cluster = fresh()
    cluster.worker("--preload", str(preload))
    with pytest.raises(BadSpecError, match="scikit-learn"):
        secost.train("small:resnet", out=tmp_path / "run", executor="dask", address=cluster.address(), **TRAINING)
    assert not (tmp_path / "run").exists()


def test_no_scheduler_at_the_address_is_one_line_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secost.work.dask_executor.CONNECT_S", 1.0)
    with pytest.raises(BadSpecError, match=r"no scheduler answered at tcp://127\.0\.0\.1:9"):
        secost.sweep(COUNTS, tmp_path / "run", executor="dask", address="tcp://127.0.0.1:9")
    assert not (tmp_path / "run").exists()

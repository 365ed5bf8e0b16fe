"""Executors: jobs spread over processes and workers, what each came to, and what happens when one dies.

Schedulers and workers here are real processes on the loopback interface; they are killed for real.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secost.errors import BadSpecError, MissingExtraError, RunError, UnknownNameError
from secost.work import executors
from secost.work.executors import EXECUTORS, Executor, Job, LocalExecutor, Outcome, WorkerLost
from secost.work.run import open_executor
from tests import executor_jobs as jobs
from tests.work.conftest import ROOT, Cluster

dask_executor = pytest.importorskip("secost.work.dask_executor")
dask_jobs = pytest.importorskip("secost.work.dask_jobs")
DaskExecutor = dask_executor.DaskExecutor


def doubles(count: int) -> list[Job]:
    return [Job(f"double {number}", jobs.double, (number,)) for number in range(count)]


def by_label(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    """Outcomes by their jobs' labels; none may come twice."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        assert outcome.job.label not in found
        found[outcome.job.label] = outcome
    return found


def only(outcomes: Iterator[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def impatient(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, who is gone is given up soon; how long a connection took on a busy machine is none of it."""
    monkeypatch.setattr(dask_executor, "CONNECT_S", 0.5)
    monkeypatch.setattr(executor._client, "_timeout", 0.5)
    for name, seconds in (("PATIENCE_S", 0.1), ("GATHER_S", 0.5), ("LOOK_S", 0.1)):
        monkeypatch.setattr(dask_jobs, name, seconds)


@pytest.fixture(scope="module")
def on_cluster(cluster: Cluster) -> Iterator[Executor]:
    with open_executor("dask", address=cluster.address()) as executor:
        while executor.workers < 2:
            time.sleep(0.05)
        yield executor


@pytest.fixture(params=["local-1", "local-2", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Each executor in turn: the tests that use it are the contract."""
    if request.param == "dask":
        yield request.getfixturevalue("on_cluster")
        return
    with open_executor("local", workers=int(request.param[-1])) as found:
        yield found


# --- the contract ---


def test_every_job_comes_back_once_with_its_value(executor: Executor) -> None:
    found = by_label(executor.run(doubles(20)))
    assert {label: outcome.value for label, outcome in found.items()} == {f"double {n}": 2 * n for n in range(20)}
    assert all(outcome.error is None and outcome.began_s <= outcome.ended_s for outcome in found.values())


def test_no_jobs_give_no_outcomes(executor: Executor) -> None:
    assert list(executor.run([])) == []


def test_an_outcome_tells_when_its_job_was_worked_on(executor: Executor) -> None:
    before = time.time()
    outcome = only(executor.run([Job("double", jobs.double, (1,))]))
    assert before <= outcome.began_s <= outcome.ended_s <= time.time()


def test_values_are_plain_json_values(executor: Executor) -> None:
    assert only(executor.run([Job("shape", jobs.shape)])).value == {"pair": [1, 2.5], "none": None}


def test_a_value_that_is_not_plain_is_an_error(executor: Executor) -> None:
    outcome = only(executor.run([Job("object", jobs.no_json)]))
    assert isinstance(outcome.error, RunError) and "plain JSON values only" in str(outcome.error)


def test_an_error_of_secost_keeps_its_class_and_its_words(executor: Executor) -> None:
    found = by_label(executor.run([Job("refuse", jobs.refuse), Job("misspell", jobs.misspell)]))
    refused, misspelt = found["refuse"].error, found["misspell"].error
    assert type(refused) is BadSpecError and " ".join(str(refused).split()) == "this was asked wrongly"
    assert type(misspelt) is UnknownNameError and str(misspelt) == "unknown attention 'ec': did you mean eca?"


@pytest.mark.parametrize(("work", "words"), [
    (jobs.divide, "ZeroDivisionError: division by zero"), (jobs.leave, "SystemExit: 3"),
])
def test_any_other_error_is_a_run_error_in_one_line(executor: Executor, work: Any, words: str) -> None:
    outcome = only(executor.run([Job("it", work)]))
    assert type(outcome.error) is RunError and str(outcome.error) == words and outcome.value is None


def test_one_error_leaves_the_other_jobs_alone(executor: Executor) -> None:
    found = by_label(executor.run([*doubles(4), Job("refuse", jobs.refuse), Job("after", jobs.double, (5,))]))
    assert [label for label, outcome in found.items() if outcome.error] == ["refuse"] and found["after"].value == 10


def test_a_shared_value_stands_in_the_place_of_its_handle(executor: Executor) -> None:
    handle = executor.share([1, 2, 3])
    found = by_label(executor.run(Job(f"{n}", jobs.length, (handle, n)) for n in range(3)))
    assert [found[f"{n}"].value for n in range(3)] == [0, 3, 6]
    executor.check(jobs.fine, handle)


def test_a_check_that_says_no_is_a_wrong_request(executor: Executor) -> None:
    executor.check(jobs.fine, [1, 2, 3])
    with pytest.raises(BadSpecError, match="the data set is not there"):
        executor.check(jobs.not_fine)


def test_jobs_are_taken_as_they_are_needed(executor: Executor) -> None:
    taken = itertools.count()
    outcomes = executor.run(Job(f"{next(taken)}", jobs.nothing) for _ in range(10_000))
    next(outcomes)
    outcomes.close()
    assert next(taken) <= 17  # the window of 16 and one that ended


def test_a_run_that_is_left_lets_the_next_one_begin(executor: Executor) -> None:
    outcomes = executor.run(Job(f"{n}", jobs.nap, (0.05,)) for n in range(100))
    next(outcomes)
    outcomes.close()
    assert len(by_label(executor.run(doubles(3)))) == 3


def test_a_job_that_is_to_be_alone_overlaps_no_other(executor: Executor) -> None:
    work = [Job(f"{n}", jobs.nap, (0.02,), alone=n % 4 == 1) for n in range(16)]
    found = sorted(by_label(executor.run(work)).values(), key=lambda outcome: outcome.began_s)
    assert len(found) == 16 and not any(outcome.error for outcome in found)
    for one, other in itertools.combinations(found, 2):
        if one.job.alone or other.job.alone:
            assert one.ended_s <= other.began_s


# --- opening ---


def test_wrong_words_are_refused_before_anything_starts() -> None:
    with pytest.raises(UnknownNameError, match="unknown executor 'dusk': did you mean dask"):
        open_executor("dusk")
    with pytest.raises(BadSpecError, match="0 workers are not possible: give 1 or more"):
        open_executor("local", workers=0)
    with pytest.raises(BadSpecError, match=r"both 2 workers and the scheduler tcp://a:1 were given"):
        open_executor("dask", workers=2, address="tcp://a:1")
    with pytest.raises(BadSpecError, match="the local executor has no scheduler, but tcp://a:1 was given"):
        open_executor("local", address="tcp://a:1")
    with pytest.raises(BadSpecError, match="neither a scheduler's address nor a number of workers"):
        open_executor("dask")


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "secost.work.dask_executor")
    with pytest.raises(MissingExtraError, match=r"the executor dask needs dask.distributed.*'secost\[cluster\]'"):
        open_executor("dask", workers=1)


def test_the_local_executor_needs_no_dask_and_no_torch() -> None:
    code = "import sys; import secost.work.executors; print({'dask', 'distributed', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_third_party_can_register_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EXECUTORS, "_entries", dict(EXECUTORS._entries))
    EXECUTORS.register("mine", lambda workers, address: LocalExecutor(workers or 7))
    assert open_executor("mine").workers == 7


# --- this machine ---


def test_one_local_worker_is_this_process_and_keeps_the_order() -> None:
    with open_executor() as executor:
        found = list(executor.run([Job(f"{n}", jobs.process) for n in range(3)]))
    assert [(o.job.label, o.value, o.host, o.environment) for o in found] == [
        (f"{n}", os.getpid(), None, None) for n in range(3)
    ]


def test_two_local_workers_are_a_child_for_each_job_and_this_process_for_those_alone() -> None:
    work = [Job(f"{n}", jobs.process, alone=n == 2) for n in range(5)]
    found = by_label(LocalExecutor(2).run(work))
    assert found["2"].value == os.getpid()
    assert len({outcome.value for outcome in found.values()}) == 5


def test_two_local_workers_work_at_the_same_time(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    work = [Job("one", jobs.note_and_wait_for, (one, two)), Job("two", jobs.note_and_wait_for, (two, one))]
    assert len(by_label(LocalExecutor(2).run(work))) == 2


def test_a_child_that_dies_has_its_job_tried_again(tmp_path: Path) -> None:
    work = [Job("once", jobs.kill_own_process_once, (str(tmp_path / "was here"),)), *doubles(3)]
    found = by_label(LocalExecutor(2).run(work))
    assert found["once"].value == 1 and len(found) == 4


def test_a_job_whose_child_always_dies_is_lost_and_the_others_are_done() -> None:
    found = by_label(LocalExecutor(2).run([Job("bad", jobs.kill_own_process), *doubles(3)]))
    lost = found.pop("bad").error
    assert isinstance(lost, WorkerLost) and "bad was tried 3 times, at last" in str(lost) and "SIGKILL" in str(lost)
    assert sorted(outcome.value for outcome in found.values()) == [0, 2, 4]


def test_where_nothing_can_be_forked_this_process_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "can_fork", lambda: False)
    found = by_label(LocalExecutor(2).run([Job(f"{n}", jobs.process) for n in range(3)]))
    assert {outcome.value for outcome in found.values()} == {os.getpid()}


def test_children_are_ended_when_the_run_is_left(tmp_path: Path) -> None:
    waiting = Job("waits", jobs.note_and_wait_for, (str(tmp_path / "here"), str(tmp_path / "never")))
    outcomes = LocalExecutor(2).run([waiting, *doubles(2)])
    next(outcomes)
    while not (tmp_path / "here").exists():
        time.sleep(0.01)
    outcomes.close()  # would not return while the child waits
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "here").read_text()), 0)


# --- a cluster ---


def test_an_outcome_tells_the_host_and_its_environment(on_cluster: Executor) -> None:
    outcome = only(on_cluster.run([Job("double", jobs.double, (1,))]))
    assert outcome.host == socket.gethostname()
    assert outcome.environment is not None and outcome.environment["machine"] and outcome.environment["python"]


def test_both_workers_work_at_the_same_time(on_cluster: Executor, tmp_path: Path) -> None:
    assert on_cluster.workers == 2
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    work = [Job("one", jobs.note_and_wait_for, (one, two)), Job("two", jobs.note_and_wait_for, (two, one))]
    assert len({outcome.value for outcome in by_label(on_cluster.run(work)).values()}) == 2


def test_a_check_names_the_worker(on_cluster: Executor) -> None:
    with pytest.raises(BadSpecError, match=r"^worker tcp://127\.0\.0\.1:\d+ is not fit: the data set is not there$"):
        on_cluster.check(jobs.not_fine)


def test_a_job_that_needs_a_gpu_wants_a_worker_that_offers_one(on_cluster: Executor) -> None:
    with pytest.raises(BadSpecError, match=r'vgg needs a worker that offers the resource gpu.*--resources "gpu=1"'):
        list(on_cluster.run([Job("vgg", jobs.nothing, gpu=True)]))


def test_jobs_alone_of_two_drivers_overlap_nothing(cluster: Cluster, on_cluster: Executor) -> None:
    with open_executor("dask", address=cluster.address()) as other:
        mine = on_cluster.run(Job(f"{n}", jobs.nap, (0.02,), alone=n % 3 == 0) for n in range(12))
        theirs = other.run(Job(f"{n}", jobs.nap, (0.02,), alone=n % 3 == 0) for n in range(12))
        pairs = list(zip(mine, theirs, strict=True))
    found = sorted(itertools.chain.from_iterable(pairs), key=lambda outcome: outcome.began_s)
    for one, two in itertools.combinations(found, 2):
        if one.job.alone or two.job.alone:
            assert one.ended_s <= two.began_s


def test_who_is_to_be_alone_waits_for_those_before_and_not_for_those_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    order: list[str] = []

    def work(name: str, alone: bool) -> None:
        with dask_jobs.on_host(alone):
            order.append(name)

    threads = [threading.Thread(target=work, args=words) for words in (("alone", True), ("behind", False))]
    with dask_jobs.on_host(alone=False), (tmp_path / f"secost-{os.getuid()}.gate").open() as gate:
        work("beside", alone=False)
        threads[0].start()
        with contextlib.suppress(BlockingIOError):
            while True:  # until the one that is to be alone has the gate
                fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(gate, fcntl.LOCK_UN)
        threads[1].start()
        assert order == ["beside"]
    for thread in threads:
        thread.join()
    assert order == ["beside", "alone", "behind"]


def test_latency_wants_a_worker_that_offers_it(fresh: Callable[..., Cluster]) -> None:
    cluster = fresh()
    cluster.worker()
    with (
        open_executor("dask", address=cluster.address()) as executor,
        pytest.raises(BadSpecError, match=r'offers the resource latency.*start workers with --resources "latency=1"'),
    ):
        list(executor.run([Job("timed", jobs.nothing, alone=True)]))


@pytest.mark.slow
def test_a_worker_with_another_secost_is_refused(
    fresh: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old.py"
    old.write_text("import secost\nsecost.__version__ = '0.0.9'\n")
    cluster = fresh()
    cluster.worker("--preload", str(old))
    words = r"worker tcp://127\.0\.0\.1:\d+ has secost 0\.0\.9, and here it is \d+\.\d+\.\d+"
    with open_executor("dask", address=cluster.address()) as executor:
        with pytest.raises(BadSpecError, match=words):
            executor.check(jobs.fine, [1, 2, 3])
        with pytest.raises(BadSpecError, match=words):
            list(executor.run(doubles(3)))
        monkeypatch.setattr(executor, "admit", lambda there: None)  # it joined a moment ago
        with pytest.raises(BadSpecError, match=words):
            list(executor.run(doubles(3)))


def test_a_worker_without_secost_is_refused(fresh: Callable[..., Cluster], tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text("import sys\nsys.modules['secost'] = None\n")
    cluster = fresh()
    cluster.worker("--preload", str(bare))
    with open_executor("dask", address=cluster.address()) as executor:
        with pytest.raises(BadSpecError, match=r"worker tcp://127\.0\.0\.1:\d+ can't import secost: install secost"):
            executor.check(jobs.fine, [1, 2, 3])
        with pytest.raises(BadSpecError, match="can't import secost: install secost"):
            list(executor.run(doubles(3)))


def test_work_that_a_worker_can_not_find_is_an_error_and_no_death(
    on_cluster: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("only_here")
    exec("def work(): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    outcome = only(on_cluster.run([Job("it", module.work)]))
    assert str(outcome.error) == "ModuleNotFoundError: No module named 'only_here'"
    with pytest.raises(BadSpecError, match="No module named 'only_here'"):
        on_cluster.check(module.work)


def test_arguments_that_can_not_be_sent_are_a_wrong_request(on_cluster: Executor, capfd: Any) -> None:
    with pytest.raises(BadSpecError, match=r"double.* with its arguments can't be sent to a worker: "):
        list(on_cluster.run([Job("it", jobs.double, (threading.Lock(),))]))
    assert capfd.readouterr() == ("", "")


def test_a_list_of_arguments_that_looks_like_a_task_is_left_as_it_is(on_cluster: Executor) -> None:
    assert only(on_cluster.run([Job("it", jobs.length, ([("secost", len, "x")], 2))])).value == 2


def test_another_python_is_refused_before_a_function_is_sent(
    on_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = on_cluster._client.get_versions()
    for worker in real["workers"].values():
        worker["packages"] = {**worker["packages"], "python": "3.9.1.final.0"}
    monkeypatch.setattr(on_cluster._client, "get_versions", lambda: real)
    monkeypatch.setattr(on_cluster, "_admitted", set())
    with pytest.raises(BadSpecError, match=r"has Python 3\.9, and here it is 3\.\d+: give both the same installation"):
        on_cluster.check(jobs.fine, [1, 2, 3])


def test_no_scheduler_at_the_address_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(dask_executor, "CONNECT_S", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadSpecError, match=f"no scheduler answered at {address} within 1 s: ") as caught:
            open_executor("dask", address=address)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["nonsense://127.0.0.1:1", "tls://127.0.0.1:1"])
def test_an_address_that_can_not_be_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(dask_executor, "CONNECT_S", 1.0)
    with pytest.raises(BadSpecError, match=f"the scheduler at {address} can't be reached: ") as caught:
        open_executor("dask", address=address)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_scheduler_without_workers_tells_how_to_start_one(
    fresh: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "JOIN_S", 0.2)
    with (
        open_executor("dask", address=fresh().address()) as executor,
        pytest.raises(BadSpecError, match=r'has no worker after 0 s: start one by dask worker tcp://.*"latency=1"'),
    ):
        executor.check(jobs.fine, [1, 2, 3])


def test_a_worker_killed_in_mid_run_loses_nothing(fresh: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = fresh()
    first, _ = cluster.worker(), cluster.worker()
    with open_executor("dask", address=cluster.address()) as executor:
        while executor.workers < 2:
            time.sleep(0.05)
        found = {}
        for outcome in executor.run(Job(f"{n}", jobs.nap, (0.02,)) for n in range(40)):
            assert outcome.error is None and outcome.job.label not in found
            found[outcome.job.label] = outcome
            if len(found) == 5:
                os.kill(first.pid, signal.SIGKILL)
    assert len(found) == 40


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_lost_and_the_others_are_done(fresh: Callable[..., Cluster]) -> None:
    """With allowed-failures 0, the first death counts against all that waited at the worker."""
    cluster = fresh(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    cluster.worker(nanny=True)
    with open_executor("dask", address=cluster.address()) as executor:
        found = by_label(executor.run([Job("bad", jobs.kill_own_process), *doubles(10)]))
    lost = found.pop("bad").error
    assert isinstance(lost, WorkerLost) and "bad was given up: every worker that it was tried on died" in str(lost)
    assert sorted(outcome.value for outcome in found.values()) == [2 * n for n in range(10)]


@pytest.mark.slow
def test_a_job_alone_goes_to_another_host_when_its_own_leaves(
    fresh: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To dask, 127.0.0.1 and 127.0.0.2 are two hosts; one job is on its way to each."""
    monkeypatch.setattr(dask_jobs, "LOOK_S", 0.1)
    cluster = fresh(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="9")
    first, _ = (cluster.worker("--resources", "latency=1", "--host", f"127.0.0.{number}") for number in (1, 2))
    with open_executor("dask", address=cluster.address()) as executor:
        while executor.workers < 2:
            time.sleep(0.05)
        work = [Job(f"{n}", jobs.nap, (0.05,), alone=True) for n in range(8)]
        outcomes = executor.run(work)
        found = [next(outcomes)]
        os.kill(first.pid, signal.SIGKILL)
        found += outcomes
    assert sorted(outcome.job.label for outcome in found) == [f"{n}" for n in range(8)]
    assert not any(outcome.error for outcome in found)


@pytest.mark.slow
def test_workers_that_all_left_end_the_run_in_time(
    fresh: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = fresh()
    worker = cluster.worker("--resources", "latency=1")
    with open_executor("dask", address=cluster.address()) as executor:
        outcomes = executor.run(Job(f"{n}", jobs.nap, (0.05,), alone=n % 2 == 0) for n in range(100))
        next(outcomes)
        impatient(executor, monkeypatch)
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(RunError, match=r"no worker of tcp://.* that could go on was there for 0 s"):
            list(outcomes)


def test_a_scheduler_killed_in_mid_run_is_one_error(
    fresh: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    cluster = fresh()
    cluster.worker()
    with open_executor("dask", address=cluster.address()) as executor:
        outcomes = executor.run(Job(f"{n}", jobs.nap, (0.02,)) for n in range(1000))
        next(outcomes)
        impatient(executor, monkeypatch)
        os.kill(cluster.scheduler.pid, signal.SIGKILL)
        with pytest.raises(RunError, match="was lost; finished trials are kept: run the same command again"):
            list(outcomes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_scheduler_that_was_lost_while_nobody_looked_is_one_error(
    fresh: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = fresh()
    cluster.worker()
    with DaskExecutor(address=cluster.address()) as executor:
        outcomes = executor.run(Job(f"{n}", jobs.nap, (0.02,)) for n in range(1000))
        next(outcomes)
        impatient(executor, monkeypatch)
        os.kill(cluster.scheduler.pid, signal.SIGKILL)
        while executor._client.status != "closed":
            time.sleep(0.05)
        for again in (lambda: list(outcomes), lambda: list(executor.run(doubles(2))), lambda: executor.workers,
                      lambda: executor.check(jobs.fine, []), lambda: executor.share(1)):
            with pytest.raises(RunError, match="was lost; finished trials are kept"):
                again()


# --- encrypted ---


def certificate(folder: Path) -> Path:
    """A key with its own certificate for this machine, in one file."""
    from distributed.security import Security

    made = Security.temporary()
    path = folder / "both.pem"
    path.write_text(made.tls_client_key + made.tls_client_cert + made.tls_ca_file)
    path.chmod(0o600)
    return path


@pytest.mark.slow
def test_tls_is_used_as_dask_is_set_up(
    fresh: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask.config

    path = str(certificate(tmp_path))
    tls = {f"distributed.comm.tls.client.{part}": path for part in ("key", "cert")}
    names = {f"DASK_DISTRIBUTED__COMM__TLS__{role}__{part}": path
             for role in ("SCHEDULER", "WORKER", "CLIENT") for part in ("KEY", "CERT")}
    cluster = fresh(
        **names, DASK_DISTRIBUTED__COMM__TLS__CA_FILE=path, DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION="true",
        DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME="tls",
    )
    cluster.worker()
    assert cluster.address().startswith("tls://")
    with (
        dask.config.set(tls | {"distributed.comm.tls.ca-file": path}),
        open_executor("dask", address=cluster.address()) as executor,
    ):
        executor.check(jobs.fine, [1, 2, 3])
        assert len(by_label(executor.run(doubles(5)))) == 5


# --- a cluster of processes started here ---


@pytest.mark.slow
def test_a_cluster_started_here_is_quiet_and_ends(tmp_path: Path) -> None:
    """As a user's script, so that all that is printed is seen: two workers with the driver's own environment.

    Nothing of it listens to other machines.
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import psutil
        from secost.work.executors import Job
        from secost.work.run import open_executor
        from tests import executor_jobs as jobs

        if __name__ == "__main__":
            with open_executor("dask", workers=2) as executor:
                assert executor.workers == 2
                here = psutil.Process()
                for process in [here, *here.children(recursive=True)]:
                    for socket in process.net_connections("inet"):
                        assert socket.status != "LISTEN" or socket.laddr.ip == "127.0.0.1", socket
                executor.check(jobs.fine, executor.share([1, 2, 3]))
                found = list(executor.run(Job(f"{n}", jobs.double, (n,), alone=n == 3) for n in range(8)))
                threads = list(executor.run([Job("", jobs.variable, ("OMP_NUM_THREADS",))]))
            left = [child for child in here.children() if "spawn_main" in str(child.cmdline())]
            print(sorted(outcome.value for outcome in found), threads[0].value, left)
    """))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6, 8, 10, 12, 14] None []\n", "")


@pytest.mark.slow
def test_a_cluster_started_here_is_quiet_when_it_is_stopped(tmp_path: Path) -> None:
    """A Ctrl-C in a terminal reaches the workers as well."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        from secost.work.executors import Job
        from secost.work.run import open_executor
        from tests import executor_jobs as jobs

        if __name__ == "__main__":
            try:
                with open_executor("dask", workers=1) as executor:
                    for outcome in executor.run(Job(f"{n}", jobs.nap, (0.1,)) for n in range(10_000)):
                        print("going on", flush=True)
            except KeyboardInterrupt:
                print("stopped")
    """))
    with subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "going on\n"
        os.killpg(process.pid, signal.SIGINT)
        said = process.stdout.read()
    assert said.replace("going on\n", "") == "stopped\n"


@pytest.mark.slow
def test_a_cluster_started_here_survives_a_job_that_kills(tmp_path: Path) -> None:
    with open_executor("dask", workers=2) as executor:
        handle = executor.share([1, 2, 3])
        work = [Job("bad", jobs.kill_own_process), Job("once", jobs.kill_own_process_once, (str(tmp_path / "here"),))]
        found = by_label(executor.run([*work, *(Job(f"{n}", jobs.length, (handle, n)) for n in range(20))]))
    assert isinstance(found.pop("bad").error, WorkerLost)
    assert [(label, outcome.error) for label, outcome in found.items() if outcome.error is not None] == []
    assert found.pop("once").value == 1
    assert sorted(outcome.value for outcome in found.values()) == [3 * n for n in range(20)]

"""Makes the Plan of a spec, carries its costs out comparison by comparison, and hands on every record as it is made.

`profile_spec` and `sweep_spec` are the verbs for a spec that is made already; `trainings.train_spec` is the third.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from secost.errors import BadSpecError, MissingExtraError, SecostError, one_line
from secost.meters.backends.offered import get_backend, not_offered
from secost.meters.conditions import threads_of_torch
from secost.meters.environment import describe
from secost.networks.attended import attached_paths
from secost.networks.attention import has_reduction
from secost.networks.sites import find_sites
from secost.networks.sources import check_name, inputs_for
from secost.plan.options import DEFAULT_REDUCTIONS
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Comparison, Listener, Plan
from secost.plan.variants import check_spellings
from secost.runs.database import DATABASE, environment_id
from secost.runs.records import Record
from secost.runs.store import RunStore, discard_if_empty
from secost.work.comparison import WRONG_REQUESTS, Networks, failed, run_comparison
from secost.work.executors import EXECUTORS, LOCAL, Executor, Job, LocalExecutor, Outcome


@dataclass(frozen=True)
class Finished:
    """What a plan came to: all records in its order, and by id the machines that made them."""

    plan: Plan
    records: list[Record]
    environments: Mapping[str, Mapping[str, Any]]

    @property
    def spec(self) -> Spec:
        return self.plan.spec


def profile_spec(
    spec: Spec, networks: Networks | None = None, *, out: str | Path | None = None, listener: Listener | None = None,
) -> Finished:
    """The costs of one network, in the run `out` where one is named: a wrong request raises and leaves nothing behind.

    `networks` holds the user's own module or inputs, or what the caller has loaded already.
    """
    listener, networks = listener or Listener(), networks or Networks(spec.allow_download)
    plan = make_plan(spec, networks)
    if out is not None:
        with open_run(plan.spec, out) as store:
            return run_in_store(plan, store, listener, networks, strict=True)
    environment = describe()
    machine = environment_id(environment)
    announce(plan, listener)
    records = []
    for record, _ in run_comparisons(plan.comparisons, plan.spec, listener, networks, strict=True):
        record.environment = machine
        listener.on_record(record)
        records.append(record)
    return Finished(plan, records, {machine: environment})


@contextlib.contextmanager
def open_run(spec: Spec, out: str | Path | None) -> Iterator[RunStore]:
    """The run in the folder `out`, made or gone on with, or one that goes away again, where none is named.

    A request that turns out to be wrong leaves nothing there.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        made = next((above for above in (*reversed(folder.parents), folder) if not above.exists()), None)
        fresh = not (folder / DATABASE).exists()
        store = RunStore.create_or_resume(folder, spec, describe())
        try:
            with store:
                yield store
        except SecostError:
            if fresh:
                discard_if_empty(folder, made)
            raise


def sweep_spec(
    spec: Spec, out: str | Path, *, retry_failed: bool = False, listener: Listener | None = None,
    executor: str = LOCAL, workers: int | None = None, address: str | None = None,
) -> Finished:
    """The costs of a grid, in the run `out`. Raises BadSpecError before any trial where a worker can't carry it out."""
    plan = make_plan(spec)
    with (workers_for(spec, executor, workers, address) as chosen,
          RunStore.create_or_resume(out, spec, describe()) as store):
        return run_in_store(plan, store, listener, retry_failed=retry_failed, executor=chosen)


def run_in_store(
    plan: Plan, store: RunStore, listener: Listener | None = None, networks: Networks | None = None, *,
    retry_failed: bool = False, strict: bool = False, executor: Executor | None = None,
) -> Finished:
    """Carry out what a run still lacks of costs, one commit a record.

    `strict` lets a wrong request (no site, r too large) raise; otherwise it becomes failed records. `executor` spreads
    the comparisons over its workers; only this process writes.
    """
    listener, networks = listener or Listener(), networks or Networks(plan.spec.allow_download)
    plan = begin(plan, store, listener, retry_failed)
    measure(plan, store, listener, networks, executor, strict)
    return finished(plan, store)


def begin(plan: Plan, store: RunStore, listener: Listener, retry_failed: bool = False) -> Plan:
    """The plan beside what the run has already; the listener hears of it."""
    until = plan.spec.train is not None and plan.spec.train.until is not None
    # A run that looks has the seeds that were added on the way, or may have had others to begin with.
    (store.plan_more if until and store.plan else store.set_plan)(plan.keys)
    plan = plan.having(store.done_keys(retry_failed=retry_failed))
    announce(plan, listener)
    return plan


def announce(plan: Plan, listener: Listener) -> None:
    listener.on_plan(plan)
    for text in plan.told():
        listener.on_note(text)


def measure(
    plan: Plan, store: RunStore, listener: Listener, networks: Networks, executor: Executor | None, strict: bool
) -> None:
    """The costs that a run lacks."""
    run = run_comparisons(plan.to_measure, plan.spec, listener, networks, executor, strict=strict)
    for record, where in run:
        if record.key not in plan.done:
            listener.on_record(store.add(record, where))


def measure_more(spec: Spec, store: RunStore, listener: Listener, networks: Networks | None = None) -> list[Record]:
    """The records of a spec's costs in a run that was begun with another; what it lacks of them is measured.

    A wrong request raises; a network that fails gives failed records.
    """
    networks = networks or Networks(spec.allow_download)
    plan = make_plan(spec, networks)
    store.plan_more(plan.keys)
    plan = plan.having(store.done_keys())
    announce(plan, listener)
    measure(plan, store, listener, networks, None, strict=True)
    by_key = {record.key: record for record in store.records()}
    return [by_key[key] for key in plan.keys]


def finished(plan: Plan, store: RunStore) -> Finished:
    return Finished(plan, store.records(), store.environments())


def run_comparisons(
    comparisons: Iterable[Comparison], spec: Spec, listener: Listener, networks: Networks,
    executor: Executor | None = None, *, strict: bool = False,
) -> Iterator[tuple[Record, Mapping[str, Any] | None]]:
    """The records of all comparisons, each with the environment of another machine that made it, None for this one's.

    Each comparison is one job, so that its ratios are of one process; where time is measured its host has no other.
    Where a wrong request ends all (`strict`) this process does them in turn, so that it is always the first one's.
    """
    if executor is None or (executor.name == LOCAL and (strict or executor.workers == 1)):
        for comparison in comparisons:
            for record in run_comparison(comparison, spec, listener, networks, strict):
                yield record, None
        return
    here = networks if executor.name == LOCAL else None  # forked children inherit them; other workers have their own
    jobs = (Job(comparison.setting.label, comparison_job, (comparison, spec, strict, networks.classes, here),
                alone=spec.latency, gpu=comparison.setting.device == "cuda") for comparison in comparisons)
    for outcome in executor.run(jobs):
        comparison = outcome.job.arguments[0]
        if strict and isinstance(outcome.error, WRONG_REQUESTS):
            raise outcome.error
        listener.on_comparison(comparison, len(comparison.trials))
        for text in outcome.value["notes"] if outcome.error is None else ():
            listener.on_note(text)
        records = ([Record.from_dict(values) for values in outcome.value["records"]] if outcome.error is None
                   else [failed(trial, outcome.error) for trial in comparison.trials])
        for record in records:
            yield placed(record, outcome), outcome.environment


def comparison_job(
    comparison: Comparison, spec: Spec, strict: bool, classes: int | None, networks: Networks | None = None
) -> dict[str, Any]:
    """`run_comparison` as the work of a job: records and notes as plain values.

    Counting takes one thread, as other workers count beside it; measuring takes the threads that it is asked for.
    """
    notes: list[str] = []
    networks = networks or Networks(spec.allow_download, classes)
    with threads_of_torch(1):
        records = run_comparison(comparison, spec, Listener(on_note=notes.append), networks, strict)
        return {"records": [record.to_dict() for record in records], "notes": notes}


def placed(record: Record, outcome: Outcome) -> Record:
    """The record with the host that made it, and between which seconds since 1970; of this machine neither is told."""
    if outcome.host is not None:
        record.host, record.began_s, record.ended_s = outcome.host, outcome.began_s, outcome.ended_s
    return record


# --- who works ---


def open_executor(name: str = LOCAL, workers: int | None = None, address: str | None = None) -> Executor:
    """The executor of that name; close it, or use it in `with`.

    `workers`: processes on this machine. `address`: a scheduler that the user started. Raises UnknownNameError for the
    name, BadSpecError for a number or an address that can't be, MissingExtraError where a package is missing.
    """
    factory = EXECUTORS.get(name)
    if workers is not None and workers < 1:
        raise BadSpecError(f"{workers} workers are not possible: give 1 or more")
    if workers is not None and address is not None:
        raise BadSpecError(
            f"both {workers} workers and the scheduler {address} were given: its workers are those started for it, "
            "leave one of the two out"
        )
    return factory(workers=workers, address=address)


def _open_local(workers: int | None, address: str | None) -> Executor:
    if address is not None:
        raise BadSpecError(f"the local executor has no scheduler, but {address} was given: choose the executor dask")
    return LocalExecutor(workers or 1)


def _open_dask(workers: int | None, address: str | None) -> Executor:
    try:
        from secost.work.dask_executor import DaskExecutor
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("dask", "distributed"):
            raise MissingExtraError("dask.distributed", "cluster", "the executor dask") from error
        raise
    return DaskExecutor(workers, address)


EXECUTORS.register(LOCAL, _open_local)
EXECUTORS.register("dask", _open_dask)


@contextlib.contextmanager
def workers_for(spec: Spec, name: str, workers: int | None, address: str | None) -> Iterator[Executor]:
    """An executor whose workers can carry the spec out. Raises BadSpecError before any trial where one can't.

    What this process lacks was looked for by the caller, so a local one is not asked again.
    """
    with open_executor(name, workers, address) as executor:
        if executor.name != LOCAL:
            executor.check(readiness, spec)
        yield executor


def readiness(spec: Spec) -> str | None:
    """What a worker lacks for the spec, in a line, None where nothing does: models, backends, data sets."""
    try:
        make_plan(spec)
        if spec.train is not None:
            from secost.training.datasets import load_data

            load_data(spec.train.dataset, spec.train.data)
    except Exception as error:
        return one_line(error)
    return None


# --- the plan of a spec ---


def make_plan(spec: Spec, networks: Networks | None = None) -> Plan:
    """The plan of a spec. Raises UnknownNameError for a model, attention or backend that does not exist.

    With `networks` the usual reductions are those that fit the one network of the spec: what the user asked for is
    never changed, but refused where it does not fit.
    """
    if networks is None or not networks.given:
        for model in spec.models:
            check_name(model)
    notes: list[str] = []
    if networks is not None and spec.reductions == DEFAULT_REDUCTIONS and len(spec.models) == 1:
        spec = _fitting(spec, networks, notes)
    reducible = {name: has_reduction(name) for name in spec.attention if name not in (BASELINE, NATIVE)}
    cores = describe()["logical_cores"]
    for threads in spec.threads:
        if threads > cores:
            raise BadSpecError(
                f"threads {threads} is more than the {cores} processors of this machine: give at most {cores}"
            )
    asked = list(itertools.product(spec.backend, spec.precision, spec.device, spec.memory_format))
    runnable = _runnable(asked, spec.cuda_graphs, here=spec.latency or spec.train is not None)
    kept = [comparison for comparison in spec.comparisons(reducible, check_spellings(spec.spelling, spec.attention))
            if attrgetter("backend", "precision", "device", "memory_format")(comparison.setting) in runnable]
    if not any(trial.alternative for comparison in kept for trial in comparison.trials):
        spec = spec.with_changes(alternatives=Spec.alternatives)
    lost = [f"{values[0]} has no {value}" for values in asked for value in not_offered(*values)]
    return Plan(spec, tuple(kept), tuple(dict.fromkeys(lost)), tuple(notes))


def _fitting(spec: Spec, networks: Networks, notes: list[str]) -> Spec:
    """The spec without those usual reductions that the network's narrowest site is too narrow for."""
    try:
        if not any(has_reduction(name) for name in spec.attention if name not in (BASELINE, NATIVE)):
            return spec
        net = networks.get(spec.models[0])
        graph = networks.trace(inputs_for(net, spec.resolution[0], networks.example))
        grid = itertools.product(spec.placement, spec.integration, spec.stages)
        narrowest = min(
            (site.channels for where in grid for site in find_sites(graph, *where, attached_paths(net))), default=0
        )
    except Exception:  # whatever is wrong with the request is told where it is carried out
        return spec
    kept = [r for r in spec.reductions if r <= narrowest]
    if not kept or len(kept) == len(spec.reductions):
        return spec
    lost = ", ".join(str(r) for r in spec.reductions if r not in kept)
    notes.append(f"a site of {spec.models[0]} has {narrowest} channels: of the usual reductions, {lost} left out")
    return spec.with_changes(reductions=kept)


def _runnable(
    asked: Sequence[tuple[str, str, str, str]], cuda_graphs: bool, here: bool,
) -> list[tuple[str, str, str, str]]:
    """The combinations that their backends offer, each at hand here.

    A grid of several backends and precisions asks for what there is of it. But a value that is in none of the
    combinations was asked for in vain: that raises, as does what this machine lacks where something runs `here`.
    """
    offered = [values for values in asked if not not_offered(*values)]
    vain = [values for values in asked
            if any(all(values[place] != other[place] for other in offered) for place in range(len(values)))]
    for values in (*vain, *offered):
        get_backend(*values, cuda_graphs, here)
    return offered

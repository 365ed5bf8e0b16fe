"""Carries a spec out: plans its trials, runs each comparison, and hands every record on as soon as it is made.

One comparison is one network at one setting: it is loaded once, traced once, and holds all its variants at once on
shared weights. A trial that fails is a record with its reason, and the others go on.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from secost.errors import BadSpecError, MissingExtraError, ModelLoadError, NoSiteError, one_line
from secost.glossary import Caution
from secost.meters import environment
from secost.meters.backends.calibration import load_calibration
from secost.meters.backends.offered import BACKENDS, get_backend, not_offered
from secost.meters.conditions import threads_of_torch
from secost.meters.counts import (
    MAC_CONVENTION,
    Cost,
    SiteCost,
    attention_cost,
    by_site,
    by_stage,
    native_cost,
    network_cost,
)
from secost.meters.roofline import Roofline, cached_roofline, site_floors_ms
from secost.networks.attention import has_reduction
from secost.networks.cache import cached_trace
from secost.networks.hooks import attached_paths
from secost.networks.inputs import Example, inputs_for
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.sources import check_name, load
from secost.networks.surgery import Switch, check_fits, native_paths, require_sites
from secost.networks.tracing import ForwardError, eval_mode
from secost.plan.spec import BASELINE, DEFAULT_REDUCTIONS, NATIVE, Comparison, Setting, Spec, Trial
from secost.plan.spelling import check_spellings
from secost.runs.records import DONE, FAILED, Record, overhead
from secost.runs.store import RunStore, environment_id
from secost.work.executors import LOCAL, Executor, Job, Outcome, open_executor
from secost.work.measured import add_floors, add_latency
from secost.work.timing import Stopwatch, Timing

# What the user can mend by asking otherwise. A network that fails in forward or in the count gives failed records.
_WRONG_REQUESTS = (BadSpecError, NoSiteError, ModelLoadError, MissingExtraError)


@dataclass
class Listener:
    """What a caller hears while a spec is carried out. Every default does nothing."""

    on_comparison: Callable[[Comparison, int], object] = lambda comparison, trials: None
    on_share: Callable[[float], object] = lambda share: None
    on_record: Callable[[Record], object] = lambda record: None
    on_note: Callable[[str], object] = lambda text: None


def plan(spec: Spec) -> list[Comparison]:
    """The comparisons of a spec. Raises UnknownNameError for a model, attention or backend that does not exist."""
    reducible = {
        name: has_reduction(name) for name in spec.attention if name not in (BASELINE, NATIVE)
    }
    _check_threads(spec)
    runnable = _runnable(spec)
    found = spec.comparisons(reducible, check_spellings(spec.spelling, spec.attention))
    return [comparison for comparison in found if _conditions(comparison.setting) in runnable]


def left_out(spec: Spec) -> list[str]:
    """What of a grid no backend can do, a line each: `eager has no int8`."""
    lost = [
        f"{values[0]} has no {value}" for values in _all_conditions(spec) for value in not_offered(*values)
    ]
    return list(dict.fromkeys(lost))


def _tell_left_out(spec: Spec, listener: Listener) -> None:
    lost = left_out(spec)
    if lost:
        listener.on_note(f"left out, as {' and '.join(lost)}")


def check_models(spec: Spec) -> None:
    """Raise for a model name that can't be right, before any trial starts."""
    for model in spec.models:
        check_name(model)


def with_fitting_reductions(
    spec: Spec, listener: Listener, net: nn.Module | None = None, example: Example | None = None,
) -> Spec:
    """The spec of one network without those usual reductions that its narrowest site is too narrow for.

    Only where the user named none: what was asked for is never changed, but refused where it does not fit.
    """
    if spec.reductions != DEFAULT_REDUCTIONS or len(spec.models) != 1:
        return spec
    try:
        if not any(has_reduction(name) for name in spec.attention if name not in (BASELINE, NATIVE)):
            return spec
        net = net if net is not None else load(spec.models[0], spec.allow_download)
        graph = cached_trace(net, inputs_for(net, spec.resolution[0], example))
        grid = itertools.product(spec.placement, spec.integration, spec.stages)
        widths = [site.channels for where in grid for site in find_sites(graph, *where, attached_paths(net))]
    except Exception:  # whatever is wrong with the request is told where it is carried out
        return spec
    kept = tuple(r for r in spec.reductions if r <= min(widths, default=0))
    if not kept or kept == spec.reductions:
        return spec
    lost = ", ".join(str(r) for r in spec.reductions if r not in kept)
    listener.on_note(f"a site of {spec.models[0]} has {min(widths)} channels: of the usual reductions, {lost} left out")
    return spec.with_changes(reductions=list(kept))


def run_in_memory(
    spec: Spec, listener: Listener | None = None, net: nn.Module | None = None, example: Example | None = None,
) -> list[Record]:
    """Carry out a spec without a store. A wrong request raises; a network that fails gives failed records."""
    listener = listener or Listener()
    machine = environment_id(environment.describe())
    records = []
    comparisons = plan(spec)
    _tell_left_out(spec, listener)
    for comparison in comparisons:
        for record in run_comparison(comparison, spec, listener, net=net, example=example, strict=True):
            record.environment = machine
            listener.on_record(record)
            records.append(record)
    return records


def run_in_store(
    spec: Spec, store: RunStore, listener: Listener | None = None, retry_failed: bool = False, strict: bool = False,
    example: Example | None = None, classes: int | None = None, executor: Executor | None = None,
) -> list[Record]:
    """Carry out what a run still lacks of costs, one commit a record; gives all its records in the order of the plan.

    `strict` lets a wrong request (no site, r too large) raise; otherwise it becomes failed records. `classes` asks for
    networks with so many scores. Trainings have a place in the plan, and are `trained.train_in_store`'s work.
    `executor` spreads the comparisons over its workers; only this process writes.
    """
    listener = listener or Listener()
    comparisons = plan(spec)
    trainings = [trial for comparison in comparisons for trial in spec.trainings(comparison)]
    store.set_plan([trial.key for comparison in comparisons for trial in comparison.trials] +
                   [trial.key for trial in trainings])
    done = store.done_keys(retry_failed=retry_failed)
    _tell_left_out(spec, listener)
    lacking = []
    for comparison in comparisons:
        left = [trial for trial in comparison.trials if trial.key not in done]
        if left:
            # The baseline is measured again beside what is left: a ratio needs both in the same rounds.
            trials = tuple(trial for trial in comparison.trials if trial in left or trial.attention == BASELINE)
            lacking.append(replace(comparison, trials=trials))
    run = run_comparisons(lacking, spec, listener, executor, strict=strict, example=example, classes=classes)
    for record, where in run:
        if record.key not in done:
            listener.on_record(store.add(record, where))
    return store.records()


def run_comparisons(
    comparisons: Sequence[Comparison], spec: Spec, listener: Listener, executor: Executor | None = None, *,
    strict: bool = False, example: Example | None = None, classes: int | None = None,
) -> Iterator[tuple[Record, Mapping[str, Any] | None]]:
    """The records of all comparisons, each with the environment of another machine that made it, None for this one's.

    Each comparison is one job, so that its ratios are of one process; where time is measured its host has no other.
    """
    if executor is None or (executor.workers == 1 and executor.name == LOCAL):
        for comparison in comparisons:
            for record in run_comparison(comparison, spec, listener, example=example, strict=strict, classes=classes):
                yield record, None
        return
    jobs = (
        Job(comparison.setting.label, comparison_job, (comparison, spec, strict, example, classes), alone=spec.latency,
            gpu=comparison.setting.device == "cuda") for comparison in comparisons
    )
    for outcome in executor.run(jobs):
        comparison = outcome.job.arguments[0]
        if strict and isinstance(outcome.error, _WRONG_REQUESTS):
            raise outcome.error
        listener.on_comparison(comparison, len(comparison.trials))
        for text in outcome.value["notes"] if outcome.error is None else ():
            listener.on_note(text)
        records = ([Record.from_dict(values) for values in outcome.value["records"]] if outcome.error is None
                   else [failed(trial, outcome.error) for trial in comparison.trials])
        for record in records:
            yield placed(record, outcome), outcome.environment


def comparison_job(
    comparison: Comparison, spec: Spec, strict: bool, example: Example | None, classes: int | None
) -> dict[str, Any]:
    """`run_comparison` as the work of a job: records and notes as plain values.

    Counting takes one thread, as other workers count beside it; measuring takes the threads that it is asked for.
    """
    notes: list[str] = []
    with threads_of_torch(1):
        found = run_comparison(comparison, spec, Listener(on_note=notes.append), None, example, strict, classes)
        return {"records": [record.to_dict() for record in found], "notes": notes}


def placed(record: Record, outcome: Outcome) -> Record:
    """The record with the host that made it, and between which seconds since 1970; of this machine neither is told."""
    if outcome.host is not None:
        record.host, record.began_s, record.ended_s = outcome.host, outcome.began_s, outcome.ended_s
    return record


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
        check_models(spec)
        plan(spec)
        if spec.train is not None:
            from secost.training.datasets import load_data

            load_data(spec.train.dataset, spec.train.data)
    except Exception as error:
        return one_line(error)
    return None


def run_comparison(
    comparison: Comparison, spec: Spec, listener: Listener, net: nn.Module | None = None,
    example: Example | None = None, strict: bool = False, classes: int | None = None,
) -> Iterator[Record]:
    """The records of one comparison, the baseline's first. `net` replaces loading the model by its name."""
    try:
        if net is None:
            net = load(comparison.setting.model, spec.allow_download, classes)
        with _Bench(net, comparison, spec, example, listener, strict) as bench:
            yield from bench.records()
    except Exception as error:
        if strict and isinstance(error, _WRONG_REQUESTS):
            raise
        for trial in comparison.trials:
            yield failed(trial, error)


class _Bench:
    """One network with all variants of one comparison on it."""

    def __init__(self, net: nn.Module, comparison: Comparison, spec: Spec, example: Example | None,
                 listener: Listener, strict: bool) -> None:
        self.net, self.comparison, self.spec, self.listener, self.strict = net, comparison, spec, listener, strict
        setting = comparison.setting
        self.own_input = example is not None or getattr(net, "example_input_array", None) is not None
        self.inputs = inputs_for(net, setting.resolution, example)
        self.native_graph = cached_trace(net, self.inputs)
        self.natives = native_paths(self.native_graph)
        self._exit = contextlib.ExitStack()
        self.failures: dict[str, Exception] = {}

    def __enter__(self) -> _Bench:
        self._exit.enter_context(eval_mode(self.net))
        self.switch = self._exit.enter_context(Switch(self.net, self.natives))
        self.switch.select(BASELINE)
        self.graph = cached_trace(self.net, self.inputs) if self.natives else self.native_graph
        return self

    def __exit__(self, *reason: Any) -> None:
        self._exit.close()

    def records(self) -> Iterator[Record]:
        """Counts for all variants, then the rounds, then the records in the order of the plan."""
        sites = self._sites()
        self._announce()  # only now: a wrong request is one line, without notes before it
        base = network_cost(self.net, self.inputs, self.graph)
        known: dict[tuple[Any, ...], Cost] = {}
        counted = [(trial, self._counted(trial, base, sites, known)) for trial in self.comparison.trials]
        timing = self._timed(counted, sites)
        baseline = counted[0][1]
        for trial, record in counted:
            finished = self._finished(trial, record, baseline, timing)
            finished.placement = sites[0].placement if sites else finished.placement
            finished.resolution = None if self.own_input else finished.resolution
            yield finished

    def _announce(self) -> None:
        self.listener.on_comparison(self.comparison, len(self.comparison.trials))
        if self.natives and not any(trial.attention == NATIVE for trial in self.comparison.trials):
            self.listener.on_note(
                f"{self.comparison.setting.model} ships with attention in {len(self.natives)} places; 'none' is the "
                "network without it (add native to --attention to compare)"
            )

    def _sites(self) -> list[Site]:
        if all(trial.attention in (BASELINE, NATIVE) for trial in self.comparison.trials):
            return []
        setting = self.comparison.setting
        sites = find_sites(self.graph, setting.placement, setting.integration, setting.stages, attached_paths(self.net))
        require_sites(sites, self.net, setting.placement)
        for trial in self.comparison.trials:
            if self.strict and trial.attention not in (BASELINE, NATIVE):
                check_fits(sites, trial.attention, trial.reduction)
        return sites

    def _counted(self, trial: Trial, base: Cost, sites: list[Site], known: dict[tuple[Any, ...], Cost]) -> Record:
        record = Record.of_trial(trial)
        record.mac_convention = MAC_CONVENTION
        record.cautions = self._count_cautions()
        try:
            if trial.attention == BASELINE:
                return _with_cost(record, base, Cost(), 0)
            if trial.attention == NATIVE:
                return self._counted_native(record)
            costs = attention_cost(self.net, sites, trial.attention, trial.reduction, known, trial.spelling)
            added = sum((item.cost for item in costs), Cost())
            record.by_stage, record.by_site = by_stage(costs), by_site(costs)
            add_floors(record, self._floors(costs))
            return _with_cost(record, base + added, added, len(costs))
        except Exception as error:
            self.failures[trial.label] = error
            return failed(trial, error)

    def _counted_native(self, record: Record) -> Record:
        self.switch.select(NATIVE)
        try:
            whole = network_cost(self.net, self.inputs, self.native_graph)
            own = native_cost(self.native_graph, self.net, self.natives)
        finally:
            self.switch.select(BASELINE)
        return _with_cost(record, whole, own, len(self.natives))

    def _count_cautions(self) -> list[str]:
        left = any(found.path is None for found in find_attention(self.graph))
        return [Caution.ATTENTION_LEFT] if left else []

    def _timed(self, counted: Sequence[tuple[Trial, Record]], sites: list[Site]) -> Timing | None:
        if not self.spec.latency:
            return None
        calibration = None
        if self.comparison.setting.precision == "int8" and self.spec.calibration:
            calibration = load_calibration(self.spec.calibration, self.inputs, self.net)
        watch = Stopwatch(self.net, self.switch, self.inputs, self.comparison.setting, self.spec, calibration)
        timing = watch.time([t for t, record in counted if record.status == DONE], sites, self.listener.on_share)
        self.failures |= timing.failures
        return timing

    def _floors(self, costs: Sequence[SiteCost]) -> list[float | None]:
        """The least time of attention at each site, where latency is measured and on a processor."""
        setting = self.comparison.setting
        fuses = BACKENDS.get(setting.backend).fuses
        return site_floors_ms(costs, setting.batch, setting.precision, self._roofline, fuses)

    @functools.cached_property
    def _roofline(self) -> Roofline | None:
        """Of a processor, once for all variants, where latency is measured."""
        setting = self.comparison.setting
        return cached_roofline(setting.threads) if self.spec.latency and setting.device == "cpu" else None

    def _finished(self, trial: Trial, record: Record, baseline: Record, timing: Timing | None) -> Record:
        if trial.label in self.failures:
            return record if record.status == FAILED else failed(trial, self.failures[trial.label])
        if record.status == FAILED:
            return record
        record.params_overhead = overhead(record.params, baseline.params)
        record.macs_overhead = overhead(record.macs, baseline.macs)
        record.memory_overhead = overhead(record.memory_bytes, baseline.memory_bytes)
        record.kernels_overhead = overhead(record.kernels, baseline.kernels)
        if timing is not None:
            add_latency(record, trial.label, timing, self.spec)
        if record.unsupported_ops:
            record.cautions.append(Caution.UNCOUNTED_OPS)
        return record


def _with_cost(record: Record, whole: Cost, added: Cost, sites: int) -> Record:
    record.params, record.macs, record.other_ops = whole.params, whole.macs, whole.other_ops
    record.activations, record.memory_bytes, record.kernels = whole.activations, whole.memory_bytes, whole.kernels
    record.attention_params, record.attention_macs = added.params, added.macs
    record.unsupported_ops, record.sites = dict(whole.unsupported_ops), sites
    return record


def failed(trial: Trial, error: BaseException) -> Record:
    """The record of a trial that came to nothing, with the reason in one line."""
    record = Record.of_trial(trial)
    record.status, record.error = FAILED, one_line(error)
    if isinstance(error, ForwardError) and "missing" in str(error) and "argument" in str(error):
        record.error += "; a network with other inputs takes --example path.py:function"
    return record


def _conditions(setting: Setting) -> tuple[str, str, str, str]:
    return setting.backend, setting.precision, setting.device, setting.memory_format


def _all_conditions(spec: Spec) -> list[tuple[str, str, str, str]]:
    return list(itertools.product(spec.backend, spec.precision, spec.device, spec.memory_format))


def _runnable(spec: Spec) -> set[tuple[str, str, str, str]]:
    """The combinations that their backends offer, each at hand here.

    A grid of several backends and precisions asks for what there is of it. But a value that is in none of the
    combinations was asked for in vain: that raises, as does what this machine lacks.
    """
    asked = _all_conditions(spec)
    offered = [values for values in asked if not not_offered(*values)]
    for values in asked:
        if any(all(values[place] != other[place] for other in offered) for place in range(len(values))):
            get_backend(*values, spec.cuda_graphs)
    for values in offered:
        get_backend(*values, spec.cuda_graphs)
    return set(offered)


def _check_threads(spec: Spec) -> None:
    cores = environment.describe()["logical_cores"]
    for threads in spec.threads:
        if threads > cores:
            raise BadSpecError(
                f"threads {threads} is more than the {cores} processors of this machine: give at most {cores}"
            )

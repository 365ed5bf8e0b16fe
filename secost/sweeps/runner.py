"""Carries a spec out: plans its trials, runs each comparison, and hands every record on as soon as it is made.

One comparison is one network at one setting: it is loaded once, traced once, and holds all its variants at once on
shared weights. A trial that fails is a record with its reason, and the others go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from secost.errors import BadSpecError, MissingExtraError, ModelLoadError, NoSiteError, one_line
from secost.meters import environment
from secost.meters.backends import get_backend, measuring
from secost.meters.counts import (
    MAC_CONVENTION,
    Cost,
    attention_cost,
    by_site,
    by_stage,
    native_cost,
    network_cost,
)
from secost.meters.latency import Clock, Rounds, Subject, cautions, measure
from secost.meters.statistics import median
from secost.networks.attention import ATTENTION
from secost.networks.cache import cached_trace, inputs_for
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.sources import Example, check_name, load
from secost.networks.surgery import (
    Placed,
    Switch,
    attached_paths,
    build_placed,
    check_reduction,
    native_paths,
    require_sites,
    seeded,
)
from secost.networks.tracing import ForwardError, eval_mode
from secost.records import DONE, FAILED, Record, overhead
from secost.spec import BASELINE, NATIVE, Comparison, Spec, Trial
from secost.sweeps.store import RunStore, environment_id

CONTROL = "control"
# What the user can mend by asking otherwise. A network that fails in forward or in the count gives failed records.
_WRONG_REQUESTS = (BadSpecError, NoSiteError, ModelLoadError, MissingExtraError)
_DIRECT_PASSES = 7


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
        name: ATTENTION.get(name).has_reduction for name in spec.attention if name not in (BASELINE, NATIVE)
    }
    for backend in spec.backend:
        for precision in spec.precision:
            for device in spec.device:
                get_backend(backend, precision, device)
    _check_threads(spec)
    return spec.comparisons(reducible)


def check_models(spec: Spec) -> None:
    """Raise for a model name that can't be right, before any trial starts."""
    for model in spec.models:
        check_name(model)


def run_in_memory(
    spec: Spec, listener: Listener | None = None, net: nn.Module | None = None, example: Example | None = None,
) -> list[Record]:
    """Carry out a spec without a store. A wrong request raises; a network that fails gives failed records."""
    listener = listener or Listener()
    machine = environment_id(environment.describe())
    records = []
    for comparison in plan(spec):
        for record in run_comparison(comparison, spec, listener, net=net, example=example, strict=True):
            record.environment = machine
            listener.on_record(record)
            records.append(record)
    return records


def run_in_store(
    spec: Spec, store: RunStore, listener: Listener | None = None, retry_failed: bool = False, strict: bool = False,
    example: Example | None = None,
) -> list[Record]:
    """Carry out what a run still lacks, one commit a record, and give all its records in the order of the plan.

    `strict` lets a wrong request (no site, r too large) raise; otherwise it becomes failed records.
    """
    listener = listener or Listener()
    comparisons = plan(spec)
    store.set_plan([trial.key for comparison in comparisons for trial in comparison.trials])
    done = store.done_keys(retry_failed=retry_failed)
    for comparison in comparisons:
        left = [trial for trial in comparison.trials if trial.key not in done]
        if not left:
            continue
        # The baseline is measured again beside what is left: a ratio needs both in the same rounds.
        trials = tuple(trial for trial in comparison.trials if trial in left or trial.attention == BASELINE)
        for record in run_comparison(
            replace(comparison, trials=trials), spec, listener, strict=strict, example=example
        ):
            if record.key not in done:
                listener.on_record(store.add(record))
    return store.records()


def run_comparison(
    comparison: Comparison, spec: Spec, listener: Listener, net: nn.Module | None = None,
    example: Example | None = None, strict: bool = False,
) -> Iterator[Record]:
    """The records of one comparison, the baseline's first. `net` replaces loading the model by its name."""
    try:
        if net is None:
            net = load(comparison.setting.model, spec.allow_download)
        with _Bench(net, comparison, spec, example, listener, strict) as bench:
            yield from bench.records()
    except Exception as error:
        if strict and isinstance(error, _WRONG_REQUESTS):
            raise
        for trial in comparison.trials:
            yield _failed(trial, error)


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
        self.placed: dict[str, list[Placed]] = {}
        self.direct: dict[str, list[float]] = {}

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
        rounds = self._rounds(counted, sites) if self.spec.latency else None
        baseline = counted[0][1]
        for trial, record in counted:
            finished = self._finished(trial, record, baseline, rounds)
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
            if trial.reduction is not None and self.strict:
                check_reduction(sites, trial.reduction)
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
            costs = attention_cost(self.net, sites, trial.attention, trial.reduction, known)
            added = sum((item.cost for item in costs), Cost())
            record.by_stage, record.by_site = by_stage(costs), by_site(costs)
            return _with_cost(record, base + added, added, len(sites))
        except Exception as error:
            self.failures[trial.label] = error
            return _failed(trial, error)

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
        return ["attention-left"] if left else []

    def _rounds(self, counted: Sequence[tuple[Trial, Record]], sites: list[Site]) -> Rounds | None:
        setting = self.comparison.setting
        backend = get_backend(setting.backend, setting.precision, setting.device)
        inputs = tuple(item.repeat(setting.batch, *[1] * (item.ndim - 1)) for item in self.inputs)
        run = backend.prepare(self.net, inputs)
        with measuring(setting.threads):
            labels = [BASELINE, CONTROL]
            for trial, record in counted[1:]:
                if record.status == DONE and self._fits(trial, sites, run):
                    labels.append(trial.label)
            subjects = [Subject(label, run, self._selector(label)) for label in labels]
            clock = self._clock()
            self.switch.select(BASELINE)
            run()  # a network that fails in forward fails here, with its own reason
            rounds = measure(
                subjects, seconds=self.spec.seconds, target=self.spec.target, seed=self.spec.seed, clock=clock,
                on_round=self.listener.on_share,
            )
            self.direct = {label: self._direct(label, run) for label in labels if label in self.placed}
            self.switch.select(BASELINE)
        return rounds

    def _fits(self, trial: Trial, sites: list[Site], run: Callable[[], object]) -> bool:
        """Make a variant known to the switch and run it once: one that can't run fails alone."""
        try:
            if trial.attention != NATIVE:
                with torch.inference_mode(False), seeded(self.spec.seed):
                    placed = build_placed(self.net, sites, trial.attention, trial.reduction)
                self.switch.add(trial.label, placed)
                self.placed[trial.label] = placed
            self.switch.select(trial.label)
            run()
            return True
        except Exception as error:
            self.failures[trial.label] = error
            return False

    def _clock(self) -> Clock:
        """Processor time says nothing where several threads work."""
        return Clock() if self.comparison.setting.threads == 1 else Clock(cpu=None)

    def _selector(self, label: str) -> Callable[[], object]:
        variant = BASELINE if label == CONTROL else label
        return lambda: self.switch.select(variant)

    def _direct(self, label: str, run: Callable[[], object]) -> list[float]:
        """Milliseconds inside the attention module of each site: the median over a few passes of its own.

        Biased as an estimate of the whole network's overhead (caches, allocation), so it only shares the cost out.
        """
        self.switch.select(label)
        modules = [placed.attention for placed in self.placed[label]]
        clock = self._clock()
        times: list[list[float]] = [[] for _ in modules]
        with _timed(modules, times, clock.cpu or clock.wall):
            for _ in range(_DIRECT_PASSES):
                before = [len(rows) for rows in times]
                run()
                for rows, start in zip(times, before, strict=True):
                    rows[start:] = [sum(rows[start:])]  # a module called several times in one pass
        return [median(rows) * 1e3 for rows in times]

    def _finished(self, trial: Trial, record: Record, baseline: Record, rounds: Rounds | None) -> Record:
        if trial.label in self.failures:
            return record if record.status == FAILED else _failed(trial, self.failures[trial.label])
        if record.status == FAILED:
            return record
        record.params_overhead = overhead(record.params, baseline.params)
        record.macs_overhead = overhead(record.macs, baseline.macs)
        record.memory_overhead = overhead(record.memory_bytes, baseline.memory_bytes)
        record.kernels_overhead = overhead(record.kernels, baseline.kernels)
        if rounds is not None:
            self._add_latency(trial, record, rounds)
        if record.unsupported_ops:
            record.cautions.append("uncounted-ops")
        return record

    def _add_latency(self, trial: Trial, record: Record, rounds: Rounds) -> None:
        label = trial.label
        record.latency_ms, record.rounds = rounds.latency_ms(label), rounds.count
        record.cautions += cautions(rounds, BASELINE, CONTROL, self.spec.target)
        control = rounds.overhead(CONTROL, BASELINE)
        record.samples = {
            "clock": rounds.clock, "repeats": rounds.repeats, "baseline_s": rounds.times_s(BASELINE),
            "variant_s": rounds.times_s(label), "control_s": rounds.times_s(CONTROL),
            "control_low": control.low, "control_high": control.high, "wall_s": rounds.wall_s[label],
        }
        if trial.attention == BASELINE:
            return
        interval = rounds.overhead(label, BASELINE)
        record.latency_overhead = interval.estimate
        record.latency_overhead_low, record.latency_overhead_high = interval.low, interval.high
        if label in self.direct:
            record.latency_direct_ms = sum(self.direct[label])
            for row, milliseconds in zip(record.by_site, self.direct[label], strict=True):
                row["latency_ms"] = milliseconds


def _with_cost(record: Record, whole: Cost, added: Cost, sites: int) -> Record:
    record.params, record.macs, record.other_ops = whole.params, whole.macs, whole.other_ops
    record.activations, record.memory_bytes, record.kernels = whole.activations, whole.memory_bytes, whole.kernels
    record.attention_params, record.attention_macs = added.params, added.macs
    record.unsupported_ops, record.sites = dict(whole.unsupported_ops), sites
    return record


def _failed(trial: Trial, error: BaseException) -> Record:
    record = Record.of_trial(trial)
    record.status, record.error = FAILED, one_line(error)
    if isinstance(error, ForwardError) and "missing" in str(error) and "argument" in str(error):
        record.error += "; a network with other inputs takes --example path.py:function"
    return record


def _check_threads(spec: Spec) -> None:
    cores = environment.describe()["logical_cores"]
    for threads in spec.threads:
        if threads > cores:
            raise BadSpecError(
                f"threads {threads} is more than the {cores} processors of this machine: give at most {cores}"
            )


@contextlib.contextmanager
def _timed(modules: Iterable[nn.Module], times: list[list[float]], clock: Callable[[], float]) -> Iterator[None]:
    """Write down how long each call of each module takes."""
    handles = []
    begun: dict[int, float] = {}
    for module, rows in zip(modules, times, strict=True):

        def begin(module: nn.Module, args: Any) -> None:
            begun[id(module)] = clock()

        def end(module: nn.Module, args: Any, output: Any, rows: list[float] = rows) -> None:
            rows.append(clock() - begun[id(module)])

        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

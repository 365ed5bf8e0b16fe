"""One comparison: one network at one setting, loaded once, traced once, with all its variants on shared weights.

Counts for all variants, then the rounds, then the records: cost, overhead, and what to be careful about. A trial that
fails is a record with its reason, and the others go on.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from secost.errors import BadSpecError, MissingExtraError, ModelLoadError, NoSiteError, one_line
from secost.glossary import Caution
from secost.meters.backends.exported import load_calibration
from secost.meters.backends.offered import BACKENDS
from secost.meters.counts import MAC_CONVENTION, Cost, attention_cost, by_site, by_stage, native_cost, network_cost
from secost.meters.latency import Rounds, cautions
from secost.meters.roofline import DTYPES, Roofline, cached_roofline, site_floors_ms
from secost.networks.attended import attached_paths
from secost.networks.cache import cached_trace
from secost.networks.recognition import find_attention
from secost.networks.sites import Site, find_sites
from secost.networks.sources import WEIGHT_SEED, Example, inputs_for, load
from secost.networks.surgery import Switch, check_fits, native_paths, require_sites
from secost.networks.tracing import ForwardError, Graph, eval_mode
from secost.plan.alternatives import AUTO
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Comparison, Listener, Trial
from secost.runs.records import DONE, FAILED, Record, overhead
from secost.statistics import Interval
from secost.work.rivals import Rival, rival_of
from secost.work.timing import CONTROL, Stopwatch, Timing

# What the user can mend by asking otherwise. A network that fails in forward or in the count gives failed records.
WRONG_REQUESTS = (BadSpecError, NoSiteError, ModelLoadError, MissingExtraError)
_THROTTLED_SHARE = 0.01
_SPARE, _STEAL = 0.2, 0.02  # processors
_OPENMP = ("eager", "compile")  # the others have threads of their own, told not to spin


class Networks:
    """Networks by name, the last one kept; who gets it leaves it as it was found.

    `net` stands for every name where the user gave a module, `example` for its inputs. `classes` asks for so many
    scores, weights are drawn from `seed`.
    """

    def __init__(self, allow_download: bool = False, classes: int | None = None, net: nn.Module | None = None,
                 example: Example | None = None, seed: int = WEIGHT_SEED) -> None:
        self.allow_download, self.classes, self.example, self.seed = allow_download, classes, example, seed
        self.given = net is not None
        self._name, self._net = "", net
        self._graphs: dict[tuple[object, ...], Graph] = {}

    def get(self, model: str) -> nn.Module:
        """The network of that name."""
        if not self.given and (self._net is None or self._name != model):
            self._net = None  # gone before the next one comes: two at a time take twice the memory
            self._graphs.clear()
            self._net, self._name = load(model, self.allow_download, self.classes, self.seed), model
        assert self._net is not None
        return self._net

    def beside(self, model: str) -> nn.Module:
        """Another network, of which nothing is kept here."""
        return load(model, self.allow_download, self.classes, self.seed)

    def trace(self, inputs: tuple[torch.Tensor, ...], state: str = NATIVE, dtype: torch.dtype | None = None) -> Graph:
        """The graph of the network that was asked for last, in a state that the caller has put it in, cast or not."""
        assert self._net is not None
        key = (state, dtype, *(item.shape for item in inputs))
        if key not in self._graphs:
            self._graphs[key] = cached_trace(self._net, inputs, dtype)
        return self._graphs[key]


def run_comparison(
    comparison: Comparison, spec: Spec, listener: Listener, networks: Networks, strict: bool = False
) -> Iterator[Record]:
    """The records of one comparison, the baseline's first. `strict` lets a wrong request raise."""
    try:
        with _Bench(networks, comparison, spec, listener, strict) as bench:
            yield from bench.records()
    except Exception as error:
        if strict and isinstance(error, WRONG_REQUESTS):
            raise
        for trial in comparison.trials:
            yield failed(trial, error)


class _Bench:
    """One network with all variants of one comparison on it."""

    def __init__(self, networks: Networks, comparison: Comparison, spec: Spec, listener: Listener,
                 strict: bool) -> None:
        self.networks, self.comparison, self.spec = networks, comparison, spec
        self.listener, self.strict = listener, strict
        self.net, example = networks.get(comparison.setting.model), networks.example
        self.own_input = example is not None or getattr(self.net, "example_input_array", None) is not None
        self.inputs = inputs_for(self.net, comparison.setting.resolution, example)
        self.dtype = DTYPES.get(comparison.setting.precision)
        self.claims_memory = comparison.setting.precision in DTYPES
        try:
            self.native_graph = networks.trace(self.inputs, dtype=self.dtype)
        except ForwardError:
            if self.dtype is None:
                raise
            # A backend that casts by itself may run what eager can't; all but the bytes are as they are uncast.
            self.dtype, self.claims_memory = None, False
            self.native_graph = networks.trace(self.inputs)
        self.natives = native_paths(self.native_graph)
        self._exit = contextlib.ExitStack()
        self.failures: dict[str, Exception] = {}
        self.rivals: dict[str, Rival] = {}

    def __enter__(self) -> _Bench:
        self._exit.enter_context(eval_mode(self.net))
        self.switch = self._exit.enter_context(Switch(self.net, self.natives))
        self.switch.select(BASELINE)
        self.graph = self.networks.trace(self.inputs, BASELINE, self.dtype) if self.natives else self.native_graph
        return self

    def __exit__(self, *reason: Any) -> None:
        self._exit.close()

    def records(self) -> Iterator[Record]:
        """Counts for all variants, then the rounds, then the records in the order of the plan."""
        self._load_rivals()
        sites = self._sites()
        self._announce()  # only now: a wrong request is one line, without notes before it
        base = network_cost(self.net, self.inputs, self.graph)
        known: dict[tuple[Any, ...], Cost] = {}
        counted = [(trial, self._counted(trial, base, sites, known)) for trial in self.comparison.trials]
        timing = self._timed(counted, sites)
        baseline = counted[0][1]
        for trial, record in counted:
            if not self.claims_memory and record.status == DONE:
                _without_memory(record)
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

    def _load_rivals(self) -> None:
        """The networks of the alternatives; one that can't stand beside this network fails, or raises if strict and
        asked for by name."""
        for name in (trial.alternative for trial in self.comparison.trials if trial.alternative is not None):
            try:
                self.rivals[name] = rival_of(name, self.comparison.setting, self.net, self.graph, self.networks)
            except Exception as error:
                if self.strict and AUTO not in self.spec.alternatives:
                    raise
                self.failures[name] = error

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
        left = any(gate.path is None for gate in find_attention(self.graph))
        record.cautions = [Caution.ATTENTION_LEFT] if left else []
        try:
            if trial.label in self.failures:
                raise self.failures[trial.label]
            if trial.alternative is not None:
                return _with_cost(record, self.rivals[trial.alternative].cost(self.dtype), Cost(), 0)
            if trial.is_baseline:
                return _with_cost(record, base, Cost(), 0)
            if trial.attention == NATIVE:
                return self._counted_native(record)
            costs = attention_cost(self.net, sites, trial.attention, trial.reduction, known, trial.spelling, self.dtype)
            added = sum((item.cost for item in costs), Cost())
            record.by_stage, record.by_site = by_stage(costs), by_site(costs)
            setting = self.comparison.setting
            fuses = BACKENDS.get(setting.backend).fuses
            _add_floors(record, site_floors_ms(costs, setting.batch, setting.precision, self._roofline, fuses))
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

    def _timed(self, counted: Sequence[tuple[Trial, Record]], sites: list[Site]) -> Timing | None:
        if not self.spec.latency:
            return None
        watch = Stopwatch(self.net, self.switch, self.inputs, self.comparison.setting, self.spec,
                          functools.partial(load_calibration, self.spec.calibration), self.rivals)
        done = [trial for trial, record in counted if record.status == DONE]
        timing = watch.time(done, sites, self.listener.on_share, self.listener.on_note)
        self.failures |= timing.failures
        return timing

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
            _add_latency(record, trial.label, timing, self.spec)
        if record.unsupported_ops:
            record.cautions.append(Caution.UNCOUNTED_OPS)
        return record


def _with_cost(record: Record, whole: Cost, added: Cost, sites: int) -> Record:
    record.params, record.macs, record.other_ops = whole.params, whole.macs, whole.other_ops
    record.activations, record.memory_bytes, record.kernels = whole.activations, whole.memory_bytes, whole.kernels
    record.attention_params, record.attention_macs = added.params, added.macs
    record.unsupported_ops, record.sites = dict(whole.unsupported_ops), sites
    return record


def _without_memory(record: Record) -> None:
    """Not what fp32 would move: nothing is known of what the backend moves in this precision."""
    record.memory_bytes = None
    record.cautions.append(Caution.MEMORY_UNKNOWN)
    for row in (*record.by_stage, *record.by_site):
        row["memory_bytes"] = None


def failed(trial: Trial, error: BaseException) -> Record:
    """The record of a trial that came to nothing, with the reason in one line."""
    record = Record.of_trial(trial)
    record.status, record.error = FAILED, one_line(error)
    if isinstance(error, ForwardError) and "missing" in str(error) and "argument" in str(error):
        record.error += "; a network with other inputs takes --example path.py:function"
    return record


# --- from rounds to a record ------------------------------------------------------------------------------------------


def _add_floors(record: Record, floors: Sequence[float | None]) -> None:
    """The least time of each site and stage, and of all, in milliseconds; None where one is not known."""
    for row, floor in zip(record.by_site, floors, strict=True):
        row["floor_ms"] = floor
    for row in record.by_stage:
        row["floor_ms"] = _sum(site["floor_ms"] for site in record.by_site if site["stage"] == row["stage"])
    record.latency_floor_ms = _sum(floors)


def _add_latency(record: Record, label: str, timing: Timing, spec: Spec) -> None:
    """What the rounds say about one variant. A baseline has no overhead of its own."""
    rounds = timing.rounds
    record.latency_ms = rounds.latency_ms(label, BASELINE, CONTROL)
    record.rounds, record.processes = rounds.count, rounds.processes
    record.images_per_s = 1e3 * record.batch / record.latency_ms
    record.convert_s = timing.convert_s.get(label)
    compared = timing.labels if label == BASELINE else [BASELINE, CONTROL, label]
    found = [*cautions(rounds, compared, spec.target), *machine_cautions(rounds, record),
             *timing.cautions.get(label, ())]
    record.cautions += [word for word in found if word not in record.cautions]
    record.samples = _samples(label, rounds, spec)
    if label == BASELINE:
        return
    interval = rounds.overhead(label, BASELINE, CONTROL)
    record.latency_overhead = interval.estimate
    record.latency_overhead_low, record.latency_overhead_high = interval.low, interval.high
    if label in rounds.direct_s:
        _add_direct(record, label, rounds)


def machine_cautions(rounds: Rounds, record: Record) -> list[str]:
    """What the system counted while the rounds ran, where it spoils them."""
    cautious: list[str] = []
    wall_s = sum(note["seconds"] or 0 for note in rounds.notes)
    stopped_s = sum(note["throttled_s"] or 0 for note in rounds.notes)
    if stopped_s > _THROTTLED_SHARE * wall_s or any(note["heat_throttles"] for note in rounds.notes):
        cautious.append(Caution.THROTTLING)
    if record.threads > 1 and record.device == "cpu":  # of one thread the processor's own clock tells
        wanted = _mean(rounds, "other_processors") + record.threads
        if wanted > (os.cpu_count() or 1) + _SPARE or _mean(rounds, "steal_processors") > _STEAL:
            cautious.append(Caution.CONTENTION)
        if record.backend in _OPENMP and os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
            cautious.append(Caution.SPINNING_THREADS)
    return cautious


def _mean(rounds: Rounds, name: str) -> float:
    """A figure of the processes' notes, by how long each ran; 0 where the system does not tell."""
    known = [(note["seconds"] or 0.0, note[name]) for note in rounds.notes if note.get(name) is not None]
    seconds = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / seconds if seconds else 0.0


def _samples(label: str, rounds: Rounds, spec: Spec) -> dict[str, Any]:
    control = rounds.control(BASELINE, CONTROL)
    faults = [note["minor_faults"] for note in rounds.notes]
    passes = rounds.count * len(rounds.wall_s) * rounds.repeats
    return {"clock": rounds.clock, "repeats": rounds.repeats, "allocator": spec.allocator, "process": rounds.process,
            "baseline_s": rounds.times_s(BASELINE), "variant_s": rounds.times_s(label),
            "control_s": rounds.times_s(CONTROL), "control_overhead": control.estimate, "control_low": control.low,
            "control_high": control.high, "wall_s": rounds.wall_s[label],
            "page_faults_per_pass": None if not faults or None in faults else sum(faults) / passes}


def _add_direct(record: Record, label: str, rounds: Rounds) -> None:
    """Time inside the attention, by site and stage, and what the whole network takes beyond that."""
    stages = [site["stage"] for site in record.by_site]
    for number, row in enumerate(record.by_site):
        _put(row, "latency", rounds.direct_ms(label, [number]))
    for row in record.by_stage:
        _put(row, "latency", rounds.direct_ms(label, [n for n, stage in enumerate(stages) if stage == row["stage"]]))
    direct, added = rounds.direct_ms(label), rounds.added_ms(label, BASELINE, CONTROL)
    record.latency_direct_ms = direct.estimate
    assert record.samples is not None
    _put(record.samples, "direct", direct)
    # added - direct, their half-widths added in quadrature: they come from different passes.
    beyond, width = added.estimate - direct.estimate, (added.half_width**2 + direct.half_width**2) ** 0.5
    known = added.low is not None and direct.low is not None
    _put(record.samples, "beyond",
         Interval(beyond, beyond - width if known else None, beyond + width if known else None))


def _put(row: dict[str, Any], name: str, interval: Interval) -> None:
    row[f"{name}_ms"], row[f"{name}_low_ms"], row[f"{name}_high_ms"] = interval.estimate, interval.low, interval.high


def _sum(values: Any) -> float | None:
    known = list(values)
    return None if None in known else sum(known)

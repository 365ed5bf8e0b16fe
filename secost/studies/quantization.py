"""Attention at low precision: does it stand b bits better before the depthwise convolution or after it?

Networks are trained in full precision from paired seeds, then rounded: after training, with ranges by min-max and by
percentile, and once more with a few epochs of training at that precision. What is read: accuracy, the signal to
quantisation noise ratio at every block and at the output, the gates' error, and which part the noise comes from. Beside
the simulation stands the real thing, int8 of ONNX Runtime and OpenVINO.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, MissingExtraError, SecostError, one_line
from secost.networks.attention_modules import GatedAttention
from secost.networks.gates import gate_paths, watch_gates
from secost.networks.surgery import sites
from secost.numbers import joined, percent_interval, with_ends
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Training, Trial
from secost.runs.records import DONE, Record
from secost.statistics import Interval, mean_of, paired_difference
from secost.studies import fake_quant
from secost.studies.fake_quant import BITS, GROUPS, PERCENTILE, RANGES, FakeQuantised, fold_norms
from secost.training.datasets import Data, Split, load_data
from secost.training.loop import accuracy, train

if TYPE_CHECKING:
    from secost.pages.page import Page
    from secost.plan.plan import Listener, Plan

DEFAULT_MODEL, DEFAULT_DATASET, DEFAULT_EPOCHS, DEFAULT_REDUCTION = "small:mobile", "digits", 20, 4
DEFAULT_BITS, DEFAULT_PLACEMENTS = (8, 6, 4), ("depthwise-pre", "depthwise")
REAL_BACKENDS = ("onnxruntime", "openvino")
_CALIBRATION, _BATCH, _MOST_TEST = 512, 128, 1000
_QAT_RATE_SHARE = 0.1  # of the learning rate of full precision
_RESULTS, _INT8_RUN = "quantised", "int8"
_PATIENCE_S = 86_400.0


@dataclass(frozen=True)
class Rounded:
    """One trained network at so many bits. Ratios are 10 log10(signal / noise) in dB.

    `blocks_db` has one for each block's output, `sources_db` one for the output with a single group rounded (the same
    ranges); `gate_error` is the root mean square error of all gates' values, None without gates. `trained_top1` is the
    accuracy after quantisation-aware training, None where there was none.
    """

    placement: str
    seed: int
    bits: int
    ranges: str
    top1: float
    output_db: float
    blocks_db: dict[str, float]
    sources_db: dict[str, float]
    gate_error: float | None
    trained_top1: float | None = None


@dataclass(frozen=True)
class Full:
    """One trained network in full precision, and its accuracy as int8 of real backends, by name."""

    placement: str
    seed: int
    top1: float
    int8_top1: dict[str, float] = field(default_factory=dict)


@dataclass
class Quantization:
    """What the study found; `latency` are the records of int8 on the real backends."""

    model: str
    attention: str
    dataset: str
    placements: tuple[str, ...]
    bits: tuple[int, ...]
    epochs: int
    qat_epochs: int
    full: list[Full] = field(default_factory=list)
    rounded: list[Rounded] = field(default_factory=list)
    latency: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def variants(self) -> tuple[str, ...]:
        return (BASELINE, *self.placements)

    def at(self, placement: str, bits: int, ranges: str) -> list[Rounded]:
        """The seeds of one cell, in order."""
        found = [row for row in self.rounded if (row.placement, row.bits, row.ranges) == (placement, bits, ranges)]
        return sorted(found, key=lambda row: row.seed)

    def full_top1(self, placement: str) -> list[float]:
        return [row.top1 for row in sorted(self.full, key=lambda row: row.seed) if row.placement == placement]


def quantization(
    model: str = DEFAULT_MODEL, *, bits: Sequence[int] = DEFAULT_BITS,
    placements: Sequence[str] = DEFAULT_PLACEMENTS, attention: str = "se", reduction: int = DEFAULT_REDUCTION,
    dataset: str = DEFAULT_DATASET, data: str = "", seeds: int = 5, epochs: int = DEFAULT_EPOCHS, qat_epochs: int = 2,
    learning_rate: float = 0.05, backends: Sequence[str] = REAL_BACKENDS, latency: bool = True, seconds: float = 10.0,
    jobs: int | None = None, out: str | Path | None = None, listener: Listener | None = None,
) -> Quantization:
    """Train `model` with attention at every placement and without, round all of it to `bits`, and measure the loss.

    Everything is paired by seed. `backends` are the real ones whose int8 is run too. With `out` records, weights and
    results stay in that folder, and the same call goes on. Raises BadSpecError for bits outside 2 to 16, NoSiteError
    for a placement that the network has no sites for.
    """
    placements = tuple(dict.fromkeys(placements))
    _check(bits, placements, qat_epochs)
    if attention in (BASELINE, NATIVE):
        raise BadSpecError(f"--attention {attention} can't be put at a placement: name one of secost list attention")
    source = load_data(dataset, data)
    training = {"dataset": dataset, "seeds": seeds, "epochs": epochs, "data": data, "learning_rate": learning_rate,
                "augment": False}
    spec = Spec.from_dict({"models": model, "attention": [attention], "placement": list(placements),
                           "reductions": [reduction], "latency": False, "train": training})
    from secost.work.planning import make_plan

    label = next(trial.label for trial in make_plan(spec).comparisons[0].trials if trial.attention != BASELINE)
    study = Quantization(model, label, source.name, placements, tuple(sorted(set(bits), reverse=True)), epochs,
                         qat_epochs)
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        usable = _usable(backends, study)
        _round_all(study, spec, source, folder, usable, jobs, listener)
        if latency and usable:
            study.latency = _int8_latency(spec, source, usable, seconds, folder, listener)
    return study


def _check(bits: Sequence[int], placements: Sequence[str], qat_epochs: int) -> None:
    bad = [value for value in bits if not BITS[0] <= value <= BITS[1]]
    if bad or not bits:
        raise BadSpecError(f"--bits {', '.join(map(str, bad or bits)) or 'of nothing'} is not possible: give {BITS[0]} "
                           f"to {BITS[1]}, such as 8,6,4")
    if not placements:
        raise BadSpecError("no placement was given: write --placement depthwise-pre,depthwise")
    if qat_epochs < 0:
        raise BadSpecError(f"--qat-epochs {qat_epochs} is not possible: give 0 for none, or more")


def _usable(backends: Sequence[str], study: Quantization) -> list[str]:
    """The backends that this machine can run int8 on; a note says what the others lack."""
    from secost.meters.backends.offered import get_backend

    found = []
    for name in backends:
        try:
            get_backend(name, "int8")
            found.append(name)
        except MissingExtraError as error:
            study.notes.append(f"int8 of {name} was left out: {error}")
    return found


def _trials(plan: Plan) -> list[Trial]:
    """Every training that is wanted; the network without attention is the same at each placement and is taken once."""
    found = []
    for index, comparison in enumerate(plan.comparisons):
        found += [trial for trial in plan.spec.trainings(comparison) if index == 0 or trial.attention != BASELINE]
    return found


def _round_all(study: Quantization, spec: Spec, data: Data, folder: Path, backends: Sequence[str], jobs: int | None,
               listener: Listener | None) -> None:
    from secost.meters.processes import as_they_end, can_fork, in_child
    from secost.render.formats import write_files
    from secost.work.trainings import checked_jobs, train_spec, trainable, trained_net

    run = train_spec(spec, folder, listener=listener, jobs=jobs, keep_weights=True, retry_failed=True)
    spec, trials = run.spec, _trials(run.plan)
    failed = next((r for trial in trials for r in run.records if r.key == trial.key and r.top1 is None), None)
    if failed is not None:
        raise BadSpecError(f"training {failed.label} of {study.model} failed: {failed.error}")
    blocks = _blocks(trained_net(trials[0], spec, data, folder), spec, data)
    if len(data.test) > _MOST_TEST:
        study.notes.append(f"Of {len(data.test):,} test images the first {_MOST_TEST:,} were taken.")
    data = replace(data, test=Split(data.test.images[:_MOST_TEST], data.test.labels[:_MOST_TEST]))

    def path_of(trial: Trial) -> Path:
        return folder / _RESULTS / f"{trial.key}-{_settings(study, backends)}.json"

    def one(trial: Trial) -> tuple[Trial, dict[str, Any]]:
        if (kept := _read(path_of(trial))) is not None:
            return trial, kept

        def work() -> dict[str, Any]:
            with trainable(1):
                return _measured(trained_net(trial, spec, data, folder), trial, data, study, backends, blocks)

        return trial, in_child(work, _PATIENCE_S) if can_fork() else work()

    for trial, found in as_they_end([partial(one, trial) for trial in trials], checked_jobs(jobs) if can_fork() else 1):
        write_files(folder / _RESULTS, {path_of(trial).name: json.dumps(found).encode()})
        study.notes += [note for note in found["notes"] if note not in study.notes]
        study.full.append(Full(**found["full"]))
        study.rounded += [Rounded(**row) for row in found["rounded"]]
        if listener is not None:
            listener.on_note(f"rounded {study.full[-1].placement}, seed {study.full[-1].seed}")


def _name(trial: Trial) -> str:
    return BASELINE if trial.attention == BASELINE else trial.setting.placement


def _measured(net: nn.Module, trial: Trial, data: Data, study: Quantization, backends: Sequence[str],
              blocks: Sequence[str]) -> dict[str, Any]:
    """`full` and `rounded` of one network, as plain values."""
    assert trial.training is not None
    name, training, notes = _name(trial), trial.training, []
    full = Full(name, training.seed, accuracy(net, data.test))
    for backend in backends:
        try:
            full.int8_top1[backend] = _int8_top1(copy.deepcopy(net), backend, data)
        except (SecostError, RuntimeError) as error:  # one backend that can't take it leaves the others
            notes.append(f"int8 of {backend} failed on {name}: {one_line(error)}")
    parts = any(isinstance(module, GatedAttention) for module in net.modules())
    if not parts and trial.attention != BASELINE:
        notes.append(f"{trial.label} has no single gate that could be rounded apart, so where its noise comes from is "
                     "not told, and its own values are not rounded.")
    net = fold_norms(net, data.test.images[:1]).eval()
    # Gates are read where attention is; a folded copy stays untouched for the training at each precision.
    kept, simulated = copy.deepcopy(net), FakeQuantised(net)
    simulated.calibrate(torch.split(data.train.images[:_CALIBRATION], _BATCH))
    probe = _Probe(net, blocks, data.test.images)
    signal = probe.read(simulated.at(None))
    rows = []
    for bits in study.bits:
        for ranges in RANGES:
            noisy = probe.read(simulated.at(bits, ranges))
            trained = None
            if study.qat_epochs and ranges == PERCENTILE:
                trained = _trained_at(copy.deepcopy(kept), simulated, bits, training, data, study.qat_epochs)
            top1 = 100.0 * float((noisy.output.argmax(1) == data.test.labels).float().mean())
            sources = {group: _decibels(signal.output, probe.output(simulated.at(bits, ranges, (group,))))
                       for group in GROUPS} if parts else {}
            rows.append(Rounded(
                name, training.seed, bits, ranges, top1, _decibels(signal.output, noisy.output),
                {path: _decibels(signal.blocks[path], noisy.blocks[path]) for path in signal.blocks}, sources,
                _gate_error(signal.gates, noisy.gates), trained,
            ))
    return {"full": asdict(full), "rounded": [asdict(row) for row in rows], "notes": notes}


def _trained_at(net: nn.Module, calibrated: FakeQuantised, bits: int, training: Training, data: Data,
                epochs: int) -> float:
    """The accuracy after a few more epochs, rounded in every forward pass, with the ranges as calibrated."""
    simulated = FakeQuantised(net, calibrated)
    simulated.at(bits, PERCENTILE)
    finer = replace(training, epochs=epochs, learning_rate=training.learning_rate * _QAT_RATE_SHARE, amp=False)
    return train(net, data, finer).top1


def _blocks(net: nn.Module, spec: Spec, data: Data) -> list[str]:
    """Paths of the blocks that hold the sites: the nearest module above each that is no mere sequence."""
    found: dict[str, None] = {}
    for placement in spec.placement:
        for site in sites(copy.deepcopy(net), placement, resolution=data.resolution):
            parts = site.path.split(".")[:-1]
            above = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
            block = next((path for path in above if not isinstance(net.get_submodule(path), nn.Sequential)
                          and type(net.get_submodule(path)).__mro__[1] is not nn.Sequential), None)
            found[block or site.path] = None
    return list(found)


@dataclass
class _Reading:
    output: Tensor
    blocks: dict[str, Tensor]
    gates: list[Tensor]


class _Probe:
    """Runs a network over images and keeps what its blocks, its gates and it itself put out."""

    def __init__(self, net: nn.Module, blocks: Sequence[str], images: Tensor) -> None:
        self.blocks, self.images = blocks, images
        self.gates = gate_paths(net, (images[:1],))

    def read(self, net: nn.Module) -> _Reading:
        kept: dict[str, Tensor] = {}
        with ExitStack() as stack, torch.inference_mode():
            for path in self.blocks:
                handle = net.get_submodule(path).register_forward_hook(
                    lambda _, args, output, path=path: kept.__setitem__(path, output))
                stack.callback(handle.remove)
            seen = stack.enter_context(watch_gates(net, self.gates))
            output = net(self.images)
        return _Reading(output, kept, [gate.values for gate in seen])

    def output(self, net: nn.Module) -> Tensor:
        with torch.inference_mode():
            found: Tensor = net(self.images)
        return found


def _decibels(signal: Tensor, noisy: Tensor) -> float:
    noise = (noisy - signal).square().sum().clamp_min(1e-20)
    return float(10 * torch.log10(signal.square().sum().clamp_min(1e-20) / noise))


def _gate_error(signal: Sequence[Tensor], noisy: Sequence[Tensor]) -> float | None:
    if not signal:
        return None
    squares = torch.cat([(after - before).square().flatten() for before, after in zip(signal, noisy, strict=True)])
    return float(squares.mean().sqrt())


# --- the real thing ---------------------------------------------------------------------------------------------------


def _int8_top1(net: nn.Module, backend: str, data: Data) -> float:
    """The test accuracy of the network converted to int8, fitted to training images."""
    from secost.meters.backends.offered import get_backend
    from secost.meters.conditions import Request

    images = data.test.images
    request = Request(precision="int8", calibration=((data.train.images[: len(images)],),))
    outputs = get_backend(backend, "int8").prepare(net, (images,), request).open()()
    scores = torch.as_tensor(outputs[0] if isinstance(outputs, tuple | list) else outputs)
    return 100.0 * float((scores.argmax(1) == data.test.labels).float().mean())


def _int8_latency(spec: Spec, data: Data, backends: Sequence[str], seconds: float, folder: Path,
                  listener: Listener | None) -> list[Record]:
    """int8 at batch 1 with and without attention, measured in an ordinary run."""
    from secost.work.run import profile_spec

    values = {"train": None, "latency": True, "seconds": seconds, "backend": list(backends), "precision": ["int8"],
              "resolution": [data.resolution]}
    return profile_spec(spec.with_changes(**values), out=folder / _INT8_RUN, listener=listener).records


# --- results that are kept --------------------------------------------------------------------------------------------


def _settings(study: Quantization, backends: Sequence[str]) -> str:
    """What a kept result depends on beside its training: the settings, and the code that rounds."""
    code = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (fake_quant, sys.modules[__name__])]
    text = json.dumps([study.bits, study.qat_epochs, list(backends), code])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier run kept of one network; None where that is not whole."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if {"full", "rounded", "notes"} <= found.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


# --- what it says -----------------------------------------------------------------------------------------------------


def findings(study: Quantization) -> list[str]:
    """Three sentences: full precision, low precision, and where the noise comes from."""
    return [*_at_full(study), *_at_low(study), *_from_where(study), *_really(study)]


def _difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Second less first, paired by seed."""
    return paired_difference(list(zip(first, second, strict=True)))


def _told_apart(found: Interval) -> bool:
    return found.low is not None and not found.holds(0.0)


def _at_full(study: Quantization) -> list[str]:
    if len(study.placements) < 2:
        return []
    first, second = study.placements[:2]
    found = _difference(study.full_top1(first), study.full_top1(second))
    seeds = len(study.full_top1(first))
    words = (f"In full precision {study.attention} at {second} and at {first} differ by {_interval(found, 2)} points "
             f"({seeds} seeds)")
    if found.low is None:
        return [f"{words}: one seed tells nothing."]
    return [f"{words}: the placements are not alike to begin with." if _told_apart(found) else
            f"{words}: not told apart, as is to be expected."]


def _at_low(study: Quantization) -> list[str]:
    if len(study.placements) < 2:
        return []
    first, second = study.placements[:2]
    words, apart = [], []
    for bits in study.bits:
        a, b = study.at(first, bits, PERCENTILE), study.at(second, bits, PERCENTILE)
        ratio = _difference([row.output_db for row in a], [row.output_db for row in b])
        points = _difference([row.top1 for row in a], [row.top1 for row in b])
        words.append(f"{bits} bits {_interval(ratio, 1)} dB and {_interval(points, 1)} points")
        apart += [(bits, found) for found in (ratio, points) if _told_apart(found)]
    told = f"{second} less {first}, rounded after training with percentile ranges: {'; '.join(words)}"
    if not apart:
        return [f"{told}: neither placement stands low precision better, as far as these seeds can tell."]
    better = {second if found.estimate > 0 else first for _, found in apart}
    where = joined([str(bits) for bits in dict.fromkeys(bits for bits, _ in apart)])
    looked = f"{len(apart)} of {2 * len(study.bits)} intervals leave out 0, at {where} bits"
    if len(better) > 1:
        return [f"{told}: {looked}, and they do not agree which one is better."]
    return [f"{told}: {better.pop()} stands it better ({looked})."]


def _from_where(study: Quantization) -> list[str]:
    words = []
    bits = study.bits[len(study.bits) // 2]
    for placement in study.placements:
        rows = study.at(placement, bits, PERCENTILE)
        if not rows or not rows[0].sources_db:
            continue
        by_group = {group: mean_of([row.sources_db[group] for row in rows]) for group in GROUPS}
        parts = [f"{_WHERE[group]} {_interval(value, 1, False)} dB" for group, value in by_group.items()]
        words.append(f"{placement}: {', '.join(parts)}")
    if not words:
        return []
    return [f"Signal to noise at {bits} bits with one part rounded alone (the lowest makes most of the noise; the "
            f"layer that reads the product rounds it too, as part of the rest): {'; '.join(words)}."]


_WHERE = {"rest": "the rest of the network", "gate": "the gate", "product": "the product"}


def _really(study: Quantization) -> list[str]:
    names = list(dict.fromkeys(name for row in study.full for name in row.int8_top1))
    words = []
    for name in names:
        parts = []
        for placement in study.variants:
            rows = [row for row in study.full if row.placement == placement]
            kept = _difference([row.top1 for row in rows], [row.int8_top1[name] for row in rows])
            parts.append(f"{placement} {_interval(kept, 2)}")
        words.append(f"{name} {', '.join(parts)}")
    return [f"Points of accuracy that real int8 changes: {'; '.join(words)}."] if words else []


def _interval(value: Interval, digits: int, signed: bool = True) -> str:
    return with_ends(value.estimate, value.low, value.high, digits, signed)


def page(study: Quantization) -> Page:
    """The study as a page: findings, accuracy and noise by bits, the real int8, two figures."""
    from secost.pages.page import Page, Section

    told = findings(study)
    if not told:
        told = [f"{study.attention} of {study.model} at {joined([str(b) for b in study.bits])} bits."]
    about = (f"{study.model}, {study.attention}, on {study.dataset}: {study.epochs} epochs in full precision, "
             f"{len(study.full_top1(BASELINE))} paired seeds; then {study.qat_epochs} epochs of training at each "
             "precision (QAT, percentile ranges). Weights are rounded by channel, maps by tensor, norms are folded.")
    sections = [
        Section("found", "What was found", tuple([*told[1:], about, *study.notes]), ()),
        Section("accuracy", "Accuracy", (), (_accuracy_table(study),)),
        Section("noise", "Signal to quantisation noise", (), (_noise_table(study), _block_table(study))),
    ]
    if any(row.int8_top1 for row in study.full):
        sections.append(Section("int8", "Real int8", (), (_int8_table(study),)))
    return Page("study-quantization", f"{study.attention} at low precision: {study.model}", told[0],
                     tuple(sections), tuple(_rows(study)), _document(study, told), lambda: _drawings(study))


def _accuracy_table(study: Quantization) -> Any:
    from secost.pages.page import Table

    rows = [("32", "none", *(_interval(mean_of(study.full_top1(name)), 2, False) for name in study.variants),
             *_last_difference([study.full_top1(name) for name in study.placements]))]
    for bits in study.bits:
        for ranges in RANGES:
            cells = [[row.top1 for row in study.at(name, bits, ranges)] for name in study.variants]
            rows.append((str(bits), ranges, *(_interval(mean_of(cell), 2, False) for cell in cells),
                         *_last_difference(cells[1:])))
        cells = [[row.trained_top1 for row in study.at(name, bits, PERCENTILE) if row.trained_top1 is not None]
                 for name in study.variants]
        if all(cells):
            rows.append((str(bits), "trained at it", *(_interval(mean_of(cell), 2, False) for cell in cells),
                         *_last_difference(cells[1:])))
    heads = ("bits", "ranges", *study.variants, *_difference_head(study))
    return Table.of("Top-1 accuracy (%), the mean over seeds with its interval", heads, tuple(rows), left=2)


def _difference_head(study: Quantization) -> tuple[str, ...]:
    return (f"{study.placements[1]} less {study.placements[0]}",) if len(study.placements) > 1 else ()


def _last_difference(cells: Sequence[Sequence[float]]) -> tuple[str, ...]:
    return (_interval(_difference(cells[0], cells[1]), 2),) if len(cells) > 1 else ()


def _noise_table(study: Quantization) -> Any:
    from secost.pages.page import Table

    rows = []
    for bits in study.bits:
        for ranges in RANGES:
            for name in study.variants:
                cell = study.at(name, bits, ranges)
                gates = [row.gate_error for row in cell if row.gate_error is not None]
                sources = [_interval(mean_of([row.sources_db[group] for row in cell]), 1, False)
                           if cell and cell[0].sources_db else "N/A" for group in GROUPS]
                rows.append((str(bits), ranges, name, _interval(mean_of([row.output_db for row in cell]), 1, False),
                             *sources, f"{mean_of(gates).estimate:.4f}" if gates else "N/A"))
    heads = ("bits", "ranges", "placement", "output (dB)", "only the rest rounded", "only the gate", "only the product",
             "gate error")
    return Table.of("At the network's output; with one part rounded alone; error of the gates' values", heads,
                     tuple(rows), left=3)


def _block_table(study: Quantization) -> Any:
    from secost.pages.page import Table

    bits = study.bits[len(study.bits) // 2]
    cells = {name: study.at(name, bits, PERCENTILE) for name in study.variants}
    paths = list(next(iter(cells.values()))[0].blocks_db)
    rows = tuple((path, *(_interval(mean_of([row.blocks_db[path] for row in cells[name]]), 1, False)
                          for name in study.variants)) for path in paths)
    return Table.of(f"At each block's output, {bits} bits, percentile ranges (dB)", ("block", *study.variants), rows)


def _int8_table(study: Quantization) -> Any:
    from secost.pages.page import Table

    rows = []
    for backend in dict.fromkeys(name for row in study.full for name in row.int8_top1):
        for placement in study.variants:
            kept = [row for row in study.full if row.placement == placement]
            change = _difference([row.top1 for row in kept], [row.int8_top1[backend] for row in kept])
            rows.append((backend, placement, _interval(mean_of([row.int8_top1[backend] for row in kept]), 2, False),
                         _interval(change, 2), *_measured_time(study, backend, placement)))
    heads = ("backend", "placement", "top-1 (%)", "change from full precision", "time", "time overhead")
    return Table.of("int8 as deployed, fitted to training images; time at batch 1", heads, tuple(rows), left=2)


def _measured_time(study: Quantization, backend: str, placement: str) -> tuple[str, str]:
    for record in study.latency:
        found = BASELINE if record.attention == BASELINE else record.placement
        if record.status == DONE and record.backend == backend and found == placement and record.latency_ms is not None:
            overhead = percent_interval(record.latency_overhead, record.latency_overhead_low,
                                        record.latency_overhead_high) if placement != BASELINE else ""
            return f"{record.latency_ms:.3f} ms", overhead
    return "N/A", "N/A"


def _rows(study: Quantization) -> Iterator[dict[str, Any]]:
    full = {(row.placement, row.seed): row for row in study.full}
    for row in study.rounded:
        yield {
            "placement": row.placement, "seed": row.seed, "bits": row.bits, "ranges": row.ranges, "top1": row.top1,
            "full_top1": full[row.placement, row.seed].top1, "trained_top1": row.trained_top1,
            "output_db": row.output_db, "gate_error": row.gate_error,
            **{f"{group}_db": row.sources_db.get(group) for group in GROUPS},
        }


def _document(study: Quantization, told: Sequence[str]) -> dict[str, Any]:
    return {
        "model": study.model, "attention": study.attention, "dataset": study.dataset, "findings": list(told),
        "notes": study.notes, "placements": list(study.placements), "bits": list(study.bits), "epochs": study.epochs,
        "qat_epochs": study.qat_epochs, "full": [asdict(row) for row in study.full],
        "rounded": [asdict(row) for row in study.rounded], "latency": [record.to_dict() for record in study.latency],
    }


def _drawings(study: Quantization) -> list[Any]:
    from secost.figures.drawing import panels

    curves = [
        _paint_by_bits(study, "top-1 (%), rounded after training", lambda row: row.top1),
        _paint_by_bits(study, "signal to noise at the output (dB)", lambda row: row.output_db),
    ]
    if study.qat_epochs:
        curves.insert(1, _paint_by_bits(study, "top-1 (%), trained at it", lambda row: row.trained_top1))
    curves.append(_paint_sources(study))
    return [panels("quantization", f"{study.attention} at low precision: {study.model}",
                   "Accuracy and noise against bits, with percentile ranges, a curve a placement with intervals over "
                   "seeds; and the signal left where one part is rounded alone.", curves)]


def _paint_by_bits(study: Quantization, title: str, value: Callable[[Rounded], float | None]) -> Callable[[Any], None]:
    def paint(axis: Any) -> None:
        from secost.figures.drawing import numbered_look

        width = 0.12
        for index, name in enumerate(study.variants):
            look, points = numbered_look(index), []
            for place, bits in enumerate(study.bits):
                values = [known for row in study.at(name, bits, PERCENTILE) if (known := value(row)) is not None]
                if values:
                    points.append((place + width * (index - 1), mean_of(values)))
            axis.plot([x for x, _ in points], [found.estimate for _, found in points], color=look.color,
                      marker=look.marker, markersize=4, label=name)
            for x, found in points:
                if found.low is not None and found.high is not None:
                    axis.vlines(x, found.low, found.high, color=look.color, linewidth=1)
        axis.set_title(title, loc="left")
        axis.set_xticks(range(len(study.bits)), [f"{bits} bits" for bits in study.bits])

    return paint


def _paint_sources(study: Quantization) -> Callable[[Any], None]:
    bits = study.bits[len(study.bits) // 2]

    def paint(axis: Any) -> None:
        from secost.figures.drawing import numbered_look

        for index, name in enumerate(study.placements, 1):
            look = numbered_look(index)
            rows = [row for row in study.at(name, bits, PERCENTILE) if row.sources_db]
            for place, group in enumerate(GROUPS):
                if not rows:
                    continue
                found, x = mean_of([row.sources_db[group] for row in rows]), place + 0.15 * (index - 1.5)
                axis.plot([x], [found.estimate], color=look.color, marker=look.marker, markersize=5, linestyle="none")
                if found.low is not None and found.high is not None:
                    axis.vlines(x, found.low, found.high, color=look.color, linewidth=1)
        axis.set_title(f"dB at {bits} bits, one part rounded", loc="left")
        axis.set_xticks(range(len(GROUPS)), ["the rest", "the gate", "the product"])

    return paint

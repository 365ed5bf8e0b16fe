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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, MissingExtraError, SecostError, one_line
from secost.meters.backends.offered import get_backend
from secost.meters.conditions import Request
from secost.meters.processes import as_they_end, can_fork, in_child
from secost.networks.attention_modules import GatedAttention
from secost.networks.gates import gate_paths, watch_gates
from secost.networks.surgery import sites
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Listener, Plan, Training, Trial
from secost.runs.records import Record
from secost.runs.store import RunStore
from secost.runs.study import GROUPS, PERCENTILE, RANGES, Full, Quantization, Rounded, rounded
from secost.studies import fake_quant
from secost.studies.fake_quant import BITS, FakeQuantised, fold_norms
from secost.training.datasets import Data, Split
from secost.training.loop import accuracy, train
from secost.work.run import measure_more, open_run
from secost.work.trainings import checked_jobs, prepare, train_in_store, trainable, trained_net

DEFAULT_MODEL, DEFAULT_DATASET, DEFAULT_EPOCHS, DEFAULT_REDUCTION = "small:mobile", "digits", 20, 4
DEFAULT_BITS, DEFAULT_PLACEMENTS = (8, 6, 4), ("depthwise-pre", "depthwise")
REAL_BACKENDS = ("onnxruntime", "openvino")
_CALIBRATION, _BATCH, _MOST_TEST = 512, 128, 1000
_QAT_RATE_SHARE = 0.1  # of the learning rate of full precision
_RESULTS = "quantised"
_PATIENCE_S = 86_400.0


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
    placements, listener, jobs = tuple(dict.fromkeys(placements)), listener or Listener(), checked_jobs(jobs)
    _check(bits, placements, qat_epochs)
    if attention in (BASELINE, NATIVE):
        raise BadSpecError(f"--attention {attention} can't be put at a placement: name one of secost list attention")
    training = {"dataset": dataset, "seeds": seeds, "epochs": epochs, "data": data, "learning_rate": learning_rate,
                "augment": False}
    course = prepare(Spec.from_dict({
        "models": model, "attention": [attention], "placement": list(placements), "reductions": [reduction],
        "latency": False, "train": training,
    }))
    spec, source, trials = course.plan.spec, course.data, _trials(course.plan)
    label = next(trial.label for trial in trials if trial.attention != BASELINE)
    study = Quantization(model, label, source.name, placements, tuple(sorted(set(bits), reverse=True)), epochs,
                         qat_epochs)
    usable = _usable(backends, study)
    with open_run(spec, out) as store:
        train_in_store(course, store, listener, True, jobs, keep_weights=True)
        records = store.records()
        failed = next((r for trial in trials for r in records if r.key == trial.key and r.top1 is None), None)
        if failed is not None:
            raise BadSpecError(f"training {failed.label} of {model} failed: {failed.error}")
        if len(source.test) > _MOST_TEST:
            study.notes.append(f"Of {len(source.test):,} test images the first {_MOST_TEST:,} were taken.")
        source = replace(source, test=Split(source.test.images[:_MOST_TEST], source.test.labels[:_MOST_TEST]))
        _round_all(study, _Rounding(spec, source, study, usable, store.directory), trials, jobs, listener)
        if latency and usable:
            study.latency = _int8_latency(spec, source, usable, seconds, store, listener)
        study = rounded(study)
        store.keep_study(study)
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
    return [trial for index, comparison in enumerate(plan.comparisons) for trial in plan.spec.trainings(comparison)
            if index == 0 or trial.attention != BASELINE]


@dataclass(frozen=True)
class _Rounding:
    """Rounds one trained network after another, or reads what an earlier run kept of it."""

    spec: Spec
    data: Data
    study: Quantization
    backends: Sequence[str]
    folder: Path

    def __call__(self, blocks: Sequence[str], trial: Trial) -> tuple[Trial, dict[str, Any]]:
        path = self.folder / _RESULTS / f"{trial.key}-{self._settings()}.json"
        if (kept := _read(path)) is not None:
            return trial, kept

        def work() -> dict[str, Any]:
            with trainable(1):
                return _measured(self.net(trial), trial, self, blocks)

        found = in_child(work, _PATIENCE_S) if can_fork() else work()
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")  # one that is cut off is no JSON, and made again
        return trial, found

    def net(self, trial: Trial) -> nn.Module:
        return trained_net(trial, self.spec, self.data, self.folder)

    def _settings(self) -> str:
        """What a kept result depends on beside its training: the settings, and the code that rounds."""
        code = [Path(str(item.__file__)).read_text(encoding="utf-8") for item in (fake_quant, sys.modules[__name__])]
        text = json.dumps([self.study.bits, self.study.qat_epochs, list(self.backends), code])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier run kept of one network; None where that is not whole."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if {"full", "rounded", "notes"} <= found.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _round_all(study: Quantization, rounding: _Rounding, trials: Sequence[Trial], jobs: int,
               listener: Listener) -> None:
    """Every network, in the order of the plan."""
    blocks = _blocks(rounding.net(trials[0]), rounding.spec, rounding.data)
    found = {}
    works = [partial(rounding, blocks, trial) for trial in trials]
    for trial, values in as_they_end(works, jobs if can_fork() else 1):
        found[trial.key] = values
        listener.on_note(f"rounded {values['full']['placement']}, seed {values['full']['seed']}")
    for values in (found[trial.key] for trial in trials):
        study.notes += [note for note in values["notes"] if note not in study.notes]
        study.full.append(Full(**values["full"]))
        study.rounded += [Rounded(**row) for row in values["rounded"]]


def _name(trial: Trial) -> str:
    return BASELINE if trial.attention == BASELINE else trial.setting.placement


def _measured(net: nn.Module, trial: Trial, asked: _Rounding, blocks: Sequence[str]) -> dict[str, Any]:
    """`full` and `rounded` of one network, as plain values."""
    assert trial.training is not None
    data, study = asked.data, asked.study
    name, training, notes = _name(trial), trial.training, []
    full = Full(name, training.seed, accuracy(net, data.test))
    for backend in asked.backends:
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
    images = data.test.images
    request = Request(precision="int8", calibration=((data.train.images[: len(images)],),))
    outputs = get_backend(backend, "int8").prepare(net, (images,), request).open()()
    scores = torch.as_tensor(outputs[0] if isinstance(outputs, tuple | list) else outputs)
    return 100.0 * float((scores.argmax(1) == data.test.labels).float().mean())


def _int8_latency(spec: Spec, data: Data, backends: Sequence[str], seconds: float, store: RunStore,
                  listener: Listener) -> list[Record]:
    """int8 at batch 1 with and without attention, measured in the same run."""
    changed = spec.with_changes(train=None, latency=True, seconds=seconds, backend=list(backends), precision=["int8"],
                                resolution=[data.resolution])
    return measure_more(changed, store, listener)

"""What the gates look at: an occluder slides over the input, and at each position every gate is read.

The shift of a gate against the unoccluded image tells which part of the image opens or closes a channel (occlusion as
in arXiv:1311.2901, sec. 4.2, of gates in place of scores). On the made set `three-cues` the answer is known: its corner
can only be at the top left, so what reads the corner must fall when that is covered, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secost.errors import BadSpecError
from secost.networks.gates import CHANNEL, CONTEXT, ELEMENT, Gate, gate_paths, watch_gates
from secost.networks.sources import image_input, load, load_weights, normalisation, read_image, wake_norms
from secost.networks.surgery import attach, seeded, strip
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Listener
from secost.runs.store import RunStore
from secost.runs.study import OPEN, SHUT, CueTest, Detectors, Occlusion, Shifts, SiteGates, rounded
from secost.statistics import mean_of
from secost.training.datasets import CORNER_PX, CUES, Data, load_data
from secost.work.comparison import Networks
from secost.work.run import make_plan, open_run, run_in_store
from secost.work.trainings import Course, build, prepare, train_in_store, trained_net

DEFAULT_MODEL, DEFAULT_DATASET, DEFAULT_REDUCTION, DEFAULT_EPOCHS = "small:shallow", "three-cues", 4, 8
_BATCH, _BATCH_PX, _IMAGES = 128, 64, 64  # so many images of so many pixels at once
_SEVENTH, _HALF = 7, 2
_BINS = 16
_READERS = 8  # one channel in so many counts as a reader of a cue
Pair = tuple[nn.Module | None, nn.Module]  # untrained and trained


def occlusion(
    model: str = DEFAULT_MODEL, *, image: str | Path | None = None, dataset: str | None = None, data: str = "",
    weights: str | Path | None = None, attention: str | None = None, reduction: int | None = None,
    placement: str = "auto", resolution: int = 224, occluder: int | None = None, stride: int | None = None,
    seeds: int = 5, epochs: int = DEFAULT_EPOCHS, learning_rate: float = 0.05, jobs: int | None = None,
    out: str | Path | None = None, listener: Listener | None = None,
) -> Occlusion:
    """Slide an occluder over an image, or over images of a data set, and read every gate at every place.

    With `image` the network is run as it is, with `weights` where they are given. With a data set (`three-cues`, unless
    another is named) and no weights it is trained first, from `seeds` seeds; the run `out` keeps records and weights,
    and the same call goes on. Without `attention` the gates are the network's own. Raises BadSpecError for a network
    without gates, an occluder larger than the image, a file that can't be read, weights that don't fit.
    """
    if image is not None and dataset is not None:
        raise BadSpecError("an image and a data set were given: give one of the two")
    if attention in (BASELINE, NATIVE):
        raise BadSpecError(f"--attention {attention} is none to attach: leave it out for the network's own")
    if attention is None and model == DEFAULT_MODEL:
        attention = "se"
    if attention is not None and reduction is None:
        reduction = DEFAULT_REDUCTION if model == DEFAULT_MODEL else 16
    wanted, listener = _Wanted(model, attention, reduction, placement, weights), listener or Listener()
    if image is not None:
        study = _of_image(wanted, Path(image), resolution, occluder, stride)
        return _kept(study, wanted.spec(resolution=resolution, latency=False), out, listener)
    name = dataset or DEFAULT_DATASET
    found = load_data(name, data)
    if weights is not None:
        study = _study(wanted, found, [(None, _with_any_classes(wanted, found))], occluder, stride)
        return _kept(study, wanted.spec(resolution=found.resolution, latency=False), out, listener)
    if attention is None:
        _paths(load(model, classes=found.classes), wanted, found.test.images[:1])
    course = prepare(wanted.spec(latency=False, train={
        "dataset": name, "seeds": seeds, "epochs": epochs, "data": data, "learning_rate": learning_rate,
        "augment": False,
    }))
    with open_run(course.plan.spec, out) as store:
        accuracies, nets = _trained(course, store, jobs, listener)
        study = _study(wanted, course.data, nets, occluder, stride)
        study.top1 = mean_of(accuracies)
        study = rounded(study)
        store.keep_study(study)
    return study


@dataclass(frozen=True)
class _Wanted:
    model: str
    attention: str | None
    reduction: int | None
    placement: str
    weights: str | Path | None

    @property
    def label(self) -> str:
        if self.attention is None:
            return "its own attention"
        return self.attention if self.reduction is None else f"{self.attention} r={self.reduction}"

    def spec(self, **values: Any) -> Spec:
        return Spec.from_dict({
            "models": self.model, "attention": [self.attention or NATIVE], "placement": self.placement,
            "reductions": [self.reduction or 16], **values,
        })


def _net(wanted: _Wanted, resolution: int, classes: int | None = None) -> nn.Module:
    """The network with its gates and the user's weights, in eval mode."""
    net = load(wanted.model, classes=classes)
    if wanted.attention is not None:
        with seeded(0):
            attach(strip(net, resolution), wanted.attention, wanted.reduction, wanted.placement, resolution=resolution)
    if wanted.weights is None:
        return wake_norms(net).eval()
    return load_weights(net, wanted.weights).eval()


def _with_any_classes(wanted: _Wanted, data: Data) -> nn.Module:
    """The network with as many scores as the data has classes, or else as its maker gives it: gates need none."""
    try:
        return _net(wanted, data.resolution, data.classes)
    except BadSpecError:
        return _net(wanted, data.resolution)


def _of_image(wanted: _Wanted, path: Path, resolution: int, occluder: int | None, stride: int | None) -> Occlusion:
    net = _net(wanted, resolution)
    channels = image_input(net, resolution)[0].shape[1]
    raw = read_image(path, channels, resolution, resolution, convert=False)
    mean, deviation = normalisation(net, channels)
    grid = _grid(resolution, occluder, stride)
    study = Occlusion(wanted.model, wanted.label, path.name, *grid, _pixels(raw[0]))
    if wanted.weights is None:
        study.notes.append("Weights are random, so the gates say what initialisation says: give yours with --weights.")
    images = (raw - mean) / deviation
    paths = _paths(net, wanted, images)
    study.shifts = _shifts(net, paths, images, study)
    study.sites = _sites([(None, _read(net, paths, images))], None)
    return study


def _kept(study: Occlusion, spec: Spec, out: str | Path | None, listener: Listener) -> Occlusion:
    """The study, kept in the run `out`, if there is one, with what the gates that were read cost."""
    study = rounded(study)
    if out is None:
        return study
    networks = Networks(spec.allow_download)
    plan = make_plan(spec, networks)
    with open_run(plan.spec, out) as store:
        run_in_store(plan, store, listener, networks, strict=True)
        store.keep_study(study)
    return study


def _trained(course: Course, store: RunStore, jobs: int | None, listener: Listener) -> tuple[list[float], list[Pair]]:
    """The accuracies of ordinary trainings, and their networks before and after, seed by seed."""
    plan, data = train_in_store(course, store, listener, True, jobs, keep_weights=True), course.data
    spec, trials = plan.spec, [trial for trial in plan.trainings if trial.attention != BASELINE]
    by_key = {record.key: record for record in store.records()}
    failed = next((by_key[trial.key] for trial in trials if by_key[trial.key].top1 is None), None)
    if failed is not None:
        raise BadSpecError(f"training {spec.models[0]} failed: {failed.error}")
    nets: list[Pair] = [(wake_norms(build(trial, spec, data)).eval(), trained_net(trial, spec, data, store.directory))
                        for trial in trials]
    return [by_key[trial.key].top1 or 0.0 for trial in trials], nets


def _study(wanted: _Wanted, data: Data, nets: Sequence[Pair], occluder: int | None, stride: int | None) -> Occlusion:
    images, labels = data.test.images, data.test.labels
    known, half = data.name == DEFAULT_DATASET, len(images) // 2
    shown = images[half:][labels[half:] == 0][:_IMAGES] if known else images[:_IMAGES]
    grid = _grid(data.resolution, occluder, stride)
    subject = f"{len(shown)} images of {data.name}" + (" with the corner" if known else "")
    study = Occlusion(wanted.model, wanted.label, subject, *grid, _as_shown(shown[0]))
    paths = _paths(nets[0][1], wanted, images[:1])
    read = [tuple(None if net is None else _read(net, paths, images[:half]) for net in pair) for pair in nets]
    seen = labels[:half] if 1 < len(torch.unique(labels[:half])) < half else None
    study.sites = _sites([(before, after) for before, after in read if after is not None], seen)
    study.shifts = _shifts(nets[0][1], paths, shown, study)
    if known:
        study.detectors = _detectors(read[0][1] or [], labels[:half])
    if known and all(bool(part.any()) for part in _near_and_far(study)):
        study.cues = _cue_tests(nets, paths, read, labels[:half], shown, study)
    elif known:
        study.notes.append("No place of the occluder is in the corner alone, or none is outside it: no test of that.")
    return study


def _as_shown(image: Tensor) -> np.ndarray:
    low, high = image.amin(), image.amax()
    return _pixels((image - low) / (high - low).clamp_min(1e-6))


def _pixels(image: Tensor) -> np.ndarray:
    """(C, H, W), values 0 to 1, as (H, W, 3), 0 to 255."""
    return np.asarray((255 * image).byte().expand(3, -1, -1).permute(1, 2, 0))


def _grid(px: int, occluder: int | None, stride: int | None) -> tuple[int, int, list[int], list[int]]:
    """The occluder's size (a seventh of the image, 4 px at least), its stride (half of that), and where it stands."""
    size = occluder if occluder is not None else max(4, px // _SEVENTH)
    if not 1 <= size <= px:
        raise BadSpecError(f"--occluder {size} is not possible on an image of {px} px: give 1 to {px}")
    step = stride if stride is not None else max(1, size // _HALF)
    if step < 1:
        raise BadSpecError(f"--stride {step} is not possible: give 1 or more")
    starts = [*range(0, px - size, step), px - size]
    return size, step, starts, starts


def _paths(net: nn.Module, wanted: _Wanted, images: Tensor) -> list[str]:
    paths = gate_paths(net, (images[:1],))
    if not paths:
        raise BadSpecError(f"{wanted.model} has no attention whose gates could be read: attach some with "
                           "--attention se -r 16")
    return paths


# --- reading gates ----------------------------------------------------------------------------------------------------


def _read(net: nn.Module, paths: Sequence[str], images: Tensor) -> list[Gate]:
    """All gates over images (N, C, H, W), one entry a gate, in the order in which they run."""
    batches: list[list[Gate]] = []
    for batch in torch.split(images, _BATCH):
        with torch.inference_mode(), watch_gates(net, paths) as seen:
            net(batch)
        batches.append(list(seen))
    found: list[Gate] = []
    for parts in zip(*batches, strict=True):
        path = parts[0].path
        runs = sum(gate.path.split(" #")[0] == path and gate.kind == parts[0].kind for gate in found)
        found.append(Gate(f"{path} #{runs + 1}" if runs else path, parts[0].kind,
                          torch.cat([part.values for part in parts]), torch.cat([part.squeezed for part in parts])))
    return found


def _shifts(net: nn.Module, paths: Sequence[str], images: Tensor, study: Occlusion) -> list[Shifts]:
    base, places = _read(net, paths, images), study.places
    at_once = max(1, _BATCH * _BATCH_PX**2 // (len(images) * images.shape[-1] ** 2))
    moved: list[list[Tensor]] = [[] for _ in base]
    for begin in range(0, len(places), at_once):
        some = places[begin : begin + at_once]
        covered = torch.cat([_covered(images, place, study.occluder_px) for place in some])
        for found, before, after in zip(moved, base, _read(net, paths, covered), strict=True):
            found.append((after.values.reshape(len(some), len(images), -1) - before.values).mean(1))
    shape = (-1, len(study.rows), len(study.columns))
    return [Shifts(gate.name, gate.kind, torch.cat(parts).T.reshape(shape).contiguous().numpy())
            for gate, parts in zip(base, moved, strict=True)]


def _covered(images: Tensor, place: tuple[int, int], size: int) -> Tensor:
    """The images with the mean of normalised images, 0, in the occluder's place."""
    covered, (row, column) = images.clone(), place
    covered[:, :, row : row + size, column : column + size] = 0
    return covered


def _sites(read: Sequence[tuple[list[Gate] | None, list[Gate]]], labels: Tensor | None) -> list[SiteGates]:
    found = []
    for index, first in enumerate(read[0][1]):
        after = [gates[index].values for _, gates in read]
        before = [gates[index].values for gates, _ in read if gates is not None]
        bounded = first.kind != CONTEXT and all(bool((v >= 0).all() and (v <= 1).all()) for v in after)
        found.append(SiteGates(
            first.name, first.kind, first.values.shape[1], mean_of([float(v.mean()) for v in after]),
            mean_of([float(v.std(0, correction=0).mean()) for v in after]) if len(after[0]) > 1 else None,
            mean_of([_entropy_bits(v) for v in after]) if bounded else None,
            mean_of([float(((v < SHUT) | (v > OPEN)).float().mean()) for v in after]) if bounded else None,
            None if labels is None else mean_of([_specificity(v, labels) for v in after]),
            None if labels is None or not before else mean_of([_specificity(v, labels) for v in before]),
        ))
    return found


def _entropy_bits(values: Tensor) -> float:
    shares = torch.histc(values.float(), _BINS, 0.0, 1.0) / values.numel()
    return float(-(shares * shares.clamp_min(1e-12).log2()).sum())


def _specificity(values: Tensor, labels: Tensor) -> float:
    """The share of variance between classes, adjusted for chance (Ezekiel), the mean over units that vary at all."""
    total = (values - values.mean(0)).square().sum(0)
    classes = torch.unique(labels)
    within = sum(((part := values[labels == label]) - part.mean(0)).square().sum(0) for label in classes)
    alive = total > 1e-9 * len(values)
    if not bool(alive.any()):
        return 0.0
    chance = (len(values) - 1) / (len(values) - len(classes))
    return float((1 - chance * (within / total.clamp_min(1e-30))[alive]).mean())


def _cue_tests(
    nets: Sequence[Pair], paths: Sequence[str], read: Sequence[tuple[Any, ...]], labels: Tensor, images: Tensor,
    study: Occlusion,
) -> list[CueTest]:
    """The corner's test at every site; readers are found on other images than those that are occluded."""
    if any(net is None for net, _ in nets):
        return []
    pairs: list[list[tuple[float, float]]] = []
    readers: list[tuple[Tensor, float]] = []
    for seed, (before, after) in enumerate(nets):
        row = []
        for net, gates in ((before, read[seed][0]), (after, read[seed][1])):
            assert net is not None
            chosen = [_readers(gate.squeezed, labels) for gate in gates]
            moved = study.shifts if seed == 0 and net is after else _shifts(net, paths, images, study)
            row.append([_fall(shift, picked, study) for shift, (picked, _) in zip(moved, chosen, strict=True)])
            if seed == 0 and net is after:
                readers = chosen
        pairs.append(list(zip(row[0], row[1], strict=True)))
    return [
        CueTest.of(shift.name, tuple(readers[site][0].tolist()), readers[site][1], tuple(pair[site] for pair in pairs))
        for site, shift in enumerate(study.shifts) if shift.kind in (CHANNEL, ELEMENT)
    ]


def _detectors(gates: Sequence[Gate], labels: Tensor) -> list[Detectors]:
    read = [(gate.name, name, *_readers(gate.squeezed, labels, cue)) for gate in gates for cue, name in enumerate(CUES)]
    return [Detectors(gate, cue, tuple(channels.tolist()), correlation) for gate, cue, channels, correlation in read]


def _readers(squeezed: Tensor, labels: Tensor, cue: int = 0) -> tuple[Tensor, float]:
    """The channels whose mean over the map goes most with a cue's presence, and their correlation with it."""
    present = (labels == cue).float()
    ours, theirs = squeezed - squeezed.mean(0), (present - present.mean())[:, None]
    scale = (ours.square().mean(0) * theirs.square().mean()).sqrt()
    correlation = torch.where(scale > 1e-9, (ours * theirs).mean(0) / scale.clamp_min(1e-12), torch.zeros(()))
    best = correlation.topk(max(1, len(correlation) // _READERS))
    return best.indices, float(best.values.mean())


def _near_and_far(study: Occlusion) -> tuple[Tensor, Tensor]:
    """At which places the occluder's middle is in the corner, and at which it leaves the corner untouched."""
    middle = study.occluder_px / 2
    near = torch.tensor([max(row, column) + middle <= CORNER_PX for row, column in study.places])
    return near, torch.tensor([max(row, column) >= CORNER_PX for row, column in study.places])


def _fall(shift: Shifts, readers: Tensor, study: Occlusion) -> float:
    """Mean shift of the readers with the occluder's middle in the corner, less that with the corner untouched."""
    if shift.kind not in (CHANNEL, ELEMENT):
        return 0.0  # it has no channels, and no test
    near, far = _near_and_far(study)
    moved = torch.from_numpy(shift.values)[readers].flatten(1).mean(0)
    return float(moved[near].mean() - moved[far].mean())

"""What the gates look at: an occluder slides over the input, and at each position every gate is read.

The shift of a gate against the unoccluded image tells which part of the image opens or closes a channel (occlusion as
in arXiv:1311.2901, sec. 4.2, of gates in place of scores). On the made set `three-cues` the answer is known: its corner
can only be at the top left, so what reads the corner must fall when that is covered, and nowhere else.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError
from secost.networks.gates import CHANNEL, CONTEXT, ELEMENT, Gate, gate_paths, watch_gates
from secost.networks.inputs import image_input, normalisation, read_image
from secost.networks.sources import load, load_weights, wake_norms
from secost.networks.surgery import attach, seeded, strip
from secost.numbers import with_ends
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE
from secost.statistics import Interval, mean_of, paired_difference
from secost.training.datasets import CORNER_PX, CUES, Data, load_data

if TYPE_CHECKING:
    from secost.pages.page import Page
    from secost.plan.plan import Listener

DEFAULT_MODEL, DEFAULT_DATASET, DEFAULT_REDUCTION, DEFAULT_EPOCHS = "small:shallow", "three-cues", 4, 8
_BATCH, _BATCH_PX, _IMAGES = 128, 64, 64  # so many images of so many pixels at once
_SEVENTH, _HALF = 7, 2
_BINS, _SHUT, _OPEN = 16, 0.05, 0.95
_READERS = 8  # one channel in so many counts as a reader of a cue
_STRONGEST = 7
SHIFTS_FILE = "gate-shifts.safetensors"


@dataclass(frozen=True)
class SiteGates:
    """One gate by depth; each figure with its interval over seeds.

    `spread` is a unit's standard deviation over images. `entropy_bits` is that of all values in 16 equal bins of 0 to 1
    (4 bits at most), `saturation` the share below 0.05 or above 0.95; both None where a value lies outside 0 to 1. One
    image has no `spread`.
    `specificity` is the share of a unit's variance that the image's class explains, corrected for chance (SENet
    sec. 7.2 asks for it by eye); None without classes. `untrained` is the same before training.
    """

    name: str
    kind: str
    units: int
    mean: Interval
    spread: Interval | None
    entropy_bits: Interval | None
    saturation: Interval | None
    specificity: Interval | None
    untrained: Interval | None


@dataclass(frozen=True)
class Shifts:
    """How far one gate moves where the occluder stands: (units, rows, columns), occluded minus unoccluded, the mean
    over images."""

    name: str
    kind: str
    values: Tensor


@dataclass(frozen=True)
class CueTest:
    """How much deeper the gates of the corner's readers fall with the corner covered than with another place covered.

    Negative values fall. `readers` are channels of the first seed, `correlation` theirs with the corner's presence;
    `pairs` are (untrained, trained), a seed each.
    """

    name: str
    readers: tuple[int, ...]
    correlation: float
    pairs: tuple[tuple[float, float], ...]

    @property
    def trained(self) -> Interval:
        return mean_of([trained for _, trained in self.pairs])

    @property
    def untrained(self) -> Interval:
        return mean_of([untrained for untrained, _ in self.pairs])

    @property
    def difference(self) -> Interval:
        return paired_difference(self.pairs)


@dataclass(frozen=True)
class Detectors:
    """The channels of one site that read one cue, found by measurement (first seed), and their correlation with it."""

    name: str
    cue: str
    channels: tuple[int, ...]
    correlation: float


@dataclass
class Occlusion:
    """What the study found.

    `places` are the occluder's upper left corners, row by row; `image` is what is shown, (H, W, 3), values 0 to 1.
    """

    model: str
    attention: str
    subject: str
    occluder_px: int
    stride_px: int
    rows: list[int]
    columns: list[int]
    image: Tensor
    sites: list[SiteGates] = field(default_factory=list)
    shifts: list[Shifts] = field(default_factory=list)
    cues: list[CueTest] = field(default_factory=list)
    detectors: list[Detectors] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    top1: Interval | None = None

    @property
    def places(self) -> list[tuple[int, int]]:
        return list(itertools.product(self.rows, self.columns))


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
    wanted = _Wanted(model, attention, reduction, placement, weights)
    if image is not None:
        study = _of_image(wanted, Path(image), resolution, occluder, stride)
        _keep_costs(wanted, resolution, out, listener)
        return study
    found = load_data(dataset or DEFAULT_DATASET, data)
    if weights is not None:
        net = _with_any_classes(wanted, found)
        study = _study(wanted, found, [(None, net)], occluder, stride)
        _keep_costs(wanted, found.resolution, out, listener)
        return study
    training = {"dataset": found.name if not dataset else dataset, "seeds": seeds, "epochs": epochs, "data": data,
                "learning_rate": learning_rate, "augment": False}
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        nets, top1 = _trained(wanted, found, training, folder, jobs, listener)
        study = _study(wanted, found, nets, occluder, stride)
    study.top1 = top1
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
    study = Occlusion(wanted.model, wanted.label, path.name, *grid, raw[0].expand(3, -1, -1).permute(1, 2, 0))
    if wanted.weights is None:
        study.notes.append("Weights are random, so the gates say what initialisation says: give yours with --weights.")
    images = (raw - mean) / deviation
    paths = _paths(net, wanted, images)
    study.shifts = _shifts(net, paths, images, study)
    study.sites = _sites([(None, _read(net, paths, images))], None)
    return study


def _keep_costs(wanted: _Wanted, resolution: int, out: str | Path | None, listener: Listener | None) -> None:
    """What the gates that were read cost, as an ordinary run in the same folder."""
    from secost.work.run import profile_spec

    if out is not None:
        profile_spec(wanted.spec(resolution=resolution, latency=False), out=out, listener=listener)


def _trained(
    wanted: _Wanted, data: Data, training: dict[str, Any], folder: Path, jobs: int | None, listener: Listener | None,
) -> tuple[list[tuple[nn.Module | None, nn.Module]], Interval]:
    """(untrained, trained) networks, a pair a seed, out of an ordinary run of `secost train`, and their accuracy."""
    from secost.work.trainings import build, train_spec, trained_net

    if wanted.attention is None:
        _paths(load(wanted.model, classes=data.classes), wanted, data.test.images[:1])
    spec = wanted.spec(latency=False, train=training)
    trained = train_spec(spec, folder, listener=listener, jobs=jobs, keep_weights=True, retry_failed=True)
    spec, trials = trained.spec, [trial for trial in trained.plan.trainings if trial.attention != BASELINE]
    by_key = {record.key: record for record in trained.records}
    failed = next((by_key[trial.key] for trial in trials if by_key[trial.key].top1 is None), None)
    if failed is not None:
        raise BadSpecError(f"training {wanted.model} failed: {failed.error}")
    nets: list[tuple[nn.Module | None, nn.Module]] = [
        (wake_norms(build(trial, spec, data)).eval(), trained_net(trial, spec, data, folder)) for trial in trials
    ]
    return nets, mean_of([by_key[trial.key].top1 or 0.0 for trial in trials])


def _study(wanted: _Wanted, data: Data, nets: Sequence[tuple[nn.Module | None, nn.Module]], occluder: int | None,
           stride: int | None) -> Occlusion:
    images, labels = data.test.images, data.test.labels
    known = data.name == DEFAULT_DATASET
    half = len(images) // 2
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


def _as_shown(image: Tensor) -> Tensor:
    low, high = image.amin(), image.amax()
    return ((image - low) / (high - low).clamp_min(1e-6)).expand(3, -1, -1).permute(1, 2, 0)


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
    with torch.inference_mode():
        for begin in range(0, len(images), _BATCH):
            with watch_gates(net, paths) as seen:
                net(images[begin : begin + _BATCH])
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
    return [
        Shifts(gate.name, gate.kind, torch.cat(parts).T.reshape(-1, len(study.rows), len(study.columns)))
        for gate, parts in zip(base, moved, strict=True)
    ]


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
            mean_of([float(((v < _SHUT) | (v > _OPEN)).float().mean()) for v in after]) if bounded else None,
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
    nets: Sequence[tuple[nn.Module | None, nn.Module]], paths: Sequence[str], read: Sequence[tuple[Any, ...]],
    labels: Tensor, images: Tensor, study: Occlusion,
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
        CueTest(shift.name, tuple(readers[site][0].tolist()), readers[site][1], tuple(pair[site] for pair in pairs))
        for site, shift in enumerate(study.shifts) if shift.kind in (CHANNEL, ELEMENT)
    ]


def _detectors(gates: Sequence[Gate], labels: Tensor) -> list[Detectors]:
    found = []
    for gate in gates:
        for cue, name in enumerate(CUES):
            channels, correlation = _readers(gate.squeezed, labels, cue)
            found.append(Detectors(gate.name, name, tuple(channels.tolist()), correlation))
    return found


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
    moved = shift.values[readers].flatten(1).mean(0)
    return float(moved[near].mean() - moved[far].mean())


# --- what it says -----------------------------------------------------------------------------------------------------


def findings(study: Occlusion) -> list[str]:
    """Three sentences: what moves the gates, how they change with depth, how far they are used."""
    return [*_moved(study), *_by_depth(study), *_used(study)]


def _moved(study: Occlusion) -> list[str]:
    if not study.cues:
        name, unit, place, value = _strongest(study, 1)[0]
        row, column = study.places[place]
        return [f"What an occluder moves most is unit {unit} of {name}: by {value:+.3f} with rows {row} to "
                f"{row + study.occluder_px - 1} and columns {column} to {column + study.occluder_px - 1} covered."]
    test = study.cues[-1]
    found = (f"Covering the corner moves the gates of the channels that read it by {_interval(test.trained, 4)} more "
             f"than covering another place does (site {test.name}, {len(test.pairs)} seeds)")
    difference, trained = test.difference, test.trained
    if difference.high is not None and difference.high < 0 and trained.high is not None and trained.high < 0:
        return [f"{found}, which is {_interval(difference, 4)} more than in the same networks untrained: the gate "
                "closes when what its channels look for is hidden."]
    return [f"{found}; against the same networks untrained that is {_interval(difference, 4)}: that gates close when "
            "what they look for is hidden is not shown."]


def _by_depth(study: Occlusion) -> list[str]:
    first, last = study.sites[0], study.sites[-1]
    if first.specificity is None or last.specificity is None or first is last:
        return []
    words = (f"The image's class explains {_share(first.specificity)} of the gates' variance at the first site and "
             f"{_share(last.specificity)} at the last")
    if _apart(first.specificity, last.specificity):
        later = last.specificity.estimate > first.specificity.estimate
        return [f"{words}: {'late' if later else 'early'} gates are the class-specific ones."]
    return [f"{words}: the two can't be told apart."]


def _used(study: Occlusion) -> list[str]:
    shut = [(item.saturation, item.name) for item in study.sites
            if item.saturation is not None and item.saturation.estimate > 0.01]
    most = max(shut, key=lambda pair: pair[0].estimate, default=None)
    limits = f"below {_SHUT} or above {_OPEN}"
    words = (f"Of the values {_share(most[0])} are saturated ({limits}) at site {most[1]}, the most of "
             f"{len(study.sites)} gates" if most else f"Hardly a value is saturated ({limits})")
    known = [(item.spread, item) for item in study.sites if item.spread is not None]
    if not known:
        return [f"{words}; one image can't tell how gates differ between images."]
    spread, site = max(known, key=lambda pair: pair[0].estimate)
    return [f"{words}; gates differ most from image to image at site {site.name}, by a standard deviation of "
            f"{spread.estimate:.3f} round {site.mean.estimate:.2f}."]


def _apart(first: Interval, second: Interval) -> bool:
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return False
    return first.high < second.low or second.high < first.low


def _strongest(study: Occlusion, count: int) -> list[tuple[str, int, int, float]]:
    """(gate, unit, place, shift) of the units that move most; of one gate at most a third of them, rounded up."""
    found = []
    for shift in study.shifts:
        flat = shift.values.flatten(1)
        reach, places = flat.abs().max(1)
        for unit in reach.topk(min(len(reach), -(-count // 3))).indices.tolist():
            place = int(places[unit])
            found.append((shift.name, unit, place, float(flat[unit, place])))
    return sorted(found, key=lambda item: -abs(item[3]))[:count]


def _interval(value: Interval, digits: int) -> str:
    return with_ends(value.estimate, value.low, value.high, digits)


def _share(value: Interval) -> str:
    """A share in percent; Student's interval is cut where no share can lie."""
    if value.low is None or value.high is None:
        return f"{100 * value.estimate:z.0f} %"
    low, high = max(0.0, value.low), min(1.0, value.high)
    return f"{100 * value.estimate:z.0f} % [{100 * low:z.0f}, {100 * high:z.0f}]"


def page(study: Occlusion) -> Page:
    """The study as a page: findings, gates by depth, the corner's test, the units that move most, and figures."""
    from secost.pages.page import Page, Section

    told = findings(study)
    about = [f"{study.subject}; an occluder of {study.occluder_px} px in steps of {study.stride_px} px, at "
             f"{len(study.places)} places; gates of {study.attention}."]
    if study.top1 is not None:
        about.append(f"Trained here: {_interval(study.top1, 1).removeprefix('+')} % of the test images are right.")
    sections = [
        Section("found", "What was found", tuple([*told[1:], *about, *study.notes]), ()),
        Section("gates", "Gates by depth", (), (_site_table(study),)),
        Section("moved", "Units that an occluder moves most", (), (_moved_table(study),)),
    ]
    if study.cues:
        words = ("Readers of the corner are the channels, one in eight, whose mean over the map goes most with its "
                 "presence, found on other images than those that are covered. The fall is their gates' shift with the "
                 "occluder's middle in the corner, less that with the corner untouched: below 0, the gates close.")
        sections.insert(2, Section("corner", "The corner, where the answer is known", (words,), (_cue_table(study),)))
    if study.detectors:
        sections.append(Section("detectors", "Which channel reads which cue", (), (_detector_table(study),)))
    return Page(
        "study-occlusion", f"What the gates of {study.model} look at", told[0], tuple(sections), tuple(_rows(study)),
        _document(study, told), lambda: _drawings(study), lambda: {SHIFTS_FILE: _maps(study)},
    )


def _site_table(study: Occlusion) -> Any:
    from secost.pages.page import Table

    rows = tuple((
        item.name, item.kind, str(item.units), f"{item.mean.estimate:.3f}",
        "N/A" if item.spread is None else f"{item.spread.estimate:.4f}",
        "N/A" if item.entropy_bits is None else f"{item.entropy_bits.estimate:.2f}",
        "N/A" if item.saturation is None else _share(item.saturation),
        "N/A" if item.specificity is None else _share(item.specificity),
        "N/A" if item.untrained is None else _share(item.untrained),
    ) for item in study.sites)
    heads = ("gate", "for each", "units", "mean", "deviation over images", "entropy (bits)", "saturated",
             "explained by class", "the same untrained")
    shown = [place for place in range(len(heads)) if any(row[place] != "N/A" for row in rows)]
    return Table.of("Gates in the order in which they run", tuple(heads[place] for place in shown),
                     tuple(tuple(row[place] for place in shown) for row in rows), left=2)


def _cue_table(study: Occlusion) -> Any:
    from secost.pages.page import Table

    rows = tuple((
        test.name, ", ".join(map(str, test.readers)), f"{test.correlation:.2f}", _interval(test.trained, 4),
        _interval(test.untrained, 4), _interval(test.difference, 4),
    ) for test in study.cues)
    heads = ("gate", "readers (first seed)", "correlation", "fall, trained", "fall, untrained", "difference")
    return Table.of("How much further the readers' gates move with the corner covered", heads, rows, left=2)


def _detector_table(study: Occlusion) -> Any:
    from secost.pages.page import Table

    rows = tuple((item.name, item.cue, ", ".join(map(str, item.channels)), f"{item.correlation:.2f}")
                 for item in study.detectors)
    return Table.of("One channel in eight, by the correlation of its mean over the map with the cue (first seed)",
                     ("gate", "cue", "channels", "correlation"), rows, left=3)


def _moved_table(study: Occlusion) -> Any:
    from secost.pages.page import Table

    rows = []
    for name, unit, place, value in _strongest(study, _STRONGEST):
        row, column = study.places[place]
        rows.append((name, str(unit), f"{value:+.4f}", f"{row} to {row + study.occluder_px - 1}",
                     f"{column} to {column + study.occluder_px - 1}"))
    return Table.of("Largest shifts (first seed)", ("gate", "unit", "shift", "rows covered", "columns covered"),
                     tuple(rows))


def _rows(study: Occlusion) -> Iterator[dict[str, Any]]:
    for shift in study.shifts:
        flat = shift.values.flatten(1)
        for unit, values in enumerate(flat):
            row, column = study.places[int(values.argmin())]
            yield {"gate": shift.name, "kind": shift.kind, "unit": unit, "lowest_shift": float(values.min()),
                   "highest_shift": float(values.max()), "lowest_at_row": row, "lowest_at_column": column}


def _document(study: Occlusion, told: Sequence[str]) -> dict[str, Any]:
    return {
        "model": study.model, "attention": study.attention, "subject": study.subject, "findings": list(told),
        "notes": study.notes, "occluder_px": study.occluder_px, "stride_px": study.stride_px, "rows": study.rows,
        "columns": study.columns, "top1": None if study.top1 is None else asdict(study.top1),
        "gates": [asdict(item) for item in study.sites],
        "corner": [{"gate": test.name, "readers": list(test.readers), "correlation": test.correlation,
                    "trained": asdict(test.trained), "untrained": asdict(test.untrained),
                    "difference": asdict(test.difference)} for test in study.cues],
        "detectors": [asdict(item) for item in study.detectors],
        "strongest": [{"gate": name, "unit": unit, "shift": value, "row": study.places[place][0],
                       "column": study.places[place][1]} for name, unit, place, value in _strongest(study, _STRONGEST)],
    }


def _maps(study: Occlusion) -> bytes:
    """Every map, (units, rows, columns) a gate, as safetensors."""
    from safetensors.torch import save

    return save({shift.name: shift.values.contiguous() for shift in study.shifts})


def _drawings(study: Occlusion) -> list[Any]:
    from secost.figures.drawing import panels

    strongest = _strongest(study, _STRONGEST)
    reach = max((abs(value) for *_, value in strongest), default=1.0) or 1.0
    maps: list[Callable[[Any], None]] = [_paint_image(study)]
    maps += [_paint_map(study, name, unit, reach) for name, unit, _, _ in strongest]
    found = [panels("maps", f"Which part of the image moves which gate: {study.model}",
                    "The image with the occluder's grid, and for the units that move most a map: the shift of the gate "
                    f"with the occluder there, blue where it closes and red where it opens, from {-reach:.3f} to "
                    f"{reach:.3f}.", maps, most=4, width=2.4, height=2.5)]
    if len(study.sites) > 1:
        found.append(panels("depth", f"Gates of {study.model} by depth",
                            "For each gate in the order in which it runs: what the image's class explains of its "
                            "variance, its deviation over images, its entropy and its saturation.", _curves(study)))
    if study.cues:
        found.append(panels("corner", "Gates that read the corner, with it covered",
                            "The fall of the readers' gates with the corner covered, a point a seed, trained and "
                            "untrained; below 0 the gates close more than with another place covered.",
                            [_paint_cues(study)], width=5.0))
    return found


def _paint_image(study: Occlusion) -> Callable[[Any], None]:
    def paint(axis: Any) -> None:
        height, width = study.image.shape[:2]
        axis.imshow(study.image.numpy(), extent=(0, width, height, 0), interpolation="nearest")
        for row in [*study.rows[:: max(1, study.occluder_px // study.stride_px)], height]:
            axis.axhline(row, color="#ffffff", linewidth=0.4, alpha=0.7)
        for column in [*study.columns[:: max(1, study.occluder_px // study.stride_px)], width]:
            axis.axvline(column, color="#ffffff", linewidth=0.4, alpha=0.7)
        axis.set_title(f"image, occluder {study.occluder_px} px", loc="left", fontsize=8)
        _plain_ticks(axis)

    return paint


def _paint_map(study: Occlusion, name: str, unit: int, reach: float) -> Callable[[Any], None]:
    def paint(axis: Any) -> None:
        height, width = study.image.shape[:2]
        values = next(shift.values for shift in study.shifts if shift.name == name)[unit]
        # A cell is as large as a step and lies round the occluder's middle.
        first, last = (study.occluder_px - study.stride_px) / 2, (study.occluder_px + study.stride_px) / 2
        axis.imshow(values.numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest", extent=(
            study.columns[0] + first, study.columns[-1] + last, study.rows[-1] + last, study.rows[0] + first))
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
        largest = float(values.flatten()[values.abs().argmax()])
        axis.set_title(f"{_short(name)}, {unit}: {largest:+.3f}", loc="left", fontsize=8)
        _plain_ticks(axis)

    return paint


def _plain_ticks(axis: Any) -> None:
    axis.grid(False)
    axis.tick_params(labelsize=7)
    axis.locator_params(integer=True, nbins=5)


def _short(name: str) -> str:
    """A path's end, where it is long."""
    return name if len(name) <= 22 else f"...{name[-20:]}"


def _curves(study: Occlusion) -> list[Callable[[Any], None]]:
    lines: list[tuple[str, list[tuple[str, list[Interval | None]]]]] = [
        ("explained by class (%)", [("trained", [item.specificity for item in study.sites]),
                                    ("untrained", [item.untrained for item in study.sites])]),
        ("deviation over images", [("trained", [item.spread for item in study.sites])]),
        ("entropy (bits)", [("trained", [item.entropy_bits for item in study.sites])]),
        ("saturated (%)", [("trained", [item.saturation for item in study.sites])]),
    ]
    kept = [(title, curves) for title, curves in lines if any(v is not None for _, values in curves for v in values)]
    return [_paint_curves(title, curves, study.top1 is not None) for title, curves in kept]


def _paint_curves(title: str, curves: Sequence[tuple[str, Sequence[Interval | None]]],
                  named: bool) -> Callable[[Any], None]:
    def paint(axis: Any) -> None:
        from secost.figures.drawing import numbered_look

        scale = 100.0 if "%" in title else 1.0
        for index, (label, values) in enumerate(curves):
            known = [(place, value) for place, value in enumerate(values, 1) if value is not None]
            if not known:
                continue
            look = numbered_look(index)
            axis.plot([place for place, _ in known], [scale * value.estimate for _, value in known], color=look.color,
                      marker=look.marker, markersize=4, label=label if named else None)
            for place, value in known:
                if value.low is not None and value.high is not None:
                    low = max(0.0, value.low)  # none of these figures can be below
                    axis.vlines(place, scale * low, scale * value.high, color=look.color, linewidth=1)
        axis.set_title(title, loc="left")
        axis.set_xlabel("gate, in the order in which it runs")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))

    return paint


def _paint_cues(study: Occlusion) -> Callable[[Any], None]:
    def paint(axis: Any) -> None:
        from secost.figures.drawing import numbered_look

        for index, label in enumerate(("untrained", "trained")):
            look = numbered_look(1 - index)
            for place, test in enumerate(study.cues):
                found = (test.untrained, test.trained)[index]
                x = place + 0.2 * (index - 0.5)
                axis.plot([x] * len(test.pairs), [pair[index] for pair in test.pairs], linestyle="none", alpha=0.5,
                          color=look.color, marker=look.marker, markersize=4, label=label if place == 0 else None)
                if found.low is not None and found.high is not None:
                    axis.vlines(x + 0.06, found.low, found.high, color=look.color, linewidth=2)
        axis.axhline(0, color="#888888", linewidth=0.8)
        axis.set_xticks(range(len(study.cues)), [_short(test.name) for test in study.cues])
        axis.set_title("shift of the readers' gates, corner covered less elsewhere", loc="left")

    return paint

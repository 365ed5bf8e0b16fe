"""Trains the variants of a run from paired seeds, each in a process of its own, and keeps each accuracy as a record.

Costs come first, by `run`; then seed by seed every variant, so that pairs are complete early; then, where it is asked
for, further seeds (`until`). What a killed run had
finished is in its store, what it was at is in the folder `checkpoints` beside it, epoch by epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secost.errors import BadSpecError, SecostError, one_line
from secost.meters.backends.offered import get_backend
from secost.meters.conditions import measuring
from secost.meters.environment import cuda_has_begun
from secost.meters.machine import usable_processors
from secost.meters.processes import as_they_end, can_fork, in_child
from secost.networks.sources import WEIGHT_SEED, check_name, load
from secost.networks.surgery import attach, seeded, strip
from secost.plan.alternatives import alternatives_of, split_alternative
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Comparison, Listener, Plan, Trial
from secost.runs.curves import doubts
from secost.runs.records import DONE, Record
from secost.runs.store import RunStore
from secost.training.datasets import Data, load_data, part_of
from secost.training.loop import Trained, check_classes, draw_seed, train
from secost.work.comparison import Networks, failed
from secost.work.executors import LOCAL, Executor, Job
from secost.work.run import Finished, begin, finished, make_plan, measure, open_run, placed, workers_for
from secost.work.until import add_seeds

CHECKPOINTS = "checkpoints"
_MEASURED_JOBS, _TRAINED_BY = 2, "eager"
_PATIENCE_S = 7 * 86_400.0
# A training's record, the environment of another machine that made it, and what the user should hear.
_Ended = tuple[Record, Mapping[str, Any] | None, list[str]]


def train_spec(
    spec: Spec, out: str | Path, *, listener: Listener | None = None, retry_failed: bool = False,
    jobs: int | None = None, keep_weights: bool = False, executor: str = LOCAL, address: str | None = None,
) -> Finished:
    """Costs and trainings in the run `out`; the plan that comes back is at the resolution of the data set.

    `jobs` trainings run at a time, each on one thread of its own process; see `checked_jobs`. An `executor` that is not
    local trains on its workers, without checkpoints: they write nothing. With `keep_weights` checkpoints stay, for
    `trained_net`. Raises BadSpecError for a wrong request before anything is trained; a training that fails is a failed
    record.
    """
    course = prepare(spec)
    jobs = checked_jobs(jobs) if address is None else None
    with (workers_for(course.plan.spec, executor, jobs, address) as chosen,
          open_run(course.plan.spec, out) as store):
        plan = train_in_store(course, store, listener, retry_failed, jobs, keep_weights, chosen)
        return finished(plan, store)


@dataclass(frozen=True)
class Course:
    """What is to be trained: the plan, the data set, and the networks with as many scores as it has classes."""

    plan: Plan
    data: Data
    networks: Networks


def weights_of(seed: int) -> int:
    """The seed that the initial weights of a training are drawn from."""
    return draw_seed(seed, "weights") % 2**32


def prepare(spec: Spec, seed: int = WEIGHT_SEED) -> Course:
    """The course of a spec, at the size of the data set's images: cost and gain are of one network.

    The networks that are measured have weights drawn from `seed`, which decides no figure.
    Raises in one line what is wrong, for all that can be told before anything is trained.
    """
    if spec.train is None:
        raise BadSpecError("nothing is to be trained: add [train] to the spec, or use secost train")
    for model in spec.models:
        check_name(model)
    data = part_of(load_data(spec.train.dataset, spec.train.data), spec.train.fraction, spec.train.train_images)
    networks = Networks(spec.allow_download, data.classes, seed=seed)
    beside = [name for model in spec.models
              for name in alternatives_of(spec.alternatives, model, data.resolution, trained=True)]
    # The first one, which is measured first, is there at the end.
    for model in reversed([*spec.models, *dict.fromkeys(beside)]):
        if split_alternative(model, model)[1] is not None:
            raise BadSpecError(f"alternative {model!r} can't be trained: {data.name} has images of {data.resolution} "
                               "px; name a network, such as a deeper or wider one")
        net = networks.get(model)
        try:
            check_classes(net, data)
        except SecostError:
            raise
        except Exception as error:
            raise BadSpecError(
                f"{model} can't take {data.name}'s images of {data.resolution} px: {one_line(error)}"
            ) from None
    return Course(make_plan(spec.with_changes(resolution=[data.resolution])), data, networks)


def train_in_store(
    course: Course, store: RunStore, listener: Listener | None = None, retry_failed: bool = False,
    jobs: int | None = None, keep_weights: bool = False, executor: Executor | None = None,
) -> Plan:
    """Costs, then trainings: what a run still lacks of both, one commit a record; see `train_spec`.

    A network without attention is trained once for all placements.
    """
    listener, jobs = listener or Listener(), checked_jobs(jobs)
    plan = begin(course.plan, store, listener, retry_failed)
    for device in {plan.spec.trained_on(trial.setting) for trial in plan.lacking(plan.trainings)}:
        get_backend(_TRAINED_BY, "fp32", device)  # of a run that was trained elsewhere costs can be measured here
    # Trainings on a GPU are children's, which must come before this process begins with CUDA.
    costs_last = all(comparison.setting.device == "cuda" for comparison in plan.comparisons)  # of these times
    measured = partial(measure, plan, store, listener, course.networks, executor, strict=True)
    if costs_last:
        _check_builds(plan, course.data)
    else:
        measured()

    def carry_out(trials: Sequence[Trial]) -> None:
        left = plan.lacking(trials)
        twins = _trained_elsewhere(left, plan, store)
        for record in twins:
            listener.on_record(store.add(record))
        known = {record.key for record in twins}
        left = [trial for trial in left if trial.key not in known]
        train_trials(left, plan.spec, store, course.data, listener, jobs, keep_weights, executor)

    for comparison in plan.comparisons:
        carry_out(plan.spec.trainings(comparison))
        add_seeds(comparison, plan, store, listener, carry_out)
    if costs_last:
        measured()
    return plan


def _check_builds(plan: Plan, data: Data) -> None:
    """Raise for a variant that can't be built, which measuring tells where it comes first."""
    for comparison in plan.comparisons:
        for trial in plan.spec.trainings_of(comparison, 0):
            build(trial, plan.spec, data)


def train_trials(
    trials: Sequence[Trial], spec: Spec, store: RunStore, data: Data, listener: Listener, jobs: int,
    keep_weights: bool = False, executor: Executor | None = None,
) -> None:
    """Trainings of one setting, each kept as it ends. Their keys are in the plan, and none of them is in the store."""
    if trials:
        listener.on_comparison(Comparison(trials[0].setting, tuple(trials)), len(trials))
    folder = store.directory / CHECKPOINTS
    if executor is not None and executor.name != LOCAL:
        run = _trained_by(executor, trials, spec, data)
    else:  # each in a process of its own, where one can be forked
        forked = can_fork() and all(_may_fork(spec.trained_on(trial.setting)) for trial in trials)
        works = [partial(_trained, trial, spec, data, folder, forked) for trial in trials]
        run = as_they_end(works, jobs if forked else 1)
    for record, where, notes in run:
        for text in notes:
            listener.on_note(text)
        listener.on_record(store.add(record, where))
        if not keep_weights:
            _checkpoint(folder, record.key).unlink(missing_ok=True)


def _may_fork(device: str) -> bool:
    """CUDA that has begun here can be used in no child; several small networks share a GPU well."""
    return device == "cpu" or (device == "cuda" and not cuda_has_begun())


def _trained_by(executor: Executor, trials: Sequence[Trial], spec: Spec, data: Data) -> Iterator[_Ended]:
    """Each training as it ends on a worker."""
    shared = executor.share(data) if trials else None
    jobs = (Job(f"{trial.setting.model} {trial.label}", training_job, (trial, spec, shared),
                gpu=spec.trained_on(trial.setting) == "cuda") for trial in trials)
    for outcome in executor.run(jobs):
        trial = outcome.job.arguments[0]
        record = (failed(trial, outcome.error) if outcome.error is not None
                  else _record(trial, Trained(**outcome.value), data))
        yield placed(record, outcome), outcome.environment, []


def training_job(trial: Trial, spec: Spec, data: Data, path: Path | None = None) -> dict[str, Any]:
    """One training, as plain values; on a worker nothing is kept of it, here a checkpoint is."""
    assert trial.training is not None
    setting = trial.setting
    with trainable(setting.threads):
        net = build(trial, spec, data)
        return asdict(train(net, data, trial.training, path, device=spec.trained_on(setting),
                            memory_format=setting.memory_format))


def checked_jobs(jobs: int | None) -> int:
    """How many trainings at a time: two where there are two processors, unless the user says.

    Two at a time took 1 / 1.82 of the time on two processors (tests/benchmarks/training.py); more was not measured.
    """
    if jobs is not None and jobs < 1:
        raise BadSpecError(f"--jobs {jobs} is not possible: give 1 or more")
    return jobs or min(_MEASURED_JOBS, len(usable_processors() or [0]))


def _trained_elsewhere(left: Sequence[Trial], plan: Plan, store: RunStore) -> list[Record]:
    """Records of trainings that another placement has already: without attention, a network is the same at each."""
    wanted = {_without_place(trial): trial for trial in left if trial.is_baseline}
    if not wanted:
        return []
    records = {record.key: record for record in store.records() if record.status == DONE}
    found: dict[str, Record] = {}
    seeds = sorted({trial.training.seed for trial in left if trial.training is not None})
    for trial in (trial for comparison in plan.comparisons for seed in seeds
                  for trial in plan.spec.trainings_of(comparison, seed)):
        twin = wanted.get(_without_place(trial)) if trial.is_baseline else None
        if twin is not None and trial.key in records and twin.key not in found:
            record = records[trial.key]
            found[twin.key] = replace(Record.of_trial(twin), top1=record.top1, environment=record.environment,
                                      samples={**(record.samples or {}), "same_as": record.key})
    return list(found.values())


def _without_place(trial: Trial) -> Trial:
    return replace(trial, setting=replace(trial.setting, placement="", integration="", stages=None))


def trained_net(trial: Trial, spec: Spec, data: Data, folder: Path) -> nn.Module:
    """The network that a training of a run ended with, in eval mode; `folder` is the run's.

    Its weights are the checkpoint's, where the run kept them; a training whose checkpoint is gone is done again.
    """
    assert trial.training is not None
    with trainable(trial.setting.threads):
        net = build(trial, spec, data)
        train(net, data, trial.training, _checkpoint(folder / CHECKPOINTS, trial.key),
              device=spec.trained_on(trial.setting))
    return net.eval()


def build(trial: Trial, spec: Spec, data: Data) -> nn.Module:
    """The network of one training. All variants of a seed have the same weights where they have the same layers."""
    assert trial.training is not None  # only trainings come here
    setting, seed = trial.setting, trial.training.seed
    net = load(trial.alternative or setting.model, spec.allow_download, data.classes, weights_of(seed))
    if trial.attention == NATIVE:
        return net
    example = data.test.images[:1]
    net = strip(net, example=example)
    if trial.attention == BASELINE:  # an alternative too
        return net
    with seeded(draw_seed(seed, "attention") % 2**32):
        return attach(net, trial.attention, trial.reduction, setting.placement, setting.integration, setting.stages,
                      example=example, spelling=trial.spelling)


def _trained(trial: Trial, spec: Spec, data: Data, folder: Path, forked: bool) -> _Ended:
    work = partial(training_job, trial, spec, data, _checkpoint(folder, trial.key))
    try:
        trained = Trained(**(in_child(work, _PATIENCE_S) if forked else work()))
    except Exception as error:  # whatever a training comes to, the others go on
        return failed(trial, error), None, []
    assert trial.training is not None
    name, notes = f"{trial.setting.model} {trial.label}, seed {trial.training.seed}", []
    if trained.damaged:
        notes = [f"{name}: its checkpoint was damaged or another training's, so this seed started again"]
    elif trained.resumed_at:
        notes = [f"{name}: went on after epoch {trained.resumed_at}"]
    return _record(trial, trained, data), None, notes


def _record(trial: Trial, found: Trained, data: Data) -> Record:
    record = Record.of_trial(trial)
    record.top1, record.cautions = found.top1, doubts(found.curve, data.classes)
    record.samples = {"curve": found.curve, "train_images_per_s": found.images_per_s}
    return record


def _checkpoint(folder: Path, key: str) -> Path:
    return folder / f"{key}.safetensors"


@contextlib.contextmanager
def trainable(threads: int) -> Iterator[None]:
    """The threads and the allocator of a measurement, with gradients."""
    with measuring(threads), torch.inference_mode(False), torch.enable_grad():
        yield

"""What trainings will take, told before any: seconds by the speed that was seen or is tried, and memory.

The speed is that of a run's own trainings where there are some; else each variant is tried on a few batches, in a
process of its own, whose peak of memory is looked at too.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from secost.meters.processes import can_fork, in_child
from secost.plan.trials import Plan, Trial
from secost.runs.records import Record
from secost.training.datasets import Data, Split
from secost.training.loop import TRAINED_PER_TESTED, epochs_between_tests, train
from secost.work.trainings import Course, build, trainable

_LEAST_S, _LEAST_TRIES, _PATIENCE_S = 0.5, 2, 3600.0


@dataclass(frozen=True)
class Forecast:
    """`speeds` are images a second by variant, `seen` where all are of trainings that ended; `seconds` are of what is
    left, one training at a time. `memory_bytes` is the most that a training's process took, None where none was tried.
    """

    trainings: int
    left: int
    speeds: Mapping[str, float]
    seen: bool
    seconds: float
    memory_bytes: int | None


def forecast(course: Course, plan: Plan, records: Sequence[Record]) -> Forecast:
    """Of the plan's trainings, beside what a run has already."""
    left = plan.lacking(plan.trainings)
    speeds, peaks = _seen(records), [0]
    seen = all(trial.label in speeds for trial in left)
    for trial in left:
        if trial.label not in speeds:
            speeds[trial.label], peak = _tried(trial, course)
            peaks.append(peak)
    seconds = sum(seconds_of(trial, course.data, speeds[trial.label]) for trial in left)
    return Forecast(len(plan.trainings), len(left), speeds, seen, seconds, max(peaks) or None)


def seconds_of(trial: Trial, data: Data, images_per_s: float) -> float:
    """Of one training with its tests."""
    assert trial.training is not None
    epochs = trial.training.epochs
    tests = -(-epochs // epochs_between_tests(data, epochs))
    return (epochs * len(data.train) + tests * len(data.test) / TRAINED_PER_TESTED) / images_per_s


def _seen(records: Sequence[Record]) -> dict[str, float]:
    speeds: dict[str, list[float]] = {}
    for record in records:
        speed = (record.samples or {}).get("train_images_per_s") if record.trained else None
        if speed:
            speeds.setdefault(record.label, []).append(speed)
    return {label: median(several) for label, several in speeds.items()}


def _tried(trial: Trial, course: Course) -> tuple[float, int]:
    """Images a second, and the most bytes that the process took; 0 where it is this one."""
    forked = can_fork() and course.plan.spec.trained_on(trial.setting) == "cpu"
    work = partial(_try, trial, course)
    speed, peak = in_child(work, _PATIENCE_S) if forked else work()
    return speed, peak if forked else 0


def _try(trial: Trial, course: Course) -> tuple[float, int]:
    assert trial.training is not None
    batch = Split(course.data.train.images[: trial.training.batch_size],
                  course.data.train.labels[: trial.training.batch_size])
    few, short = replace(course.data, train=batch, test=batch), replace(trial.training, epochs=2)
    speeds: list[float] = []
    with trainable(trial.setting.threads):
        net = build(trial, course.plan.spec, course.data)
        began = 0.0
        while len(speeds) <= _LEAST_TRIES or time.perf_counter() - began < _LEAST_S:
            found = train(net, few, short, device=course.plan.spec.trained_on(trial.setting),
                          memory_format=trial.setting.memory_format)
            began = began or time.perf_counter()  # the first try warms up
            speeds.append(found.images_per_s or 0.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return median(speeds[1:]), peak * (1 if sys.platform == "darwin" else 1024)

"""What trainings will take and can tell, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, variance
from typing import TYPE_CHECKING

from secost.answers.evidence import Seeds
from secost.sequential import USUAL_SPREAD, least_effect, pairs_for

if TYPE_CHECKING:
    from secost.plan.spec import TrainSpec
    from secost.plan.trials import Plan
    from secost.work.forecast import Forecast


def lines(plan: Plan, forecast: Forecast, seeds: Sequence[Seeds], jobs: int, images: int) -> Iterator[str]:
    """The trainings of a plan and what they take; then the smallest gain that they can tell.

    `seeds` are what a run has already: how far its pairs differ. `images` are those trained on.
    """
    train = plan.spec.train
    assert train is not None
    for comparison in plan.comparisons:
        yield f"{comparison.setting.label}: {', '.join(trial.label for trial in comparison.trials)}"
    more = f", up to {train.most_seeds} seeds" if train.until is not None else ""
    yield (f"{forecast.trainings} trainings of {train.epochs} epochs on {images:,} images of {train.dataset} from "
           f"{train.seeds} seeds{more}; {forecast.trainings - forecast.left} done")
    speeds = ", ".join(f"{label} {speed:,.0f}" for label, speed in forecast.speeds.items())
    seen = "as in this run" if forecast.seen else "tried on a few batches"
    duration = _duration(plan.costs_s + forecast.seconds / jobs)
    yield f"about {duration} left, {jobs} at a time{f' (images a second: {speeds}; {seen})' if speeds else ''}"
    if forecast.memory_bytes is not None:
        yield f"about {forecast.memory_bytes / 1e9:.1f} GB of memory for each at a time, the data among it"
    yield from _told(train, seeds)


def _told(train: TrainSpec, seeds: Sequence[Seeds]) -> Iterator[str]:
    seen = [variance([second - first for first, second in item.pairs]) for item in seeds if len(item.pairs) > 1]
    spread = math.sqrt(fmean(seen)) if seen else USUAL_SPREAD
    if spread == 0:
        yield "the paired seeds of this run do not differ at all yet, so what more of them can tell is not known"
        return
    where = "seen in this run" if seen else "assumed"
    effect = least_effect(train.most_seeds, spread, train.until is not None)
    known = f"a gain of {effect:.2f} points is told from none in 8 of 10 runs" if math.isfinite(effect) else (
        "no gain is told from none")
    yield f"from {train.most_seeds} seeds {known}, where paired seeds differ by {spread:.2f} points ({where})"
    if train.until is not None:
        needed = pairs_for(train.until, spread)
        yield (f"a gain is known to {train.until:g} points from about {needed} seeds" if needed is not None else
               f"no number of seeds up to 200 knows a gain to {train.until:g} points")


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

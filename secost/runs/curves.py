"""What the curves of trainings tell: was one trained to its end, did it learn at all, what is gained after each epoch?

A curve has a row an epoch: `epoch`, `loss`, `train_top1`, and where it was tested `test_top1`, in percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from secost.glossary import Caution
from secost.runs.records import Record
from secost.sequential import looked_difference
from secost.statistics import Interval, paired_difference

Curve = Sequence[Mapping[str, float]]
_LAST, _RISE, _LEARNED = 0.2, 0.5, 99.0
_GUESSING_TIMES, _GUESSING_POINTS = 2, 10


def tested(curve: Curve) -> dict[int, float]:
    """Test accuracy by epoch."""
    return {int(row["epoch"]): row["test_top1"] for row in curve if "test_top1" in row}


def rise(curve: Curve) -> float | None:
    """By how many points the test accuracy rose in the last fifth of the epochs; None where it was not looked at."""
    known = tested(curve)
    before = [epoch for epoch in known if epoch <= (1 - _LAST) * curve[-1]["epoch"]] if curve else []
    return known[max(known)] - known[max(before)] if before else None


def unfinished(curve: Curve) -> bool:
    """Whether more epochs may well raise the accuracy: it rose to the last, and what is trained on is not learned yet.

    As the learning rate falls to 0 the accuracy rises towards the end of any training; where the training set is
    learned by heart that is all it was.
    """
    risen = rise(curve)
    return risen is not None and risen > _RISE and curve[-1].get("train_top1", 0.0) < _LEARNED


def doubts(curve: Curve, classes: int) -> list[str]:
    """The cautions of one training."""
    known, chance = tested(curve), 100 / classes
    guessing = bool(known) and known[max(known)] < min(_GUESSING_TIMES * chance, chance + _GUESSING_POINTS)
    return [*([Caution.NOT_CONVERGED] if unfinished(curve) else []), *([Caution.NEAR_CHANCE] if guessing else [])]


# --- gains, epoch by epoch ---


@dataclass(frozen=True)
class GainCurve:
    """One variant over the epochs; accuracies in percent and gains in points, means over the pairs of seeds.

    `rise` is how far the network without attention rose in the last fifth of the epochs, `train_top1` what it reached
    on the images that it was trained on; `unfinished` tells whether more epochs may well raise it.
    """

    record: Record
    seeds: int
    epochs: tuple[int, ...]
    accuracies: tuple[float, ...]
    base: tuple[float, ...]
    gains: tuple[Interval, ...]
    rise: float | None
    train_top1: float | None
    unfinished: bool

    @property
    def setting(self) -> tuple[object, ...]:
        """What the curves of one figure share."""
        record = self.record
        return (record.model, record.placement, record.integration, tuple(record.stages or ()), record.resolution,
                record.device, record.memory_format, record.dataset, record.epochs)


def gain_curves(variants: Iterable[Sequence[tuple[Record, Record]]]) -> list[GainCurve]:
    """Of all variants whose trainings kept their curves: each the pairs of records without and with it, by seed."""
    found = [_of_pairs(pairs) for pairs in variants]
    return [curve for curve in found if curve is not None]


def _of_pairs(pairs: Sequence[tuple[Record, Record]]) -> GainCurve | None:
    curves = [(_curve(none), _curve(record)) for none, record in pairs]
    points = [(tested(first), tested(second)) for first, second in curves]
    epochs = sorted(set.intersection(*(set(item) for both in points for item in both)))
    if not epochs:
        return None
    record = pairs[0][1]
    difference = looked_difference if "until" in (record.samples or {}) else paired_difference
    at = {epoch: [(first[epoch], second[epoch]) for first, second in points] for epoch in epochs}
    base = _mean_curve([first for first, _ in curves])
    return GainCurve(
        record, len(pairs), tuple(epochs), tuple(fmean(mine for _, mine in at[epoch]) for epoch in epochs),
        tuple(fmean(none for none, _ in at[epoch]) for epoch in epochs),
        tuple(difference(at[epoch]) for epoch in epochs),
        rise(base), base[-1].get("train_top1"), unfinished(base),
    )


def _curve(record: Record) -> Curve:
    curve: Curve = (record.samples or {}).get("curve") or []
    return curve


def _mean_curve(curves: Sequence[Curve]) -> list[dict[str, float]]:
    """Row by row the mean of what all have."""
    rows = zip(*curves, strict=False)
    return [{name: fmean(row[name] for row in group) for name in group[0] if all(name in row for row in group)}
            for group in rows]

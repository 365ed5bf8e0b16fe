"""Gains epoch by epoch: of every variant the paired difference at each epoch after which both were tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from secost.answers.evidence import trained_pairs
from secost.answers.groups import setting_key
from secost.runs.curves import Curve, rise, tested, unfinished
from secost.runs.records import Record
from secost.sequential import looked_difference
from secost.statistics import Interval, paired_difference


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
        return (*setting_key(self.record), self.record.dataset, self.record.epochs)


def gain_curves(records: Sequence[Record]) -> list[GainCurve]:
    """Of all variants whose trainings kept their curves."""
    found = [_of_pairs(pairs) for pairs in trained_pairs(records)]
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

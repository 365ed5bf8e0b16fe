"""What the curve of a training tells: was it trained to the end, did it learn at all?

A curve has a row an epoch: `epoch`, `loss`, `train_top1`, and where it was tested `test_top1`, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secost.glossary import Caution

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

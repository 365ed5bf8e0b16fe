"""Whether trainings were long enough, in words."""

from __future__ import annotations

from collections.abc import Sequence

from secost.answers.groups import grouped
from secost.runs.curves import GainCurve


def learning_words(curves: Sequence[GainCurve]) -> list[str]:
    """A sentence for each setting: did the network without attention still get better at the end?"""
    several = len({curve.record.model for curve in curves}) > 1
    words = []
    for members in grouped(curves, lambda curve: curve.setting).values():
        first = max(members, key=lambda curve: curve.seeds)
        record = first.record
        where = f"{f'{record.model} on ' if several else ''}{record.dataset}, {record.epochs} epochs"
        if first.rise is not None and first.train_top1 is not None:
            words.append(f"{where}: none's accuracy changed by {first.rise:+z.2f} points over the last fifth of the "
                         f"epochs, to {first.base[-1]:.1f} %, with {first.train_top1:.1f} % of the training images "
                         f"right: {_meaning(first)}.")
    return list(dict.fromkeys(words))


def longer_words(curves: Sequence[GainCurve]) -> str:
    """What to do where trainings were too short; nothing where none was."""
    short = [curve for curve in curves if curve.unfinished]
    if not short:
        return ""
    return (f"train longer before you add seeds: `secost train MODEL --epochs {2 * (short[0].record.epochs or 1)}`, in "
            "a new folder")


def _meaning(curve: GainCurve) -> str:
    if curve.unfinished:
        return "it was not trained to its end, and more epochs come before more seeds"
    return "trained long enough, as far as one training of this length can tell"

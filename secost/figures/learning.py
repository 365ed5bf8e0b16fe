"""The figure of trainings: accuracy and gain against epochs, means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from secost.answers.groups import grouped
from secost.figures.panels import GREY, Curve, Panel, drawn
from secost.runs.curves import GainCurve
from secost.writing import joined

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing

_MOST_VARIANTS, _MOST_FIGURES, _INTERVALS = 6, 3, 5
_SPREAD = 0.5  # of the way from one interval's epoch to the next, over which the variants stand side by side


def learning_figures(curves: Sequence[GainCurve]) -> list[Drawing]:
    """One for each of the first few settings, where there are epochs to look back on."""
    groups = [members for members in grouped(curves, lambda curve: curve.setting).values()
              if min(len(curve.epochs) for curve in members) > 1][:_MOST_FIGURES]
    return [_figure(f"learning-{index}" if len(groups) > 1 else "learning", members[:_MOST_VARIANTS])
            for index, members in enumerate(groups, 1)]


def _figure(name: str, members: Sequence[GainCurve]) -> Drawing:
    record, labels = members[0].record, [curve.record.label for curve in members]
    base = Curve(list(zip(members[0].epochs, members[0].base, strict=True)), GREY, "none", marker="", width=1.8)
    accuracies = [Curve(list(zip(curve.epochs, curve.accuracies, strict=True)), place, curve.record.label, size=3)
                  for place, curve in enumerate(members)]
    gains = [_gains(curve, place, len(members)) for place, curve in enumerate(members)]
    panels = (Panel("Test accuracy (%)", [base, *accuracies], x="epoch", whole=True),
              Panel("Gain over none (points), second half", gains, x="epoch", whole=True, level=0.0))
    title = f"Accuracy and gain against epochs: {record.model} on {record.dataset}"
    alt = (f"Lines of the test accuracy without attention and with {joined(labels)} against epochs, and over the "
           "second half of these of the mean gain over paired seeds with its interval.")
    return drawn(name, title, alt, panels)


def _gains(curve: GainCurve, place: int, count: int) -> Curve:
    """Of the second half of the epochs: before, networks learn at different speeds, and gains are tens of points.

    Intervals stand at a few epochs, the last among them, those of several variants side by side.
    """
    points = [(epoch, gain) for epoch, gain in zip(curve.epochs, curve.gains, strict=True)
              if epoch > curve.epochs[-1] / 2]
    step = -(-len(points) // _INTERVALS)
    gap = step * (points[-1][0] - points[0][0]) / max(1, len(points) - 1)
    shift = _SPREAD * gap * (place - (count - 1) / 2) / count
    ends = [(epoch + shift, gain.low, gain.high) for epoch, gain in points[::-1][::step]
            if gain.low is not None and gain.high is not None]
    return Curve([(epoch + shift, gain.estimate) for epoch, gain in points], place, size=3, width=1.2, intervals=ends)

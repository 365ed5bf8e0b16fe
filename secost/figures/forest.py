"""The forest plot: every published pair with the interval of its own luck, and below it what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from secost.answers.expected import Era, own_interval
from secost.figures.drawing import Drawing, panels
from secost.figures.marks import fitted, plain_rows

_MOST_ROWS, _MOST_PANELS = 40, 4
_PAIR, _MEAN, _NEXT = "#0072B2", "#D55E00", "#999999"


def forest(eras: Sequence[Era]) -> list[Drawing]:
    """One figure with a panel for each attention and era of recipes, those with most pairs; none without a pool of two
    pairs or more."""
    shown = sorted((era for era in eras if len(era.pairs) > 1), key=lambda era: -len(era.pairs))[:_MOST_PANELS]
    if not shown:
        return []
    rows = max(min(len(era.pairs), _MOST_ROWS) for era in shown) + 2
    told = "; ".join(f"{_name(era)}: {era.found.estimate:+.2f} points [{era.found.low:.2f}, {era.found.high:.2f}] over "
                     f"{era.found.studies}" for era in shown)
    return [panels("forest", "Published gains, each with the luck of its trainings",
                   f"Points of top-1 gained, a line a pair, with 95 % intervals, and their mean. {told}.",
                   [_painter(era) for era in shown], width=5.6, height=0.9 + 0.17 * rows)]


def _name(era: Era) -> str:
    return f"{era.attention}, {era.era} recipes"


def _painter(era: Era) -> Callable[[Axes], None]:
    def paint(axis: Axes) -> None:
        pairs = sorted(era.pairs, key=lambda pair: -pair.points)[:_MOST_ROWS]
        left = len(era.pairs) - len(pairs)
        axis.set_title(f"{_name(era)}{f' ({left} more pairs not shown)' if left else ''}", loc="left")
        axis.axvline(0, color="#888888", linewidth=0.8)
        for row, pair in enumerate(pairs):
            ends = own_interval(pair)
            if ends is not None:
                axis.hlines(row, *ends, color=_PAIR, linewidth=1.1)
            axis.plot([pair.points], [row], marker="o", markersize=4, color=_PAIR, linestyle="none",
                      label="one pair, with the luck of two trainings")
        found, mean_row = era.found, len(pairs) + 0.5
        below = {mean_row: "mean"}
        axis.hlines(mean_row, found.low, found.high, color=_MEAN, linewidth=2.4)
        axis.plot([found.estimate], [mean_row], marker="D", markersize=6, color=_MEAN, linestyle="none",
                  label="their mean, with its interval")
        if found.next_low is not None and found.next_high is not None:
            below[mean_row + 1] = "one network more"
            axis.hlines(mean_row + 1, found.next_low, found.next_high, color=_NEXT, linewidth=2.4,
                        label="where one network more would lie")
        names = [fitted(f"{pair.row.model}, {_source(pair.row.source)} {pair.row.recipe}".strip(), 44)
                 for pair in pairs]
        axis.set_yticks([*range(len(pairs)), *below], [*names, *below.values()], fontsize=7)
        axis.set_ylim(max(below) + 0.7, -0.7)
        plain_rows(axis)
        axis.set_xlabel("gain in top-1 accuracy (points)")

    return paint


def _source(text: str) -> str:
    """The first word or two of a source: `SENet`, `timm results`."""
    return text.split(" arXiv")[0].split(" (")[0].split(" repo")[0]

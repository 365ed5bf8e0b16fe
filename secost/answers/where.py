"""Where in a network squeeze-and-excitation gains and costs most: a regression over another search space.

`secost/data/where_effects.csv` holds figures only. They were computed here over the measurements of Accel-NASBench
(github.com/afzalxo/Accel-NASBench at 4260357, Apache-2.0): 5,138 networks of MnasNet's space, each with SE in some of
its seven blocks of stages, trained once by one short recipe on ImageNet and timed on six accelerators. A linear model
of the other choices and of SE in each block gives its effect there, all else equal, with the interval of 95 %. No pair
was trained, and another network's blocks are others: it says where to look, not what to expect.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from secost.tables import rows_of

SE = "se"  # the attention that it is about
POINTS, THROUGHPUT, LATENCY = "top1_points", "throughput_percent", "latency_percent"
_EFFECTS = "where_effects.csv"


@dataclass(frozen=True)
class WhereEffect:
    """What SE in one block changes: `measure` in its unit, on `device` where it is a time, else empty.

    `block` 0 is the earliest. `low` and `high` are the interval of 95 %; `nets` were fitted, and `r2` of their variance
    is explained.
    """

    measure: str
    device: str
    block: int
    effect: float
    low: float
    high: float
    nets: int
    r2: float


@functools.cache
def where_effects() -> tuple[WhereEffect, ...]:
    """Every effect, in the file's order."""
    return rows_of(WhereEffect, _EFFECTS)


def where_words() -> list[str]:
    """What early and late SE gain in points and cost in throughput, in two sentences."""
    points, throughput = _spans(POINTS), _spans(THROUGHPUT)
    nets = max(row.nets for row in where_effects())
    devices = len({row.device for row in where_effects() if row.measure == THROUGHPUT})
    return [
        f"In a regression over {nets:,} networks of another search space (Accel-NASBench), SE in the last two of seven "
        f"blocks gains {_span(*points[1])} points each and costs {_span(*throughput[1])} % of the throughput of "
        f"{devices} accelerators.",
        f"In the first block it gains {_span(*points[0])} points and costs {_span(*throughput[0])} %.",
    ]


def _spans(measure: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """The least and most that SE changes, whatever its sign: in the first block, and in the last two."""
    rows = [row for row in where_effects() if row.measure == measure]
    last = max(row.block for row in rows)
    early = [abs(row.effect) for row in rows if row.block == 0]
    late = [abs(row.effect) for row in rows if row.block >= last - 1]
    return (min(early), max(early)), (min(late), max(late))


def _span(low: float, high: float) -> str:
    digits = 2 if high < 1 else 0 if low >= 1 else 1
    least, most = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return least if least == most else f"{least} to {most}"

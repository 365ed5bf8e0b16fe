"""A gain in accuracy as plain data, whatever it comes from: points of top-1 against the same network without attention.

`published`, `accuracy_file` and `training` make them. One list of gains has one source: `SOURCES` are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

PUBLISHED, FILE, TRAINED = "published", "file", "trained"
SOURCES = (PUBLISHED, FILE, TRAINED)


@dataclass(frozen=True)
class Gain:
    """Points of top-1 accuracy (percent) that an attention adds to one network, with the interval where there is one.

    `pairs` counts what it comes from: published pairs, or seeds. `basis` says which (a citation, a file, a data set).
    What is None was not told and fits everything; but `stages` is None where all carry the attention, and the ends are
    None for fewer than two pairs. `spread` is the least and the most of several published trainings: `points` is then
    their median, and no interval is claimed.
    """

    model: str
    attention: str
    reduction: int | None
    points: float
    low: float | None
    high: float | None
    pairs: int
    source: str
    basis: str
    placement: str | None = None
    stages: tuple[int, ...] | None = None
    top1: float | None = None
    baseline_top1: float | None = None
    integration: str | None = None
    spelling: str | None = None
    spread: tuple[float, float] | None = None

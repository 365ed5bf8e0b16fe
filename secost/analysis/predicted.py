"""Latency without measuring: a table of what each option costs at each group of sites, fitted to whole networks.

A network's overhead is taken to be the sum over its groups. Where it comes from: an option at all sites at once was
measured as a whole, and is shared out among the groups by the time inside its modules (by memory traffic where a
backend does not tell that): in-place time alone is biased, so it only shares out. Then whole networks of mixed options
correct the table, by least squares that hold to the shares (Gaussian prior). How far off a network is that was left out
of the fit, one after another, is the prediction's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secost.errors import BadSpecError
from secost.mix import Choice, choice_label
from secost.records import DONE, Record
from secost.space import NOTHING, Point, Space
from secost.statistics import Interval, student_quantile

_NORMAL = 1.96
_TRUST = 0.3  # of a share: the prior's standard deviation, as a part of it
_LEAST_SD = 0.001  # no share is known to less than a tenth of a percent of the network's time
_MOST_RELATIVE = 1.0


@dataclass(frozen=True)
class LatencyTable:
    """`costs[group][option]` is an overhead (a fraction of the network's time without attention), 0 for none.

    `spread` is the root mean square of (predicted / measured - 1) over the networks of the fit, each left out once;
    `networks` is how many those were.
    """

    space: Space
    costs: tuple[tuple[float, ...], ...]
    spread: float
    networks: int

    def predict(self, point: Point) -> Interval:
        """The overhead of one network, with its 95 % interval."""
        total = sum(row[index] for row, index in zip(self.costs, point, strict=True))
        half = abs(total) * self.spread * student_quantile(0.975, max(1, self.networks - 1))
        return Interval(total, total - half, total + half)


def fit_latency(space: Space, uniform: Sequence[Record], mixes: Sequence[Record]) -> LatencyTable:
    """The table from records of whole networks: one option at all sites each (`uniform`), and `mixes` of the space.

    Raises BadSpecError where an option of the space was not measured.
    """
    prior = _prior(space, uniform)
    rows = [(_columns(space, space.point(record.attention)), record)
            for record in mixes if record.status == DONE and record.latency_overhead is not None]
    whole = [(_columns(space, point), record) for record in uniform
             if (point := space.uniform((record.attention, record.reduction))) is not None]
    solved = _solve(prior, [*whole, *rows])
    misses = []
    for index, (columns, record) in enumerate(rows):
        left = _solve(prior, [*whole, *rows[:index], *rows[index + 1:]])
        assert record.latency_overhead is not None
        if record.latency_overhead > 0:
            misses.append(float(columns @ left) / record.latency_overhead - 1)
    spread = math.sqrt(float(np.mean(np.square(misses)))) if misses else _MOST_RELATIVE
    return LatencyTable(space, _as_table(space, solved), min(spread, _MOST_RELATIVE), len(misses))


def _prior(space: Space, uniform: Sequence[Record]) -> np.ndarray:
    """Each option's overhead at all sites, shared out among the groups."""
    known = {(record.attention, record.reduction): record for record in uniform if record.status == DONE}
    shares = []
    for group, options in zip(space.groups, space.options, strict=True):
        for choice in options:
            if choice != NOTHING:
                shares.append(_share(known, choice, group))
    return np.array(shares)


def _share(known: dict[Choice, Record], choice: Choice, group: Sequence[int]) -> float:
    record = known.get(choice)
    if record is None or record.latency_overhead is None:
        raise BadSpecError(f"{choice_label(choice)} at all sites was not measured, so what it costs can't be known: "
                           "see its record's reason")
    field = "latency_ms" if all(row.get("latency_ms") is not None for row in record.by_site) else "memory_bytes"
    total = sum(row[field] for row in record.by_site)
    return record.latency_overhead * sum(record.by_site[place][field] for place in group) / total if total else 0.0


def _columns(space: Space, point: Point) -> np.ndarray:
    """1 for each option that a point has at a group, in the order of the prior; none has no column."""
    found = []
    for options, index in zip(space.options, point, strict=True):
        found += [float(place == index) for place, choice in enumerate(options) if choice != NOTHING]
    return np.array(found)


def _solve(prior: np.ndarray, rows: Sequence[tuple[np.ndarray, Record]]) -> np.ndarray:
    """The mean of the Gaussian posterior: rows weigh by their own interval, the prior by `_TRUST`."""
    deviation = np.maximum(_TRUST * np.abs(prior), _LEAST_SD)
    precision, target = np.diag(deviation**-2), prior / deviation**2
    for columns, record in rows:
        if record.latency_overhead is None:
            continue
        noise = max(_deviation(record), _LEAST_SD)
        precision = precision + np.outer(columns, columns) / noise**2
        target = target + columns * record.latency_overhead / noise**2
    solved: np.ndarray = np.linalg.solve(precision, target)
    return solved


def _deviation(record: Record) -> float:
    if record.latency_overhead_low is None or record.latency_overhead_high is None:
        return _LEAST_SD * 10
    return (record.latency_overhead_high - record.latency_overhead_low) / 2 / _NORMAL


def _as_table(space: Space, solved: np.ndarray) -> tuple[tuple[float, ...], ...]:
    values = iter(solved.tolist())
    return tuple(tuple(0.0 if choice == NOTHING else next(values) for choice in options) for options in space.options)

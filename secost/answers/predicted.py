"""Latency without measuring: a table of what each option costs at each group of sites, fitted to whole networks.

A network's overhead is taken to be the sum over its groups, and for each kind of attention that it has at all a part
for the first use: code that runs once in a pass runs cold, code that ran a moment before does not, so that one SE costs
more than a fourth of four. Where it comes from: an option at all sites at once was measured as a whole, and is shared
out among the groups by the time inside its modules (where a backend does not tell that by memory traffic, or for int8
by MACs): in-place time alone is biased, so it only shares out. Then whole networks of mixed options correct the table,
by least squares that hold to the shares (Gaussian prior). How far off a network is that was left out of the fit, one
after another, is the prediction's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from secost.errors import BadSpecError
from secost.plan.variants import NOTHING, Choice, Point, Space, choice_label
from secost.runs.records import DONE, Record
from secost.runs.study import LatencyModel, rounded
from secost.statistics import Interval, student_quantile

_NORMAL = 1.96
_TRUST = 0.3  # standard deviations of the prior: of a share, and of a first use as a part of the whole
_ALIKE = 0.95  # the correlation of what one kind costs at one group with several ratios: the same kernels, other widths
_MODEL = 0.03  # what the sum can't tell, as a part of an overhead
_LEAST_SD = 0.001  # no share is known to less than a tenth of a percent of the network's time
_MOST_RELATIVE = 1.0


def predict(table: LatencyModel, space: Space, point: Point) -> Interval:
    """The overhead of one network, with its 95 % interval."""
    total = sum(row[index] for row, index in zip(table.costs, point, strict=True))
    total += sum(table.first_use[kind] for kind in _kinds_at(space, point))
    half = abs(total) * table.spread * student_quantile(0.975, max(1, table.networks - 1))
    return rounded(Interval(total, total - half, total + half))


def fit_latency(space: Space, uniform: Sequence[Record], mixes: Sequence[Record]) -> LatencyModel:
    """The table from records of whole networks: one option at all sites each (`uniform`), and `mixes` of the space.

    Raises BadSpecError where an option of the space was not measured.
    """
    prior = _prior(space, uniform)
    timed, mixed = ([record for record in records if record.status == DONE and record.latency_overhead is not None]
                    for records in (uniform, mixes))
    rows = [_Row.of(space, space.point(record.attention), record) for record in mixed]
    whole = [_Row.of(space, point, record) for record in timed
             if (point := space.uniform((record.attention, record.reduction))) is not None]
    solved = prior.fitted([*whole, *rows])
    misses = [float(row.columns @ prior.fitted([*whole, *rows[:index], *rows[index + 1:]])) / row.overhead - 1
              for index, row in enumerate(rows) if row.overhead > 0]
    spread = math.sqrt(float(np.mean(np.square(misses)))) if misses else _MOST_RELATIVE
    values = iter(solved.tolist())
    costs = tuple(tuple(0.0 if choice == NOTHING else next(values) for choice in options) for options in space.options)
    first_use = dict(zip(_kinds(space), values, strict=True))
    return rounded(LatencyModel(costs, first_use, min(spread, _MOST_RELATIVE), len(misses)))


@dataclass(frozen=True)
class _Row:
    """One whole network: what it has (a column each), its overhead, and that one's standard deviation."""

    columns: np.ndarray
    overhead: float
    deviation: float

    @classmethod
    def of(cls, space: Space, point: Point, record: Record) -> _Row:
        assert record.latency_overhead is not None
        return cls(_columns(space, point), record.latency_overhead, _deviation(record))


@dataclass(frozen=True)
class _Prior:
    mean: np.ndarray
    precision: np.ndarray

    def fitted(self, rows: Sequence[_Row]) -> np.ndarray:
        """The mean of the Gaussian posterior."""
        precision, target = self.precision, self.precision @ self.mean
        for row in rows:
            precision = precision + np.outer(row.columns, row.columns) / row.deviation**2
            target = target + row.columns * row.overhead / row.deviation**2
        solved: np.ndarray = np.linalg.solve(precision, target)
        return solved


def _prior(space: Space, uniform: Sequence[Record]) -> _Prior:
    """Each option's overhead at all sites, shared out among the groups; of first uses, that they are about 0."""
    known = {(record.attention, record.reduction): record for record in uniform if record.status == DONE}
    places = [(number, choice) for number, options in enumerate(space.options) for choice in options
              if choice != NOTHING]
    shares = [_share(known, choice, space.groups[number]) for number, choice in places]
    most = [max(abs(record.latency_overhead or 0.0) for (name, _), record in known.items() if name == kind)
            for kind in _kinds(space)]
    deviation = np.maximum(_TRUST * np.abs([*shares, *most]), _LEAST_SD)
    alike = np.eye(len(deviation))
    for (row, (group, (kind, _))), (column, (other, (its_kind, _))) in permutations(enumerate(places), 2):
        if (group, kind) == (other, its_kind):
            alike[row, column] = _ALIKE
    precision = np.linalg.inv(alike * np.outer(deviation, deviation))
    return _Prior(np.array([*shares, *([0.0] * len(most))]), precision)


def _share(known: dict[Choice, Record], choice: Choice, group: Sequence[int]) -> float:
    record = known.get(choice)
    if record is None or record.latency_overhead is None:
        raise BadSpecError(f"{choice_label(choice)} at all sites was not measured, so what it costs can't be known: "
                           "see its record's reason")
    field = next((name for name in ("latency_ms", "memory_bytes")
                  if all(row.get(name) is not None for row in record.by_site)), "macs")
    total = sum(row[field] for row in record.by_site)
    return record.latency_overhead * sum(record.by_site[place][field] for place in group) / total if total else 0.0


def _columns(space: Space, point: Point) -> np.ndarray:
    """1 for each option that a point has at a group, and for each kind that it has at all; none has no column."""
    there = _kinds_at(space, point)
    options = [float(place == index) for options, index in zip(space.options, point, strict=True)
               for place, choice in enumerate(options) if choice != NOTHING]
    return np.array([*options, *(float(kind in there) for kind in _kinds(space))])


def _kinds(space: Space) -> list[str]:
    """The attentions that a point can have, each once."""
    return list(dict.fromkeys(name for options in space.options for name, _ in options if name != NOTHING[0]))


def _kinds_at(space: Space, point: Point) -> set[str]:
    chosen = {options[index][0] for options, index in zip(space.options, point, strict=True)}
    return chosen - {NOTHING[0]}


def _deviation(record: Record) -> float:
    """Of a measured overhead: of its interval, and of what a sum can't tell."""
    low, high, value = record.latency_overhead_low, record.latency_overhead_high, record.latency_overhead or 0.0
    measured = 10 * _LEAST_SD if low is None or high is None else (high - low) / 2 / _NORMAL
    return math.hypot(max(measured, _LEAST_SD), _MODEL * value)

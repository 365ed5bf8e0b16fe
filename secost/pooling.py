"""Effects of several studies as one: their mean with its interval, and an interval for one study more.

Studies differ in more than the luck of their trainings, so each has a true effect of its own, drawn around a mean with
a standard deviation tau between studies (random effects). Every study brings its effect and the variance of its luck.

The mean: tau after Paule and Mandel (Journal of Research of the NBS 87, 1982), its interval after Hartung and Knapp
(Statistics in Medicine 20, 2001), which is Student's and keeps its promise for few studies. One study more: the mixture
over all tau that the studies leave possible, as Q(tau), the weighed sum of squares, is chi-squared with k - 1 degrees
of freedom at the true one (the idea of Nagashima, Noma and Furukawa, Statistical Methods in Medical Research 28, 2019;
here by quadrature in place of draws).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from secost.statistics import CONFIDENCE, student_quantile

FEWEST_TO_PREDICT = 3
_GRID, _HALVINGS = 240, 60
_WIDEST = 1e6  # tau^2 in units of the largest variance or squared distance


@dataclass(frozen=True)
class Pooled:
    """The mean with its interval, and the interval of one study more, None for fewer than three studies.

    `between` is tau, the standard deviation between studies beyond the luck of their trainings.
    """

    estimate: float
    low: float
    high: float
    next_low: float | None
    next_high: float | None
    studies: int
    between: float


def pooled(
    effects: Sequence[float], variances: Sequence[float], confidence: float = CONFIDENCE, one_more: bool = True,
    alone: float = 0.0,
) -> Pooled:
    """Random effects over independent studies. Raises ValueError for none.

    `variances` are those of each effect's luck, above 0. One study can't tell what studies differ by: its interval is
    that of its luck and of `alone`, the tau that is known from elsewhere. Without `one_more` the mean alone is pooled,
    which is quick.
    """
    if not len(effects) or len(effects) != len(variances) or min(variances) <= 0:
        raise ValueError("pooling needs effects, each with a variance above 0")
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    if len(y) == 1:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * math.hypot(math.sqrt(v[0]), alone)
        return Pooled(float(y[0]), float(y[0]) - half, float(y[0]) + half, None, None, 1, 0.0)
    square = float(_squares_between(y, v, np.array([len(y) - 1.0]))[0])
    weights = 1 / (v + square)
    mean = float((weights * y).sum() / weights.sum())
    error = math.sqrt(float((weights * (y - mean) ** 2).sum()) / (len(y) - 1) / float(weights.sum()))
    half = student_quantile((1 + confidence) / 2, len(y) - 1) * error
    low, high = _one_more(y, v, confidence) if one_more and len(y) >= FEWEST_TO_PREDICT else (None, None)
    return Pooled(mean, mean - half, mean + half, low, high, len(y), math.sqrt(square))


def _squares_between(y: np.ndarray, v: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted Q the tau^2 at which the studies have it; 0 where Q is less than that at every tau."""
    low = np.zeros(len(wanted))
    high = np.full(len(wanted), _WIDEST * max(float(v.max()), float(np.ptp(y)) ** 2))
    inside = _means(y, v, low)[2] > wanted
    for _ in range(_HALVINGS + 20):
        middle = (low + high) / 2
        above = _means(y, v, middle)[2] > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(inside, (low + high) / 2, 0.0)


def _means(y: np.ndarray, v: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each tau^2: the weighed mean, its variance, and Q."""
    weights = 1 / (v[None, :] + square[:, None])
    total = weights.sum(axis=1)
    mean = (weights * y).sum(axis=1) / total
    return mean, 1 / total, (weights * (y - mean[:, None]) ** 2).sum(axis=1)


def _one_more(y: np.ndarray, v: np.ndarray, confidence: float) -> tuple[float, float]:
    """The ends of the interval for one study more: quantiles of the normals at each tau, by how likely that tau is."""
    freedom = len(y) - 1
    # The density of the logarithm of a chi-squared value, on an even grid: its tails are beyond 1e-6.
    logs = np.linspace(-32 / freedom, math.log(freedom + 12 * math.sqrt(freedom) + 20), _GRID)
    density = np.exp(freedom / 2 * logs - np.exp(logs) / 2 - (freedom / 2 * math.log(freedom) - freedom / 2))
    shares = density / density.sum()
    square = _squares_between(y, v, np.exp(logs))
    mean, variance, _ = _means(y, v, square)
    spread = np.sqrt(variance + square)
    tail = (1 - confidence) / 2
    return _quantile(shares, mean, spread, tail), _quantile(shares, mean, spread, 1 - tail)


def _quantile(shares: np.ndarray, mean: np.ndarray, spread: np.ndarray, probability: float) -> float:
    reach = 10.0 * float(np.sqrt((shares * spread**2).sum())) + float(np.abs(mean).max())
    low, high = -reach, reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = sum(share * (1 + math.erf(z)) / 2 for share, z in
                    zip(shares, (middle - mean) / (spread * math.sqrt(2)), strict=True) if share > 1e-12)
        low, high = (middle, high) if below < probability else (low, middle)
    return (low + high) / 2

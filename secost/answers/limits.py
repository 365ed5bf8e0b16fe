"""Limits on what may get worse from one run to another: read from words such as `latency=3%`, and held to a change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from secost.errors import BadSpecError, UnknownNameError

BROKEN, NOT_PROVEN, HELD = "broken", "not proven", "held"
_POINTS = "pt"
_VALUE = re.compile(r"([+-]?(?:\d{1,12}\.?\d{0,12}|\.\d{1,12}))\s*(%|pt|pts|points?)?")


@dataclass(frozen=True)
class Figure:
    """What is compared between two runs. `field` is a field of a Record; `change_unit` is % or pt (points)."""

    name: str
    field: str
    title: str
    unit: str = ""
    measured: bool = False
    change_unit: str = "%"


PARAMS = Figure("params", "params", "Parameters")
MACS = Figure("macs", "macs", "MACs")
MEMORY = Figure("memory", "memory_bytes", "Memory traffic", "B")
KERNELS = Figure("kernels", "kernels", "Kernels")
ACTIVATIONS = Figure("activations", "activations", "Activations")
LATENCY = Figure("latency", "latency_ms", "Latency", "ms", measured=True)
OVERHEAD = Figure("overhead", "latency_overhead", "Overhead", measured=True, change_unit=_POINTS)
FIGURES = {item.name: item for item in (PARAMS, MACS, MEMORY, KERNELS, ACTIVATIONS, LATENCY, OVERHEAD)}


@dataclass(frozen=True)
class Limit:
    """The growth of one figure that is still allowed: a fraction of the old value, for overhead a difference."""

    figure: str
    value: float

    @property
    def exact(self) -> Fraction:
        """The limit as it was written: 3 % is 3/100, not the nearest binary number."""
        return Fraction(str(self.value))

    @property
    def words(self) -> str:
        """`3 %`, `1 pt`."""
        return f"{float(100 * self.exact):g} {FIGURES[self.figure].change_unit}"


def parse_limit(text: str) -> Limit:
    """`latency=3%`, `latency=0.03`, `overhead=1pt` or `params=0` as a limit.

    A bare number is a fraction and so below 1: `latency=3` could mean 3 % or three times as much again, and is refused.
    Raises UnknownNameError for a figure that is not compared, BadSpecError for everything else.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise BadSpecError(f"--fail-on {text!r} is no limit: write a figure and a growth, such as latency=3%")
    if name not in FIGURES:
        raise UnknownNameError("figure in --fail-on", name, FIGURES)
    match = _VALUE.fullmatch(value)
    if match is None:
        raise BadSpecError(f"--fail-on {text!r}: {value!r} is no growth, write a percentage such as {name}=3%")
    number, unit = Fraction(match[1]), match[2]
    if number < 0:
        raise BadSpecError(f"--fail-on {text!r}: a limit is the growth that is still allowed, so it must be 0 or more")
    if unit is None and number >= 1:
        raise BadSpecError(
            f"--fail-on {text!r}: a bare number is a fraction and must be below 1, write {name}={value}% or "
            f"{name}={float(number / 100):g}"
        )
    if unit not in (None, "%") and FIGURES[name].change_unit != _POINTS:
        raise BadSpecError(f"--fail-on {text!r}: points are for overhead, write {name}={match[1]}%")
    return Limit(name, float(number if unit is None else number / 100))


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """All limits of a request. Raises BadSpecError where a figure has two."""
    limits = tuple(map(parse_limit, texts))
    names = [limit.figure for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise BadSpecError(f"--fail-on gives {name} more than once: keep one")
    return limits


def parse_spread(text: str) -> float:
    """`1%` or `0.01` as a fraction below 1. Raises BadSpecError for anything else."""
    value = parse_share("--run-spread", text)
    if value >= 1:
        raise BadSpecError(f"--run-spread {text!r} is no share of a time: write a percentage such as 1%, or 0")
    return value


def parse_share(option: str, text: str) -> float:
    """`4%` or `0.04` as a fraction, 0 or more; a bare number must be below 1, as `4` could mean 4 % or four times.

    Raises BadSpecError for anything else, naming the option.
    """
    match = _VALUE.fullmatch(text.strip())
    bare = match is not None and match[2] is None
    value = None if match is None else Fraction(match[1]) / (1 if bare else 100)
    if value is None or value < 0 or (bare and value >= 1) or (match is not None and match[2] not in (None, "%")):
        raise BadSpecError(f"{option} {text!r} is no share of a time or count: write a percentage such as 1%, or 0")
    return float(value)


def judge_count(limit: Limit, old: int, new: int) -> str:
    """Whether an exact count kept its limit; growth from 0 breaks every limit."""
    return BROKEN if new - old > limit.exact * old else HELD


def judge_measured(limit: Limit, low: float | None, high: float | None) -> str:
    """Broken where the whole interval lies above the limit; not proven where a part of it does, or there is none."""
    if low is None or high is None:
        return NOT_PROVEN
    if low > limit.value:
        return BROKEN
    return NOT_PROVEN if high > limit.value else HELD

"""Two runs beside each other: what changed, which limits on what may get worse are read from words, and which broke.

`changes` pairs the trials and gives what changed; `pages.compare` puts this into words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from secost.answers import changes
from secost.answers.changes import FIGURES, ONLY_OLD, POINTS, Change, Match, Side
from secost.errors import BadSpecError, UnknownNameError
from secost.runs.records import DONE, Record
from secost.statistics import RUN_SPREAD
from secost.writing import parse_share, share_parts

BROKEN, NOT_PROVEN, HELD = "broken", "not proven", "held"
VANISHED, NEWLY_FAILED = "vanished", "newly failed"
_MOST_NAMED = 3


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


@dataclass(frozen=True)
class Finding:
    """A limit that is not kept, or may not be. `kind` is broken, not proven, vanished or newly failed."""

    kind: str
    match: Match
    limit: Limit | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Rules:
    """What is allowed. `strict` counts what is not proven as broken; `allow_missing` forgives what NEW lacks.

    `run_spread` is the standard deviation by which equal runs differ, a fraction of the time (see `statistics`).
    """

    limits: tuple[Limit, ...] = ()
    strict: bool = False
    allow_missing: bool = False
    across_machines: bool = False
    run_spread: float = RUN_SPREAD


@dataclass(frozen=True)
class RunComparison:
    """Everything a page says about two runs."""

    old: Side
    new: Side
    matches: tuple[Match, ...]
    rules: Rules
    broken: tuple[Finding, ...]
    unproven: tuple[Finding, ...]
    environments: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]

    @property
    def named_by(self) -> tuple[str, ...]:
        """The fields that name a trial; alternatives where there are some."""
        others = any(match.record.alternative for match in self.matches)
        return (*changes.TRIAL, "alternative") if others else changes.TRIAL


def compare_runs(old: Side, new: Side, rules: Rules | None = None) -> RunComparison:
    """Compare two runs, trial by trial, in the order of OLD and then of what only NEW has.

    Raises BadSpecError where the runs share no trial, where times would be compared across machines without
    `across_machines`, and where a limit is on a figure that no matched trial has in both runs.
    """
    rules = rules or Rules()
    pairs = changes.match_records(old.records, new.records)
    both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    if not both:
        raise BadSpecError(f"the runs have no trial in common: {old.name!r} has {_named(old)}, {new.name!r} has "
                           f"{_named(new)}")
    if not rules.across_machines:
        _refuse_machines(old, new, both)
    matches = changes.changes_of(pairs, old, new, rules.run_spread)
    _require_figures(rules.limits, matches)
    findings = [finding for match in matches for finding in _findings(match, rules)]
    broken = tuple(finding for finding in findings if finding.kind != NOT_PROVEN or rules.strict)
    unproven = tuple(finding for finding in findings if finding.kind == NOT_PROVEN and not rules.strict)
    environments: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for mine, theirs in both:
        pair = (old.facts(mine), new.facts(theirs))
        if pair not in environments:
            environments.append(pair)
    return RunComparison(old, new, tuple(matches), rules, broken, unproven, tuple(environments))


def _named(side: Side) -> str:
    names = [f"{record.model} {record.label}" for record in side.records]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more or "no record"


def _refuse_machines(old: Side, new: Side, both: Sequence[tuple[Record, Record]]) -> None:
    for mine, theirs in both:
        if mine.latency_ms is None or theirs.latency_ms is None:
            continue  # counts are the same on every machine
        difference = changes.machine_difference(old.facts(mine), new.facts(theirs))
        if difference is not None:
            raise BadSpecError(f"the runs were measured on different machines ({difference}), and times of two "
                               "machines say nothing about the network: measure both on one, or see both with "
                               "--across-machines")


# --- limits, read from words ---


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
    parts = share_parts(value)
    if parts is None:
        raise BadSpecError(f"--fail-on {text!r}: {value!r} is no growth, write a percentage such as {name}=3%")
    written, unit = parts
    number = Fraction(written)
    if number < 0:
        raise BadSpecError(f"--fail-on {text!r}: a limit is the growth that is still allowed, so it must be 0 or more")
    if unit is None and number >= 1:
        raise BadSpecError(f"--fail-on {text!r}: a bare number is a fraction and must be below 1, write {name}={value}"
                           f"% or {name}={float(number / 100):g}")
    if unit not in (None, "%") and FIGURES[name].change_unit != POINTS:
        raise BadSpecError(f"--fail-on {text!r}: points are for overhead, write {name}={written}%")
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


# --- which limits are kept ---


def _require_figures(limits: Sequence[Limit], matches: Sequence[Match]) -> None:
    for limit in limits:
        known = [match.change_of(FIGURES[limit.figure]) for match in matches]
        if any(change is not None and change.old is not None and change.new is not None for change in known):
            continue
        advice = "measure both with --latency" if FIGURES[limit.figure].measured else "count both anew"
        raise BadSpecError(f"--fail-on {limit.figure}: no finished trial has this figure in both runs, so nothing "
                           f"would be held to the limit: {advice}, or leave it out")


def _findings(match: Match, rules: Rules) -> Iterator[Finding]:
    if match.status == ONLY_OLD and not rules.allow_missing and match.record.status == DONE:
        yield Finding(VANISHED, match)
    if match.newly_failed and not rules.allow_missing:
        yield Finding(NEWLY_FAILED, match)
    for limit in rules.limits:
        change = match.change_of(FIGURES[limit.figure])
        if change is None or change.old is None or (change.new is None and rules.allow_missing):
            continue
        state = VANISHED if change.new is None else _judged(limit, change)
        if state != HELD:
            yield Finding(state, match, limit, change)


def _judged(limit: Limit, change: Change) -> str:
    """An exact count breaks a limit by one too many, and growth from 0 breaks every one. What is measured breaks it
    where the whole interval lies above; where a part of it does, or there is none, it is not proven."""
    if not change.figure.measured:
        old, new = int(change.old or 0), int(change.new or 0)
        return BROKEN if new - old > limit.exact * old else HELD
    if change.low is None or change.high is None:
        return NOT_PROVEN
    return BROKEN if change.low > limit.value else NOT_PROVEN if change.high > limit.value else HELD

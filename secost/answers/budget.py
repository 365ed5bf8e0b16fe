"""The decision: which attention, which r and which stages within limits of time, parameters and MACs.

What attention adds is additive over stages, so every subset of stages is priced from the records of the whole: counts
exactly, time by each stage's share of the time inside the attention. All choices are looked at, none is sampled. Limits
hold at the upper end of an interval, not at its middle.

Without a gain in accuracy choices are ranked by capacity: how many channels are gated, then how many weights decide
the gates, then how little it costs. With gains, by the gain; a choice of which nobody measured it then ranks last.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from secost.answers.evidence import matches
from secost.answers.groups import LATENCY, MACS, MEMORY, PARAMS, Currency, Group
from secost.errors import BadSpecError
from secost.runs.records import Gain, Record

LIMITED = (LATENCY, PARAMS, MACS, MEMORY)
MOST_CHOICES = 2_000_000
Reductions = tuple[tuple[int, int | None], ...]
BY_GAIN, BY_CAPACITY = "gain in accuracy", "attention capacity (channels gated, then weights, then cost)"


@dataclass(frozen=True)
class Price:
    """An overhead (fraction of the whole network) with its upper end; both are one where it is an exact count."""

    value: float
    upper: float


@dataclass(frozen=True)
class Choice:
    """One attention with a reduction ratio for each stage that carries it; no stage at all is the bare network.

    `reductions` maps stage to r (None for an attention without r). `prices` are by currency name; a currency of which
    nothing is known is missing. `channels` and `weights` are what is gated and what it is gated by, over all sites.
    """

    attention: str
    reductions: Reductions
    prices: dict[str, Price]
    channels: int
    weights: int
    measured: bool
    gain: Gain | None = None

    @property
    def stages(self) -> tuple[int, ...]:
        return tuple(stage for stage, _ in self.reductions)

    @property
    def label(self) -> str:
        """`se r=16 in stages 1,2,3`, `se r=8 in stage 1 and r=16 in stages 2,3`, `none`."""
        if not self.reductions:
            return "none"
        by_ratio: dict[int | None, list[int]] = {}
        for stage, ratio in self.reductions:
            by_ratio.setdefault(ratio, []).append(stage)
        parts = [f"{'' if ratio is None else f'r={ratio} '}in stage{'s' * (len(stages) > 1)} "
                 f"{','.join(map(str, stages))}" for ratio, stages in by_ratio.items()]
        return f"{self.attention} {' and '.join(parts)}"


@dataclass(frozen=True)
class Limit:
    """The most that one currency may grow, as a fraction of the network without attention."""

    currency: Currency
    value: float

    def over(self, choice: Choice) -> float:
        """By how much a choice is over the limit, in fractions; 0 or less where it holds, infinite where unknown."""
        price = choice.prices.get(self.currency.name)
        return float("inf") if price is None else price.upper - self.value


@dataclass(frozen=True)
class Decision:
    """The best choice within the limits (None where nothing is), the next better ones and what stops them.

    `nearest` is the choice that misses by least where none meets the limits. `steps` are the choices one step further
    than the best: one stage more, or the next smaller r. `binding` are the limits that all of them break.
    """

    limits: tuple[Limit, ...]
    best: Choice | None
    nearest: Choice | None
    binding: tuple[str, ...]
    steps: tuple[Choice, ...]
    looked_at: int
    ranked_by: str


def choices(group: Group, per_stage: bool = False, gains: Sequence[Gain] = ()) -> list[Choice]:
    """Every choice that the comparison's records can price: none, and each attention in each subset of its stages.

    One r for all stages, or, `per_stage`, any of the tried ones in each. Raises BadSpecError where there is nothing to
    choose from, or more than two million choices.
    """
    base = group.baseline
    by_kind = {name: [r for r in group.of(name) if r.by_stage and r.stages is None] for name in group.attentions}
    by_kind = {name: records for name, records in by_kind.items() if records}
    if base is None or not by_kind:
        raise BadSpecError(
            f"{group.label}: nothing to choose from, as no attention was counted in all stages beside a baseline: "
            "profile it without --stages first"
        )
    count = 1 + sum(int((len(records) + 1) ** len(records[0].by_stage) - 1) if per_stage
                    else len(records) * int(2 ** len(records[0].by_stage) - 1) for records in by_kind.values())
    if count > MOST_CHOICES:
        raise BadSpecError(f"{group.label}: {count:,} choices are too many to look at: leave --per-stage out, or try "
                           "fewer reductions")
    candidates = [Choice("none", (), {currency.name: Price(0.0, 0.0) for currency in LIMITED}, 0, 0, True)]
    for name, records in by_kind.items():
        stages = {record.reduction: _Stages(record, base) for record in records}
        candidates += [_choice(name, reductions, stages, gains) for reductions in _assignments(stages, per_stage)]
    return candidates


def decide(candidates: Sequence[Choice], limits: Sequence[Limit]) -> Decision:
    """The best of all choices within all limits, by an exact look at each: by gain, where one of them has a known one.

    Raises BadSpecError for a limit on what is known of none of them.
    """
    for limit in limits:
        if not any(limit.currency.name in choice.prices for choice in candidates if choice.reductions):
            raise BadSpecError(
                f"a limit on {limit.currency.word} can't be held to anything: no variant here has one with an "
                "interval; measure it (without --no-latency), or leave the limit out"
            )
    inside = [choice for choice in candidates if all(limit.over(choice) <= 0 for limit in limits)]
    real = [choice for choice in inside if choice.reductions]
    by_gain = any(choice.gain is not None for choice in real)
    best = max(real, key=lambda choice: _rank(choice, by_gain), default=None)
    # How far outside a choice is: its largest overshoot as a share of the limit.
    nearest = None if best else min(
        (choice for choice in candidates if choice.reductions), default=None,
        key=lambda choice: max((limit.over(choice) / (limit.value or 1e-9) for limit in limits), default=0.0))
    steps = _steps(best, candidates) if best else []
    binding = {limit.currency.name for limit in limits if steps and all(limit.over(choice) > 0 for choice in steps)}
    return Decision(tuple(limits), best, nearest, tuple(sorted(binding)), tuple(steps), len(candidates),
                    BY_GAIN if by_gain else BY_CAPACITY)


class _Stages:
    """The price of one record's attention in each stage."""

    def __init__(self, record: Record, base: Record) -> None:
        self.record = record
        self.rows = {row["stage"]: row for row in record.by_stage}
        self.counts: dict[str, dict[int, float]] = {}
        for currency in (PARAMS, MACS, MEMORY):
            if total := currency.total(base):
                self.counts[currency.name] = {stage: float(Fraction(row[currency.field]) / Fraction(total))
                                              for stage, row in self.rows.items()}
        self.times = self._times(record, base)

    def channels(self, stage: int) -> int:
        return sum(int(site["channels"]) for site in self.record.by_site if site["stage"] == stage)

    def weights(self, stage: int) -> int:
        return int(self.rows[stage]["params"])

    def _times(self, record: Record, base: Record) -> dict[int, Price] | None:
        """The measured overhead shared out by the time inside each stage's modules.

        The upper end is the whole's upper end times the largest share that the stages' own intervals allow.
        """
        whole, upper = record.latency_overhead, record.latency_overhead_high
        if whole is None or upper is None or record.environment != base.environment:
            return None
        direct: dict[int, float] = {stage: row["latency_ms"] for stage, row in self.rows.items()
                                    if row.get("latency_ms") is not None}
        total = sum(direct.values())
        if len(direct) < len(self.rows) or not total:
            return None
        prices = {}
        for stage, row in self.rows.items():
            share, high = direct[stage] / total, row.get("latency_high_ms") or direct[stage]
            highest = high / (high + sum(self._low(other) for other in self.rows if other != stage))
            prices[stage] = Price(whole * share, max(upper * highest, whole * share))
        return prices

    def _low(self, stage: int) -> float:
        row = self.rows[stage]
        return float(row["latency_ms"] if row.get("latency_low_ms") is None else row["latency_low_ms"])


def _choice(name: str, reductions: Reductions, stages: dict[int | None, _Stages], gains: Sequence[Gain]) -> Choice:
    parts = [(stages[ratio], stage) for stage, ratio in reductions]
    prices = {}
    for currency in (PARAMS, MACS, MEMORY):
        if all(currency.name in part.counts for part, _ in parts):
            value = sum(part.counts[currency.name][stage] for part, stage in parts)
            prices[currency.name] = Price(value, value)
    whole, gain = _whole_and_gain(reductions, stages, gains)
    if whole is not None and whole.latency_overhead is not None:
        if whole.latency_overhead_high is not None:  # without an interval no limit is known to be kept
            prices[LATENCY.name] = Price(whole.latency_overhead, whole.latency_overhead_high)
    elif all(part.times is not None for part, _ in parts):
        times = [part.times[stage] for part, stage in parts if part.times is not None]
        prices[LATENCY.name] = Price(sum(t.value for t in times), sum(t.upper for t in times))
    return Choice(name, reductions, prices, sum(part.channels(stage) for part, stage in parts),
                  sum(part.weights(stage) for part, stage in parts), whole is not None, gain)


def _whole_and_gain(
    reductions: Reductions, stages: dict[int | None, _Stages], gains: Sequence[Gain],
) -> tuple[Record | None, Gain | None]:
    """The record that is this very choice (one r, all stages), and the gain of its network, place, r and stages."""
    ratios = {ratio for _, ratio in reductions}
    if len(ratios) != 1:
        return None, None
    tried, carrying = stages[ratios.pop()], [stage for stage, _ in reductions]
    is_whole = set(carrying) == set(tried.rows)
    asked = replace(tried.record, stages=None if is_whole else carrying)
    return tried.record if is_whole else None, next((gain for gain in gains if matches(gain, asked)), None)


def _assignments(stages: dict[int | None, _Stages], per_stage: bool) -> Iterator[Reductions]:
    """Every way to give each stage no attention or one of the ratios: one ratio for all, or any in each."""
    numbers = sorted(next(iter(stages.values())).rows)
    if per_stage:
        for picked in itertools.product((_NOTHING, *stages), repeat=len(numbers)):
            chosen = tuple((n, r) for n, r in zip(numbers, picked, strict=True) if r is not _NOTHING)
            if chosen:
                yield chosen  # type: ignore[misc]
        return
    for ratio, size in itertools.product(stages, range(1, len(numbers) + 1)):
        for subset in itertools.combinations(numbers, size):
            yield tuple((number, ratio) for number in subset)


_NOTHING = object()


def _rank(choice: Choice, by_gain: bool) -> tuple[float, ...]:
    """By capacity, then the cheapest; with gains those that are known first, by the gain, then the cheapest."""
    cheapness = tuple(-choice.prices[currency.name].upper if currency.name in choice.prices else float("-inf")
                      for currency in LIMITED)
    if not by_gain:
        return (choice.channels, choice.weights, *cheapness)
    return (float(choice.gain is not None), choice.gain.points if choice.gain else 0.0, *cheapness, choice.channels)


def _steps(best: Choice, candidates: Sequence[Choice]) -> list[Choice]:
    """One step further than the best: one stage more at a ratio that it has, or the next smaller r in all stages."""
    mine = dict(best.reductions)
    more, tighter = [], []
    for choice in candidates:
        if choice.attention != best.attention or choice is best:
            continue
        theirs = dict(choice.reductions)
        if len(theirs) == len(mine) + 1 and all(theirs.get(stage, _NOTHING) == mine[stage] for stage in mine):
            added = next(iter(set(theirs) - set(mine)))
            if theirs[added] in mine.values():
                more.append(choice)
        elif theirs.keys() == mine.keys() and all(a is not None and b is not None and a < b for a, b in zip(
                theirs.values(), mine.values(), strict=True)):
            tighter.append(choice)
    nearest = max(tighter, key=lambda choice: [ratio for _, ratio in choice.reductions], default=None)
    return [*more, *([nearest] if nearest else [])]

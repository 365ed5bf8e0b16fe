"""What attention buys, joined to what it costs: gains from one source beside the overheads of the same variants.

Sources are never mixed: a report shows one, named. Trained accuracies come out of the run's own records, paired by
seed; a file's and published ones are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secost.answers.currencies import Currency
from secost.answers.groups import Group, setting_key
from secost.numbers import joined
from secost.plan.spec import BASELINE
from secost.runs.gain import TRAINED, Gain
from secost.runs.records import DONE, FAILED, Record
from secost.statistics import Interval, paired_difference, unpaired_difference

WORTH, NO_GAIN, UNCLEAR = "a gain", "no gain found", "not told apart from none"
BEATEN, BEATEN_ON_MEAN, UNBEATEN = "beaten, with confidence", "beaten on the mean only", "not beaten"


@dataclass(frozen=True)
class Seeds:
    """The accuracies of one variant and its baseline from the same seeds, in percent, seed by seed."""

    record: Record
    pairs: tuple[tuple[float, float], ...]

    @property
    def paired(self) -> Interval:
        return paired_difference(self.pairs)

    @property
    def unpaired(self) -> Interval:
        """What the interval would be if seeds were not paired."""
        return unpaired_difference(self.pairs)


@dataclass(frozen=True)
class Weighed:
    """One variant with what it costs and what it gains. `standing` is about gain against one currency."""

    group: Group
    record: Record
    gain: Gain

    @property
    def answer(self) -> str:
        """Whether the interval of the gain lies above 0, holds it, or there is none."""
        if self.gain.low is None or self.gain.high is None:
            return UNCLEAR
        return WORTH if self.gain.low > 0 else NO_GAIN if self.gain.high <= 0 else UNCLEAR


def trained_seeds(records: Sequence[Record]) -> list[Seeds]:
    """Variants that were trained beside the network without attention, each with the pairs of seeds that finished."""
    done = [record for record in records if record.trained and record.status == DONE and record.top1 is not None]
    base = {(*setting_key(record), record.dataset, record.epochs, record.seed): record.top1
            for record in done if record.attention == BASELINE}
    found: dict[tuple[Any, ...], list[tuple[Record, float]]] = {}
    for record in done:
        key = (*setting_key(record), record.dataset, record.epochs)
        partner = base.get((*key, record.seed))
        if record.attention != BASELINE and partner is not None:
            found.setdefault((*key, record.label), []).append((record, partner))
    return [Seeds(rows[0][0], tuple((base_top1, record.top1 or 0.0) for record, base_top1 in rows))
            for rows in found.values()]


def trained_gains(records: Sequence[Record]) -> list[Gain]:
    """The gain of every trained variant over none, from paired seeds."""
    found = []
    for seeds in trained_seeds(records):
        record, interval, count = seeds.record, seeds.paired, len(seeds.pairs)
        found.append(Gain(
            record.model, record.attention, record.reduction, interval.estimate, interval.low, interval.high, count,
            TRAINED, f"{record.dataset}, {record.epochs} epochs, {count} {'seed' if count == 1 else 'seeds'}",
            record.placement, None if record.stages is None else tuple(record.stages),
            sum(top1 for _, top1 in seeds.pairs) / count, sum(top1 for top1, _ in seeds.pairs) / count,
            record.integration, record.spelling,
        ))
    return found


def failed_trainings(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.trained and record.status == FAILED]


def weighed(groups: Sequence[Group], gains: Sequence[Gain]) -> list[Weighed]:
    """Every variant of the comparisons that has a gain, in their order."""
    found = []
    for group in groups:
        for record in group.variants:
            gain = next((gain for gain in gains if matches(gain, record)), None)
            if gain is not None:
                found.append(Weighed(group, record, gain))
    return found


def unmatched(groups: Sequence[Group], gains: Sequence[Gain]) -> list[Gain]:
    """Gains of variants that the comparisons do not have."""
    records = [record for group in groups for record in group.variants]
    return [gain for gain in gains if not any(matches(gain, record) for record in records)]


def matches(gain: Gain, record: Record) -> bool:
    """Whether a gain is that of a record's variant. What the gain does not tell (placement) fits everything."""
    same = (gain.attention, gain.reduction) == (record.attention, record.reduction)
    stages = None if record.stages is None else tuple(record.stages)
    placed = gain.placement is None or gain.placement in (record.placement, "auto")
    placed = placed and gain.integration in (None, record.integration) and gain.spelling in (None, record.spelling)
    return same and placed and gain.stages == stages and gain.model in (record.model, record.model.split(":")[-1])


def standing(item: Weighed, others: Sequence[Weighed], currency: Currency) -> str:
    """Whether another variant, or the bare network, gains at least as much for no more of one currency.

    With confidence where its gain's interval lies above this one's and its cost's below; on the mean only otherwise.
    """
    # First the network without attention: no gain, no cost, both exactly.
    rivals = [((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), True)]
    rivals += [(ends, _has_intervals(other, currency)) for other in others if other is not item
               and other.group is item.group and (ends := _ends(other, currency)) is not None]
    mine = _ends(item, currency)
    if mine is None:
        return UNBEATEN
    surely = _has_intervals(item, currency)
    found = UNBEATEN
    for rival, sure in rivals:
        gain, low, _, cost, _, top = rival
        if gain >= mine[0] and cost <= mine[3] and (gain > mine[0] or cost < mine[3]):
            if surely and sure and ((low > mine[2] and top <= mine[4]) or (low >= mine[2] and top < mine[4])):
                return BEATEN
            found = BEATEN_ON_MEAN
    return found


def benefit_words(items: Sequence[Weighed], seeds: Sequence[Seeds]) -> list[str]:
    """What was gained, by whom, and what pairing the seeds was worth."""
    found = []
    several = len({item.group.label for item in items}) > 1
    for answer, words in ((WORTH, "raises accuracy (the interval lies above 0)"),
                          (UNCLEAR, "can't be told from no gain"),
                          (NO_GAIN, "no gain (the interval does not reach above 0)")):
        names = [f"{item.record.label} ({gain_words(item.gain)})" if not several else
                 f"{item.record.label} on {item.record.model} ({gain_words(item.gain)})"
                 for item in items if item.answer == answer]
        if names:
            found.append(f"{joined(names)}: {words}.")
    widths = [(s.paired.half_width, s.unpaired.half_width) for s in seeds if len(s.pairs) > 1]
    if widths:
        paired, unpaired = (sum(column) / len(widths) for column in zip(*widths, strict=True))
        pays = "pays" if paired < unpaired else "does not pay here"
        found.append(f"Pairing seeds {pays}: the interval of a gain is +-{paired:.2f} points on average, and would be "
                     f"+-{unpaired:.2f} without.")
    if any(len(s.pairs) == 1 for s in seeds):
        found.append("One seed gives no interval: how much of its difference is luck is not known.")
    return found


def gain_words(gain: Gain) -> str:
    """`+1.23 points [0.81, 1.65]`, `+1.51 points [no interval]`, `+1.02 points (from -1.02 to +1.51 over 8)`."""
    if gain.spread is not None:
        low, high = gain.spread
        return f"{gain.points:+z.2f} points (from {low:+z.2f} to {high:+z.2f} over {gain.pairs})"
    ends = "[no interval]" if gain.low is None or gain.high is None else f"[{gain.low:z.2f}, {gain.high:z.2f}]"
    return f"{gain.points:+z.2f} points {ends}"


def _has_intervals(item: Weighed, currency: Currency) -> bool:
    """Whether gain and cost are known with intervals, or exactly: without, nothing is beaten with confidence."""
    return item.gain.low is not None and (not currency.measured or currency.interval(item.record) is not None)


def _ends(item: Weighed, currency: Currency) -> tuple[float, float, float, float, float, float] | None:
    """Gain with its ends, then cost with its ends; without an interval the ends are the value itself."""
    cost = item.group.overhead(item.record, currency)
    if cost is None:
        return None
    low, high = currency.interval(item.record) or (cost, cost)
    gain = item.gain
    return (gain.points, gain.points if gain.low is None else gain.low, gain.points if gain.high is None else gain.high,
            cost, low, high)

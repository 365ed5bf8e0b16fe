"""What attention buys: gains from one source, trained, published or the user's own, joined to what the variants cost.

Sources are never mixed: a report shows one, named; unless asked otherwise the first that has something for its records,
of what was trained, the user's file, what is published for these very networks, and what is published for others like
them. Trained accuracies come out of the run's own records, paired by seed; `accuracies` reads the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secost.answers.accuracies import Gained, gains_of_file
from secost.answers.expected import borrowed_for, known_family, published_for, published_gains_of
from secost.answers.groups import Group, group_records, grouped, setting_key
from secost.answers.published import plain_name
from secost.errors import BadSpecError
from secost.registry import Registry
from secost.runs.records import DONE, FAILED, FILE, PUBLISHED, TRAINED, Gain, Record
from secost.sequential import looked_difference
from secost.statistics import Interval, paired_difference, unpaired_difference

AUTO, NO_SOURCE = "auto", "none"
WORTH, NO_GAIN, UNCLEAR = "a gain", "no gain found", "not told apart from none"


Source = Callable[[Sequence[Record], str | None], Gained]
# Where gains come from, by name: from records and the user's file (None without one) the gains of the variants among
# the records, and a line on each that found none. Raises BadSpecError where it has nothing for these records.
GAIN_SOURCES: Registry[Source] = Registry("source of benefit")


def check_source(source: str | None, accuracy: str | None) -> None:
    """Raise UnknownNameError for a source that is not known, BadSpecError where two were asked for."""
    if source not in (None, AUTO, NO_SOURCE):
        GAIN_SOURCES.get(str(source))
    if accuracy and source not in (None, AUTO, FILE):
        raise BadSpecError(f"--benefit {source} and --accuracy are two sources, which are never mixed: keep one")


def gains_from(source: str | None, accuracy: str | None, records: Sequence[Record]) -> Gained:
    """Gains for the variants among the records, and a line on each that found no variant.

    `auto`, and no source, is the first of what was trained, the file where one is given, and what is published; `none`
    asks for nothing. Raises UnknownNameError for another source, BadSpecError where the source asked for has nothing
    for these records, or where two were asked for.
    """
    check_source(source, accuracy)
    if source == NO_SOURCE:
        return Gained([], [])
    if source not in (None, AUTO):
        return GAIN_SOURCES.get(str(source))(records, accuracy)
    return _from_file(records, accuracy) if accuracy else Gained(trained_gains(records) or _published(records), [])


@dataclass(frozen=True)
class Seeds:
    """The accuracies of one variant and its baseline from the same seeds, in percent, seed by seed."""

    record: Record
    pairs: tuple[tuple[float, float], ...]

    @property
    def looked(self) -> bool:
        """Whether seeds were added until this was told: then its interval is one that allows for that."""
        return "until" in (self.record.samples or {})

    @property
    def gain(self) -> Interval:
        return looked_difference(self.pairs) if self.looked else self.paired

    @property
    def paired(self) -> Interval:
        return paired_difference(self.pairs)

    @property
    def unpaired(self) -> Interval:
        """What the interval would be if seeds were not paired."""
        return unpaired_difference(self.pairs)


@dataclass(frozen=True)
class Weighed:
    """One variant with what it costs and what it gains. `standing` is about gain against one currency.

    `gain` stands for it; `by_era` has it and those of other eras of recipes, where these are known apart.
    """

    group: Group
    record: Record
    gain: Gain
    by_era: tuple[Gain, ...] = ()

    @property
    def answer(self) -> str:
        return told(self.gain)

    @property
    def rank(self) -> tuple[float, float]:
        """Of several the largest gains most, and of those takes the least time."""
        return self.gain.points, -(self.record.latency_overhead or 0.0)


def told(gain: Gain) -> str:
    """Whether the interval of a gain lies above 0, holds it, or there is none."""
    if gain.low is None or gain.high is None:
        return UNCLEAR
    return WORTH if gain.low > 0 else NO_GAIN if gain.high <= 0 else UNCLEAR


def trained_pairs(records: Sequence[Record]) -> list[list[tuple[Record, Record]]]:
    """Of each variant that was trained beside the network without attention the pairs of seeds that finished, each as
    the records of the network without and with it."""
    done = [record for record in records if record.trained and record.status == DONE and record.top1 is not None]
    base = {(*setting_key(record), record.dataset, record.epochs, record.seed): record
            for record in done if record.is_baseline}
    beside: dict[tuple[Any, ...], list[tuple[Record, Record]]] = {}
    for record in done:
        key = (*setting_key(record), record.dataset, record.epochs)
        partner = base.get((*key, record.seed))
        if not record.is_baseline and partner is not None:
            beside.setdefault((*key, record.label), []).append((partner, record))
    return list(beside.values())


def trained_seeds(records: Sequence[Record]) -> list[Seeds]:
    """Variants that were trained beside the network without attention, each with the pairs of seeds that finished."""
    return [Seeds(pairs[0][1], tuple((none.top1 or 0.0, record.top1 or 0.0) for none, record in pairs))
            for pairs in trained_pairs(records)]


def trained_gains(records: Sequence[Record]) -> list[Gain]:
    """The gain of every trained variant over none, from paired seeds."""
    gains = []
    for seeds in trained_seeds(records):
        record, interval, count = seeds.record, seeds.gain, len(seeds.pairs)
        looks = ", looked at after each" if seeds.looked else ""
        gains.append(Gain(
            record.model, record.attention, record.reduction, interval.estimate, interval.low, interval.high, count,
            TRAINED, f"{record.dataset}, {record.epochs} epochs, {count} {'seed' if count == 1 else 'seeds'}{looks}",
            record.placement, None if record.stages is None else tuple(record.stages),
            sum(top1 for _, top1 in seeds.pairs) / count, sum(top1 for top1, _ in seeds.pairs) / count,
            record.integration, record.spelling, alternative=record.alternative,
        ))
    return gains


def failed_trainings(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.trained and record.status == FAILED]


def weighed(groups: Sequence[Group], gains: Sequence[Gain]) -> list[Weighed]:
    """Every variant of the comparisons that has a gain, in their order."""
    return [Weighed(group, record, found[0], found) for group in groups for record in group.variants
            if (found := _by_era(record, gains))]


def weighed_alternatives(group: Group, gains: Sequence[Gain]) -> list[Weighed]:
    """Every alternative of a comparison that has a gain, in their order."""
    return [Weighed(group, record, found[0], found) for record in group.alternatives
            if (found := _by_era(record, gains))]


def of_era(items: Iterable[Weighed], era: str | None) -> list[Weighed]:
    """The same with their gains by recipes of one era, where they have one."""
    return [replace(item, gain=gain) for item in items for gain in item.by_era if gain.era == era]


def _by_era(record: Record, gains: Sequence[Gain]) -> tuple[Gain, ...]:
    """The gains of a record's variant, one for each era of recipes: at its own r before one whose r is not told."""
    mine = sorted((gain for gain in gains if matches(gain, record)),
                  key=lambda gain: gain.reduction != record.reduction)
    return tuple({gain.era: gain for gain in reversed(mine)}[era] for era in dict.fromkeys(gain.era for gain in mine))


def unmatched(groups: Sequence[Group], gains: Sequence[Gain]) -> list[Gain]:
    """Gains of variants that the comparisons do not have."""
    records = [record for group in groups for record in (*group.variants, *group.alternatives)]
    return [gain for gain in gains if not any(matches(gain, record) for record in records)]


def matches(gain: Gain, record: Record) -> bool:
    """Whether a gain is that of a record's variant. What the gain does not tell (placement) fits everything."""
    untold = gain.reduction is None and gain.source == PUBLISHED
    named = (gain.attention, gain.alternative) == (record.attention, record.alternative)
    same = named and (untold or gain.reduction == record.reduction)
    stages = None if record.stages is None else tuple(record.stages)
    placed = gain.placement is None or gain.placement in (record.placement, "auto")
    placed = placed and gain.integration in (None, record.integration) and gain.spelling in (None, record.spelling)
    return same and placed and gain.stages == stages and gain.model in (record.model, record.model.split(":")[-1])


def _from_file(records: Sequence[Record], accuracy: str | None) -> Gained:
    if accuracy is None:
        raise BadSpecError(f"--benefit {FILE} needs the file: give --accuracy mine.csv")
    others = {record.alternative: record.model for record in records if record.alternative is not None}
    gains, told = gains_of_file(accuracy, {record.model for record in records}, others)
    lost = [f"not in the run: {gain.model} {gain.attention}{'' if gain.reduction is None else f' r={gain.reduction}'}"
            for gain in unmatched(group_records(records), gains)]
    return Gained(gains, [*told, *lost])


def _from_tables(records: Sequence[Record], accuracy: str | None) -> Gained:
    gains = _published(records)
    if not gains:
        raise BadSpecError("nothing comparable is published for these attentions: secost benefit shows what there is")
    return Gained(gains, [])


def _published(records: Sequence[Record]) -> list[Gain]:
    """For each network what was published for it, one gain a variant and era; else what is borrowed from others."""
    gains: list[Gain] = []
    for model, groups in grouped(group_records(records), lambda group: group.records[0].model).items():
        variants = [record for group in groups for record in group.variants]
        name = plain_name(model)
        own = [replace(gain, model=model) for gain in published_for(name, [item.attention for item in variants])]
        found = [gain for gain in own if any(matches(gain, record) for record in variants)]
        gains += found or borrowed_for(model, known_family(name), ((item.attention, item.reduction)
                                                                    for item in variants))
        others = [record.label for group in groups for record in group.alternatives]
        gains += published_gains_of(model, list(dict.fromkeys(others)))
    return gains


def _from_trainings(records: Sequence[Record], accuracy: str | None) -> Gained:
    gains = trained_gains(records)
    if not gains:
        raise BadSpecError("no accuracy was trained in this run: make one with secost train MODEL")
    return Gained(gains, [])


for _name, _source in ((PUBLISHED, _from_tables), (FILE, _from_file), (TRAINED, _from_trainings)):
    GAIN_SOURCES.register(_name, _source)

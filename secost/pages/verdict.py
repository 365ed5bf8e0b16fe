"""The verdict of a report in words: the answer, why it is that one, what to do next, and a plain sentence a conclusion.

Of one comparison a function makes each conclusion; no sentence says more than the records carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secost.answers.evidence import trained_pairs, trained_seeds, weighed
from secost.answers.families import axis_families, compared_spellings, difference, runtime_families
from secost.answers.groups import COUNTED, LATENCY, MACS, MEMORY, PARAMS, Currency, Group, group_records
from secost.answers.verdict import Answer, Reason, Verdict, control_failed, control_interval, judge
from secost.pages import beside
from secost.pages.learning import longer_words
from secost.pages.wording import (
    axis_words,
    benefit_words,
    few,
    floor_words,
    gain_words,
    of_models,
    overhead_words,
    runtime_summary,
    spelling_words,
)
from secost.runs.curves import gain_curves
from secost.runs.records import Gain, Record
from secost.writing import joined, percent

_FEW_GROUPS, _FEW_LABELS, _MOST_FAMILIES, _MOST_SENTENCES = 3, 8, 4, 6
_BRING_GAIN = ("weigh the cost against the accuracy gain: train both networks with one recipe, or take the gain that a "
               "paper reports within one table")
_TRAIN, _HEAR = "secost train MODEL --dataset FOLDER", "; --dry-run says how long that takes and what it can tell"
# Why, and what to do next. The words in braces are figures of the verdict.
_REASONS = {
    Reason.GAINS: ("{best} gains {gain} ({source}) {price}",
                   "find the cheapest choice within your limits: `secost budget RUN {limit}`"),
    Reason.TOO_SHORT: ("{best} gains {gain} ({source}) {price}, but its trainings ended before they converged, so that "
                       "says little of whole ones", ""),
    Reason.ABOVE_LINE: ("{best} gains {gain} ({source}) {price}, more than {line}",
                        "find the cheapest choice within your limits: `secost budget RUN {limit}`"),
    Reason.BELOW_LINE: ("{best} gains {gain} ({source}) {price}, less than {line}",
                        "spend the time on {other}, or look for a cheaper attention: `secost budget RUN {limit}`"),
    Reason.LINE_OPEN: ("{best} gains {gain} ({source}) {price}, not told apart from {line}",
                       f"train both from the same seeds: `{_TRAIN} --alternatives {{other}} --until 0.3`{_HEAR}"),
    Reason.RECIPE: ("{best} gains {by_recipe}, as {evidence}, {price}{lines}",
                    f"train both networks with your own recipe: `{_TRAIN} --seeds 5`"),
    Reason.SETTING: ("{best} gains {gain} ({source}) {price}, and the answer is not the same everywhere: {by_setting}",
                     "decide by the network and the setting that you deploy"),
    Reason.TOO_DEAR: ("{best} gains {gain} ({source}) {price}, more than {limit_price} a point",
                      "look for a cheaper attention or fewer stages: `secost budget RUN {limit}`"),
    Reason.PRICE_OPEN: ("{best} gains {gain} ({source}) {price}, and the intervals leave open whether that is at most "
                        "{limit_price} a point", "narrow the intervals: more --seconds, or trainings from more seeds"),
    Reason.NOT_EVERY_INTERVAL: ("not every gain has an interval ({source}), so they may be luck",
                                f"train from several seeds: `{_TRAIN} --seeds 5`"),
    Reason.NO_GAIN: ("no variant gains more than {least:.2f} points ({source})",
                     "leave attention out, or try it on the data that matters"),
    Reason.GAIN_MAY_HIDE: ("no gain could be told from none ({source}); up to {most:.2f} points may hide in the "
                           "intervals", f"train until it is told: `{_TRAIN} --until 0.3`{_HEAR}"),
    Reason.NO_RECORDS: ("there are no records", "run `secost profile MODEL` first"),
    Reason.NOTHING_FINISHED: ("no variant could be counted or measured",
                              "see the errors, and run the same command again"),
    Reason.BASELINE_ALONE: ("there is a baseline and nothing to compare it with",
                            "name an attention with --attention se"),
    Reason.NO_BASELINE: ("no baseline finished, so what the variants add is unknown",
                         "run the same command again to fill it in"),
    Reason.CONTROL_FAILED: (
        "the counted cost is known, the measured time can't be trusted (the negative control failed), and the gain is "
        "not known", "close other programs and measure again; then " + _BRING_GAIN),
    Reason.NOT_TIMED: ("the cost was counted only: neither its time nor the gain is known",
                       "measure the time (without --no-latency), and " + _BRING_GAIN),
    Reason.GAIN_NOT_KNOWN: ("the cost is known, the gain is not: these records hold no accuracy", _BRING_GAIN),
}



@dataclass(frozen=True)
class Statement:
    """A verdict in words: the answer, why it is that one, what to do next, and one plain sentence a conclusion; `value`
    is the verdict as plain JSON values.

    The text holds names as they were given: whoever shows it cleans it (`secost.writing`).
    """

    answer: Answer
    reason: str
    next_step: str
    sentences: tuple[str, ...] = ()
    value: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """`Can't tell: <reason>.`"""
        return f"{self.answer[0].upper()}{self.answer[1:]}: {self.reason}."


def state(records: Sequence[Record], gains: Sequence[Gain] = (), price_limit: float | None = None) -> Statement:
    """What is said of all comparisons among the records, with what their variants gain where that is known.

    `price_limit` is the most time that a point may cost, as a fraction of the baseline's.
    """
    groups = group_records(records)
    items = weighed(groups, gains)
    verdict = judge(records, gains, price_limit)
    reason, next_step = _REASONS[verdict.reason]
    if verdict.reason == Reason.TOO_SHORT:
        next_step = longer_words(gain_curves(trained_pairs(records)))
    figures = _figures(verdict)
    bought = benefit_words(items, trained_seeds(records)) if items else []
    next_step = of_models(next_step.format(**figures), records)
    said = (*bought, *beside.sentences(groups, gains), *_sentences(groups))
    return Statement(verdict.answer, reason.format(**figures), next_step, said, verdict.to_dict(next_step))


def _figures(verdict: Verdict) -> dict[str, object]:
    """The figures that a reason or a next step tells."""
    most = verdict.most or 0.0
    figures: dict[str, object] = {"source": verdict.source, "most": most, "least": max(most, 0.0)}
    if verdict.best is None:
        return figures
    record, gain = verdict.best.record, verdict.best.gain
    timed = record.latency_overhead is not None
    price = f"for {overhead_words(record)} time" if timed else "for a time that was not measured"
    evidence = "borrowed from other networks" if gain.borrowed else verdict.source
    return {**figures, "source": evidence, "best": record.label, "gain": gain_words(gain), "price": price,
            "evidence": evidence, "limit": "--max-latency 2%" if timed else "--max-params 5%",
            "limit_price": percent(verdict.price, signed=False), "by_recipe": beside.by_recipe(verdict),
            "line": beside.line(verdict.parts[0]), "lines": beside.lines(verdict),
            "other": beside.other(verdict.parts[0]),
            "by_setting": "; ".join(beside.by_setting(verdict.parts))}


def _sentences(groups: list[Group]) -> list[str]:
    if len(groups) == 1:
        return [sentence for say in _OF_ONE for sentence in say(groups[0])]
    if len(groups) <= _FEW_GROUPS:
        told = [f"{group.label}: {sentence}" for group in groups for say in _OF_FEW for sentence in say(group)]
        return [*_across(groups), *told]
    return [*_over_many(groups), *_across(groups)]


def _across(groups: list[Group]) -> list[str]:
    """How the overhead depends on what runs the network, and on batch, resolution and threads."""
    by_runtime = [(family, runtime_summary(family)) for family in runtime_families(groups)]
    by_axis = [(family, axis_words(family)) for family in axis_families(groups)]
    told = [*by_runtime, *by_axis][:_MOST_FAMILIES]
    return [f"{family.label}: {sentence}" for family, sentences in told for sentence in sentences]


def _over_many(groups: list[Group]) -> list[str]:
    """Ranges over comparisons, one sentence a variant, where there are too many to tell one by one."""
    labels = list(dict.fromkeys(record.label for group in groups for record in group.compared))
    sentences = [_range_sentence(label, groups) for label in labels[:_FEW_LABELS]]
    if len(labels) > _FEW_LABELS:
        sentences.append(f"{len(labels) - _FEW_LABELS} more variants are in the table.")
    sentences += _timing_of_many(groups)
    failed, trials = sum(len(group.failed) for group in groups), sum(len(group.records) for group in groups)
    if failed:
        sentences.append(f"{failed} of {trials} trials failed; the table names them.")
    return sentences


def _range_sentence(label: str, groups: list[Group]) -> str:
    pairs = [(group, record) for group in groups for record in group.compared if record.label == label]
    ranges = [(currency, _range_over(group.overhead(record, currency) for group, record in pairs))
              for currency in (*COUNTED, LATENCY)]
    parts = [f"{currency.word} {shown}" for currency, shown in ranges if shown]
    where = f"Over {len(pairs)} comparisons" if len(pairs) > 1 else "In one comparison"
    return f"{where}, {label}: {joined(parts) if parts else 'no overhead is known'}."


def _range_over(values: Iterable[float | None]) -> str:
    """`+5.0 % to +79 %`, or one value where all show alike; nothing where there is none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return ""
    low, high = percent(known[0]), percent(known[-1])
    return low if low == high else f"{low} to {high}"


def _timing_of_many(groups: list[Group]) -> list[str]:
    intervals = [interval for group in groups for record in group.compared if (interval := LATENCY.interval(record))]
    if not intervals:
        timed = any(group.has(LATENCY) for group in groups)
        return ["Time was measured in too few rounds for an interval: give it more --seconds." if timed else
                "Time was not measured."]
    apart = sum(not low <= 0 <= high for low, high in intervals)
    failed = [group.label for group in groups if control_failed(group)]
    sentences = [f"{apart} of {len(intervals)} time overheads are distinguishable from 0: their intervals exclude it."]
    if failed:
        sentences.append(f"The negative control failed in {len(failed)} of {len(groups)} comparisons "
                         f"({joined(few(failed, 3, 3))}): their times can't be trusted.")
    return sentences


# --- of one comparison ---


def costs(group: Group) -> list[str]:
    """What each attention costs, in every currency at hand: one sentence for each representative."""
    chosen = group.representatives()
    sentences = [f"{record.label}{cost_words(group, record)}." for record in chosen[:_MOST_SENTENCES]]
    if len(chosen) > _MOST_SENTENCES:
        sentences.append(f"{len(chosen) - _MOST_SENTENCES} more attentions are in the table.")
    return sentences


def native(group: Group) -> list[str]:
    """The network as shipped against the same network stripped."""
    record = group.native
    if record is None:
        return []
    if all(group.overhead(record, currency) in (None, 0) for currency in (*COUNTED, LATENCY)):
        return ["As shipped, the network has no attention that could be told from the stripped network."]
    return [f"The attention it ships with (native), against the network stripped of it,{cost_words(group, record)}."]


def cost_words(group: Group, record: Record) -> str:
    """` adds 9.9 % parameters, 0.20 % MACs, ... and 55 % kernels; measured +8.1 % [7.2, 9.0] time`."""
    known = [(currency, group.overhead(record, currency)) for currency in COUNTED]
    parts = [(currency.word, value) for currency, value in known if value is not None]
    counted = f" {_added(parts)}" if parts else " could not be counted against a baseline"
    return f"{counted}; {_time_words(group, record)}"


def clock_against_macs(group: Group) -> list[str]:
    """How many times the MAC overhead the measured time overhead is, where the interval lies above 0."""
    ratios, freed, unclear = [], [], []
    for record in [*([group.native] if group.native else []), *group.representatives()]:
        counted, interval = group.overhead(record, MACS), LATENCY.interval(record)
        if counted is None or interval is None or record.latency_overhead is None:
            continue
        if interval[0] <= 0 <= interval[1]:
            unclear.append(record.label)
        elif interval[0] > 0 and counted > 0:
            ratios.append(_ratio_words(record, counted, interval))
        elif interval[0] > 0 and counted == 0:
            freed.append(record.label)
    sentences = []
    if ratios:
        sentences.append(f"Clock against counter: the time overhead is the MAC overhead times {joined(ratios)}.")
    if freed:
        sentences.append(f"MACs do not show the cost of {joined(freed)} at all: none are added, and yet time is.")
    if unclear:
        sentences.append(f"Not distinguishable from the baseline in time (the interval includes 0): {joined(unclear)}.")
    return sentences


def reduction_knob(group: Group) -> list[str]:
    """What r moves: parameters always, time only where the intervals of the two ends are apart."""
    sentences = []
    for attention in group.attentions[:_MOST_SENTENCES]:
        members = [record for record in group.of(attention) if record.reduction is not None]
        if len({record.reduction for record in members}) > 1:
            sentences += _knob(group, attention, members[0], members[-1])
    return sentences


def cheapest(group: Group) -> list[str]:
    """The cheapest variant in each currency; for time, all whose intervals meet the lowest one's."""
    if len(group.plain_variants) < 2:
        return []
    told = [*filter(None, (_cheapest_counted(group, currency) for currency in COUNTED)), *_cheapest_time(group)]
    return [f"Cheapest: {'; '.join(told)}."] if told else []


def stage_share(group: Group) -> list[str]:
    """Which stage carries most of the added parameters, and which most of the added memory traffic."""
    for record in sorted(group.representatives(), key=lambda record: -(record.attention_params or 0)):
        words = [word for currency in (PARAMS, MEMORY) if (word := _share(record, currency))]
        if words:
            return [f"By stage, {record.label}: {joined(words)}."]
    return []


def spellings(group: Group) -> list[str]:
    """Which way to write an attention is fastest at equal outputs; a way with other outputs apart."""
    return [sentence for table in compared_spellings(group) for sentence in spelling_words(table)]


def control(group: Group) -> list[str]:
    """Whether the second copy of the baseline came out as equal to it."""
    timed = [record for record in group.compared if record.latency_overhead is not None]
    if not timed:
        return []
    interval = next(filter(None, map(control_interval, timed)), None)
    shown = f" ({percent(interval[0])} to {percent(interval[1])})" if interval else ""
    if control_failed(group):
        return [f"The negative control failed: a second copy of the baseline came out as different from it{shown}, "
                "so no time overhead of that size can be believed."]
    if interval is None:
        return ["The negative control ran for too few rounds to have an interval, as the variants did: measure longer."]
    if not interval[0] <= 0 <= interval[1]:
        return [f"The negative control is borderline: the 95 % interval of a second copy of the baseline{shown} does "
                "not include 0, yet the meter, which asks for more than 95 %, did not call it failed."]
    return [f"The negative control passed: a second copy of the baseline was not told apart from it{shown}."]


def failures(group: Group) -> list[str]:
    """What failed, and why, in the words of the first failure."""
    if not group.failed:
        return []
    labels, reason = [record.label for record in group.failed], group.failed[0].error or "no reason was recorded"
    return [f"{len(labels)} of {len(group.records)} trials failed ({joined(few(labels, 4, 4))}): {reason}"]


def _added(parts: list[tuple[str, float]]) -> str:
    if any(value < 0 for _, value in parts):
        return f"changes {joined([f'{word} by {percent(value)}' for word, value in parts])}"
    words = [f"{percent(value, signed=False)} {word}" if value else f"no {word}" for word, value in parts]
    return f"adds {joined(words)}"


def _time_words(group: Group, record: Record) -> str:
    interval = LATENCY.interval(record)
    if record.latency_overhead is None:
        return "time was not measured"
    shown = overhead_words(record)
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return f"measured {shown} time, not distinguishable from no change"
    doubt = " (not to be trusted, the control failed)" if control_failed(group) else ""
    return f"measured {shown} time{doubt}"


def _ratio_words(record: Record, counted: float, interval: tuple[float, float]) -> str:
    """`41 (37 to 46) for se r=16`, all three with the digits that the lowest one needs."""
    low, middle, high = (value / counted for value in (interval[0], record.latency_overhead or 0.0, interval[1]))
    digits = 1 if low < 10 else 0
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}) for {record.label}"


def _knob(group: Group, attention: str, first: Record, last: Record) -> list[str]:
    small, large = group.overhead(first, PARAMS), group.overhead(last, PARAMS)
    if small is None or large is None:
        return []
    return [f"From r={first.reduction} to r={last.reduction}, {attention}'s added parameters go from {percent(small)} "
            f"to {percent(large)}{_knob_time(first, last)}."]


def _knob_time(first: Record, last: Record) -> str:
    before, after = LATENCY.interval(first), LATENCY.interval(last)
    if first.environment != last.environment:
        return ", and their times are of different environments"
    if None in (before, after, first.latency_overhead, last.latency_overhead):
        return ""
    small, large, apart = overhead_words(first), overhead_words(last), difference(last, first)
    if apart is not None and not apart.told_apart:
        return f", while the time overheads ({small} and {large}) can't be told apart"
    return f", and the time overhead from {small} to {large}"


def _cheapest_counted(group: Group, currency: Currency) -> str | None:
    known = [(value, record.label) for record in group.plain_variants
             if (value := group.overhead(record, currency)) is not None]
    if not known:
        return None
    lowest = min(known)[0]
    names = [label for value, label in known if value == lowest]
    if len(names) == len(known):
        return f"{currency.word}, all alike ({percent(lowest)})" if len(names) > 1 else None
    return f"{currency.word}, {joined(few(names, 4))} ({percent(lowest)})"


def _cheapest_time(group: Group) -> list[str]:
    known = [(record, interval) for record in group.plain_variants if (interval := LATENCY.interval(record))]
    if len(known) < 2:
        return []
    best, (_, high) = min(known, key=lambda pair: pair[0].latency_overhead or 0.0)
    alike = [record.label for record, interval in known if record is not best and interval[0] <= high]
    shown = f"time, {best.label} ({overhead_words(best)})"
    if not alike:
        return [shown]
    if len(alike) == len(known) - 1 and len(alike) > 1:
        return [f"{shown}, though no variant's interval lies wholly above its interval"]
    return [f"{shown}, not told apart from {joined(few(alike, 4))}"]


def _share(record: Record, currency: Currency) -> str | None:
    amounts = {row["stage"]: row.get(currency.field) or 0 for row in record.by_stage}
    total = sum(amounts.values())
    if len(amounts) < 2 or total <= 0:
        return None
    stage = max(amounts, key=lambda key: amounts[key])
    sites = next((row.get("sites") for row in record.by_stage if row["stage"] == stage), None)
    where = f" in {sites} of {record.sites} sites" if sites and record.sites else ""
    return f"stage {stage} carries {percent(amounts[stage] / total, signed=False)} of the added {currency.word}{where}"


_OF_ONE: tuple[Callable[[Group], list[str]], ...] = (
    costs, native, clock_against_macs, reduction_knob, cheapest, stage_share, floor_words, spellings, control, failures,
)
_OF_FEW = tuple(say for say in _OF_ONE if say not in (cheapest, stage_share))

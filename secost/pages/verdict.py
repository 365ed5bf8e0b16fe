"""The verdict of a report in words: the answer, why it is that one, what to do next, and which conclusions are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secost.answers.evidence import trained_seeds, weighed
from secost.answers.families import axis_families, runtime_families
from secost.answers.groups import COUNTED, LATENCY, Group, group_records
from secost.answers.verdict import Answer, Reason, Verdict, control_failed, judge
from secost.pages.conclusions import (
    SINGLE,
    clock_against_macs,
    control,
    costs,
    failures,
    native,
    range_over,
    reduction_knob,
    spellings,
)
from secost.pages.wording import axis_words, benefit_words, floor_words, gain_words, runtime_summary
from secost.runs.records import Gain, Record
from secost.writing import joined, percent_interval

FEW_GROUPS = 3
_FEW_LABELS = 8
_MOST_FAMILIES = 4
_OF_FEW: tuple[Callable[[Group], list[str]], ...] = (
    costs, native, clock_against_macs, reduction_knob, floor_words, spellings, control, failures,
)

_BRING_GAIN = (
    "weigh the cost against the accuracy gain: train both networks with one recipe, or take the gain that a paper "
    "reports within one table"
)
# Why, and what to do next. The words in braces are figures of the verdict.
_REASONS = {
    Reason.GAINS: ("{best} gains {gain} ({source}) {price}",
                   "find the cheapest choice within your limits: `secost budget RUN {limit}`"),
    Reason.NOT_EVERY_INTERVAL: ("not every gain has an interval ({source}), so they may be luck",
                                "train from several seeds: `secost train MODEL --seeds 5`"),
    Reason.NO_GAIN: ("no variant gains more than {least:.2f} points ({source})",
                     "leave attention out, or try it on the data that matters"),
    Reason.GAIN_MAY_HIDE: ("no gain could be told from none ({source}); up to {most:.2f} points may hide in the "
                           "intervals", "train from more seeds: `secost train MODEL --seeds 10`"),
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
    """A verdict in words: the answer, why it is that one, what to do next, and one plain sentence a conclusion.

    The text holds names as they were given: whoever shows it cleans it (`secost.writing`).
    """

    answer: Answer
    reason: str
    next_step: str
    sentences: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """`Can't tell: <reason>.`"""
        return f"{self.answer[0].upper()}{self.answer[1:]}: {self.reason}."


def state(records: Sequence[Record], gains: Sequence[Gain] = ()) -> Statement:
    """What is said of all comparisons among the records, with what their variants gain where that is known."""
    groups = group_records(records)
    items = weighed(groups, gains)
    verdict = judge(records, gains)
    reason, next_step = _REASONS[verdict.reason]
    figures = _figures(verdict)
    bought = benefit_words(items, trained_seeds(records)) if items else []
    return Statement(verdict.answer, reason.format(**figures), next_step.format(**figures),
                     (*bought, *_sentences(groups)))


def _figures(verdict: Verdict) -> dict[str, object]:
    """The figures that a reason or a next step tells."""
    most = verdict.most or 0.0
    figures: dict[str, object] = {"source": verdict.source, "most": most, "least": max(most, 0.0)}
    if verdict.best is None:
        return figures
    record = verdict.best.record
    timed = record.latency_overhead is not None
    return {**figures, "best": record.label, "gain": gain_words(verdict.best.gain), "price": _price(record),
            "limit": "--max-latency 2%" if timed else "--max-params 5%"}


def _price(record: Record) -> str:
    if record.latency_overhead is None:
        return "for a time that was not measured"
    ends = record.latency_overhead_low, record.latency_overhead_high
    return f"for {percent_interval(record.latency_overhead, *ends)} time"


def _sentences(groups: list[Group]) -> list[str]:
    if len(groups) == 1:
        return [sentence for say in SINGLE for sentence in say(groups[0])]
    if len(groups) <= FEW_GROUPS:
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
    parts = []
    for currency in (*COUNTED, LATENCY):
        shown = range_over(group.overhead(record, currency) for group, record in pairs)
        if shown is not None:
            parts.append(f"{currency.word} {shown}")
    where = f"Over {len(pairs)} comparisons" if len(pairs) > 1 else "In one comparison"
    return f"{where}, {label}: {joined(parts) if parts else 'no overhead is known'}."


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
        shown = [*failed[:3], *([f"{len(failed) - 3} more"] if len(failed) > 3 else [])]
        sentences.append(f"The negative control failed in {len(failed)} of {len(groups)} comparisons "
                         f"({joined(shown)}): their times can't be trusted.")
    return sentences

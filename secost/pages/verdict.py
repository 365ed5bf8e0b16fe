"""The verdict of a report as a value: is the attention worth its cost, why, and what to do next.

Records tell the cost, never the gain. So from records alone the question of worth stays open ("can't tell"), and the
sentences say what was decided: the cost, and how far it can be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from secost.answers.axes import axis_families, axis_words, runtime_families, runtime_summary
from secost.answers.benefits import WORTH, Weighed, benefit_words, gain_words, trained_seeds, weighed
from secost.answers.currencies import COUNTED, LATENCY
from secost.answers.floor import floor_words
from secost.answers.groups import Group, group_records
from secost.numbers import joined, percent_interval
from secost.pages.conclusions import (
    SINGLE,
    clock_against_macs,
    control,
    control_failed,
    costs,
    failures,
    native,
    range_over,
    reduction_knob,
    spellings,
)
from secost.runs.gain import Gain
from secost.runs.records import Record

Answer = Literal["worth it", "not worth it", "can't tell"]
FEW_GROUPS = 3
_FEW_LABELS = 8
_MOST_FAMILIES = 4
_NOT_WORTH_A_LOOK = 0.5  # points of accuracy
_OF_FEW: tuple[Callable[[Group], list[str]], ...] = (
    costs, native, clock_against_macs, reduction_knob, floor_words, spellings, control, failures,
)

_BRING_GAIN = (
    "weigh the cost against the accuracy gain: train both networks with one recipe, or take the gain that a paper "
    "reports within one table"
)


@dataclass(frozen=True)
class Verdict:
    """The answer, why it is that one, what to do next, and one plain sentence for each conclusion.

    The text holds names as they were given: whoever shows it cleans it (`secost.cleaning`).
    """

    answer: Answer
    reason: str
    next_step: str
    sentences: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """`Can't tell: <reason>.`"""
        return f"{self.answer[0].upper()}{self.answer[1:]}: {self.reason}."


def decide(records: Sequence[Record], gains: Sequence[Gain] = ()) -> Verdict:
    """The verdict on all comparisons among the records, with what their variants gain where that is known."""
    groups = group_records(records)
    compared = [group for group in groups if group.compared]
    items = weighed(groups, gains)
    answer, reason, next_step = _weigh(items) if items else ("can't tell", *_reason(records, compared))
    bought = benefit_words(items, trained_seeds(records)) if items else []
    return Verdict(answer, reason, next_step, (*bought, *_sentences(groups)))


def _weigh(items: Sequence[Weighed]) -> tuple[Answer, str, str]:
    """By what was gained: an interval above 0 is a gain; whether it is worth the price beside it is the user's word."""
    source = items[0].gain.source
    worth = [item for item in items if item.answer == WORTH]
    if worth:
        best = max(worth, key=lambda item: item.gain.points)
        limit = "--max-params 5%" if best.record.latency_overhead is None else "--max-latency 2%"
        return ("worth it", f"{best.record.label} gains {gain_words(best.gain)} ({source}) {_price(best.record)}",
                f"find the cheapest choice within your limits: `secost budget RUN {limit}`")
    known = [item.gain.high for item in items if item.gain.high is not None]
    if len(known) < len(items):
        return ("can't tell", f"not every gain has an interval ({source}), so they may be luck",
                "train from several seeds: `secost train MODEL --seeds 5`")
    if max(known) <= _NOT_WORTH_A_LOOK:
        return ("not worth it", f"no variant gains more than {max(max(known), 0.0):.2f} points ({source})",
                "leave attention out, or try it on the data that matters")
    return ("can't tell", f"no gain could be told from none ({source}); up to {max(known):.2f} points may hide in the "
            "intervals", "train from more seeds: `secost train MODEL --seeds 10`")


def _price(record: Record) -> str:
    if record.latency_overhead is None:
        return "for a time that was not measured"
    ends = record.latency_overhead_low, record.latency_overhead_high
    return f"for {percent_interval(record.latency_overhead, *ends)} time"


def _reason(records: Sequence[Record], compared: list[Group]) -> tuple[str, str]:
    """Why worth can't be told, and the step that would help most."""
    if not records:
        return "there are no records", "run `secost profile MODEL` first"
    if not compared:
        if any(record.error for record in records):
            return "no variant could be counted or measured", "see the errors, and run the same command again"
        return "there is a baseline and nothing to compare it with", "name an attention with --attention se"
    if all(group.baseline is None for group in compared):
        return "no baseline finished, so what the variants add is unknown", "run the same command again to fill it in"
    if any(control_failed(group) for group in compared):
        return ("the counted cost is known, the measured time can't be trusted (the negative control failed), and the "
                "gain is not known", "close other programs and measure again; then " + _BRING_GAIN)
    if not any(group.has(LATENCY) for group in compared):
        return ("the cost was counted only: neither its time nor the gain is known",
                "measure the time (without --no-latency), and " + _BRING_GAIN)
    return "the cost is known, the gain is not: these records hold no accuracy", _BRING_GAIN


def _sentences(groups: list[Group]) -> list[str]:
    if len(groups) == 1:
        return [sentence for say in SINGLE for sentence in say(groups[0])]
    if len(groups) <= FEW_GROUPS:
        found = [f"{group.label}: {sentence}" for group in groups for say in _OF_FEW for sentence in say(group)]
        return [*_across(groups), *found]
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
    found = [_range_sentence(label, groups) for label in labels[:_FEW_LABELS]]
    if len(labels) > _FEW_LABELS:
        found.append(f"{len(labels) - _FEW_LABELS} more variants are in the table.")
    found += _timing_of_many(groups)
    failed = sum(len(group.failed) for group in groups)
    if failed:
        found.append(f"{failed} of {sum(len(group.records) for group in groups)} trials failed; the table names them.")
    return found


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
    found = [f"{apart} of {len(intervals)} time overheads are distinguishable from 0: their intervals exclude it."]
    if failed:
        shown = [*failed[:3], *([f"{len(failed) - 3} more"] if len(failed) > 3 else [])]
        found.append(f"The negative control failed in {len(failed)} of {len(groups)} comparisons ({joined(shown)}): "
                     "their times can't be trusted.")
    return found

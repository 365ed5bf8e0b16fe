"""The gains of the one source that was asked for: published, the user's file, or what the run itself trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from secost.answers.accuracy_file import file_gains, read_accuracies
from secost.answers.benefits import trained_gains, unmatched
from secost.answers.groups import group_records
from secost.answers.published_gains import gains_for
from secost.answers.published_times import plain_name
from secost.errors import BadSpecError, UnknownNameError
from secost.runs.gain import FILE, SOURCES, TRAINED, Gain
from secost.runs.records import Record


def gains_from(source: str | None, accuracy: str | None, records: Sequence[Record]) -> tuple[list[Gain], list[str]]:
    """Gains for the variants among the records, and a line on each that found no variant.

    Without a source, a file where one is given, else nothing. Raises UnknownNameError for another source, BadSpecError
    where it has nothing for these records, or where two sources were asked for.
    """
    source = source or (FILE if accuracy else None)
    if source is None:
        return [], []
    if source not in SOURCES:
        raise UnknownNameError("source of benefit", source, SOURCES)
    if accuracy and source != FILE:
        raise BadSpecError(f"--benefit {source} and --accuracy are two sources, which are never mixed: keep one")
    if source == FILE:
        return _from_file(accuracy, records)
    gains = trained_gains(records) if source == TRAINED else _from_tables(records)
    if not gains and source == TRAINED:
        raise BadSpecError("no accuracy was trained in this run: make one with secost train MODEL")
    if not gains:
        raise BadSpecError("nothing comparable is published for these networks: secost benefit shows what there is")
    return gains, []


def _from_file(accuracy: str | None, records: Sequence[Record]) -> tuple[list[Gain], list[str]]:
    if accuracy is None:
        raise BadSpecError(f"--benefit {FILE} needs the file: give --accuracy mine.csv")
    found = file_gains(read_accuracies(accuracy, {record.model for record in records}), Path(accuracy).name)
    lost = [f"not in the run: {gain.model} {gain.attention}{'' if gain.reduction is None else f' r={gain.reduction}'}"
            for gain in unmatched(group_records(records), found.gains)]
    return list(found.gains), [*found.unmatched, *lost]


def _from_tables(records: Sequence[Record]) -> list[Gain]:
    """For each variant, what was published for its own network: one row a source, recipe and table."""
    found: list[Gain] = []
    for group in group_records(records):
        model = group.records[0].model
        found += [replace(gain, model=model) for gain in gains_for(plain_name(model), group.attentions)]
    return found

"""The user's own accuracies: a CSV, `model,attention,reduction,placement,top1[,seed]`, one row a trained network.

Rows are paired by model, placement and seed with the network without attention, so that a gain compares like with like;
what finds no partner is listed, never dropped. Accuracies are in percent; where all are fractions they are read so, and
it is said.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from secost.answers.groups import grouped
from secost.errors import BadSpecError, one_line
from secost.plan.trials import BASELINE
from secost.runs.records import FILE, Gain
from secost.statistics import paired_difference
from secost.writing import from_csv

COLUMNS = ("model", "attention", "reduction", "placement", "top1")
_MOST_BYTES, _MOST_NAMED = 16 << 20, 3


class Gained(NamedTuple):
    """The gains of one source, and a line on each that has no variant or no partner, with the reason."""

    gains: list[Gain]
    unmatched: list[str]


@dataclass(frozen=True)
class Accuracy:
    """One line of the file: top-1 accuracy of one trained network as it stands there. `line` is its number, from 1."""

    line: int
    model: str
    attention: str
    reduction: int | None
    placement: str | None
    top1: float
    seed: int | None


def read_accuracies(path: str | Path, known_models: Collection[str] | None = None) -> list[Accuracy]:
    """Every row. Raises BadSpecError, naming the line, for missing columns, unknown models, and accuracies that are
    neither percentages nor all fractions."""
    path = Path(path)
    reader = csv.DictReader(io.StringIO(_text(path)))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        given = ", ".join(reader.fieldnames or ()) or "none"
        raise BadSpecError(f"{str(path)!r} lacks the column {', '.join(missing)}: expected {','.join(COLUMNS)}[,seed], "
                           f"found {given}")
    try:
        rows = [_accuracy(path, reader.line_num, values) for values in reader]
    except csv.Error as error:
        raise BadSpecError(f"{str(path)!r} is not CSV: {one_line(error)}") from None
    if not rows:
        raise BadSpecError(f"{str(path)!r} has no row below its header: give one line a trained network")
    if known_models is not None and not any(row.model in known_models for row in rows):
        strange = list(dict.fromkeys(row.model for row in rows))
        raise BadSpecError(f"{str(path)!r} has none of the models at hand: found {', '.join(strange[:_MOST_NAMED])}, "
                           f"expected {', '.join(sorted(known_models)[:_MOST_NAMED])}")
    _check_one_unit(path, rows)
    return rows


def _check_one_unit(path: Path, rows: Sequence[Accuracy]) -> None:
    """Raise BadSpecError where some accuracies look like fractions and others like percentages."""
    small = [row for row in rows if row.top1 <= 1]
    large = [row for row in rows if row.top1 > 1]
    if any(row.top1 for row in small) and large:
        first = next(row for row in small if row.top1)
        raise BadSpecError(f"{str(path)!r} mixes fractions and percentages: top1 {first.top1:g} in line {first.line}, "
                           f"{large[0].top1:g} in line {large[0].line}; write all in percent")


def _in_percent(rows: Sequence[Accuracy], name: str) -> tuple[list[Accuracy], list[str]]:
    """The rows with accuracies in percent, and a line where they were fractions."""
    if any(row.top1 > 1 for row in rows) or not any(row.top1 for row in rows):
        return list(rows), []
    first = rows[0].top1
    return ([replace(row, top1=100 * row.top1) for row in rows],
            [f"{name}: its accuracies are fractions, so they were read as such ({first:g} as {100 * first:.2f} %)"])


def gains_of_file(path: str | Path, models: Collection[str], others: Mapping[str, str]) -> Gained:
    """The gains in a file for the models of a run; `others` are its alternatives, each with the model that it is of.

    An alternative is a network of its own in the file, and one beside the run's network here.
    """
    rows = read_accuracies(path, models)
    beside = [replace(row, model=others[row.model], attention=row.model) for row in rows
              if row.model in others and row.attention == BASELINE]
    kept = [row for row in rows if row.model not in others or row.model in models or row.attention != BASELINE]
    gains, told = file_gains([*kept, *beside], Path(path).name)
    return Gained([replace(gain, attention=BASELINE, alternative=gain.attention) if gain.attention in others else gain
                   for gain in gains], told)


def file_gains(accuracies: Sequence[Accuracy], name: str) -> Gained:
    """The gain of each attention over none, by model and placement; `name` is the file's, for the records.

    Seeds are paired where both networks have them; without seeds there is one pair and no interval. Of a network
    without attention the placement means nothing, so its rows serve every placement where it is not told.
    """
    gains: list[Gain] = []
    accuracies, unmatched = _in_percent(accuracies, name)
    groups = grouped((row for row in accuracies if row.attention != BASELINE),
                     lambda row: (row.model, row.attention, row.reduction, row.placement))
    used: set[int] = set()
    for (model, attention, reduction, placement), members in groups.items():
        base = [row for row in accuracies if row.model == model and row.attention == BASELINE
                and row.placement in (None, placement)]
        pairs = _pairs(base, members)
        used |= {row.line for pair in pairs for row in pair}
        unmatched += [_alone(row, base) for row in members if row.line not in used]
        if pairs:
            interval = paired_difference([(first.top1, second.top1) for first, second in pairs])
            gains.append(Gain(
                model, attention, reduction, interval.estimate, interval.low, interval.high, len(pairs), FILE, name,
                placement, None, sum(row.top1 for _, row in pairs) / len(pairs),
                sum(row.top1 for row, _ in pairs) / len(pairs),
            ))
    unmatched += [f"line {row.line}: {row.model} none has no attention beside it" for row in accuracies
                  if row.attention == BASELINE and row.line not in used]
    return Gained(gains, unmatched)


def _pairs(base: Sequence[Accuracy], members: Sequence[Accuracy]) -> list[tuple[Accuracy, Accuracy]]:
    """Partners of one seed each. Rows without a seed are paired where there is exactly one on either side."""
    by_seed = {row.seed: row for row in base}
    if len(by_seed) < len(base):
        return []
    return [(by_seed[row.seed], row) for row in members if row.seed in by_seed]


def _alone(row: Accuracy, base: Sequence[Accuracy]) -> str:
    where = f"line {row.line}: {row.model} {row.attention}"
    if not base:
        return f"{where} has no row without attention (attention none) for this model and placement"
    seeds = [item.seed for item in base]
    if len(set(seeds)) < len(seeds):
        return f"{where}: several rows without attention have the same seed, so none is its partner"
    return f"{where}: no row without attention has seed {row.seed}"


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadSpecError(f"{str(path)!r} is larger than {_MOST_BYTES >> 20} MiB: it is no table of accuracies")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadSpecError(f"can't read the accuracies {str(path)!r}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BadSpecError(f"the accuracies {str(path)!r} are not UTF-8 text (byte {error.start})") from None


def _accuracy(path: Path, line: int, values: dict[str, str | None]) -> Accuracy:
    text = {name: from_csv(value.strip()) for name, value in values.items() if name and value is not None}
    lacking = [name for name in ("model", "top1") if not text.get(name)]
    if lacking:
        raise BadSpecError(f"{str(path)!r}, line {line}: {' and '.join(lacking)} is empty")
    return Accuracy(
        line, text["model"], text.get("attention", "").lower() or BASELINE,
        _whole(path, line, "reduction", text.get("reduction", "")), text.get("placement") or None,
        _percent(path, line, text["top1"]), _whole(path, line, "seed", text.get("seed", "")),
    )


def _whole(path: Path, line: int, name: str, text: str) -> int | None:
    if text.lower() in ("", "none", "na", "n/a"):
        return None
    try:
        number = float(text)  # spreadsheets write 16.0
        if number == int(number) and number >= 0:
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise BadSpecError(f"{str(path)!r}, line {line}: {name} {text!r} is not a whole number")


def _percent(path: Path, line: int, text: str) -> float:
    try:
        value = float(text.removesuffix("%").strip())
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise BadSpecError(f"{str(path)!r}, line {line}: top1 {text!r} is no accuracy in percent, 0 to 100")
    return value

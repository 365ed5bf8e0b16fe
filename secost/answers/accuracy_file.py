"""The user's own accuracies, from a CSV: `model,attention,reduction,placement,top1[,seed]`, one row a trained network.

Rows are paired by model, placement and seed with the network without attention, so that a gain compares like with like;
what finds no partner is listed, never dropped.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from secost.cleaning import from_csv
from secost.errors import BadSpecError, one_line
from secost.runs.gain import FILE, Gain
from secost.statistics import paired_difference

NEEDED = ("model", "attention", "reduction", "placement", "top1")
_MOST_BYTES, _MOST_NAMED = 16 << 20, 3
_NONE = ("", "none")


@dataclass(frozen=True)
class Accuracy:
    """One line of the file: top-1 accuracy in percent of one trained network. `line` is its number, from 1."""

    line: int
    model: str
    attention: str
    reduction: int | None
    placement: str | None
    top1: float
    seed: int | None


@dataclass(frozen=True)
class FileGains:
    """What a file says: the gains, and the lines without a network to hold them against, with the reason."""

    gains: tuple[Gain, ...]
    unmatched: tuple[str, ...]


def read_accuracies(path: str | Path, known_models: Collection[str] | None = None) -> list[Accuracy]:
    """Every row. Raises BadSpecError, naming the line, for missing columns, unknown models, and accuracies that are
    no percentages."""
    path = Path(path)
    reader = csv.DictReader(io.StringIO(_text(path)))
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "none"
        raise BadSpecError(
            f"{str(path)!r} lacks the column {', '.join(missing)}: expected {','.join(NEEDED)}[,seed], found {found}"
        )
    try:
        rows = [_accuracy(path, reader.line_num, values) for values in reader]
    except csv.Error as error:
        raise BadSpecError(f"{str(path)!r} is not CSV: {one_line(error)}") from None
    if not rows:
        raise BadSpecError(f"{str(path)!r} has no row below its header: give one line a trained network")
    _check_models(path, rows, known_models)
    return rows


def file_gains(accuracies: Sequence[Accuracy], name: str) -> FileGains:
    """The gain of each attention over none, by model and placement; `name` is the file's, for the records.

    Seeds are paired where both networks have them; without seeds there is one pair and no interval. Of a network
    without attention the placement means nothing, so its rows serve every placement where it is not told.
    """
    gains: list[Gain] = []
    unmatched: list[str] = []
    groups: dict[tuple[str, str, int | None, str | None], list[Accuracy]] = {}
    for row in accuracies:
        if row.attention != "none":
            groups.setdefault((row.model, row.attention, row.reduction, row.placement), []).append(row)
    used: set[int] = set()
    for (model, attention, reduction, placement), members in groups.items():
        base = [row for row in accuracies if row.model == model and row.attention == "none"
                and row.placement in (None, placement)]
        pairs = _pairs(base, members)
        used |= {row.line for pair in pairs for row in pair}
        unmatched += [_alone(row, base) for row in members if row.line not in used]
        if pairs:
            found = paired_difference([(first.top1, second.top1) for first, second in pairs])
            gains.append(Gain(
                model, attention, reduction, found.estimate, found.low, found.high, len(pairs), FILE, name, placement,
                None, _mean([row.top1 for _, row in pairs]), _mean([row.top1 for row, _ in pairs]),
            ))
    unmatched += [f"line {row.line}: {row.model} none has no attention beside it" for row in accuracies
                  if row.attention == "none" and row.line not in used]
    return FileGains(tuple(gains), tuple(unmatched))


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
    attention = text.get("attention", "").lower()
    return Accuracy(
        line, text["model"], "none" if attention in _NONE else attention,
        _whole(path, line, "reduction", text.get("reduction", "")),
        text.get("placement") or None, _percent(path, line, text["top1"]),
        _whole(path, line, "seed", text.get("seed", "")),
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


def _check_models(path: Path, rows: Sequence[Accuracy], known: Collection[str] | None) -> None:
    if known is None:
        return
    strange = list(dict.fromkeys(row.model for row in rows if row.model not in known))
    if strange and all(row.model not in known for row in rows):
        raise BadSpecError(
            f"{str(path)!r} has none of the models at hand: found {', '.join(strange[:_MOST_NAMED])}, expected "
            f"{', '.join(sorted(known)[:_MOST_NAMED])}"
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

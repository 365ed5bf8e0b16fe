"""How values are written and read: text made safe for where it is shown, numbers with the digits that they carry; and
how a file is written whole.

Names are input: a terminal obeys escape sequences, a spreadsheet runs cells that begin with `=`, a page
runs `</script>`. Every renderer and the command line pass such text through here, and only here; what HTML needs beside
`plain` is its template's escaping. A measured value gets no more digits than its interval carries; an exact count gets
two or three.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Any

from secost.errors import BadSpecError

NA = "N/A"
_MICROSECOND_MS = 1e-3
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALLEST_PERCENT = 1e-5
_SHARE = re.compile(r"([+-]?(?:\d{1,12}\.?\d{0,12}|\.\d{1,12}))\s*(%|pt|pts|points?)?")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


# --- files ---


def write_whole(path: Path, content: bytes, mode: int | None = None) -> Path:
    """Write beside the target and move over it: a reader sees the old file or the new one, and a symbolic link that
    stands at the target is replaced, not followed. It is the user's alone without a `mode`. Raises OSError."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


# --- text ---


def plain(text: object) -> str:
    """One line without control, bidirectional or other invisible characters: safe in a terminal."""
    return "".join(" " if character in "\n\t" else character
                   for character in str(text)
                   if character in "\n\t" or unicodedata.category(character) not in _INVISIBLE)


def for_markdown(text: object) -> str:
    """Escaped so that Markdown shows it as it is, in a table cell too."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", plain(text))


def for_csv(value: Any) -> Any:
    """A text cell that no spreadsheet takes for a formula (CWE-1236); numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def from_csv(value: Any) -> Any:
    """Undoes `for_csv` when secost reads a table that it wrote."""
    escaped = isinstance(value, str) and value.startswith("'") and value[1:].startswith(_FORMULA_STARTS)
    return value[1:] if escaped else value


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity are refused, so what is missing must be None."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def json_for_script(value: Any) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def slug(text: object) -> str:
    """A file name made from any text: letters, digits, dot and dash, with a hash where letters were lost."""
    cleaned = re.sub(r"[^A-Za-z0-9.-]+", "-", plain(text)).strip("-.")[:60]
    if cleaned == str(text):
        return cleaned
    digest = hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cleaned}-{digest}" if cleaned else digest


# --- numbers ---


def percent(fraction: float | None, signed: bool = True) -> str:
    """An exact fraction as percent, two significant digits and whole from 10 on: 0.0990 is `+9.9 %`."""
    if fraction is None:
        return NA
    value = 100.0 * fraction
    if value == 0:
        return "0 %"
    sign = "-" if value < 0 else "+" if signed else ""
    size = abs(value)
    if size < _SMALLEST_PERCENT:
        return f"{sign}<{_SMALLEST_PERCENT:.5f} %"
    return f"{sign}{size:,.{0 if size >= 9.95 else max(1, 1 - math.floor(math.log10(size)))}f} %"


def percent_interval(fraction: float | None, low: float | None, high: float | None, signed: bool = True) -> str:
    """A measured fraction with its interval, in points: `+8.1 % [7.2, 9.0]`; without one, `+8 % [no interval]`."""
    if fraction is None:
        return NA
    if low is None or high is None:
        return f"{percent(fraction, signed)} [no interval]"
    digits = interval_decimals(low, high)
    return f"{_fixed(fraction, digits, signed)} % [{_fixed(low, digits)}, {_fixed(high, digits)}]"


def percent_measured(fraction: float | None, low: float | None, high: float | None) -> str:
    """The measured fraction alone, with as many digits as its interval carries: `+8.1 %`."""
    if fraction is None or low is None or high is None:
        return percent(fraction)
    return f"{_fixed(fraction, interval_decimals(low, high), signed=True)} %"


def interval_decimals(low: float, high: float) -> int:
    """Decimals of a percent whose interval is [low, high] (fractions): to the half-width's first digit, to its
    second where the first is 1. A half-width of 0.9 points gives 1, of 3 points 0, of 1.5 points 1."""
    half = 50.0 * abs(high - low)
    if half == 0:
        return 2
    exponent = math.floor(math.log10(half))
    leading = half / 10.0**exponent
    return min(3, max(0, -exponent + (1 if leading < 2 else 0)))


def quantity(value: float | None, unit: str = "", signed: bool = False) -> str:
    """A count with four significant digits and an SI prefix: 25557032 is `25.56 M`; below 10,000 it is whole."""
    if value is None:
        return NA
    sign = "-" if value < 0 else "+" if signed and value > 0 else ""
    size = abs(value)
    for scale, prefix in _SCALES:
        if size >= scale and (scale > 1e3 or size >= 1e4):
            return f"{sign}{_significant(size / scale, 4)} {prefix}{unit}"
    return f"{sign}{size:,.0f}" + (f" {unit}" if unit else "")


def milliseconds(value: float | None, signed: bool = False) -> str:
    """A time with three significant digits: `31.2 ms`; below a microsecond in nanoseconds, as `136 ns`."""
    if value is None:
        return NA
    sign = "-" if value < 0 else "+" if signed and value > 0 else ""
    if 0 < abs(value) < _MICROSECOND_MS:
        return f"{sign}{_significant(abs(value) * 1e6, 3)} ns"
    return f"{sign}{_significant(abs(value), 3)} ms"


def with_ends(value: float, low: float | None, high: float | None, digits: int, signed: bool = True) -> str:
    """`+0.17 [-0.16, 0.50]`, or the value alone where there is no interval."""
    shown = f"{value:+z.{digits}f}" if signed else f"{value:z.{digits}f}"
    return shown if low is None or high is None else f"{shown} [{low:z.{digits}f}, {high:z.{digits}f}]"


def counted(count: int, word: str) -> str:
    """`1 limit`, `2 limits`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def joined(words: list[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def share_parts(text: str) -> tuple[str, str | None] | None:
    """The number as it is written and its unit (%, points, or none) of `4%`, `0.04`, `1 pt`; None for anything else."""
    match = _SHARE.fullmatch(text)
    return None if match is None else (match[1], match[2])


def parse_share(option: str, text: str) -> float:
    """`4%` or `0.04` as a fraction, 0 or more; a bare number must be below 1, as `4` could mean 4 % or four times.

    Raises BadSpecError for anything else, naming the option.
    """
    written, unit = share_parts(text.strip()) or ("-1", None)
    value = Fraction(written) / (100 if unit else 1)
    if value < 0 or (unit is None and value >= 1) or unit not in (None, "%"):
        raise BadSpecError(f"{option} {text!r} is no share of a time or count: write a percentage such as 1%, or 0")
    return float(value)


def _fixed(fraction: float, digits: int, signed: bool = False) -> str:
    value = round(100.0 * fraction, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:+,.{digits}f}" if signed and value else f"{value:,.{digits}f}"


def _significant(size: float, digits: int) -> str:
    if size == 0:
        return "0"
    return f"{size:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"

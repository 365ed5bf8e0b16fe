"""Makes text that came from outside (model names, paths, exceptions) safe for where it is shown.

Names are input: a terminal obeys escape sequences, a spreadsheet runs cells that begin with `=`, a page
runs `</script>`. Every renderer and the command line pass such text through here, and only here; what HTML needs beside
`plain` is its template's escaping.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


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
    if isinstance(value, str) and value.startswith("'") and value[1:].startswith(_FORMULA_STARTS):
        return value[1:]
    return value


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

"""A page of sections that belongs to no run: what is published, or what a budget allows. Terminal, Markdown, JSON, CSV.

`evidence` and `decisions` say what is on it; here it is laid out and cleaned.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group as Stack
from rich.text import Text

from secost.cleaning import for_csv, for_html, for_markdown, plain, to_json
from secost.pages.page import PlainPage
from secost.render.files import write_files
from secost.render.markdown import section_lines
from secost.render.terminal import console_text, section_parts
from secost.runs.records import SCHEMA

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing

_ENDINGS = {"table": "txt", "json": "json", "csv": "csv", "md": "md"}


def render_page(page: PlainPage, format: str, width: int = 120, color: bool = False) -> str:
    """The page as one text: table, json, csv or md."""
    if format == "json":
        return to_json({"schema": SCHEMA, "kind": page.kind, **page.document}, indent=2) + "\n"
    if format == "csv":
        return _csv(page)
    return _markdown(page) if format == "md" else _terminal(page, width, color)


def write_page(page: PlainPage, folder: Path, format: str) -> Path:
    """The page in its folder, as `KIND.md` and so on. Raises RunError where it can't be written."""
    return write_files(folder, {f"{page.kind}.{_ENDINGS[format]}": render_page(page, format).encode()})[0]


def write_pages(page: PlainPage, folder: Path) -> list[Path]:
    """The page as Markdown, HTML, JSON and CSV, and its figures as PNG. Raises RunError where they can't be written."""
    drawings = list(page.draw()) if page.draw else []
    files = {f"{page.kind}.{_ENDINGS[name]}": render_page(page, name).encode() for name in ("json", "csv")}
    files[f"{page.kind}.md"] = (_markdown(page) + "".join(
        f"\n![{for_markdown(drawing.alt)}]({drawing.name}.png)\n" for drawing in drawings)).encode()
    files[f"{page.kind}.html"] = _html(page, drawings).encode()
    files |= {f"{drawing.name}.png": drawing.png for drawing in drawings}
    files |= page.attached() if page.attached else {}
    return write_files(folder, files)


def _html(page: PlainPage, drawings: Sequence[Drawing]) -> str:
    from secost.render.html import figures_html, section_html, whole_page

    parts = [f'<p class="answer">{for_html(page.headline)}</p>', figures_html(drawings)]
    return whole_page(page.title, "\n".join([*parts, *map(section_html, page.sections)]), ())


def _terminal(page: PlainPage, width: int, color: bool) -> str:
    parts: list[Any] = [Text(plain(page.title), style="bold"), Text(plain(page.headline))]
    for section in page.sections:
        parts += [Text(), *section_parts(section, width)]
    return console_text(Stack(*parts), width, color)


def _markdown(page: PlainPage) -> str:
    parts = [[f"# {for_markdown(page.title)}", "", for_markdown(page.headline)], *map(section_lines, page.sections)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _csv(page: PlainPage) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(page.rows[0] if page.rows else [])
    writer.writerows([[for_csv(value) for value in row.values()] for row in page.rows])
    return out.getvalue()

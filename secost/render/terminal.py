"""A report in a terminal: verdict, what was compared on what, the table. Text is given as Text, never as markup."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from secost.answers.groups import Group
from secost.cleaning import plain
from secost.pages import content
from secost.pages import page as pages
from secost.pages.page import Section
from secost.pages.report import Report
from secost.pages.sections import sections

WIDTH = 120
_WIDE, _MEDIUM = 108, 80
_UNBOUNDED, _NAME_WIDTH = 10_000, 10


def render_table(report: Report) -> dict[str, bytes]:
    """The report as plain text of 120 columns in `report.txt`."""
    return {"report.txt": text(report).encode("utf-8")}


def text(report: Report, width: int = WIDTH, color: bool = False) -> str:
    """What a terminal of this width shows, with colours as escape sequences only where asked for."""
    return console_text(renderable(report, width), width, color)


def console_text(shown: RenderableType, width: int, color: bool = False) -> str:
    """What a console of this width prints, without trailing blanks."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, color_system="standard" if color else None, highlight=False,
        legacy_windows=False, emoji=False, markup=False,
    )
    console.print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def renderable(report: Report, width: int) -> RenderableType:
    """The report for a rich console of this width."""
    parts: list[RenderableType] = [*_verdict(report), Text(), *_compared(report)]
    for group in report.groups:
        parts += [Text(), _comparison(group, width)]
    for section in sections(report):
        parts += [Text(), *section_parts(section, width)]
    parts += _notes(report)
    return Stack(*parts)


def _line(value: object, style: str = "") -> Text:
    return Text(plain(value), style=style)


def _item(value: object, style: str = "") -> RenderableType:
    """A line whose continuation is indented below its text."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(Text("-"), _line(value, style))
    return Padding(grid, (0, 0, 0, 1))


def _verdict(report: Report) -> list[RenderableType]:
    verdict = report.verdict
    parts: list[RenderableType] = [Text.assemble(("Worth it? ", "bold"), (plain(verdict.headline), "bold"))]
    parts += [_item(sentence) for sentence in verdict.sentences]
    return [*parts, Text.assemble(("Next: ", "bold"), plain(verdict.next_step))]


def _compared(report: Report) -> list[RenderableType]:
    lines = content.compared_lines(report)
    shown = lines if len(lines) <= 6 else [*lines[:5], f"{len(lines) - 5} more comparisons"]
    return [Text("Compared", style="bold"), *map(_item, shown), _item(f"on {content.machine_line(report)}")]


def _comparison(group: Group, width: int) -> RenderableType:
    rows = content.rows(group)
    if width < _MEDIUM:
        return Stack(_line(group.label, "bold"), *(_block(row) for row in rows))
    if width >= _WIDE and _fits(table := _table(group.label, rows, stacked=False), width):
        return table
    notes = [_item(f"{row.label}: {row.note}", "yellow") for row in rows if row.note]
    bare = [replace(row, note="") for row in rows]
    table = _table(group.label, bare, stacked=False)
    return Stack(table if _fits(table, width) else _table(group.label, bare, stacked=True), *notes)


def _fits(table: Table, width: int) -> bool:
    """Whether a table needs no line break: one inside a figure, before its unit, makes it hard to read."""
    return Console(width=_UNBOUNDED).measure(table).maximum <= width


def _table(title: str, rows: list[content.Row], stacked: bool) -> Table:
    """One cell a currency; `stacked` puts total and overhead on lines of their own."""
    table = Table(title=_line(title, "bold"), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("Attention", overflow="fold", min_width=8)
    for cell in rows[0].cells:
        table.add_column(cell.currency.title, justify="right", overflow="fold", no_wrap=cell.currency.measured)
    noted = any(row.note for row in rows)
    if noted:
        table.add_column("Notes", overflow="fold", ratio=1)
    for row in rows:
        cells = [_cell(cell, stacked) for cell in row.cells]
        table.add_row(_line(row.label), *cells, *([_line(row.note, "yellow")] if noted else []))
    return table


def _cell(cell: content.Cell, stacked: bool) -> Text:
    known = cell.overhead not in ("", "N/A")
    if not known:
        return _line(cell.total)
    joint = "\n" if stacked else "  "
    style = "bold" if cell.currency.measured else ""
    return Text.assemble(plain(cell.total), joint, (plain(cell.overhead), style))


def _block(row: content.Row) -> RenderableType:
    """One row as a list of lines, for terminals too narrow for a table."""
    lines: list[RenderableType] = [_line(row.label, "bold")]
    for cell in row.cells:
        lines.append(_line(f"  {cell.currency.title}: {_cell(cell, stacked=False).plain}"))
    if row.note:
        lines.append(_line(f"  {row.note}", "yellow"))
    return Stack(*lines)


def section_parts(section: Section, width: int) -> list[RenderableType]:
    """One part of a page for a console of this width."""
    parts: list[RenderableType] = [_line(section.title, "bold"), *map(_item, section.paragraphs)]
    for found in () if section.brief else section.tables:
        parts += [Text(), _text_table(found, width) if width >= _WIDE else _text_blocks(found)]
    return parts


def _text_table(found: pages.Table, width: int) -> RenderableType:
    """On one line a row where that fits, else with intervals on lines of their own, else as blocks."""
    table = _plain_table(found, found.texts)
    if _fits(table, width):
        return table
    broken = [tuple(text if place < found.left else text.replace(" [", "\n[") for place, text in enumerate(row))
              for row in found.texts]
    numbers = [max([*(len(line) for row in broken for line in row[place].split("\n")),
                    *map(len, found.heads[place].split())]) + 2 for place in range(found.left, len(found.heads))]
    if sum(numbers) + _NAME_WIDTH * found.left > width:
        return _text_blocks(found)
    return _plain_table(found, broken, whole=True)


def _plain_table(found: pages.Table, rows: Sequence[Sequence[str]], whole: bool = False) -> Table:
    """`whole` keeps the lines of numbers whole, so that names break in their place."""
    table = Table(title=_line(found.caption), title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, head in enumerate(found.heads):
        number = index >= found.left
        if whole and number:
            widest = max((len(line) for row in rows for line in row[index].split("\n")), default=0)
            head = textwrap.fill(head, max(1, widest, *map(len, head.split())))
        table.add_column(head, justify="right" if number else "left", overflow="fold", no_wrap=whole and number)
    for row in rows:
        table.add_row(*(Text("\n").join(map(_line, text.split("\n"))) for text in row))
    return table


def _text_blocks(found: pages.Table) -> RenderableType:
    """Each row as a list of lines, for terminals too narrow for a table."""
    lines: list[RenderableType] = [_line(found.caption)]
    for row in found.texts:
        lines.append(_line(", ".join(row[: found.left]), "bold"))
        lines += [_line(f"  {head}: {text}") for head, text in
                  zip(found.heads[found.left :], row[found.left :], strict=True) if text]
    return Stack(*lines)


def _notes(report: Report) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for caution in content.caution_lines(report):
        parts.append(_item(f"{caution.code} ({caution.where}): {caution.meaning}; {caution.next_step}.", "yellow"))
    if parts:
        parts = [Text(), Text("Cautions", style="bold"), *parts]
    return [*parts, Text(), *(_line(line, "dim") for line in content.convention_lines(report))]

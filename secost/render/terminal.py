"""A page in a terminal. Every text is cleaned and given as Text, never as markup, and no number is cut."""

from __future__ import annotations

import io
import textwrap

from rich import box
from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from secost.pages.page import TERMINAL, Cell, Column, Kind, Line, Page, Section, Sheet, Tone
from secost.pages.page import Table as PageTable
from secost.writing import NA, plain

_WIDE = 108  # from here on notes may have a column
_UNBOUNDED, _NAME_WIDTH = 10_000, 10
_STYLES = {Tone.ALARM: "bold", Tone.GOOD: "green", Tone.CAUTION: "yellow", Tone.ASIDE: "dim"}


def terminal(page: Page, sheet: Sheet) -> str:
    """What a terminal of the sheet's width shows, with colours as escape sequences only where asked for."""
    blocks = [block for section in page.shown(TERMINAL) for block in _section(section, sheet.width)]
    if page.answer and not page.verdict:
        blocks[0] = Stack(_text(page.title, "bold"), blocks[0])
    parts = [part for block in blocks for part in (Text(), block)]
    out = io.StringIO()
    Console(
        file=out, width=sheet.width, force_terminal=sheet.color, color_system="standard" if sheet.color else None,
        highlight=False, legacy_windows=False, emoji=False, markup=False,
    ).print(Stack(*parts[1:]))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines()) if parts else ""


def _text(value: object, style: str = "") -> Text:
    return Text(plain(value), style=style)


def _section(section: Section, width: int) -> list[RenderableType]:
    """Its blocks, between which a line stays empty."""
    title = [] if section.quiet or not section.title else [_text(section.title, "bold")]
    style = "bold" if section.quiet else ""
    tables = [] if section.brief else [_table(table, width, style) for table in section.tables]
    before, after = [*title, *map(_line, section.lines)], list(map(_line, section.after))
    if tables:
        tables[-1] = Stack(tables[-1], *after)
    else:
        before += after
    return [*([Stack(*before)] if before else []), *tables]


def _line(line: Line) -> RenderableType:
    style = "bold" if line.kind is Kind.VERDICT else _STYLES.get(line.tone, "")
    text = Text.assemble((f"{plain(line.lead)} ", "bold"), plain(line.text)) if line.lead else _text(line.text, style)
    return _item(text) if line.kind is Kind.ITEM else text


def _item(text: Text) -> RenderableType:
    """A line whose continuation is indented below its text."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(Text("-"), text)
    return Padding(grid, (0, 0, 0, 1))


def _table(table: PageTable, width: int, style: str) -> RenderableType:
    """The first that fits: a line a row with notes beside it, the same with notes below, numbers on several lines."""
    table = table.without(lambda column: column.spare)
    if width < table.least_width:
        return _blocks(table, style)
    whole = _grid(table, style)
    if table.ruled or (width >= _WIDE and _fits(whole, width)):
        return whole
    bare = table.without(lambda column: column.note)
    below = [_item(_text(f"{row.cells[0].text}: {cell.text}", "yellow")) for row in table.rows
             for column, cell in zip(table.columns, row.cells, strict=True) if column.note and cell.text]
    return Stack(_numbers_first(bare, width, style), *below)


def _numbers_first(table: PageTable, width: int, style: str) -> RenderableType:
    """On one line a row where that fits, else with additions and intervals on lines of their own, else as blocks."""
    whole = _grid(table, style)
    if _fits(whole, width):
        return whole
    if any(column.added for column in table.columns):
        return _grid(table, style, broken=True)
    needed = sum(_NAME_WIDTH if place < table.left else _widest(table, place) + 2
                 for place in range(len(table.columns)))
    return _blocks(table, style) if needed > width else _grid(table, style, broken=True, kept=True)


def _fits(grid: Table, width: int) -> bool:
    """Whether a table needs no line break: one inside a figure, before its unit, makes it hard to read."""
    return Console(width=_UNBOUNDED).measure(grid).maximum <= width


def _widest(table: PageTable, place: int) -> int:
    """The room that a column needs: its longest line where numbers are broken, its longest word where it has words."""
    column = table.columns[place]
    cells = [_cell(column, row.cells[place], broken=True).plain for row in table.rows]
    lines = [line for cell in cells for line in (cell.split("\n") if column.number else cell.split())]
    return max(map(len, [*lines, *column.title.split()]), default=0)


def _grid(table: PageTable, style: str, broken: bool = False, kept: bool = False) -> Table:
    """The table for rich. `broken` cells have additions, or intervals, on lines of their own; with `kept` the lines of
    numbers, and words beside them, stay whole, so that names break in their place."""
    grid = Table(title=_text(table.above, style) if table.above else None, title_justify="left", pad_edge=table.ruled,
                header_style="bold", box=box.HEAVY_HEAD if table.ruled else None)
    names_width = 8 if any(column.added for column in table.columns) else None
    for place, column in enumerate(table.columns):
        title, beside = plain(column.title), kept and place >= table.left
        if beside:
            title = textwrap.fill(title, max(1, _widest(table, place)))
        grid.add_column(
            Text(title), overflow="fold", ratio=1 if column.note else None,
            justify="right" if column.number and not column.note else "left",
            no_wrap=column.measured or (beside and column.number),
            min_width=_widest(table, place) if beside and not column.number else None if place else names_width,
        )
    for row in table.rows:
        grid.add_row(*(_cell(column, cell, broken) for column, cell in zip(table.columns, row.cells, strict=True)),
                     style=_STYLES.get(row.tone))
    return grid


def _cell(column: Column, cell: Cell, broken: bool = False) -> Text:
    if cell.overhead not in ("", NA):
        return Text.assemble(plain(cell.text), "\n" if broken else "  ",
                             (plain(cell.overhead), "bold" if column.measured else ""))
    text = plain(cell.text)
    return Text(text.replace(" [", "\n[") if broken and column.number else text, "yellow" if column.note else "")


def _blocks(table: PageTable, style: str) -> RenderableType:
    """Each row as a list of lines, for terminals too narrow for a table."""
    lines = [_text(table.above, style)] if table.above else []
    for row in table.rows:
        cells = list(zip(table.columns, row.cells, strict=True))
        lines.append(_text(", ".join(cell.text for _, cell in cells[: table.left]), "bold"))
        lines += [_text(f"  {cell.text}", "yellow") if column.note else
                  _text(f"  {column.title}: {_cell(column, cell).plain}", _STYLES.get(row.tone, ""))
                  for column, cell in cells[table.left:] if cell.text]
    return Stack(*lines)

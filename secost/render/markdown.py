"""A page as Markdown: blocks between which a line stays empty. Every text is escaped here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from secost.pages.page import MARKDOWN, Kind, Line, Page, Section, Sheet, Table
from secost.writing import for_markdown as clean
from secost.writing import plain, slug


def markdown(page: Page, sheet: Sheet) -> str | Mapping[str, bytes]:
    """The page as text; for a folder with its figures, which it links to."""
    figures = page.figures if sheet.files and not page.words_only else ()
    placed = any(section.figures for section in page.sections)
    blocks = [f"# {clean(page.title)}"]
    for section in page.shown(MARKDOWN):
        blocks += _figures(section, page) if section.figures and figures else _section(section, page.title)
    if not placed:
        blocks += [f"![{clean(figure.alt)}]({slug(f'{figure.name}.png')})" for figure in figures]
    text = "\n\n".join(blocks) + "\n"
    if not sheet.files:
        return text
    return {f"{page.kind}.md": text.encode(), **{f"{figure.name}.png": figure.png for figure in figures}}


def _figures(section: Section, page: Page) -> Iterator[str]:
    yield f"## {clean(section.title)}"
    for figure in page.figures:
        yield f"![{clean(figure.title)}]({slug(f'{figure.name}.png')})\n\n{clean(figure.alt)}"


def _section(section: Section, page_title: str) -> Iterator[str]:
    if section.figures:
        return
    if section.title:
        yield f"## {clean(section.title)}"
    yield from _lines(section.lines)
    for table in section.tables:
        if table.above not in ("", page_title):
            yield f"### {clean(table.above)}"
        yield _table(table)
    yield from _lines(section.after)


def _lines(lines: Iterable[Line]) -> Iterator[str]:
    """Paragraphs, and lists of the items that follow one another."""
    for kind, block in itertools.groupby(lines, lambda line: line.kind):
        if kind is Kind.ITEM:
            yield "\n".join(f"- {_line(line)}" for line in block)
        else:
            yield from map(_line, block)


def _line(line: Line) -> str:
    text = clean(line.text)
    if line.kind is Kind.CODE:  # shows text as it is, so only invisible characters are taken out
        return f"{clean(line.lead)}:\n\n" + "\n".join(f"    {plain(part)}" for part in line.text.split("\n"))
    if line.kind is Kind.VERDICT:
        return f"**{text}**"
    if line.kind is Kind.STEP:
        text = text.replace("\\`", "`")
    return f"**{clean(line.lead)}** {text}" if line.lead else text


def _table(table: Table) -> str:
    """A column of numbers stands right; additions have a column of their own."""
    table = table.without(lambda column: column.spare)
    rows = [[(column.title, column.added) for column in table.columns]]
    rows += [[(cell.text, cell.addition or cell.overhead) for cell in row.cells] for row in table.rows]
    shown = [[clean(text) for column, pair in zip(table.columns, row, strict=True)
              for text in pair[: 2 if column.added else 1]] for row in rows]
    rule = [mark for column in table.columns
            for mark in ["---:" if column.number else "---"] * (2 if column.added else 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (shown[0], rule, *shown[1:]))

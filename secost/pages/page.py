"""What a page is: plain data, which renderers lay out and clean. Texts are as given: nothing here is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from secost.writing import NA

if TYPE_CHECKING:
    import pandas as pd

    from secost.figures.drawing import Drawing

TERMINAL, MARKDOWN, HTML = "table", "md", "html"
PAGES = (MARKDOWN, HTML)  # what has room for all


class Kind(StrEnum):
    """What a line is: one of a list, a paragraph, a step with commands in backquotes, a block of code, or the page's
    answer, which is a verdict or a headline."""

    ITEM = "item"
    TEXT = "text"
    STEP = "step"
    CODE = "code"
    VERDICT = "verdict"
    HEADLINE = "headline"


class Tone(StrEnum):
    """How a row or a line is set apart."""

    NONE = ""
    BASELINE = "baseline"
    ALARM = "alarm"
    GOOD = "good"
    CAUTION = "caution"
    ASIDE = "aside"


class Sheet(NamedTuple):
    """What a page is laid out on: a stream of a width, with or without colours, or `files` in a folder."""

    width: int = 120
    color: bool = False
    files: bool = False


@dataclass(frozen=True)
class Line:
    """A line of text; `lead` are its first words, set apart."""

    text: str
    kind: Kind = Kind.ITEM
    lead: str = ""
    tone: Tone = Tone.NONE


@dataclass(frozen=True)
class Column:
    """One column of a table. `meaning` explains its title where a format has room for that.

    `added` is the title under which a format that gives additions a column of their own (Markdown) shows them.
    `measured` numbers are never broken in the middle. A `spare` column tells again what the row's name says, and a
    `note` holds remarks: the one is for formats with room (HTML), the other may stand below the table. `title_left`
    sets the title left, though the numbers below stand right.
    """

    title: str
    number: bool = False
    meaning: str = ""
    added: str = ""
    measured: bool = False
    spare: bool = False
    note: bool = False
    title_left: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and the value to sort by where it has one.

    `added` and `overhead` are texts of what is added to a baseline, absolute and relative. `short` is the text beside a
    spare column, which says the rest.
    """

    text: str
    value: float | None = None
    added: str = ""
    overhead: str = ""
    short: str | None = None

    @property
    def addition(self) -> str:
        """`+2.515 M (+9.8 %)`, or what is known of it."""
        known = [text for text in (self.added, self.overhead) if text not in ("", NA)]
        return f"{known[0]} ({known[1]})" if len(known) == 2 else "".join(known)


@dataclass(frozen=True)
class Row:
    """One row, and how it is set apart."""

    cells: tuple[Cell, ...]
    tone: Tone = Tone.NONE

    @classmethod
    def of(cls, texts: Iterable[str], tone: Tone = Tone.NONE) -> Row:
        return cls(tuple(map(Cell, texts)), tone)


@dataclass(frozen=True)
class Table:
    """A table: columns with their meaning, rows of cells. `sortable` where a reader may want another order.

    `heading` stands above it in place of the caption where there is no caption proper (Markdown, a terminal), and
    `named_by` is the column that names each row. A terminal of fewer columns than `least_width` gets each row as lines.
    A `ruled` table is a list of words: it has rules there, and breaks its cells where it must. `terms` are words and
    meanings.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sortable: bool = False
    heading: str | None = None
    named_by: int = 0
    least_width: int = 108
    ruled: bool = False
    terms: bool = False

    @classmethod
    def of(cls, caption: str, heads: Sequence[str | Column], rows: Iterable[Row | Sequence[str]], left: int = 1,
           **options: Any) -> Table:
        """A table of texts; of heads that are texts the first `left` are of names, the others of numbers."""
        columns = tuple(head if isinstance(head, Column) else Column(head, number=place >= left)
                        for place, head in enumerate(heads))
        return cls(caption, columns, tuple(row if isinstance(row, Row) else Row.of(row) for row in rows), **options)

    @property
    def above(self) -> str:
        """What stands above it where there is no caption proper."""
        return self.caption if self.heading is None else self.heading

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(column.title for column in self.columns)

    @property
    def left(self) -> int:
        """How many columns at the left are names."""
        return next((place for place, column in enumerate(self.columns) if column.number), len(self.columns))

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(cell.text for cell in row.cells) for row in self.rows)

    def without(self, unwanted: Callable[[Column], bool]) -> Table:
        """The table without such columns."""
        kept = [place for place, column in enumerate(self.columns) if not unwanted(column)]
        rows = tuple(Row(tuple(row.cells[place] for place in kept), row.tone) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in kept), rows=rows)


@dataclass(frozen=True)
class Section:
    """One part of a page: lines, tables, and lines `after` those. `key` names it in links.

    A text among its lines is one of a list. A terminal shows no tables of a `brief` section, and no title of a `quiet`
    one. `formats` are those it is for: all where it names none. With `figures` the page's figures stand in it.
    """

    key: str
    title: str
    paragraphs: tuple[str | Line, ...] = ()
    tables: tuple[Table, ...] = ()
    brief: bool = False
    quiet: bool = False
    after: tuple[Line, ...] = ()
    formats: tuple[str, ...] = ()
    figures: bool = False

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(Line(line) if isinstance(line, str) else line for line in self.paragraphs)


@dataclass(frozen=True)
class Page:
    """A title, an answer and sections, and the same as rows (for CSV) and as a document (for JSON). `kind` names files.

    The answer is a headline below the title, or with `verdict` what the page is about: then it opens the first section,
    after the `question`, and a terminal leaves the title out. `rows` are mappings, or a function that makes the table;
    a document is put behind schema and kind, but for one that a function makes, which is whole. `draw` makes the
    figures, `chart` an interactive one as a Vega-Lite specification, and `attached` other files by name; each is called
    only where it is shown. `data_name` names the files of rows and document, where it is not the kind. With
    `words_only` its Markdown has no pictures: it goes where none are, such as the summary of a CI's job.
    """

    kind: str
    title: str
    answer: str
    sections: tuple[Section, ...]
    rows: tuple[Mapping[str, Any], ...] | Callable[[], pd.DataFrame] = ()
    document: Mapping[str, Any] | Callable[[], Any] = field(default_factory=dict)
    draw: Callable[[], Sequence[Drawing]] | None = None
    attached: Callable[[], Mapping[str, bytes]] | None = None
    question: str = ""
    verdict: bool = False
    chart: Callable[[], Mapping[str, Any] | None] | None = None
    data_name: str = ""
    words_only: bool = False

    @classmethod
    def of_rows(cls, title: str, rows: Sequence[Mapping[str, Any]], document: Any = None) -> Page:
        """A list: a table of plain values alone, and in JSON the rows or what `document` is."""
        columns = tuple(Column(name, number=isinstance(value, int)) for row in rows[:1] for name, value in row.items())
        cells = tuple(Row(tuple(Cell(f"{value:,}", value) if isinstance(value, int) else Cell(str(value))
                                for value in row.values())) for row in rows)
        table = Table.of(title, columns, cells, ruled=True, least_width=0, sortable=True)
        return cls("list", title, "", (Section("list", "", (), (table,) if rows else ()),), tuple(rows),
                   lambda: rows if document is None else document)

    @cached_property
    def figures(self) -> Sequence[Drawing]:
        """Drawn once, however many formats show them."""
        return self.draw() if self.draw else ()

    def shown(self, format: str) -> list[Section]:
        """The sections of a format (`html` has all there is room for), the answer in the first."""
        sections = [part for part in self.sections if not part.formats or format in part.formats]
        if not self.answer:
            return sections
        if not self.verdict:
            return [Section("", "", (Line(self.answer, Kind.HEADLINE),)), *sections]
        asked = self.question if format == TERMINAL or self.question != self.title else ""
        line = Line(f"{asked} {self.answer}".strip(), Kind.VERDICT)
        return [replace(sections[0], paragraphs=(line, *sections[0].paragraphs)), *sections[1:]]

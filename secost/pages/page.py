"""What a page is: plain data, which renderers lay out and clean. Texts are as given: nothing here is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing


@dataclass(frozen=True)
class Column:
    """One column of a table. `meaning` explains its title where a format has room for that.

    `added` is the title under which a format that gives additions a column of their own (Markdown) shows them.
    `measured` numbers are never broken in the middle. A `spare` column tells again what the row's name says, and a
    `note` holds remarks: the one is for formats with room (HTML), the other may stand below the table.
    """

    title: str
    number: bool = False
    meaning: str = ""
    added: str = ""
    measured: bool = False
    spare: bool = False
    note: bool = False


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


@dataclass(frozen=True)
class Row:
    """One row. `tone` says how it is set apart: baseline, alarm, good, caution, or not at all."""

    cells: tuple[Cell, ...]
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table: columns with their meaning, rows of cells. `sortable` where a reader may want another order."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sortable: bool = False

    @classmethod
    def of(cls, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
        """A table of texts; the first `left` columns are names, the others numbers."""
        columns = tuple(Column(head, number=place >= left) for place, head in enumerate(heads))
        return cls(caption, columns, tuple(Row(tuple(map(Cell, row))) for row in rows))

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


@dataclass(frozen=True)
class Section:
    """One part of a page. `key` names it in links; `brief` tells that a terminal shows its paragraphs only."""

    key: str
    title: str
    paragraphs: tuple[str, ...]
    tables: tuple[Table, ...]
    brief: bool = False


@dataclass(frozen=True)
class PlainPage:
    """A headline, sections, and the same as rows (for CSV) and as a document (for JSON). `kind` names files.

    `draw` makes the figures and `attached` other files by name, where the page has some; both are made only for a
    folder.
    """

    kind: str
    title: str
    headline: str
    sections: tuple[Section, ...]
    rows: tuple[Mapping[str, Any], ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[], Sequence[Drawing]] | None = None
    attached: Callable[[], Mapping[str, bytes]] | None = None

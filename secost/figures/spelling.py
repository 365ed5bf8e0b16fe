"""Time overhead of each spelling of one attention, the fastest first. Overheads are in percent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from secost.answers.families import OTHER, Spellings
from secost.answers.groups import LATENCY
from secost.figures import marks
from secost.figures.marks import Late, Looks, Point
from secost.writing import joined


@dataclass(frozen=True)
class SpellingFigure:
    """A bar a spelling; `same` is False for another function."""

    title: str
    attention: str
    names: tuple[str, ...]
    points: tuple[Point, ...]
    same: tuple[bool, ...]
    left_out: tuple[str, ...] = ()
    name: ClassVar[str] = "spelling"

    @property
    def alt(self) -> str:
        hollow = "" if all(self.same) else "; hatched: another function"
        return f"Bars of the time overhead of {joined(list(self.names))}, with intervals{hollow}."

    def paint(self, figure: Figure, looks: Looks) -> list[Late]:
        """A bar with its interval each; hollow where it is another function."""
        figure.set_size_inches(7.2, 1.5 + 0.34 * len(self.names))
        axis = figure.subplots()
        look = looks[self.attention]
        for row, (point, same) in enumerate(zip(self.points, self.same, strict=True)):
            marks.percent_bar(axis, row, point, look)
            if not same:
                axis.patches[-1].set(facecolor="white", edgecolor=look.color, hatch="////", linewidth=1.0)
        names = zip(self.names, self.same, strict=True)
        marks.named_rows(axis, [name if same else f"{name} *" for name, same in names])
        marks.room_beside(axis, self.points)
        axis.set_xlabel("time overhead against the network without attention (%)")
        return []


def spelling_figure(table: Spellings) -> SpellingFigure | None:
    """One bar a spelling; None where fewer than two were timed."""
    pairs = [(row, point) for row in table.rows
             if (point := marks.point_of(table.group, row.record, LATENCY)) is not None][:marks.MOST_BARS]
    if len(pairs) < 2:
        return None
    same = tuple(row.standing != OTHER for row, _ in pairs)
    return SpellingFigure(
        f"How {table.label} is written: {table.group.label}", pairs[0][0].record.attention,
        tuple(row.name for row, _ in pairs), tuple(point for _, point in pairs),
        same, () if all(same) else ("Hatched, with *: not the same function, so no equal choice.",),
    )

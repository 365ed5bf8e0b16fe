"""Draws figures with matplotlib: one style, shapes as well as colours, the same bytes every time.

Each figure is a file beside this one: its numbers, as plain values that tests look at, and how it is painted.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from secost.answers.evidence import Weighed
from secost.answers.families import Family, axis_families, compared_spellings, runtime_families
from secost.answers.groups import Group, grouped
from secost.figures.comparisons import axis_figure, backend_figure, spelling_figure
from secost.figures.currencies import currency_figure
from secost.figures.front import benefit_figure, front_figure
from secost.figures.marks import Late, Look, Looks, grid, wrapped
from secost.figures.reduction import reduction_figure
from secost.figures.stages import stage_figure

# Okabe and Ito's palette without its yellow, which is too light on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_HATCHES = ("", "//", "\\\\", "xx", "--", "||", "++", "/")  # lines only: dots make an SVG ten times as large
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "figure.titlesize": 12,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "axes.axisbelow": True, "legend.frameon": False, "svg.hashsalt": "secost", "figure.constrained_layout.use": False,
    "text.usetex": False, "text.parse_math": False, "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False, "hatch.linewidth": 0.6, "path.simplify": True, "figure.autolayout": False,
}
_DPI = 160
_MOST_GROUPS = 3
_MOST_OF_A_KIND = 3


class Info(Protocol):
    """What a figure's file gives: its numbers, their description in a sentence, and how they are painted.

    What `paint` returns is called once the layout stands: it places what depends on that. `left_out` says what does not
    fit a readable figure.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def left_out(self) -> tuple[str, ...]: ...

    @property
    def alt(self) -> str: ...

    def paint(self, figure: Figure, looks: Looks, /) -> list[Late]: ...


@dataclass(frozen=True)
class Drawing:
    """A laid-out figure: file name without ending, title, description. Each kind of bytes is made on first use."""

    name: str
    title: str
    alt: str
    figure: Figure = field(repr=False, compare=False)

    @functools.cached_property
    def png(self) -> bytes:
        return self._saved({}, format="png", dpi=_DPI, metadata={"Software": None})

    @functools.cached_property
    def svg(self) -> bytes:
        """With letters as outlines: it looks the same everywhere. It has no date, so it is the same every time."""
        return self._saved({"svg.fonttype": "path"}, format="svg", metadata={"Date": None, "Creator": None})

    @functools.cached_property
    def svg_for_page(self) -> bytes:
        """With letters as text: a quarter of the size. Other fonts than DejaVu Sans are narrower, so all still fits."""
        return self._saved({"svg.fonttype": "none"}, format="svg", metadata={"Date": None, "Creator": None})

    def _saved(self, style: dict[str, Any], **options: Any) -> bytes:
        out = io.BytesIO()
        with rc_context(_STYLE | style):
            self.figure.savefig(out, **options)
        return out.getvalue()


def draw(groups: Sequence[Group], items: Sequence[Weighed] = ()) -> list[Drawing]:
    """All figures the records carry, in the order of a report; `items` are variants with what they gain."""
    looks = _looks(groups)
    shown, note = shown_groups(groups)
    drawings: list[Drawing] = []
    for index, group in enumerate(shown, 1):
        infos: tuple[Info | None, ...] = (currency_figure(group), reduction_figure(group), stage_figure(group))
        drawings += [_drawn(f"{info.name}-{index}" if len(shown) > 1 else info.name, info, looks, note)
                     for info in infos if info is not None]
    if (front := front_figure(groups)) is not None:
        drawings.insert(1, _drawn(front.name, front, looks))
    return [*_benefits(items, looks), *_over_groups(groups, looks), *drawings]


def shown_groups(groups: Sequence[Group]) -> tuple[list[Group], tuple[str, ...]]:
    """The comparisons that get figures of their own, and a line on the others: all of a few, of many the first."""
    usable = [group for group in groups if group.compared]
    if len(usable) <= _MOST_GROUPS:
        return usable, ()
    return usable[:1], (f"One of {len(usable)} comparisons; the others have no figure of their own.",)


def panels(
    name: str, title: str, alt: str, painters: Sequence[Callable[[Axes], None]], most: int = 2, width: float = 3.6,
    height: float = 2.9,
) -> Drawing:
    """A figure of a study: one axes for each painter, `most` a row, in the style of all, and one legend for all labels.

    `width` and `height` of an axes are in inches.
    """
    with rc_context(_STYLE):
        figure = _blank()
        axes = grid(figure, len(painters), width, height, extra=1.4, most=most)
        for axis, paint in zip(axes, painters, strict=True):
            paint(axis)
        handles: dict[str, Any] = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        if handles:
            figure.legend(handles.values(), handles, loc="outside right upper")
        _lay_out(figure, title, "")
        return Drawing(name, title, alt, figure)


def numbered_look(index: int) -> Look:
    """The look of the so-maniest curve of a study."""
    return Look(_COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)], _HATCHES[index % len(_HATCHES)])


def _looks(groups: Sequence[Group]) -> Looks:
    names = dict.fromkeys(record.attention for group in groups for record in group.compared)
    return {name: numbered_look(index) for index, name in enumerate(names)}


def _benefits(items: Sequence[Weighed], looks: Looks) -> list[Drawing]:
    """Gain against cost, a figure for each of the first few comparisons."""
    by_group = grouped(items, lambda item: item.group.label)
    shown = list(by_group.values())[:_MOST_OF_A_KIND]
    infos = [info for members in shown if (info := benefit_figure(members)) is not None]
    note = _not_shown(len(by_group) - len(shown))
    return [_drawn(f"{info.name}-{index}" if len(infos) > 1 else info.name, info, looks,
                   note if index == len(infos) else ()) for index, info in enumerate(infos, 1)]


def _over_groups(groups: Sequence[Group], looks: Looks) -> list[Drawing]:
    """The figures over several comparisons, and those of spellings: a few of each kind."""
    spellings = [written for group in groups for written in compared_spellings(group)]
    kinds: tuple[list[Info], ...] = (
        [backend_figure(family) for family in runtime_families(groups)],
        [axis_figure(family) for family in _each_axis_first(groups)],
        [bars for written in spellings if (bars := spelling_figure(written)) is not None],
    )
    drawings: list[Drawing] = []
    for infos in kinds:
        note = _not_shown(len(infos) - _MOST_OF_A_KIND)
        for index, info in enumerate(infos[:_MOST_OF_A_KIND], 1):
            taken = sum(drawing.name.startswith(info.name) for drawing in drawings)
            name = f"{info.name}-{taken + 1}" if taken else info.name
            drawings.append(_drawn(name, info, looks, note if index == _MOST_OF_A_KIND else ()))
    return drawings


def _not_shown(count: int) -> tuple[str, ...]:
    return (f"{count} more have no figure of their own.",) if count > 0 else ()


def _each_axis_first(groups: Sequence[Group]) -> list[Family]:
    """Families over batch, resolution and threads, one of each before the second of any: only a few are drawn."""
    by_axis = grouped(axis_families(groups), lambda family: family.axis)
    return [family for row in itertools.zip_longest(*by_axis.values()) for family in row if family is not None]


def _drawn(name: str, info: Info, looks: Looks, note: tuple[str, ...] = ()) -> Drawing:
    with rc_context(_STYLE):
        figure = _blank()
        labels = info.paint(figure, looks)
        _lay_out(figure, info.title, " ".join([*info.left_out, *note]))
        for late in labels:
            late()
        return Drawing(name, info.title, info.alt, figure)


def _blank() -> Figure:
    return FigureCanvasAgg(Figure(layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))).figure


def _lay_out(figure: Figure, title: str, notes: str) -> None:
    """The title above and the notes below; a figure grows by the lines that either takes beyond its first.

    After this the layout stands: what is placed stays where it is, whichever kind of bytes is made first.
    """
    width, height = figure.get_size_inches()
    # A bold letter of the title is about a tenth of an inch wide; a legend may stand at its right.
    above = wrapped(title, min(80, max(40, int((width - 1.6) / 0.105))))
    below = wrapped(notes, 110) if notes else ""
    figure.set_size_inches(width, height + 0.2 * above.count("\n") + 0.15 * below.count("\n"))
    figure.suptitle(above, x=0.01, ha="left", fontweight="bold")
    if below:
        figure.supxlabel(below, x=0.01, ha="left", fontsize=8, color="#555555")
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # "none" leaves one that has each file drawn twice

"""Draws the figures of `figures` with matplotlib: one style, shapes as well as colours, the same bytes every time."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from secost.answers.evidence import Weighed
from secost.answers.families import Family, axis_families, runtime_families, spelling_tables
from secost.answers.groups import Group
from secost.figures import across as across_numbers
from secost.figures import costs as numbers
from secost.figures.across_drawn import paint_axis, paint_backends, paint_spelling
from secost.figures.benefit import BenefitFigure, benefit_figure
from secost.figures.benefit_drawn import paint_benefit
from secost.figures.labelling import labeller, pixels
from secost.figures.labels import Box
from secost.figures.marks import (
    Late,
    Look,
    Looks,
    entitle,
    error_bars,
    fitted,
    from_zero,
    grid,
    percent_bar,
    reach,
    wrapped,
)
from secost.numbers import joined

# Okabe and Ito's palette without its yellow, which is too light on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_HATCHES = ("", "//", "\\\\", "xx", "--", "||", "++", "/")  # lines only: dots make an SVG ten times as large
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "figure.titlesize": 12,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "axes.axisbelow": True, "legend.frameon": False, "svg.hashsalt": "secost",
    "text.usetex": False, "text.parse_math": False, "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False, "hatch.linewidth": 0.6, "path.simplify": True,
}
_DPI = 160
_MOST_ACROSS = 3


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
    shown, note = numbers.shown_groups(groups)
    found: list[Drawing] = []
    for index, group in enumerate(shown, 1):
        suffix = f"-{index}" if len(shown) > 1 else ""
        for name, make, paint in _KINDS:
            info = make(group)
            if info is not None:
                found.append(_drawn(f"{name}{suffix}", info, paint, looks, note))
    front = numbers.front_figure(groups)
    if front is not None:
        found.insert(1 if found else 0, _drawn("pareto", front, _paint_front, looks, ()))
    return [*_benefits(items, looks), *_over_groups(groups, looks), *found]


def panels(
    name: str, title: str, alt: str, painters: Sequence[Callable[[Axes], None]], note: str = "", most: int = 2,
    width: float = 3.6, height: float = 2.9,
) -> Drawing:
    """A figure of a study: one axes for each painter, `most` a row, in the style of all, and one legend for all labels.

    `width` and `height` of an axes are in inches.
    """
    with rc_context(_STYLE):
        figure = Figure(layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        FigureCanvasAgg(figure)
        axes = grid(figure, len(painters), width, height, extra=1.4, most=most)
        for axis, paint in zip(axes, painters, strict=True):
            paint(axis)
        handles: dict[str, Any] = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        if handles:
            figure.legend(handles.values(), handles, loc="outside right upper")
        _frame(figure, title, note)
        return Drawing(name, title, alt, figure)


def numbered_look(index: int) -> Look:
    """The look of the so-maniest curve of a study."""
    return Look(_COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)], _HATCHES[index % len(_HATCHES)])


def _benefits(items: Sequence[Weighed], looks: Looks) -> list[Drawing]:
    """Gain against cost, a figure for each of the first few comparisons."""
    by_group: dict[str, list[Weighed]] = {}
    for item in items:
        by_group.setdefault(item.group.label, []).append(item)
    shown = list(by_group.values())[:_MOST_ACROSS]
    figures = [info for members in shown if (info := benefit_figure(members)) is not None]
    names = ["cost-benefit" if len(figures) == 1 else f"cost-benefit-{index}" for index in range(1, len(figures) + 1)]
    left = len(by_group) - len(shown)
    note = (f"{left} more have no figure of their own.",) if left else ()
    return [_drawn(name, info, paint_benefit, looks, note if info is figures[-1] else ())
            for name, info in zip(names, figures, strict=True)]


def _over_groups(groups: Sequence[Group], looks: Looks) -> list[Drawing]:
    """The figures over several comparisons, and those of spellings: a few of each kind."""
    tables = [table for group in groups for table in spelling_tables(group)]
    wanted: list[tuple[str, Info, Paint]] = [
        *(("backends", across_numbers.backend_figure(family), paint_backends) for family in runtime_families(groups)),
        *(("over-axis", across_numbers.axis_figure(family), paint_axis) for family in _each_axis_first(groups)),
        *(("spelling", bars, paint_spelling) for table in tables
          if (bars := across_numbers.spelling_figure(table)) is not None),
    ]
    found: list[Drawing] = []
    for kind, items in itertools.groupby(wanted, key=lambda item: item[0]):
        listed = list(items)
        note = (f"{len(listed) - _MOST_ACROSS} more have no figure of their own.",)
        for index, (_, info, paint) in enumerate(listed[:_MOST_ACROSS], 1):
            name = f"over-{info.axis}" if isinstance(info, across_numbers.AxisFigure) else kind
            taken = sum(drawing.name.startswith(name) for drawing in found)
            last = index == _MOST_ACROSS and len(listed) > _MOST_ACROSS
            found.append(_drawn(f"{name}-{taken + 1}" if taken else name, info, paint, looks, note if last else ()))
    return found


def _each_axis_first(groups: Sequence[Group]) -> list[Family]:
    """Families over batch, resolution and threads, one of each before the second of any: only a few are drawn."""
    by_axis: dict[str, list[Family]] = {}
    for family in axis_families(groups):
        by_axis.setdefault(family.axis, []).append(family)
    return [family for row in itertools.zip_longest(*by_axis.values()) for family in row if family is not None]


def _drawn(name: str, info: Info, paint: Paint, looks: Looks, note: tuple[str, ...]) -> Drawing:
    with rc_context(_STYLE):
        figure = Figure(layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        FigureCanvasAgg(figure)
        labels = paint(figure, info, looks)
        _frame(figure, info.title, " ".join([*info.left_out, *note]))
        figure.canvas.draw()
        figure.set_layout_engine("none")  # the layout stands: what is placed now stays where it is placed
        for late in labels:
            late()
        return Drawing(name, info.title, _alt(info), figure)


def _frame(figure: Figure, title: str, notes: str) -> None:
    """The title above and the notes below; a figure grows by the lines that either takes beyond its first."""
    width, height = figure.get_size_inches()
    # A bold letter of the title is about a tenth of an inch wide; a legend may stand at its right.
    above = wrapped(title, min(80, max(40, int((width - 1.6) / 0.105))))
    below = wrapped(notes, 110) if notes else ""
    figure.set_size_inches(width, height + 0.2 * above.count("\n") + 0.15 * below.count("\n"))
    figure.suptitle(above, x=0.01, ha="left", fontweight="bold")
    if below:
        figure.supxlabel(below, x=0.01, ha="left", fontsize=8, color="#555555")


def _paint_reduction(figure: Figure, info: numbers.ReductionFigure, looks: Looks) -> list[Late]:
    axes = grid(figure, len(info.panels) + 1, width=3.5, height=2.9)
    for axis, panel in zip(axes, info.panels, strict=False):
        entitle(axis, panel.currency.title)
        for index, line in enumerate(panel.lines):
            shift = 2.0 ** (0.07 * (index - (len(panel.lines) - 1) / 2)) if panel.currency.measured else 1.0
            _curve(axis, line, info.reductions, looks[line.attention], shift, len(panel.lines) - 1 - index)
        _ratio_axis(axis, info.reductions)
        axis.set_ylabel("overhead (%)")
        from_zero(axis, [point for line in panel.lines for point in line.points])
    attentions = dict.fromkeys(line.attention for panel in info.panels for line in panel.lines)
    measured = any(panel.currency.measured for panel in info.panels)
    _legend_in(axes[-1], list(attentions), looks, measured)
    return []


def _curve(
    axis: Axes, line: numbers.Line, reductions: Sequence[int], look: Look, shift: float, above: int,
) -> None:
    """A line over r, or a level where the attention has none. The more lines are drawn above it, the wider it is, so
    that lines that coincide are all seen."""
    values = [point.percent for point in line.points]
    wider = min(above, 4) if shift == 1.0 else 0
    style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.5 + 1.1 * wider,
                             "linewidth": 1.3 + 0.6 * wider}
    if line.reductions:
        across = [r * shift for r in line.reductions]
        axis.plot(across, values, **style)
    else:
        edge = reductions[0] * 2.0**-0.35, reductions[-1] * 2.0**0.35
        across, values = [edge[1]], values[:1]
        axis.plot(edge, values * 2, color=look.color, linewidth=style["linewidth"], linestyle="--")
        axis.plot(across, values, **style, linestyle="none")
    error_bars(axis, across, list(line.points), look)


def _ratio_axis(axis: Axes, reductions: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    shown = reductions if len(reductions) <= 8 else reductions[:: -(-len(reductions) // 8)]
    axis.xaxis.set_major_locator(FixedLocator(list(shown)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(reductions[0] * 2.0**-0.5, reductions[-1] * 2.0**0.5)
    axis.set_xlabel("reduction ratio r")


def _paint_front(figure: Figure, info: numbers.FrontFigure, looks: Looks) -> list[Late]:
    single = len(info.panels) == 1
    axes = grid(figure, len(info.panels), width=6.6 if single else 4.4, height=4.2 if single else 3.6, extra=1.7)
    late: list[Late] = []
    for axis, panel in zip(axes, info.panels, strict=False):
        entitle(axis, panel.title)
        _across(axis, panel)
        axis.set_xlabel(f"added {info.x.word} (%)")
        axis.set_ylabel(f"added {info.y.word} (%)")
        from_zero(axis, [point.y for point in panel.points])
        _front_points(axis, panel, looks)
        late.append(_labeller(axis, panel))
    attentions = list(dict.fromkeys(point.attention for panel in info.panels for point in panel.points))
    handles = _handles(attentions, looks, info.y.measured)
    handles.append(Line2D([], [], color="#777777", linewidth=1, linestyle=":", label="Pareto front"))
    handles.append(Line2D([], [], color="#555555", marker="o", linestyle="none", label="filled: on it"))
    figure.legend(handles=handles, loc="outside right upper")
    return late


def _front_points(axis: Axes, panel: numbers.FrontPanel, looks: Looks) -> None:
    corners = _front_line(axis, panel)
    axis.plot([x for x, _ in corners], [y for _, y in corners], color="#777777", linewidth=1, linestyle=":", zorder=1)
    for point in panel.points:
        look = looks[point.attention]
        face = look.color if point.on_front else "white"
        axis.plot([point.x], [point.y.percent], marker=look.marker, color=look.color, markerfacecolor=face,
                  markersize=7, linestyle="none", zorder=3)
        if point.y.low is not None and point.y.high is not None:
            axis.vlines(point.x, point.y.low, point.y.high, color=look.color, linewidth=1.1, zorder=2)


def _front_line(axis: Axes, panel: numbers.FrontPanel) -> list[tuple[float, float]]:
    """Corners of the staircase from the frame's top to its right edge: what lies above it is beaten."""
    corners: list[tuple[float, float]] = []
    height = axis.get_ylim()[1]
    for point in panel.front:
        corners += [(point.x, height), (point.x, point.y.percent)]
        height = point.y.percent
    return [*corners, (axis.get_xlim()[1], height)]


def _across(axis: Axes, panel: numbers.FrontPanel) -> None:
    """The x axis of a front panel: linear from 0, or logarithmic with plain numbers."""
    values = [point.x for point in panel.points]
    positive = [value for value in values if value > 0]
    if panel.x_scale == "linear":
        low, high = min(0.0, *values), max(0.0, *values)
        room = 0.12 * (high - low or 1.0)
        axis.set_xlim(low - (room if low < 0 else 0.04 * (high or 1.0)), high + room)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        return
    span = max(positive) / min(positive)
    if panel.x_scale == "log":
        axis.set_xscale("log")
        axis.set_xlim(min(positive) / span**0.12, max(positive) * span**0.15)
    else:
        axis.set_xscale("symlog", linthresh=min(positive))
        axis.set_xlim(min(0.0, *values) - min(positive), max(positive) * span**0.2)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _labeller(axis: Axes, panel: numbers.FrontPanel) -> Late:
    points = [panel.points[index] for index in panel.labelled]
    places = [(point.x, point.y.percent) for point in points]
    return labeller(axis, places, [point.label for point in points], lambda: _obstacles(axis, panel))


def _obstacles(axis: Axes, panel: numbers.FrontPanel) -> list[Box]:
    """Markers, error bars and the front, which labels must not cover."""
    found = []
    for point in panel.points:
        x, y = pixels(axis, point.x, point.y.percent)
        found.append(Box(x, y, x, y).grown(6))
        if point.y.low is not None and point.y.high is not None:
            low, high = pixels(axis, point.x, point.y.low)[1], pixels(axis, point.x, point.y.high)[1]
            found.append(Box(x, low, x, high).grown(2))
    corners = [pixels(axis, *corner) for corner in _front_line(axis, panel)]
    for (x, y), (other_x, other_y) in itertools.pairwise(corners):
        found.append(Box(min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)).grown(1))
    return found


def _paint_stage(figure: Figure, info: numbers.StageFigure, looks: Looks) -> list[Late]:
    cells = len(info.panels) + (info.times is not None)
    axes = grid(figure, cells, width=3.5, height=3.2, extra=1.4, most=2 if cells == 4 else 3)
    for axis, panel in zip(axes, info.panels, strict=False):
        entitle(axis, f"Added {panel.currency.word}")
        _stage_bars(axis, info, panel.amounts, looks)
        axis.set_ylabel({"memory": "bytes"}.get(panel.currency.name, panel.currency.word))
        axis.yaxis.set_major_formatter(EngFormatter(unit=panel.currency.unit))
    handles, labels = axes[0].get_legend_handles_labels()
    if info.times is not None:
        entitle(axes[-1], "Time inside the modules" + (", and its floor" if info.times.has_floor else ""))
        _stage_bars(axes[-1], info, info.times.direct, looks)
        axes[-1].set_ylabel("ms")
        _stage_floors(axes[-1], info.times)
        if info.times.has_floor:
            handles.append(Line2D([], [], color="#111111", linewidth=2.2, label="floor"))
            labels.append("floor")
    figure.legend(handles, labels, loc="outside right upper")
    return []


def _stage_bars(
    axis: Axes, info: numbers.StageFigure, amounts: Sequence[Sequence[float | None]], looks: Looks,
) -> None:
    """Bars side by side for each stage; what is not known has none."""
    count = len(info.labels)
    for index, row in enumerate(amounts):
        look = looks[info.attentions[index]]
        known = [(stage, value) for stage, value in enumerate(row) if value is not None]
        middle = [_bar_middle(stage, index, count) for stage, _ in known]
        axis.bar(middle, [value for _, value in known], width=0.8 / count * 0.92, color=look.color, hatch=look.hatch,
                 edgecolor="white", linewidth=0.5, label=fitted(info.labels[index]))
    axis.set_xticks(range(len(info.stages)), [str(stage) for stage in info.stages])
    axis.set_xlabel("stage")
    axis.yaxis.set_major_locator(MaxNLocator(6))  # not by the size of the axes, which the layout still changes
    axis.grid(axis="x", visible=False)


def _stage_floors(axis: Axes, times: numbers.StageTimes) -> None:
    """A dark line across each bar at its floor."""
    count = len(times.floors)
    for index, row in enumerate(times.floors):
        for stage, value in enumerate(row):
            if value is not None:
                middle, half = _bar_middle(stage, index, count), 0.4 / count
                axis.hlines(value, middle - half, middle + half, color="#ffffff", linewidth=3.6)
                axis.hlines(value, middle - half, middle + half, color="#111111", linewidth=2.2)


def _bar_middle(stage: int, index: int, count: int) -> float:
    return stage + 0.8 / count * (index - (count - 1) / 2)


def _paint_currency(figure: Figure, info: numbers.CurrencyFigure, looks: Looks) -> list[Late]:
    count = len(info.labels)
    panels = len(info.panels)
    figure.set_size_inches(1.8 + 2.1 * panels, 1.5 + 0.34 * count)
    axes = list(figure.subplots(1, panels, sharey=True, sharex=True, squeeze=False)[0])
    for axis, panel in zip(axes, info.panels, strict=True):
        entitle(axis, f"{panel.currency.title} (%)")
        for row, point in enumerate(panel.points):
            percent_bar(axis, row, point, looks[info.attentions[row]])
        for row, floor in enumerate(panel.floors):
            if floor is not None:
                axis.vlines(floor, row - 0.42, row + 0.42, color="#111111", linewidth=2.2, linestyle=(0, (1.2, 0.6)))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_locator(MaxNLocator(4))
    ends = [value for panel in info.panels for point in panel.points if point for value in reach(point)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = high - low or 1.0
    axes[0].set_xlim(low - (0.05 * span if low < 0 else 0), high + 0.62 * span)
    axes[0].set_yticks(range(count), [fitted(label) for label in info.labels])
    axes[0].set_ylim(count - 0.4, -0.6)
    noted = "; dotted: the floor of the time" if any(panel.has_floor for panel in info.panels) else ""
    axes[panels // 2].set_xlabel(f"overhead against the network without attention (%){noted}")
    return []


def _legend_in(axis: Axes, attentions: Sequence[str], looks: Looks, measured: bool) -> None:
    axis.set_axis_off()
    axis.legend(handles=_handles(attentions, looks, measured), loc="center left")


def _handles(attentions: Sequence[str], looks: Looks, measured: bool) -> list[Line2D]:
    found = [Line2D([], [], color=looks[name].color, marker=looks[name].marker, linewidth=1.4, markersize=6,
                    label=fitted(name)) for name in attentions]
    if measured:
        found.append(Line2D([], [], color="#555555", marker="|", markersize=10, linestyle="none",
                            label="95 % interval"))
    return found


def _looks(groups: Sequence[Group]) -> Looks:
    names = dict.fromkeys(record.attention for group in groups for record in group.compared)
    return {name: numbered_look(index) for index, name in enumerate(names)}


def _alt(info: Info) -> str:
    """One or two sentences for readers who can't see the figure."""
    if isinstance(info, numbers.ReductionFigure):
        names = dict.fromkeys(line.attention for panel in info.panels for line in panel.lines)
        panels = joined([panel.currency.word for panel in info.panels])
        ratios = ", ".join(map(str, info.reductions))
        return f"Lines of the overhead in {panels} over r = {ratios}, for {joined(list(names))}."
    if isinstance(info, numbers.FrontFigure):
        words = [f"{panel.title}: {', '.join(point.label for point in panel.front)}" for panel in info.panels]
        return f"Added parameters against added {info.y.word}, less being better. On the front: {'; '.join(words)}."
    if isinstance(info, numbers.StageFigure):
        panels = joined([panel.currency.word for panel in info.panels])
        timed = "" if info.times is None else ", and the time inside their modules"
        timed += " with its floor" if info.times is not None and info.times.has_floor else ""
        return f"Bars of the {panels} that {joined(list(info.labels))} add in each of {len(info.stages)} stages{timed}."
    if not isinstance(info, numbers.CurrencyFigure):
        return info.alt
    panels = joined([panel.currency.word for panel in info.panels])
    return f"Bars of the overhead in {panels} of {joined(list(info.labels))}, all on one scale."


Info = (
    numbers.ReductionFigure | numbers.FrontFigure | numbers.StageFigure | numbers.CurrencyFigure
    | across_numbers.SpellingFigure | across_numbers.AxisFigure | across_numbers.BackendFigure | BenefitFigure
)
Paint = Callable[[Figure, Any, Looks], list[Late]]
_KINDS: tuple[tuple[str, Callable[[Group], Info | None], Paint], ...] = (
    ("currencies", numbers.currency_figure, _paint_currency),
    ("cost-by-reduction", numbers.reduction_figure, _paint_reduction),
    ("cost-by-stage", numbers.stage_figure, _paint_stage),
)

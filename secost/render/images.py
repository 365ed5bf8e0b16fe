"""The figures as files: `png` and `svg`. matplotlib is imported only when one of them is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secost.pages.report import Report

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing


def render_png(report: Report) -> dict[str, bytes]:
    """Each figure as a PNG of 160 dots an inch."""
    return {f"{drawing.name}.png": drawing.png for drawing in drawings(report)}


def render_svg(report: Report) -> dict[str, bytes]:
    """Each figure as an SVG without a date, so that equal reports give equal bytes."""
    return {f"{drawing.name}.svg": drawing.svg for drawing in drawings(report)}


def drawings(report: Report) -> list[Drawing]:
    """The figures of the report, drawn on first use and kept with it."""
    if "drawings" not in report.drawn:
        from secost.figures.drawing import draw

        report.drawn["drawings"] = draw(report.groups, report.weighed)
    found: list[Drawing] = report.drawn["drawings"]
    return found

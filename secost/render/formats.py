"""Formats by name, and reports rendered in several of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secost.errors import BadSpecError
from secost.pages.report import Renderer, Report
from secost.registry import Registry
from secost.render import exports, html, images, markdown, terminal
from secost.render.files import write_files

RENDERERS: Registry[Renderer] = Registry("format")
RENDERERS.register("table", terminal.render_table)
RENDERERS.register("json", exports.render_json)
RENDERERS.register("csv", exports.render_csv)
RENDERERS.register("md", markdown.render_markdown)
RENDERERS.register("html", html.render_html)
RENDERERS.register("png", images.render_png)
RENDERERS.register("svg", images.render_svg)

TEXT_FORMATS = ("table", "json", "csv", "md")


def render_text(report: Report, format: str, width: int = terminal.WIDTH, color: bool = False) -> str:
    """The report as one text for stdout. `width` and `color` are for the table."""
    if format == "table":
        return terminal.text(report, width, color)
    if format == "json":
        return exports.json_text(report)
    if format == "csv":
        return exports.csv_text(report.records)
    if format == "md":
        return markdown.text(report)
    RENDERERS.get(format)  # raises where the name is unknown
    raise BadSpecError(f"format {format!r} is written to files: give a directory with -o, or use one of "
                       f"{', '.join(TEXT_FORMATS)}")


def write_report(report: Report, directory: str | Path, formats: Sequence[str]) -> list[Path]:
    """Render the formats and write their files into the directory, each whole or not at all.

    All formats are rendered before the first file is written. Raises RunError where the directory can't be written.
    """
    directory = Path(directory)
    renderers = [RENDERERS.get(name) for name in formats]
    files: dict[str, bytes] = {}
    for renderer in renderers:
        files.update(renderer(report))
    return write_files(directory, files)

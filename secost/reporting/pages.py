"""Formats by name, and the one place where reports are written to a directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from secost.cleaning import slug
from secost.errors import BadSpecError, RunError
from secost.registry import Registry
from secost.reporting import exports, html, images, markdown, terminal
from secost.reporting.report import Renderer, Report

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
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [_write(directory / slug(name), content) for name, content in files.items()]
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"can't write the report to {str(directory)!r}: {reason}") from error


def _write(path: Path, content: bytes) -> Path:
    """Write beside the target and move over it: a reader sees the old file or the new one, and a symbolic link that
    stands at the target is replaced, not followed."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

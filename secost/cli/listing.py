"""`secost list`: what secost has. Not named `list.py`, which would hide the builtin from the whole package."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from secost.cli import options
from secost.cli.output import print_rows
from secost.cli.progress import note
from secost.errors import RunError

listing = typer.Typer(
    help="List models, attention, placements, backends or datasets.", no_args_is_help=True, rich_markup_mode=None
)
ROW_FORMATS = ("table", "json", "csv")
RowFormat = Annotated[str, typer.Option("--format", help="table, json or csv.")]
RowOutput = Annotated[str | None, typer.Option("-o", "--output", help="File to write instead of stdout.")]


@listing.command("models")
def list_models(
    pattern: Annotated[str, typer.Argument(help="A name with * in it.")] = "*",
    format: RowFormat = "table",
    output: RowOutput = None,
) -> int:
    """Names of networks: timm's bare, others with their prefix."""
    from fnmatch import fnmatch

    from secost.networks.sources import SOURCES

    rows = []
    for name in SOURCES.names():
        source = SOURCES.get(name)
        prefix = "" if name == "timm" else f"{name}:"
        rows += [{"model": f"{prefix}{model}", "source": name} for model in source.names() if fnmatch(model, pattern)]
    if not rows:
        note(f"no network's name matches {pattern!r}: write '*resnet*' for all that hold it")
    put_rows(f"{len(rows)} networks", rows, format, output)
    return 0


@listing.command("attention")
def list_attention(format: RowFormat = "table", output: RowOutput = None) -> int:
    """Kinds of attention, what they do and where they come from."""
    from secost.networks.attention import ATTENTION

    kinds = [ATTENTION.get(name) for name in ATTENTION.names()]
    rows = [
        {
            "attention": kind.name, "reduction": "yes" if kind.has_reduction else "no", "summary": kind.summary,
            "parameters": " ".join((kind.params.__doc__ or "").split()), "citation": kind.citation,
        }
        for kind in kinds
    ]
    put_rows(f"{len(rows)} attentions, beside none (stripped) and native (as shipped)", rows, format, output)
    return 0


@listing.command("placements")
def list_placements(format: RowFormat = "table", output: RowOutput = None) -> int:
    """Which sites a placement chooses."""
    from secost.glossary import PLACEMENTS

    rows = [{"placement": name, "sites": meaning} for name, meaning in PLACEMENTS.items()]
    put_rows("placements", rows, format, output)
    return 0


@listing.command("datasets")
def list_datasets(format: RowFormat = "table", output: RowOutput = None) -> int:
    """What secost train can train on."""
    from secost.training.datasets import DATASETS

    rows = [{"dataset": name, "summary": DATASETS.get(name).summary} for name in DATASETS.names()]
    put_rows("datasets, beside any folder with train/CLASS and test/CLASS", rows, format, output)
    return 0


@listing.command("backends")
def list_backends(format: RowFormat = "table", output: RowOutput = None) -> int:
    """What can run a network here."""
    from secost.meters.backends.offered import BACKENDS, missing_here

    rows = []
    for name in BACKENDS.names():
        backend = BACKENDS.get(name)
        rows.append({
            "backend": name, "summary": backend.summary, "precisions": ", ".join(backend.precisions),
            "devices": ", ".join(backend.devices), "memory_formats": ", ".join(backend.memory_formats),
            "missing_here": "; ".join(missing_here(backend)),
        })
    put_rows("backends", rows, format, output)
    return 0


def put_rows(title: str, rows: list[dict[str, Any]], format: str, output: str | None) -> None:
    options.check_format(format, ROW_FORMATS)
    if output is None:
        _write_rows(title, rows, format, sys.stdout)
        return
    buffer = io.StringIO()
    _write_rows(title, rows, format, buffer)
    try:
        Path(output).write_text(buffer.getvalue(), encoding="utf-8")
    except OSError as error:
        raise RunError(f"can't write {output!r}: {error.strerror or error}") from None


def _write_rows(title: str, rows: list[dict[str, Any]], format: str, file: TextIO) -> None:
    import csv

    from secost.cleaning import for_csv, to_json

    if format == "table":
        print_rows(title, rows, file)
    elif format == "json":
        file.write(to_json(rows, indent=2) + "\n")
    else:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0] if rows else [])
        writer.writerows([[for_csv(value) for value in row.values()] for row in rows])

"""`secost sites` and `secost list`: what a network has, and what secost has."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from secost.cli import options
from secost.cli.measuring import Model
from secost.cli.progress import note
from secost.cli.rendering import print_rows
from secost.errors import RunError

listing = typer.Typer(
    help="List models, attention, placements, backends or datasets.", no_args_is_help=True, rich_markup_mode=None
)
_FORMATS = ("table", "json", "csv")
RowFormat = Annotated[str, typer.Option("--format", help="table, json or csv.")]
RowOutput = Annotated[str | None, typer.Option("-o", "--output", help="File to write instead of stdout.")]


def sites(
    model: Model,
    placement: options.Placement = None, integration: options.Integration = None, stages: options.Stages = None,
    resolution: options.Resolution = None, example: options.Example = None,
    allow_download: options.Download = False,
    format: RowFormat = "table",
    output: RowOutput = None,
) -> int:
    """Where attention can sit in a network."""
    options.check_format(format, _FORMATS)
    chosen = options.integers("stages", stages) if stages and stages != "all" else None
    from secost.networks import surgery
    from secost.networks.sources import load, load_example

    net = load(model, allow_download)
    found = surgery.sites(
        net, placement or "auto", integration or "standard", chosen,
        options.integers("resolution", resolution)[0] if resolution else 224,
        load_example(example) if example else None,
    )
    rows = [_row(site) for site in found]
    if not rows:
        note(f"{model} has no {placement or 'auto'} site; secost list placements tells what the others are")
    if format == "table":
        rows = _without_constant(rows)
    _put(f"{model}: {len(rows)} sites", rows, format, output)
    return 0


def _without_constant(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the columns that say the usual for every site: a narrow terminal has better use for the room."""
    usual = {"side": "output", "calls": 1, "occupied_by": ""}
    hidden = {name for name, value in usual.items() if all(row[name] == value for row in rows)}
    return [{name: value for name, value in row.items() if name not in hidden} for row in rows]


def _row(site: Any) -> dict[str, Any]:
    return {
        "path": site.path, "side": site.side, "channels": site.channels, "height": site.height, "width": site.width,
        "stage": site.stage, "placement": site.placement, "calls": site.calls, "occupied_by": site.occupied_by or "",
    }


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
    _put(f"{len(rows)} networks", rows, format, output)
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
    _put(f"{len(rows)} attentions, beside none (stripped) and native (as shipped)", rows, format, output)
    return 0


@listing.command("placements")
def list_placements(format: RowFormat = "table", output: RowOutput = None) -> int:
    """Which sites a placement chooses."""
    from secost.glossary import PLACEMENTS

    rows = [{"placement": name, "sites": meaning} for name, meaning in PLACEMENTS.items()]
    _put("placements", rows, format, output)
    return 0


@listing.command("datasets")
def list_datasets(format: RowFormat = "table", output: RowOutput = None) -> int:
    """What secost train can train on."""
    from secost.benefit.datasets import DATASETS

    rows = [{"dataset": name, "summary": DATASETS.get(name).summary} for name in DATASETS.names()]
    _put("datasets, beside any folder with train/CLASS and test/CLASS", rows, format, output)
    return 0


@listing.command("backends")
def list_backends(format: RowFormat = "table", output: RowOutput = None) -> int:
    """What can run a network here."""
    from secost.meters.backends import BACKENDS, missing_here

    rows = []
    for name in BACKENDS.names():
        backend = BACKENDS.get(name)
        rows.append({
            "backend": name, "summary": backend.summary, "precisions": ", ".join(backend.precisions),
            "devices": ", ".join(backend.devices), "memory_formats": ", ".join(backend.memory_formats),
            "missing_here": "; ".join(missing_here(backend)),
        })
    _put("backends", rows, format, output)
    return 0


def _put(title: str, rows: list[dict[str, Any]], format: str, output: str | None) -> None:
    options.check_format(format, _FORMATS)
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

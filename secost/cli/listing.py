"""`secost list`: what secost has. Not named `list.py`, which would hide the builtin from the whole package."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from secost.cli import options
from secost.cli.screen import note, show_or_write_file

listing = typer.Typer(
    help="List models, attention, placements, backends or datasets.", no_args_is_help=True, rich_markup_mode=None
)
RowOutput = Annotated[str | None, typer.Option("-o", "--output", help="File to write instead of stdout.")]


@listing.command("models")
def list_models(
    pattern: Annotated[str, typer.Argument(help="A name with * in it.")] = "*", format: options.Format = "table",
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
def list_attention(format: options.Format = "table", output: RowOutput = None) -> int:
    """Kinds of attention, what they do and where they come from."""
    from secost.networks.attention import ATTENTION

    rows = [{
        "attention": kind.name, "reduction": "yes" if kind.has_reduction else "no", "summary": kind.summary,
        "parameters": " ".join((kind.params.__doc__ or "").split()), "citation": kind.citation,
    } for kind in map(ATTENTION.get, ATTENTION.names())]
    put_rows(f"{len(rows)} attentions, beside none (stripped) and native (as shipped)", rows, format, output)
    return 0


@listing.command("placements")
def list_placements(format: options.Format = "table", output: RowOutput = None) -> int:
    """Which sites a placement chooses."""
    from secost.glossary import PLACEMENTS

    rows = [{"placement": name, "sites": meaning} for name, meaning in PLACEMENTS.items()]
    put_rows("placements", rows, format, output)
    return 0


@listing.command("datasets")
def list_datasets(format: options.Format = "table", output: RowOutput = None) -> int:
    """What secost train can train on."""
    from secost.training.datasets import DATASETS

    rows = [{"dataset": name, "summary": DATASETS.get(name).summary} for name in DATASETS.names()]
    put_rows("datasets, beside any folder with train/CLASS and test/CLASS", rows, format, output)
    return 0


@listing.command("backends")
def list_backends(format: options.Format = "table", output: RowOutput = None) -> int:
    """What can run a network here."""
    from secost.meters.backends.offered import BACKENDS, missing_here

    rows = [{
        "backend": name, "summary": backend.summary, "precisions": ", ".join(backend.precisions),
        "devices": ", ".join(backend.devices), "memory_formats": ", ".join(backend.memory_formats),
        "missing_here": "; ".join(missing_here(backend)),
    } for name in BACKENDS.names() for backend in [BACKENDS.get(name)]]
    put_rows("backends", rows, format, output)
    return 0


def put_rows(title: str, rows: list[dict[str, Any]], format: str, output: str | None) -> None:
    """The list as a page, on stdout or in a file."""
    options.check_format(format, output)
    from secost.pages.page import Page

    show_or_write_file(Page.of_rows(title, rows), format, output, quiet=True)

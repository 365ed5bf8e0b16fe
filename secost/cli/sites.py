"""`secost sites`: where attention can sit in a network."""

from __future__ import annotations

from typing import Any

from secost.cli import options
from secost.cli.listing import ROW_FORMATS, RowFormat, RowOutput, put_rows
from secost.cli.profile import Model
from secost.cli.progress import note


def sites(
    model: Model,
    placement: options.Placement = None, integration: options.Integration = None, stages: options.Stages = None,
    resolution: options.Resolution = None, example: options.Example = None,
    allow_download: options.Download = False,
    format: RowFormat = "table",
    output: RowOutput = None,
) -> int:
    """Where attention can sit in a network."""
    options.check_format(format, ROW_FORMATS)
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
    put_rows(f"{model}: {len(rows)} sites", rows, format, output)
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

"""`secost sites`: where attention can sit in a network."""

from __future__ import annotations

from secost.cli.listing import put_rows
from secost.cli.options import Given
from secost.cli.profile import Model, example_of
from secost.cli.screen import note

_COLUMNS = ("path", "side", "channels", "height", "width", "stage", "placement", "calls")
_USUAL = {"side": "output", "calls": 1, "occupied_by": ""}


def sites(model: Model, given: Given) -> int:
    """Where attention can sit in a network."""
    chosen = given.spec_values()
    from secost.networks import surgery
    from secost.networks.sources import load

    placement = chosen.get("placement", "auto")
    net = load(model, chosen.get("allow_download", False))
    stages = chosen.get("stages")
    rows = [{**{name: getattr(site, name) for name in _COLUMNS}, "occupied_by": site.occupied_by or ""}
            for site in surgery.sites(
                net, placement, chosen.get("integration", "standard"), stages if isinstance(stages, list) else None,
                chosen.get("resolution", (224,))[0], example_of(given))]
    if not rows:
        note(f"{model} has no {placement} site; secost list placements tells what the others are")
    if given["format"] == "table":
        # Without the columns that say the usual for every site: a narrow terminal has better use for the room.
        hidden = {name for name, value in _USUAL.items() if all(row[name] == value for row in rows)}
        rows = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
    put_rows(f"{model}: {len(rows)} sites", rows, given["format"], given["output"])
    return 0

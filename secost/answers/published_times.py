"""Time overheads that others published for the same network with the same attention, each with its source.

`secost/data/published_latency.csv` holds figures only: from the papers of SENet and ECA-Net, and time an image from the
inference tables of timm (Apache-2.0), where both networks of a pair were run with one setting (images a second are
turned over). Pairs that are two architectures, or carry the attention at other places than the rest, were left out. A
missing cell was not told by the source.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from secost.answers.groups import Group
from secost.numbers import percent
from secost.runs.records import Record

_FILE = "published_latency.csv"
# One network under two libraries' names.
_SAME_NET = {"mobilenet_v2": "mobilenetv2_100"}


@dataclass(frozen=True)
class Published:
    """One published overhead (a fraction of the time without attention), and what it was measured on."""

    model: str
    attention: str
    reduction: int | None
    placement: str
    resolution: int
    latency_overhead: float
    hardware: str
    precision: str | None
    memory_format: str | None
    backend: str | None
    torch: str | None
    batch: int | None
    attention_model: str
    source: str


@functools.cache
def published() -> tuple[Published, ...]:
    """All rows of the file, in its order."""
    text = resources.files("secost").joinpath("data", _FILE).read_text(encoding="utf-8")
    return tuple(_row(values) for values in csv.DictReader(io.StringIO(text)))


def plain_name(model: str) -> str:
    """A model's name without its library and its weights' tag: `torchvision:resnet50` and `resnet50.a1_in1k` are
    `resnet50`. A file or module of the user's own is no known network, whatever its name: empty."""
    library, _, name = model.rpartition(":")
    if library not in ("", "timm", "torchvision"):
        return ""
    bare = name.split(".")[0] if "/" not in name else ""
    return _SAME_NET.get(bare, bare)


def published_for(record: Record) -> list[Published]:
    """The rows for a record's network, attention and placement, at the published resolution nearest to its own; those
    of its own r where there are some."""
    name = plain_name(record.model)
    asked = (name, record.attention, record.placement)
    found = [row for row in published() if name and (row.model, row.attention, row.placement) == asked]
    if record.reduction is not None:
        found = [row for row in found if row.reduction in (None, record.reduction)] or found
    if not found or record.resolution is None:
        return []
    size = record.resolution
    nearest = min({row.resolution for row in found}, key=lambda resolution: (abs(resolution - size), resolution))
    return [row for row in found if row.resolution == nearest]


def published_rows(groups: Sequence[Group]) -> list[Published]:
    """The rows for all representatives of all comparisons, each once. Where only some stages carry the attention
    nothing is comparable."""
    found: dict[Published, None] = {}
    for record in _comparable(groups):
        found.update(dict.fromkeys(published_for(record)))
    return list(found)


def published_words(groups: Sequence[Group]) -> list[str]:
    """One sentence a network and attention: the range of what was published for it."""
    found: dict[tuple[str, str], dict[Published, None]] = {}
    for record in _comparable(groups):
        found.setdefault((record.model, record.attention), {}).update(dict.fromkeys(published_for(record)))
    return [_words(*names, list(rows)) for names, rows in found.items() if rows]


def _comparable(groups: Sequence[Group]) -> list[Record]:
    return [record for group in groups for record in group.representatives() if record.stages is None]


def _words(model: str, attention: str, rows: Sequence[Published]) -> str:
    values = sorted(row.latency_overhead for row in rows)
    low, high = percent(values[0]), percent(values[-1])
    shown = low if len(rows) == 1 else f"from {low} to {high}"
    kinds = f"{len(rows)} published figures say" if len(rows) > 1 else "one published figure says"
    return (f"{model} with {attention}: {kinds} {shown} time. They are of other machines, batches and "
            "libraries, and they have no intervals: they show a range, and test nothing.")


def _row(values: dict[str, str]) -> Published:
    return Published(
        model=values["model"], attention=values["attention"], hardware=values["hardware"],
        attention_model=values["attention_model"], source=values["source"], placement=values["placement"],
        resolution=int(values["resolution"]),
        latency_overhead=float(values["latency_overhead"]), precision=values["precision"] or None,
        memory_format=values["memory_format"] or None, backend=values["backend"] or None,
        torch=values["torch"] or None, batch=int(values["batch"]) if values["batch"] else None,
        reduction=int(values["reduction"]) if values["reduction"] else None,
    )

"""secost's own counts of the networks in `published_accuracy.csv`, to stand beside the printed ones.

    python -m tests.own_counts            writes secost/data/own_counts.csv

Run it after a change of the counting convention; a slow test holds the file to it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import secost
from secost.answers.published import published_accuracies
from secost.errors import SecostError
from secost.networks.attention import ATTENTION

FILE = Path(secost.__file__).parent / "data" / "own_counts.csv"
RESOLUTION = 224


def wanted() -> list[tuple[str, str, int | None]]:
    """(network, attention, reduction) of every comparable row that secost can build, each once and in order."""
    rows = [row for row in published_accuracies() if row.comparable and row.counted]
    found = [(row.counted, row.attention, row.reduction) for row in rows]
    found += [(row.counted, "none", None) for row in rows]
    return [item for item in dict.fromkeys(found) if item[1] == "none" or _has(*item)]


def counts(network: str, attention: str, reduction: int | None) -> tuple[int, int]:
    """(params, macs) of the network with that attention at all its standard sites."""
    kinds = ["none"] if attention == "none" else [attention]
    found = secost.profile(network, kinds, reduction or 16, latency=False, resolution=RESOLUTION)[-1]
    assert found.params is not None and found.macs is not None, found.error
    return found.params, found.macs


def text() -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["network", "attention", "reduction", "params", "macs"])
    for network, attention, reduction in wanted():
        try:
            params, macs = counts(network, attention, reduction)
        except SecostError as error:
            print(f"left out: {network} {attention}: {error}")
            continue
        writer.writerow([network, attention, "" if reduction is None else reduction, params, macs])
    return out.getvalue()


def _has(network: str, attention: str, reduction: int | None) -> bool:
    """Whether secost has that attention, and the row tells its r where it needs one."""
    if attention not in ATTENTION.names():
        return False
    return reduction is not None or not ATTENTION.get(attention).has_reduction



if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

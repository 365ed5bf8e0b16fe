"""Which alternatives are published beside a network: what `--alternatives auto` measures.

    python -m tests.made_alternatives     writes secost/data/alternatives.csv

Run it after a change of the published accuracies; a test holds the file to it.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from pathlib import Path
from statistics import mean

import secost
from secost.answers.expected import published_alternatives
from secost.answers.published import SAME_NET, published_accuracies
from secost.plan.alternatives import PUBLISHED_PX, split_alternative

FILE = Path(secost.__file__).parent / "data" / "alternatives.csv"


def wanted() -> dict[str, list[str]]:
    """By network that is published with attention: of those that gain, the network and the higher resolution with most
    studies, the least gain first among equals."""
    carrying = {row.network: None for row in published_accuracies() if row.attention != "none" and row.network}
    found: dict[str, list[str]] = {}
    for network in carrying:
        points: dict[str, list[float]] = defaultdict(list)
        for pair, name in published_alternatives(network):
            points[name].append(pair.points)
        ranked = sorted((name for name in points if mean(points[name]) > 0),
                        key=lambda name: (-len(points[name]), mean(points[name])))
        others = [name for name in ranked if split_alternative(name, network)[1] is None]
        finer = [name for name in ranked if (split_alternative(name, network)[1] or 0) > PUBLISHED_PX]
        if others or finer:
            found[network] = others[:1] + finer[:1]
    for alias, network in SAME_NET.items():
        found[alias] = [name for name in found.get(network, ()) if not name.startswith(network)]
    return {network: found[network] for network in sorted(found) if found[network]}


def text() -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["network", "alternative"])
    writer.writerows((network, name) for network, names in wanted().items() for name in names)
    return out.getvalue()


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

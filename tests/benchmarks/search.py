"""How soon a search has the true front: on the points of a run that judged all of them, over ten seeds.

`python -m tests.benchmarks.search RUN [LIMIT ...]`: for each limit on added time (fractions; the run's own and none,
unless given), the share of the hypervolume after a quarter of the evaluations, the sampler's and a random draw's.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from secost.answers.searched import EXHAUSTIVE, Searched, hypervolume, read_search
from secost.plan.variants import Point
from secost.runs.store import read_run
from secost.studies.search import Worth, ask_and_tell

SEEDS = 10


def shares(found: Searched, limit: float) -> tuple[list[float], list[float]]:
    """For each seed, of the sampler and of a random draw."""
    space, budget = found.space, found.space.size // 4
    known = {space.point(record.attention): Worth(
        record.estimated_top1 or 0.0, record.estimated_overhead or 0.0,
        {"latency": (record.estimated_overhead_high or 0.0) - limit}) for record in found.estimates(EXHAUSTIVE)}
    corner = limit, min(worth.top1 for worth in known.values())

    def area(points: Sequence[Point]) -> float:
        return hypervolume([(known[p].top1, known[p].overhead) for p in points if known[p].allowed], *corner)

    whole = area(list(known))
    first = [point for choice in space.options[0] if (point := space.uniform(choice)) is not None]
    mine, drawn = [], []
    for seed in range(SEEDS):
        asked = ask_and_tell(space, found.asked.sampler, budget, lambda points: [known[p] for p in points], seed=seed,
                             population=found.asked.population, first=first)
        mine.append(area(list(asked)) / whole)
        drawn.append(area(space.drawn(budget, seed)) / whole)
    return mine, drawn


def main(run: str, limits: Sequence[float]) -> None:
    spec, records, _ = read_run(Path(run))
    found = read_search(records, spec)
    most = max(record.estimated_overhead_high or 0.0 for record in found.estimates(EXHAUSTIVE))
    for limit in limits or [*found.asked.limits.values(), most / 2, most]:
        mine, drawn = shares(found, limit)
        print(f"limit {limit:.0%}, {found.space.size // 4} of {found.space.size} points, {SEEDS} seeds: "
              f"{found.asked.sampler} {statistics.median(mine):.2%} ({min(mine):.2%} to {max(mine):.2%}), "
              f"random draw {statistics.median(drawn):.2%} ({min(drawn):.2%} to {max(drawn):.2%})")


if __name__ == "__main__":
    main(sys.argv[1], [float(word) for word in sys.argv[2:]])

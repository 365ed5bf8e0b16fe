"""The figures of a search: its front, what sits where in the networks it found, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from secost.answers.searched import EXHAUSTIVE, RANDOM, WITHIN, Searched, front
from secost.figures.panels import Curve, Panel, SiteRow, drawn, site_grid
from secost.plan.trials import BASELINE
from secost.runs.records import Record
from secost.writing import NA, percent_interval, with_ends

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing


def drawings(found: Searched) -> list[Drawing]:
    """The front, the networks site by site, and what speaks for the search."""
    model = found.spec.models[0]
    checks = [_shares(found)]
    if found.checks:
        checks.append(_checks(found))
    if len(found.result.believed) > 1:
        checks.append(Panel("accuracy (%): alone by one-shot", [Curve(found.result.believed, 3, size=5, width=0)],
                            x="one-shot estimate"))
    return [
        drawn("search-front", f"What the search found in {model}",
              "Estimated accuracy against predicted time of every network that was judged, with the budget and the "
              "front within it.", [_front(found)], width=6.4, height=4.2),
        _site_grid(found),
        drawn("search-checks", "How far the search can be believed",
              "The share of the front's hypervolume by number of networks judged; predicted against measured time; "
              "one-shot against stand-alone accuracy.", checks, most=3, width=3.7),
    ]


def _front(found: Searched) -> Panel:
    others = {record.attention: record for name in (EXHAUSTIVE, RANDOM) for record in found.estimates(name)}
    best, limit = front(found.allowed_estimates(found.asked.sampler)), found.asked.limits.get("latency")
    return Panel("estimated accuracy (%) by predicted added time (%)", [
        Curve(_points_at(others.values()), "#bbbbbb", "others judged", marker=".", width=0, alpha=0.7),
        Curve(_points_at(found.estimates(found.asked.sampler)), 0, found.asked.sampler, marker="x", width=0, alpha=0.7),
        Curve(_points_at(best), 0, "its front in the budget", marker="o", size=6, width=1.4, steps=True),
    ], x="predicted added time (%)", y="estimated accuracy (%)",
        limit=None if limit is None else (100 * limit, "the budget"))


def _points_at(records: Iterable[Record]) -> list[tuple[float, float]]:
    return [(100 * (record.estimated_overhead or 0.0), record.estimated_top1 or 0.0) for record in records]


def _shares(found: Searched) -> Panel:
    curves = [Curve([(n, 100 * share) for n, share in enumerate(found.result.shares[name], 1)], look, name, marker="",
                    width=1.4) for look, name in enumerate((found.asked.sampler, RANDOM))]
    return Panel("share of the front (%)", curves, x="networks judged", range=(0, 103))


def _checks(found: Searched) -> Panel:
    curves = []
    for predicted, record in found.checks:
        x, low, high = 100 * predicted, record.latency_overhead_low, record.latency_overhead_high
        ends = [] if low is None or high is None else [(x, 100 * low, 100 * high)]
        curves.append(Curve([(x, 100 * (record.latency_overhead or 0.0))], 2, intervals=ends))
    return Panel("added time (%): measured by predicted", curves, x="predicted; band: within 15 %", band=WITHIN)


def _site_grid(found: Searched) -> Drawing:
    """The networks that were trained alone, the largest gain on top."""
    rows = []
    for item in sorted(found.finalists, key=lambda item: -(item.gain.points if item.gain else 0.0)):
        parts = [label.partition(" ") for label in found.labels(item.record)]
        gain, cost = item.gain, item.record
        points = NA if gain is None else with_ends(gain.points, gain.low, gain.high, 2)
        time = percent_interval(cost.latency_overhead, cost.latency_overhead_low, cost.latency_overhead_high)
        name = f"{points}, {time} time"
        rows.append(SiteRow(f"> {name}" if item is found.chosen else name, [
            None if kind == BASELINE else (kind, ratio or kind) for kind, _, ratio in parts]))
    kinds = [name for name in dict.fromkeys(choice[0] for choice in found.space.options[0]) if name != BASELINE]
    sites = [f"{place}\n({stage})" for place, stage in enumerate(found.stages, 1)]
    return site_grid("search-networks", "The networks, site by site",
                     "A row a network that was trained alone, a column a site: the attention that sits there.", rows,
                     sites, kinds)

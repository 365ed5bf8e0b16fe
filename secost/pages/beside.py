"""What else the same time buys: attention beside the network's own knobs, in sentences, tables, rates of exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from secost.answers.beside import rate, share_of_time
from secost.answers.evidence import Weighed, of_era, weighed, weighed_alternatives
from secost.answers.expected import BothWays, published_both
from secost.answers.groups import LATENCY, MACS, PARAMS, Group, grouped
from secost.answers.verdict import Part, Verdict
from secost.pages.page import Section, Table
from secost.pages.wording import gain_words, overhead_words
from secost.runs.records import PUBLISHED, Gain
from secost.statistics import Interval
from secost.writing import NA, joined, percent_interval

_RATES = (LATENCY, MACS, PARAMS)
_MEANS = ("A rate of exchange is points of accuracy for one percent more of what they cost: the larger, the cheaper. "
          "Its interval joins the ends of the gain's and of the time's. An alternative stands for all networks between "
          "it and this one, so in a shorter time it buys its gain in proportion.")


def sentences(groups: Sequence[Group], gains: Sequence[Gain]) -> list[str]:
    """Of one comparison: what a percent of time buys by attention and by each alternative, and what of an alternative's
    gain the best variant reaches in one table that has both."""
    if len(groups) != 1:
        return []
    items, others = weighed(groups, gains), weighed_alternatives(groups[0], gains)
    if not items or not others:
        return []
    best = max(items, key=lambda item: item.rank)
    return [*_of_one_table(best, others), *_of_rates(best, others)]


def section(groups: Sequence[Group], gains: Sequence[Gain]) -> Section | None:
    """Rates of exchange of each variant and alternative, and what single tables say of both."""
    tables = [table for group in groups for table in _tables(group, gains, several=len(groups) > 1)]
    return Section("alternatives", "What else the same time buys", (_MEANS,), tuple(tables)) if tables else None


def by_setting(parts: Sequence[Part]) -> list[str]:
    """`resnet18, batch 1: worth it`; where recipes differ, `resnet18: worth it (classical), can't tell (modern)`."""
    told = []
    for label, members in grouped(parts, lambda part: part.label).items():
        one = len({part.answer for part in members}) == 1
        told.append(f"{label}: " + (members[0].answer if one else ", ".join(
            f"{part.answer} ({part.era})" for part in members)))
    return told


def by_recipe(verdict: Verdict) -> str:
    """`+1.16 points [0.87, 1.44] with a classical recipe and -0.27 [-1.96, 1.42] with a modern one`, of one variant."""
    assert verdict.best is not None
    told = [f"{gain_words(gain)} with a {gain.era} recipe" for gain in verdict.best.by_era]
    return joined(told) if len(told) > 1 else f"{told[0]}; with another recipe nothing is told of it"


def other(part: Part) -> str:
    """The name of the alternative that a part of a verdict is about; empty where it is about none."""
    return part.nearest.other.record.label if part.nearest else ""


def line(part: Part) -> str:
    """`the +0.13 points that the same time buys on the way to resnet101`."""
    if part.nearest is None:
        return "what it would have to gain"
    whose = part.nearest.other.gain.era
    elsewhere = f", by a {whose} recipe" if whose != part.era else ""
    return f"the {part.nearest.line:+z.2f} points that the same time buys on the way to {other(part)}{elsewhere}"


def lines(verdict: Verdict) -> str:
    """What the same time buys elsewhere by the recipes of the answer, where that is known; of several the range."""
    bought = [part.nearest for part in verdict.parts if part.nearest]
    if not bought:
        return ""
    others = joined(list(dict.fromkeys(one.other.record.label for one in bought)), "or")
    points = sorted(one.line for one in bought)
    shown = list(dict.fromkeys(f"{value:+z.2f}" for value in (points[0], points[-1])))
    return f"; on the way to {others} the same time buys {' to '.join(shown)}"


def _of_one_table(item: Weighed, others: Sequence[Weighed]) -> list[str]:
    """The first table by a recipe with which the attention gains, as far as is told."""
    told = [gain.era for gain in item.by_era if gain.low is not None and gain.low > 0]
    for other in others:
        share = share_of_time(item, other)
        for both in _both(item, other):
            if share is not None and both.attention.row.era in told and both.alternative.points > 0:
                part = 100 * both.attention.points / both.alternative.points
                return [f"{item.record.label} reaches {part:.0f} % of {other.record.label}'s gain "
                        f"({both.attention.points:+.2f} of {both.alternative.points:+.2f} points, {both.table}) for "
                        f"{_share(share)} of its extra time."]
    return []


def _of_rates(item: Weighed, others: Sequence[Weighed]) -> Iterator[str]:
    """Rates in time by the recipes of each era."""
    for gain in item.by_era:
        ways = [of_one for one in (item, *others) for of_one in of_era([one], gain.era)]
        told = [f"{_rate(found)} by {one.record.label}" for one in ways if (found := rate(one, LATENCY)) is not None]
        if len(told) > 1:
            recipe = f"With a {gain.era} recipe one" if gain.era else "One"
            yield f"{recipe} percent of time buys, in points, {joined(told)}."


def _both(item: Weighed, other: Weighed) -> list[BothWays]:
    gain = item.gain
    if gain.source != PUBLISHED or gain.borrowed or other.record.alternative is None:
        return []
    return published_both(item.record.model, gain.attention, item.record.reduction, other.record.alternative)


def _tables(group: Group, gains: Sequence[Gain], several: bool) -> Iterator[Table]:
    items, others = weighed([group], gains), weighed_alternatives(group, gains)
    if not items or not others:
        return
    where = f": {group.label}" if several else ""
    eras = any(gain.era for item in items for gain in item.by_era)
    heads = ("Choice", *["recipe"] * eras, "gain", "time", *(f"points for 1 % {currency.word}" for currency in _RATES))
    rows = [_rate_row(of_one, eras) for one in (*items, *others) for gain in one.by_era
            for of_one in of_era([one], gain.era)]
    yield Table.of(f"Rates of exchange{where}", heads, rows, left=1 + eras, least_width=100)
    found = [(item, other, both) for item in items for other in others for both in _both(item, other)]
    if found:
        heads = ("Both in one table", "recipe", "attention", "its gain", "alternative", "gain of that",
                 "share of its extra time")
        yield Table.of(f"Attention and alternative in one table{where}", heads, [(
            both.table, both.attention.row.era, item.record.label, f"{both.attention.points:+.2f}",
            other.record.label, f"{both.alternative.points:+.2f}", _share(share_of_time(item, other)),
        ) for item, other, both in found], left=2, least_width=100)


def _rate_row(item: Weighed, eras: bool) -> tuple[str, ...]:
    return (item.record.label, *[item.gain.era or ""] * eras, gain_words(item.gain), overhead_words(item.record),
            *(_rate(rate(item, currency)) for currency in _RATES))


def _rate(found: Interval | None) -> str:
    if found is None:
        return NA
    ends = "[no interval]" if found.low is None or found.high is None else f"[{found.low:z.2g}, {found.high:z.2g}]"
    return f"{found.estimate:+z.2g} {ends}"


def _share(share: Interval | None) -> str:
    return NA if share is None else percent_interval(share.estimate, share.low, share.high, signed=False)

"""What is known of attention's gain, for a page: published pairs with their sources, or the user's own accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from secost.answers.expected import Era, eras_of
from secost.answers.published import OwnCount, PublishedAccuracy, PublishedGain, Reference, own_count, references
from secost.pages.page import PAGES, Page, Section, Table
from secost.pages.wording import gain_words
from secost.runs.records import Gain
from secost.writing import NA, quantity

_HEADS = ("Network", "Attention", "r", "Data", "px", "none", "with it", "gain", "GMACs printed", "secost counts",
          "Source")
_COUNTED_PX = 224


def of_published(gains: Sequence[PublishedGain], attention: Sequence[str] = (),
                 left_out: Sequence[PublishedGain] = ()) -> Page:
    """Every gain with its source, what was left out and why, and what the pairs of one recipe say together about a
    network nobody published."""
    names = list(attention) or list(dict.fromkeys(pair.row.attention for pair in gains))
    summary = [item for name in names
               for item in references(name, [pair for pair in gains if pair.row.attention == name])]
    sources = list(dict.fromkeys(pair.row.citation for pair in gains))
    tables: tuple[Table, ...] = (
        Table.of("Top-1 accuracy (%), each pair from one table and one recipe", _HEADS,
                 [_row(pair, sources.index(pair.row.citation) + 1) for pair in gains], left=5),
        Table.of("Sources", ("No.", "Source"), [(str(place), text) for place, text in enumerate(sources, 1)], left=2),
    )
    table = Table.of("Gain over same-recipe pairs on ImageNet, in points of top-1",
                     ("Attention", "Networks", "pairs", "median", "lowest", "highest", "below 0"),
                     map(_reference_row, summary), left=2)
    eras = eras_of(gains)
    pooled = Table.of("Pooled within an era of recipes, in points of top-1 on ImageNet, with intervals of 95 %",
                      ("Attention", "recipes", "pairs", "mean", "one network more", "between networks"),
                      map(_era_row, eras), left=2)
    beside = Table.of("Printed, and not counted: one training is one study",
                      ("Network", "Attention", "r", "Source", "reason"), map(_left_out_row, left_out), left=5)
    tables = (*tables, beside) if left_out else tables
    sections = (Section("gains", "Published gains", _gain_words(gains), tables),
                Section("reference", "For a network that nobody published", _reference_words(summary), (pooled, table)),
                Section("figures", "Figures", figures=True, formats=PAGES))
    headline = (f"{len(gains)} pairs of the same network with and without attention; figures of different tables are "
                "never subtracted from one another.")
    rows = tuple(map(_plain, gains))
    document = {"gains": list(rows), "references": [asdict(item) for item in summary],
                "pooled": [_era(era) for era in eras],
                "left_out": [{**_plain(pair), "reason": pair.left_out} for pair in left_out]}
    return Page("benefit", "What attention gains, as published", headline, sections, rows, document,
                draw=lambda: _drawings(eras))


def of_file(gains: Sequence[Gain], unmatched: Sequence[str], name: str) -> Page:
    """The gains that the user's own accuracies say, and the lines without a partner."""
    table = Table.of(
        "Top-1 accuracy (%)", ("Network", "Attention", "r", "placement", "none", "with it", "gain", "pairs"),
        [(gain.model, gain.attention, _whole(gain.reduction), gain.placement or NA, f"{gain.baseline_top1:.2f}",
               f"{gain.top1:.2f}", gain_words(gain), str(gain.pairs)) for gain in gains], left=4,
    )
    words = [f"Without a partner: {line}." for line in unmatched]
    if any(gain.pairs == 1 for gain in gains):
        words.append("A gain of one pair has no interval: how much of it is luck is not known.")
    headline = f"{len(gains)} gains from {name}; {len(unmatched)} lines found no partner."
    rows = tuple(asdict(gain) for gain in gains)
    return Page("benefit", "What attention gains, by your own accuracies", headline,
                (Section("gains", "Gains", tuple(words), (table,)),), rows,
                {"gains": list(rows), "unmatched": list(unmatched)})


def _drawings(eras: Sequence[Era]) -> Any:
    from secost.figures.forest import forest

    return forest(eras)


def _era_row(era: Era) -> tuple[str, ...]:
    found = era.found
    further = NA if found.next_low is None else f"[{found.next_low:z.2f}, {found.next_high:z.2f}]"
    return (era.attention, era.era, str(found.studies), f"{found.estimate:+z.2f} [{found.low:z.2f}, {found.high:z.2f}]",
            further, NA if found.studies < 2 else f"{found.between:.2f}")


def _era(era: Era) -> dict[str, Any]:
    """Plain values, of as many digits as the printed figures carry."""
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(era.found).items()}
    return {"attention": era.attention, "era": era.era, **found}


def _gain_words(gains: Sequence[PublishedGain]) -> tuple[str, ...]:
    if not gains:
        return ("Nothing comparable is published for that.",)
    lost = [pair for pair in gains if pair.points < 0]
    low, high = min(gains, key=lambda pair: pair.points), max(gains, key=lambda pair: pair.points)
    found = []
    if len(gains) > 1:
        found.append(f"From {low.points:+.2f} points ({_name(low)}) to {high.points:+.2f} ({_name(high)}): the recipe "
                     "matters as much as the attention.")
    if lost:
        found.append(f"{len(lost)} of {len(gains)} pairs lost accuracy.")
    if any(pair.row.binary_units for pair in gains):
        found.append("ECA-Net prints GMACs in binary units (2^30).")
    if any(not pair.row.verified for pair in gains):
        found.append("Rows marked ? could not be checked against a copy of their source.")
    return tuple(found)


def _reference_words(found: Sequence[Reference]) -> tuple[str, ...]:
    return tuple(
        f"{item.attention}: over {item.pairs} same-recipe pairs the median gain is {item.median:+.2f} points, from "
        f"{item.low:+.2f} to {item.high:+.2f}. It is a range of what others saw, no prediction for your network."
        for item in found if item.kind == "all"
    )


def _row(pair: PublishedGain, source: int) -> tuple[str, ...]:
    base, row = pair.base, pair.row
    printed = " to ".join(f"{item.gmacs:g}" for item in (base, row) if item.gmacs is not None) or NA
    counted = " to ".join(quantity(count.macs) for count in map(_counted_there, (base, row)) if count) or NA
    doubt = "" if row.verified and base.verified else " ?"
    return (row.model, row.attention, _whole(row.reduction), row.dataset, _whole(row.resolution), f"{base.top1:g}",
            f"{row.top1:g}", f"{pair.points:+.2f}{doubt}", printed, counted, str(source))


def _left_out_row(pair: PublishedGain) -> tuple[str, ...]:
    return pair.row.model, pair.row.attention, _whole(pair.row.reduction), pair.row.citation, pair.left_out


def _counted_there(row: PublishedAccuracy) -> OwnCount | None:
    """secost's own count, which is at 224 px: beside a figure of another resolution it would mislead."""
    return own_count(row) if row.resolution in (None, _COUNTED_PX) else None


def _reference_row(found: Reference) -> tuple[str, ...]:
    return (found.attention, found.kind, str(found.pairs),
            *(f"{value:+.2f}" for value in (found.median, found.low, found.high)), str(found.negative))


def _plain(pair: PublishedGain) -> dict[str, Any]:
    base, row = pair.base, pair.row
    before, after = (_counted_there(item) for item in (base, row))
    return {
        "model": row.model, "network": row.network or None, "family": row.family, "attention": row.attention,
        "reduction": row.reduction, "placement": row.placement or None, "dataset": row.dataset,
        "resolution": row.resolution, "baseline_top1": base.top1, "top1": row.top1, "gain_points": pair.points,
        "baseline_gmacs_printed": base.gmacs, "gmacs_printed": row.gmacs,
        "baseline_macs": before and before.macs, "macs": after and after.macs,
        "baseline_params": before and before.params, "params": after and after.params,
        "source": row.source, "table": row.table, "recipe": row.recipe or None, "licence": row.licence,
        "verified": row.verified and base.verified,
    }


def _name(pair: PublishedGain) -> str:
    return f"{pair.row.model} with {pair.row.attention}, {pair.row.citation}"


def _whole(value: int | None) -> str:
    return NA if value is None else str(value)

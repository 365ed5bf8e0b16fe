"""The page of compound scaling: what attention adds at each size, and how that goes as a network grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from secost.answers.groups import LATENCY, MACS, MEMORY, PARAMS, Currency
from secost.answers.published import PublishedAccuracy, published_accuracies
from secost.figures.panels import GREY, Curve, Panel, drawn
from secost.pages.page import Page, Section, Table
from secost.plan.trials import BASELINE, NATIVE
from secost.runs.records import DONE, Record
from secost.runs.study import ALONE, COMPOUND, Scaling, Size
from secost.writing import NA, joined

_SHARES = (PARAMS, MACS, MEMORY, LATENCY)
_OF_SIZE = ("way", "phi", "depth", "width", "resolution")
_OF_RECORD = ("attention", "reduction", *(currency.field for currency in _SHARES),
              *(currency.overhead_field for currency in _SHARES), "latency_overhead_low", "latency_overhead_high")
_ALONE_MARKS = {"depth": "x", "width": "+", "resolution": "1"}


def page(study: Scaling) -> Page:
    """Findings, a table of sizes, a table of what attention adds in each, and a figure."""
    formula = (f"alpha {study.alpha:g}, beta {study.beta:g}, gamma {study.gamma:g}: MACs grow by alpha x beta^2 x "
               f"gamma^2 = {study.growth:.3f} for each phi, in theory (the paper asks for about 2).")
    told = findings(study)
    return Page(
        "study-scaling", f"Compound scaling of {study.model}", told[0],
        (Section("found", "What was found", (*told[1:], *study.notes)),
         Section("sizes", "Sizes", (formula, *_printed_words(study)), (_size_table(study),)),
         Section("added", "What attention adds", (), (_added_table(study),))),
        tuple(_rows(study)), {
            "model": study.model, "alpha": study.alpha, "beta": study.beta, "gamma": study.gamma,
            "growth": study.growth, "findings": told, "notes": study.notes,
            "sizes": [{**dataclasses.asdict(size), "records": [record.to_dict() for record in records]}
                      for size, records in study.sizes],
        }, lambda: [_figure(study)],
    )


def findings(study: Scaling) -> list[str]:
    """Three sentences: how attention's share changes as the network grows, how that depends on the way, what to do."""
    compound = [(size, _first_variant(records)) for size, records in study.of(COMPOUND)]
    known = [(size, record) for size, record in compound if record is not None]
    if not known:
        return ["No size could be counted."]
    return [*_over_phi(known), *_by_way(study), *_advice(known)]


def _first_variant(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record.attention != BASELINE and record.status == DONE), None)


def _over_phi(known: Sequence[tuple[Size, Record]]) -> list[str]:
    (first, small), (last, large) = known[0], known[-1]
    label = "its own attention" if small.attention == NATIVE else small.label
    if len(known) == 1:
        return [f"At phi {first.phi:g} {label} adds {_shares(small)}."]
    parts = [f"from {_share(small, currency)} to {_share(large, currency)} in {currency.word}" for currency in _SHARES
             if _known(small, currency) and _known(large, currency)]
    return [f"From phi {first.phi:g} to {last.phi:g}, what {label} adds goes {joined(parts)}."]


def _by_way(study: Scaling) -> list[str]:
    alone = {way: study.of(way) for way in ALONE}
    if not all(alone.values()):
        return []
    phi = max(size.phi for size, _ in alone["depth"])
    words = [f"{way if way == COMPOUND else f'{way} alone'} {_shares(record)}" for way in (COMPOUND, *ALONE)
             if (record := next((_first_variant(records) for size, records in study.of(way) if size.phi == phi), None))]
    return [f"At the MACs of phi {phi:g}, by the way in which the network grew, it adds: {'; '.join(words)}."]


def _advice(known: Sequence[tuple[Size, Record]]) -> list[str]:
    timed = [(size, record, ends) for size, record in known if (ends := LATENCY.interval(record))]
    if len(timed) < 2:
        return ["Time was not measured at two sizes, so counts alone can't say whether attention gets cheaper: run it "
                "with --latency."]
    (first, small, (before_low, before_high)), (last, large, (low, high)) = timed[0], timed[-1]
    both = f"{_share(small, LATENCY)} at phi {first.phi:g} against {_share(large, LATENCY)} at phi {last.phi:g}"
    if high < before_low:
        return [f"Attention gets relatively cheaper in time as the network grows ({both}): where it is too dear on a "
                "small one, it may pay on a larger one."]
    if low > before_high:
        return [f"Attention gets relatively dearer in time as the network grows ({both}): weigh it again at each size."]
    return [f"Attention's share of time can't be told apart between sizes ({both}): longer runs might (--seconds)."]


def _shares(record: Record) -> str:
    return joined([f"{_share(record, currency)} {currency.word}" for currency in _SHARES if _known(record, currency)])


def _known(record: Record, currency: Currency) -> bool:
    """Whether an overhead is there; a time without an interval says nothing."""
    value = currency.overhead(record, None)
    return value is not None and (not currency.measured or currency.interval(record) is not None)


def _share(record: Record, currency: Currency) -> str:
    return currency.show_overhead(record, None) if _known(record, currency) else NA


def _printed(size: Size) -> PublishedAccuracy | None:
    """The paper's row of that size (arXiv:1905.11946, Table 2): millions of parameters and GMACs, as printed."""
    if not size.published:
        return None
    return next(row for row in published_accuracies() if row.model == f"EfficientNet-B{size.phi:g}"
                and "1905.11946" in row.source and row.table.startswith("Table 2"))


def _printed_words(study: Scaling) -> list[str]:
    """Where the coefficients are from, and at which sizes the paper prints other MACs than are counted here."""
    known = [(size, row, own) for size, records in study.sizes
             if (row := _printed(size)) is not None and (own := _own(records)) is not None]
    if not known:
        return []
    words = ["Coefficients are the published ones of B0 to B7, rounded by hand in the paper's code: from B1 on they "
             "are smaller than alpha^phi, beta^phi and gamma^phi (B3 1.4, 1.2, 300 px for 1.73, 1.33, 341 px). With a "
             "fraction among the phi, or other coefficients, all sizes follow the formula."]
    others = [f"phi {size.phi:g} ({own.macs / 1e9:.2f}, printed {row.gmacs:g})" for size, row, own in known
              if own.macs is not None and row.gmacs is not None and not _as_printed(own.macs / 1e9, row.gmacs)]
    if others:
        words.append(f"GMACs differ from the paper's Table 2 at {joined(others)}. Parameters agree there, and counting "
                     "maps at fractional or floored sizes gives none of these figures; pycls (arXiv:2003.13678) prints "
                     "4.4 and 10.3 for B4 and B5, as counted here.")
    return words


def _as_printed(value: float, printed: float) -> bool:
    """Whether a value rounds to the printed digits, give or take one in the last: papers round either way."""
    decimals = len(f"{printed:g}".partition(".")[2])
    return bool(abs(value - printed) <= 10.0**-decimals)


def _own(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record.attention == NATIVE and record.status == DONE), None)


def _size_table(study: Scaling) -> Table:
    rows = []
    for size, records in study.sizes:
        printed, own = _printed(size), _own(records)
        rows.append((f"{size.phi:g}", size.way, f"{size.depth:.3g}", f"{size.width:.3g}", str(size.resolution),
                      *_totals(records[0]), *_totals(own),
                     f"{printed.params_m:g} M, {printed.gmacs:g}" if printed is not None else ""))
    heads = ("phi", "way", "depth", "width", "px", "parameters without", "GMACs without", "parameters as shipped",
             "GMACs as shipped", "printed")
    return Table.of("Sizes, without attention and as shipped", heads, rows, left=2)


def _totals(record: Record | None) -> tuple[str, str]:
    if record is None or record.params is None or record.macs is None:
        return NA, NA
    return f"{record.params:,}", f"{record.macs / 1e9:.3f}"


def _added_table(study: Scaling) -> Table:
    cells = ((f"{size.phi:g}", size.way, record.label, *(_share(record, currency) for currency in _SHARES))
             for size, record in _variants(study))
    heads = ("phi", "way", "attention", *(currency.word for currency in _SHARES))
    return Table.of("Overhead over the same network without attention", heads, cells, left=3)


def _variants(study: Scaling) -> Iterator[tuple[Size, Record]]:
    yield from ((size, record) for size, records in study.sizes for record in records
                if record.attention != BASELINE and record.status == DONE)


def _rows(study: Scaling) -> Iterator[dict[str, Any]]:
    for size, records in study.sizes:
        for record in records:
            yield {name: getattr(part, name) for part, names in ((size, _OF_SIZE), (record, _OF_RECORD))
                   for name in names}


def _figure(study: Scaling) -> Any:
    shown = [currency for currency in _SHARES if any(_known(record, currency) for _, record in _variants(study))]
    return drawn(
        "scaling", f"What attention adds as {study.model} grows",
        "Overhead of attention against phi, a panel a currency. Networks of equal MACs that grew by one dimension "
        "alone: x by depth, + by width, a three-pointed star by resolution.",
        [Panel(f"{currency.word}, added in %", list(_curves(study, currency)), x="phi", bottom=0.0)
         for currency in shown],
    )


def _curves(study: Scaling, currency: Currency) -> Iterator[Curve]:
    """A curve an attention over the compound sizes, and marks for the sizes that grew by one dimension."""
    labels = list(dict.fromkeys(record.label for _, record in _variants(study)))
    for look, label in enumerate(labels):
        points = [(size, record, 100 * (currency.overhead(record, None) or 0.0)) for size, record in _variants(study)
                  if record.label == label and _known(record, currency)]
        if not points:
            continue
        compound = [(size.phi, record, value) for size, record, value in points if size.way == COMPOUND]
        ends = [(phi, 100 * interval[0], 100 * interval[1]) for phi, record, _ in compound
                if (interval := currency.interval(record))]
        yield Curve([(phi, value) for phi, _, value in compound], look, size=5, thick=1.5, intervals=ends,
                    label="as shipped" if label == NATIVE else label)
        yield from (Curve([(size.phi, value)], look, marker=_ALONE_MARKS[size.way], size=5, width=0, alpha=0.8)
                    for size, _, value in points if size.way != COMPOUND)
    for way, mark in _ALONE_MARKS.items():
        if study.of(way) and not currency.measured:
            yield Curve([], GREY, f"{way} alone", marker=mark, size=5, width=0)

"""The page of low precision: accuracy and noise by bits and placement, where the noise comes from, real int8 beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from secost.figures.panels import Curve, Panel, curve_of, drawn
from secost.pages.page import Page, Section, Table
from secost.pages.wording import interval_words, overhead_words
from secost.plan.trials import BASELINE
from secost.runs.records import DONE
from secost.runs.study import GATE, GROUPS, PERCENTILE, PRODUCT, RANGES, REST, Quantization, Rounded
from secost.statistics import Interval, mean_of, paired_difference
from secost.writing import NA, joined

_WHERE = {REST: "the rest of the network", GATE: "the gate", PRODUCT: "the product"}


def page(study: Quantization) -> Page:
    """Findings, accuracy and noise by bits, the real int8, and a figure."""
    told = findings(study) or [f"{study.attention} of {study.model} at {joined(list(map(str, study.bits)))} bits."]
    about = (f"{study.model}, {study.attention}, on {study.dataset}: {study.epochs} epochs in full precision, "
             f"{len(study.full_top1(BASELINE))} paired seeds; then {study.qat_epochs} epochs of training at each "
             "precision (QAT, percentile ranges). Weights are rounded by channel, maps by tensor, norms are folded.")
    sections = [
        Section("found", "What was found", (*told[1:], about, *study.notes)),
        Section("accuracy", "Accuracy", (), (_accuracy_table(study),)),
        Section("noise", "Signal to quantisation noise", (), (_noise_table(study), _block_table(study))),
    ]
    if any(row.int8_top1 for row in study.full):
        sections.append(Section("int8", "Real int8", (), (_int8_table(study),)))
    return Page("study-quantization", f"{study.attention} at low precision: {study.model}", told[0], tuple(sections),
                tuple(_rows(study)), _document(study, told), lambda: [_figure(study)])


def findings(study: Quantization) -> list[str]:
    """Three sentences: full precision, low precision, and where the noise comes from."""
    return [*_at_full(study), *_at_low(study), *_from_where(study), *_really(study)]


def _difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Second less first, paired by seed."""
    return paired_difference(list(zip(first, second, strict=True)))


def _at_full(study: Quantization) -> list[str]:
    if len(study.placements) < 2:
        return []
    first, second = study.placements[:2]
    found = _difference(study.full_top1(first), study.full_top1(second))
    words = (f"In full precision {study.attention} at {second} and at {first} differ by {interval_words(found, 2)} "
             f"points ({len(study.full_top1(first))} seeds)")
    if found.low is None:
        return [f"{words}: one seed tells nothing."]
    return [f"{words}: the placements are not alike to begin with." if not found.holds(0.0) else
            f"{words}: not told apart, as is to be expected."]


def _at_low(study: Quantization) -> list[str]:
    if len(study.placements) < 2:
        return []
    first, second = study.placements[:2]
    words, apart = [], []
    for bits in study.bits:
        a, b = study.at(first, bits, PERCENTILE), study.at(second, bits, PERCENTILE)
        ratio = _difference([row.output_db for row in a], [row.output_db for row in b])
        points = _difference([row.top1 for row in a], [row.top1 for row in b])
        words.append(f"{bits} bits {interval_words(ratio, 1)} dB and {interval_words(points, 1)} points")
        apart += [(bits, found) for found in (ratio, points) if not found.holds(0.0)]
    told = f"{second} less {first}, rounded after training with percentile ranges: {'; '.join(words)}"
    if not apart:
        return [f"{told}: neither placement stands low precision better, as far as these seeds can tell."]
    better = {second if found.estimate > 0 else first for _, found in apart}
    where = joined([str(bits) for bits in dict.fromkeys(bits for bits, _ in apart)])
    looked = f"{len(apart)} of {2 * len(study.bits)} intervals leave out 0, at {where} bits"
    if len(better) > 1:
        return [f"{told}: {looked}, and they do not agree which one is better."]
    return [f"{told}: {better.pop()} stands it better ({looked})."]


def _from_where(study: Quantization) -> list[str]:
    words = []
    for placement in study.placements:
        rows = study.at(placement, _middle(study), PERCENTILE)
        if rows and rows[0].sources_db:
            parts = [f"{_WHERE[group]} {_mean([row.sources_db[group] for row in rows], 1)} dB" for group in GROUPS]
            words.append(f"{placement}: {', '.join(parts)}")
    if not words:
        return []
    return [f"Signal to noise at {_middle(study)} bits with one part rounded alone (the lowest makes most of the "
            f"noise; the layer that reads the product rounds it too, as part of the rest): {'; '.join(words)}."]


def _really(study: Quantization) -> list[str]:
    words = []
    for backend in _backends(study):
        parts = [f"{placement} {_int8(study, backend, placement)[1]}" for placement in study.variants]
        words.append(f"{backend} {', '.join(parts)}")
    return [f"Points of accuracy that real int8 changes: {'; '.join(words)}."] if words else []


def _middle(study: Quantization) -> int:
    """The bits at which parts and blocks are looked at."""
    return study.bits[len(study.bits) // 2]


def _mean(values: Sequence[float], digits: int) -> str:
    return interval_words(mean_of(values), digits, signed=False)


def _accuracy_table(study: Quantization) -> Table:
    lines = [("32", "none", [study.full_top1(name) for name in study.variants])]
    for bits in study.bits:
        lines += [(str(bits), ranges, [[row.top1 for row in study.at(name, bits, ranges)] for name in study.variants])
                  for ranges in RANGES]
        cells = [[row.trained_top1 for row in study.at(name, bits, PERCENTILE) if row.trained_top1 is not None]
                 for name in study.variants]
        if all(cells):
            lines.append((str(bits), "trained at it", cells))
    paired = len(study.placements) > 1
    rows = [(bits, ranges, *(_mean(cell, 2) for cell in cells),
             *([interval_words(_difference(cells[1], cells[2]), 2)] if paired else []))
            for bits, ranges, cells in lines]
    heads = ["bits", "ranges", *study.variants, *[" less ".join(study.placements[1::-1])] * paired]
    return Table.of("Top-1 accuracy (%), the mean over seeds with its interval", heads, rows, left=2)


def _noise_table(study: Quantization) -> Table:
    rows = []
    for bits in study.bits:
        for ranges in RANGES:
            for name in study.variants:
                cell = study.at(name, bits, ranges)
                gates = [row.gate_error for row in cell if row.gate_error is not None]
                sources = [_mean([row.sources_db[group] for row in cell], 1) if cell and cell[0].sources_db else NA
                           for group in GROUPS]
                rows.append((str(bits), ranges, name, _mean([row.output_db for row in cell], 1), *sources,
                             f"{mean_of(gates).estimate:.4f}" if gates else NA))
    heads = ("bits", "ranges", "placement", "output (dB)", "only the rest rounded", "only the gate", "only the product",
             "gate error")
    return Table.of("At the network's output; with one part rounded alone; error of the gates' values", heads, rows,
                    left=3)


def _block_table(study: Quantization) -> Table:
    bits = _middle(study)
    cells = [study.at(name, bits, PERCENTILE) for name in study.variants]
    rows = [(path, *(_mean([row.blocks_db[path] for row in cell], 1) for cell in cells))
            for path in cells[0][0].blocks_db]
    return Table.of(f"At each block's output, {bits} bits, percentile ranges (dB)", ("block", *study.variants), rows)


def _backends(study: Quantization) -> list[str]:
    return list(dict.fromkeys(name for row in study.full for name in row.int8_top1))


def _int8(study: Quantization, backend: str, placement: str) -> tuple[str, str]:
    """The accuracy as int8, and by how many points that is another than in full precision."""
    rows = [row for row in study.full if row.placement == placement]
    top1 = [row.int8_top1[backend] for row in rows]
    return _mean(top1, 2), interval_words(_difference([row.top1 for row in rows], top1), 2)


def _int8_table(study: Quantization) -> Table:
    rows = [(backend, placement, *_int8(study, backend, placement), *_measured_time(study, backend, placement))
            for backend in _backends(study) for placement in study.variants]
    heads = ("backend", "placement", "top-1 (%)", "change from full precision", "time", "time overhead")
    return Table.of("int8 as deployed, fitted to training images; time at batch 1", heads, rows, left=2)


def _measured_time(study: Quantization, backend: str, placement: str) -> tuple[str, str]:
    for record in study.latency:
        found = BASELINE if record.attention == BASELINE else record.placement
        if record.status == DONE and record.backend == backend and found == placement and record.latency_ms is not None:
            return f"{record.latency_ms:.3f} ms", "" if placement == BASELINE else overhead_words(record)
    return NA, NA


def _rows(study: Quantization) -> Iterator[dict[str, Any]]:
    full = {(row.placement, row.seed): row for row in study.full}
    for row in study.rounded:
        yield {
            "placement": row.placement, "seed": row.seed, "bits": row.bits, "ranges": row.ranges, "top1": row.top1,
            "full_top1": full[row.placement, row.seed].top1, "trained_top1": row.trained_top1,
            "output_db": row.output_db, "gate_error": row.gate_error,
            **{f"{group}_db": row.sources_db.get(group) for group in GROUPS},
        }


def _document(study: Quantization, told: Sequence[str]) -> dict[str, Any]:
    return {
        "model": study.model, "attention": study.attention, "dataset": study.dataset, "findings": list(told),
        "notes": study.notes, "placements": list(study.placements), "bits": list(study.bits), "epochs": study.epochs,
        "qat_epochs": study.qat_epochs, "full": [asdict(row) for row in study.full],
        "rounded": [asdict(row) for row in study.rounded], "latency": [record.to_dict() for record in study.latency],
    }


def _figure(study: Quantization) -> Any:
    panels = [_by_bits(study, "top-1 (%), rounded after training", lambda row: row.top1),
              _by_bits(study, "signal to noise at the output (dB)", lambda row: row.output_db)]
    if study.qat_epochs:
        panels.insert(1, _by_bits(study, "top-1 (%), trained at it", lambda row: row.trained_top1))
    return drawn("quantization", f"{study.attention} at low precision: {study.model}",
                 "Accuracy and noise against bits, with percentile ranges, a curve a placement with intervals over "
                 "seeds; and the signal left where one part is rounded alone.", [*panels, _sources(study)])


def _by_bits(study: Quantization, title: str, value: Callable[[Rounded], float | None]) -> Panel:
    curves = []
    for index, name in enumerate(study.variants):
        cells = [[known for row in study.at(name, bits, PERCENTILE) if (known := value(row)) is not None]
                 for bits in study.bits]
        places = [place + 0.12 * (index - 1) for place, cell in enumerate(cells) if cell]
        curves.append(curve_of(places, [mean_of(cell) for cell in cells if cell], index, label=name))
    return Panel(title, curves, ticks=[f"{bits} bits" for bits in study.bits])


def _sources(study: Quantization) -> Panel:
    curves: list[Curve] = []
    for index, name in enumerate(study.placements, 1):
        rows = [row for row in study.at(name, _middle(study), PERCENTILE) if row.sources_db]
        curves += [curve_of([place + 0.15 * (index - 1.5)], [mean_of([row.sources_db[group] for row in rows])], index,
                            size=5, width=0) for place, group in enumerate(GROUPS) if rows]
    return Panel(f"dB at {_middle(study)} bits, one part rounded", curves,
                 ticks=("the rest", "the gate", "the product"))

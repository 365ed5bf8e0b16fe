"""The page of occlusion: what moves the gates, the corner's test, gates by depth, and the maps of what moves most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from secost.figures.panels import Curve, Grid, Panel, curve_of, drawn, heat_maps
from secost.pages.page import Page, Section, Table
from secost.pages.wording import interval_words
from secost.runs.study import OPEN, SHUT, Occlusion
from secost.statistics import Interval
from secost.writing import NA

_STRONGEST = 7
_OF_CUE = ("readers", "correlation", "trained", "untrained", "difference")
SHIFTS_FILE = "gate-shifts.safetensors"


def page(study: Occlusion) -> Page:
    """Findings, gates by depth, the corner's test, the units that move most, and figures."""
    told = findings(study)
    about = [f"{study.subject}; an occluder of {study.occluder_px} px in steps of {study.stride_px} px, at "
             f"{len(study.places)} places; gates of {study.attention}."]
    if study.top1 is not None:
        about.append(f"Trained here: {interval_words(study.top1, 1).removeprefix('+')} % of the test images are right.")
    sections = [
        Section("found", "What was found", (*told[1:], *about, *study.notes)),
        Section("gates", "Gates by depth", (), (_site_table(study),)),
        Section("moved", "Units that an occluder moves most", (), (_moved_table(study),)),
    ]
    if study.cues:
        words = ("Readers of the corner are the channels, one in eight, whose mean over the map goes most with its "
                 "presence, found on other images than those that are covered. The fall is their gates' shift with the "
                 "occluder's middle in the corner, less that with the corner untouched: below 0, the gates close.")
        sections.insert(2, Section("corner", "The corner, where the answer is known", (words,), (_cue_table(study),)))
    if study.detectors:
        sections.append(Section("detectors", "Which channel reads which cue", (), (_detector_table(study),)))
    return Page(
        "study-occlusion", f"What the gates of {study.model} look at", told[0], tuple(sections), tuple(_rows(study)),
        _document(study, told), lambda: _drawings(study), lambda: {SHIFTS_FILE: _maps(study)},
    )


def findings(study: Occlusion) -> list[str]:
    """Three sentences: what moves the gates, how they change with depth, how far they are used."""
    return [*_moved(study), *_by_depth(study), *_used(study)]


def _moved(study: Occlusion) -> list[str]:
    if not study.cues:
        name, unit, place, value = _strongest(study, 1)[0]
        rows, columns = _covered(study, place)
        return [f"What an occluder moves most is unit {unit} of {name}: by {value:+.3f} with rows {rows} and columns "
                f"{columns} covered."]
    test = study.cues[-1]
    found = (f"Covering the corner moves the gates of the channels that read it by {interval_words(test.trained, 4)} "
             f"more than covering another place does (site {test.name}, {len(test.pairs)} seeds)")
    difference = test.difference
    if all(value.high is not None and value.high < 0 for value in (difference, test.trained)):
        return [f"{found}, which is {interval_words(difference, 4)} more than in the same networks untrained: the gate "
                "closes when what its channels look for is hidden."]
    return [f"{found}; against the same networks untrained that is {interval_words(difference, 4)}: that gates close "
            "when what they look for is hidden is not shown."]


def _covered(study: Occlusion, place: int) -> tuple[str, ...]:
    """`4 to 7`: the rows that the occluder covers at a place, and the columns."""
    return tuple(f"{start} to {start + study.occluder_px - 1}" for start in study.places[place])


def _by_depth(study: Occlusion) -> list[str]:
    first, last = study.sites[0], study.sites[-1]
    if first.specificity is None or last.specificity is None or first is last:
        return []
    words = (f"The image's class explains {_share(first.specificity)} of the gates' variance at the first site and "
             f"{_share(last.specificity)} at the last")
    if _apart(first.specificity, last.specificity):
        later = last.specificity.estimate > first.specificity.estimate
        return [f"{words}: {'late' if later else 'early'} gates are the class-specific ones."]
    return [f"{words}: the two can't be told apart."]


def _used(study: Occlusion) -> list[str]:
    shut = [(item.saturation, item.name) for item in study.sites
            if item.saturation is not None and item.saturation.estimate > 0.01]
    most = max(shut, key=lambda pair: pair[0].estimate, default=None)
    limits = f"below {SHUT} or above {OPEN}"
    words = (f"Of the values {_share(most[0])} are saturated ({limits}) at site {most[1]}, the most of "
             f"{len(study.sites)} gates" if most else f"Hardly a value is saturated ({limits})")
    known = [(item.spread, item) for item in study.sites if item.spread is not None]
    if not known:
        return [f"{words}; one image can't tell how gates differ between images."]
    spread, site = max(known, key=lambda pair: pair[0].estimate)
    return [f"{words}; gates differ most from image to image at site {site.name}, by a standard deviation of "
            f"{spread.estimate:.3f} round {site.mean.estimate:.2f}."]


def _apart(first: Interval, second: Interval) -> bool:
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return False
    return first.high < second.low or second.high < first.low


def _strongest(study: Occlusion, count: int) -> list[tuple[str, int, int, float]]:
    """(gate, unit, place, shift) of the units that move most; of one gate at most a third of them, rounded up."""
    found = []
    for shift in study.shifts:
        flat = shift.values.reshape(len(shift.values), -1)
        places = np.abs(flat).argmax(1).tolist()
        for unit in np.argsort(-np.abs(flat).max(1), kind="stable")[: -(-count // 3)].tolist():
            found.append((shift.name, unit, places[unit], float(flat[unit, places[unit]])))
    return sorted(found, key=lambda item: -abs(item[3]))[:count]


def _share(value: Interval) -> str:
    """A share in percent; Student's interval is cut where no share can lie."""
    shown = f"{100 * value.estimate:z.0f} %"
    if value.low is None or value.high is None:
        return shown
    return f"{shown} [{100 * max(0.0, value.low):z.0f}, {100 * min(1.0, value.high):z.0f}]"


def _site_table(study: Occlusion) -> Table:
    rows = tuple((
        item.name, item.kind, str(item.units), f"{item.mean.estimate:.3f}",
        NA if item.spread is None else f"{item.spread.estimate:.4f}",
        NA if item.entropy_bits is None else f"{item.entropy_bits.estimate:.2f}",
        *(NA if value is None else _share(value) for value in (item.saturation, item.specificity, item.untrained)),
    ) for item in study.sites)
    heads = ("gate", "for each", "units", "mean", "deviation over images", "entropy (bits)", "saturated",
             "explained by class", "the same untrained")
    known = {head for head, *column in zip(heads, *rows, strict=True) if {*column} != {NA}}
    table = Table.of("Gates in the order in which they run", heads, rows, left=2)
    return table.without(lambda column: column.title not in known)


def _cue_table(study: Occlusion) -> Table:
    rows = [(test.name, ", ".join(map(str, test.readers)), f"{test.correlation:.2f}",
             *(interval_words(value, 4) for value in (test.trained, test.untrained, test.difference)))
            for test in study.cues]
    heads = ("gate", "readers (first seed)", "correlation", "fall, trained", "fall, untrained", "difference")
    return Table.of("How much further the readers' gates move with the corner covered", heads, rows, left=2)


def _detector_table(study: Occlusion) -> Table:
    rows = tuple((item.name, item.cue, ", ".join(map(str, item.channels)), f"{item.correlation:.2f}")
                 for item in study.detectors)
    return Table.of("One channel in eight, by the correlation of its mean over the map with the cue (first seed)",
                    ("gate", "cue", "channels", "correlation"), rows, left=3)


def _moved_table(study: Occlusion) -> Table:
    rows = [(name, str(unit), f"{value:+.4f}", *_covered(study, place))
            for name, unit, place, value in _strongest(study, _STRONGEST)]
    return Table.of("Largest shifts (first seed)", ("gate", "unit", "shift", "rows covered", "columns covered"), rows)


def _rows(study: Occlusion) -> Iterator[dict[str, Any]]:
    for shift in study.shifts:
        flat = shift.values.reshape(len(shift.values), -1)
        for unit, values in enumerate(flat):
            row, column = study.places[int(values.argmin())]
            yield {"gate": shift.name, "kind": shift.kind, "unit": unit, "lowest_shift": float(values.min()),
                   "highest_shift": float(values.max()), "lowest_at_row": row, "lowest_at_column": column}


def _document(study: Occlusion, told: Sequence[str]) -> dict[str, Any]:
    return {
        "model": study.model, "attention": study.attention, "subject": study.subject, "findings": list(told),
        "notes": study.notes, "occluder_px": study.occluder_px, "stride_px": study.stride_px, "rows": study.rows,
        "columns": study.columns, "top1": None if study.top1 is None else asdict(study.top1),
        "gates": [asdict(item) for item in study.sites],
        "corner": [{"gate": test.name, **{name: asdict(test)[name] for name in _OF_CUE}} for test in study.cues],
        "detectors": [asdict(item) for item in study.detectors],
        "strongest": [{"gate": name, "unit": unit, "shift": value, "row": study.places[place][0],
                       "column": study.places[place][1]} for name, unit, place, value in _strongest(study, _STRONGEST)],
    }


def _maps(study: Occlusion) -> bytes:
    """Every map, (units, rows, columns) a gate, as safetensors."""
    from safetensors.numpy import save

    return bytes(save({shift.name: shift.values for shift in study.shifts}))


def _drawings(study: Occlusion) -> list[Any]:
    strongest = _strongest(study, _STRONGEST)
    reach = max((abs(value) for *_, value in strongest), default=1.0) or 1.0
    values = {shift.name: shift.values for shift in study.shifts}
    found = [heat_maps(
        "maps", f"Which part of the image moves which gate: {study.model}",
        "The image with the occluder's grid, and for the units that move most a map: the shift of the gate with the "
        f"occluder there, blue where it closes and red where it opens, from {-reach:.3f} to {reach:.3f}.",
        Grid(study.image, study.occluder_px, study.stride_px, study.rows, study.columns),
        f"image, occluder {study.occluder_px} px",
        [(f"{_short(name)}, {unit}: {shift:+.3f}", values[name][unit]) for name, unit, _, shift in strongest], reach,
    )]
    if len(study.sites) > 1:
        found.append(drawn("depth", f"Gates of {study.model} by depth",
                           "For each gate in the order in which it runs: what the image's class explains of its "
                           "variance, its deviation over images, its entropy and its saturation.", _by_gate(study)))
    if study.cues:
        found.append(drawn("corner", "Gates that read the corner, with it covered",
                           "The fall of the readers' gates with the corner covered, a point a seed, trained and "
                           "untrained; below 0 the gates close more than with another place covered.",
                           [_corner(study)], width=5.0))
    return found


def _short(name: str) -> str:
    """A path's end, where it is long."""
    return name if len(name) <= 22 else f"...{name[-20:]}"


def _by_gate(study: Occlusion) -> list[Panel]:
    lines = (("explained by class (%)", 100.0, ("specificity", "untrained")),
             ("deviation over images", 1.0, ("spread",)), ("entropy (bits)", 1.0, ("entropy_bits",)),
             ("saturated (%)", 100.0, ("saturation",)))
    found = []
    for title, scale, names in lines:
        curves = []
        for look, (label, name) in enumerate(zip(("trained", "untrained"), names, strict=False)):
            known = [(place, _scaled(value, scale)) for place, item in enumerate(study.sites, 1)
                     if (value := getattr(item, name)) is not None]
            if known:
                curves.append(curve_of([place for place, _ in known], [value for _, value in known], look,
                                       label=None if study.top1 is None else label))
        if curves:
            found.append(Panel(title, curves, x="gate, in the order in which it runs", whole=True, bottom=0.0))
    return found


def _scaled(value: Interval, scale: float) -> Interval:
    if value.low is None or value.high is None:
        return Interval(scale * value.estimate, None, None)
    return Interval(scale * value.estimate, scale * max(0.0, value.low), scale * value.high)  # none can be below 0


def _corner(study: Occlusion) -> Panel:
    curves = []
    for index, label in enumerate(("untrained", "trained")):
        for place, test in enumerate(study.cues):
            found, x = (test.untrained, test.trained)[index], place + 0.2 * (index - 0.5)
            ends = [] if found.low is None or found.high is None else [(x + 0.06, found.low, found.high)]
            curves.append(Curve([(x, pair[index]) for pair in test.pairs], 1 - index, None if place else label, width=0,
                                alpha=0.5, intervals=ends, thick=2))
    return Panel("shift of the readers' gates, corner covered less elsewhere", curves, level=0.0,
                 ticks=[_short(test.name) for test in study.cues])

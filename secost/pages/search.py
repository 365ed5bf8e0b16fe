"""The page of a search: its answer in three sentences, what it is compared with, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from secost.answers.searched import (
    BOTH,
    CHANNEL,
    EXHAUSTIVE,
    RANDOM,
    SPATIAL,
    WITHIN,
    Finalist,
    Searched,
    allowed,
    front,
)
from secost.answers.where import where_words
from secost.figures.search import drawings
from secost.pages.page import Page, Section, Table
from secost.pages.wording import interval_words, overhead_words
from secost.plan.trials import BASELINE
from secost.plan.variants import choice_label, is_mix
from secost.runs.records import Record
from secost.runs.study import Preference
from secost.writing import NA, joined, percent, percent_interval, with_ends

_LIMIT_WORDS = {"latency": "time", "params": "parameters", "macs": "MACs"}
_NEAR_TRUTH = 0.98
_COUNTED = ("params", "macs", "params_overhead", "macs_overhead", "estimated_top1")
_MEASURED = ("latency_overhead", "latency_overhead_low", "latency_overhead_high")
_ESTIMATED = ("estimated_overhead", "estimated_overhead_low", "estimated_overhead_high")


def page(found: Searched) -> Page:
    """The search as a page; nothing of it is measured or trained here."""
    told = sentences(found)
    limits = joined([f"{percent(value)} {_LIMIT_WORDS[name]}" for name, value in found.asked.limits.items()])
    sections = [
        Section("answer", "In three sentences", tuple(told)),
        Section("networks", "Measured whole and trained alone", (_networks_note(found),), (_networks(found),)),
        Section("samplers", "What the search found, and what others did", tuple(_sampler_words(found)),
                (_samplers(found),)),
        Section("places", "What sits where", (*_place_words(found), *where_words()), tuple(_places(found))),
        Section("latency", "Predicted and measured time", tuple(_latency_words(found)), (_latency(found),)),
        Section("oneshot", "One-shot and stand-alone accuracy", tuple(_oneshot_words(found))),
    ]
    title = f"Which attention goes where in {found.spec.models[0]}, within {limits}"
    return Page("search", title, told[0], tuple(sections), tuple(_rows(found)), _document(found, told),
                lambda: drawings(found))


# --- words ------------------------------------------------------------------------------------------------------------


def sentences(found: Searched) -> list[str]:
    """The answer, what it is compared with, and whether it can be believed: a sentence each."""
    return [_answer(found), _compared(found), _believed(found)]


def _answer(found: Searched) -> str:
    best = found.chosen
    if best is None or best.gain is None:
        return ("No network with attention that was measured and trained holds the budget, so the answer is the "
                "network without attention.")
    words = (f"Within the budget {best.name} ({_drawn_words(found, best.record)}) is the most accurate that was "
             f"trained alone: {_points(best)} over none at {overhead_words(best.record)} time")
    if best.gain.low is None or best.gain.low <= 0:
        return (f"{words}; as that gain is not told from none, the network without attention is the better choice "
                "until more seeds say otherwise.")
    return f"{words}, and of {len(found.finalists)} it was picked by this very gain, which flatters it a little."


def _compared(found: Searched) -> str:
    parts = []
    everywhere = [item for item in found.finalists if item.record.attention == "se"]
    plain = [item for item in found.finalists if not is_mix(item.record.attention)]
    kept = [item for item in plain if item.allowed]
    if everywhere:
        cheapest = min(everywhere, key=lambda item: item.record.latency_overhead or 0.0)
        parts.append(f"SE everywhere takes {overhead_words(cheapest.record)} time for {_points(cheapest)} "
                     f"({cheapest.name})")
    parts.append(f"the best of one choice everywhere within the budget is {_named(kept)}" if kept
                 else "no single choice everywhere holds the budget")
    drawn, mine = (found.best(found.allowed_estimates(name)) for name in (RANDOM, found.asked.sampler))
    if drawn and mine:
        parts.append(f"by the one-shot network a random draw of as many found {drawn[0].estimated_top1:.2f} % at best "
                     f"and the search {mine[0].estimated_top1:.2f} %")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _believed(found: Searched) -> str:
    rank, count = found.result.rank, len(found.result.believed)
    if rank is None:
        first = f"whether one-shot accuracy ranks networks as training alone does, {count} of them can't tell"
    else:
        judged = ("so the search can be believed in its order" if (rank.low or -1) > 0 else
                  "so its order of networks is not shown to be better than chance")
        first = (f"one-shot accuracy ranks {count} networks as training alone does with a correlation of "
                 f"{interval_words(rank, 2)}, {judged}")
    misses = _misses(found)
    if not misses:
        return f"How far to believe it: {first}."
    return (f"How far to believe it: {first}; predicted time was off by {100 * median(misses):.0f} % of the measured "
            f"overhead at the median of {len(misses)} random networks.")


def _named(items: Sequence[Finalist]) -> str:
    best = max(items, key=lambda item: item.gain.points if item.gain else 0.0)
    return f"{best.name} ({_points(best)} at {overhead_words(best.record)} time)"


def _points(item: Finalist) -> str:
    gain = item.gain
    return NA if gain is None else f"{with_ends(gain.points, gain.low, gain.high, 2)} points"


def _drawn_words(found: Searched, record: Record) -> str:
    """`stage 1: none; stage 2: se r=4`: stage by stage, in the order of the data."""
    by_stage: dict[int, list[str]] = {}
    for stage, label in zip(found.stages, found.labels(record), strict=True):
        by_stage.setdefault(stage, []).append(label)
    return "; ".join(f"stage {stage}: {labels[0] if len({*labels}) == 1 else ', '.join(labels)}"
                     for stage, labels in by_stage.items())


def _networks_note(found: Searched) -> str:
    train = found.spec.train
    assert train is not None
    return (f"Accuracy alone is of the test images of {train.dataset}, {train.epochs} epochs, {train.seeds} paired "
            "seeds; estimated accuracy is the one-shot network's, on training images that were held out. The budget is "
            "held at the upper end of the interval.")


def _sampler_words(found: Searched) -> Iterator[str]:
    size, whole = found.space.size, "all points" if found.estimates(EXHAUSTIVE) else "all that were judged"
    yield (f"The space has {size:,} points: {' or '.join(choice_label(c) for c in found.space.options[0])} at each of "
           f"{len(found.space.groups)} {found.asked.per}s. A share is of the hypervolume (accuracy above the least, "
           f"time under the budget) that {whole} cover.")
    shares = found.result.shares[found.asked.sampler]
    count = next((n for n, share in enumerate(shares, 1) if share >= _NEAR_TRUTH), None)
    if count is not None and found.estimates(EXHAUSTIVE):
        yield f"{found.asked.sampler} was within 2 % of all points after {count} of {size:,} ({count / size:.0%})."


def _place_words(found: Searched) -> list[str]:
    rows = found.result.preferences
    if not rows:
        return ["The space has not both spatial and channel attention to choose from, so which sits where is no "
                "question here."]
    better = [row for row in rows if (row.spatial_over_channel.low or 0.0) > 0]
    worse = [row for row in rows if (row.spatial_over_channel.high or 0.0) < 0]
    what = "all points" if found.estimates(EXHAUSTIVE) else "a random draw"
    words = [f"Spatial early and channel late? {_early_late(rows, better, worse)} This is the one-shot network's word, "
             f"over {what}, whatever the budget."]
    counts = {name: sum(row.on_front[name] for row in rows) for name in (SPATIAL, CHANNEL, BOTH, BASELINE)}
    words.append(f"On the front within the budget, over all groups: {counts[SPATIAL]} spatial, {counts[CHANNEL]} "
                 f"channel, {counts[BOTH]} both, {counts[BASELINE]} none.")
    return words


def _early_late(rows: Sequence[Preference], better: Sequence[Preference], worse: Sequence[Preference]) -> str:
    half = len(rows) / 2
    early = [row for row in better if rows.index(row) < half]
    late = [row for row in worse if rows.index(row) >= half]
    against = len(better) - len(early) + len(worse) - len(late)
    if not better and not worse:
        return "No: at no place is one told from the other."
    told = f"spatial is told to be better in {_stages(better)} and worse in {_stages(worse)}"
    if early and late and not against:
        return f"Yes: {told}."
    if against and not (early or late):
        return f"No, the other way round: {told}."
    return f"Not as a rule: {told}."


def _stages(rows: Sequence[Preference]) -> str:
    return joined([f"stage {stage}" for stage in dict.fromkeys(row.stage for row in rows)]) or "none"


def _latency_words(found: Searched) -> Iterator[str]:
    table = found.result.table
    if table is None:
        yield "No time was measured, so none was predicted."
        return
    once = joined([f"{percent(value)} for {kind}" for kind, value in table.first_use.items()])
    yield (f"A network's overhead is predicted as the sum of its parts; what a kind of attention adds once, at its "
           f"first use in a pass, is {once}. Whole networks left out of the fit were missed by "
           f"{100 * table.spread:.0f} % (root mean square, {table.networks} networks).")
    misses = _misses(found)
    if not misses:
        return
    near = sum(miss <= WITHIN for miss in misses)
    words = f"Of {len(misses)} random networks {near} are predicted within 15 % of their measured overhead"
    if near == len(misses):
        yield f"{words}."
        return
    far = [record for predicted, record in found.checks if _miss(predicted, record) > WITHIN]
    few = [record for record in far if (record.sites or 0) <= len(found.stages) / 2]
    reason = (f"; {len(few)} of the {len(far)} others have attention at no more than half of the sites, where the "
              "overhead is small and what surrounds it weighs more" if few else
              "; what the others lack is the interplay of neighbours (caches, allocation), which no sum holds")
    yield words + reason + "."


def _miss(predicted: float, record: Record) -> float:
    return abs(predicted / record.latency_overhead - 1) if record.latency_overhead else float("inf")


def _misses(found: Searched) -> list[float]:
    return [_miss(predicted, record) for predicted, record in found.checks]


def _oneshot_words(found: Searched) -> Iterator[str]:
    pairs, rank = found.result.believed, found.result.rank
    shown = "too few ranks to tell" if rank is None else interval_words(rank, 2)
    yield (f"Over {len(pairs)} networks that were both judged by the one-shot network and trained alone: rank "
           f"correlation (Spearman) {shown}. Finalists stand close together at the top, which lowers it.")
    if pairs:
        gap = mean(alone - shot for shot, alone in pairs)
        yield f"Trained alone they are {gap:+.2f} points from the one-shot estimate on average (on other images)."


# --- tables -----------------------------------------------------------------------------------------------------------


def _networks(found: Searched) -> Table:
    bare = found.estimated.get(found.space.name((0,) * len(found.space.groups)))
    rows = [] if found.group.baseline is None else [(
        BASELINE, "no attention", "", "", "", "0 %", "yes", _top1(bare.estimated_top1 if bare else None),
        _top1(found.result.baseline_top1), "",
    )]
    for item in found.finalists:
        record, judged = item.record, item.estimate
        rows.append((
            item.name, _found_by(found, item), percent(record.params_overhead), percent(record.macs_overhead),
            NA if judged is None else percent_interval(*(getattr(judged, name) for name in _ESTIMATED)),
            overhead_words(record), "yes" if item.allowed else "no", _top1(judged.estimated_top1 if judged else None),
            _top1(item.top1), _points(item),
        ))
    heads = ("network", "from", "parameters", "MACs", "time, predicted", "time, measured", "in the budget",
             "accuracy, one-shot", "accuracy, alone", "gain")
    return Table.of("Added to the network without attention, with 95 % intervals", heads, rows, left=2)


def _top1(value: float | None) -> str:
    return NA if value is None else f"{value:.2f} %"


def _found_by(found: Searched, item: Finalist) -> str:
    if not is_mix(item.record.attention):
        return "the same everywhere"
    names = [name for name in (found.asked.sampler, RANDOM)
             if any(record.attention == item.record.attention for record in found.estimates(name))]
    return " and ".join(names) or "the fit"


def _samplers(found: Searched) -> Table:
    rows = []
    for name in (found.asked.sampler, RANDOM, EXHAUSTIVE):
        records, shares = found.estimates(name), found.result.shares[name]
        if not records:
            continue
        kept = [record for record in records if allowed(record, found.asked.limits)]
        best = found.best(kept)
        rows.append((
            name, f"{len(records):,}", f"{len(kept):,}", str(len(front(kept))),
            f"{shares[max(0, len(shares) // 4 - 1)]:.1%}", f"{shares[-1]:.1%}",
            best[0].attention if best else NA, _top1(best[0].estimated_top1 if best else None),
        ))
    heads = ("by", "judged", "in the budget", "on its front", "share, first quarter", "share, all", "its best",
             "accuracy, one-shot")
    return Table.of("Searches by the same judge", heads, rows)


def _places(found: Searched) -> list[Table]:
    rows = [(str(row.stage), ", ".join(str(place + 1) for place in row.sites),
             f"{interval_words(row.spatial_over_channel, 3)} points",
             *(str(row.on_front[name]) for name in (SPATIAL, CHANNEL, BOTH, BASELINE)))
            for row in found.result.preferences]
    heads = ("stage", "sites", "spatial less channel", "spatial on the front", "channel", "both", "none")
    return [Table.of("Mean estimated accuracy with spatial attention there, less with channel attention", heads, rows,
                     left=2)] if rows else []


def _latency(found: Searched) -> Table:
    rows = [(record.label, percent(predicted), overhead_words(record), NA if not record.latency_overhead else
             f"{100 * (predicted / record.latency_overhead - 1):+.0f} %") for predicted, record in found.checks]
    return Table.of("Random networks that had no part in the fit", ("network", "predicted", "measured", "off by"), rows)


# --- plain values -----------------------------------------------------------------------------------------------------


def _rows(found: Searched) -> Iterator[dict[str, Any]]:
    for record in found.records:
        if record.estimate is not None:
            yield {
                "by": record.estimate, "network": record.attention,
                **{name: getattr(record, name) for name in _COUNTED}, "loss": (record.samples or {}).get("loss"),
                **{name: getattr(record, name) for name in _ESTIMATED},
                "in_budget": allowed(record, found.asked.limits),
            }


def _document(found: Searched, told: Sequence[str]) -> dict[str, Any]:
    result, best = found.result, found.chosen
    return {
        "model": found.spec.models[0], "limits": found.asked.limits, "answer": list(told),
        "chosen": None if best is None else best.record.attention,
        "chosen_sites": None if best is None else found.labels(best.record),
        "space": {"points": found.space.size, "groups": [list(group) for group in found.space.groups],
                  "options": [choice_label(choice) for choice in found.space.options[0]]},
        "networks": [{
            "network": item.record.attention, "reduction": item.record.reduction, "from": _found_by(found, item),
            "in_budget": item.allowed, **{name: getattr(item.record, name) for name in _MEASURED},
            "estimated_overhead": item.estimate and item.estimate.estimated_overhead,
            "estimated_top1": item.estimate and item.estimate.estimated_top1, "top1": item.top1,
            "gain": item.gain and asdict(item.gain),
        } for item in found.finalists],
        "baseline_top1": result.baseline_top1,
        "samplers": {name: {"judged": len(found.estimates(name)), "shares": result.shares[name],
                            "front": [record.attention for record in front(found.allowed_estimates(name))]}
                     for name in (found.asked.sampler, RANDOM, EXHAUSTIVE) if found.estimates(name)},
        "places": [{name: asdict(row)[name] for name in ("stage", "sites", "on_front", "spatial_over_channel")}
                   for row in result.preferences],
        "rank_correlation": result.rank and asdict(result.rank), "one_shot_and_alone": result.believed,
        "latency_table": result.table and asdict(result.table),
        "latency_checks": [{"network": record.attention, "predicted": predicted, "measured": record.latency_overhead,
                            "low": record.latency_overhead_low, "high": record.latency_overhead_high}
                           for predicted, record in found.checks],
    }

"""Sentences on what stands in several parts of a page: gains, the floor, spellings, backends, batch and shape, and what
others published. Made by rule from values; no sentence says more than they carry."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from secost.answers import families
from secost.answers.evidence import NO_GAIN, UNCLEAR, WORTH, Seeds, Weighed
from secost.answers.families import Difference, Family, RuntimeRow, Spelled, Spellings, runtime_rows, timed
from secost.answers.groups import LATENCY, Group, added_ms, setting_words, stage_floors, whole_floor
from secost.answers.published import times_by_network
from secost.runs.records import Gain, Record
from secost.statistics import Interval
from secost.writing import NA, joined, milliseconds, percent, percent_interval, with_ends

# How many times its floor an attention takes where it can hardly be written better, or is mostly badly written; and how
# far stages lie apart where that is worth a word.
_NEAR, _FAR, _APART = 2.0, 4.0, 1.5
# Of two times, what is called a difference: less than this is within what two separate measurements differ by anyway.
_ALIKE = 1.05
_CLEARLY = 1.25
# Whether the overhead is higher than on the reference, what became of the network alone, what of the addition.
_WHY = {
    (True, "faster", "faster"): "the rest of the network gained more than the attention",
    (True, "faster", "alike"): "the rest of the network became faster, the attention did not",
    (True, "faster", "slower"): "the rest of the network became faster and the attention slower",
    (True, "alike", "slower"): "the attention became slower, the rest of the network did not",
    (True, "slower", "slower"): "the attention lost more than the rest of the network",
    (False, "faster", "faster"): "the attention gained more than the rest of the network",
    (False, "alike", "faster"): "the attention became faster, the rest of the network did not",
    (False, "slower", "faster"): "the attention became faster and the rest of the network slower",
    (False, "slower", "alike"): "the rest of the network became slower, the attention did not, which hides its cost",
    (False, "slower", "slower"): "the rest of the network lost more than the attention, which hides its cost",
}


def few(names: Sequence[str], most: int, kept: int | None = None) -> list[str]:
    """The names; where there are more than `most` the first `kept`, one less than that, and how many more there are."""
    kept = most - 1 if kept is None else kept
    return list(names) if len(names) <= most else [*names[:kept], f"{len(names) - kept} more"]


def interval_words(value: Interval, digits: int, signed: bool = True) -> str:
    """`+0.17 [-0.16, 0.50]`, or the estimate alone."""
    return with_ends(value.estimate, value.low, value.high, digits, signed)


def prefixed(label: str, sentences: Iterable[str], several: bool) -> list[str]:
    """The sentences, each behind what it is about where there are several of such."""
    return [f"{label}: {sentence}" if several else sentence for sentence in sentences]


# --- what was gained ---


def benefit_words(items: Sequence[Weighed], seeds: Sequence[Seeds]) -> list[str]:
    """What was gained, by whom, and what pairing the seeds was worth."""
    sentences = []
    several = len({item.record.model for item in items}) > 1
    for answer, words in ((WORTH, "raises accuracy (the interval lies above 0)"),
                          (UNCLEAR, "can't be told from no gain"),
                          (NO_GAIN, "no gain (the interval does not reach above 0)")):
        names = list(dict.fromkeys(
            f"{item.record.label}{f' on {item.record.model}' if several else ''} ({gain_words(item.gain)})"
            for item in items if item.answer == answer))
        if names:
            sentences.append(f"{joined(names)}: {words}.")
    widths = [(s.paired.half_width, s.unpaired.half_width) for s in seeds if len(s.pairs) > 1]
    if widths:
        paired, unpaired = (sum(column) / len(widths) for column in zip(*widths, strict=True))
        pays = "pays" if paired < unpaired else "does not pay here"
        sentences.append(f"Pairing seeds {pays}: the interval of a gain is +-{paired:.2f} points on average, and would "
                         f"be +-{unpaired:.2f} without.")
    if any(len(s.pairs) == 1 for s in seeds):
        sentences.append("One seed gives no interval: how much of its difference is luck is not known.")
    return sentences


def gain_words(gain: Gain) -> str:
    """`+1.23 points [0.81, 1.65]`, `+1.51 points [no interval]`."""
    ends = "[no interval]" if gain.low is None or gain.high is None else f"[{gain.low:z.2f}, {gain.high:z.2f}]"
    return f"{gain.points:+z.2f} points {ends}"


def of_models(step: str, records: Sequence[Record]) -> str:
    """The step with the network's own name, where there is one."""
    models = {record.model for record in records}
    return step.replace("MODEL", shlex.quote(models.pop())) if len(models) == 1 else step


# --- the floor ---


def floor_words(group: Group) -> list[str]:
    """For each attention that has a floor: how many times its floor it takes, what that means, and where most."""
    sentences = []
    for record in group.representatives():
        whole = whole_floor(record)
        if whole.times is None:
            continue
        sentences.append(
            f"{record.label} spends {milliseconds(whole.direct_ms)} inside its modules; what they read, write and "
            f"multiply needs at least {milliseconds(whole.floor_ms)} here: {times_words(whole.times)} its floor, so "
            f"{_meaning(whole.times)}{_where(record)}.")
    return sentences


def times_words(times: float | None) -> str:
    """`3.1 times`, `N/A`."""
    if times is None:
        return NA
    return f"{times:.1f} times" if times < 10 else f"{times:,.0f} times"


def _meaning(times: float) -> str:
    if times < 1:
        return ("there is nothing to be won by writing it better (below 1 the machine was busier while its rates were "
                "measured, or did less than the floor assumes)")
    if times < _NEAR:
        return "the attention itself is what costs: another implementation can win little"
    if times < _FAR:
        return "attention and implementation share the cost: one that passes over the map less often can win some"
    return "mostly its implementation is slow, not the attention: launches and separate passes, which fusing would save"


def _where(record: Record) -> str:
    """` (most in stage 4, 9.1 times; least in stage 1, 1.8 times)` where stages differ."""
    known = {stage: floor.times for stage, floor in stage_floors(record).items() if floor.times is not None}
    if len(known) < 2:
        return ""
    most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    if known[most] < _APART * known[least]:
        return ""
    return f" (most in stage {most}, {times_words(known[most])}; least in stage {least}, {times_words(known[least])})"


# --- spellings ---


def spelling_words(table: Spellings) -> list[str]:
    """What the table says: the fastest at equal outputs, against secost's own and the others; then other functions."""
    rivals = table.standing(families.FASTEST, families.ALIKE, families.SLOWER)
    best = next((row for row in rivals if row.standing == families.FASTEST), None)
    words = ("no two spellings with equal outputs were timed, so none is called the fastest" if best is None else
             _fastest_spelling_words(best, rivals))
    sentences = [f"How {table.label} is written ({table.group.records[0].backend}): {words}."]
    others = [f"{row.name} ({words} against secost's own)" if (words := difference_words(row.against_own)) else row.name
              for row in table.standing(families.OTHER)]
    if others:
        end = ("is not the same function: its outputs differ, so it is listed apart" if len(others) == 1 else
               "are not the same function: their outputs differ, so they are listed apart")
        sentences.append(f"{joined(others)} {end}.")
    return sentences


def _fastest_spelling_words(best: Spelled, rivals: Sequence[Spelled]) -> str:
    alike = [row.name for row in rivals if row.standing == families.ALIKE]
    words = difference_words(best.against_own)
    own = f"{best.name}, {words} of the network's time against secost's own" if words else best.name
    slower = [row for row in rivals if row.standing == families.SLOWER]
    if not slower:
        return (f"at equal outputs none of {len(rivals)} spellings can be told from the others' fastest "
                f"({own})")
    first = f"fastest at equal outputs is {own}"
    near = f", not distinguishable from {joined(alike)}" if alike else f", ahead of all {len(slower)} others"
    last = max(slower, key=lambda row: row.against_fastest.estimate if row.against_fastest else 0.0)
    words = difference_words(last.against_fastest)
    against = f", {words} against the fastest" if words else ""
    return f"{first}{near}; slowest is {last.name}{against}"


def difference_words(difference: Difference | None) -> str:
    """`+0.8 % [0.2, 1.4]`, nothing where there is none."""
    return percent_interval(difference.estimate, difference.low, difference.high) if difference else ""


# --- what runs the network, batch, resolution, threads ---


def runtime_words(family: Family) -> list[str]:
    """What the rows of each attention mean, by rule: the range, each backend against the first (eager fp32 where it is
    there), whether its overhead rose because the rest got faster, and which is fastest with attention."""
    sentences = []
    for label, mine in _by_variant(family):
        if len({row.record.environment for row in mine}) > 1:
            sentences.append(f"{label}: these backends were timed in different environments, so they are not compared.")
            continue
        reference = next((row for row in mine if row.name == "eager fp32"), mine[0])
        others = [_against(row, reference) for row in mine if row is not reference]
        sentences += [_range_words(label, mine), *_meaning_words(label, mine), *others, *_fastest_words(label, mine)]
    return sentences


def runtime_summary(family: Family) -> list[str]:
    """The range of each attention's overhead, and what is fastest with it."""
    return [sentence for label, mine in _by_variant(family) if len({row.record.environment for row in mine}) == 1
            for sentence in (_range_words(label, mine), *_fastest_words(label, mine))]


def axis_words(family: Family) -> list[str]:
    """For each attention: the overhead at both ends of the axis, and whether the two can be told apart."""
    sentences = []
    for label in family.variants():
        pairs = [(group, record) for group in family.groups for record in timed(group) if record.label == label]
        if len({record.environment for _, record in pairs}) > 1:
            sentences.append(f"{label}: timed in different environments, so not compared over {family.axis}.")
            continue
        (first_group, first), (last_group, last) = pairs[0], pairs[-1]
        ends = [setting_words(group.records[0], [family.axis]) for group in (first_group, last_group)]
        sentences.append(f"{label}: from {ends[0]} to {ends[1]} the time overhead goes from {overhead_words(first)} to "
                         f"{overhead_words(last)}{_apart_words(first, last)}.")
    return sentences


def _by_variant(family: Family) -> list[tuple[str, list[RuntimeRow]]]:
    """Each attention by its label, with its rows."""
    rows = runtime_rows(family)
    return [(label, [row for row in rows if row.record.label == label]) for label in family.variants()]


def overhead_words(record: Record) -> str:
    """`+8.1 % [7.2, 9.0]`."""
    return LATENCY.show_overhead(record, None)


def _apart_words(first: Record, last: Record) -> str:
    mine, theirs = LATENCY.interval(first), LATENCY.interval(last)
    if mine is None or theirs is None:
        return ", without intervals to tell them apart"
    overlap = mine[0] <= theirs[1] and theirs[0] <= mine[1]
    return ", which can't be told apart: their intervals overlap" if overlap else ""


def _range_words(label: str, rows: Sequence[RuntimeRow]) -> str:
    ordered = sorted(rows, key=lambda row: row.record.latency_overhead or 0.0)
    least, most = ordered[0], ordered[-1]
    shared = _apart_words(least.record, most.record)
    ends = [f"{overhead_words(row.record)} on {row.name}" for row in (least, most)]
    if shared:
        return f"{label}: the time overhead is {ends[0]} and {ends[1]}{shared}."
    return f"{label}: the time overhead depends on what runs the network, from {ends[0]} to {ends[1]}."


def _meaning_words(label: str, rows: Sequence[RuntimeRow]) -> list[str]:
    """Whether the attention weighs more the faster the network runs: over all rows, how far the time of the network
    alone goes, and how far what attention adds."""
    known = [(row.base_ms, interval.estimate, row) for row in rows
             if row.base_ms and (interval := added_ms(row.group, row.record))]
    if len(known) < 2 or min(added for _, added, _ in known) <= 0:
        return []
    slow, fast = max(known, key=lambda item: item[0]), min(known, key=lambda item: item[0])
    least, most = min(added for _, added, _ in known), max(added for _, added, _ in known)
    gained, kept = slow[0] / fast[0], most / least
    start = (f"{label}: from the slowest to the fastest, the network alone takes {milliseconds(slow[0])} to "
             f"{milliseconds(fast[0])} (a factor of {gained:.1f}), while what attention adds lies between "
             f"{milliseconds(least)} and {milliseconds(most)} (a factor of {kept:.1f})")
    rises = (fast[2].record.latency_overhead or 0.0) > (slow[2].record.latency_overhead or 0.0)
    if rises and gained > _CLEARLY * kept and not _apart_words(slow[2].record, fast[2].record):
        return [f"{start}: the faster the rest runs, the more the attention weighs, because these backends speed up "
                "convolutions more than the squeeze and the scaling."]
    if not rises and kept > _CLEARLY * gained and not _apart_words(slow[2].record, fast[2].record):
        return [f"{start}: the attention is sped up more than the rest, so it weighs less where the network runs fast."]
    return [f"{start}: no rule between the two can be read off."]


def _against(row: RuntimeRow, reference: RuntimeRow) -> str:
    """One backend against the reference: what became of the network, of what attention adds, and so of the ratio."""
    start = f"{row.record.label} on {row.name} against {reference.name}"
    overheads = overhead_words(row.record), overhead_words(reference.record)
    mine, theirs = added_ms(row.group, row.record), added_ms(reference.group, reference.record)
    if mine is None or theirs is None or not row.base_ms or not reference.base_ms:
        return f"{start}: {overheads[0]} against {overheads[1]}."
    network = (f"the network alone takes {milliseconds(row.base_ms)} against {milliseconds(reference.base_ms)} "
               f"({_factor(reference.base_ms / row.base_ms)})")
    attention = f"what {row.record.label} adds is {_added(mine)} against {_added(theirs)}"
    if _apart_words(row.record, reference.record):
        return f"{start}: {network}, {attention}; the overheads, {' and '.join(overheads)}, can't be told apart."
    return (f"{start}: {network}, {attention}; so the overhead is {overheads[0]}, not {overheads[1]}: "
            f"{_why(row, reference, mine, theirs)}.")


def _why(row: RuntimeRow, reference: RuntimeRow, mine: Interval, theirs: Interval) -> str:
    """Why one overhead differs from another: what became of the network, and of what attention adds to it."""
    assert row.base_ms and reference.base_ms  # the caller looked
    higher = (row.record.latency_overhead or 0.0) > (reference.record.latency_overhead or 0.0)
    base = reference.base_ms / row.base_ms
    network = "faster" if base >= _ALIKE else "slower" if base <= 1 / _ALIKE else "alike"
    return _WHY.get((higher, network, _change(mine, theirs)), "both changed a little")


def _change(mine: Interval, theirs: Interval) -> str:
    """What became of an addition: alike where the two intervals overlap, or where one is missing and they are near."""
    low, high = (mine.estimate if end is None else end for end in (mine.low, mine.high))
    other_low, other_high = (theirs.estimate if end is None else end for end in (theirs.low, theirs.high))
    if low <= other_high and other_low <= high:
        return "alike"
    return "faster" if mine.estimate < theirs.estimate else "slower"


def _fastest_words(label: str, rows: Sequence[RuntimeRow]) -> list[str]:
    known = [row for row in rows if row.record.latency_ms]
    if len(known) < 2:
        return []
    best = min(known, key=lambda row: row.record.latency_ms or 0.0)
    convert = [f"{row.name} {row.record.convert_s:.0f} s" for row in known if row.record.convert_s]
    once = f"; converting took {joined(convert)}, once" if convert else ""
    return [f"{label}: in absolute time {best.name} is fastest, {milliseconds(best.record.latency_ms)} a pass with "
            f"attention{once}."]


def _factor(ratio: float) -> str:
    if ratio >= _ALIKE:
        return f"{ratio:.2f} times as fast"
    return "about as fast" if ratio > 1 / _ALIKE else f"{1 / ratio:.2f} times the time"


def _added(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{milliseconds(value.estimate)} [no interval]"
    low, high = (milliseconds(end).removesuffix(" ms") for end in (value.low, value.high))
    return f"{milliseconds(value.estimate)} [{low}, {high}]"


# --- what others published ---


def published_words(groups: Sequence[Group]) -> list[str]:
    """One sentence a network and attention: the range of what was published for it."""
    sentences = []
    for (model, attention), rows in times_by_network(groups).items():
        low, high = (percent(end([row.latency_overhead for row in rows])) for end in (min, max))
        said = (f"{len(rows)} published figures say from {low} to {high}" if len(rows) > 1 else
                f"one published figure says {low}")
        sentences.append(f"{model} with {attention}: {said} time. They are of other machines, batches and libraries, "
                         "and they have no intervals: they show a range, and test nothing.")
    return sentences

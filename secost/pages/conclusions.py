"""One plain sentence a conclusion, made from the records of one comparison. No sentence says more than they carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from secost.answers.families import compared_spellings, difference
from secost.answers.groups import COUNTED, LATENCY, MACS, MEMORY, PARAMS, Currency, Group
from secost.answers.verdict import control_failed, control_interval
from secost.pages.wording import floor_words, spelling_words
from secost.runs.records import Record
from secost.writing import joined, percent, percent_interval

_MOST_SENTENCES = 6


def costs(group: Group) -> list[str]:
    """What each attention costs, in every currency at hand: one sentence for each representative."""
    chosen = group.representatives()
    sentences = [f"{record.label}{cost_words(group, record)}." for record in chosen[:_MOST_SENTENCES]]
    if len(chosen) > _MOST_SENTENCES:
        sentences.append(f"{len(chosen) - _MOST_SENTENCES} more attentions are in the table.")
    return sentences


def native(group: Group) -> list[str]:
    """The network as shipped against the same network stripped."""
    record = group.native
    if record is None:
        return []
    if all(group.overhead(record, currency) in (None, 0) for currency in (*COUNTED, LATENCY)):
        return ["As shipped, the network has no attention that could be told from the stripped network."]
    return [f"The attention it ships with (native), against the network stripped of it,{cost_words(group, record)}."]


def cost_words(group: Group, record: Record) -> str:
    """` adds 9.9 % parameters, 0.20 % MACs, ... and 55 % kernels; measured +8.1 % [7.2, 9.0] time`."""
    known = [(currency, group.overhead(record, currency)) for currency in COUNTED]
    parts = [(currency.word, value) for currency, value in known if value is not None]
    counted = f" {_added(parts)}" if parts else " could not be counted against a baseline"
    return f"{counted}; {_time_words(group, record)}"


def clock_against_macs(group: Group) -> list[str]:
    """How many times the MAC overhead the measured time overhead is, where the interval lies above 0."""
    ratios, freed, unclear = [], [], []
    for record in [*([group.native] if group.native else []), *group.representatives()]:
        counted, interval = group.overhead(record, MACS), LATENCY.interval(record)
        if counted is None or interval is None or record.latency_overhead is None:
            continue
        if interval[0] <= 0 <= interval[1]:
            unclear.append(record.label)
        elif interval[0] > 0 and counted > 0:
            ratios.append(_ratio_words(record, counted, interval))
        elif interval[0] > 0 and counted == 0:
            freed.append(record.label)
    sentences = []
    if ratios:
        sentences.append(f"Clock against counter: the time overhead is the MAC overhead times {joined(ratios)}.")
    if freed:
        sentences.append(f"MACs do not show the cost of {joined(freed)} at all: none are added, and yet time is.")
    if unclear:
        sentences.append(f"Not distinguishable from the baseline in time (the interval includes 0): {joined(unclear)}.")
    return sentences


def reduction_knob(group: Group) -> list[str]:
    """What r moves: parameters always, time only where the intervals of the two ends are apart."""
    sentences = []
    for attention in group.attentions[:_MOST_SENTENCES]:
        members = [record for record in group.of(attention) if record.reduction is not None]
        if len({record.reduction for record in members}) > 1:
            sentences += _knob(group, attention, members[0], members[-1])
    return sentences


def cheapest(group: Group) -> list[str]:
    """The cheapest variant in each currency; for time, all whose intervals meet the lowest one's."""
    if len(group.plain_variants) < 2:
        return []
    words = [_cheapest_counted(group, currency) for currency in COUNTED]
    told = [*filter(None, words), *_cheapest_time(group)]
    return [f"Cheapest: {'; '.join(told)}."] if told else []


def stage_share(group: Group) -> list[str]:
    """Which stage carries most of the added parameters, and which most of the added memory traffic."""
    for record in sorted(group.representatives(), key=lambda record: -(record.attention_params or 0)):
        words = [word for word in (_share(record, "params", PARAMS), _share(record, "memory_bytes", MEMORY)) if word]
        if words:
            return [f"By stage, {record.label}: {joined(words)}."]
    return []


def spellings(group: Group) -> list[str]:
    """Which way to write an attention is fastest at equal outputs; a way with other outputs apart."""
    return [sentence for table in compared_spellings(group) for sentence in spelling_words(table)]


def control(group: Group) -> list[str]:
    """Whether the second copy of the baseline came out as equal to it."""
    timed = [record for record in group.compared if record.latency_overhead is not None]
    if not timed:
        return []
    interval = next(filter(None, map(control_interval, timed)), None)
    shown = f" ({percent(interval[0])} to {percent(interval[1])})" if interval else ""
    if control_failed(group):
        return [f"The negative control failed: a second copy of the baseline came out as different from it{shown}, "
                "so no time overhead of that size can be believed."]
    if interval is None:
        return ["The negative control ran for too few rounds to have an interval, as the variants did: measure longer."]
    if not interval[0] <= 0 <= interval[1]:
        return [f"The negative control is borderline: the 95 % interval of a second copy of the baseline{shown} does "
                "not include 0, yet the meter, which asks for more than 95 %, did not call it failed."]
    return [f"The negative control passed: a second copy of the baseline was not told apart from it{shown}."]


def failures(group: Group) -> list[str]:
    """What failed, and why, in the words of the first failure."""
    if not group.failed:
        return []
    labels = [record.label for record in group.failed]
    shown = labels[:4] + ([f"{len(labels) - 4} more"] if len(labels) > 4 else [])
    reason = group.failed[0].error or "no reason was recorded"
    return [f"{len(labels)} of {len(group.records)} trials failed ({joined(shown)}): {reason}"]


SINGLE: tuple[Callable[[Group], list[str]], ...] = (
    costs, native, clock_against_macs, reduction_knob, cheapest, stage_share, floor_words, spellings,
    control, failures,
)


def range_over(values: Iterable[float | None]) -> str | None:
    """`+5.0 % to +79 %`, or one value where all show alike; None where there is none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    low, high = percent(known[0]), percent(known[-1])
    return low if low == high else f"{low} to {high}"


def _added(parts: list[tuple[str, float]]) -> str:
    if any(value < 0 for _, value in parts):
        return f"changes {joined([f'{word} by {percent(value)}' for word, value in parts])}"
    words = [f"{percent(value, signed=False)} {word}" if value else f"no {word}" for word, value in parts]
    return f"adds {joined(words)}"


def _time_words(group: Group, record: Record) -> str:
    interval = LATENCY.interval(record)
    if record.latency_overhead is None:
        return "time was not measured"
    shown = percent_interval(record.latency_overhead, record.latency_overhead_low, record.latency_overhead_high)
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return f"measured {shown} time, not distinguishable from no change"
    doubt = " (not to be trusted, the control failed)" if control_failed(group) else ""
    return f"measured {shown} time{doubt}"


def _ratio_words(record: Record, counted: float, interval: tuple[float, float]) -> str:
    """`41 (37 to 46) for se r=16`, all three with the digits that the lowest one needs."""
    low, middle, high = (value / counted for value in (interval[0], record.latency_overhead or 0.0, interval[1]))
    digits = 1 if low < 10 else 0
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}) for {record.label}"


def _knob(group: Group, attention: str, first: Record, last: Record) -> list[str]:
    small, large = group.overhead(first, PARAMS), group.overhead(last, PARAMS)
    if small is None or large is None:
        return []
    start = f"From r={first.reduction} to r={last.reduction}, {attention}'s added parameters go from {percent(small)} "
    return [f"{start}to {percent(large)}{_knob_time(first, last)}."]


def _knob_time(first: Record, last: Record) -> str:
    before, after = LATENCY.interval(first), LATENCY.interval(last)
    if first.environment != last.environment:
        return ", and their times are of different environments"
    if before is None or after is None or first.latency_overhead is None or last.latency_overhead is None:
        return ""
    shown = [percent_interval(first.latency_overhead, *before), percent_interval(last.latency_overhead, *after)]
    apart = difference(last, first)
    if apart is not None and not apart.told_apart:
        return f", while the time overheads ({shown[0]} and {shown[1]}) can't be told apart"
    return f", and the time overhead from {shown[0]} to {shown[1]}"


def _cheapest_counted(group: Group, currency: Currency) -> str | None:
    known = [(value, record) for record in group.plain_variants
             if (value := group.overhead(record, currency)) is not None]
    if not known:
        return None
    lowest = min(value for value, _ in known)
    names = [record.label for value, record in known if value == lowest]
    if len(names) == len(known):
        return f"{currency.word}, all alike ({percent(lowest)})" if len(names) > 1 else None
    return f"{currency.word}, {joined(_few(names))} ({percent(lowest)})"


def _cheapest_time(group: Group) -> list[str]:
    known = [(record, interval) for record in group.plain_variants if (interval := LATENCY.interval(record))]
    if len(known) < 2:
        return []
    best, (low, high) = min(known, key=lambda pair: pair[0].latency_overhead or 0.0)
    alike = [record.label for record, interval in known if record is not best and interval[0] <= high]
    shown = f"time, {best.label} ({percent_interval(best.latency_overhead, low, high)})"
    if not alike:
        return [shown]
    if len(alike) == len(known) - 1 and len(alike) > 1:
        return [f"{shown}, though no variant's interval lies wholly above its interval"]
    return [f"{shown}, not told apart from {joined(_few(alike))}"]


def _few(names: list[str]) -> list[str]:
    return names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]


def _share(record: Record, field: str, currency: Currency) -> str | None:
    amounts = {row["stage"]: row.get(field) or 0 for row in record.by_stage}
    total = sum(amounts.values())
    if len(amounts) < 2 or total <= 0:
        return None
    stage = max(amounts, key=lambda key: amounts[key])
    sites = next((row.get("sites") for row in record.by_stage if row["stage"] == stage), None)
    where = f" in {sites} of {record.sites} sites" if sites and record.sites else ""
    return f"stage {stage} carries {percent(amounts[stage] / total, signed=False)} of the added {currency.word}{where}"

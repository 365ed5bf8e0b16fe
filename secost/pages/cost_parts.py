"""The parts of a cost page that only some runs have: what was gained, backends, axes, spellings, the floor, what
others published. A function makes each, and `PARTS` is their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from secost.answers.evidence import failed_trainings, trained_seeds, unmatched
from secost.answers.families import (
    Family,
    Spellings,
    axis_families,
    compared_spellings,
    images_per_s,
    runtime_families,
    runtime_rows,
    timed,
)
from secost.answers.groups import LATENCY, MACS, MEMORY, PARAMS, Floor, Group, added_ms, setting_words, whole_floor
from secost.answers.published import PublishedTime, times_of
from secost.errors import BadSpecError
from secost.pages.page import Section, Table
from secost.pages.wording import (
    axis_words,
    benefit_words,
    difference_words,
    floor_words,
    gain_words,
    published_words,
    runtime_words,
    spelling_words,
    times_words,
)
from secost.plan.variants import get_spelling
from secost.runs.records import FILE, Record
from secost.writing import NA, interval_decimals, milliseconds, percent, percent_interval

if TYPE_CHECKING:
    from secost.pages.cost import Cost


def cost_parts(cost: Cost) -> Iterator[Section]:
    """The parts that the records carry, in the order of a page. What the verdict says already is not said again."""
    said = set(cost.verdict.sentences)
    for make in PARTS:
        part = make(cost)
        if part is not None:
            yield replace(part, paragraphs=tuple(line for line in part.paragraphs if line not in said))


def _benefit(cost: Cost) -> Section | None:
    """What the gains say, each beside its cost; and those that found no variant here."""
    items, seeds = cost.weighed, trained_seeds(cost.records)
    # Of what is published most is about other variants; of a user's own file each line was meant for this run.
    lost = unmatched(cost.groups, [gain for gain in cost.gains if gain.source == FILE])
    if not items and not lost:
        return None
    words = benefit_words(items, seeds)
    words += [f"{record.label} from seed {record.seed} came to nothing: {record.error or 'no reason was recorded'}."
              for record in failed_trainings(cost.records)]
    words += [f"Not in this run, and so without a cost: {gain.model} {gain.attention}"
              f"{'' if gain.reduction is None else f' r={gain.reduction}'} ({gain_words(gain)}, {gain.basis})."
              for gain in lost]
    several = len(cost.groups) > 1
    rows = tuple((
        *([item.group.label] if several else []), item.record.label, _top1(item.gain.baseline_top1),
        _top1(item.gain.top1), gain_words(item.gain), str(item.gain.pairs), _overhead(item.record),
        percent(item.group.overhead(item.record, PARAMS)), item.answer, item.gain.basis,
    ) for item in items)
    heads = (*(["Network"] if several else []), "Attention", "top-1 of none", "top-1 with it", "gain", "pairs",
             "time overhead", "parameters", "answer", "from")
    source = cost.gains[0].source if cost.gains else ""
    tables = (Table.of(f"Gain in accuracy ({source}) beside its cost", heads, rows, left=1 + several),) if rows else ()
    return Section("benefit", "What it buys", tuple(words), tables)


def _top1(value: float | None) -> str:
    return NA if value is None else f"{value:.2f} %"


def _backends(cost: Cost) -> Section | None:
    families = runtime_families(cost.groups)
    if not families:
        return None
    words = [sentence for family in families for sentence in runtime_words(family)]
    return Section("backends", "By backend", tuple(words), tuple(_backend_table(family) for family in families))


def _backend_table(family: Family) -> Table:
    rows = []
    for row in runtime_rows(family):
        record = row.record
        rows.append((
            row.name, record.label, milliseconds(row.base_ms), milliseconds(record.latency_ms),
            _speed(images_per_s(row.group.baseline)), _speed(images_per_s(record)), _overhead(record),
            _added(row.group, record), _seconds(record.convert_s),
        ))
    heads = ("Runs on", "Attention", "none", "with it", "none, images/s", "with it, images/s", "time overhead", "adds",
             "conversion, once")
    return Table.of(f"Time by backend: {family.label}", heads, tuple(rows), left=2)


def _axes(cost: Cost) -> Section | None:
    families = axis_families(cost.groups)
    if not families:
        return None
    words = [f"{family.label}: {sentence}" if len(families) > 1 else sentence
             for family in families for sentence in axis_words(family)]
    return Section("axes", "Over batch, resolution and threads", tuple(words), tuple(map(_axis_table, families)))


def _axis_table(family: Family) -> Table:
    rows = []
    for group in family.groups:
        for record in timed(group):
            rows.append((
                setting_words(record, [family.axis]), record.label, _base_time(group), milliseconds(record.latency_ms),
                _speed(images_per_s(group.baseline)), _speed(images_per_s(record)), _overhead(record),
            ))
    heads = (family.axis.capitalize(), "Attention", "none", "with it", "none, images/s", "with it, images/s",
             "time overhead")
    return Table.of(f"Time against {family.axis}: {family.label}", heads, tuple(rows), left=2)


def _spellings(cost: Cost) -> Section | None:
    tables = [(group, table) for group in cost.groups for table in compared_spellings(group)]
    if not tables:
        return None
    several = len(cost.groups) > 1
    words = [f"{group.label}: {sentence}" if several else sentence
             for group, table in tables for sentence in spelling_words(table)]
    words.append("All spellings of one attention have the same parameters and MACs. Differences are ratios of the "
                 "whole network's times in the same rounds; intervals allow for picking the fastest of several.")
    return Section("spelling", "How it is written", tuple(words), tuple(_spelling_table(*pair) for pair in tables))


def _spelling_table(group: Group, table: Spellings) -> Table:
    rows = []
    for row in table.rows:
        record = row.record
        rows.append((
            row.name, _written(record), row.standing, milliseconds(record.latency_ms), _overhead(record),
            difference_words(row.against_own), difference_words(row.against_fastest),
        ))
    heads = ("Spelling", "Squeeze, excitation, gate, scaling", "At equal outputs", "time", "overhead",
             "against secost's own", "against the fastest")
    return Table.of(f"Spellings of {table.label}: {group.label}", heads, tuple(rows), left=3)


def _written(record: Record) -> str:
    """`mean, linear, sigmoid, new`; N/A for a spelling that this version does not know."""
    try:
        way = get_spelling(record.attention, record.spelling)
    except BadSpecError:
        return NA
    layout = [way.layout] if way.layout != "nchw" else []
    return ", ".join([way.squeeze, way.excitation, way.gate, way.scaling, *layout])


def _floors(cost: Cost) -> Section | None:
    pairs = [(group, record, floor) for group in cost.groups for record in group.representatives()
             if (floor := whole_floor(record)).floor_ms is not None]
    if not pairs:
        return None
    several = len(cost.groups) > 1
    words = [f"{group.label}: {sentence}" if several else sentence
             for group in cost.groups for sentence in floor_words(group)]
    words.append("Three ways to state one cost: what a counter says (MACs), what moves through memory, and what a "
                 "clock says. The floor is the least time that the attention's own traffic and MACs need at this "
                 "machine's measured rates; the time inside its modules shares the cost out among sites, and is no "
                 "estimate of the whole.")
    return Section("floor", "Counter, memory, clock and floor", tuple(words), (_floor_table(pairs, several),))


def _floor_table(pairs: Sequence[tuple[Group, Record, Floor]], several: bool) -> Table:
    rows = []
    for group, record, floor in pairs:
        rows.append((
            *([group.label] if several else []), record.label, percent(group.overhead(record, MACS)),
            percent(group.overhead(record, MEMORY)), LATENCY.show_overhead(record, group.baseline),
            _added(group, record), milliseconds(floor.direct_ms), milliseconds(floor.floor_ms),
            times_words(floor.times),
        ))
    heads = (*(["Network"] if several else []), "Attention", "MACs", "memory traffic", "time", "adds", "inside modules",
             "floor", "inside / floor")
    return Table.of("Overhead by counter, by memory traffic and by clock, and the floor", heads, tuple(rows),
                     left=1 + several)


def _published(cost: Cost) -> Section | None:
    rows = times_of(cost.groups)
    if not rows:
        return None
    words = published_words(cost.groups)
    if any(row.batch == 1 and row.source.startswith("timm") for row in rows):
        words.append("Single-image CPU rows of timm are noisy: in some of its pairs attention comes out as a saving.")
    table = Table.of("Time overhead of the same attention in the same network, as published",
                      ("Network", "Attention", "Hardware", "Runs on", "Memory format", "Source", "px", "batch",
                       "time overhead"), tuple(map(_published_row, rows)), left=6)
    return Section("published", "Published elsewhere", tuple(words), (table,), brief=True)


def _published_row(row: PublishedTime) -> tuple[str, ...]:
    ratio = "" if row.reduction is None else f" r={row.reduction}"
    runs = " ".join(word for word in (row.backend, row.precision, f"torch {row.torch}" if row.torch else None) if word)
    return (row.model, f"{row.attention}{ratio}", row.hardware, runs or NA, row.memory_format or NA, row.source,
            str(row.resolution), NA if row.batch is None else str(row.batch), percent(row.latency_overhead))


def _base_time(group: Group) -> str:
    return NA if group.baseline is None else milliseconds(group.baseline.latency_ms)


def _overhead(record: Record) -> str:
    return percent_interval(record.latency_overhead, record.latency_overhead_low, record.latency_overhead_high)


def _added(group: Group, record: Record) -> str:
    """`+4.47 ms [4.02, 5.31]`, with as many digits as the interval carries."""
    added = added_ms(group, record)
    if added is None:
        return NA
    if added.low is None or added.high is None:
        return f"{milliseconds(added.estimate, signed=True)} [no interval]"
    digits = interval_decimals(added.low / 100, added.high / 100)
    return f"{added.estimate:+,.{digits}f} ms [{added.low:,.{digits}f}, {added.high:,.{digits}f}]"


def _speed(value: float | None) -> str:
    return NA if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    return NA if value is None else f"{value:,.1f} s"


PARTS: tuple[Callable[[Cost], Section | None], ...] = (
    _benefit, _backends, _axes, _spellings, _floors, _published,
)

"""The page of a run, and the page on what attention costs: its verdict, what was compared, the tables, how far they can
be believed.

A function makes each part; `_PAGE` is their order, `PARTS` that of those that only some runs have. Nothing is cleaned.
Long, as a page is one file and this one has fifteen parts, each a function and the cells of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from secost.answers import families
from secost.answers.evidence import (
    Weighed,
    failed_trainings,
    gains_from,
    trained_pairs,
    trained_seeds,
    unmatched,
    weighed,
    weighed_alternatives,
)
from secost.answers.families import Family, Spellings, images_per_s, runtime_rows, timed
from secost.answers.groups import (
    CURRENCIES,
    LATENCY,
    MACS,
    MEMORY,
    PARAMS,
    Currency,
    Floor,
    Group,
    added_ms,
    group_records,
    setting_words,
    stage_floors,
    whole_floor,
)
from secost.answers.published import PublishedTime, times_of
from secost.answers.where import SE, where_words
from secost.errors import BadSpecError
from secost.glossary import CAUTIONS, FIELDS
from secost.pages import beside, wording
from secost.pages.learning import learning_words
from secost.pages.page import HTML, MARKDOWN, PAGES, TERMINAL, Cell, Column, Kind, Line, Page, Row, Section, Table, Tone
from secost.pages.verdict import Statement, state
from secost.pages.wording import few, gain_words, overhead_words, prefixed, times_words
from secost.plan.trials import BASELINE, variant_label
from secost.plan.variants import get_spelling
from secost.runs.curves import GainCurve, gain_curves
from secost.runs.records import DONE, FILE, FLAT_FIELDS, Gain, Record, document
from secost.runs.store import Run
from secost.runs.study import Occlusion, Quantization, Scaling
from secost.writing import NA, interval_decimals, joined, milliseconds, percent, quantity, to_json

Environment = Mapping[str, Any]
Environments = Mapping[str, Any] | Sequence[Environment]
StageRow = tuple[Group, Record, dict[str, Any], Floor | None]
_STAGE_CURRENCIES = (PARAMS, MACS, MEMORY)
_TIMED_HEADS = ("Attention", "none", "with it", "none, images/s", "with it, images/s", "time overhead")
_STAGE_TIMES = (("time inside", "latency_direct_ms"), ("floor", "latency_floor_ms"), ("inside / floor", ""))
_GAIN_MEANS = "points of top-1 accuracy over the network without attention, with the interval of 95 %"
_MOST_STAGE_ROWS = 32
_MOST_COMPARED, _MOST_VARIANTS, _MOST_NAMED = 6, 12, 6


@dataclass(frozen=True)
class Cost:
    """The records of a run with all that the page says about them."""

    records: tuple[Record, ...]
    spec: Mapping[str, Any] | None
    environments: Mapping[str, Environment]
    verdict: Statement
    created: str | None
    gains: tuple[Gain, ...]

    @cached_property
    def groups(self) -> list[Group]:
        return group_records(self.records)

    @cached_property
    def weighed(self) -> list[Weighed]:
        """The variants of which a gain in accuracy is known, with their costs."""
        return weighed(self.groups, self.gains)

    @cached_property
    def all_weighed(self) -> list[Weighed]:
        """The same, and the alternatives of which one is known."""
        return [*self.weighed, *(item for group in self.groups for item in weighed_alternatives(group, self.gains))]

    @cached_property
    def curves(self) -> list[GainCurve]:
        return gain_curves(trained_pairs(self.records))

    @property
    def environment(self) -> dict[str, Any]:
        """The environment of a JSON document: the facts where there is one, all by id where there are several."""
        if len(self.environments) == 1:
            return dict(next(iter(self.environments.values())))
        return {name: dict(facts) for name, facts in self.environments.items()}


def cost_page(
    records: Sequence[Record], spec: Mapping[str, Any] | None = None, environments: Environments = (),
    title: str | None = None, created: str | None = None, gains: Sequence[Gain] | None = None,
    price: float | None = None,
) -> Page:
    """The page on the records, with its verdict.

    `environments` is one environment's facts, a list of such, or a mapping from the ids in records to facts. `gains`
    are of one source; None takes what was trained in the run itself, else what is published. `price` is the most time
    that a point of accuracy may cost, as a fraction of the baseline's. `created` is a date as text; nothing else on
    the page depends on when it was made.
    """
    bought = tuple(gains_from(None, None, records).gains if gains is None else gains)
    cost = Cost(tuple(records), spec, _by_id(environments), state(records, bought, price), created, bought)
    return Page(
        "report", title or _title(records), cost.verdict.headline,
        tuple(section for make in _PAGE for section in make(cost)),
        rows=lambda: _rows(cost),
        document=lambda: {**document(list(cost.records), cost.environment), "verdict": dict(cost.verdict.value)},
        draw=lambda: _drawings(cost), chart=lambda: _chart(cost), question="Worth it?", verdict=True,
        data_name="records",
    )


def page_of(run: Run, gains: Sequence[Gain] | None = None, price: float | None = None) -> Page:
    """The page of a run as the command that made it wrote it: its study's, or its search's, or that of its costs; with
    `gains` of one source, that of its costs. `price` as `cost_page` has it."""
    if gains is None and (run.spec.search is not None or run.study is not None):
        from secost.answers.searched import read_search  # here, as a page of costs needs no pandas
        from secost.pages import occlusion, quantization, scaling, search

        if run.spec.search is not None:
            return search.page(read_search(run.records, run.spec, run.study))
        if isinstance(run.study, Scaling):
            return scaling.page(run.study)
        if isinstance(run.study, Occlusion):
            return occlusion.page(run.study)
        if isinstance(run.study, Quantization):
            return quantization.page(run.study)
    return cost_page(run.records, run.spec.to_dict(), run.environments, gains=gains, price=price)


def _rows(cost: Cost) -> Any:
    from secost.answers.frame import frame

    others = ["alternative"] if any(record.alternative for record in cost.records) else []
    return frame(cost.records)[[*FLAT_FIELDS, *others]]


def _drawings(cost: Cost) -> Any:
    from secost.figures.drawing import draw
    from secost.figures.learning import learning_figures

    return [*draw(cost.groups, cost.all_weighed), *learning_figures(cost.curves)]


def _chart(cost: Cost) -> dict[str, Any] | None:
    from secost.figures.explorer import specification

    return specification(cost.groups)


def _title(records: Sequence[Record]) -> str:
    models = list(dict.fromkeys(record.model for record in records))
    if not models:
        return "What attention costs"
    return f"What attention costs on {models[0] if len(models) == 1 else f'{models[0]} and {len(models) - 1} more'}"


def _by_id(environments: Environments) -> dict[str, Environment]:
    if not isinstance(environments, Mapping):
        return {str(index): facts for index, facts in enumerate(environments, 1)}
    if environments and all(isinstance(value, Mapping) for value in environments.values()):
        return dict(environments)
    return {"1": environments} if environments else {}


# --- the verdict, and what it is about --------------------------------------------------------------------------------


def _verdict(cost: Cost) -> Iterator[Section]:
    said, step = cost.verdict.sentences, cost.verdict.next_step
    yield Section("verdict", "", (*said, Line(step, Kind.STEP, "Next:")), formats=(TERMINAL,))
    yield Section("verdict", "Verdict", (*said, Line(f"{step}.", Kind.STEP, "Next step:")), formats=PAGES)


def _compared(cost: Cost) -> Iterator[Section]:
    """What was compared, one line a comparison: setting, baseline, variants, sites; and on which machine."""
    lines, machine = list(map(_comparison, cost.groups)), _machine(cost)
    short = few(lines, _MOST_COMPARED)
    if short != lines:
        short[-1] += " comparisons"
    made = [f"Report made: {cost.created}"] if cost.created else []
    yield Section("compared", "Compared", (*short, f"on {machine}"), formats=(TERMINAL,))
    yield Section("compared", "What was compared, on what", (*lines, f"Machine: {machine}", *made), formats=PAGES)


def _comparison(group: Group) -> str:
    baseline = "against the network without attention (none)" if group.baseline else "without a baseline"
    names = [record.label for record in group.records if record.attention != BASELINE]
    others = [record.label for record in group.records if record.alternative is not None]
    beside_it = f", beside {joined(few(others, _MOST_NAMED))}" if others else ""
    sites = sorted({record.sites for record in group.variants if record.sites})
    where = f", at {'/'.join(map(str, sites))} sites" if sites else ""
    shown = ", ".join(few(names, _MOST_VARIANTS)) or "nothing"
    return f"{setting_words(group.records[0])}: {shown} {baseline}{where}{beside_it}"


def _machine(cost: Cost) -> str:
    """The machine in a few words: processor, threads, torch."""
    if not cost.environments:
        return "No environment was recorded."
    if len(cost.environments) > 1:
        return f"{len(cost.environments)} environments; times of different ones are not compared."
    facts = next(iter(cost.environments.values()))
    words = [f"{name} {facts[name]}" for name in ("cpu", "gpu", "torch", "python", "secost", "os") if facts.get(name)]
    return ", ".join(words) or "see the environment below"


# --- the tables -------------------------------------------------------------------------------------------------------


def _costs(cost: Cost) -> Iterator[Section]:
    none = () if cost.groups else (Line("There are no records.", Kind.TEXT),)
    yield Section("costs", "What it costs", none, tuple(_cost_table(group, cost.all_weighed) for group in cost.groups),
                  quiet=True)


def _cost_table(group: Group, items: Sequence[Weighed]) -> Table:
    """Each variant beside what it costs and, where that is known, gains: a column for each era of recipes."""
    noted = any(map(_note, group.records))
    gains = {id(item.record): item.by_era for item in items}
    mine = [gain for record in group.records for gain in gains.get(id(record), ())]
    eras = list(dict.fromkeys(gain.era for gain in mine))
    columns = [
        Column("Attention", meaning=FIELDS["attention"]),
        Column("r", number=True, spare=True, title_left=True, meaning=FIELDS["reduction"]),
        *(Column(currency.title, number=True, meaning=FIELDS.get(currency.field, ""), added=f"added {currency.word}",
                 measured=currency.measured) for currency in CURRENCIES),
        *(Column(_gain_title(era, mine), number=True, meaning=_GAIN_MEANS) for era in eras),
        *([Column("Notes", number=True, note=True, meaning=FIELDS["cautions"])] if noted else []),
    ]
    return Table.of(f"Cost of attention, below each total what is added: {group.label}", columns,
                    [_cost_row(group, record, noted, [_gain_cell(era, gains.get(id(record), ())) for era in eras])
                     for record in group.records], sortable=True, heading=group.label, least_width=80)


def _gain_title(era: str | None, gains: Sequence[Gain]) -> str:
    """`Gain (published, classical)`."""
    first = next(gain for gain in gains if gain.era == era)
    return f"Gain ({'borrowed' if first.borrowed else first.source}{f', {era}' if era else ''})"


def _gain_cell(era: str | None, gains: Sequence[Gain]) -> Cell:
    gain = next((gain for gain in gains if gain.era == era), None)
    if gain is None:
        return Cell("")
    ends = "" if gain.low is None or gain.high is None else f"[{gain.low:z.2f}, {gain.high:z.2f}]"
    return Cell(f"{gain.points:+z.2f} {ends or '[no interval]'}", gain.points)


def _cost_row(group: Group, record: Record, noted: bool, gained: Sequence[Cell]) -> Row:
    is_baseline, reduction = record.is_baseline, record.reduction
    return Row((
        Cell(record.label, short=variant_label(record.attention, None, record.spelling)),
        Cell("" if reduction is None else str(reduction), reduction),
        *(_cost_cell(currency, record, group.baseline, is_baseline) for currency in CURRENCIES),
        *gained,
        *([Cell(_note(record))] if noted else []),
    ), Tone.BASELINE if is_baseline else Tone.NONE)


def _cost_cell(currency: Currency, record: Record, baseline: Record | None, is_baseline: bool) -> Cell:
    """Sorted by the overhead, or by the total where that is unknown."""
    total = currency.show_total(record)
    if is_baseline:
        return Cell(total, 0.0)
    value = currency.overhead(record, baseline)
    return Cell(total, currency.total(record) if value is None else value, currency.show_added(record, baseline),
                currency.show_overhead(record, baseline))


def _note(record: Record) -> str:
    return (record.error or "failed") if record.status != DONE else "; ".join(record.cautions)


def _stages(cost: Cost) -> Iterator[Section]:
    """What each attention's representative adds in each stage."""
    lines: list[StageRow] = []
    for group in cost.groups:
        for record in group.representatives():
            floors = stage_floors(record)
            lines += [(group, record, row, floors.get(row["stage"])) for row in record.by_stage]
    if not lines:
        return
    left = len(lines) - _MOST_STAGE_ROWS
    more = (Line(f"{left} more rows are left out here; the JSON has them all.", Kind.TEXT),) if left > 0 else ()
    table = _stage_table(lines[:_MOST_STAGE_ROWS], len(cost.groups) > 1)
    elsewhere = where_words() if any(record.attention == SE for _, record, _, _ in lines) else []
    for title, format in (("What it adds, by stage", MARKDOWN), ("By stage", HTML)):
        yield Section("stages", title, tuple(elsewhere), (table,), after=more, formats=(format,))


def _stage_table(lines: Sequence[StageRow], several: bool) -> Table:
    """With the time columns that have anything to show: none, the time inside the modules, or all."""
    floors = [floor for *_, floor in lines if floor is not None]
    floored = any(floor.floor_ms is not None for floor in floors)
    times = 3 if floored else int(any(floor.direct_ms is not None for floor in floors))
    heads = [("Network", "model")] * several + [("Attention", "attention")]
    counted = [head for currency in _STAGE_CURRENCIES
               for head in ((f"added {currency.word}", currency.field), ("share", ""))]
    numbers = [("Stage", ""), ("Sites", "sites"), *counted, *_STAGE_TIMES[:times]]
    rows = [(*([group.label] if several else []), record.label, str(row["stage"]), str(row.get("sites", NA)),
             *_stage_counts(record, row), *_stage_times(floor)[:times]) for group, record, row, floor in lines]
    columns = [Column(title, number=place >= len(heads), title_left=True, meaning=FIELDS.get(field, ""))
               for place, (title, field) in enumerate((*heads, *numbers))]
    return Table.of("What attention adds in each stage", columns, rows, heading="", named_by=int(several))


def _stage_counts(record: Record, row: Mapping[str, Any]) -> Iterator[str]:
    """Of each currency what is added, and its share of the variant's sum."""
    for currency in _STAGE_CURRENCIES:
        value, total = row.get(currency.field), sum(other.get(currency.field) or 0 for other in record.by_stage)
        yield quantity(value, currency.unit, signed=True)
        yield percent(None if value is None or not total else value / total, signed=False)


def _stage_times(floor: Floor | None) -> tuple[str, str, str]:
    if floor is None:
        return NA, NA, NA
    return milliseconds(floor.direct_ms), milliseconds(floor.floor_ms), times_words(floor.times)


# --- what only some runs have -----------------------------------------------------------------------------------------


def _of_some(cost: Cost) -> Iterator[Section]:
    """The parts that the records carry, in the order of a page. What the verdict says already is not said again."""
    said = set(cost.verdict.sentences)
    for part in filter(None, (make(cost) for make in PARTS)):
        yield replace(part, paragraphs=tuple(line for line in part.paragraphs if line not in said))


def _benefit(cost: Cost) -> Section | None:
    """What the gains say, each beside its cost; and those that found no variant here."""
    items = cost.weighed
    # Of what is published most is about other variants; of a user's own file each line was meant for this run.
    lost = unmatched(cost.groups, [gain for gain in cost.gains if gain.source == FILE])
    if not items and not lost:
        return None
    words = wording.benefit_words(items, trained_seeds(cost.records))
    words += [f"{record.label} from seed {record.seed} came to nothing: {record.error or 'no reason was recorded'}."
              for record in failed_trainings(cost.records)]
    words += [f"Not in this run, and so without a cost: {gain.model} {gain.attention}"
              f"{'' if gain.reduction is None else f' r={gain.reduction}'} ({gain_words(gain)}, {gain.basis})."
              for gain in lost]
    several = len(cost.groups) > 1
    rows = [(
        *[item.group.label] * several, item.record.label, _top1(item.gain.baseline_top1), _top1(item.gain.top1),
        gain_words(item.gain), str(item.gain.pairs), overhead_words(item.record),
        percent(item.group.overhead(item.record, PARAMS)), item.answer, item.gain.basis,
    ) for item in items]
    heads = (*["Network"] * several, "Attention", "top-1 of none", "top-1 with it", "gain", "pairs",
             "time overhead", "parameters", "answer", "from")
    source = cost.gains[0].source if cost.gains else ""
    tables = (Table.of(f"Gain in accuracy ({source}) beside its cost", heads, rows, left=1 + several),) if rows else ()
    return Section("benefit", "What it buys", tuple(words), tables)


def _beside(cost: Cost) -> Section | None:
    return beside.section(cost.groups, cost.gains)


def _learning(cost: Cost) -> Section | None:
    words = learning_words(cost.curves)
    return Section("learning", "Trained long enough?", tuple(words)) if words else None


def _top1(value: float | None) -> str:
    return NA if value is None else f"{value:.2f} %"


def _backends(cost: Cost) -> Section | None:
    found = families.runtime_families(cost.groups)
    if not found:
        return None
    words = [sentence for family in found for sentence in wording.runtime_words(family)]
    return Section("backends", "By backend", tuple(words), tuple(map(_backend_table, found)))


def _backend_table(family: Family) -> Table:
    rows = [(row.name, *_timed_cells(row.group, row.record, row.base_ms), _added(row.group, row.record),
             NA if row.record.convert_s is None else f"{row.record.convert_s:,.1f} s") for row in runtime_rows(family)]
    heads = ("Runs on", *_TIMED_HEADS, "adds", "conversion, once")
    return Table.of(f"Time by backend: {family.label}", heads, rows, left=2)


def _timed_cells(group: Group, record: Record, base_ms: float | None) -> tuple[str, ...]:
    return (record.label, milliseconds(base_ms), milliseconds(record.latency_ms),
            *(_speed(images_per_s(item)) for item in (group.baseline, record)), overhead_words(record))


def _axes(cost: Cost) -> Section | None:
    found = families.axis_families(cost.groups)
    if not found:
        return None
    words = [sentence for family in found
             for sentence in prefixed(family.label, wording.axis_words(family), len(found) > 1)]
    return Section("axes", "Over batch, resolution and threads", tuple(words), tuple(map(_axis_table, found)))


def _axis_table(family: Family) -> Table:
    rows = [(setting_words(record, [family.axis]),
             *_timed_cells(group, record, group.baseline.latency_ms if group.baseline else None))
            for group in family.groups for record in timed(group)]
    heads = (family.axis.capitalize(), *_TIMED_HEADS)
    return Table.of(f"Time against {family.axis}: {family.label}", heads, rows, left=2)


def _spellings(cost: Cost) -> Section | None:
    tables = [table for group in cost.groups for table in families.compared_spellings(group)]
    if not tables:
        return None
    words = [sentence for table in tables
             for sentence in prefixed(table.group.label, wording.spelling_words(table), len(cost.groups) > 1)]
    words.append("All spellings of one attention have the same parameters and MACs. Differences are ratios of the "
                 "whole network's times in the same rounds; intervals allow for picking the fastest of several.")
    return Section("spelling", "How it is written", tuple(words), tuple(map(_spelling_table, tables)))


def _spelling_table(table: Spellings) -> Table:
    rows = [(row.name, _written(row.record), row.standing, milliseconds(row.record.latency_ms),
             overhead_words(row.record), *map(wording.difference_words, (row.against_own, row.against_fastest)))
            for row in table.rows]
    heads = ("Spelling", "Squeeze, excitation, gate, scaling", "At equal outputs", "time", "overhead",
             "against secost's own", "against the fastest")
    return Table.of(f"Spellings of {table.label}: {table.group.label}", heads, rows, left=3)


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
    words = [sentence for group in cost.groups
             for sentence in prefixed(group.label, wording.floor_words(group), several)]
    words.append("Three ways to state one cost: what a counter says (MACs), what moves through memory, and what a "
                 "clock says. The floor is the least time that the attention's own traffic and MACs need at this "
                 "machine's measured rates; the time inside its modules shares the cost out among sites, and is no "
                 "estimate of the whole.")
    return Section("floor", "Counter, memory, clock and floor", tuple(words), (_floor_table(pairs, several),))


def _floor_table(pairs: Sequence[tuple[Group, Record, Floor]], several: bool) -> Table:
    rows = [(*[group.label] * several, record.label,
             *(currency.show_overhead(record, group.baseline) for currency in (MACS, MEMORY, LATENCY)),
             _added(group, record), *_stage_times(floor)) for group, record, floor in pairs]
    heads = (*["Network"] * several, "Attention", "MACs", "memory traffic", "time", "adds", "inside modules", "floor",
             "inside / floor")
    return Table.of("Overhead by counter, by memory traffic and by clock, and the floor", heads, rows, left=1 + several)


def _published(cost: Cost) -> Section | None:
    rows = times_of(cost.groups)
    if not rows:
        return None
    words = wording.published_words(cost.groups)
    if any(row.batch == 1 and row.source.startswith("timm") for row in rows):
        words.append("Single-image CPU rows of timm are noisy: in some of its pairs attention comes out as a saving.")
    heads = ("Network", "Attention", "Hardware", "Runs on", "Memory format", "Source", "px", "batch", "time overhead")
    table = Table.of("Time overhead of the same attention in the same network, as published", heads,
                     map(_published_row, rows), left=6)
    return Section("published", "Published elsewhere", tuple(words), (table,), brief=True)


def _published_row(row: PublishedTime) -> tuple[str, ...]:
    ratio = "" if row.reduction is None else f" r={row.reduction}"
    runs = " ".join(word for word in (row.backend, row.precision, f"torch {row.torch}" if row.torch else None) if word)
    return (row.model, f"{row.attention}{ratio}", row.hardware, runs or NA, row.memory_format or NA, row.source,
            str(row.resolution), NA if row.batch is None else str(row.batch), percent(row.latency_overhead))


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


# --- how far it can be believed ---------------------------------------------------------------------------------------


def _cautions(cost: Cost) -> Iterator[Section]:
    """Each caution once, in order of appearance: what it means, what to do, and which variants it is about; then each
    failed record with its reason."""
    where: dict[str, list[str]] = {}
    for group in cost.groups:
        for record in group.records:
            for caution in record.cautions:
                name = record.label if len(cost.groups) == 1 else f"{record.label} of {group.label}"
                where.setdefault(caution, []).append(name)
    for record in cost.records:
        for caution in record.cautions if record.trained else ():
            names = where.setdefault(caution, [])
            names += [record.label] if record.label not in names else []  # once for all its seeds
    told = [(code, _names(names), *_meaning(code)) for code, names in where.items()]
    if told:
        short = [f"{code} ({names}): {meaning}; {step}." for code, names, meaning, step in told]
        yield Section("cautions", "Cautions", tuple(Line(line, tone=Tone.CAUTION) for line in short),
                      formats=(TERMINAL,))
    lines = [Line(f"({names}): {meaning}. Next step: {step}.", lead=code) for code, names, meaning, step in told]
    lines += [Line(f"({group.label}, {record.label}): {record.error or 'no reason was recorded'}", lead="failed")
              for group in cost.groups for record in group.failed]
    yield Section("cautions", "Cautions", tuple(lines) or (Line("None.", Kind.TEXT),), formats=PAGES)


def _meaning(caution: str) -> tuple[str, str]:
    known = CAUTIONS.get(caution.split(":")[0].strip())
    return (known.meaning, known.next_step) if known else (
        "a caution that this version of secost does not know", "see its source")


def _names(names: list[str]) -> str:
    shown = few(names, _MOST_NAMED)
    return ("; " if any("," in name for name in shown) else ", ").join(shown)


def _environment(cost: Cost) -> Iterator[Section]:
    several = len(cost.environments) > 1
    tables = [Table.of(f"Environment {name}" if several else "Environment", ("Fact", "Value"),
                       [(key, _fact(value)) for key, value in facts.items()], left=2, heading=name if several else "")
              for name, facts in cost.environments.items()]
    none = () if tables else (Line("Not recorded.", Kind.TEXT),)
    spec = () if cost.spec is None else (Line(to_json(cost.spec, indent=2), Kind.CODE, "The spec of the run"),)
    yield Section("environment", "Environment", none, tuple(tables), after=spec, formats=PAGES)


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return NA if value is None else str(value)


def _conventions(cost: Cost) -> Iterator[Section]:
    lines = list(_convention_lines(cost.records))
    yield Section("conventions", "", tuple(Line(line, Kind.TEXT, tone=Tone.ASIDE) for line in lines),
                  formats=(TERMINAL,))
    yield Section("conventions", "Conventions", tuple(lines), formats=PAGES)


def _convention_lines(records: Sequence[Record]) -> Iterator[str]:
    """How the numbers were made, as far as the records tell."""
    yield ("Counts are for one image; time is for the whole batch. Added = variant - baseline; overhead = added / "
           "baseline. N/A = not counted or not measured.")
    conventions = _distinct(record.mac_convention for record in records)
    if conventions:
        yield f"MACs by the convention {'; '.join(conventions)}: {FIELDS['macs']}."
    if any(record.latency_overhead is not None for record in records):
        clocks = _distinct((record.samples or {}).get("clock") for record in records)
        clock = f" Clock: {', '.join(clocks)}." if clocks else ""
        yield (f"Time overhead is the {FIELDS['latency_overhead']}, with its 95 % confidence interval in brackets."
               f"{clock}")
    uncounted: dict[str, int] = {}
    for record in records:
        for name, count in record.unsupported_ops.items():
            uncounted[name] = max(count, uncounted.get(name, 0))
    if uncounted:
        names = ", ".join(f"{name} (up to {count} times a network)" for name, count in sorted(uncounted.items()))
        yield f"Not counted at all: {names}."


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _glossary(cost: Cost) -> Iterator[Section]:
    table = Table.of("Glossary", ("Field", "Meaning"), list(FIELDS.items()), left=2, heading="", terms=True)
    yield Section("glossary", "Glossary", (), (table,), formats=PAGES)


def _figures(cost: Cost) -> Iterator[Section]:
    yield Section("figures", "Figures", figures=True, formats=PAGES)


_PAGE: tuple[Callable[[Cost], Iterable[Section]], ...] = (
    _verdict, _compared, _costs, _of_some, _figures, _stages, _cautions, _environment, _conventions, _glossary,
)
PARTS: tuple[Callable[[Cost], Section | None], ...] = (
    _benefit, _beside, _learning, _backends, _axes, _spellings, _floors, _published,
)

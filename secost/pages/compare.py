"""The page on two runs: the verdict, what is not the same, what stands behind it, where the runs differ."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from secost.answers import changes
from secost.answers.changes import FIGURES, LATENCY, MATCHED, OVERHEAD, SAME, WORSE, Change, Figure, Match
from secost.answers.comparison import BROKEN, HELD, NEWLY_FAILED, NOT_PROVEN, VANISHED, Finding, Limit, RunComparison
from secost.answers.groups import SETTING_FIELDS, setting_key, setting_words
from secost.glossary import CAUTIONS, NOTES, Code, Note
from secost.pages.page import Column, Kind, Line, Page, Row, Section, Table, Tone
from secost.runs.records import SCHEMA
from secost.statistics import PARENT_SPREAD, least_half_width, least_overhead_shift
from secost.writing import NA, counted, interval_decimals, joined, milliseconds, percent, quantity

_ANSWERS = (WORSE, changes.FAILED_TRIAL, changes.ONLY_OLD, changes.BETTER, changes.ONLY_NEW, changes.UNCLEAR, SAME)
_MANY_CHANGES, _MOST_NAMED, _MOST_DRAWN = 10, 3, 12

Labels = Callable[[Match], str]
States = Mapping[tuple[int, str], str]


def compare_page(comparison: RunComparison) -> Page:
    """Both runs on a page; its rows have one for each figure of each trial."""
    label, states = labels(comparison), limit_states(comparison)
    question = "Did it get worse?"
    return Page(
        "compare", question, headline(comparison), tuple(_sections(comparison, label, states)),
        tuple(row for match in comparison.matches for row in _plain_rows(match, comparison.named_by, states)),
        lambda: _document(comparison, states), lambda: _figures(comparison, label), question=question, verdict=True,
        words_only=True,
    )


def _figures(comparison: RunComparison, label: Labels) -> list[Any]:
    """The changes that were measured, each with its interval and a line at none; of many trials the first."""
    from secost.figures.panels import Curve, Panel, drawn

    panels = []
    for figure in (OVERHEAD, LATENCY):
        changed = [(label(match), change) for match, change in _all_changes(comparison)
                   if change.figure is figure and change.change is not None][:_MOST_DRAWN]
        points = [(place, 100 * (change.change or 0.0)) for place, (_, change) in enumerate(changed)]
        ends = [(place, 100 * change.low, 100 * change.high) for place, (_, change) in enumerate(changed)
                if change.low is not None and change.high is not None]
        curve = Curve(points, 0, width=0, size=5, intervals=ends)
        ticks = [textwrap.fill(name, 12) for name, _ in changed]
        panels += [Panel(f"change of {figure.title.lower()} ({figure.change_unit})", [curve], level=0.0, ticks=ticks)
                   ] if points else []
    if not panels:
        return []
    alt = "From OLD to NEW, by trial: each measured change with its 95 % interval; one that crosses 0 tells no change."
    most = max(len(panel.ticks or ()) for panel in panels)
    return [drawn("changes", "What changed", alt, panels, most=1, width=max(4.0, 1.0 + 0.9 * most), height=2.7)]


def _sections(comparison: RunComparison, label: Labels, states: States) -> Iterator[Section]:
    rows = _rows(comparison, label, states)
    yield Section("changes", "", (*finding_lines(comparison), Line(_compared_line(comparison), Kind.TEXT)),
                  (_table(rows),) if rows else ())
    yield Section("same", "", (*_same_lines(comparison), *_environment_lines(comparison)),
                  tuple(_environment_tables(comparison)))
    notes = tuple(Line(line, tone=Tone.CAUTION) for line in _note_lines(comparison, label))
    if notes:
        yield Section("notes", "Read with care", notes, quiet=True)


def headline(comparison: RunComparison) -> str:
    """The verdict in one line."""
    kinds = [finding.kind for finding in comparison.broken]
    if kinds:
        limits = len(kinds) - kinds.count(VANISHED) - kinds.count(NEWLY_FAILED)
        parts = [f"{counted(limits, 'limit')} broken"] if limits else []
        parts += [f"{kinds.count(kind)} {kind}" for kind in (VANISHED, NEWLY_FAILED) if kind in kinds]
        return f"Yes, more than allowed: {joined(parts)}."
    if comparison.unproven:
        return f"Not proven: no limit is broken, but {counted(len(comparison.unproven), 'figure')} may be above one."
    answers = [change.answer for _, change in _all_changes(comparison)]
    counts = ", ".join(f"{answers.count(answer)} {answer}" for answer in _ANSWERS if answer in answers)
    if comparison.rules.limits:
        return f"No, every limit is kept: {counts}."
    if WORSE in answers:
        return f"Yes, some figures: {counts}."
    return f"No figure shows it: {counts}." if answers else "No finished trial is in both runs."


def finding_lines(comparison: RunComparison) -> list[str]:
    """Each limit that is broken with its trial and its figures, then a line for each limit that may be."""
    label = labels(comparison)
    lines = [_finding(finding, label(finding.match)) for finding in comparison.broken]
    for limit in comparison.rules.limits:
        doubtful = [finding for finding in comparison.unproven if finding.limit is limit]
        if doubtful:
            lines.append(f"{_doubt(limit, doubtful, label)}: {_advice(limit, comparison.rules.run_spread)}")
    return lines


def _compared_line(comparison: RunComparison) -> str:
    """Which runs, and how many trials they share."""
    matched = sum(match.old is not None and match.new is not None for match in comparison.matches)
    models = list(dict.fromkeys(match.record.model for match in comparison.matches))
    shown = joined(models[:_MOST_NAMED]) + (f" and {len(models) - _MOST_NAMED} more" if len(models) > 3 else "")
    return f"OLD {comparison.old.name}, NEW {comparison.new.name}: {counted(matched, 'trial')} of {shown} in both."


def _rows(comparison: RunComparison, label: Labels, states: States) -> list[Row]:
    """What is not exactly the same, what breaks a limit first."""
    ranked = []
    for match in comparison.matches:
        if match.status != MATCHED:
            broken = any(finding.match is match for finding in comparison.broken)
            old, new = (NA if record is None else record.status for record in (match.old, match.new))
            words = (old, new, "", match.status, BROKEN if broken else "")
            ranked.append((_rank(match.status, words[-1]), _row(label(match), "all", *words)))
        for change in match.changes:
            if change.answer != SAME or change.notes:
                state, figure = states.get((id(match), change.figure.name), ""), change.figure
                text = change_text(change) if change.old is not None and change.new is not None else ""
                words = (_value(figure, change.old), _value(figure, change.new), text, change.answer, state)
                ranked.append((_rank(change.answer, state), _row(label(match), figure.title, *words)))
    return [row for _, row in sorted(ranked, key=lambda item: item[0])]


def _row(trial: str, figure: str, old: str, new: str, change: str, answer: str, state: str) -> Row:
    """A figure of a trial; or a trial that failed, or that one of the runs lacks."""
    alarm = state == BROKEN or (not state and answer == WORSE)
    tone = Tone.ALARM if alarm else Tone.GOOD if answer == changes.BETTER else Tone.NONE
    return Row.of((trial, figure, old, new, change, answer, state), tone)


def _rank(answer: str, state: str) -> tuple[int, int]:
    return (0 if state == BROKEN else 1 if state == NOT_PROVEN else 2), _ANSWERS.index(answer)


def _table(rows: list[Row]) -> Table:
    heads = ("Trial", "Figure", "Old", "New", "Change", Column("Answer"), Column("Limit"))
    table = Table.of("What is not exactly the same", heads, rows, left=2, heading="", least_width=80)
    limited = any(row.cells[-1].text for row in rows)
    return table if limited else table.without(lambda column: column.title == "Limit")


def _same_lines(comparison: RunComparison) -> list[str]:
    """Which exact figures are equal, and in how many of the trials that are in both runs."""
    matched = [match for match in comparison.matches if match.status == MATCHED]
    counts: dict[int, list[str]] = {}
    for figure in FIGURES.values():
        equal = sum(change.answer == SAME for match in matched for change in match.changes if change.figure is figure)
        if equal:
            counts.setdefault(equal, []).append(figure.title)
    return [f"Same in {_share(equal, len(matched))}: {joined(titles)}."
            for equal, titles in sorted(counts.items(), reverse=True)]


def _note_lines(comparison: RunComparison, label: Labels) -> list[str]:
    """Each reason to read the changes with care, and each caution of the runs, with its next step."""
    notes: dict[str, list[str]] = {}
    cautions: dict[str, list[str]] = {}
    for match, change in _all_changes(comparison):
        for code in change.notes:
            notes.setdefault(code, []).append(label(match))
    for match in comparison.matches:
        for word, record in (("OLD", match.old), ("NEW", match.new)):
            for code in record.cautions if record is not None else ():
                if code not in notes:
                    cautions.setdefault(code, []).append(f"{word} {label(match)}")
    lines = [_note(code, where, NOTES) for code, where in notes.items()]
    lines += [_note(code, where, CAUTIONS) for code, where in cautions.items()]
    return [*_allowed(comparison), *lines, *_chance(comparison)]


def _environment_lines(comparison: RunComparison) -> list[str]:
    """What differs between the environments of the two runs; one line where nothing does."""
    lines = []
    for old, new in comparison.environments:
        if not old and not new:
            lines.append("Environment: not recorded in either run.")
        elif old == new:
            lines.append("Environment: the same in both runs.")
        else:
            lines.append(_environment_line(old, new))
    return list(dict.fromkeys(lines))


def _environment_line(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    facts = [f"{name} {_fact(mine)} -> {_fact(theirs)}"
             for name, mine, theirs in changes.environment_differences(old, new)]
    unshared = changes.unshared_facts(old, new)
    if unshared:
        facts.append(f"recorded in one run only: {', '.join(unshared)}")
    which = "another" if changes.machine_difference(old, new) else "the same"
    return f"Environment: {which} machine; {'; '.join(facts)}."


def _environment_tables(comparison: RunComparison) -> Iterator[Table]:
    """Each pair of machines that are not the same, in full."""
    for old, new in comparison.environments:
        if changes.machine_difference(old, new) is not None and (old or new):
            rows = [(name, _fact(old.get(name)), _fact(new.get(name))) for name in dict.fromkeys((*old, *new))]
            yield Table.of("The machines", ("Fact", "OLD", "NEW"), rows, left=3, heading="", least_width=0)


def labels(comparison: RunComparison) -> Labels:
    """A name for each trial: the variant, and before it what of the setting is not the same for all."""
    settings = {setting_key(match.record) for match in comparison.matches}
    varying = [name for place, name in enumerate(SETTING_FIELDS) if len({setting[place] for setting in settings}) > 1]

    def label(match: Match) -> str:
        words = f"{setting_words(match.record, varying)} " if varying else ""
        return f"{words}{match.record.label}"

    return label


def _all_changes(comparison: RunComparison) -> Iterator[tuple[Match, Change]]:
    return ((match, change) for match in comparison.matches for change in match.changes)


def _share(count: int, of: int) -> str:
    return "the one trial" if of == 1 else f"{'all' if count == of else f'{count} of'} {of} trials"


def _finding(finding: Finding, label: str) -> str:
    match, change, limit = finding.match, finding.change, finding.limit
    if change is None or limit is None:
        if finding.kind == VANISHED:
            return f"{label} is only in OLD (--allow-missing lets that pass)"
        return f"{label} fails in NEW: {(match.new and match.new.error) or 'no reason was recorded'}"
    what = f"{change.figure.title} of {label}"
    if finding.kind == VANISHED:
        return f"{what} is only in OLD (--allow-missing lets that pass)"
    proven = "" if finding.kind == BROKEN else " and that is not proven to be kept"
    moved = " (the baseline moved too)" if Note.BASELINE_MOVED in change.notes else ""
    return f"{what}: {change_text(change)}, the limit is {limit.words}{proven}{moved}"


def _doubt(limit: Limit, findings: Sequence[Finding], label: Labels) -> str:
    """One line for all trials of which a limit is not proven to be kept, the widest first."""
    reach = sorted(findings, key=lambda finding: -_high(finding))
    names = _listed([f"{label(finding.match)} ({_up_to(finding)})" for finding in reach])
    return f"not proven: {FIGURES[limit.figure].title} within {limit.words} of {names}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


def _advice(limit: Limit, run_spread: float) -> str:
    """Longer runs help only down to what equal runs differ by."""
    of_overhead = limit.figure == OVERHEAD.name
    least = least_overhead_shift() if of_overhead else least_half_width(run_spread)
    if limit.value > least:
        return "give both runs more processes and seconds"
    at = f"% at --run-spread {_points(run_spread, 1)}%, limit overhead instead"
    return f"no length of run proves a limit below {_points(least, 1)} {'pt: allow more' if of_overhead else at}"


def _high(finding: Finding) -> float:
    return math.inf if finding.change is None or finding.change.high is None else finding.change.high


def _up_to(finding: Finding) -> str:
    change = finding.change
    if change is None or change.high is None:
        return "no interval"
    return f"up to {_points(change.high, 1, signed=True)} {change.figure.change_unit}"


def limit_states(comparison: RunComparison) -> States:
    """For each figure of a trial that has a limit: broken, not proven or held."""
    limited = {limit.figure for limit in comparison.rules.limits}
    states = {(id(match), change.figure.name): HELD for match, change in _all_changes(comparison)
              if change.figure.name in limited and change.old is not None and change.new is not None}
    for finding in (*comparison.unproven, *comparison.broken):
        if finding.change is not None:
            state = BROKEN if finding in comparison.broken else NOT_PROVEN
            states[id(finding.match), finding.change.figure.name] = state
    return states


def change_text(change: Change) -> str:
    """`+9.9 %`, for what is measured with its interval: `+6.1 % [5.0, 7.2]`, `+1.2 pt [0.4, 2.0]`.

    One decimal or more, unlike in a report: a limit is held against the interval's ends.
    """
    figure, value = change.figure, change.change
    if not figure.measured:
        return _count_text(change)
    if value is None:
        return NA
    if change.low is None or change.high is None:
        return f"{_points(value, 1, signed=True)} {figure.change_unit} [no interval]"
    digits = max(1, interval_decimals(change.low, change.high))
    ends = f"[{_points(change.low, digits)}, {_points(change.high, digits)}]"
    return f"{_points(value, digits, signed=True)} {figure.change_unit} {ends}"


def _count_text(change: Change) -> str:
    """Of counts so alike that four digits hide the difference, the difference stands beside the percentage."""
    if change.old is None or change.new is None:
        return NA
    if change.change is None:
        return f"from 0 to {quantity(change.new, change.figure.unit)}"
    old, new = _value(change.figure, change.old), _value(change.figure, change.new)
    hidden = old == new and change.old != change.new
    return f"{change.new - change.old:+,} ({percent(change.change)})" if hidden else percent(change.change)


def _points(fraction: float, digits: int, signed: bool = False) -> str:
    """100 times a fraction, without a sign before a zero."""
    value = round(100 * fraction, digits) + 0.0
    return f"{value:+.{digits}f}" if signed and value else f"{value:.{digits}f}"


def _value(figure: Figure, value: float | None) -> str:
    if figure is LATENCY:
        return milliseconds(value)
    if figure is OVERHEAD:
        return NA if value is None else f"{_points(value, 1, signed=True)} %"
    return quantity(value, figure.unit)


def _note(code: str, where: Sequence[str], words: Mapping[str, Code]) -> str:
    known = words.get(code)
    meaning, step = (known.meaning, known.next_step) if known else (
        code, "see the documentation of the version that wrote the run")
    return f"{code} ({_listed(list(dict.fromkeys(where)))}): {meaning}; {step}."


def _allowed(comparison: RunComparison) -> list[str]:
    timed = {change.figure.name for _, change in _all_changes(comparison) if change.low is not None}
    spread, lines = comparison.rules.run_spread, []
    if LATENCY.name in timed and spread:
        lines = ["Latency is the time of two runs at two times: its interval allows for a standard deviation of "
                 f"{_points(spread, 1)} % between equal runs (--run-spread). In overhead the machine's part cancels.",
                 "Times are medians of the processes' medians, where a run's own report has the median of all rounds."]
    if OVERHEAD.name in timed:
        lines.append(f"The interval of overhead allows for a standard deviation of {_points(PARENT_SPREAD, 1)} points "
                     "between equal runs: the luck of the process that a run forks the others from.")
    return lines


def _chance(comparison: RunComparison) -> list[str]:
    count = sum(change.low is not None for _, change in _all_changes(comparison))
    if count < _MANY_CHANGES:
        return []
    return [f"Each interval is one of 95 %: of {count} measured changes about {max(1, round(count / 20))} would lie "
            "off 0 by chance alone."]


def _fact(value: Any) -> str:
    return NA if value is None else str(value)


# --- plain values -----------------------------------------------------------------------------------------------------


def _document(comparison: RunComparison, states: States) -> dict[str, Any]:
    """The answers, the limits, and the environments of both runs."""
    rules = comparison.rules
    return {
        "schema": SCHEMA, "kind": "comparison", "verdict": headline(comparison), "broken": len(comparison.broken),
        "not_proven": len(comparison.unproven), "findings": finding_lines(comparison),
        "limits": {limit.figure: limit.value for limit in rules.limits}, "strict": rules.strict,
        "allow_missing": rules.allow_missing, "across_machines": rules.across_machines,
        "run_spread": rules.run_spread,
        **{word: {"name": side.name, "environments": {name: dict(facts) for name, facts in side.environments.items()}}
           for word, side in (("old", comparison.old), ("new", comparison.new))},
        "trials": [{
            **{name: getattr(match.record, name) for name in comparison.named_by}, "label": match.record.label,
            "status": match.status, "error_old": match.old and match.old.error,
            "error_new": match.new and match.new.error, "changes": list(_plain_changes(match, states)),
        } for match in comparison.matches],
    }


def _plain_changes(match: Match, states: States) -> Iterator[dict[str, Any]]:
    for change in match.changes:
        figure = change.figure
        yield {
            "figure": figure.name, "unit": figure.unit or None, "old": change.old, "new": change.new,
            "change": change.change, "low": change.low, "high": change.high, "answer": change.answer,
            "limit": states.get((id(match), figure.name)), "notes": list(change.notes),
        }


def _plain_rows(match: Match, named: Sequence[str], states: States) -> Iterator[dict[str, Any]]:
    """A row a figure of the trial, with the trial's own words; without figures it has one."""
    words = {name: _flat(getattr(match.record, name)) for name in named}
    names = ("figure", "unit", "old", "new", "change", "low", "high", "answer", "limit", "notes")
    for change in list(_plain_changes(match, states)) or [dict.fromkeys(names) | {"answer": match.status}]:
        yield words | {name: _flat(value) for name, value in change.items()}


def _flat(value: Any) -> Any:
    return ";".join(map(str, value)) if isinstance(value, list) else value

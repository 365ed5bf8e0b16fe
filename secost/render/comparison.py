"""A comparison of two runs as a table, Markdown, JSON or CSV. What it says is in `compared.py`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from secost.answers.changes import BETTER, TRIAL, Change, Side
from secost.answers.comparison import RunComparison
from secost.cleaning import for_csv, for_markdown, plain
from secost.pages.compare import (
    Row,
    compared_line,
    environment_lines,
    environment_tables,
    finding_lines,
    headline,
    limit_states,
    note_lines,
    rows,
    same_lines,
)
from secost.runs.records import SCHEMA

KIND = "comparison"
FILE_NAMES = {"table": "compare.txt", "json": "compare.json", "csv": "compare.csv", "md": "compare.md"}
_NUMBERS = ("Old", "New", "Change")
_NARROWEST, _NARROW = 80, 100


def render_comparison(comparison: RunComparison, format: str, width: int = 120, color: bool = False) -> str:
    """The comparison as one text. `format` is table, json, csv or md; `width` and `color` are for the table."""
    if format == "json":
        return json_text(comparison)
    if format == "csv":
        return csv_text(comparison)
    return markdown_text(comparison) if format == "md" else table_text(comparison, width, color)


def table_text(comparison: RunComparison, width: int = 120, color: bool = False) -> str:
    """What a terminal of this width shows."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, color_system="standard" if color else None, highlight=False,
        legacy_windows=False, emoji=False, markup=False,
    )
    console.print(_line(f"Did it get worse? {headline(comparison)}", "bold"))
    for line in finding_lines(comparison):
        console.print(_item(line))
    console.print(_line(compared_line(comparison)))
    found = rows(comparison)
    if found:
        console.print(Text(), *(_table(found, width),) if width >= _NARROWEST else map(_row_line, found), sep="\n")
    console.print(Text())
    for line in same_lines(comparison):
        console.print(_line(line))
    for line in environment_lines(comparison):
        console.print(_line(line))
    for facts in environment_tables(comparison):
        console.print(Text(), _plain_table(("Fact", "OLD", "NEW"), facts))
    notes = note_lines(comparison)
    if notes:
        console.print(Text(), *(_item(line, "yellow") for line in notes), sep="\n")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def markdown_text(comparison: RunComparison) -> str:
    """The same as a Markdown page."""
    parts = [["# Did it get worse?", "", f"**{for_markdown(headline(comparison))}**"]]
    parts.append([f"- {for_markdown(line)}" for line in finding_lines(comparison)])
    parts.append([f"{for_markdown(compared_line(comparison))}."])
    found = rows(comparison)
    if found:
        parts.append(_markdown_table(_heads(found), [_cells(row, found) for row in found]))
    parts.append([f"- {for_markdown(line)}" for line in (*same_lines(comparison), *environment_lines(comparison))])
    for facts in environment_tables(comparison):
        parts.append(_markdown_table(("Fact", "OLD", "NEW"), facts))
    notes = note_lines(comparison)
    if notes:
        parts.append(["## Read with care", "", *(f"- {for_markdown(line)}" for line in notes)])
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def json_text(comparison: RunComparison) -> str:
    """A JSON document: the answers, the limits, and the environments of both runs. All text is ASCII."""
    text = json.dumps(to_dict(comparison), indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"


def to_dict(comparison: RunComparison) -> dict[str, Any]:
    """Plain JSON values; missing ones are None."""
    rules, states = comparison.rules, limit_states(comparison)
    return {
        "schema": SCHEMA, "kind": KIND, "verdict": headline(comparison), "broken": len(comparison.broken),
        "not_proven": len(comparison.unproven), "findings": finding_lines(comparison),
        "limits": {limit.figure: limit.value for limit in rules.limits}, "strict": rules.strict,
        "allow_missing": rules.allow_missing, "across_machines": rules.across_machines,
        "run_spread": rules.run_spread,
        "old": _side(comparison.old), "new": _side(comparison.new),
        "trials": [
            {
                **{name: getattr(match.record, name) for name in TRIAL}, "label": match.record.label,
                "status": match.status, "error_old": match.old and match.old.error,
                "error_new": match.new and match.new.error,
                "changes": [_plain_change(change, states.get((id(match), change.figure.name)))
                            for change in match.changes],
            }
            for match in comparison.matches
        ],
    }


def csv_text(comparison: RunComparison) -> str:
    """One row a figure of a trial, with the trial's own words; without figures it has one. Missing is empty."""
    states = limit_states(comparison)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("figure", "unit", "old", "new", "change", "low", "high", "answer", "limit", "notes")
    writer.writerow([*TRIAL, *names])
    for match in comparison.matches:
        words = [_flat(getattr(match.record, name)) for name in TRIAL]
        values = [_plain_change(change, states.get((id(match), change.figure.name))) for change in match.changes]
        for value in values or [dict.fromkeys(names) | {"answer": match.status}]:
            writer.writerow([*words, *(_flat(value[name]) for name in names)])
    return out.getvalue()


def _side(side: Side) -> dict[str, Any]:
    return {"name": side.name, "environments": {name: dict(facts) for name, facts in side.environments.items()}}


def _plain_change(change: Change, state: str | None) -> dict[str, Any]:
    figure = change.figure
    return {
        "figure": figure.name, "unit": figure.unit or None, "old": change.old, "new": change.new,
        "change": change.change, "low": change.low, "high": change.high, "answer": change.answer, "limit": state,
        "notes": list(change.notes),
    }


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else for_csv(value)


def _line(value: str, style: str = "") -> Text:
    return Text(plain(value), style=style)


def _item(value: str, style: str = "") -> Table:
    """A line whose continuation is indented below its text."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(Text("-"), _line(value, style))
    return grid


def _heads(found: Sequence[Row]) -> list[str]:
    limit = ["Limit"] if any(row.limit for row in found) else []
    return ["Trial", "Figure", *_NUMBERS, "Answer", *limit]


def _cells(row: Row, found: Sequence[Row]) -> list[str]:
    limit = [row.limit] if any(other.limit for other in found) else []
    return [row.trial, row.figure, row.old, row.new, row.change, row.answer, *limit]


def _table(found: Sequence[Row], width: int) -> Table:
    """In a narrow terminal the limit stands below the answer, so that no number is cut."""
    stacked = width < _NARROW
    heads = [head for head in _heads(found) if not (stacked and head == "Limit")]
    lines = [_stacked(row, _style(row)) if stacked else [_line(cell, _style(row)) for cell in _cells(row, found)]
             for row in found]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, head in enumerate(heads):
        number = head in _NUMBERS
        longest = max(len(word) for line in lines for word in [head, *line[place].plain.split()])
        table.add_column(
            head, justify="right" if number else "left", overflow="fold", no_wrap=number,
            min_width=None if number or head == "Trial" else longest,
        )
    for line in lines:
        table.add_row(*line)
    return table


def _stacked(row: Row, style: str) -> list[Text]:
    cells = [_line(cell, style) for cell in (row.trial, row.figure, row.old, row.new, row.change, row.answer)]
    return [*cells[:-1], cells[-1].append(f"\nlimit {row.limit}")] if row.limit else cells


def _row_line(row: Row) -> Table:
    """A row as a sentence, where no table fits."""
    words = [f"{row.trial}, {row.figure}: {row.old} -> {row.new}", row.change, row.answer]
    return _item(", ".join(filter(None, [*words, row.limit and f"limit {row.limit}"])), _style(row))


def _style(row: Row) -> str:
    return "bold" if row.alarm else "green" if row.answer == BETTER else ""


def _plain_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for line in lines:
        table.add_row(*map(_line, line))
    return table


def _markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---:" if head in _NUMBERS else "---" for head in heads]
    cells = [heads, rule, *([for_markdown(cell) for cell in line] for line in lines)]
    return [f"| {' | '.join(line)} |" for line in cells]

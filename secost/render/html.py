"""A report as one HTML page that needs no network: tables first, which work without scripts, then figures.

The page's policy lets only its own scripts run, by their hashes. Every text from a record goes through `for_html`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from secost.answers.groups import Group
from secost.cleaning import for_html as clean
from secost.cleaning import json_for_script, to_json
from secost.glossary import FIELDS
from secost.pages import content
from secost.pages.page import Section, Table
from secost.pages.report import Report
from secost.pages.sections import sections
from secost.render.explorer import specification
from secost.render.images import drawings
from secost.render.page_parts import SORTING, START_EXPLORER, STYLE

if TYPE_CHECKING:
    from secost.figures.drawing import Drawing

_TIME_FIELDS = ("latency_direct_ms", "latency_floor_ms", "")
_TAG = re.compile(r"<[^>]*>")
_SVG_ID = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def render_html(report: Report) -> dict[str, bytes]:
    """`report.html`."""
    return {"report.html": page(report).encode("utf-8")}


def page(report: Report) -> str:
    """The page as text."""
    explorer, scripts = _explorer(report)
    scripts.insert(0, SORTING)
    sections: tuple[Callable[[Report], str], ...] = (_verdict, _compared, _tables, _parts, _figures)
    rest: tuple[Callable[[Report], str], ...] = (_stages, _cautions, _environment, _conventions, _glossary)
    parts = [*(part(report) for part in sections), explorer, *(part(report) for part in rest)]
    body = "\n".join(part for part in parts if part)
    return whole_page(report.title, body, scripts)


def whole_page(title: str, body: str, scripts: Sequence[str]) -> str:
    """A page round a body that is HTML already, with its policy, its style and its scripts."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_policy(scripts)}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{clean(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{clean(title)}</h1>\n{body}\n</main>\n"
        + "\n".join(f"<script>{script}</script>" for script in scripts)
        + "\n</body>\n</html>\n"
    )


def _policy(scripts: Iterable[str]) -> str:
    """Inline styles are allowed (figures carry them), scripts only by hash, the network not at all."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
                      for script in scripts)
    policy = (f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
              "base-uri 'none'; form-action 'none'")
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _section(title: str, body: str, identity: str) -> str:
    return f'<section aria-labelledby="{identity}">\n<h2 id="{identity}">{title}</h2>\n{body}\n</section>'


def _items(lines: Iterable[str]) -> str:
    """A list of lines that are HTML already."""
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _verdict(report: Report) -> str:
    verdict = report.verdict
    body = (f'<p class="answer">Worth it? {clean(verdict.headline)}</p>\n{_items(map(clean, verdict.sentences))}\n'
            f"<p><strong>Next step:</strong> {_code(verdict.next_step)}.</p>")
    return _section("Verdict", body, "verdict")


def _code(text: str) -> str:
    """Cleaned text with what stands in backquotes as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", clean(text))


def _compared(report: Report) -> str:
    lines = [clean(line) for line in content.compared_lines(report)]
    lines.append(f"Machine: {clean(content.machine_line(report))}")
    if report.created:
        lines.append(f"Report made: {clean(report.created)}")
    return _section("What was compared, on what", _items(lines), "compared")


def _tables(report: Report) -> str:
    groups = report.groups
    body = "\n".join(_cost_table(group) for group in groups) or "<p>There are no records.</p>"
    return _section("What it costs", body, "costs")


def _cost_table(group: Group) -> str:
    rows = content.rows(group)
    noted = any(row.note for row in rows)
    heads = [_head("attention", "Attention"), _head("reduction", "r")]
    heads += [_head(cell.currency.field, cell.currency.title, number=True) for cell in rows[0].cells]
    heads += [_head("cautions", "Notes")] if noted else []
    body = "\n".join(_cost_row(row, noted) for row in rows)
    return _table(f"Cost of attention, below each total what is added: {group.label}", heads, body, sortable=True)


def _cost_row(row: content.Row, noted: bool) -> str:
    reduction = "" if row.reduction is None else str(row.reduction)
    cells = [f'<th scope="row">{clean(row.kind)}</th>', _number(reduction, row.reduction)]
    cells += [_cost_cell(cell) for cell in row.cells]
    cells += [f"<td>{clean(row.note)}</td>"] if noted else []
    return f"<tr{' class=baseline' if row.is_baseline else ''}>{''.join(cells)}</tr>"


def _cost_cell(cell: content.Cell) -> str:
    """The total, and below it what is added; sorted by the overhead, or by the total where that is unknown."""
    value = cell.total_value if cell.overhead_value is None else cell.overhead_value
    key = "" if value is None else f"={value:.7g}"
    return f"<td data-value{key}>{clean(cell.total)}{_addition(cell)}</td>"


def _addition(cell: content.Cell) -> str:
    known = [text for text in (cell.added, cell.overhead) if text not in ("", "N/A")]
    if not known:
        return ""
    shown = clean(known[0]) if len(known) == 1 else f"{clean(known[0])} ({clean(known[1])})"
    return f"<small>{shown}</small>"


def _number(text: str, value: float | None) -> str:
    key = "" if value is None else f"={value:.7g}"
    return f"<td data-value{key}>{clean(text)}</td>"


def _head(field: str, title: str, number: bool = False) -> str:
    meaning = FIELDS.get(field)
    shown = f'<abbr title="{clean(meaning)}">{clean(title)}</abbr>' if meaning else clean(title)
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind}>{shown}</th>'


def _table(caption: str, heads: Sequence[str], body: str, sortable: bool = False) -> str:
    kind = ' class="sortable"' if sortable else ""
    return (f'<div class="scroll" role="region" tabindex="0" aria-label="{clean(caption)}">\n<table{kind}>\n'
            f"<caption>{clean(caption)}</caption>\n<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{body}\n"
            "</tbody>\n</table>\n</div>")


def _parts(report: Report) -> str:
    return "\n".join(section_html(part) for part in sections(report))


def section_html(part: Section) -> str:
    tables = "\n".join(_text_table(found) for found in part.tables)
    words = f"{_items(map(clean, part.paragraphs))}\n" if part.paragraphs else ""
    return _section(part.title, f"{words}{tables}", part.key)


def _text_table(found: Table) -> str:
    heads = [_head("", head, number=place >= found.left) for place, head in enumerate(found.heads)]
    body = "\n".join(_text_row(row, found.left) for row in found.texts)
    return _table(found.caption, heads, body)


def _text_row(row: Sequence[str], left: int) -> str:
    names = [f'<th scope="row">{clean(row[0])}</th>', *(f"<td>{clean(text)}</td>" for text in row[1:left])]
    return f"<tr>{''.join([*names, *(_number(text, None) for text in row[left:])])}</tr>"


def _figures(report: Report) -> str:
    return figures_html(drawings(report))


def figures_html(found: Sequence[Drawing]) -> str:
    """The section of the figures; nothing where there are none."""
    cards = [
        f'<figure class="card">\n{inline_svg(drawing.svg_for_page, drawing.name, drawing.alt)}\n'
        f"<figcaption>{clean(drawing.title)}. {clean(drawing.alt)}</figcaption>\n</figure>"
        for drawing in found
    ]
    return _section("Figures", "\n".join(cards), "figures") if cards else ""


def inline_svg(svg: bytes, name: str, description: str) -> str:
    """matplotlib's SVG as an element of a page: named for screen readers, and its ids made its own."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _TAG.sub(lambda match: _page_tag(match.group(), name), text)
    text = re.sub(r">\s+<", "><", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{clean(description)}"', 1).strip()


def _page_tag(tag: str, name: str) -> str:
    """A tag with ids of its own and coordinates to a hundredth of a point. The text between tags stays as it is.
    Ids of groups, which nothing refers to, and turns by 0 degrees go: they are a third of the size."""
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    if tag.startswith("<g id="):
        tag = re.sub(r' id="[^"]*"', "", tag)
    return " ".join(_DECIMALS.sub(r"\1", _SVG_ID.sub(rf"\g<1>{name}-", tag)).split())


def _explorer(report: Report) -> tuple[str, list[str]]:
    """The interactive chart's section and its scripts; nothing where vl-convert or points are missing."""
    chart = specification(report.groups)
    if chart is None:
        return "", []
    bundle = _bundle()
    if bundle is None:
        return "", []
    body = (
        "<p>Choose what is paid across and up; less is better in both. Variants that another one beats in both are "
        "faded. Click in the legend to keep one attention, hover over a point for all its values. The tables above "
        'hold the same numbers.</p>\n<div class="card"><div id="explorer"></div></div>\n'
        f'<script type="application/json" id="explorer-chart">{json_for_script(chart)}</script>'
    )
    return f'<div id="explorer-section" hidden>{_section("Explore", body, "explore")}</div>', [bundle, START_EXPLORER]


def _bundle() -> str | None:
    """Vega, Vega-Lite and vega-embed as one script (0.9 MB); None without the `html` extra."""
    try:
        import vl_convert
    except ImportError:
        return None
    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # its stub forgets the default


def _stages(report: Report) -> str:
    rows, note = content.stage_rows(report)
    if not rows:
        return ""
    several = len(report.groups) > 1
    heads = [_head("model", "Network")] if several else []
    heads += [_head("attention", "Attention"), _head("", "Stage"), _head("sites", "Sites")]
    for currency in content.STAGE_CURRENCIES:
        heads += [_head(currency.field, f"added {currency.word}"), _head("", "share")]
    times = content.stage_time_heads(rows)
    heads += [_head(field, title) for field, title in zip(_TIME_FIELDS, times, strict=False)]
    body = "\n".join(_stage_row(row, several, len(times)) for row in rows)
    text = _table("What attention adds in each stage", heads, body)
    return _section("By stage", text + (f"<p>{clean(note)}</p>" if note else ""), "stages")


def _stage_row(row: content.StageRow, several: bool, times: int) -> str:
    cells = [f"<td>{clean(row.comparison)}</td>"] if several else []
    cells.append(f'<th scope="row">{clean(row.label)}</th>')
    numbers = [row.stage, row.sites, *(text for value in row.values for text in value), *row.times[:times]]
    return f"<tr>{''.join([*cells, *(_number(text, None) for text in numbers)])}</tr>"


def _cautions(report: Report) -> str:
    lines = [
        f"<strong>{clean(line.code)}</strong> ({clean(line.where)}): {clean(line.meaning)}. "
        f"Next step: {clean(line.next_step)}." for line in content.caution_lines(report)
    ]
    lines += [f"<strong>failed</strong> ({clean(where)}): {clean(why)}" for where, why in content.failure_lines(report)]
    return _section("Cautions", _items(lines) if lines else "<p>None.</p>", "cautions")


def _environment(report: Report) -> str:
    parts = [_facts(f"Environment {name}" if len(report.environments) > 1 else "Environment", facts)
             for name, facts in content.environment_lines(report)]
    if report.spec is not None:
        parts.append(f"<details><summary>The spec of the run</summary><pre>{_lines(to_json(report.spec, indent=2))}"
                     "</pre></details>")
    return _section("Environment", "\n".join(parts) or "<p>Not recorded.</p>", "environment")


def _lines(text: str) -> str:
    return "\n".join(clean(line) for line in text.split("\n"))


def _facts(caption: str, facts: Sequence[tuple[str, str]]) -> str:
    body = "\n".join(f'<tr><th scope="row">{clean(key)}</th><td>{clean(value)}</td></tr>' for key, value in facts)
    return _table(caption, ['<th scope="col">Fact</th>', '<th scope="col">Value</th>'], body)


def _conventions(report: Report) -> str:
    return _section("Conventions", _items(map(clean, content.convention_lines(report))), "conventions")


def _glossary(report: Report) -> str:
    entries = "".join(f"<dt>{clean(key)}</dt><dd>{clean(meaning)}</dd>" for key, meaning in content.glossary_lines())
    return _section("Glossary", f"<dl>{entries}</dl>", "glossary")

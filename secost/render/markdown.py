"""A report as Markdown: verdict first, then what was compared, the tables, figures, cautions, conventions, glossary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secost.answers.groups import Group
from secost.cleaning import for_markdown as clean
from secost.cleaning import slug, to_json
from secost.pages import content
from secost.pages.page import Section
from secost.pages.report import Report
from secost.pages.sections import sections
from secost.render.images import drawings


def render_markdown(report: Report) -> dict[str, bytes]:
    """`report.md` with the PNG files that it links to."""
    figures = drawings(report)
    links = [(drawing.title, drawing.alt, f"{drawing.name}.png") for drawing in figures]
    files = {"report.md": text(report, links).encode("utf-8")}
    return files | {f"{drawing.name}.png": drawing.png for drawing in figures}


def text(report: Report, figures: Sequence[tuple[str, str, str]] = ()) -> str:
    """The page as text; `figures` are (title, description, file name) of what it links to."""
    parts = [
        [f"# {clean(report.title)}"], _verdict(report), _compared(report), _tables(report),
        *map(section_lines, sections(report)), _figures(figures), _stages(report), _cautions(report),
        _environment(report), _conventions(report), _glossary(),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> list[str]:
    """A Markdown table; the first `left` columns are aligned left, the others right. Cells are cleaned here."""
    rule = ["---" if index < left else "---:" for index in range(len(heads))]
    lines = [_cells(map(clean, heads)), _cells(rule)]
    return [*lines, *(_cells(map(clean, row)) for row in rows)]


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdict(report: Report) -> list[str]:
    verdict = report.verdict
    lines = ["## Verdict", "", f"**Worth it? {clean(verdict.headline)}**", ""]
    lines += [f"- {clean(sentence)}" for sentence in verdict.sentences]
    return [*lines, "", f"**Next step:** {clean(verdict.next_step).replace(chr(92) + '`', '`')}."]


def _compared(report: Report) -> list[str]:
    made = [f"- Report made: {clean(report.created)}"] if report.created else []
    lines = [f"- {clean(line)}" for line in content.compared_lines(report)]
    return ["## What was compared, on what", "", *lines, f"- Machine: {clean(content.machine_line(report))}", *made]


def _tables(report: Report) -> list[str]:
    lines = ["## What it costs"]
    for group in report.groups:
        lines += ["", f"### {clean(group.label)}", "", *_table(group)]
    return lines


def _table(group: Group) -> list[str]:
    rows = content.rows(group)
    heads = ["Attention"]
    for cell in rows[0].cells:
        heads += [cell.currency.title, f"added {cell.currency.word}"]
    noted = any(row.note for row in rows)
    body = []
    for row in rows:
        cells = [text for cell in row.cells for text in (cell.total, _addition(cell))]
        body.append([row.label, *cells, *([row.note] if noted else [])])
    return table([*heads, "Notes"] if noted else heads, body)


def _addition(cell: content.Cell) -> str:
    if not cell.overhead:
        return ""
    if cell.overhead == "N/A":
        return "N/A" if cell.added == "N/A" else cell.added
    return cell.overhead if cell.added == "N/A" else f"{cell.added} ({cell.overhead})"


def section_lines(section: Section) -> list[str]:
    """One part of a page."""
    sentences = [f"- {clean(sentence)}" for sentence in section.paragraphs]
    lines = [f"## {clean(section.title)}", *([""] if sentences else []), *sentences]
    for part in section.tables:
        lines += ["", f"### {clean(part.caption)}", "", *table(part.heads, part.texts, part.left)]
    return lines


def _figures(figures: Sequence[tuple[str, str, str]]) -> list[str]:
    if not figures:
        return []
    lines = ["## Figures"]
    for title, alt, name in figures:
        lines += ["", f"![{clean(title)}]({slug(name)})", "", clean(alt)]
    return lines


def _stages(report: Report) -> list[str]:
    rows, note = content.stage_rows(report)
    if not rows:
        return []
    several = len(report.groups) > 1
    heads = ["Network"] * several + ["Attention", "Stage", "Sites"]
    for currency in content.STAGE_CURRENCIES:
        heads += [f"added {currency.word}", "share"]
    times = content.stage_time_heads(rows)
    heads += times
    body = [[*([row.comparison] if several else []), row.label, row.stage, row.sites,
             *(text for value in row.values for text in value), *row.times[: len(times)]] for row in rows]
    lines = ["## What it adds, by stage", "", *table(heads, body, left=1 + several)]
    return [*lines, "", note] if note else lines


def _cautions(report: Report) -> list[str]:
    cautions, failures = content.caution_lines(report), content.failure_lines(report)
    lines = ["## Cautions", ""]
    for caution in cautions:
        lines.append(f"- **{clean(caution.code)}** ({clean(caution.where)}): {clean(caution.meaning)}. "
                     f"Next step: {clean(caution.next_step)}.")
    lines += [f"- **failed** ({clean(where)}): {clean(why)}" for where, why in failures]
    return lines if cautions or failures else [*lines, "None."]


def _environment(report: Report) -> list[str]:
    lines = ["## Environment"]
    for name, facts in content.environment_lines(report):
        several = [f"### {clean(name)}", ""] if len(report.environments) > 1 else []
        lines += ["", *several, *table(["Fact", "Value"], facts, left=2)]
    if not report.environments:
        lines += ["", "Not recorded."]
    if report.spec is not None:
        lines += ["", "The spec of the run:", "", *(f"    {line}" for line in _spec_lines(report))]
    return lines


def _spec_lines(report: Report) -> list[str]:
    """An indented code block shows text as it is, so only invisible characters are taken out."""
    from secost.cleaning import plain

    return [plain(line) for line in to_json(report.spec, indent=2).split("\n")]


def _conventions(report: Report) -> list[str]:
    return ["## Conventions", "", *(f"- {clean(line)}" for line in content.convention_lines(report))]


def _glossary() -> list[str]:
    return ["## Glossary", "", *table(["Field", "Meaning"], content.glossary_lines(), left=2)]

"""A page as one HTML file that needs no network: tables first, which work without scripts, then figures.

The template escapes every text, and what leaves here as Markup was made or escaped here. The page's policy lets only
its own scripts run, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from secost.pages.page import HTML, Kind, Line, Page, Section, Sheet
from secost.writing import json_for_script, plain

_TEMPLATES = Path(__file__).parent / "templates"
_TAG = re.compile(r"<[^>]*>")
_SVG_ID = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def html(page: Page, sheet: Sheet) -> str:
    """The page as text."""
    sections = page.shown(HTML)
    if not any(section.figures for section in sections):
        sections.insert(1 if page.answer else 0, Section("figures", "Figures", figures=True))
    chart, bundle = _explorer(page)
    scripts = [_file("sorting.js")] if any(table.sortable for part in sections for table in part.tables) else []
    scripts += [bundle, _file("explorer.js")] if bundle else []
    return _environment().get_template("page.html.j2").render(
        title=page.title, style=Markup(_file("page.css")), policy=_policy(scripts), scripts=list(map(Markup, scripts)),
        sections=sections, keys=_unique([section.key for section in sections]), chart=chart, Kind=Kind,
        figures=[(figure, Markup(inline_svg(figure.svg_for_page, figure.name, figure.alt))) for figure in page.figures],
    )


@cache
def _environment() -> Environment:
    """Whatever the template shows is cleaned, then escaped, but for Markup."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: value if isinstance(value, Markup) else plain(value),
    )
    environment.filters |= {"code": _code, "blocks": _blocks, "key": lambda value: f"={value:.7g}"}
    return environment


@cache
def _file(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str]) -> str:
    """Inline styles are allowed (figures carry them), scripts only by hash, the network not at all."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
                      for script in scripts)
    return (f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
            "form-action 'none'")


def _code(text: str) -> Markup:
    """Text with what stands in backquotes as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(plain(text)))))


def _blocks(lines: Sequence[Line]) -> list[tuple[bool, list[Line]]]:
    """Lines with those of one list together: (whether it is a list, lines)."""
    return [(kind is Kind.ITEM, list(group)) for kind, group in itertools.groupby(lines, lambda line: line.kind)]


def _unique(keys: Sequence[str]) -> list[str]:
    """A page has each identity once: of several sections of one key the later ones have a number."""
    counts: Counter[str] = Counter()
    numbered = []
    for key in keys:
        counts[key] += 1
        numbered.append(key if counts[key] == 1 else f"{key}-{counts[key]}")
    return numbered


def inline_svg(svg: bytes, name: str, description: str) -> str:
    """matplotlib's SVG as an element of a page: named for screen readers, and its ids made its own."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _TAG.sub(lambda match: _page_tag(match.group(), name), text)
    text = re.sub(r">\s+<", "><", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(plain(description))}"', 1).strip()


def _page_tag(tag: str, name: str) -> str:
    """A tag with ids of its own and coordinates to a hundredth of a point. The text between tags stays as it is.
    Ids of groups, which nothing refers to, and turns by 0 degrees go: they are a third of the size."""
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    if tag.startswith("<g id="):
        tag = re.sub(r' id="[^"]*"', "", tag)
    return " ".join(_DECIMALS.sub(r"\1", _SVG_ID.sub(rf"\g<1>{name}-", tag)).split())


def _explorer(page: Page) -> tuple[Markup | None, str | None]:
    """The interactive chart's specification and the script that draws it; nothing where vl-convert or points lack."""
    chart: Any = page.chart() if page.chart else None
    bundle = None if chart is None else _bundle()
    return (None, None) if bundle is None else (Markup(json_for_script(chart)), bundle)


@cache
def _bundle() -> str | None:
    """Vega, Vega-Lite and vega-embed as one script (0.9 MB); None without the `html` extra."""
    try:
        import vl_convert
    except ImportError:
        return None
    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # its stub forgets the default

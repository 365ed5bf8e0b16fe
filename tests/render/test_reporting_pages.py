"""Every format: golden files, hostile names, equal bytes, atomic writing, and no matplotlib where none is needed."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import html.parser
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import (
    ENVIRONMENT,
    as_shipped,
    baseline,
    by_backend,
    counted_only,
    floored,
    many,
    one_variant,
    over_batch,
    record,
    run_of_six,
    spelled,
    two_models,
    with_trouble,
)

from secost.errors import BadSpecError, RunError, UnknownNameError
from secost.pages.cost import cost_page
from secost.pages.page import Page, Section, Sheet
from secost.render import html as html_pages
from secost.render.formats import FORMATS, Format, render, write
from secost.runs.records import FLAT_FIELDS, Record, document
from secost.writing import from_csv, plain

GOLDEN = Path(__file__).parents[1] / "golden"
ALL_FORMATS = ("table", "json", "csv", "md", "html", "parquet", "png", "svg")
TEXT_FORMATS = ("table", "json", "csv", "md")
PARTS = {"benefit", "backends", "axes", "spelling", "floor", "published"}  # what only some runs have
HOSTILE = [
    "</script><script>alert(1)</script>", "\x1b]0;owned\x07\x1b[31m", "=cmd|' /C calc'!A0", "a|b|c", "[/x][bold]y",
    "net[int8].py:factory", "$\\frac{1}{2}$", "\u202egnp.exe", "a\nb\r\nc\u2028d", "\ud800", "𝕟𝕖𝕥 网络 🙂",
    "`x` <b>&amp;", "",
]
TAGS = """html head meta title style body main h1 h2 section p ul li strong code div table caption thead tbody tr th td
abbr small figure figcaption svg g defs path use text tspan clippath rect pattern details summary pre dl dt dd script"""
MAKERS: list[Callable[[], list[Record]]] = [
    run_of_six, counted_only, one_variant, as_shipped, with_trouble, list, lambda: [baseline()],
    by_backend, over_batch, spelled, floored,
    lambda: [record(status="failed", error="no"), record("se", 2, status="failed", error="no")],
]


def report_of(records: list[Record]) -> Page:
    return cost_page(records, {"models": ["resnet50"]}, ENVIRONMENT, gains=())


@functools.cache
def shared(make: Callable[[], list[Record]]) -> Page:
    """The report on a made run, with its figures drawn at most once for all tests."""
    return report_of(make())


@functools.cache
def another(make: Callable[[], list[Record]]) -> Page:
    """An equal report, with figures of its own."""
    return report_of(make())


@functools.cache
def shared_page(make: Callable[[], list[Record]]) -> str:
    return render(shared(make), "html")


def files_of(page: Page, format: str) -> dict[str, bytes]:
    """What the format makes for a folder, a text by the format's name."""
    made = FORMATS.get(format).render(page, Sheet(files=True))
    return {format: made.encode()} if isinstance(made, str) else dict(made)


def sections(page: Page) -> list[Section]:
    return [part for part in page.sections if part.key in PARTS]


def renamed(records: list[Record], name: str) -> list[Record]:
    return [replace(item, model=name, error=name if item.error else None, cautions=[name] if item.cautions else [],
                    unsupported_ops={name: 1}) for item in records]


@pytest.mark.parametrize("format", ["table", "json", "csv", "md"])
def test_text_formats_equal_their_golden_files(format: str) -> None:
    """Renew with SECOST_UPDATE_GOLDEN=1, and read the difference."""
    path = GOLDEN / f"resnet50.{format if format != 'table' else 'txt'}"
    text = render(report_of([*run_of_six(), with_trouble()[2]]), format)
    if os.environ.get("SECOST_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("format", ALL_FORMATS)
@pytest.mark.parametrize("make", MAKERS)
def test_every_format_renders_every_kind_of_run(format: str, make: Callable[[], list[Record]]) -> None:
    for name, content in files_of(shared(make), format).items():
        assert name and content


@pytest.mark.parametrize("format", ALL_FORMATS)
def test_equal_reports_give_equal_bytes(format: str) -> None:
    assert files_of(another(as_shipped), format) == files_of(shared(as_shipped), format)


def test_json_is_the_document_of_the_records() -> None:
    records = with_trouble()
    whole = json.loads(render(report_of(records), "json"))
    assert whole.pop("verdict")["answer"] == "can't tell" and whole == document(records, ENVIRONMENT)


def test_json_keeps_several_environments_by_id() -> None:
    made = cost_page([baseline()], None, {"a": {"cpu": "x"}, "b": {"cpu": "y"}})
    assert json.loads(render(made, "json"))["environment"] == {"a": {"cpu": "x"}, "b": {"cpu": "y"}}


def test_csv_has_the_contract_columns_and_joins_lists() -> None:
    records = [replace(item, stages=[3, 4]) for item in with_trouble()]
    rows = list(csv.DictReader(io.StringIO(render(report_of(records), "csv"))))
    assert tuple(rows[0]) == FLAT_FIELDS
    assert rows[1]["cautions"] == "contention;drift" and rows[1]["stages"] == "3;4"
    assert json.loads(rows[1]["unsupported_ops"]) == {"aten::roll": 2}
    assert rows[2]["params"] == "" and rows[2]["status"] == "failed"
    assert float(rows[1]["params_overhead"]) == records[1].params_overhead


def test_csv_names_come_back_through_from_csv() -> None:
    text = render(report_of([replace(baseline(), model="=cmd()")]), "csv")
    cell = next(csv.DictReader(io.StringIO(text)))["model"]
    assert cell == "'=cmd()" and from_csv(cell) == "=cmd()"


def test_markdown_totals_add_up_to_the_baseline_and_the_stages() -> None:
    records = run_of_six()
    rows = list(csv.DictReader(io.StringIO(render(report_of(records), "csv"))))
    for row, made in zip(rows[1:], records[1:], strict=True):
        assert int(row["params"]) == int(rows[0]["params"]) + int(row["attention_params"])
        assert int(row["macs"]) == int(rows[0]["macs"]) + sum(stage["macs"] for stage in made.by_stage)


def test_markdown_begins_with_the_verdict_and_links_only_files_it_gives() -> None:
    files = files_of(shared(two_models), "md")
    text = files["report.md"].decode()
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert heads == ["Verdict", "What was compared, on what", "What it costs", "Figures", "What it adds, by stage",
                     "Cautions", "Environment", "Conventions", "Glossary"]
    links = re.findall(r"^!\[.*\]\((.+)\)$", text, re.MULTILINE)
    assert links and set(links) == set(files) - {"report.md"}


def test_markdown_tables_are_rectangular() -> None:
    text = render(report_of(renamed(with_trouble(), "a|b\\|c")), "md")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize("width", [40, 64, 80, 107, 120, 200])
@pytest.mark.parametrize("make", [run_of_six, with_trouble, two_models])
def test_table_fits_the_terminal_and_loses_no_number(width: int, make: Callable[[], list[Record]]) -> None:
    text = render(report_of(make()), "table", width)
    assert max(map(len, text.splitlines())) <= width
    assert "28.09 M" in text or make is with_trouble
    assert text.startswith("Worth it? Can't tell")


def test_table_has_colour_only_when_asked() -> None:
    assert "\x1b[" not in render(report_of(run_of_six()), "table")
    assert "\x1b[" in render(report_of(run_of_six()), "table", color=True)


class Parsed(html.parser.HTMLParser):
    """Collects what the page's policy is about: elements, attributes, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_page_allows_scripts_by_their_hash_only_and_loads_nothing() -> None:
    text = shared_page(run_of_six)
    policy = next(attrs["content"] for attrs in Parsed(text).named("meta") if attrs.get("http-equiv")) or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert not any({"src", "href"} & set(attrs) for tag, attrs in Parsed(text).tags if tag != "use")
    assert not any(name.startswith("on") for _, attrs in Parsed(text).tags for name in attrs)


def test_page_is_complete_without_vl_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.setattr(html_pages, "_bundle", html_pages._bundle.__wrapped__)  # what it found before is kept
    text = render(shared(run_of_six), "html")
    assert "explorer-chart" not in text and len(text) < 300_000
    assert text.count("<script>") == 1 and 'class="sortable"' in text and "<svg" in text


@pytest.mark.parametrize(("make", "limit"), [(run_of_six, 1_500_000), (two_models, 1_500_000), (many, 1_600_000)])
def test_page_is_small(make: Callable[[], list[Record]], limit: int) -> None:
    assert len(shared_page(make).encode()) < limit


def test_page_tables_and_figures_are_accessible() -> None:
    found = Parsed(shared_page(two_models))
    assert len(found.named("caption")) == len(found.named("table")) > 2
    assert all(attrs.get("scope") in ("col", "row") for attrs in found.named("th"))
    figures = found.named("svg")
    assert figures and all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)
    assert found.named("html")[0]["lang"] == "en"
    identities = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(identities) == len(set(identities))


def test_references_inside_figures_lead_somewhere() -> None:
    text = "".join(re.findall(r"<svg.*?</svg>", shared_page(two_models), re.DOTALL))
    identities = set(re.findall(r'\bid="([^"]+)"', text))
    referred = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'xlink:href="#([^"]+)"', text))
    assert referred and referred <= identities


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_in_every_format(name: str) -> None:
    check_hostile(name, TEXT_FORMATS)


def test_hostile_names_stay_text_in_a_page() -> None:
    check_hostile("".join(HOSTILE[:4]), ("html",))
    check_hostile(" ".join(reversed(HOSTILE)), ("html",))


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=30))
def test_any_name_stays_text(name: str) -> None:
    check_hostile(name, TEXT_FORMATS)


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=30))
def test_any_of_many_names_stays_text(name: str) -> None:
    check_hostile(name, TEXT_FORMATS)


@pytest.mark.slow
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=30))
def test_any_name_stays_text_in_pages_and_figures(name: str) -> None:
    check_hostile(name, ("html",))


# The parts that only some runs have


def test_a_run_without_them_has_no_such_part() -> None:
    assert [part.key for part in sections(shared(run_of_six))] == []
    assert sections(shared(counted_only)) == [] and sections(report_of([])) == []


@pytest.mark.parametrize(("make", "keys"), [
    (by_backend, ["backends", "floor", "published"]), (over_batch, ["axes"]), (spelled, ["spelling"]),
    (floored, ["floor", "published"]),
])
def test_each_part_stands_where_its_records_are(make: Callable[[], list[Record]], keys: list[str]) -> None:
    parts = sections(shared(make))
    assert [part.key for part in parts] == keys
    for part in parts:
        for table in part.tables:
            assert all(len(row) == len(table.heads) for row in table.texts) and table.texts


def test_the_backend_table_holds_the_records_numbers() -> None:
    (table,) = sections(shared(by_backend))[0].tables
    cells = dict(zip(table.heads, table.texts[3], strict=True))
    assert cells == {
        "Runs on": "onnxruntime int8", "Attention": "se r=16", "none": "31.0 ms", "with it": "34.7 ms",
        "none, images/s": "32.3", "with it, images/s": "28.9", "time overhead": "+11.8 % [10.9, 12.7]",
        "adds": "+3.7 ms [3.4, 3.9]", "conversion, once": "14.0 s",
    }
    assert table.texts[0][-1] == "N/A"


def test_the_spelling_table_says_how_each_is_written_and_how_it_stands() -> None:
    (table,) = sections(shared(spelled))[0].tables
    by_name = {row[0]: dict(zip(table.heads, row, strict=True)) for row in table.texts}
    assert by_name["default"]["Squeeze, excitation, gate, scaling"] == "mean, linear, sigmoid, new"
    assert by_name["default"]["against secost's own"] == ""
    other = by_name["pool-conv-hardsigmoid"]
    assert other["At equal outputs"] == "not the same function" and other["against the fastest"] == ""
    assert other["Squeeze, excitation, gate, scaling"] == "pool, conv, hardsigmoid, new"
    unknown = cost_page([replace(item, spelling="later") if item.spelling == "mean-conv" else item
                            for item in spelled()], gains=())
    assert ("later", "N/A", "not timed") in {row[:3] for row in sections(unknown)[0].tables[0].texts}


def test_the_three_costs_stand_beside_each_other_with_the_floor() -> None:
    part = sections(shared(floored))[0]
    cells = dict(zip(part.tables[0].heads, part.tables[0].texts[0], strict=True))
    assert (cells["MACs"], cells["memory traffic"], cells["time"]) == ("+0.20 %", "+18 %", "+8.1 % [7.2, 9.0]")
    assert (cells["inside modules"], cells["floor"], cells["inside / floor"]) == ("4.60 ms", "1.90 ms", "2.4 times")
    assert cells["adds"] == "+5.0 ms [4.4, 5.5]"


def test_stages_have_their_time_and_floor_where_they_are_known() -> None:
    assert "| time inside | floor | inside / floor |" in render(shared(floored), "md")
    line = next(line for line in render(shared(floored), "md").split("\n") if line.startswith("| se r=16 | 4 |"))
    assert line.endswith("| 0.900 ms | 0.250 ms | 3.6 times |")
    assert "time inside" not in render(shared(one_variant), "md")
    no_floor = [replace(item, by_site=[{**row, "floor_ms": None} for row in item.by_site], latency_floor_ms=None)
                for item in floored()]
    text = render(report_of(no_floor), "md")
    assert "| time inside |" in text and "inside / floor" not in text


def test_parts_are_in_every_kind_of_page_and_say_nothing_twice() -> None:
    for make, title in ((by_backend, "By backend"), (spelled, "How it is written")):
        for text in (render(shared(make), "md"), render(shared(make), "table"), shared_page(make)):
            assert title in text
        said = [line for line in render(shared(make), "md").split("\n") if line.startswith("- ")]
        assert len(said) == len(set(said))


def test_a_terminal_tells_what_was_published_in_one_line_and_a_page_in_a_table() -> None:
    assert "9 published figures" in " ".join(render(shared(floored), "table").split())
    assert "benchmark-infer" not in render(shared(floored), "table")
    assert "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv" in shared_page(floored)


@pytest.mark.parametrize("width", [40, 80, 107, 120, 200])
def test_parts_fit_a_terminal(width: int) -> None:
    for make in (by_backend, spelled, over_batch, floored):
        assert all(len(line) <= width for line in render(shared(make), "table", width).split("\n"))


def test_the_page_names_the_spelling_of_each_row() -> None:
    assert '<th scope="row">se (pool-linear)</th>' in shared_page(spelled)


def check_hostile(name: str, formats: tuple[str, ...]) -> None:
    records = renamed([*one_variant(), with_trouble()[1], with_trouble()[2]], name)
    records += [replace(records[1], spelling=name), *(replace(item, backend=name) for item in records[:2])]
    made = cost_page(records, {"models": [name]}, {"cpu": name}, gains=())
    texts = {format: render(made, format) for format in formats}
    for text in texts.values():
        text.encode("utf-8")
        assert all(character == "\n" or plain(character) == character for character in set(text) - {"\t"})
    if "json" in texts:
        assert json.loads(texts["json"])["records"][0]["model"] == name
    if "csv" in texts:
        rows = list(csv.reader(io.StringIO(texts["csv"])))
        assert {len(row) for row in rows} == {len(FLAT_FIELDS)}
        assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)
    if "html" in texts:
        check_page(texts["html"])


def check_page(text: str) -> None:
    found = Parsed(text)
    assert len(found.named("script")) <= 4
    assert {tag for tag, _ in found.tags} <= set(TAGS.split())
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)


def test_files_are_written_whole_and_named_safely(tmp_path: Path) -> None:
    FORMATS.register("odd", Format(lambda page, sheet: {"../../up.txt": b"x", "plain.txt": b"y"}))
    try:
        written = write(report_of(one_variant()), tmp_path / "new" / "dir", ["odd", "csv"])
    finally:
        del FORMATS._entries["odd"]
    assert {path.parent for path in written} == {tmp_path / "new" / "dir"}
    assert {path.read_bytes() for path in written[:2]} == {b"x", b"y"}
    assert not [path for path in (tmp_path / "new" / "dir").iterdir() if path.suffix == ".tmp"]
    assert not (tmp_path / "up.txt").exists()


def test_a_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "records.csv").symlink_to(victim)
    write(report_of(one_variant()), out, ["csv"])
    assert victim.read_text() == "mine"
    assert not (out / "records.csv").is_symlink()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "records.csv").write_text("old")

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(RunError, match="No space left"):
        write(report_of(one_variant()), tmp_path, ["csv"])
    assert [path.name for path in tmp_path.iterdir()] == ["records.csv"]
    assert (tmp_path / "records.csv").read_text() == "old"


def test_a_failing_renderer_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        write(report_of(one_variant()), tmp_path / "out", ["csv", "jsn"])
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_directory_should_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RunError, match="can't write the report"):
        write(report_of(one_variant()), tmp_path / "out", ["csv"])


def test_stdout_takes_text_formats_only() -> None:
    for format in TEXT_FORMATS:
        assert render(report_of(one_variant()), format)
    with pytest.raises(BadSpecError, match="give a folder with -o"):
        render(report_of(one_variant()), "png")
    with pytest.raises(UnknownNameError):
        render(report_of(one_variant()), "pdf")


def test_json_hides_no_character_from_a_terminal() -> None:
    made = cost_page([replace(baseline(), model="a\x9b\u202e\x7f\ud800")], None, {})
    text = render(made, "json")
    assert "\\u009b" in text and "\\u202e" in text and "\\u007f" in text and "\\ud800" in text
    assert json.loads(text)["records"][0]["model"] == "a\x9b\u202e\x7f\ud800"


@pytest.mark.parametrize(("formats", "unneeded"), [
    (("table", "json", "md"), ("pandas", "jinja2", "matplotlib", "vl_convert", "torch")),
    (("csv",), ("rich", "jinja2", "matplotlib", "vl_convert", "torch")), (("html",), ("rich", "torch")),
])
def test_a_format_imports_only_what_it_needs(formats: tuple[str, ...], unneeded: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from secost.render.formats import render\n"
        "from secost.pages.cost import cost_page\n"
        "from secost.runs.records import Record\n"
        "values = ('m', 'none', None, 'auto', 'standard', None, 0, 1, 224, 'eager', 'fp32', 'cpu', 1)\n"
        f"[render(cost_page([Record(*values)]), name) for name in {formats}]\n"
        f"print([name for name in {unneeded} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_cautions_and_known_ones_both_have_a_next_step() -> None:
    records = [replace(item, cautions=["drift", "made-up: detail"]) for item in one_variant()]
    text = render(report_of(records), "md")
    assert "**drift** (none, se r=16)" in text and "trust the overheads more than the milliseconds" in text
    assert "**made-up: detail**" in text


def test_a_page_of_several_environments_lists_each() -> None:
    text = render(cost_page(one_variant(), None, [{"cpu": "first"}, {"cpu": "second"}]), "html")
    assert "Environment 1" in text and "second" in text and "times of different ones are not compared" in text


def test_the_date_is_the_only_thing_that_depends_on_when() -> None:
    dated = cost_page(one_variant(), None, ENVIRONMENT, created="2026-11-24")
    undated = cost_page(one_variant(), None, ENVIRONMENT)
    first, second = render(dated, "md"), render(undated, "md")
    assert first.replace("\n- Report made: 2026-11-24", "") == second

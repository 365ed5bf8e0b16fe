"""One registry of formats: a third party's works everywhere; every kind of page has every format; files are safe."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_records import ENVIRONMENT, run_of_six

from secost.answers.changes import Side
from secost.answers.comparison import compare_runs
from secost.cli import doctor as doctor_command
from secost.cli import main
from secost.errors import MissingExtraError, RunError
from secost.meters.aa_run import AARun
from secost.meters.fitness import Check
from secost.pages.benefit import of_published
from secost.pages.compare import compare_page
from secost.pages.cost import cost_page
from secost.pages.doctor import doctor_page
from secost.pages.page import Cell, Column, Kind, Line, Page, Row, Section, Table
from secost.render.formats import FORMATS, render, write, write_file

REPORTS = Path(__file__).parents[2] / "reports"
RUN = str(REPORTS / "resnet50")
HOSTILE = ("<script>alert(1)</script>", "\x1b]0;owned\x07", "=1+1", "`a`|<b>", "\u202ex", "\ud800")
CHECKS = [Check("memory", "20 GiB left", "ok", "little memory", None),
          Check("turbo", "on", "caution", "the clock rate varies", "switch it off"),
          Check("heat", "", "unknown", "the processor is hot", None)]
AT = [{"seconds": seconds, "half_width": 0.02 / seconds, "found": 0.03 / seconds} for seconds in (10.0, 30.0)]
AA = AARun("resnet18", 128, 1, 10.0, 5, 120, "thread-cpu", 12.3, 0.0, -0.001, 0.001, True, AT)  # type: ignore[arg-type]


def compared() -> Page:
    side = Side("run", tuple(run_of_six()), {"": ENVIRONMENT})
    return compare_page(compare_runs(side, side))


KINDS: dict[str, Callable[[], Page]] = {
    "cost": lambda: cost_page(run_of_six(), {"models": ["resnet50"]}, ENVIRONMENT),
    "compare": compared,
    "benefit": lambda: of_published([], ()),
    "doctor": lambda: doctor_page("fit with care", ["turbo"], CHECKS, AA, lambda: ENVIRONMENT),
    "list": lambda: Page.of_rows("two things", [{"name": "a", "count": 1200}, {"name": "b", "count": 3}]),
}
# What each command is called with, and what its page is named.
COMMANDS = {
    "cost": (("report", RUN), "report"), "compare": (("compare", RUN, RUN, "-q"), "compare"),
    "budget": (("budget", RUN, "--max-params", "5%"), "budget"), "benefit": (("benefit", "--family", "vgg"), "benefit"),
    "doctor": (("doctor", "--no-latency"), "doctor"), "list": (("list", "placements"), "list"),
}
PLUGIN = '''
from secost.pages.page import HTML
from secost.render.formats import FORMATS, Format

def shout(page, sheet):
    titles = [section.title for section in page.shown(HTML) if section.title]
    return "\\n".join([page.title.upper(), page.answer, *titles]) + "\\n"

def register():
    FORMATS.register("shout", Format(shout))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A package as pip installs it, with an entry point that adds a format."""
    site = tmp_path / "site"
    info = site / "shouting-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "shouting.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[secost.plugins]\nshouting = shouting:register\n")
    return site


SCRIPT = '''
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
from secost.cli import doctor, main
doctor._PAUSE_S = 0.0
said = {}
for name, words in json.loads(sys.argv[2]).items():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words)
    said[name] = [code, out.getvalue()]
print(json.dumps(said))
'''


def test_a_third_partys_format_works_on_stdout_and_in_files_for_every_kind_of_page(
    plugin: Path, tmp_path: Path
) -> None:
    calls = {}
    for name, (words, _) in COMMANDS.items():
        folder = f"{tmp_path / name}/"
        calls[f"{name} files"] = [*words, "--format", "shout", "-o", folder]
        if name == "list":
            (tmp_path / name).mkdir()  # its -o is a file, or a folder that is there
        if name != "cost":  # of a report only the table goes to stdout
            calls[f"{name} stdout"] = [*words, "--format", "shout"]
    command = [sys.executable, "-c", SCRIPT, str(plugin), json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    for name, (_, kind) in COMMANDS.items():
        code, out = said[f"{name} files"]
        text = (tmp_path / name / f"{kind}.shout").read_text(encoding="utf-8")
        assert code in (0, 1) and text.split("\n")[0].isupper()
        assert name == "list" or out == f"{tmp_path / name / f'{kind}.shout'}\n"
        if name not in ("cost", "doctor"):  # the machine's state may have changed
            assert said[f"{name} stdout"] == [code, text]
    assert "DID IT GET WORSE?" in said["compare stdout"][1] and said["doctor stdout"][1].startswith("IS THIS MACHINE")


def test_the_formats_are_named_where_one_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", RUN, "--format", "pdf"]) == 2
    assert "expected one of csv, html, json, md, parquet, png, svg, table" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_page_has_every_format(kind: str, tmp_path: Path) -> None:
    page = KINDS[kind]()
    written = {path.name for path in write(page, tmp_path, ["table", "md", "html", "json", "csv", "parquet"])}
    data = "records" if kind == "cost" else page.kind
    figures = set() if page.words_only else {f"{figure.name}.png" for figure in page.figures}
    assert written == {f"{page.kind}.{end}" for end in ("txt", "md", "html")} | figures | {
        f"{data}.{end}" for end in ("json", "csv", "parquet")}
    rows = list(csv.DictReader(io.StringIO((tmp_path / f"{data}.csv").read_text())))
    table = pd.read_parquet(tmp_path / f"{data}.parquet")
    assert len(table) == len(rows) and list(table.columns) == list(rows[0] if rows else [])
    json.loads((tmp_path / f"{data}.json").read_text())
    text = (tmp_path / f"{page.kind}.html").read_text()
    assert page.title in text and (not page.answer or f'<p class="answer">{page.question}' in text or page.verdict)
    assert (tmp_path / f"{page.kind}.md").read_text().startswith(f"# {page.title}\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [40, 80, 108, 140])
def test_every_kind_of_page_fits_a_terminal(kind: str, width: int) -> None:
    text = render(KINDS[kind](), "table", width)
    assert max(map(len, text.splitlines())) <= width


def hostile(name: str) -> Page:
    """A page of which every text is the name, on lines of every kind and in a table of every kind of column."""
    columns = (Column(name, meaning=name), Column(name, number=True, added=name), Column(name, note=True))
    cells = Cell(name), Cell(name, 1.0, name, name), Cell(name)
    tables = (Table(name, columns, (Row(cells),), sortable=True),
              Table.of(name, (name, name), [(name, name)], left=2, terms=True, least_width=0))
    lines = tuple(Line(name, kind, name) for kind in Kind)
    return Page("page", name, name, (Section("part", name, lines, tables, after=lines),), ({"name": name},),
                {"name": name}, question=name, verdict=True)


@pytest.mark.parametrize("format", ["table", "md", "html", "json", "csv"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_stays_text_wherever_it_stands(name: str, format: str) -> None:
    text = render(hostile(name), format)
    assert not set(text) & set("\x1b\x07\u202e\ud800")
    if format == "html":
        assert "<b>" not in text and text.count("<script>") == 1  # the page's own, which sorts
    if format == "md":
        lines = [line for line in text.split("\n") if not line.startswith("    ")]  # but for blocks of code
        assert "<" not in "".join(lines).replace("\\<", "")
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")} == {5, 3}
    if format == "csv":
        assert not text.split("\n")[1].startswith("=")
    if format == "json":
        assert json.loads(text)["name"] == name


def test_ids_are_unique_where_sections_share_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(REPORTS / "vgg16-and-resnet18")
    assert main(["budget", run, "--max-params", "2%", "--format", "html", "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    text = (tmp_path / "budget.html").read_text()
    assert text.count('<h2 id="choice">') == text.count('<h2 id="choice-2">') == 1


def test_a_comparison_has_html_beside_its_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", RUN, RUN, "--format", "html", "-q", "-o", f"{tmp_path}/"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'compare.html'}\n"
    text = (tmp_path / "compare.html").read_text()
    assert text.count("<h1>Did it get worse?</h1>") == 1 and '<p class="answer">No figure shows it' in text
    assert "<caption>What is not exactly the same</caption>" in text and "Read with care</h2>" in text


def test_a_page_without_figures_has_no_pictures_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["budget", RUN, "--format", "png", "-o", f"{tmp_path}/"]) == 2
    assert "nothing to write as png: this page has no figures" in capsys.readouterr().err


def test_a_machine_that_is_not_fit_is_a_page_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_command, "_examine", lambda *arguments: (CHECKS, AA))
    assert main(["doctor", "--format", "md", "-o", str(tmp_path)]) == 0
    text = (tmp_path / "doctor.md").read_text()
    assert text.startswith("# Is this machine fit to measure on?\n\n**Fit with care: turbo**\n")
    assert text.index("| turbo |") < text.index("| memory |") and "Not told by this system: heat." in text


# --- parquet ----------------------------------------------------------------------------------------------------------


def test_parquet_has_the_rows_of_csv_with_their_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", RUN, "--format", "parquet,csv", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'records.parquet'}\n{tmp_path / 'records.csv'}\n"
    table, rows = pd.read_parquet(tmp_path / "records.parquet"), pd.read_csv(tmp_path / "records.csv")
    assert list(table.columns) == list(rows.columns)
    assert table["params"].dtype == "Int64" and table["latency_overhead_low"].dtype == "Float64"
    assert table["params"].tolist() == rows["params"].tolist()


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'secost\[parquet\]'"):
        write(KINDS["cost"](), tmp_path / "new", ["parquet"])
    assert not (tmp_path / "new").exists()


def test_parquet_takes_names_that_are_no_unicode(tmp_path: Path) -> None:
    write(hostile("a\ud800"), tmp_path, ["parquet"])
    assert pd.read_parquet(tmp_path / "page.parquet")["name"].tolist() == ["a\\ud800"]


# --- one file that the user names -------------------------------------------------------------------------------------


def test_a_link_that_the_user_names_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (tmp_path / "link.txt").symlink_to(victim)
    write_file(str(tmp_path / "link.txt"), b"new")
    assert victim.read_text() == "mine" and (tmp_path / "link.txt").read_text() == "new"
    assert not (tmp_path / "link.txt").is_symlink()


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    write_file("/dev/null", b"gone")
    assert Path("/dev/null").is_char_device()


def test_a_name_that_cant_be_written_is_one_line(tmp_path: Path) -> None:
    for name in (f"{tmp_path}/missing/x.csv", "bad\0name"):
        with pytest.raises(RunError, match="can't write"):
            write_file(name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_list_goes_to_a_file_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "placements.csv"
    path.write_text("old")
    assert main(["list", "placements", "--format", "csv", "-o", str(path)]) == 0
    assert path.read_text().startswith("placement,sites\n") and capsys.readouterr().out == ""
    assert [item.name for item in tmp_path.iterdir()] == ["placements.csv"]


def test_every_format_is_registered_once() -> None:
    assert FORMATS.names()[:8] == ["table", "json", "csv", "md", "html", "parquet", "png", "svg"]

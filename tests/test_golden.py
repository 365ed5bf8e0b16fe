"""Every kind of output, pinned: what the command line prints, and the files it writes, as golden files.

SECOST_UPDATE_GOLDEN=1 writes tests/golden anew, as for the golden files of test_reporting_pages; then read the
difference in git. A golden file begins with the command, its exit code and its lines on stderr. HTML is kept as an
indented tree of its tags and texts, without scripts, styles and what is drawn in figures. Of what is large, and of
every file of a report, digests.json keeps SHA-256 and length; those are held against reports/ too (figures are drawn by
the matplotlib of constraints.txt).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_records import ENVIRONMENT, baseline, record, variant, with_trouble

from secost.cli import main

ROOT = Path(__file__).parents[1]
GOLDEN, REPORTS = ROOT / "tests" / "golden", ROOT / "reports"
DIGESTS = GOLDEN / "digests.json"
LARGE = 40_000  # bytes; of a longer output only the digest is kept
RUNS = ("resnet50", "resnet50-backends", "digits-resnet", "efficientnet-b0", "vgg16-and-resnet18")
FORMS = {"table-80": ("table", 80), "table-140": ("table", 140), "md": ("md", 120), "csv": ("csv", 120),
         "json": ("json", 120)}
ENDINGS = {"table": "txt", "md": "md", "csv": "csv", "json": "json"}
ROW_FORMS = {name: form for name, form in FORMS.items() if name != "md"}
TABLES = {name: form for name, form in FORMS.items() if name.startswith("table")}

# --- the parts of secost that the command line does not reach: a moved module is to be changed here -------------------


def store_run(folder: Path, records: Sequence[Any], environment: Mapping[str, Any]) -> None:
    """A run in a folder, as `secost report` reads it."""
    from secost.plan.spec import Spec
    from secost.runs.store import RunStore

    with RunStore.create_or_resume(folder, Spec(models=("resnet50",), attention=("se",)), environment) as store:
        store.set_plan([record.key for record in records])
        for made in records:
            store.add(made)


def replace_doctor(patch: pytest.MonkeyPatch, found: Sequence[tuple[str, str, str]], aa: Mapping[str, Any]) -> None:
    """`secost doctor` sees these checks (name, value, status), this A/A run and this machine; nothing is measured."""
    from secost.glossary import CHECKS
    from secost.meters import aa_run, environment, fitness

    checks = [fitness.Check(name, value, status, CHECKS[name][0],
                            CHECKS[name][1] if status in ("caution", "bad") else None) for name, value, status in found]
    patch.setattr(fitness, "standing_checks", lambda threads: checks[: len(checks) // 2])
    patch.setattr(fitness, "watched_checks", lambda before, after: checks[len(checks) // 2:])
    patch.setattr(fitness, "snapshot", lambda: None)
    patch.setattr(aa_run, "aa_run", lambda *values, **named: aa_run.AARun(**aa))
    patch.setattr(environment, "describe", lambda: dict(ENVIRONMENT))


def own_page(name: str) -> Any:
    """The page of a study or a search in reports/."""
    from secost.pages.cost import page_of
    from secost.runs.store import read_all

    return page_of(read_all(REPORTS / name))


def page_text(page: Any, format: str, width: int) -> str:
    """A page of a search or a study as it is printed."""
    from secost.render.formats import render

    return render(page, format, width)


def page_files(page: Any, folder: Path) -> None:
    """A page of a study as its files in a folder."""
    from secost.render.formats import PAGE_FORMATS, write

    write(page, folder, PAGE_FORMATS)


# --- golden files -----------------------------------------------------------------------------------------------------


def updating() -> bool:
    return bool(os.environ.get("SECOST_UPDATE_GOLDEN"))


def held(name: str, text: str, whole: bool = False) -> None:
    """The text is that of its golden file; a long one, unless it is wanted whole, has only a digest."""
    data = text.encode()
    if len(data) > LARGE and not whole:
        return held_digest(name, data)
    path = GOLDEN / name
    if updating():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert path.exists(), f"no golden file {name}: write it with SECOST_UPDATE_GOLDEN=1"
    if data != path.read_bytes():
        lines = list(difflib.unified_diff(path.read_bytes().decode().split("\n"), text.split("\n"), "golden", "now",
                                          lineterm="", n=1))
        pytest.fail(f"{name} is another (SECOST_UPDATE_GOLDEN=1 writes it anew):\n" + "\n".join(lines[:60]), False)


def held_digest(name: str, data: bytes) -> None:
    """The bytes have the digest and the length that digests.json keeps for them."""
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    found = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    if updating():
        (GOLDEN / name).unlink(missing_ok=True)
        known[name] = found
        DIGESTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    if found != known.get(name):
        pytest.fail(f"{name} is another (SECOST_UPDATE_GOLDEN=1 writes it anew): {known.get(name)} -> {found}", False)


def held_published(made: Path, published: Path) -> None:
    """A file is that of reports/. Those are never written here: a changed page is rendered again by its command."""
    assert made.read_bytes() == published.read_bytes(), f"{published.relative_to(ROOT)} is not what is rendered now"


class Tree(HTMLParser):
    """An HTML page as indented lines: a tag with sorted attributes, a text in quotes. Scripts, styles and what an svg
    holds are left out, as are the hashes of scripts in the page's policy."""

    void = frozenset(("meta", "br", "hr", "img", "link", "input", "col"))
    hidden = frozenset(("script", "style", "svg"))

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    @property
    def inside(self) -> bool:
        return bool(self.hidden.intersection(self.open))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_text()
        if not self.inside:
            kept = sorted((name, value) for name, value in attrs if tag != "svg" or name == "aria-label")
            words = [f'{name}="{self._plain(value)}"' if value is not None else name for name, value in kept]
            self._line(" ".join([tag, *words]))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._end_text()
        if tag not in self.void:
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.text += data

    def handle_decl(self, decl: str) -> None:
        self._line(f"<!{decl}>")

    def close(self) -> None:
        super().close()
        self._end_text()

    def _end_text(self) -> None:
        text, self.text = re.sub(r"[ \t\r\n\f]+", " ", self.text).strip(" "), ""
        if text:
            self._line(f'"{text}"')

    def _line(self, text: str) -> None:
        self.lines.append(" " * len(self.open) + text)

    @staticmethod
    def _plain(value: str) -> str:
        return re.sub(r"'sha256-[^']*'", "'sha256-*'", re.sub(r"\s+", " ", value))


def tree(path: Path) -> str:
    return "\n".join(Tree(path.read_text(encoding="utf-8")).lines) + "\n"


class Said(NamedTuple):
    """What a command printed, and the same below the command, its exit code and its lines on stderr."""

    out: str
    whole: str


Say = Callable[..., Said]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """Runs a command at a terminal's width, in the test's own folder, where reports/ is too: all paths are relative."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").symlink_to(REPORTS, target_is_directory=True)

    def run(*words: str, width: int = 120) -> Said:
        monkeypatch.setenv("COLUMNS", str(width))
        code = main(list(words))
        out, err = capsys.readouterr()
        about = [f"$ COLUMNS={width} secost {' '.join(words)}", f"# exit {code}",
                 *(f"# {line}" for line in err.split("\n") if line)]
        return Said(out, "\n".join([*about, out]))

    return run


def held_form(name: str, form: str, words: Sequence[str], say: Say) -> Said:
    """A command in one of the forms is held to its golden file."""
    format, width = FORMS[form]
    said = say(*words, "--format", format, width=width)
    held(f"{name}.{form}.txt", said.whole)
    return said


# --- cost reports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("run", RUNS)
def test_table_of_a_report(run: str, form: str, say: Say) -> None:
    held_form(f"reports/{run}", form, ["report", f"reports/{run}"], say)


@pytest.mark.parametrize("run", RUNS)
def test_files_of_a_report(run: str, say: Say) -> None:
    """Figures too: what md brings with it are the PNGs."""
    held(f"reports/{run}.files.txt", say("report", f"reports/{run}", "-o", "new", "--format", "md,html,csv,json").whole)
    held(f"reports/{run}.html.txt", tree(Path("new/report.html")), whole=True)
    made = {path.name: path for path in sorted(Path("new").iterdir())}
    for name, path in made.items():
        held_digest(f"reports/{run}/{name}", path.read_bytes())
    assert set(made) == {path.name for path in (REPORTS / run).iterdir()} - {"records.sqlite"}
    for name, path in made.items():
        held_published(path, REPORTS / run / name)


@pytest.mark.parametrize("form", TABLES)
def test_table_of_a_report_beside_gains_from_elsewhere(form: str, say: Say, accuracies: str) -> None:
    words = ["report", "reports/resnet50"]
    held_form("reports/gains-published", form, [*words, "--benefit", "published"], say)
    held_form("reports/gains-file", form, [*words, "--accuracy", accuracies], say)


def odd_records() -> list[Any]:
    """Failures, cautions and missing times; names that are HTML, escapes, a formula; a network without a baseline."""
    script, escape, formula = "<script>alert(1)</script>", "\x1b]0;owned\x07\x1b[31mred|a`b`", "=cmd|' /C calc'!A0"
    found = [
        *with_trouble(), variant("eca", None, (0.05, 0.04, 0.06), model=script), baseline(model=script),
        record("se", 4, model=escape, status="failed", error=f"{escape} <b>&amp;\nsecond line"),
        baseline(model=escape, cautions=["contention", escape]),
        variant("se", 16, (0.04, -0.01, 0.09), model=escape, unsupported_ops={script: 2}),
        variant("se", 16, None, model=formula, params_overhead=None, macs_overhead=None, memory_overhead=None),
        variant("gc", 8, (0.07, 0.06, 0.08), model=formula, cautions=["drift"]),
    ]
    for place, made in enumerate(found):
        made.key = f"{place}"
    return found


@pytest.mark.parametrize("form", TABLES)
def test_table_of_a_report_on_odd_records(form: str, say: Say) -> None:
    store_run(Path("odd"), odd_records(), ENVIRONMENT)
    held_form("reports/odd", form, ["report", "odd"], say)


def test_files_of_a_report_on_odd_records(say: Say) -> None:
    store_run(Path("odd"), odd_records(), ENVIRONMENT)
    held("reports/odd.files.txt", say("report", "odd", "-o", "new", "--format", "md,html,csv,json").whole)
    held("reports/odd.html.txt", tree(Path("new/report.html")), whole=True)
    for name in ("report.md", "records.csv"):
        held(f"reports/odd.{name}", Path("new", name).read_bytes().decode())
    held_digest("reports/odd/records.json", Path("new/records.json").read_bytes())


# --- compare ----------------------------------------------------------------------------------------------------------

MACHINE = {"cpu": "Made-up 1", "logical_cores": 2, "memory_gib": 24, "os": "Linux 6.1", "torch": "2.13.0"}
OTHER = {**MACHINE, "cpu": "Made-up 2", "torch": "2.14.0", "governor": "powersave"}
COUNTS = {"params": 1000, "macs": 50_000, "memory_bytes": 9_000, "kernels": 20, "activations": 700}


def trial(attention: str, reduction: int | None = None, seconds: float | None = None,
          overhead: tuple[float, float, float] | None = None, **changes: Any) -> dict[str, Any]:
    """A record of `net` as a JSON document has it; `seconds` is the middle of its rounds."""
    values: dict[str, Any] = {
        "model": "net", "attention": attention, "reduction": reduction, "placement": "residual",
        "integration": "standard", "stages": None, "sites": 4, "batch": 1, "resolution": 64, "backend": "eager",
        "precision": "fp32", "device": "cpu", "threads": 1, "key": f"{attention}-{reduction}",
        "mac_convention": "made", **COUNTS,
    }
    if seconds is not None:
        values |= {"latency_ms": 1e3 * seconds, "rounds": 48, "processes": 6, "samples": rounds(seconds)}
    if overhead is not None:
        values |= dict(zip(("latency_overhead", "latency_overhead_low", "latency_overhead_high"), overhead,
                           strict=True))
    return {**values, **changes}


def rounds(seconds: float) -> dict[str, Any]:
    """48 rounds in 6 processes that differ by 0.2 %."""
    drawn = random.Random(0)
    levels = [drawn.gauss(0, 0.002) for _ in range(6)]
    times = [seconds * (1 + level + drawn.gauss(0, 0.002)) for level in levels for _ in range(8)]
    return {"clock": "thread-cpu", "process": [place // 8 for place in range(48)], "variant_s": times,
            "baseline_s": times, "control_s": times, "wall_s": [2 * value for value in times]}


def old_run() -> list[dict[str, Any]]:
    return [
        trial("none", None, 0.010), trial("se", 4, 0.011, (0.10, 0.09, 0.11), params=1_200_000),
        trial("se", 16, 0.0105, (0.05, 0.045, 0.055)), trial("eca", None, 0.0104, (0.04, 0.03, 0.05)),
        trial("gc", 16, 0.0107, (0.07, 0.06, 0.08)), trial("cbam", 16, status="failed", error="ValueError: no"),
        trial("ge", 16, 0.0112, (0.12, 0.11, 0.13), cautions=["contention"]),
    ]


def new_run() -> list[dict[str, Any]]:
    """Slower se r=16 with more of all, one parameter more, overhead that is not proven; ECA is gone, GC fails."""
    return [
        trial("none", None, 0.0103), trial("se", 4, 0.0112, (0.102, 0.09, 0.114), params=1_200_001),
        trial("se", 16, 0.0121, (0.15, 0.145, 0.155), params=1_250, macs=49_000, mac_convention="another"),
        trial("gc", 16, status="failed", error="RuntimeError: out of memory | while <tracing>"),
        trial("cbam", 16, 0.0130, (0.30, 0.29, 0.31)), trial("ge", 16, 0.0112, (0.12, 0.11, 0.13), cautions=["drift"]),
        trial("simam", None, 0.0101, (0.01, 0.0, 0.02)),
    ]


def written(name: str, facts: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    document = {"schema": 1, "environment": dict(facts), "records": list(records)}
    Path(name).write_text(json.dumps(document), encoding="utf-8")
    return name


LIMITS = ("--fail-on", "latency=3%", "--fail-on", "overhead=3pt", "--fail-on", "params=0", "--fail-on", "kernels=5%")
COMPARED: dict[str, tuple[Mapping[str, Any], list[dict[str, Any]], tuple[str, ...]]] = {
    "worse": (MACHINE, new_run(), LIMITS),
    "other-machine": (OTHER, new_run(), (*LIMITS, "--across-machines", "--allow-missing", "--strict")),
    "refused": (OTHER, new_run(), LIMITS),
    "not-proven": (MACHINE, old_run(), ("--fail-on", "overhead=0.2pt", "--fail-on", "latency=0.1%")),
    "no-limits": ({}, [trial("none"), trial("se", 16, params=900)], ("--run-spread", "0", "--across-machines")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", COMPARED)
def test_compare(case: str, form: str, say: Say) -> None:
    facts, records, options = COMPARED[case]
    words = ["compare", written("old.json", MACHINE, old_run()), written("new.json", facts, records), *options]
    said = held_form(f"compare/{case}", form, words, say)
    if case != "refused":
        format, width = FORMS[form]
        made = Path(say(*words, "--format", format, "-q", "-o", "pages/", width=width).out.strip())
        assert made == Path("pages", f"compare.{ENDINGS[format]}")
        assert made.read_text(encoding="utf-8") == said.out


# --- budget and benefit -----------------------------------------------------------------------------------------------

BUDGETS = {
    "limits": ("reports/resnet50", "--max-latency", "8%", "--max-params", "5%"),
    "per-stage": ("reports/resnet50", "--max-latency", "6%", "--max-params", "3%", "--max-macs", "1%", "--max-memory",
                  "12%", "--per-stage"),
    "published": ("reports/resnet50", "--max-latency", "9%", "--benefit", "published"),
    "file": ("reports/resnet50", "--max-latency", "9%", "--accuracy", "mine.csv"),
    "nothing": ("reports/resnet50", "--max-params", "0.01%"),
    "trained": ("reports/digits-resnet", "--max-macs", "5%", "--benefit", "trained"),
    "trained-per-stage": ("reports/digits-resnet", "--max-latency", "15%", "--per-stage"),
    "two-networks": ("reports/vgg16-and-resnet18", "--max-params", "2%"),
    "backends": ("reports/resnet50-backends", "--max-latency", "10%"),
    "no-limits": ("reports/efficientnet-b0",),
}
FILED = ("limits", "nothing", "trained")  # with -o too
BENEFITS = {
    "all": (), "se-resnet": ("--attention", "se", "--family", "resnet"), "file": ("--accuracy", "mine.csv"),
}


@pytest.fixture
def accuracies(say: Say) -> str:
    """Accuracies of one's own: three seeds of two networks, and an attention without a partner."""
    lines = ["model,attention,reduction,placement,top1,seed"]
    for seed, (none, se, eca) in enumerate([(75.1, 76.4, 75.9), (75.3, 76.2, 75.8), (74.9, 76.5, 75.2)]):
        lines += [f"resnet50,none,,residual,{none},{seed}", f"resnet50,se,16,residual,{se},{seed}",
                  f"resnet50,se,4,residual,{se + 0.2:.1f},{seed}", f"resnet50,eca,,residual,{eca},{seed}",
                  f"resnet18,none,,residual,{none - 5:.1f},{seed}", f"resnet18,se,16,residual,{se - 5.2:.1f},{seed}"]
    Path("mine.csv").write_text("\n".join([*lines, "small:vgg,se,4,residual,98.0,0"]) + "\n", encoding="utf-8")
    return "mine.csv"


def held_decision(name: str, form: str, words: Sequence[str], say: Say, filed: bool) -> None:
    """The printed page, and with -o a file of the same: its table has 120 columns whatever the terminal has."""
    said = held_form(name, form, words, say)
    if not filed or form == "table-140":
        return
    format, width = FORMS[form]
    made = Path("pages", f"{words[0]}.{ENDINGS[format]}")
    told, *figures = say(*words, "--format", format, "-o", "pages", width=width).out.splitlines()
    assert told == str(made) and all(Path(figure).suffix == ".png" for figure in figures)
    kept = made.read_text(encoding="utf-8")
    if format == "table":
        held(f"{name}.file.txt", kept)
    else:
        assert kept.partition("\n## Figures")[0].rstrip() == said.out.partition("\n## Figures")[0].rstrip()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", BUDGETS)
def test_budget(case: str, form: str, say: Say, accuracies: str) -> None:
    held_decision(f"budget/{case}", form, ["budget", *BUDGETS[case]], say, case in FILED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", BENEFITS)
def test_benefit(case: str, form: str, say: Say, accuracies: str) -> None:
    held_decision(f"benefit/{case}", form, ["benefit", *BENEFITS[case]], say, filed=True)


# --- doctor -----------------------------------------------------------------------------------------------------------

QUIET = [
    ("load", "0.20 on 2 processors", "ok"), ("cpu pressure", "1.0 % of the last 10 s", "ok"),
    ("processors", "1 thread on 2", "ok"), ("shared cores", "none", "ok"), ("governor", "performance", "ok"),
    ("clock", "steps of 1 ns, 40 ns a reading", "ok"), ("allocator", "glibc", "ok"), ("battery", "", "unknown"),
    ("memory", "20.0 GiB left", "ok"), ("virtual machine", "no", "ok"), ("heat", "", "unknown"),
    ("other work", "0.01 processors", "ok"), ("steal", "0.000 processors", "ok"),
    ("throttled", "0 times, 0.00 s", "ok"),
]
AA: dict[str, Any] = {
    "model": "resnet18", "resolution": 128, "threads": 1, "seconds": 10.0, "processes": 5, "rounds": 120,
    "clock": "thread-cpu", "latency_ms": 12.34, "difference": 0.0004, "low": -0.001, "high": 0.0018, "holds": True,
    "at": [{"seconds": seconds, "half_width": 0.02 / seconds**0.5, "found": 0.03 / seconds**0.5}
           for seconds in (10, 30, 60, 120)],
}
FEW = {**AA, "rounds": 1, "processes": 1, "low": None, "high": None, "holds": True, "threads": 2,
       "at": [{**row, "half_width": None, "found": None} for row in AA["at"]]}


def instead(**changed: tuple[str, str]) -> list[tuple[str, str, str]]:
    """The quiet machine with other answers, by name (`_` for a blank)."""
    return [(name, *changed.get(name.replace(" ", "_"), (value, status))) for name, value, status in QUIET]


CAREFUL = instead(governor=("powersave", "caution"), virtual_machine=("yes, and a docker container", "caution"),
                  load=("1.40 on 2 processors", "caution"))
UNFIT = instead(load=("9.00 on 2 processors", "bad"), steal=("0.300 processors", "bad"),
                memory=("0.9 GiB left", "caution"), throttled=("12 times, 0.80 s", "bad"))
DOCTOR: dict[str, tuple[list[tuple[str, str, str]], dict[str, Any], tuple[str, ...]]] = {
    "fit": (QUIET, AA, ()), "careful": (CAREFUL, {**AA, "difference": 0.004, "low": 0.002, "holds": False}, ()),
    "unfit": (UNFIT, {**AA, "difference": 0.02, "low": 0.015, "high": 0.025, "holds": False}, ()),
    "few": (QUIET, FEW, ("-q",)), "not-run": (CAREFUL, AA, ("--no-latency",)),
}


@pytest.mark.parametrize("form", ["table-80", "table-140", "json"])
@pytest.mark.parametrize("case", DOCTOR)
def test_doctor(case: str, form: str, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    checks, run, options = DOCTOR[case]
    replace_doctor(monkeypatch, checks, run)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    held_form(f"doctor/{case}", form, ["doctor", *options], say)


# --- search and studies -----------------------------------------------------------------------------------------------

OWN_PAGES = {"search-digits": "search/page", "study-scaling": "studies/study-scaling",
             "study-occlusion": "studies/study-occlusion", "study-quantization": "studies/study-quantization"}


@pytest.fixture(scope="module")
def own_pages() -> dict[str, Any]:
    return {name: own_page(name) for name in OWN_PAGES}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OWN_PAGES)
def test_page_of_a_study_or_a_search(name: str, form: str, own_pages: dict[str, Any]) -> None:
    format, width = FORMS[form]
    held(f"{OWN_PAGES[name]}.{form}.txt", page_text(own_pages[name], format, width))


@pytest.mark.parametrize("name", OWN_PAGES)
def test_files_of_a_study_or_a_search(name: str, own_pages: dict[str, Any], tmp_path: Path) -> None:
    page_files(own_pages[name], tmp_path)
    made = {path.name: path for path in sorted(tmp_path.iterdir())}
    html = next(path for path in made.values() if path.suffix == ".html")
    held(f"{OWN_PAGES[name]}.html.txt", tree(html), whole=True)
    published = {path.name: path for path in (REPORTS / name).iterdir() if path.name != "records.sqlite"}
    assert set(made) == set(published)
    for file, path in made.items():
        held_digest(f"{Path(OWN_PAGES[name]).parent}/{name}/{file}", path.read_bytes())
        held_published(path, published[file])


@pytest.mark.parametrize("name", OWN_PAGES)
def test_report_of_a_study_or_a_search(name: str, say: Say) -> None:
    """It writes the whole page, whatever format is asked for."""
    said = say("report", f"reports/{name}", "-o", "new", "--format", "csv")
    held(f"{Path(OWN_PAGES[name]).parent}/{name}.files.txt", said.whole)


# --- what there is, and what would run --------------------------------------------------------------------------------

ROWS = {"attention": ("list", "attention"), "placements": ("list", "placements"), "datasets": ("list", "datasets"),
        "sites": ("sites", "resnet18"), "sites-none": ("sites", "resnet18", "--placement", "depthwise"),
        "sites-taken": ("sites", "mobilenetv3_small_050", "--placement", "depthwise", "--resolution", "64")}
DRY = {
    "sweep": ("sweep", "--model", "resnet18", "--model", "torchvision:vgg16_bn", "--attention", "se,eca,simam", "-r",
              "4,16", "--batch", "1,8", "--memory-format", "contiguous,channels-last", "--dry-run", "-o", "nowhere"),
    "stages": ("sweep", "--model", "resnet18", "--attention", "se", "-r", "4", "--stages", "3,4", "--placement",
               "residual,depthwise", "--no-latency", "--dry-run"),
    "left-out": ("sweep", "--model", "resnet18", "--backend", "eager,onnxruntime", "--precision", "fp32,int8",
                 "--dry-run"),
    "refused": ("profile", "resnet18", "--precision", "fp32,int8", "--dry-run"),
    "done": ("profile", "resnet50", "-r", "2,4,8,16,32", "--seconds", "100", "-o", "reports/resnet50", "--dry-run"),
    "other-spec": ("profile", "resnet50", "-r", "2,4", "--seconds", "100", "-o", "reports/resnet50", "--dry-run"),
}


@pytest.mark.parametrize("form", ROW_FORMS)
@pytest.mark.parametrize("case", ROWS)
def test_rows(case: str, form: str, say: Say) -> None:
    said = held_form(f"rows/{case}", form, ROWS[case], say)
    if form == "csv":
        say(*ROWS[case], "--format", form, "-o", "rows.csv")
        assert Path("rows.csv").read_text(encoding="utf-8") == said.out


@pytest.mark.parametrize("form", ["table-80", "table-140", "json"])
def test_reconcile(form: str, say: Say) -> None:
    held_form("rows/reconcile", form, ["profile", "resnet18", "--reconcile", "--no-latency"], say)


@pytest.mark.parametrize("case", DRY)
def test_dry_run(case: str, say: Say) -> None:
    held(f"rows/dry-run-{case}.txt", say(*DRY[case]).whole)

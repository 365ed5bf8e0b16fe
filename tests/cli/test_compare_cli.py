"""`secost compare` from end to end: exit codes, the four formats, what it reads, the line of every wrong request."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answers.test_compare import MACHINE_A, SPEC, made, samples

from secost.cli import main
from secost.runs.records import Record, document
from secost.runs.store import RunStore, read_results

SAMPLES = Path(__file__).parents[2] / "reports"


def run_of(slower: float = 1.0, **changes: Any) -> list[Record]:
    """A run of three trials; `slower` is a factor on the time of se r=16, `changes` are of its fields."""
    found = [made("none", 0.010), made("se r=4", 0.011, (0.10, 0.09, 0.11)),
             made("se r=16", 0.0105 * slower, (0.05 * slower, 0.05 * slower - 0.005, 0.05 * slower + 0.005), **changes)]
    return [replace(record, environment=None) for record in found]


def stored(folder: Path, records: list[Record], facts: dict[str, Any] | None = None) -> str:
    """The records as a run in a folder."""
    with RunStore.create_or_resume(folder, SPEC, MACHINE_A if facts is None else facts) as store:
        store.set_plan([record.key for record in run_of()])
        for record in records:
            store.add(record)
    return str(folder)


def written(path: Path, records: list[Record], facts: dict[str, Any] | None = None) -> str:
    """The records as the file of `--format json`."""
    path.write_text(json.dumps(document(records, MACHINE_A if facts is None else facts)), encoding="utf-8")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def one_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The text of a refused request: exit 2, nothing on stdout, one line on stderr."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("secost: error: ") and err.count("\n") == 1 and "Traceback" not in err, err
    return err


# --- answers and exit codes ------------------------------------------------------------------------------------------


def test_a_run_compared_with_itself_is_no_worse_whatever_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stored(tmp_path / "old", run_of())
    code, out, err = run(capsys, old, old, "--fail-on", "latency=3%", "--fail-on", "overhead=3pt", "--fail-on",
                         "params=0", "--strict")
    assert (code, err) == (0, "") and out.startswith("Did it get worse? No, every limit is kept")
    assert "Same in all 3 trials: Parameters, MACs, Memory traffic, Kernels and Activations." in out
    assert "not distinguishable" in out and "Environment: the same in both runs." in out


def test_a_broken_limit_is_named_with_its_trial_and_figures_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    old, new = stored(tmp_path / "old", run_of()), stored(tmp_path / "new", run_of(1.1, params=1200))
    code, out, _ = run(capsys, old, new, "--fail-on", "latency=3%", "--fail-on", "params=0", "--fail-on", "kernels=0")
    lines = out.splitlines()
    assert code == 1 and lines[0] == "Did it get worse? Yes, more than allowed: 2 limits broken."
    assert lines[1].startswith(" - Latency of se r=16: +10.0 % [") and lines[1].endswith("], the limit is 3 %")
    assert lines[2] == " - Parameters of se r=16: +20 %, the limit is 0 %"
    first, second = (line.split() for line in lines[7:9])
    assert first[-2:] == second[-2:] == ["worse", "broken"]
    assert run(capsys, old, new, "--fail-on", "latency=20%")[0] == 0


def test_without_limits_it_only_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = stored(tmp_path / "old", run_of()), stored(tmp_path / "new", run_of(1.1, params=1200))
    code, out, _ = run(capsys, old, new)
    assert code == 0 and out.startswith("Did it get worse? Yes, some figures: 2 worse")


def test_what_is_not_proven_is_said_and_fails_only_where_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = stored(tmp_path / "old", run_of()), stored(tmp_path / "new", run_of())
    code, out, _ = run(capsys, old, new, "--fail-on", "overhead=0.2pt")
    assert code == 0 and "Not proven: no limit is broken, but 2 figures may be above one." in out
    assert "- not proven: Overhead within 0.2 pt of se r=4 (up to +1.8 pt), se r=16 (up to +1.3 pt)" in out
    assert "no length of run proves a limit below 1.1 pt: allow more" in " ".join(out.split())
    for spread, advice in (("1%", "no length of run proves a limit below 2.8 % at --run-spread 1.0%, limit overhead"),
                           ("0", "give both runs more processes and seconds")):
        out = run(capsys, old, new, "--fail-on", "latency=0.1%", "--run-spread", spread)[1]
        assert advice in " ".join(out.split())
    code, out, _ = run(capsys, old, new, "--fail-on", "overhead=0.2pt", "--strict")
    assert code == 1 and "the limit is 0.2 pt and that is not proven to be kept" in " ".join(out.split())


def test_trials_that_vanish_or_newly_fail_exit_with_1_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stored(tmp_path / "old", run_of())
    new = stored(tmp_path / "new", [run_of()[0], replace(run_of()[2], status="failed", error="ValueError: no")])
    code, out, _ = run(capsys, old, new)
    assert code == 1 and "more than allowed: 1 vanished and 1 newly failed." in out
    assert "- se r=4 is only in OLD" in out and "- se r=16 fails in NEW: ValueError: no" in out
    assert run(capsys, old, new, "--allow-missing")[0] == 0


# --- formats ---------------------------------------------------------------------------------------------------------


def test_json_is_one_document_with_every_figure_and_the_verdict_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = stored(tmp_path / "old", run_of()), stored(tmp_path / "new", run_of(1.1))
    arguments = (old, new, "--fail-on", "latency=3%", "--format", "json")
    code, out, err = run(capsys, *arguments)
    values = json.loads(out)
    assert code == 1 and values["schema"] == 1 and values["kind"] == "comparison" and values["broken"] == 1
    assert values["limits"] == {"latency": 0.03} and values["old"]["name"] == old
    assert list(values["old"]["environments"].values()) == [MACHINE_A]
    trial = values["trials"][2]
    assert (trial["model"], trial["attention"], trial["reduction"], trial["status"]) == ("net", "se", 16, "matched")
    latency = next(change for change in trial["changes"] if change["figure"] == "latency")
    assert latency["low"] < latency["change"] < latency["high"] and latency["limit"] == "broken"
    assert latency["change"] == pytest.approx(0.10, abs=0.01) and latency["answer"] == "worse"
    assert err.startswith("secost: Yes, more than allowed: 1 limit broken.\nsecost: Latency of se r=16")
    assert run(capsys, *arguments, "-q")[2] == ""


def test_csv_has_a_row_a_figure_and_no_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = [replace(record, model="=cmd()") for record in run_of()]
    old, new = written(tmp_path / "old.json", evil), written(tmp_path / "new.json", evil[:2])
    code, out, _ = run(capsys, old, new, "--format", "csv", "--allow-missing")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 6 + 7 + 1  # the baseline has no overhead, the last trial is gone
    assert {row["model"] for row in rows} == {"'=cmd()"} and rows[-1]["answer"] == "only in old"
    assert rows[0]["figure"] == "params" and rows[0]["low"] == "" and float(rows[5]["low"]) < 0


def test_markdown_escapes_what_runs_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = [replace(record, model=f"{name}|<b>\x1b[31m\n| x |") for record, name in zip(run_of(), "aab", strict=True)]
    path = written(tmp_path / "old.json", evil)
    _, out, _ = run(capsys, path, path, "--format", "md")
    assert out.startswith("# Did it get worse?\n") and "\x1b" not in out and "<b>" not in out
    bars = {line.count("|") - line.count("\\|") for line in out.splitlines() if line.startswith("|")}
    assert bars == {7}


@pytest.mark.parametrize("width", [40, 60, 79, 80, 99, 100, 120, 200])
def test_the_table_fits_its_terminal_and_cuts_no_number(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    old, new = run_of(), run_of(1.1)
    old[2].params, new[2].params = 28_088_024, 28_089_024  # alike to four digits
    written(tmp_path / "old.json", old)
    written(tmp_path / "new.json", new)
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(capsys, "old.json", "new.json", "--fail-on", "params=0", "--fail-on", "latency=30%")
    assert max(map(len, out.splitlines())) <= width
    for text in ("+1,000 (+0.0036 %)", "11.6 ms", "+10.0 %", "distinguishable"):
        assert any(text in line for line in out.splitlines()), text  # a figure and its unit are on one line


def test_a_file_or_a_folder_takes_the_text_instead_of_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stored(tmp_path / "old", run_of())
    _, expected, _ = run(capsys, old, old, "--format", "md")
    for target, path in (("page.md", "page.md"), ("new/", "new/compare.md"), ("old", "old/compare.md")):
        code, out, err = run(capsys, old, old, "--format", "md", "-o", f"{tmp_path}/{target}")
        assert code == 0 and out == f"{tmp_path / path}\n" and err.startswith("secost: No figure shows it")
        assert (tmp_path / path).read_text(encoding="utf-8") == expected


# --- what it reads ---------------------------------------------------------------------------------------------------


def test_a_folder_and_a_json_document_of_one_run_are_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = stored(tmp_path / "run", run_of()), written(tmp_path / "run.json", run_of())
    assert [replace(record, environment=None) for record in read_results(folder)[0]] == read_results(file)[0]
    assert list(read_results(folder)[1].values()) == list(read_results(file)[1].values()) == [MACHINE_A]
    code, out, _ = run(capsys, folder, file)
    assert code == 0 and "Environment: the same in both runs." in out


def test_a_document_of_several_environments_gives_each_record_its_own(tmp_path: Path) -> None:
    records = [replace(record, environment=name) for record, name in zip(run_of(), "abb", strict=True)]
    other = {**MACHINE_A, "cpu": "Made-up 2"}
    found, environments = read_results(written(tmp_path / "two.json", records, {"a": MACHINE_A, "b": other}))
    assert [environments[record.environment or ""] for record in found] == [MACHINE_A, other, other]


@pytest.mark.parametrize("sample", sorted(path.parent.name for path in SAMPLES.glob("*/records.json")))
def test_every_committed_sample_is_no_worse_than_its_own_document(
    sample: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SAMPLES / sample
    code, out, err = run(capsys, str(folder), str(folder / "records.json"), "--fail-on", "params=0", "--format", "json")
    changes = [change for trial in json.loads(out)["trials"] for change in trial["changes"]]
    assert code == 0, err
    assert {change["answer"] for change in changes} <= {"same", "not distinguishable"}
    measured = [change for change in changes if change["figure"] == "latency"]
    assert all(change["change"] == 0 and change["low"] < 0 < change["high"] for change in measured)


# --- machines --------------------------------------------------------------------------------------------------------


def test_another_machine_is_refused_and_both_are_shown_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stored(tmp_path / "old", run_of())
    new = stored(tmp_path / "new", run_of(), {**MACHINE_A, "cpu": "Made-up 2"})
    assert "(cpu was 'Made-up 1' and is 'Made-up 2')" in one_error(capsys, old, new)
    code, out, _ = run(capsys, old, new, "--across-machines")
    assert code == 0 and "another machine; cpu Made-up 1 -> Made-up 2" in out and "other-machine" in out
    table = [line.split() for line in out.splitlines()[out.splitlines().index("Fact           OLD        NEW"):]]
    assert ["torch", "2.13.0", "2.13.0"] in table and ["cpu", "Made-up", "1", "Made-up", "2"] in table


def test_other_software_on_the_same_machine_is_compared_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stored(tmp_path / "old", run_of())
    new = stored(tmp_path / "new", run_of(), {**MACHINE_A, "torch": "2.14.0", "caches": "L1"})
    code, out, _ = run(capsys, old, new)
    line = "Environment: the same machine; torch 2.13.0 -> 2.14.0; recorded in one run only: caches."
    assert code == 0 and line in " ".join(out.split())


# --- wrong requests --------------------------------------------------------------------------------------------------


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = stored(tmp_path / "good", run_of())
    (tmp_path / "empty").mkdir()
    documents = {
        "text.json": b"not json", "latin.json": b'"\xff"', "list.json": b"[1]", "other.json": b'{"a": 1}',
        "later.json": b'{"schema": 99, "records": []}', "none.json": b'{"schema": 1, "records": []}',
        "nan.json": b'{"schema": 1, "records": [{"model": NaN}]}', "deep.json": b"[" * 100_000,
        "odd.json": b'{"schema": 1, "records": [7]}', "short.json": b'{"schema": 1, "records": [{"model": "net"}]}',
        "typed.json": json.dumps(document([replace(run_of()[0], params="many")], {})).encode(),  # type: ignore[arg-type]
    }
    for name, data in documents.items():
        (tmp_path / name).write_bytes(data)
    expected = {
        "missing": "there is nothing at", "empty": "has no records.sqlite", "text.json": "is not JSON",
        "latin.json": "is not JSON", "list.json": "holds no records", "other.json": "holds no records",
        "later.json": "has schema 99, and this secost knows schema 1", "none.json": "has no record",
        "nan.json": "is no finite number", "deep.json": "is not JSON", "odd.json": "record 1 of",
        "short.json": "record 1 of", "typed.json": "its params is not", "good/records.sqlite": "give the run's folder",
        "bad\0name": "there is nothing at",
    }
    for name, message in expected.items():
        for arguments in ((good, f"{tmp_path}/{name}"), (f"{tmp_path}/{name}", good)):
            assert message in one_error(capsys, *arguments), name


@pytest.mark.parametrize(("arguments", "message"), [
    (["--fail-on", "latency=3"], "write latency=3% or latency=0.03"),
    (["--fail-on", "latncy=3%"], "did you mean latency"),
    (["--fail-on", "params"], "write a figure and a growth"),
    (["--format", "htm"], "unknown format 'htm': did you mean html"),
    (["--format", "png"], "give a folder with -o"),
    (["-o", "/dev/null/x"], "can't write '/dev/null/x'"), (["--fail-on", "params=0", "--fail-on", "params=1%"], "once"),
])
def test_a_wrong_option_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = stored(tmp_path / "good", run_of())
    assert message in one_error(capsys, good, good, *arguments)


def test_runs_without_a_common_trial_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = [replace(record, model="other", key=f"k{place}") for place, record in enumerate(run_of())]
    arguments = written(tmp_path / "old.json", run_of()), written(tmp_path / "new.json", other)
    assert "no trial in common" in one_error(capsys, *arguments)


def test_comparing_starts_without_torch(tmp_path: Path) -> None:
    good = stored(tmp_path / "good", run_of())
    script = ("import sys\nfrom secost.cli import main\n"
              f"code = main(['compare', {good!r}, {good!r}, '--fail-on', 'latency=5%'])\n"
              "sys.exit(code or bool({'torch', 'matplotlib', 'timm'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_the_rounds_of_the_made_runs_are_what_they_are_taken_for() -> None:
    found = samples(0.01)
    assert len(found["variant_s"]) == len(found["process"]) == 48 and len(set(found["process"])) == 6


def test_what_changed_is_drawn_with_its_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = stored(tmp_path / "old", run_of()), stored(tmp_path / "new", run_of())
    code, out, _ = run(capsys, old, new, "--format", "png", "-o", f"{tmp_path}/pages/")
    assert code == 0 and out.split() == [f"{tmp_path}/pages/changes.png"]
    assert (tmp_path / "pages" / "changes.png").read_bytes().startswith(b"\x89PNG")
    run(capsys, old, new, "--format", "html", "-o", f"{tmp_path}/pages/")
    text = (tmp_path / "pages" / "compare.html").read_text()
    assert "change of overhead (pt)" in text and "change of latency (%)" in text

"""The command line: exit codes, what goes to stdout and what to stderr, and the one line of every error."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from secost.cli import main
from secost.runs.records import FLAT_FIELDS

NETS = str(Path(__file__).parents[1].joinpath("small_nets.py"))
RESIDUAL = f"{NETS}:residual"
SMALL = ["--resolution", "32", "-r", "4", "--no-latency", "-q"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def one_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The text of a refused request: exit 2, nothing on stdout, one line on stderr."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("secost: error: ") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


# --- results -------------------------------------------------------------------------------------------------------


def test_profile_prints_one_json_document_and_nothing_else_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "profile", RESIDUAL, *SMALL, "--format", "json")
    document = json.loads(out)
    assert code == 0 and err == ""
    assert document["schema"] == 1 and document["environment"]["torch"]
    assert [r["attention"] for r in document["records"]] == ["none", "se"]
    assert set(FLAT_FIELDS) <= set(document["records"][0])


def test_every_r_adds_what_the_formula_says(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "profile", RESIDUAL, *SMALL, "-r", "1,2,4,8,16", "--format", "json")
    base, *variants = json.loads(out)["records"]
    for record in variants:
        hidden = 16 // record["reduction"]
        assert record["params"] - base["params"] == 2 * (2 * 16 * hidden + hidden + 16)
        assert record["macs"] - base["macs"] == 2 * (2 * 16 * hidden + 16 * 16 * 16)


def test_csv_has_the_contract_fields_and_missing_values_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "profile", RESIDUAL, *SMALL, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and list(rows[0])[: len(FLAT_FIELDS)] == list(FLAT_FIELDS)
    assert rows[0]["latency_ms"] == "" and rows[1]["attention_params"] != "0"


@pytest.mark.parametrize("format", ["table", "md"])
def test_text_formats_begin_with_the_verdict(capsys: pytest.CaptureFixture[str], format: str) -> None:
    code, out, _ = run(capsys, "profile", RESIDUAL, *SMALL, "--format", format)
    assert code == 0 and "orth it" in "\n".join(out.splitlines()[:5])


def test_latency_comes_with_an_interval_a_control_and_its_rounds(
    capsys: pytest.CaptureFixture[str], few_rounds: float
) -> None:
    arguments = ["profile", RESIDUAL, "--resolution", "32", "-r", "4", "--seconds", f"{few_rounds:g}"]
    code, out, _ = run(capsys, *arguments, "-q", "--format", "json")
    base, record = json.loads(out)["records"]
    assert code == 0 and base["latency_overhead"] is None and base["latency_ms"] > 0
    assert record["latency_overhead_low"] <= record["latency_overhead"] <= record["latency_overhead_high"]
    assert record["latency_ms"] / base["latency_ms"] - 1 == pytest.approx(record["latency_overhead"])
    assert record["rounds"] == len(record["samples"]["variant_s"]) == len(record["samples"]["control_s"])
    # Each pass adds up exactly, their medians nearly: but in no pass is a part longer than the whole.
    parts = [site["latency_ms"] for site in record["by_site"]]
    assert len(parts) == 2 and 0 < max(parts) <= record["latency_direct_ms"] * (1 + 1e-9)
    assert record["processes"] > 1 and record["images_per_s"] == pytest.approx(1e3 / record["latency_ms"])


def test_sites_lists_where_attention_can_sit(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "sites", RESIDUAL, "--resolution", "32", "--format", "json")
    assert code == 0 and [(s["path"], s["channels"]) for s in json.loads(out)] == [("1.bn2", 16), ("2.bn2", 16)]


def test_sites_of_a_network_without_maps_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "sites", f"{NETS}:no_maps", "--resolution", "32", "--format", "json")
    assert (code, json.loads(out)) == (0, [])


def test_a_network_with_two_inputs_takes_its_example_from_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "profile", f"{NETS}:two_inputs", "--example", f"{NETS}:example", "-r", "4",
                       "--no-latency", "-q", "--format", "json")
    base, record = json.loads(out)["records"]
    assert code == 0 and record["sites"] == 1 and base["resolution"] is None


@pytest.mark.parametrize("what", ["attention", "placements", "backends"])
def test_list_names_what_there_is(capsys: pytest.CaptureFixture[str], what: str) -> None:
    code, out, _ = run(capsys, "list", what, "--format", "json")
    known = {"attention": {"se", "eca", "cbam"}, "placements": {"residual", "depthwise"}, "backends": {"eager"}}
    assert code == 0 and known[what] <= {entry[what.removesuffix("s")] for entry in json.loads(out)}


def test_a_profile_with_a_folder_writes_a_run_and_its_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, _, _ = run(capsys, "profile", RESIDUAL, *SMALL, "-o", str(out))
    names = {path.name for path in out.iterdir()}
    assert code == 0 and "records.sqlite" in names
    assert {".md", ".html", ".png", ".csv", ".json"} <= {Path(name).suffix for name in names}
    code, text, _ = run(capsys, "report", str(out), "--format", "md", "-o", str(tmp_path / "again"))
    assert code == 0 and Path(text.split()[0]).read_bytes() == (out / Path(text.split()[0]).name).read_bytes()


def test_a_dry_run_says_what_would_run_and_runs_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, _ = run(capsys, "sweep", "--model", RESIDUAL, *SMALL, "-o", str(out), "--dry-run")
    assert code == 0 and "se r=4" in text and "2 trials" in text and not out.exists()
    run(capsys, "sweep", "--model", RESIDUAL, *SMALL, "-o", str(out))
    code, text, _ = run(capsys, "sweep", "--model", RESIDUAL, *SMALL, "-o", str(out), "--dry-run")
    assert code == 0 and "2 done" in text


def test_reconcile_shows_every_tools_count(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "profile", RESIDUAL, "--resolution", "32", "--reconcile", "--format", "json")
    counts = {row["convention"]: row["count"] for row in json.loads(out)["conventions"]}
    assert code == 0 and counts["FLOPs = 2 x layers"] == 2 * counts["layers"]


# --- failed trials: exit 1, a record each --------------------------------------------------------------------------


def test_a_network_that_fails_in_forward_is_a_failed_record_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "sweep", "--model", f"{NETS}:broken", "--model", RESIDUAL, *SMALL, "--format", "json",
                         "-o", str(tmp_path / "run"))
    records = json.loads(out)["records"]
    assert code == 1 and [r["status"] for r in records] == ["failed", "failed", "done", "done"]
    assert "this network never runs" in records[0]["error"] and "this network never runs" in err
    assert records[0]["params"] is None and records[2]["params"] > 0


def test_a_sweep_with_one_network_that_has_no_site_keeps_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(capsys, "sweep", "--model", f"{NETS}:no_maps", "--model", RESIDUAL, *SMALL, "--format", "json",
                       "-o", str(tmp_path / "run"))
    assert code == 1 and [r["status"] for r in json.loads(out)["records"]] == ["failed", "failed", "done", "done"]


# --- wrong requests: exit 2, one line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["profile", "resnet51"], "did you mean"),
        (["profile", "torchvision:resnet51"], "did you mean"),
        (["profile", "nowhere.module:make"], "can't import"),
        (["profile", "nowhere.py:make"], "no file"),
        (["profile", NETS], "names a file but no factory"),
        (["profile", f"{NETS}:residaul"], "did you mean 'residual'"),
        (["profile", f"{NETS}:raises"], "no weights for you"),
        (["profile", f"{NETS}:number"], "expected a torch.nn.Module"),
        (["profile", RESIDUAL, "--attention", "sse"], "did you mean"),
        (["profile", RESIDUAL, "--placement", "residul"], "did you mean residual"),
        (["profile", RESIDUAL, "--integration", "past"], "did you mean post"),
        (["profile", RESIDUAL, "--format", "jason"], "did you mean json"),
        (["profile", RESIDUAL, "--backend", "eagre"], "did you mean eager"),
        (["profile", RESIDUAL, "--precision", "int8"], "expected one of fp32"),
        (["profile", RESIDUAL, "-r", "0"], "reduction 0"),
        (["profile", RESIDUAL, "-r", "-4"], "reduction -4"),
        (["profile", RESIDUAL, "-r", "four"], "'four' is not a whole number"),
        (["profile", RESIDUAL, "-r", ""], "holds no number"),
        (["profile", RESIDUAL, "-r", "32", "--resolution", "32", "--no-latency"], "1.bn2 (16), 2.bn2 (16)"),
        (["profile", RESIDUAL, "--placement", "depthwise", "--resolution", "32"], "no depthwise site"),
        (["profile", f"{NETS}:no_maps", "--resolution", "32"], "no auto site"),
        (["profile", RESIDUAL, "--stages", "3", "--resolution", "32"], "stage 3"),
        (["profile", RESIDUAL, "--stages", "0"], "counted from 1"),
        (["profile", RESIDUAL, "--resolution", "0"], "resolution 0"),
        (["profile", RESIDUAL, "--threads", "0"], "threads 0"),
        (["profile", RESIDUAL, "--threads", "4096"], "processors of this machine"),
        (["profile", RESIDUAL, "--seconds", "0"], "more than 0"),
        (["profile", RESIDUAL, "--secnds", "1"], "--seconds"),
        (["sweep"], "names no model"),
        (["sweep", "no-such.toml"], "can't read the spec"),
        (["report", "no-such-run"], "no-such-run"),
        (["sites", RESIDUAL, "--format", "png"], "give a folder with -o"),
        (["sites", RESIDUAL, "--format", "pgn"], "unknown format"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_request_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert said in one_error(capsys, *arguments, *(["-q"] if arguments[0] == "profile" else []))


def test_a_resolution_that_is_too_small_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    net = tmp_path / "valid.py"
    net.write_text("import torch.nn as nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 8, 7), nn.ReLU(), "
                   "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))\n")
    assert "resolution 4 does not fit" in one_error(capsys, "profile", f"{net}:make", "--resolution", "4", "-q")


def test_a_file_that_is_not_python_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def make(:\n")
    assert "line 1" in one_error(capsys, "profile", f"{bad}:make", "-q")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = [", "line 1, column"),
        ("model = 'x'\nreductoins = [2]", "did you mean 'reductions'"),
        ("models = []", "empty list"),
        ("models = 'x'\nreductions = ['a']", "not a whole number"),
        ("models = 'x'\nlatency = 'yes'", "not true or false"),
        ("attention = ['se']", "names no model"),
    ],
)
def test_a_bad_toml_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(text)
    assert said in one_error(capsys, "sweep", str(spec), "-q", "-o", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_cant_be_written_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    error = one_error(capsys, "profile", RESIDUAL, *SMALL, "-o", str(tmp_path / "file" / "run"))
    assert str(tmp_path / "file" / "run") in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_changed_spec_is_refused_naming_the_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    run(capsys, "profile", RESIDUAL, *SMALL, "-o", out)
    assert "reductions" in one_error(capsys, "profile", RESIDUAL, *SMALL, "-r", "8", "-o", out)


def test_a_corrupt_database_is_left_untouched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_bytes(b"not a database" * 100)
    before = (tmp_path / "records.sqlite").read_bytes()
    one_error(capsys, "profile", RESIDUAL, *SMALL, "-o", str(tmp_path))
    one_error(capsys, "report", str(tmp_path))
    assert (tmp_path / "records.sqlite").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# --- how it starts -------------------------------------------------------------------------------------------------


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


def modules_after(code: str, *names: str) -> set[str]:
    watch = f"import sys; print([name for name in {names!r} if name in sys.modules])"
    return set(eval(python("-c", f"{code}\n{watch}").stdout.splitlines()[-1]))


def test_help_starts_without_torch_pandas_or_matplotlib() -> None:
    code = "from secost.cli import main\nassert main(['--help']) == 0"
    assert modules_after(code, "torch", "pandas", "matplotlib", "timm", "rich") == set()


def test_report_starts_without_torch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, "profile", RESIDUAL, *SMALL, "-o", str(tmp_path / "run"))
    code = f"from secost.cli import main\nassert main(['report', {str(tmp_path / 'run')!r}]) == 0"
    assert modules_after(code, "torch", "timm", "fvcore") == set()


def test_import_secost_costs_nothing() -> None:
    assert modules_after("import secost", "torch", "pandas", "typer", "rich") == set()


def test_python_m_secost_runs_no_file_of_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    done = python("-m", "secost", "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip()


def test_a_name_with_escape_sequences_reaches_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in one_error(capsys, "profile", "\x1b]0;owned\x07resnet", "-q")


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m secost list placements | head -n 1", shell=True, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "80"}, check=False,
    )
    assert "Traceback" not in done.stderr


def test_a_request_that_turns_out_wrong_leaves_no_run_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "run"
    one_error(capsys, "profile", RESIDUAL, *SMALL, "--placement", "depthwise", "-o", str(out))
    assert list(tmp_path.iterdir()) == []
    code, _, _ = run(capsys, "profile", RESIDUAL, *SMALL, "-o", str(out))
    assert code == 0
    one_error(capsys, "profile", RESIDUAL, *SMALL, "--placement", "depthwise", "-o", str(out))
    assert (out / "records.sqlite").exists()


def test_a_wrong_request_is_one_line_without_quiet_too(capsys: pytest.CaptureFixture[str]) -> None:
    one_error(capsys, "profile", RESIDUAL, "--resolution", "32", "--placement", "depthwise", "--no-latency")


def test_a_users_file_may_import_torchvision(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import torchvision\ndef make():\n    return torchvision.models.resnet18()\n")
    done = python("-m", "secost", "sites", f"{tmp_path / 'own.py'}:make", "--format", "json")
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 8, done.stderr


def test_an_example_of_the_networks_own_is_no_image_of_the_default_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net = tmp_path / "own.py"
    net.write_text("import torch\ndef make():\n    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), "
                   "torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, 1, 1), torch.nn.ReLU())\n"
                   "    net.example_input_array = torch.zeros(1, 3, 48, 48)\n    return net\n")
    _, out, _ = run(capsys, "profile", f"{net}:make", "-r", "4", "--no-latency", "-q", "--format", "json")
    assert [record["resolution"] for record in json.loads(out)["records"]] == [None, None]
    _, out, _ = run(capsys, "sites", f"{net}:make", "--format", "json")
    assert json.loads(out)[0]["height"] == 24


def test_a_network_that_misses_inputs_is_pointed_to_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "profile", f"{NETS}:two_inputs", "-r", "4", "--no-latency", "-q", "--format", "json")
    assert code == 1 and "--example" in json.loads(out)["records"][0]["error"]


def test_without_a_command_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys)
    assert code == 2 and err.count("\n") > 10 and "profile" in err


def test_usual_reductions_that_do_not_fit_are_left_out_with_a_note(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "profile", "mobilenetv3_small_100", "--resolution", "64", "--no-latency",
                         "--format", "json", "-o", str(tmp_path / "run"))
    assert code == 0
    tried = {record["reduction"] for record in json.loads(out)["records"]} - {None}
    assert tried == {2, 4, 8, 16}
    assert "a site of mobilenetv3_small_100 has 16 channels: of the usual reductions, 32 left out" in err
    written = (tmp_path / "run" / "report.md").read_bytes()
    assert run(capsys, "report", str(tmp_path / "run"), "--format", "md")[0] == 0
    assert (tmp_path / "run" / "report.md").read_bytes() == written  # its spec is that of the run


def test_reductions_that_were_asked_for_are_never_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    words = one_error(capsys, "profile", "mobilenetv3_small_100", "--resolution", "64", "-r", "2,32", "--no-latency")
    assert "reduction 32 is larger than the channels" in words

"""The README is true: its Python runs, its commands exist, every command and option of the tool is one of its words."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from test_golden import OWN_PAGES, RUNS  # whose files are held there too

import secost
import secost.networks.attention as attention
from secost.cli import app, main

README = Path(__file__).parents[1] / "README.md"
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    for line in block.splitlines()
    if line.startswith("secost ")
]
# The samples that are committed; a demo that was made here may stand beside them.
SAMPLE_LIST = README.parent / "reports" / "README.md"
SAMPLES = re.findall(r"\]\(([\w-]+)/report\.md\)", SAMPLE_LIST.read_text(encoding="utf-8"))


def test_its_python_runs() -> None:
    try:
        result = doctest.testfile(str(README), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    finally:
        attention.ATTENTION._entries.pop("damp", None)
    assert result.attempted > 8 and result.failed == 0


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line: str) -> None:
    """Parsed by the real command line, without running anything."""
    command, context = typer.main.get_command(app), None
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    context = command.make_context("secost", words, resilient_parsing=False)
    assert not getattr(context, "args", []) and not hasattr(command, "commands")


def test_every_command_is_in_it() -> None:
    text = README.read_text(encoding="utf-8")
    for name, command in typer.main.get_command(app).commands.items():
        assert f"secost {name}" in text
        for inner in getattr(command, "commands", {}):
            assert f"secost {name} {inner}" in text


def test_its_table_is_what_the_sample_run_gives(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    table = re.search(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert table is not None
    assert main(["report", str(README.parent / "reports" / "resnet50"), "--format", "table"]) == 0
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert all(line in shown for line in table[1].splitlines())


def test_every_file_that_it_names_is_there() -> None:
    for text in (README, README.parent / "reports" / "README.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", text.read_text(encoding="utf-8")):
            assert (text.parent / link).exists(), link


@pytest.mark.parametrize("run", [pytest.param(run, marks=pytest.mark.slow) if run in RUNS else run for run in SAMPLES])
def test_every_sample_is_what_its_records_render_to(run: str, tmp_path: Path) -> None:
    folder = README.parent / "reports" / run
    secost.report(folder, formats=["md", "csv"], out=tmp_path)
    for name in ("report.md", "records.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("run", [
    "study-scaling", *(pytest.param(run, marks=pytest.mark.slow) for run in OWN_PAGES if run != "study-scaling")])
def test_a_report_on_a_study_or_a_search_changes_no_byte_and_needs_no_torch(run: str, tmp_path: Path) -> None:
    folder = README.parent / "reports" / run
    shutil.copytree(folder, tmp_path / run)
    # In a process of its own: what other tests imported must not decide it.
    code = "import sys, secost.cli as cli; code = cli.main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, "report", str(tmp_path / run)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / run).iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()}

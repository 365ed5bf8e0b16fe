"""CONTRIBUTING is true: what it says to add works as it stands there, in under ten lines each; its walk is walked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import secost
from secost import cli
from secost.answers.evidence import GAIN_SOURCES
from secost.cli import main
from secost.meters.backends.offered import BACKENDS
from secost.networks.attention import ATTENTION
from secost.pages import cost
from secost.render.formats import FORMATS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^### (.+?)\n.*?```python\n(.*?)```", TEXT, re.S | re.M))
RUN = str(ROOT / "reports" / "resnet50")
MOST_LINES, MOST_FILES = 9, 25
ENTERED_TWICE = {"meters", "runs"}


def carried_out(title: str) -> dict[str, Any]:
    names: dict[str, Any] = {"app": cli.app}
    exec(BLOCKS[title], names)
    return names


def test_each_takes_under_ten_lines() -> None:
    assert set(BLOCKS) == {"An attention", "A backend", "A source of gains", "A section of a page", "A format",
                           "A command"}
    for title, block in BLOCKS.items():
        assert len([line for line in block.splitlines() if line.strip()]) <= MOST_LINES, title


def test_an_attention() -> None:
    try:
        carried_out("An attention")
        assert secost.profile("resnet18", attentions=["damp"], latency=False)[1].attention_params == 1920
    finally:
        ATTENTION._entries.pop("damp", None)


def test_a_backend(few_rounds: float) -> None:
    try:
        carried_out("A backend")
        records = secost.profile("small:resnet", reductions=[4], resolution=16, backend="plain", seconds=few_rounds)
        assert [(r.backend, r.status, r.latency_ms is not None) for r in records] == [("plain", "done", True)] * 2
    finally:
        BACKENDS._entries.pop("plain", None)


def test_a_source_of_gains(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        carried_out("A source of gains")
        assert main(["report", RUN, "--benefit", "wiki", "--format", "table"]) == 0
        assert "+0.70 points [0.50, 0.90]" in capsys.readouterr().out
    finally:
        GAIN_SOURCES._entries.pop("wiki", None)


def test_a_section_of_a_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    section = carried_out("A section of a page")["_dearest"]
    monkeypatch.setattr(cost, "PARTS", (*cost.PARTS, section))
    for format in ("table", "md", "html"):
        assert main(["report", RUN, "--format", "table"] if format == "table" else
                    ["profile", "resnet18", "-r", "4,16", "--no-latency", "-q", "--format", format]) == 0
        assert "Most parameters: se r=" in capsys.readouterr().out.replace("\n", " ")


def test_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        carried_out("A format")
        assert main(["budget", RUN, "--format", "line"]) == 0
        assert capsys.readouterr().out.startswith("The best choice within the budget: Limits: no limit.")
    finally:
        FORMATS._entries.pop("line", None)


def test_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    registered = list(cli.app.registered_commands)
    try:
        carried_out("A command")
        assert main(["models", RUN]) == 0
        assert capsys.readouterr().out == "resnet50\n"
    finally:
        cli.app.registered_commands[:] = registered


def test_the_hooks_run_what_ci_runs() -> None:
    """Each command of CI is one of a hook, but for what CI measures beside it."""
    hooks = re.findall(r"entry: (make [\w-]+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    steps = re.findall(r"^(make [\w-]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    assert hooks == steps


# --- the walk ---

WALK = re.findall(r"^\d+\. `secost/([\w/]+\.py)`", TEXT, re.M)


def test_the_walk_is_short_and_enters_no_folder_twice() -> None:
    assert 10 < len(WALK) <= MOST_FILES and len(set(WALK)) == len(WALK)
    rooms = [str(Path(file).parent) for file in WALK]
    entered = [room for place, room in enumerate(rooms) if place == 0 or rooms[place - 1] != room]
    twice = {room for room in entered if entered.count(room) > 1}
    assert twice <= ENTERED_TWICE


@pytest.mark.slow
def test_the_walk_is_walked(tmp_path: Path) -> None:
    """Every file of the list has code run by the command that it is about."""
    script = (
        "import sys, json\nseen = []\n"
        "def trace(frame, event, arg):\n"
        "    name = frame.f_code.co_filename\n"
        "    if '/secost/' in name and name not in seen and frame.f_code.co_name != '<module>': seen.append(name)\n"
        "sys.setprofile(trace)\n"
        "from secost.cli import main\n"
        "words = 'profile resnet18 -r 16 --seconds 60 --target 0.5 --resolution 64 -q -o'.split()\n"
        f"code = main([*words, {str(tmp_path / 'out')!r}])\n"
        "sys.setprofile(None)\nprint(json.dumps(seen)); sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-500:]
    entered = done.stdout.splitlines()[-1]
    assert [file for file in WALK if f"/secost/{file}" not in entered] == []

"""The README is true: its Python runs, its commands exist, every command and option of the tool is one of its words."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
import typer

import secost.networks.attention as attention
from secost.cli import app

README = Path(__file__).parents[1] / "README.md"
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    for line in block.splitlines()
    if line.startswith("secost ")
]


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

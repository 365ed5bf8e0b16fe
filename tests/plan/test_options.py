"""One table of options: the command line, TOML and Python say what it says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import typer

import secost
from secost import api
from secost.cli import app
from secost.plan.options import OPTIONS, SEARCH, TOP, TRAIN, Kind, fields_of, option_of, options_of
from secost.plan.spec import SearchSpec, Spec, TrainSpec
from secost.plan.trials import Setting

COMMANDS = sorted({name for option in OPTIONS for name in option.commands.split()})
MADE = ["profile", "sites", "sweep", "train", "search", "scaling", "occlusion", "quantization"]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "profile": api.profile, "train": api.train, "search": secost.search, "scaling": secost.scaling,
    "occlusion": secost.occlusion, "quantization": secost.quantization,
}
# What only one side has: where results are printed, and what Python is given as objects.
SCREEN = {"format", "output", "quiet", "dry_run", "reconcile", "allow_download", "benefit", "accuracy", "price"}
OBJECTS = {"model", "out", "listener", "retry_failed"}


def click_options(command: str) -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    found = group.commands["study"].commands[command] if command in group.commands["study"].commands else (
        group.commands[command])
    return {item.name: item for item in found.params if item.param_type_name == "option" and item.name != "help"}


@pytest.mark.parametrize(("cls", "table"), [(Spec, TOP), (TrainSpec, TRAIN), (SearchSpec, SEARCH)])
def test_every_field_of_a_spec_has_a_row_and_its_default(cls: Any, table: str) -> None:
    rows = fields_of(table)
    assert set(rows) == {item.name for item in fields(cls)} - {"train", "search"}
    assert {item.name: item.default for item in fields(cls) if item.name in rows and item.name != "models"} == {
        name: option.default for name, option in rows.items() if name != "models"}


def test_a_setting_that_nothing_is_said_of_is_the_one_comparison_of_a_spec_that_nothing_is_said_of() -> None:
    (comparison,) = Spec(models=("resnet18",)).comparisons({"se": True})
    assert comparison.setting == Setting("resnet18")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_options_are_those_of_the_table(command: str) -> None:
    mine = click_options(command)
    rows = {option.name: option for option in options_of(command)}
    assert set(rows) <= set(mine)
    if command in MADE:
        assert list(rows) == list(mine)
    for name, option in rows.items():
        assert mine[name].help == option.help_of(command)
        default = option.default_of(command) if option.stated else None
        told = ",".join(map(str, default)) if isinstance(default, tuple) else default
        assert (mine[name].default or None) == (told or None)
        assert f"--{name.replace('_', '-')}" in mine[name].opts and set(option.flags.split()) <= set(mine[name].opts)


@pytest.mark.parametrize("command", FUNCTIONS)
def test_pythons_keywords_are_the_commands_options_with_their_defaults(command: str) -> None:
    signature = inspect.signature(FUNCTIONS[command]).parameters
    rows = {option.python: option for option in options_of(command) if option.name not in SCREEN}
    assert set(rows) - OBJECTS <= set(signature)
    for name, option in rows.items():
        if name in OBJECTS or option.key == "models":
            continue
        default, kept = option.default_of(command), signature[name].default
        several = option.kind in (Kind.INTEGERS, Kind.WORDS, Kind.STAGES) and isinstance(default, tuple)
        if name == "phis":
            assert list(kept) == list(range(8)) and default == "0..7"
        elif several and not isinstance(kept, tuple):
            assert (kept,) == default, name
        elif command == "search" and name == "attentions":
            assert kept == tuple(word for word in default if word != "none")  # that is always among them
        else:
            assert kept == default, name


def test_what_python_has_beyond_the_commands_is_named_here() -> None:
    """A keyword that no command has is one that can't be forgotten there."""
    for command, function in FUNCTIONS.items():
        rows = {option.python for option in options_of(command)}
        assert set(inspect.signature(function).parameters) - rows <= OBJECTS | {"example"}, command


def test_a_key_of_toml_is_read_by_its_row() -> None:
    values = {"models": "resnet18", "memory-format": "channels-last", "train": {"epochs": 3},
              "search": {"epochs": 7, "max_macs": 1}}
    spec = Spec.from_dict(values)
    assert spec.memory_format == ("channels-last",) and spec.train == TrainSpec(epochs=3, amp=False)
    assert spec.search == SearchSpec(epochs=7, max_macs=1.0)
    assert option_of("search", "oneshot_epochs") is fields_of(SEARCH)["epochs"]


def test_what_the_table_forbids_no_default_of_it_is() -> None:
    for option in OPTIONS:
        for value in (option.default, *option.own.values()):
            for item in value if isinstance(value, tuple) else (value,):
                assert item is None or option.rule is None or option.rule.holds(item)
                assert item is None or not option.choices or item in option.choices

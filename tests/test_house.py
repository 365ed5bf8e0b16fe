"""The house as designed: who may import whom, what nothing may import, and that public names are what they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import secost

ROOT = Path(secost.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# A folder imports only from those before it; plain modules at the top level come before all.
ORDER = ("plain", "networks", "meters", "benefit", "sweeps", "analysis", "reporting", "studies", "cli")
BOTH_LEGS = ("studies", "cli")
TORCH_SIDE = {"networks", "meters", "sweeps"}
PANDAS_SIDE = {"analysis", "reporting"}
# The store is plain data in a database: pages read runs through it, and it knows no torch.
API = "api"


def room(module: str) -> str:
    """The folder of a secost module: `secost.networks.sites` is in networks, `secost.spec` is plain."""
    parts = module.split(".")
    inner = parts[1] if len(parts) > 1 else ""
    return inner if inner in ORDER or inner == API else "plain"


def imports(path: Path) -> list[str]:
    """Every module a file imports, at its top or inside a function; imports for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            if node.module.startswith("secost"):
                found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def name_of(path: Path) -> str:
    return ".".join(("secost", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_imports_only_from_folders_before_it(path: Path) -> None:
    mine = room(name_of(path))
    if mine == API or name_of(path) in ("secost", "secost.__main__"):
        return
    for module in imports(path):
        if module.startswith("secost"):
            theirs = room(module)
            assert (theirs == API and mine in BOTH_LEGS) or ORDER.index(theirs) <= ORDER.index(mine), module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_leg_that_reads_records_knows_no_torch_and_the_other_no_pandas(path: Path) -> None:
    mine = room(name_of(path))
    named = {module.split(".")[0] for module in imports(path)}
    rooms = {room(module) for module in imports(path) if module.startswith("secost.")}
    if mine in PANDAS_SIDE:
        assert not named & {"torch", "timm", "torchvision", "fvcore"} and not rooms & TORCH_SIDE
    if mine in TORCH_SIDE:
        assert not named & {"pandas", "matplotlib", "rich"} and not rooms & PANDAS_SIDE


def test_nothing_is_pickled_and_no_weights_are_loaded_unsafely() -> None:
    for path in FILES:
        assert not {"pickle", "shelve", "marshal", "dill"} & {module.split(".")[0] for module in imports(path)}, path
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"weights_only\s*=\s*False|torch\.load\((?![^)]*weights_only=True)", text), path


def test_public_names_are_complete_and_all_there() -> None:
    assert sorted(secost.__all__) == secost.__all__
    assert all(getattr(secost, name) is not None for name in secost.__all__)
    assert set(secost._HOMES) == set(secost.__all__)


def test_no_file_is_a_drawer_for_leftovers() -> None:
    names = {path.stem for path in FILES}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


def test_every_module_says_its_job() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or ast.get_docstring(ast.parse(text)), path

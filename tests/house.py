"""The house in figures: files, lines, long functions, rooms, circles. `python -m tests.house` prints them.

What `test_house` holds, it reads here. Lazy imports, inside functions, count; those for type checkers alone do not.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import secost

ROOT = Path(secost.__file__).parent
# A room imports from those before it; modules at the top level are plain, but for `api`, which is on top with cli.
ORDER = ("plain", "plan", "runs", "networks", "meters", "training", "work", "answers", "figures", "pages", "render",
         "studies", "api", "cli")
MOST_LINES, MOST_FUNCTION_LINES, MOST_FILES = 400, 50, 16
REASON = "Long"  # the word with which a long file's head begins the sentence that says why


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """`secost.networks.sites`; of an `__init__` its folder's."""
    return ".".join(("secost", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def room(module: str) -> str:
    """The folder of a secost module: `secost.networks.sites` is in networks, `secost.errors` is plain."""
    inner = module.split(".")[1] if "." in module else ""
    return inner if inner in ORDER else "plain"


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module and name that a file imports, wherever in it; by `import_module` and a name written there too."""
    for_checkers = {id(inner) for node in ast.walk(tree_of(path)) if isinstance(node, ast.If)
                    and "TYPE_CHECKING" in ast.unparse(node.test) for item in node.body for inner in ast.walk(item)}
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if id(node) in for_checkers:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from secost.cli import options` takes the module and nothing of its folder.
            found += [name for name in names if _is_module(name)]
            if not all(map(_is_module, names)):
                found.append(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found += [item.value for item in node.args[:1] if isinstance(item, ast.Constant)
                      and isinstance(item.value, str)]
    return tuple(found)


def _is_module(name: str) -> bool:
    inner = ROOT.joinpath(*name.split(".")[1:])
    return name.startswith("secost.") and (inner.with_suffix(".py").exists() or (inner / "__init__.py").exists())


def circles() -> list[list[str]]:
    """Groups of modules that import one another, however far round."""
    modules = {name_of(path): path for path in files()}
    arrows = {name: {target for target in imports(path) if target in modules and target != name and target != "secost"}
              for name, path in modules.items()}
    reach = {name: _reached(name, arrows) for name in modules}
    found = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in modules
             if name in reach[name]}
    return [list(members) for members in sorted(found)]


def _reached(name: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    left = [*arrows[name]]
    while left:
        item = left.pop()
        if item not in seen:
            seen.add(item)
            left += arrows[item]
    return seen


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def long_files() -> list[str]:
    """Files of too many lines whose head does not say why."""
    return [f"{path.relative_to(ROOT)} {lines(path)}" for path in files()
            if lines(path) > MOST_LINES and REASON not in (ast.get_docstring(tree_of(path)) or "")]


def long_functions() -> list[str]:
    found = []
    for path in files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                if size > MOST_FUNCTION_LINES:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {size}")
    return found


def crowded_rooms() -> list[str]:
    """Folders of more files than a newcomer can look through."""
    counts: dict[Path, int] = {}
    for path in files():
        counts[path.parent] = counts.get(path.parent, 0) + 1
    return [f"{folder.relative_to(ROOT)} {count}" for folder, count in counts.items() if count > MOST_FILES]


def holding(text: str) -> list[str]:
    """The files that hold a text."""
    return [str(path.relative_to(ROOT)) for path in files() if text in path.read_text(encoding="utf-8")]


def main() -> None:
    print(f"{len(files())} files, {sum(map(lines, files())):,} lines")
    for title, found in (
        (f"files over {MOST_LINES} lines without a reason", long_files()),
        (f"functions over {MOST_FUNCTION_LINES} lines", long_functions()),
        (f"rooms of more than {MOST_FILES} files", crowded_rooms()),
        ("circles", [" <-> ".join(members) for members in circles()]),
    ):
        print(f"{title}: {len(found)}", *(f"  {item}" for item in found), sep="\n")
    for text in ("csv.writer", "Table(", "Worth it"):
        print(f"{text!r} in: {', '.join(holding(text))}")


if __name__ == "__main__":
    main()

"""Whole commands, from start to end, against the imports that they can't do without.

Limits: `secost profile resnet50 --no-latency` 2.5 x `import torch, timm; create_model` the first time and 1.5 x with
its sites cached; `secost --help` 1.5 x `import typer`. `secost report` must not import torch.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.fresh import python, run, secost, timm_prelude
from tests.benchmarks.paired import Job, rounds, show

PROFILE = ("profile", "resnet50", "--no-latency", "--quiet")


def main(repeats: int = 5) -> None:
    with tempfile.TemporaryDirectory() as name:
        _profile(repeats, Path(name))
        _report(repeats, Path(name))
    _help(repeats * 4)


def _profile(repeats: int, folder: Path) -> None:
    build = python(f"{timm_prelude()}timm.create_model('resnet50')")
    first, cached, number = "secost profile, first time", "secost profile, cached", iter(range(1000))
    times = _measured(
        {
            "python: torch, timm, create_model": lambda: run(build).cpu_s,
            first: lambda: run(secost(*PROFILE), {"SECOST_CACHE": str(folder / f"empty{next(number)}")}).cpu_s,
            cached: lambda: run(secost(*PROFILE), {"SECOST_CACHE": str(folder / "kept")}).cpu_s,
        },
        repeats,
    )
    show("secost profile resnet50 --no-latency", times, "python: torch, timm, create_model", {first: 2.5, cached: 1.5})


def _report(repeats: int, folder: Path) -> None:
    made = folder / "run"
    run(secost("profile", "resnet18", "--no-latency", "--resolution", "64", "--quiet", "-o", str(made)))
    pages = secost("report", str(made), "-o", str(folder / "pages"))
    plain = "python: pandas, matplotlib"
    imports = python("import pandas, matplotlib.pyplot")
    times = _measured({plain: lambda: run(imports).cpu_s, "secost report": lambda: run(pages).cpu_s}, repeats)
    show("secost report", times, plain, {})
    blocked = f"import sys; sys.modules['torch'] = None; sys.exit(__import__('secost.cli').cli.main({pages[3:]!r}))"
    try:
        run(python(blocked))
        print("  secost report runs where torch can't be imported")
    except RuntimeError as error:
        print(f"  secost report needs torch: {error}")


def _help(repeats: int) -> None:
    plain = "python: import typer"
    imports, shown = python("import typer"), secost("--help")
    times = _measured({plain: lambda: run(imports).cpu_s, "secost --help": lambda: run(shown).cpu_s}, repeats)
    show("secost --help", times, plain, {"secost --help": 1.5})


def _measured(jobs: dict[str, Job], repeats: int) -> dict[str, Sequence[float]]:
    """Rounds of jobs that measure themselves: each returns its processor time."""
    return dict(rounds(jobs, repeats, seconds_of=lambda job: float(str(job()))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

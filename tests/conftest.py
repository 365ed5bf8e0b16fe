"""What all tests share: a cache and a temporary folder of their own, one width of the terminal, and rounds that end by
their number where a real measurement is made.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported: tests run beside one another, and threads that wait for each other hold the others up; and
# sums may not hang on how many processors there are.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["OMP_NUM_THREADS"] = "1"
# Before rich and typer are: what is shown may hang on neither the terminal nor who runs the tests.
os.environ["COLUMNS"] = "120"
for _name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
              "TERMINAL_WIDTH", "JUPYTER_COLUMNS"):
    os.environ.pop(_name, None)
# The same examples each time, however long one takes; nothing is remembered from one run to the next.
settings.register_profile("alike", derandomize=True, deadline=None, database=None)
settings.load_profile("alike")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test sees or leaves anything in the user's cache, and no lock in the temporary folder of all."""
    folder, passing = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECOST_CACHE", str(folder))
        patch.setenv("TMPDIR", str(passing))
        patch.setattr(tempfile, "tempdir", None)  # read again, here and in processes that tests start
        yield folder


def end_by_number(patch: pytest.MonkeyPatch) -> None:
    """Real rounds, but as few as have an interval: they end by their number, however long the machine takes for them.

    Give them much time, such as `LONG_S`: where it is up first, a busy machine decides what is found.
    """
    patch.setattr("secost.meters.latency._precise", lambda rounds, labels, target: True)
    patch.setattr("secost.meters.latency.ENOUGH_ROUNDS", 4)


LONG_S = 300.0


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> float:
    """As `end_by_number`; gives the seconds to ask for."""
    end_by_number(monkeypatch)
    return LONG_S

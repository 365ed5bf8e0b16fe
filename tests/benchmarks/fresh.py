"""Fresh processes: how much processor time and memory a command takes from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# timm imports torchvision, whose compiled operators may not fit this torch: their schemas are declared as
# secost.networks.importing.import_timm does it, so that both sides of a comparison pay for the same import.
DECLARED = """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm
"""


@dataclass(frozen=True)
class Usage:
    """What one process took, with its children."""

    cpu_s: float
    peak_mib: float


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run to the end. Raises RuntimeError with what it said where it fails."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **(environment or {})}
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=settings, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:200]} ended with {process.returncode}: {said[-500:]}")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def python(code: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", code]


def secost(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "secost", *arguments]


def timm_prelude() -> str:
    """The import of timm that works here: plain where torchvision's operators load, declared where they don't."""
    try:
        run(python("import timm"))
    except RuntimeError:
        return DECLARED
    return "import torch\nimport timm\n"

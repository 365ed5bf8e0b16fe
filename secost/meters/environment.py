"""The machine and the software that a record was made on: what makes two records comparable, or not."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("secost", "torch", "torchvision", "timm", "fvcore")


def describe() -> dict[str, Any]:
    """Plain values: processor, cores, memory, operating system, versions, and settings that change speed.

    Nothing here changes from one minute to the next, so that a run resumed later has the same environment.
    """
    return {
        "cpu": _cpu_name(),
        "logical_cores": psutil.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "allocator": "glibc, freed memory kept" if platform.libc_ver()[0] == "glibc" else "default",
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""The machine and the software that a record was made on: what makes two records comparable, or not."""

from __future__ import annotations

import math
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from secost.meters import machine

_PACKAGES = ("secost", "torch", "torchvision", "timm", "fvcore", "onnxruntime", "openvino", "nncf")


def describe() -> dict[str, Any]:
    """Plain values: processor, cores, caches, memory, operating system, versions, and settings that change speed.

    Nothing here changes from one minute to the next, so that a run resumed later has the same environment: the
    governor, but no clock rate; the quota, but no load. What the system does not tell is None; so is the version of a
    package that is not installed.
    """
    return {
        "cpu": _cpu_name(),
        "logical_cores": psutil.cpu_count() or 1,
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count(),
        "cpu_quota": _quota(),
        "smt": _switch(machine.smt()),
        "governor": ", ".join(machine.governors()) or None,
        "turbo": _switch(machine.turbo()),
        "hypervisor": _switch(machine.hypervisor(), "yes", "no"),
        "caches": _caches(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else None,
        **{name: _version(name) for name in _PACKAGES},
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        **_gpu(),
    }


def _gpu() -> dict[str, Any]:
    """The first GPU that torch sees, and what of its settings changes speed; nothing where there is none.

    Torch is asked only where it is loaded already: what needs no torch has no GPU either.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {
        "gpu": torch.cuda.get_device_name(0), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        "tf32": _switch(torch.backends.cudnn.allow_tf32),
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _quota() -> str | None:
    """Processors' worth of time that control groups allow, in words."""
    quota = machine.cpu_quota()
    if quota is None:
        return None
    return "none" if math.isinf(quota) else f"{quota:g} processors"


def _caches() -> str | None:
    """`L1 32 KiB, L2 1024 KiB, L3 32768 KiB`: of one processor, data caches only."""
    return ", ".join(f"{name} {size >> 10} KiB" for name, size in machine.caches_bytes().items()) or None


def _switch(state: bool | None, on: str = "on", off: str = "off") -> str | None:
    return None if state is None else on if state else off


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""The machine and the software that a record was made on: what makes two records comparable, or not."""

from __future__ import annotations

import functools
import math
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from secost.meters import machine
from secost.meters.processes import can_fork, in_child

_PACKAGES = ("secost", "torch", "torchvision", "timm", "fvcore", "onnxruntime", "openvino", "nncf")
_PATIENCE_S = 120.0


def describe() -> dict[str, Any]:
    """Plain values: processor, cores, caches, memory, operating system, versions, and settings that change speed.

    Nothing here changes from one minute to the next, so that a run resumed later has the same environment: the
    governor, but no clock rate; the quota, but no load. What the system does not tell is None; so is the version of a
    package that is not installed.
    """
    quota = machine.cpu_quota()
    caches = (f"{name} {size >> 10} KiB" for name, size in machine.caches_bytes().items())
    return {
        "cpu": _cpu_name(),
        "logical_cores": psutil.cpu_count() or 1,
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": len(machine.usable_processors() or ()) or psutil.cpu_count(),
        "cpu_quota": None if quota is None else "none" if math.isinf(quota) else f"{quota:g} processors",
        "smt": _switch(machine.smt()),
        "governor": ", ".join(machine.governors()) or None,
        "turbo": _switch(machine.turbo()),
        "hypervisor": _switch(machine.hypervisor(), "yes", "no"),
        "caches": ", ".join(caches) or None,  # L1 32 KiB, L2 1024 KiB, L3 32768 KiB
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else None,
        **{name: installed_version(name) for name in _PACKAGES},
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        **_gpu(),
    }


def _gpu() -> dict[str, Any]:
    """The first GPU that torch sees, and what of its settings changes speed; nothing where there is none.

    Torch is asked only where it is loaded already: what needs no torch has no GPU either.
    """
    if "torch" not in sys.modules or not sees_cuda():
        return {}
    return dict(_gpu_facts() if cuda_has_begun() or not can_fork() else _gpu_facts_apart())


@functools.cache
def _gpu_facts_apart() -> dict[str, Any]:
    return dict(in_child(_gpu_facts, _PATIENCE_S))


def _gpu_facts() -> dict[str, Any]:
    """Begins with CUDA."""
    torch: Any = sys.modules["torch"]
    return {
        "gpu": torch.cuda.get_device_name(0), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        "tf32": _switch(torch.backends.cudnn.allow_tf32),
    }


def sees_cuda() -> bool:
    """Whether torch sees a GPU of NVIDIA's, asked of the driver's own library: CUDA, once begun in a process, can be
    used in no process forked from it."""
    import torch

    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    return torch.cuda.is_available()


def cuda_has_begun() -> bool:
    """Whether this process has begun with CUDA."""
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _cpu_name() -> str:
    lines = (machine.text(machine.ROOT, "proc/cpuinfo") or "").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or platform.machine()


def _switch(state: bool | None, on: str = "on", off: str = "off") -> str | None:
    return None if state is None else on if state else off


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None

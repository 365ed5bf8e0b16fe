"""What runs a network's forward pass: one entry a backend, each giving a callable for the paired rounds.

`eager` is PyTorch as it is. Third parties register others; a backend says which precisions and devices it has.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError
from secost.registry import Registry

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP_BYTES = 1 << 30


@dataclass(frozen=True)
class Backend:
    """One way to run a network: `prepare(net, inputs)` gives a callable that runs one forward pass."""

    name: str
    summary: str
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    prepare: Callable[[nn.Module, tuple[Tensor, ...]], Callable[[], object]]


BACKENDS: Registry[Backend] = Registry("backend")


def get_backend(name: str, precision: str, device: str) -> Backend:
    """The backend of that name. Raises BadSpecError for a precision or a device that it lacks."""
    backend = BACKENDS.get(name)
    for kind, value, offered in (("precision", precision, backend.precisions), ("device", device, backend.devices)):
        if value not in offered:
            raise BadSpecError(f"backend {name!r} has no {kind} {value!r}: expected one of {', '.join(offered)}")
    return backend


@contextlib.contextmanager
def measuring(threads: int) -> Iterator[None]:
    """Torch's threads set for a while, no gradients, and an allocator that keeps what it has.

    By default glibc hands large blocks back after each pass and faults them in again, which cost a small network a
    quarter of its time and differed from process to process.
    """
    before = torch.get_num_threads()
    steady_allocator()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def steady_allocator() -> bool:
    """Tell glibc to keep freed memory; False where there is no glibc."""
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) and libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return False


def _eager(net: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    return lambda: net(*inputs)


BACKENDS.register("eager", Backend("eager", "PyTorch as it is", ("fp32",), ("cpu",), _eager))

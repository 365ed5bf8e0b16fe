"""The conditions of a measurement, and the state of the process while it is made.

`Request` says how a network is to run; a `Backend` makes it ready (`Prepared`) under those conditions. The files of
`backends` do the work, and `backends.offered` lists them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import random
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from secost.errors import SecostError, one_line

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP_BYTES, _USUAL_BYTES = 1 << 30, 128 << 10  # the second is what glibc starts with
STEADY, AS_IT_IS = "steady", "default"
_GAP_BYTES = (64, 8192)
_HOLES, _HOLE_BYTES = 200, (64, 1 << 16)

Batch = tuple[Tensor, ...]
Run = Callable[[], object]
Result = TypeVar("Result")


class ConversionError(SecostError):
    """A backend can't take this network; the message gives the converter's own reason in one line."""


@dataclass(frozen=True)
class Request:
    """How a network is to run. Without `calibration`, int8 is fitted to random images drawn from `seed`."""

    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    memory_format: str = "contiguous"
    calibration: tuple[Batch, ...] | None = None
    cuda_graphs: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """A network made ready, once: `open` loads it in the measuring process and gives one forward pass.

    `convert_s` is what the conversion took (None where nothing was converted); for a model from the cache what it took
    when it was made. `cautions` are names of `secost.glossary.CAUTIONS`. `modules` hold the weights that a pass reads,
    where it reads torch's; `modules_run` tells that they run one by one in every pass. With one thread every backend of
    secost's runs the whole pass on the calling thread, so that the thread's processor time is the time of the pass.
    """

    open: Callable[[], Run]
    convert_s: float | None = None
    cached: bool = False
    cautions: tuple[str, ...] = ()
    modules: tuple[nn.Module, ...] = ()
    modules_run: bool = False


@dataclass(frozen=True)
class Backend:
    """One way to run a network.

    `prepare(net, inputs, request)` does the slow work (export, compile, quantise). The network it is given is its own
    to change, unless `in_place(request)`: then it is run as it is, and what is switched on it later counts. It raises
    ConversionError for a network that it can't take. `lacks(request)` is why this machine can't do it, None where it
    can. `fuses` tells that a compiler may gate a map on its way into the next operation. `extra` is what pip installs
    it by, `packages` the distributions that it needs. Only the CPU is measured in forked processes, so work on another
    device belongs to the process that prepares.
    """

    name: str
    summary: str
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    prepare: Callable[[nn.Module, Batch, Request], Prepared]
    extra: str | None = None
    packages: tuple[str, ...] = ()
    memory_formats: tuple[str, ...] = ("contiguous",)
    in_place: Callable[[Request], bool] = lambda request: False
    lacks: Callable[[Request], str | None] = lambda request: None
    fuses: bool = False


@contextlib.contextmanager
def measuring(threads: int, allocator: str = STEADY, flush_denormals: bool = False) -> Iterator[None]:
    """Torch's threads set for a while, no gradients, and an allocator that keeps what it has.

    By default glibc hands large blocks back after each pass and faults them in again, which cost a small network a
    quarter of its time and differed from process to process. `allocator="default"` leaves it at that.
    `flush_denormals` is for timing: maps of a deep network with random weights explode, SiLU of large negative values
    is a denormal, and arithmetic on these is slow (EfficientNet-B6 without SE: 0.52 s in place of 0.45 s), which no
    trained network pays.
    """
    torch.set_flush_denormal(flush_denormals)
    changed = allocator == STEADY and steady_allocator()
    try:
        with threads_of_torch(threads), torch.inference_mode():
            yield
    finally:
        torch.set_flush_denormal(False)  # as torch starts; there is no way to ask
        if changed:
            steady_allocator(_USUAL_BYTES)


@contextlib.contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """So many threads in torch's operations for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def steady_allocator(threshold_bytes: int = _KEEP_BYTES) -> bool:
    """Tell glibc to keep freed memory in blocks of up to so many bytes; False where there is no glibc."""
    try:
        libc = ctypes.CDLL(None)
        return all(libc.mallopt(option, threshold_bytes) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return False


def scatter(modules: Iterable[nn.Module], seed: int) -> list[Tensor]:
    """Move all parameters and buffers to new places in memory, with gaps of random size between them and around.

    Forked processes have one parent's addresses in common, and addresses decide which cache lines get into each other's
    way. With them drawn anew, children of one parent differ as much from one another as processes that were started
    apart (reports/protocol), so that their spread stands for that of any process.

    Gives what fills the gaps: keep it while measuring. Values stay; tensors that share storage part.
    """
    order = random.Random(seed)

    def filler(size_bytes: tuple[int, int]) -> Tensor:
        return torch.empty(order.randrange(*size_bytes), dtype=torch.uint8)

    tensors = {id(item): item for module in modules for item in (*module.parameters(), *module.buffers())}
    gaps = []
    with torch.inference_mode(False), torch.no_grad():
        for tensor in tensors.values():
            gaps.append(filler(_GAP_BYTES))
            tensor.data = tensor.data.clone()
        holes = [filler(_HOLE_BYTES) for _ in range(_HOLES)]
    return gaps + holes[::2]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what converters print, log or warn: it is not addressed to secost's user."""
    before, unread = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def apart(work: Callable[[], Result]) -> Result:
    """The result of `work`, run on a thread of its own that then ends.

    GNU OpenMP keeps its workers with the thread that first needed them and does not survive a fork: a process whose
    main thread ran torch on two threads forks children that hang. What ran on a thread that is gone leaves nothing.
    """
    outcome: Future[Result] = Future()

    def target() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised again by the caller
            outcome.set_exception(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return outcome.result()


def reason_of(error: BaseException) -> str:
    """The first line of what lies at the bottom of a converter's error: the wrapping says only that it failed."""
    bottom, seen = error, {id(error)}
    while bottom.__cause__ is not None and id(bottom.__cause__) not in seen:
        bottom = bottom.__cause__
        seen.add(id(bottom))
    first = next(filter(str.strip, str(bottom).splitlines()), "no reason given")
    return one_line(SecostError(f"{type(bottom).__name__}: {first}"))

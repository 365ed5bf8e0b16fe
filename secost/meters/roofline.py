"""The least time that attention can take on this machine: its traffic over bandwidth, its MACs over their rate.

Both rates are measured here once, the best of many tries, since a floor asks what the machine can do at its best. The
bandwidth is measured for working sets from 16 KiB on, because a map that fits into a cache is read at that cache's
speed. What one operation costs to launch is taken off each time: launching is not part of the floor.

**The floor of one site.** Any attention that gates a map by what it squeezed out of all of it has three phases, each
of which needs the one before it:

1. squeeze: read the map (N x C x H x W elements) once;
2. excite: the attention's own layers: MACs, and weights that are read once for all images. Reading and multiplying may
   overlap, so the longer of the two counts;
3. gate: read the map again, one product an element, write it. In place, which is the least traffic.

That is a floor for backends that run the batch operation by operation. A compiler may fuse the gate into the operation
that reads the map next and writes its own result anyway; for those that fuse, the third phase counts nothing. Both
leave out launching and synchronising, allocation and page faults, the squeezed vector itself (C numbers), activations,
padding, conversion between layouts and precisions, and that other layers may have pushed the map or the weights out of
the cache: each makes the measured time longer, none shorter. An attention that needs no squeeze over the whole map (a
gate from each pixel alone) could be faster than this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from secost.errors import BadSpecError
from secost.kept import kept_file, read_kept, write_kept
from secost.meters import environment, machine
from secost.meters.conditions import apart, threads_of_torch
from secost.meters.counts import SiteCost

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # what a network is cast to; None: left as it is
ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
_SCHEMA = 1
_SMALLEST_BYTES = 1 << 14
_PRIVATE_BYTES = 1 << 20  # up to here a thread's own caches serve it, and more threads have more of them
_LARGEST_BYTES, _CACHES = 1 << 27, 4  # four times the last cache, or 128 MiB, whichever is more
_MEMORY_SHARE = 8
_TRY_S, _SAMPLE_S, _TINY_ELEMENTS = 0.02, 2e-4, 16
_GEMM_SIDES, _INT8_SIDE = (256, 512), 512
_CONV = (256, 56)  # channels, height and width
_LEAST_SHARE = 0.05  # of a call's time that is left when the launch is taken off
# What decides the rates, of all that `environment` tells.
_IDENTITY = (
    "cpu", "logical_cores", "usable_cores", "physical_cores", "memory_gib", "os", "machine", "torch", "governor",
    "turbo", "cpu_quota", "caches",
)
# (bytes in the working set, bytes a second)
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Roofline:
    """What this machine can do with some threads: bytes a second by working set, and MACs a second by precision.

    `read` is reading alone; `update` is reading and writing in place, each byte counted twice. Both run from small
    working sets to large ones. A precision that could not be measured is not in `macs_per_s`.
    """

    threads: int
    read: Curve
    update: Curve
    macs_per_s: dict[str, float]

    def read_bytes_per_s(self, working_set_bytes: float) -> float:
        """At the largest measured working set that is no larger: caches end as a cliff, so this is never too slow."""
        return _at(self.read, working_set_bytes)

    def update_bytes_per_s(self, working_set_bytes: float) -> float:
        """As `read_bytes_per_s`, for bytes read plus bytes written in place."""
        return _at(self.update, working_set_bytes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Roofline:
        """Undoes `to_dict`. Raises ValueError, TypeError or KeyError for anything else."""
        read, update = (_curve(values[name]) for name in ("read", "update"))
        rates = {str(name): _rate(value) for name, value in dict(values["macs_per_s"]).items()}
        return cls(int(values["threads"]), read, update, rates)


def site_floors_ms(
    costs: Sequence[SiteCost], batch: int, precision: str, roofline: Roofline | None, fuses: bool = False
) -> list[float | None]:
    """The least milliseconds of one attention at each site, in the order of `costs` (and so of `counts.by_site`).

    For a whole batch of `batch` images, like `latency_ms` beside it. A module called several times has the sum over
    its maps. None for every site where there is no roofline (another device than the CPU) or the precision's size is
    not known. The sum over sites is the floor of the network's overhead.
    """
    if roofline is None or precision not in ELEMENT_BYTES:
        return [None] * len(costs)
    floors: list[float | None] = []
    for item in costs:
        maps = [item.site.channels * height * width for height, width in item.site.maps]
        layer_macs = max(item.cost.macs - sum(maps), 0)  # counts have one product for each element of each map
        floors.append(floor_ms(maps, layer_macs, item.cost.params, batch, precision, roofline, fuses))
    return floors


def floor_ms(
    map_elements: Sequence[int], layer_macs: int, params: int, batch: int, precision: str, roofline: Roofline,
    fuses: bool = False,
) -> float:
    """The least milliseconds of one attention module, by the three phases that this module's text tells.

    `map_elements` are C x H x W of one image for each call, `layer_macs` the MACs of its own layers for one image,
    gating products left out, and `params` its weights. `fuses` tells that the backend may gate the map on its way into
    the next operation. Raises KeyError for a precision not in ELEMENT_BYTES.
    """
    size = ELEMENT_BYTES[precision]
    macs_per_s = roofline.macs_per_s.get(precision, math.inf)  # unknown: the traffic alone is still a floor
    seconds = 0.0
    for elements in map_elements:
        map_bytes = elements * batch * size
        squeeze_s = map_bytes / roofline.read_bytes_per_s(map_bytes)
        gate_s = max(2 * map_bytes / roofline.update_bytes_per_s(map_bytes), elements * batch / macs_per_s)
        seconds += squeeze_s + (0.0 if fuses else gate_s)
    weight_bytes = params * size
    excite_s = max(weight_bytes / roofline.read_bytes_per_s(weight_bytes), layer_macs * batch / macs_per_s)
    return (seconds + excite_s) * 1e3


def cached_roofline(threads: int) -> Roofline:
    """`measure_roofline`, or what it gave before on this machine, with these threads and this torch."""
    path = _kept_file(threads)
    roofline = read_kept(path, Roofline.from_dict)
    if roofline is None or roofline.threads != threads:
        roofline = measure_roofline(threads)
        write_kept(path, roofline.to_dict())
    return roofline


def measure_roofline(threads: int) -> Roofline:
    """Measure this machine for about 2 s with so many threads. Raises BadSpecError for fewer than 1.

    Best on a quiet machine: a busy one looks slower than it is, and a floor made of that is too high.
    """
    if threads < 1:
        raise BadSpecError(f"threads {threads} is not possible: expected 1 or more")
    return apart(lambda: _measured(threads))


def _measured(threads: int) -> Roofline:
    with threads_of_torch(1), torch.inference_mode():
        one = [(size, *_bandwidths(size)) for size in _sizes(_PRIVATE_BYTES)]
        # Caches of its own serve each thread, so that twice the threads have twice the bytes at twice the speed.
        points = [(size * threads, read * threads, update * threads) for size, read, update in one]
    with threads_of_torch(threads), torch.inference_mode():
        most = _largest_bytes()
        shared = [size for size in _sizes(most) if size > points[-1][0]] or [most]
        points += [(size, *_bandwidths(size)) for size in shared]
        rates = {name: rate for name in ("fp32", "bf16", "int8") if (rate := _macs_per_s(name)) is not None}
        if "int8" in rates:  # torch's own int8 product may be slow where another library's is not
            rates["int8"] = max(rates["int8"], rates.get("fp32", 0.0))
    read, update = (_falling([(size, pair[kind]) for size, *pair in points]) for kind in (0, 1))
    return Roofline(threads, read, update, rates)


def _at(curve: Curve, working_set_bytes: float) -> float:
    return next((speed for size, speed in reversed(curve) if size <= working_set_bytes), curve[0][1])


def _falling(points: Sequence[tuple[int, float]]) -> Curve:
    """The same points, none slower than a larger one: what is slower was disturbed, a smaller set can't be."""
    sizes, speeds = zip(*sorted(points, reverse=True), strict=True)
    return tuple(zip(sizes, accumulate(speeds, max), strict=True))[::-1]


def _sizes(most: int) -> list[int]:
    """Working sets in bytes, doubling."""
    return [_SMALLEST_BYTES << step for step in range(most.bit_length()) if _SMALLEST_BYTES << step <= most]


def _largest_bytes() -> int:
    wanted = max(_LARGEST_BYTES, _CACHES * max(machine.caches_bytes().values(), default=0))
    return max(min(wanted, psutil.virtual_memory().available // _MEMORY_SHARE), _PRIVATE_BYTES)


def _bandwidths(size_bytes: int) -> tuple[float, float]:
    """(read, update) in bytes a second for a working set of so many bytes, without the time of the launch."""
    tensor, tiny, total = torch.ones(size_bytes // 4), torch.ones(_TINY_ELEMENTS), torch.empty(())
    read_s = _net_s(lambda x: torch.sum(x, 0, out=total), tensor, tiny)
    update_s = _net_s(lambda x: x.neg_(), tensor, tiny)  # the cheapest that reads and writes, and keeps values normal
    return size_bytes / read_s, 2 * size_bytes / update_s


def _net_s(operation: Callable[[Tensor], object], tensor: Tensor, tiny: Tensor) -> float:
    whole = _best_s(lambda: operation(tensor))
    launch = _best_s(lambda: operation(tiny))
    return max(whole - launch, _LEAST_SHARE * whole)


def _best_s(run: Callable[[], object], budget_s: float = _TRY_S) -> float:
    """The shortest time of one call, in seconds; short calls are timed several together."""
    run()
    begin = time.perf_counter()
    run()
    calls = max(1, int(_SAMPLE_S / max(time.perf_counter() - begin, 1e-7)))
    best, end = math.inf, time.perf_counter() + budget_s
    while True:
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        now = time.perf_counter()
        best = min(best, (now - begin) / calls)
        if now >= end:
            return best


def _macs_per_s(precision: str) -> float | None:
    """The most MACs a second of matrix products and a 1x1 convolution; None where torch has none on this machine."""
    try:
        return max(macs / _best_s(run, 3 * _TRY_S) for macs, run in _products(precision))
    except (RuntimeError, NotImplementedError):  # torch says so for a type that it has no kernel for
        return None


def _products(precision: str) -> Iterator[tuple[int, Callable[[], object]]]:
    """(MACs, what runs them), one at a time."""
    if precision == "int8":
        side = _INT8_SIDE
        left, right = (torch.ones(side, side, dtype=torch.int8) for _ in range(2))
        yield side**3, lambda: torch._int_mm(left, right)
        return
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    for side in _GEMM_SIDES:
        a, b, out = (torch.ones(side, side, dtype=dtype) for _ in range(3))
        yield side**3, lambda a=a, b=b, out=out: torch.mm(a, b, out=out)  # type: ignore[misc]
    channels, side = _CONV
    image = torch.ones(1, channels, side, side, dtype=dtype)
    weight = torch.ones(channels, channels, 1, 1, dtype=dtype)
    yield channels * channels * side * side, lambda: torch.conv2d(image, weight)


def _kept_file(threads: int) -> Path | None:
    facts = environment.describe()
    identity = json.dumps([_SCHEMA, {name: facts.get(name) for name in _IDENTITY}], sort_keys=True)
    return kept_file("rooflines", hashlib.sha256(f"{identity} {threads}".encode()).hexdigest())


def _curve(points: Any) -> Curve:
    """A curve as it must be: sizes rise, speeds fall or stay."""
    curve = tuple((int(size), _rate(speed)) for size, speed in points)
    if not curve:
        raise ValueError("a bandwidth curve without points")
    for (size, speed), (larger, slower) in pairwise(curve):
        if larger <= size or slower > speed:
            raise ValueError("a bandwidth curve that does not fall")
    return curve


def _rate(value: Any) -> float:
    rate = float(value)
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"{value!r} is no rate")
    return rate

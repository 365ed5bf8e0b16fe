"""What the gates of a running network say: each attention module's factors, read off its products as they happen.

Nothing of the modules' insides is assumed: a gate is the other operand where the module's map is multiplied, so a
network's own attention is read as well as what secost attached.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secost.networks.attended import attached_paths, plain_names
from secost.networks.cache import cached_trace
from secost.networks.surgery import native_paths

CHANNEL, POSITION, ROW, COLUMN, ELEMENT, CONTEXT = "channel", "position", "row", "column", "element", "context"
_PRODUCTS = (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor)
_SUMS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass
class Gate:
    """One gate of one attention module over a batch.

    `kind` says what has a value: each channel, each position of the map, a row or a column of each channel, each
    element; or that it is no factor but a context that is added (GC). `values` are (N, units): channels, and for
    `position` the positions, row by row; rows, columns and elements are averaged for each channel. `squeezed` are the
    means over positions of the map that the module reads, (N, C). `path` is the module's, or the site's that it was
    attached to.
    """

    path: str
    kind: str
    values: Tensor
    squeezed: Tensor

    @property
    def name(self) -> str:
        return self.path if self.kind in (CHANNEL, ELEMENT) else f"{self.path} ({self.kind})"


@dataclass
class _Open:
    """A call of an attention module that is running."""

    path: str
    map: Tensor
    squeezed: Tensor
    maps: list[Tensor]  # the map, and what it became since: scaled, or rounded
    gates: list[tuple[str, Tensor]] = field(default_factory=list)
    context: Tensor | None = None


def gate_paths(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[str]:
    """Paths of the attention modules, the network's own and attached ones; empty where there is none."""
    ours = attached_paths(net)
    wanted = {*ours, *native_paths(cached_trace(net, inputs), ours)}
    return [name for name in plain_names(net) if name in wanted]


@contextlib.contextmanager
def watch_gates(net: nn.Module, paths: Sequence[str]) -> Iterator[list[Gate]]:
    """The gates of every attention module at `paths`, in the order in which they run, while the network is called.

    The list fills as the network runs; a second call adds to it. A module that runs twice is there twice.
    """
    seen: list[Gate] = []
    mode = _Recorder()
    with contextlib.ExitStack() as stack:
        for path in paths:
            module = net.get_submodule(path)
            begin, end = functools.partial(_begin, mode, path), functools.partial(_end, mode, seen)
            stack.callback(module.register_forward_pre_hook(begin, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(end).remove)
        stack.enter_context(mode)
        yield seen


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the products and sums inside the attention module that runs, if one does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[_Open] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.running and len(args) >= 2 and (func in _PRODUCTS or func in _SUMS):
            _note(self.running[-1], func in _PRODUCTS, args[0], args[1], out)
        elif self.running and "fake_quantize" in func.name() and any(args[0] is map_ for map_ in self.running[-1].maps):
            self.running[-1].maps.append(out[0] if isinstance(out, tuple) else out)
        return out


def _note(call: _Open, product: bool, first: Any, second: Any, out: Any) -> None:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or out.shape != call.map.shape:
        return
    other = _other(call.maps, first, second)
    if other is None or other.ndim != call.map.ndim:
        return
    if product:
        call.gates.append((_kind(other, call.map), other.detach()))
        call.maps.append(out)
    elif other.shape == (*call.map.shape[:2], 1, 1):
        call.context = other.detach()


def _other(maps: Sequence[Tensor], first: Tensor, second: Tensor) -> Tensor | None:
    """The operand that is not the map: the smaller one, and of two alike the one that does not come from the map."""
    if first.shape != second.shape:
        return first if first.numel() < second.numel() else second
    is_map = [any(item is map_ for map_ in maps) for item in (first, second)]
    return None if is_map[0] == is_map[1] else second if is_map[0] else first


def _kind(gate: Tensor, map_: Tensor) -> str:
    wide = [size > 1 and stride != 0 for size, stride in zip(gate.shape, gate.stride(), strict=True)]
    if map_.shape[2] == map_.shape[3] == 1 or not (wide[2] or wide[3]):
        return CHANNEL
    if not wide[1] and map_.shape[1] > 1:
        return POSITION
    return ELEMENT if wide[2] and wide[3] else ROW if wide[2] else COLUMN


def _begin(mode: _Recorder, path: str, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    given = (item for item in (*args, *keywords.values()) if isinstance(item, Tensor) and item.ndim == 4)
    map_ = next(given, torch.zeros(0, 0, 0, 0))
    # Read now: the module may scale its map in place.
    mode.running.append(_Open(path, map_, map_.detach().flatten(2).mean(2), [map_]))


def _end(mode: _Recorder, seen: list[Gate], module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    call = mode.running.pop()
    host, _, name = call.path.rpartition(".")
    path = host if name.startswith("secost") else call.path  # attached: named by the module that it was attached to
    gates = [(CONTEXT, call.context)] if not call.gates and call.context is not None else call.gates
    for kind, gate in gates:
        units = gate[:, :1].flatten(1) if kind == POSITION else gate.flatten(2).mean(2)
        seen.append(Gate(path, kind, units.expand(len(call.map), -1).clone(), call.squeezed))

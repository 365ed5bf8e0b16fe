"""A network at b bits, simulated: weights and maps are rounded to a grid by torch's own fake-quantise operators.

Weights are symmetric, a range for each output channel; maps are affine, one range for each tensor, from calibration
images. What deployment folds is folded first: each norm goes into the convolution before it. Rounding passes gradients
straight through, so the same network can be trained on (quantisation-aware).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from secost.errors import BadSpecError
from secost.networks.attended import replace_module
from secost.networks.attention_modules import GatedAttention
from secost.runs.study import GATE, GROUPS, MIN_MAX, PERCENTILE, PRODUCT, REST

BITS = (2, 16)
_SAME = 1e-3
_TAIL = 1e-4  # of values beyond the range at each end, with percentiles
_MOST_VALUES = 200_000
_WITH_NORM = ("drop", "act")
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass
class State:
    """What all quantisers of a network do now: `groups` of them round, to `bits`, over `ranges`; or they observe."""

    bits: int = 8
    ranges: str = MIN_MAX
    groups: frozenset[str] = frozenset()
    observing: bool = False


class FakeMap(nn.Module):
    """Rounds a map (any shape) to 2^bits levels between calibrated ends; 0 is always one of them."""

    def __init__(self, state: State, group: str) -> None:
        super().__init__()
        self.state, self.group = state, group
        self.ends: dict[str, tuple[float, float]] = {}
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.state.observing:
            self._observe(x)
        if self.group not in self.state.groups or not self.ends:
            return x
        low, high = self.ends[self.state.ranges]
        levels = 2**self.state.bits - 1
        scale = max((high - low) / levels, 1e-12)
        return torch.fake_quantize_per_tensor_affine(x, scale, round(-low / scale), 0, levels)

    def _observe(self, x: Tensor) -> None:
        """Ends of all calibration batches: the outermost values, and the mean over batches of the percentiles."""
        values = x.detach().flatten().float()
        if len(values) > _MOST_VALUES:
            values = values[:: -(-len(values) // _MOST_VALUES) | 1]  # an odd step falls into no column of a map
        tails = torch.quantile(values, torch.tensor([_TAIL, 1 - _TAIL])).tolist()
        low, high = float(x.min()), float(x.max())
        old = self.ends.get(MIN_MAX, (0.0, 0.0))
        self.ends[MIN_MAX] = (min(old[0], low), max(old[1], high))
        before, self.seen = self.ends.get(PERCENTILE, (0.0, 0.0)), self.seen + 1
        low, high = min(0.0, tails[0]), max(0.0, tails[1])
        self.ends[PERCENTILE] = (before[0] + (low - before[0]) / self.seen, before[1] + (high - before[1]) / self.seen)


class FakeWeight(nn.Module):
    """Rounds a weight (out, ...) to a symmetric grid of 2^bits - 1 levels, a scale for each output channel."""

    def __init__(self, state: State, group: str) -> None:
        super().__init__()
        self.state, self.group = state, group

    def forward(self, weight: Tensor) -> Tensor:
        if self.group not in self.state.groups:
            return weight
        top = 2 ** (self.state.bits - 1) - 1
        scale = (weight.detach().flatten(1).abs().amax(1) / top).clamp_min(1e-12)
        zeros = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -top, top)


class FakeQuantised:
    """A network whose layers and gates can be rounded, in eval mode; norms must be folded already.

    Three groups round apart: `rest`, all outside attention (the map that the gate reads among it); `gate`, the layers
    of the gate and its values; `product`, the map times the gate. Gates are rounded where secost attached attention
    that has one (`GatedAttention`). `like`, another of the same network, gives its ranges.
    """

    def __init__(self, net: nn.Module, like: FakeQuantised | None = None) -> None:
        self.net, self.state = net, State()
        self._maps: list[FakeMap] = []
        gated = {name: module for name, module in net.named_modules() if isinstance(module, GatedAttention)}
        for name, module in list(net.named_modules()):
            if isinstance(module, _LAYERS):
                inside = any(name.startswith(f"{path}.") for path in gated)
                self._round_layer(module, GATE if inside else REST)
        for module in gated.values():
            self._round_gate(module)
        if like is not None:
            for mine, theirs in zip(self._maps, like._maps, strict=True):
                mine.ends = dict(theirs.ends)

    def calibrate(self, batches: Collection[Tensor]) -> None:
        """Set the ranges of all maps from images (N, C, H, W)."""
        self.state.groups, self.state.observing = frozenset(), True
        with torch.inference_mode():
            for images in batches:
                self.net(images)
        self.state.observing = False

    def at(self, bits: int | None, ranges: str = MIN_MAX, groups: Collection[str] = GROUPS) -> nn.Module:
        """The network at so many bits, None for full precision; only `groups` are rounded."""
        self.state.groups = frozenset() if bits is None else frozenset(groups)
        self.state.bits, self.state.ranges = bits or self.state.bits, ranges
        return self.net

    def _map(self, group: str) -> FakeMap:
        self._maps.append(FakeMap(self.state, group))
        return self._maps[-1]

    def _round_layer(self, module: nn.Module, group: str) -> None:
        fake = self._map(group)
        module.register_forward_pre_hook(lambda _, args: (fake(args[0]), *args[1:]))
        parametrize.register_parametrization(module, "weight", FakeWeight(self.state, group), unsafe=True)

    def _round_gate(self, module: GatedAttention) -> None:
        read, gate, product = (self._map(group) for group in (REST, GATE, PRODUCT))

        def forward(x: Tensor) -> Tensor:
            x = read(x)
            out: Tensor = product(x * gate(module.gate(x)))
            return out

        module.forward = forward  # type: ignore[method-assign]


def fold_norms(net: nn.Module, images: Tensor) -> nn.Module:
    """Fold each batch norm into the convolution whose output it reads, in place.

    Raises BadSpecError where that changes the network's output: something else reads a convolution as well.

    `images` (N, C, H, W) are run once to see what reads what. Hooks and children of a folded norm stay in its place.
    """
    with torch.inference_mode():
        before = net(images[:1])
    pairs = _norms_after(net, images)
    for conv, norm in pairs:
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
                                            norm.weight, norm.bias)
        conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        folded = _Folded()
        for table in ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs",
                      "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "_modules"):
            setattr(folded, table, getattr(norm, table))
        replace_module(net, norm, folded.eval())
    with torch.inference_mode():
        after = net(images[:1])
    if not torch.allclose(after, before, rtol=_SAME, atol=_SAME * float(before.abs().max())):
        raise BadSpecError(f"the norms of {type(net).__name__} can't be folded into its convolutions, as its output "
                           "changes: give a network in which only the norm reads its convolution")
    return net


class _Folded(nn.Module):
    """What is left of a norm: nothing, or the `drop` and `act` that timm's norms have with them."""

    def forward(self, x: Tensor) -> Tensor:
        for name in _WITH_NORM:
            if name in self._modules:
                x = self.get_submodule(name)(x)
        return x


def _foldable(norm: nn.Module) -> bool:
    return type(norm) is nn.BatchNorm2d or (isinstance(norm, nn.BatchNorm2d) and set(_WITH_NORM) <= set(norm._modules))


def _norms_after(net: nn.Module, images: Tensor) -> list[tuple[Any, Any]]:
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    found: dict[int, tuple[Any, Any]] = {}
    handles = []

    def after(module: nn.Conv2d, args: Any, output: Tensor) -> None:
        made[id(output)] = (module, output, output._version)  # kept, so that no other tensor gets its id

    def before(module: nn.BatchNorm2d, args: Any) -> None:
        entry = made.get(id(args[0]))
        written = entry is not None and entry[1]._version != entry[2]  # in place, by an activation or a sum
        if entry is not None and not written and module.running_mean is not None:
            found[id(module)] = (entry[0], module)

    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module._forward_hooks:
            handles.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d) and _foldable(module):
            handles.append(module.register_forward_pre_hook(before, prepend=True))
    with torch.inference_mode(False), torch.no_grad():  # tensors of inference mode don't count writes
        net(images[:1])
    for handle in handles:
        handle.remove()
    shared = [id(conv) for conv, _ in found.values()]
    return [pair for pair in found.values() if shared.count(id(pair[0])) == 1]

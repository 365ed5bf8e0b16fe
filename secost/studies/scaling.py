"""Compound scaling (arXiv:1905.11946): what attention adds as depth, width and resolution grow by one coefficient.

For phi a network is alpha^phi as deep and beta^phi as wide, at gamma^phi of the resolution; its MACs grow by about
(alpha beta^2 gamma^2)^phi. Beside it stand networks that reach the same MACs by one dimension alone. Every size is an
ordinary comparison, and all of them are kept in one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from torch import nn

from secost.errors import BadSpecError
from secost.meters.conditions import measuring
from secost.meters.counts import Cost, graph_cost
from secost.meters.machine import available_bytes
from secost.networks.cache import cached_trace
from secost.networks.families import scaled_name
from secost.networks.sources import image_input, inputs_for, load
from secost.networks.surgery import native_paths
from secost.networks.tracing import trace
from secost.plan.spec import Spec
from secost.plan.trials import NATIVE, Listener
from secost.runs.records import DONE
from secost.runs.store import RunStore
from secost.runs.study import ALONE, COMPOUND, Scaling, Size, rounded
from secost.work.comparison import Networks
from secost.work.run import make_plan, measure_more, open_run

DEFAULT_MODEL, BASE_PX = "efficientnet_b0", 224
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
# (depth, width, resolution) of B0 to B7 as published with the paper's code: rounded by hand, not alpha^phi.
PUBLISHED = (
    (1.0, 1.0, 224), (1.1, 1.0, 240), (1.2, 1.1, 260), (1.4, 1.2, 300), (1.8, 1.4, 380), (2.2, 1.6, 456),
    (2.6, 1.8, 528), (3.1, 2.0, 600),
)
_BASE = Size(COMPOUND, 0.0, 1.0, 1.0, BASE_PX)
_ALONE_UP_TO = 8.0  # times the MACs: beyond, depth alone is hundreds of blocks
_STEP_PX, _CORRECTIONS = 4, 2
_GROWTH, _LARGEST_PHI = (1.7, 2.3), 100
_FEWEST_ROUNDS = 12  # for which a size must have the time, or it is only counted: fewer give no interval of use


def scaling(
    model: str = DEFAULT_MODEL, phis: Sequence[float] = tuple(range(8)), *, alpha: float = ALPHA, beta: float = BETA,
    gamma: float = GAMMA, attentions: Sequence[str] = (), reductions: Sequence[int] = (4, 16), latency: bool = True,
    seconds: float = 20.0, seed: int = 0, out: str | Path | None = None, listener: Listener | None = None,
) -> Scaling:
    """Count and measure `model` with and without attention at every phi, and by one dimension alone at equal MACs.

    `model` is a family of `networks.families` or a factory that takes depth and width. Without `attentions` it is
    the network's own attention, where it has one, and SE. With `out` all sizes are kept in that run, and the same call
    goes on. Raises BadSpecError for coefficients below 1, and for a phi too large for this memory.
    """
    _check(phis, alpha, beta, gamma)
    study = Scaling(model, alpha, beta, gamma)
    published = all(phi in range(len(PUBLISHED)) for phi in phis)  # one rule for all sizes of a study
    sizes = [_compound(study, phi, published) for phi in sorted(set(phis))]
    if not _GROWTH[0] <= study.growth <= _GROWTH[1]:
        study.notes.append(f"alpha x beta^2 x gamma^2 is {study.growth:.2f}, not about 2 as the paper asks: phi is no "
                           "doubling of MACs here.")
    spec = Spec(
        (_name(model, _BASE),), attention=tuple(attentions) or _attentions(model), reductions=tuple(reductions),
        resolution=(BASE_PX,), latency=latency, seconds=seconds, seed=seed,
    )
    base = _cost(model, _BASE)
    _check_memory(base, sizes)
    with open_run(spec, out) as store:
        _measure_all(sizes, base, _Measure(study, spec, store, listener or Listener()))
        study = rounded(study)
        store.keep_study(study)
    return study


def parse_phis(text: str) -> list[float]:
    """`0..7` (whole steps) or `0,0.5,1`. Raises BadSpecError for anything else."""
    try:
        first, dots, last = text.partition("..")
        whole = range(int(first), min(int(last), _LARGEST_PHI) + 1) if dots else ()
        found = [float(n) for n in whole] if dots else [float(n) for n in text.split(",")]
    except ValueError:
        found = []
    if not found:
        raise BadSpecError(f"phi {text!r} is no range: write 0..7 or 0,0.5,1")
    return found


@dataclass(frozen=True)
class _Measure:
    """Measures one size after another with the same variants."""

    study: Scaling
    spec: Spec
    store: RunStore
    listener: Listener
    networks: Networks = field(default_factory=Networks)  # what is timed for a round is measured then

    def __call__(self, size: Size, latency: bool) -> None:
        spec = self.spec.with_changes(models=[_name(self.study.model, size)], resolution=[size.resolution])
        spec = spec.with_changes(latency=latency and self._timed(size, spec))
        records = measure_more(spec, self.store, self.listener, self.networks)
        self.study.sizes.append((size, records))
        if size.way == COMPOUND:
            self.study.notes += [f"phi {size.phi:g}: {record.label} failed: {record.error}" for record in records
                                 if record.status != DONE]

    def _timed(self, size: Size, spec: Spec) -> bool:
        """Whether the latency of a size is to be measured: as the run decided before, or if it fits."""
        timed, counted = (make_plan(spec.with_changes(latency=latency)).keys for latency in (True, False))
        if not set(timed).isdisjoint(self.store.plan):
            return True
        return self._fits(size, spec, len(timed)) and set(counted).isdisjoint(self.store.plan)

    def _fits(self, size: Size, spec: Spec, variants: int) -> bool:
        """Whether a few rounds of all variants fit into the time; a note says so where they don't."""
        round_s = _pass_s(self.networks.get(spec.models[0]), size.resolution) * (1 + variants)
        if round_s * _FEWEST_ROUNDS <= spec.seconds:
            return True
        self.study.notes.append(f"phi {size.phi:g} was counted and not measured: a round takes about {round_s:.0f} s, "
                                f"so --seconds {_FEWEST_ROUNDS * 2 * round_s:.0f} would do.")
        return False


def _measure_all(sizes: Sequence[Size], base: Cost, measure: _Measure) -> None:
    """Every compound size, and beside those that are not too large one dimension alone at its MACs."""
    model, latency = measure.study.model, measure.spec.latency
    targets = {size.phi: _cost(model, size).macs for size in sizes}
    reached = [phi for phi, macs in targets.items() if phi and macs <= _ALONE_UP_TO * base.macs]
    for size in sizes:
        measure(size, latency)
        for way in ALONE if size.phi in reached else ():
            timed = latency and size.phi == max(reached)  # one size shows how the way matters, at a third of the time
            measure(_at_equal_macs(model, replace(_BASE, way=way, phi=size.phi), base.macs, targets[size.phi]), timed)
    if reached and max(targets) > max(reached):
        measure.study.notes.append(f"One dimension alone stands beside phi up to {max(reached):g}: at more than "
                                   f"{_ALONE_UP_TO:g} times the MACs, depth alone is hundreds of blocks.")


def _pass_s(net: nn.Module, resolution: int) -> float:
    """The seconds of one forward pass on one thread, after one that is not counted."""
    inputs = image_input(net, resolution)
    with measuring(1, flush_denormals=True):
        net(*inputs)
        begin = perf_counter()
        net(*inputs)
        return perf_counter() - begin


def _attentions(model: str) -> tuple[str, ...]:
    """The network's own attention, where it has one, and SE."""
    net = load(_name(model, _BASE))
    return (NATIVE, "se") if native_paths(cached_trace(net, inputs_for(net, BASE_PX, None))) else ("se",)


def _cost(model: str, size: Size) -> Cost:
    """Counts of a size as it is built, read off its graph alone: many are tried before one is taken."""
    net = load(_name(model, size))
    return graph_cost(trace(net, image_input(net, size.resolution)), {}, sum(p.numel() for p in net.parameters()))


def _name(model: str, size: Size) -> str:
    return scaled_name(model, size.depth, size.width)


def _compound(study: Scaling, phi: float, published: bool) -> Size:
    usual = (study.alpha, study.beta, study.gamma) == (ALPHA, BETA, GAMMA)
    if study.model == DEFAULT_MODEL and usual and published:
        return Size(COMPOUND, phi, *PUBLISHED[int(phi)], published=True)
    return Size(COMPOUND, phi, study.alpha**phi, study.beta**phi, _pixels(BASE_PX * study.gamma**phi))


def _at_equal_macs(model: str, size: Size, base_macs: int, target: int) -> Size:
    """One dimension grown until the MACs are the target's, as near as rounding lets it; MACs grow with depth, and with
    the squares of width and resolution."""
    power = 1.0 if size.way == "depth" else 0.5
    factor, best, gap = (target / base_macs)**power, size, float("inf")
    for _ in range(1 + _CORRECTIONS):
        tried = _grown(size, factor)
        macs = _cost(model, tried).macs
        if abs(macs / target - 1) < gap:
            best, gap = tried, abs(macs / target - 1)
        factor *= (target / macs) ** power
    return best


def _grown(size: Size, factor: float) -> Size:
    if size.way == "resolution":
        return replace(size, resolution=_pixels(BASE_PX * factor))
    return replace(size, depth=factor) if size.way == "depth" else replace(size, width=factor)


def _pixels(value: float) -> int:
    return max(_STEP_PX, round(value / _STEP_PX) * _STEP_PX)


def _check(phis: Sequence[float], alpha: float, beta: float, gamma: float) -> None:
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not 1.0 <= value <= 4.0:
            raise BadSpecError(f"--{name} {value:g} is not possible: a network grows by a factor of 1 to 4")
    if not phis:
        raise BadSpecError("no phi was given: write --phi 0..7")
    bad = [phi for phi in phis if not 0 <= phi < _LARGEST_PHI]
    if bad:
        raise BadSpecError(f"phi {bad[0]:g} is not possible: give values from 0 to {_LARGEST_PHI - 1}")


def _check_memory(base: Cost, sizes: Sequence[Size]) -> None:
    """Refuse what can't be held, before it is built: weights twice (with those of attention), and all maps at once."""
    free = available_bytes()
    for size in sizes:
        weights = base.params * size.depth * size.width**2
        maps = base.activations * size.depth * size.width * (size.resolution / BASE_PX) ** 2
        needed = 4 * (2 * weights + maps)
        if free is not None and needed > free:
            raise BadSpecError(f"phi {size.phi:g} needs about {needed / 1e9:,.1f} GB ({size.depth:.3g} times as deep, "
                               f"{size.width:.3g} times as wide, {size.resolution} px) and {free / 1e9:,.1f} GB are "
                               "free: give a smaller phi")

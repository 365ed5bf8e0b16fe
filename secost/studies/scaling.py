"""Compound scaling (arXiv:1905.11946): what attention adds as depth, width and resolution grow by one coefficient.

For phi a network is alpha^phi as deep and beta^phi as wide, at gamma^phi of the resolution; its MACs grow by about
(alpha beta^2 gamma^2)^phi. Beside it stand networks that reach the same MACs by one dimension alone. Every size is an
ordinary comparison: its records, and their store, are those of `secost profile`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from secost.errors import BadSpecError
from secost.numbers import NA, joined, percent, percent_interval
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE
from secost.runs.records import DONE, Record

if TYPE_CHECKING:
    from torch import nn

    from secost.answers.published import PublishedAccuracy
    from secost.meters.counts import Cost
    from secost.pages.page import Page
    from secost.plan.plan import Listener

COMPOUND, ALONE = "compound", ("depth", "width", "resolution")
DEFAULT_MODEL, BASE_PX = "efficientnet_b0", 224
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
# (depth, width, resolution) of B0 to B7 as published with the paper's code: rounded by hand, not alpha^phi.
PUBLISHED = (
    (1.0, 1.0, 224), (1.1, 1.0, 240), (1.2, 1.1, 260), (1.4, 1.2, 300), (1.8, 1.4, 380), (2.2, 1.6, 456),
    (2.6, 1.8, 528), (3.1, 2.0, 600),
)
_ALONE_UP_TO = 8.0  # times the MACs: beyond, depth alone is hundreds of blocks
_STEP_PX, _CORRECTIONS = 4, 2
_GROWTH, _LARGEST_PHI = (1.7, 2.3), 100
_ALONE_MARKS = {"depth": "x", "width": "+", "resolution": "1"}
_FEWEST_ROUNDS = 12  # for which a size must have the time, or it is only counted: fewer give no interval of use


@dataclass(frozen=True)
class Size:
    """One network of the study. `way` is compound or the one dimension that grew; `published` that its coefficients
    are the paper's own rounded ones."""

    way: str
    phi: float
    depth: float
    width: float
    resolution: int
    published: bool = False

    @property
    def name(self) -> str:
        return f"{self.way}-{self.phi:g}"


@dataclass
class Scaling:
    """What the study found: each size with its records, the baseline first, and why a size lacks a latency."""

    model: str
    alpha: float
    beta: float
    gamma: float
    sizes: list[tuple[Size, list[Record]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """By how much MACs grow for each phi, in theory: alpha beta^2 gamma^2, about 2 in the paper."""
        return self.alpha * self.beta**2 * self.gamma**2

    def of(self, way: str) -> list[tuple[Size, list[Record]]]:
        return [(size, records) for size, records in self.sizes if size.way == way]


def scaling(
    model: str = DEFAULT_MODEL, phis: Sequence[float] = tuple(range(8)), *, alpha: float = ALPHA, beta: float = BETA,
    gamma: float = GAMMA, attentions: Sequence[str] = (), reductions: Sequence[int] = (4, 16), latency: bool = True,
    seconds: float = 20.0, seed: int = 0, out: str | Path | None = None, listener: Listener | None = None,
) -> Scaling:
    """Count and measure `model` with and without attention at every phi, and by one dimension alone at equal MACs.

    `model` is a family of `networks.families` or a factory that takes depth and width. Without `attentions` it is
    the network's own attention, where it has one, and SE. With `out` each size is a run of its own in that folder, and
    the same call goes on. Raises BadSpecError for coefficients below 1, and for a phi too large for this memory.
    """
    _check(phis, alpha, beta, gamma)
    study = Scaling(model, alpha, beta, gamma)
    published = all(phi in range(len(PUBLISHED)) for phi in phis)  # one rule for all sizes of a study
    sizes = [_compound(study, phi, published) for phi in sorted(set(phis))]
    if not _GROWTH[0] <= study.growth <= _GROWTH[1]:
        study.notes.append(f"alpha x beta^2 x gamma^2 is {study.growth:.2f}, not about 2 as the paper asks: phi is no "
                           "doubling of MACs here.")
    measure = _Measure(study, tuple(attentions) or _attentions(model), tuple(reductions), seed, out, listener)
    base = _cost(model, Size(COMPOUND, 0.0, 1.0, 1.0, BASE_PX))
    _check_memory(base, sizes)
    targets = {size.phi: _cost(model, size).macs for size in sizes}
    reached = [phi for phi, macs in targets.items() if phi and macs <= _ALONE_UP_TO * base.macs]
    for size in sizes:
        _note_failures(study, size, records := measure(size, latency, seconds))
        study.sizes.append((size, records))
        for way in ALONE if size.phi in reached else ():
            target = targets[size.phi]
            alone = _at_equal_macs(model, Size(way, size.phi, 1.0, 1.0, BASE_PX), target / base.macs, target)
            timed = latency and size.phi == max(reached)  # one size shows how the way matters, at a third of the time
            study.sizes.append((alone, measure(alone, timed, seconds)))
    if reached and max(targets) > max(reached):
        study.notes.append(f"One dimension alone stands beside phi up to {max(reached):g}: at more than "
                           f"{_ALONE_UP_TO:g} times the MACs, depth alone is hundreds of blocks.")
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


class _Measure:
    """Profiles one size after another with the same variants."""

    def __init__(self, study: Scaling, attentions: tuple[str, ...], reductions: tuple[int, ...], seed: int,
                 out: str | Path | None, listener: Listener | None) -> None:
        self.study, self.attentions, self.reductions = study, attentions, reductions
        self.seed, self.out, self.listener = seed, out, listener
        from secost.work.planning import Networks

        self.networks = Networks()  # what is timed for a round is measured then

    def __call__(self, size: Size, latency: bool, seconds: float) -> list[Record]:
        from secost.work.run import profile_spec

        fits = latency and self._timed(size, seconds)
        spec = Spec(
            (_name(self.study.model, size),), attention=self.attentions, reductions=self.reductions,
            resolution=(size.resolution,), latency=fits, seconds=seconds, seed=self.seed,
        )
        folder = Path(self.out) / size.name if self.out else None
        return profile_spec(spec, self.networks, out=folder, listener=self.listener).records

    def _timed(self, size: Size, seconds: float) -> bool:
        """Whether the latency of a size is to be measured: as a run decided that is there already, or if it fits."""
        from secost.runs.database import DATABASE
        from secost.runs.store import read_run

        folder = Path(self.out) / size.name if self.out else None
        if folder is not None and (folder / DATABASE).exists():
            return read_run(folder)[0].latency
        return self._fits(size, seconds)

    def _fits(self, size: Size, seconds: float) -> bool:
        """Whether a few rounds of all variants fit into the time; a note says so where they don't."""
        passes = 2 + sum(1 if name == NATIVE else len(self.reductions) for name in self.attentions)
        round_s = _pass_s(self.networks.get(_name(self.study.model, size)), size.resolution) * passes
        if round_s * _FEWEST_ROUNDS <= seconds:
            return True
        self.study.notes.append(f"phi {size.phi:g} was counted and not measured: a round takes about {round_s:.0f} s, "
                                f"so --seconds {_FEWEST_ROUNDS * 2 * round_s:.0f} would do.")
        return False


def _pass_s(net: nn.Module, resolution: int) -> float:
    """The seconds of one forward pass on one thread, after one that is not counted."""
    from secost.meters.conditions import measuring
    from secost.networks.inputs import image_input

    inputs = image_input(net, resolution)
    with measuring(1, flush_denormals=True):
        net(*inputs)
        begin = perf_counter()
        net(*inputs)
        return perf_counter() - begin


def _attentions(model: str) -> tuple[str, ...]:
    """The network's own attention, where it has one, and SE."""
    from secost.networks.cache import cached_trace
    from secost.networks.inputs import inputs_for
    from secost.networks.sources import load
    from secost.networks.surgery import native_paths

    net = load(_name(model, Size(COMPOUND, 0.0, 1.0, 1.0, BASE_PX)))
    return (NATIVE, "se") if native_paths(cached_trace(net, inputs_for(net, BASE_PX, None))) else ("se",)


def _cost(model: str, size: Size) -> Cost:
    """Counts of a size as it is built, read off its graph alone: many are tried before one is taken."""
    from secost.meters.counts import graph_cost
    from secost.networks.inputs import image_input
    from secost.networks.sources import load
    from secost.networks.tracing import trace

    net = load(_name(model, size))
    return graph_cost(trace(net, image_input(net, size.resolution)), {}, sum(p.numel() for p in net.parameters()))


def _name(model: str, size: Size) -> str:
    from secost.networks.families import scaled_name

    return scaled_name(model, size.depth, size.width)


def _compound(study: Scaling, phi: float, published: bool) -> Size:
    usual = (study.alpha, study.beta, study.gamma) == (ALPHA, BETA, GAMMA)
    if study.model == DEFAULT_MODEL and usual and published:
        return Size(COMPOUND, phi, *PUBLISHED[int(phi)], published=True)
    return Size(COMPOUND, phi, study.alpha**phi, study.beta**phi, _pixels(BASE_PX * study.gamma**phi))


def _at_equal_macs(model: str, size: Size, ratio: float, target: int) -> Size:
    """One dimension grown until the MACs are the target's, as near as rounding lets it; MACs grow with depth, and with
    the squares of width and resolution."""
    power = 1.0 if size.way == "depth" else 0.5
    factor, best, gap = ratio**power, size, float("inf")
    for _ in range(1 + _CORRECTIONS):
        tried = _grown(size, factor)
        macs = _cost(model, tried).macs
        if abs(macs / target - 1) < gap:
            best, gap = tried, abs(macs / target - 1)
        factor *= (target / macs) ** power
    return best


def _grown(size: Size, factor: float) -> Size:
    if size.way == "resolution":
        return dataclasses.replace(size, resolution=_pixels(BASE_PX * factor))
    return dataclasses.replace(size, depth=factor) if size.way == "depth" else dataclasses.replace(size, width=factor)


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
    from secost.meters.machine import available_bytes

    free = available_bytes()
    for size in sizes:
        needed = _needed_bytes(base, size)
        if free is not None and needed > free:
            raise BadSpecError(f"phi {size.phi:g} needs about {needed / 1e9:,.1f} GB ({size.depth:.3g} times as deep, "
                               f"{size.width:.3g} times as wide, {size.resolution} px) and {free / 1e9:,.1f} GB are "
                               "free: give a smaller phi")


def _needed_bytes(base: Cost, size: Size) -> int:
    weights = base.params * size.depth * size.width**2
    maps = base.activations * size.depth * size.width * (size.resolution / BASE_PX) ** 2
    return int(4 * (2 * weights + maps))


def _note_failures(study: Scaling, size: Size, records: Sequence[Record]) -> None:
    for record in records:
        if record.status != DONE:
            study.notes.append(f"phi {size.phi:g}: {record.label} failed: {record.error}")


# --- what it says -----------------------------------------------------------------------------------------------------

_SHARES: tuple[tuple[str, str], ...] = (
    ("params_overhead", "parameters"), ("macs_overhead", "MACs"), ("memory_overhead", "memory traffic"),
    ("latency_overhead", "time"),
)
LATENCY = "latency_overhead"


def findings(study: Scaling) -> list[str]:
    """Three sentences: how attention's share changes as the network grows, how that depends on the way, what to do."""
    compound = [(size, _first_variant(records)) for size, records in study.of(COMPOUND)]
    known = [(size, record) for size, record in compound if record is not None]
    if not known:
        return ["No size could be counted."]
    return [*_over_phi(known), *_by_way(study), *_advice(known)]


def _first_variant(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record.attention != BASELINE and record.status == DONE), None)


def _over_phi(known: Sequence[tuple[Size, Record]]) -> list[str]:
    (first, small), (last, large) = known[0], known[-1]
    label = "its own attention" if small.attention == NATIVE else small.label
    if len(known) == 1:
        return [f"At phi {first.phi:g} {label} adds {_shares(small)}."]
    parts = [f"from {_share(small, name)} to {_share(large, name)} in {word}" for name, word in _SHARES
             if _known(small, name) and _known(large, name)]
    return [f"From phi {first.phi:g} to {last.phi:g}, what {label} adds goes {joined(parts)}."]


def _by_way(study: Scaling) -> list[str]:
    alone = {way: study.of(way) for way in ALONE}
    if not all(alone.values()):
        return []
    phi = max(size.phi for size, _ in alone["depth"])
    words = []
    for way in (COMPOUND, *ALONE):
        record = next((_first_variant(records) for size, records in study.of(way) if size.phi == phi), None)
        if record is not None:
            words.append(f"{way if way == COMPOUND else f'{way} alone'} {_shares(record)}")
    return [f"At the MACs of phi {phi:g}, by the way in which the network grew, it adds: {'; '.join(words)}."]


def _advice(known: Sequence[tuple[Size, Record]]) -> list[str]:
    timed = [(size, record) for size, record in known if record.latency_overhead_low is not None]
    if len(timed) < 2:
        return ["Time was not measured at two sizes, so counts alone can't say whether attention gets cheaper: run it "
                "with --latency."]
    (first, small), (last, large) = timed[0], timed[-1]
    ends = (f"{_share(small, 'latency_overhead')} at phi {first.phi:g} against {_share(large, 'latency_overhead')} at "
            f"phi {last.phi:g}")
    low, high = large.latency_overhead_low, large.latency_overhead_high
    before_low, before_high = small.latency_overhead_low, small.latency_overhead_high
    assert low is not None and high is not None and before_low is not None and before_high is not None
    if high < before_low:
        return [f"Attention gets relatively cheaper in time as the network grows ({ends}): where it is too dear on a "
                "small one, it may pay on a larger one."]
    if low > before_high:
        return [f"Attention gets relatively dearer in time as the network grows ({ends}): weigh it again at each size."]
    return [f"Attention's share of time can't be told apart between sizes ({ends}): longer runs might (--seconds)."]


def _shares(record: Record) -> str:
    return joined([f"{_share(record, name)} {word}" for name, word in _SHARES if _known(record, name)])


def _known(record: Record, name: str) -> bool:
    """Whether a figure is there; a time without an interval says nothing."""
    return getattr(record, name) is not None and (name != LATENCY or record.latency_overhead_low is not None)


def _share(record: Record, name: str) -> str:
    if not _known(record, name):
        return NA
    if name != LATENCY:
        return percent(getattr(record, name))
    return percent_interval(record.latency_overhead, record.latency_overhead_low, record.latency_overhead_high)


def page(study: Scaling) -> Page:
    """The study as a page: findings, a table of sizes, a table of what attention adds in each, two figures."""
    from secost.pages.page import Page, Section

    formula = (f"alpha {study.alpha:g}, beta {study.beta:g}, gamma {study.gamma:g}: MACs grow by alpha x beta^2 x "
               f"gamma^2 = {study.growth:.3f} for each phi, in theory (the paper asks for about 2).")
    words = [formula, *_printed_words(study)]
    told = findings(study)
    return Page(
        "study-scaling", f"Compound scaling of {study.model}", told[0],
        (Section("found", "What was found", tuple([*told[1:], *study.notes]), ()),
         Section("sizes", "Sizes", tuple(words), (_size_table(study),)),
         Section("added", "What attention adds", (), (_added_table(study),))),
        tuple(_rows(study)), {
            "model": study.model, "alpha": study.alpha, "beta": study.beta, "gamma": study.gamma,
            "growth": study.growth, "findings": told, "notes": study.notes,
            "sizes": [{**dataclasses.asdict(size), "records": [record.to_dict() for record in records]}
                      for size, records in study.sizes],
        }, lambda: _drawings(study),
    )


def _printed(size: Size) -> PublishedAccuracy | None:
    """The paper's row of that size (arXiv:1905.11946, Table 2): millions of parameters and GMACs, as printed."""
    from secost.answers.published import published_accuracies

    if not size.published:
        return None
    return next(row for row in published_accuracies() if row.model == f"EfficientNet-B{size.phi:g}"
                and "1905.11946" in row.source and row.table.startswith("Table 2"))


def _printed_words(study: Scaling) -> list[str]:
    """Where the coefficients are from, and at which sizes the paper prints other MACs than are counted here."""
    known = [(size, row, own) for size, records in study.sizes
             if (row := _printed(size)) is not None and (own := _own(records)) is not None]
    if not known:
        return []
    words = ["Coefficients are the published ones of B0 to B7, rounded by hand in the paper's code: from B1 on they "
             "are smaller than alpha^phi, beta^phi and gamma^phi (B3 1.4, 1.2, 300 px for 1.73, 1.33, 341 px). With a "
             "fraction among the phi, or other coefficients, all sizes follow the formula."]
    others = [f"phi {size.phi:g} ({own.macs / 1e9:.2f}, printed {row.gmacs:g})" for size, row, own in known
              if own.macs is not None and row.gmacs is not None and not _as_printed(own.macs / 1e9, row.gmacs)]
    if others:
        words.append(f"GMACs differ from the paper's Table 2 at {joined(others)}. Parameters agree there, and counting "
                     "maps at fractional or floored sizes gives none of these figures; pycls (arXiv:2003.13678) prints "
                     "4.4 and 10.3 for B4 and B5, as counted here.")
    return words


def _as_printed(value: float, printed: float) -> bool:
    """Whether a value rounds to the printed digits, give or take one in the last: papers round either way."""
    decimals = len(f"{printed:g}".partition(".")[2])
    return bool(abs(value - printed) <= 10.0**-decimals)


def _own(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record.attention == NATIVE and record.status == DONE), None)


def _size_table(study: Scaling) -> Any:
    from secost.pages.page import Table

    rows = []
    for size, records in study.sizes:
        printed, own = _printed(size), _own(records)
        rows.append((f"{size.phi:g}", size.way, f"{size.depth:.3g}", f"{size.width:.3g}", str(size.resolution),
                     *_totals(records[0]), *(_totals(own) if own is not None else ("N/A", "N/A")),
                     f"{printed.params_m:g} M, {printed.gmacs:g}" if printed is not None else ""))
    heads = ("phi", "way", "depth", "width", "px", "parameters without", "GMACs without", "parameters as shipped",
             "GMACs as shipped", "printed")
    return Table.of("Sizes, without attention and as shipped", heads, tuple(rows), left=2)


def _totals(record: Record) -> tuple[str, str]:
    if record.params is None or record.macs is None:
        return "N/A", "N/A"
    return f"{record.params:,}", f"{record.macs / 1e9:.3f}"


def _added_table(study: Scaling) -> Any:
    from secost.pages.page import Table

    rows = tuple((f"{size.phi:g}", size.way, record.label, *(_share(record, name) for name, _ in _SHARES))
                 for size, record in _variants(study))
    return Table.of("Overhead over the same network without attention", ("phi", "way", "attention",
                     *(word for _, word in _SHARES)), rows, left=3)


def _variants(study: Scaling) -> Iterator[tuple[Size, Record]]:
    for size, records in study.sizes:
        for record in records:
            if record.attention != BASELINE and record.status == DONE:
                yield size, record


def _rows(study: Scaling) -> Iterator[dict[str, Any]]:
    for size, records in study.sizes:
        for record in records:
            yield {"way": size.way, "phi": size.phi, "depth": size.depth, "width": size.width,
                   "resolution": size.resolution, "attention": record.attention, "reduction": record.reduction,
                   "params": record.params, "macs": record.macs, "memory_bytes": record.memory_bytes,
                   "latency_ms": record.latency_ms, **{name: getattr(record, name) for name, _ in _SHARES},
                   "latency_overhead_low": record.latency_overhead_low,
                   "latency_overhead_high": record.latency_overhead_high}


def _drawings(study: Scaling) -> list[Any]:
    from secost.figures.drawing import panels

    curves: list[Callable[[Any], None]] = [_painter(study, name, word) for name, word in _SHARES
                                           if any(_known(r, name) for _, r in _variants(study))]
    return [panels("scaling", f"What attention adds as {study.model} grows",
                   "Overhead of attention against phi, a panel a currency. Networks of equal MACs that grew by one "
                   "dimension alone: x by depth, + by width, a three-pointed star by resolution.", curves)]


def _painter(study: Scaling, name: str, word: str) -> Callable[[Any], None]:
    def paint(axis: Any) -> None:
        from secost.figures.drawing import numbered_look

        for label in dict.fromkeys(record.label for _, record in _variants(study)):
            points = [(size, record) for size, record in _variants(study)
                      if record.label == label and _known(record, name)]
            curve = [(size.phi, record) for size, record in points if size.way == COMPOUND]
            look = numbered_look(list(dict.fromkeys(r.label for _, r in _variants(study))).index(label))
            axis.plot([phi for phi, _ in curve], [100 * getattr(r, name) for _, r in curve], color=look.color,
                      marker=look.marker, markersize=5, label="as shipped" if label == NATIVE else label)
            if name == "latency_overhead":
                for phi, r in curve:
                    if r.latency_overhead_low is not None and r.latency_overhead_high is not None:
                        axis.vlines(phi, 100 * r.latency_overhead_low, 100 * r.latency_overhead_high, color=look.color)
            alone = [(size, record) for size, record in points if size.way != COMPOUND]
            for size, record in alone:
                axis.plot([size.phi], [100 * getattr(record, name)], color=look.color, linestyle="none", markersize=5,
                          marker=_ALONE_MARKS[size.way], alpha=0.8)
        for way, mark in _ALONE_MARKS.items():
            if study.of(way) and name != LATENCY:
                axis.plot([], [], color="#555555", linestyle="none", marker=mark, markersize=5, label=f"{way} alone")
        axis.set_title(f"{word}, added in %", loc="left")
        axis.set_xlabel("phi")
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))

    return paint

"""What others published of networks with and without attention: accuracy, time overheads, the noise of a training.

`secost/data/published_accuracy.csv` holds figures only, as printed (top-1 accuracy in percent, millions of parameters,
GMACs), each with its source. `comparable` marks rows of one table and one recipe in which the same network stands with
and without attention; others are evidence of a level, never of a gain, and are not subtracted from anything. A row that
repeats a training of another table names it in `copied_from`: one training is one study, so no pair is made of it, or
across two studies. `metric` is what stands in `top1`: top1 itself, or map, the box AP of a detector; who asks for no
other metric gets top1. `line` names networks that differ in depth, width and resolution only: resnet50 and resnet101
are of one line, resnet50d is of another.

`era` is the recipe's. Modern: 300 epochs of ImageNet or more, or augmentation and regularisation beyond crop, flip,
colour and label smoothing (AutoAugment, RandAugment, mixup, CutMix, erasing, stochastic depth, EMA). Classical: the
rest, which is SGD in steps or along a cosine, for about 90 to 120 epochs and at most 270. On small data sets, where an
epoch is short, augmentation alone decides. A source that tells neither stands where its accuracies do.

`secost/data/seed_noise.csv` holds how far trainings fall apart that differ in their seed only.

`secost/data/published_latency.csv` holds figures only: from the papers of SENet, ECA-Net and PP-LCNet, the tables of
PaddleClas and, time an image, the inference tables of timm (both Apache-2.0), where both networks of a pair were run
with one setting (images a second are turned over). Pairs that are two architectures, or carry the attention at other
places than the rest, were left out, but for PP-LCNet's, whose places are what was asked. A missing cell was not told
by the source.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median

from secost.answers.groups import STANDARD_REDUCTION, Group, grouped
from secost.errors import UnknownNameError
from secost.runs.records import PUBLISHED, Gain, Record
from secost.tables import cells_of, rows_of, whole_number

_ACCURACIES, _COUNTS, _TIMES = "published_accuracy.csv", "own_counts.csv", "published_latency.csv"
_SEEDS = "seed_noise.csv"
IMAGENET = "ImageNet-1k"
CLASSICAL, MODERN = "classical", "modern"
TOP1, MAP = "top1", "map"
# Millions of parameters without attention, as printed or counted: what users call small, medium and large.
SIZES_M = (("small", 0.0, 10.0), ("medium", 10.0, 35.0), ("large", 35.0, float("inf")))
# One network under two libraries' names.
SAME_NET = {"mobilenet_v2": "mobilenetv2_100"}


# --- accuracy ---


@dataclass(frozen=True)
class PublishedAccuracy:
    """One network in one published table. `network` is the name secost loads it by, empty where it can't; `counted` is
    the one whose layers are the table's own (ResNets of 2017 have their stride on another convolution), empty where
    secost puts the attention elsewhere. `top1` is in percent, what `metric` says; `recipe` is empty where the table has
    one for all. `resolution` is that of the test, None where the table tells none (the network's usual one).

    `copied_from`: source and table whose training the row repeats, else empty. `binary_units`: printed are 2^20
    parameters and 2^30 MACs. `counts_differ`: why secost counts otherwise than was printed, where it does.
    """

    source: str
    table: str
    recipe: str
    dataset: str
    licence: str
    model: str
    network: str
    counted: str
    family: str
    attention: str
    reduction: int | None
    placement: str
    resolution: int | None
    top1: float
    params_m: float | None
    gmacs: float | None
    verified: bool
    comparable: bool
    note: str
    copied_from: str
    binary_units: bool
    counts_differ: str
    era: str
    metric: str
    line: str

    @property
    def citation(self) -> str:
        """`SENet arXiv:1709.01507v4 (TPAMI), Table 2 (...)`, with the recipe where the table has several."""
        return ", ".join(part for part in (self.source, self.table, self.recipe) if part)


@dataclass(frozen=True)
class OwnCount:
    """What secost counts for a published network, beside the printed figures; at 224 px."""

    params: int
    macs: int


@dataclass(frozen=True)
class PublishedGain:
    """One attention against none, from one table and recipe. `points` of top-1; negative where it lost."""

    base: PublishedAccuracy
    row: PublishedAccuracy

    @property
    def points(self) -> float:
        return round(self.row.top1 - self.base.top1, 3)

    @property
    def left_out(self) -> str:
        """Why this is no pair to count: a training of another table, or a baseline of another study; else empty."""
        if self.row.copied_from:
            return f"the same training as in {self.row.copied_from}"
        origin = self.base.copied_from
        return f"its baseline is that of {origin}" if origin and not origin.startswith(self.row.source) else ""

    @property
    def gain(self) -> Gain:
        row = self.row
        return Gain(row.network or row.model, row.attention, row.reduction, self.points, None, None, 1, PUBLISHED,
                    row.citation, None, None, row.top1, self.base.top1)


@dataclass(frozen=True)
class Reference:
    """What same-recipe pairs say where nobody published the network: a range, no prediction.

    `kind` is all, a family or a size; points of top-1 on ImageNet.
    """

    attention: str
    kind: str
    pairs: int
    median: float
    low: float
    high: float
    negative: int


@functools.cache
def published_accuracies() -> tuple[PublishedAccuracy, ...]:
    """Every published accuracy, in the file's order."""
    return rows_of(PublishedAccuracy, _ACCURACIES)


@functools.cache
def own_counts() -> dict[tuple[str, str, int | None], OwnCount]:
    """secost's own counts by (network, attention, reduction), made by `python -m tests.own_counts`."""
    return {(row["network"], row["attention"], whole_number(row["reduction"])):
            OwnCount(int(row["params"]), int(row["macs"])) for row in cells_of(_COUNTS)}


def published_gains(
    attention: Sequence[str] = (), family: str | None = None, reduction: int | None = None, metric: str = TOP1,
) -> list[PublishedGain]:
    """The gains of some attentions (all where none is named) in a family of networks, each within its own table.

    With `reduction` those at that r, or of tables that tell none. A variant of an attention (`se-var2`) is not that
    attention. What `left_out_pairs` has is not among them. Raises UnknownNameError for a name without figures.
    """
    return [pair for pair in _pairs(attention, family, reduction, metric) if not pair.left_out]


def left_out_pairs(
    attention: Sequence[str], family: str | None, reduction: int | None, metric: str = TOP1,
) -> list[PublishedGain]:
    """The pairs that are not counted; each tells why in `left_out`."""
    return [pair for pair in _pairs(attention, family, reduction, metric) if pair.left_out]


def scaling_rows(row: PublishedAccuracy) -> list[PublishedAccuracy]:
    """What else the time of `row`'s attention buys: its network deeper, wider or at another resolution, without it.

    Rows without attention of the same source, recipe (table, where that is empty), data set, metric and line, which
    secost loads, at another network or resolution than `row`'s: smaller ones too, each once.
    """
    def study(other: PublishedAccuracy) -> tuple[str, ...]:
        recipe = (other.recipe,) if other.recipe else ("", other.table)
        return (other.source, other.dataset, other.metric, other.line, *recipe)

    others = {(other.network, other.resolution): other for other in published_accuracies() if other.attention == "none"
              and other.network and row.line and study(other) == study(row)}
    return [other for place, other in others.items() if place != (row.network, row.resolution)]


def _pairs(attention: Sequence[str], family: str | None, reduction: int | None, metric: str) -> list[PublishedGain]:
    rows = [row for row in published_accuracies() if row.metric == metric]
    _check("attention with published figures", attention, {row.attention for row in rows})
    _check("family with published figures", [family] if family else [], {row.family for row in rows})
    gains = []
    for members in _tables(rows):
        base = next((row for row in members if row.attention == "none"), None)
        if base is None or (family is not None and base.family != family):
            continue
        chosen = [row for row in members if row.attention != "none" and (not attention or row.attention in attention)
                  and (reduction is None or row.reduction in (None, reduction))]
        gains += [PublishedGain(base, row) for row in chosen]
    return gains


def references(attention: str, gains: Iterable[PublishedGain] | None = None) -> list[Reference]:
    """Median and range over same-recipe ImageNet pairs of one attention: all, by family, by size.

    Under one baseline an attention counts once, at the standard r where it is among them, at one resolution.
    """
    gains = published_gains([attention]) if gains is None else gains
    whole = [pair for pair in gains if pair.row.dataset == IMAGENET and "only" not in pair.row.placement]
    pairs = trainings(sorted(whole, key=lambda pair: pair.row.reduction not in (None, STANDARD_REDUCTION)))
    groups: dict[str, list[float]] = {"all": [pair.points for pair in pairs]}
    for pair in pairs:
        groups.setdefault(f"family {pair.base.family}", []).append(pair.points)
    for pair in pairs:
        if size := _size(pair.base):
            groups.setdefault(f"size {size}", []).append(pair.points)
    return [Reference(attention, kind, len(points), round(median(points), 3), min(points), max(points),
                      sum(value < 0 for value in points)) for kind, points in groups.items() if points]


def own_count(row: PublishedAccuracy) -> OwnCount | None:
    """secost's count of the network in this row; None where it was not counted."""
    return own_counts().get((row.counted, row.attention, row.reduction))


def _tables(rows: Iterable[PublishedAccuracy]) -> list[list[PublishedAccuracy]]:
    """Comparable rows, by source, table, recipe, data set, network and resolution."""
    return list(grouped((row for row in rows if row.comparable), lambda row: (
        row.source, row.table, row.recipe, row.dataset, row.model, row.resolution)).values())


def trainings(gains: Iterable[PublishedGain]) -> list[PublishedGain]:
    """Each training once, in its first place, at however many resolutions it was tested."""
    once: dict[tuple[object, ...], PublishedGain] = {}
    for pair in gains:
        row = pair.row
        key = (row.source, row.recipe, row.model, row.attention, pair.base.top1 if not row.recipe else None)
        once.setdefault(key, pair)
    return list(once.values())


def _size(row: PublishedAccuracy) -> str | None:
    count = own_count(row)
    params_m = row.params_m if count is None else count.params / 1e6
    return None if params_m is None else next(name for name, low, high in SIZES_M if low <= params_m < high)


def _check(kind: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known - {"none"})


# --- the noise of a training ---


@dataclass(frozen=True)
class SeedNoise:
    """How far trainings fall apart that differ in their seed only: the standard deviation of top-1, in points.

    `where` is the place in the source; `verified` says that the figure was read there (in the copy `note` names), and
    not written down from memory.
    """

    source: str
    where: str
    dataset: str
    network: str
    era: str
    recipe: str
    seeds: int
    top1_mean: float | None
    top1_sd: float
    note: str
    verified: bool


@functools.cache
def seed_noise() -> tuple[SeedNoise, ...]:
    """Every published noise of a training, in the file's order."""
    return rows_of(SeedNoise, _SEEDS)


def training_sd(dataset: str, era: str) -> float | None:
    """The standard deviation of one training's top-1 in points, pooled over what is published of a data set and era.

    Variances weighed by their degrees of freedom, seeds - 1, so a study of 100 seeds counts as much as fifty of 3.
    None where nobody published it: another data set's noise is no substitute.
    """
    rows = [row for row in seed_noise() if (row.dataset, row.era) == (dataset, era)]
    freedom = sum(row.seeds - 1 for row in rows)
    return sqrt(sum((row.seeds - 1) * row.top1_sd**2 for row in rows) / freedom) if freedom else None


# --- time ---


@dataclass(frozen=True)
class PublishedTime:
    """One published overhead (a fraction of the time without attention), and what it was measured on."""

    model: str
    attention: str
    reduction: int | None
    placement: str
    resolution: int
    latency_overhead: float
    hardware: str
    precision: str | None
    memory_format: str | None
    backend: str | None
    torch: str | None
    batch: int | None
    source: str


@functools.cache
def published_times() -> tuple[PublishedTime, ...]:
    """Every published overhead, in the file's order."""
    return rows_of(PublishedTime, _TIMES)


def plain_name(model: str) -> str:
    """A model's name without its library and its weights' tag: `torchvision:resnet50` and `resnet50.a1_in1k` are
    `resnet50`. A file or module of the user's own is no known network, whatever its name: empty."""
    library, _, name = model.rpartition(":")
    if library not in ("", "timm", "torchvision"):
        return ""
    bare = name.split(".")[0] if "/" not in name else ""
    return SAME_NET.get(bare, bare)


def times_for(record: Record) -> list[PublishedTime]:
    """The overheads for a record's network, attention and placement, at the published resolution nearest to its own;
    those of its own r where there are some."""
    name = plain_name(record.model)
    asked = (name, record.attention, record.placement)
    alike = [row for row in published_times() if name and (row.model, row.attention, row.placement) == asked]
    if record.reduction is not None:
        alike = [row for row in alike if row.reduction in (None, record.reduction)] or alike
    if not alike or record.resolution is None:
        return []
    size = record.resolution
    nearest = min({row.resolution for row in alike}, key=lambda resolution: (abs(resolution - size), resolution))
    return [row for row in alike if row.resolution == nearest]


def times_of(groups: Sequence[Group]) -> list[PublishedTime]:
    """The overheads for all representatives of all comparisons, each once."""
    return list(dict.fromkeys(row for record in _comparable(groups) for row in times_for(record)))


def times_by_network(groups: Sequence[Group]) -> dict[tuple[str, str], list[PublishedTime]]:
    """The same apart for each model with one attention, by both names."""
    told: dict[tuple[str, str], dict[PublishedTime, None]] = {}
    for record in _comparable(groups):
        told.setdefault((record.model, record.attention), {}).update(dict.fromkeys(times_for(record)))
    return {names: list(rows) for names, rows in told.items() if rows}


def _comparable(groups: Sequence[Group]) -> list[Record]:
    """Where only some stages carry the attention nothing is comparable."""
    return [record for group in groups for record in group.representatives() if record.stages is None]

"""What a study or a search found, as plain data, kept in its run beside the records; a page is made from it alone.

Records of the run are referred to by key, maps and images are arrays with a document each. Fits, predictions and other
values whose last digits are the processor's are `rounded` when they are made, so that all that follows is the same
everywhere.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from secost.errors import RunError
from secost.plan.trials import BASELINE
from secost.runs.records import SCHEMA, Gain, Record, fits
from secost.statistics import Interval, mean_of, paired_difference

STUDY = "study "  # before the kind: the name of a result's document
COMPOUND, ALONE = "compound", ("depth", "width", "resolution")
REST, GATE, PRODUCT = GROUPS = ("rest", "gate", "product")
SHUT, OPEN = 0.05, 0.95  # gates beyond these are saturated
MIN_MAX, PERCENTILE = RANGES = ("min-max", "percentile")
_DIGITS = 9
_ARRAYS = ("<f4", "|u1")
_KINDS: dict[str, type[StudyResult]] = {}
Value = TypeVar("Value")


class StudyResult:
    """What one kind of study found: a dataclass of plain values, of records, and of arrays."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind, _KINDS[kind] = kind, cls


# --- scaling ---


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


@dataclass
class Scaling(StudyResult, kind="scaling"):
    """Each size with its records, the baseline first, and why a size lacks a latency."""

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


# --- occlusion ---


@dataclass(frozen=True)
class SiteGates:
    """One gate by depth; each figure with its interval over seeds.

    `spread` is a unit's standard deviation over images. `entropy_bits` is that of all values in 16 equal bins of 0 to 1
    (4 bits at most), `saturation` the share below 0.05 or above 0.95; both None where a value lies outside 0 to 1. One
    image has no `spread`.
    `specificity` is the share of a unit's variance that the image's class explains, corrected for chance (SENet
    sec. 7.2 asks for it by eye); None without classes. `untrained` is the same before training.
    """

    name: str
    kind: str
    units: int
    mean: Interval
    spread: Interval | None
    entropy_bits: Interval | None
    saturation: Interval | None
    specificity: Interval | None
    untrained: Interval | None


@dataclass(frozen=True)
class Shifts:
    """How far one gate moves where the occluder stands: (units, rows, columns), occluded minus unoccluded, the mean
    over images."""

    name: str
    kind: str
    values: np.ndarray


@dataclass(frozen=True)
class CueTest:
    """How much deeper the gates of the corner's readers fall with the corner covered than with another place covered.

    Negative values fall. `readers` are channels of the first seed, `correlation` theirs with the corner's presence;
    `pairs` are (untrained, trained), a seed each, and the rest follows from them.
    """

    name: str
    readers: tuple[int, ...]
    correlation: float
    pairs: tuple[tuple[float, float], ...]
    trained: Interval
    untrained: Interval
    difference: Interval

    @classmethod
    def of(cls, name: str, readers: tuple[int, ...], correlation: float,
           pairs: tuple[tuple[float, float], ...]) -> CueTest:
        trained, untrained = mean_of([pair[1] for pair in pairs]), mean_of([pair[0] for pair in pairs])
        return cls(name, readers, correlation, pairs, trained, untrained, paired_difference(pairs))


@dataclass(frozen=True)
class Detectors:
    """The channels of one site that read one cue, found by measurement (first seed), and their correlation with it."""

    name: str
    cue: str
    channels: tuple[int, ...]
    correlation: float


@dataclass
class Occlusion(StudyResult, kind="occlusion"):
    """`places` are the occluder's upper left corners, row by row; `image` is what is shown, (H, W, 3), 0 to 255."""

    model: str
    attention: str
    subject: str
    occluder_px: int
    stride_px: int
    rows: list[int]
    columns: list[int]
    image: np.ndarray
    sites: list[SiteGates] = field(default_factory=list)
    shifts: list[Shifts] = field(default_factory=list)
    cues: list[CueTest] = field(default_factory=list)
    detectors: list[Detectors] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    top1: Interval | None = None

    @property
    def places(self) -> list[tuple[int, int]]:
        return list(itertools.product(self.rows, self.columns))


# --- quantization ---


@dataclass(frozen=True)
class Rounded:
    """One trained network at so many bits. Ratios are 10 log10(signal / noise) in dB.

    `blocks_db` has one for each block's output, `sources_db` one for the output with a single group rounded (the same
    ranges); `gate_error` is the root mean square error of all gates' values, None without gates. `trained_top1` is the
    accuracy after quantisation-aware training, None where there was none.
    """

    placement: str
    seed: int
    bits: int
    ranges: str
    top1: float
    output_db: float
    blocks_db: dict[str, float]
    sources_db: dict[str, float]
    gate_error: float | None
    trained_top1: float | None = None


@dataclass(frozen=True)
class Full:
    """One trained network in full precision, and its accuracy as int8 of real backends, by name."""

    placement: str
    seed: int
    top1: float
    int8_top1: dict[str, float] = field(default_factory=dict)


@dataclass
class Quantization(StudyResult, kind="quantization"):
    """`latency` are the records of int8 on the real backends."""

    model: str
    attention: str
    dataset: str
    placements: tuple[str, ...]
    bits: tuple[int, ...]
    epochs: int
    qat_epochs: int
    full: list[Full] = field(default_factory=list)
    rounded: list[Rounded] = field(default_factory=list)
    latency: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def variants(self) -> tuple[str, ...]:
        return (BASELINE, *self.placements)

    def at(self, placement: str, bits: int, ranges: str) -> list[Rounded]:
        """The seeds of one cell, in order."""
        found = [row for row in self.rounded if (row.placement, row.bits, row.ranges) == (placement, bits, ranges)]
        return sorted(found, key=lambda row: row.seed)

    def full_top1(self, placement: str) -> list[float]:
        return [row.top1 for row in sorted(self.full, key=lambda row: row.seed) if row.placement == placement]


# --- search ---


@dataclass(frozen=True)
class LatencyModel:
    """`costs[group][option]` is an overhead (a fraction of the network's time without attention), 0 for none, and
    `first_use` what each kind adds once.

    `spread` is the root mean square of (predicted / measured - 1) over the networks of the fit, each left out once;
    `networks` is how many those were.
    """

    costs: tuple[tuple[float, ...], ...]
    first_use: dict[str, float]
    spread: float
    networks: int


@dataclass(frozen=True)
class Preference:
    """At one group of sites: the mean estimated accuracy of networks with spatial attention there, less that of those
    with channel attention there; and how often each is on the front."""

    stage: int
    sites: tuple[int, ...]
    spatial_over_channel: Interval
    on_front: dict[str, int]


@dataclass(frozen=True)
class SearchResult(StudyResult, kind="search"):
    """What follows from a search's records by a fit, a prediction or a statistic.

    `predicted` are overheads of the networks that test the table, by name; `shares` what each sampler's first n
    estimates cover of the whole. `believed` are (one-shot, alone) accuracies and `rank` is their rank correlation.
    """

    table: LatencyModel | None
    predicted: dict[str, float]
    shares: dict[str, list[float]]
    preferences: list[Preference]
    gains: list[Gain]
    baseline_top1: float | None
    believed: list[tuple[float, float]]
    rank: Interval | None


# --- as documents of a run ---


def rounded(value: Value) -> Value:
    """The same with its floats to nine significant digits, at any depth; records and arrays stay."""
    new: Any = value
    if isinstance(value, float):
        new = float(f"{value:.{_DIGITS}g}")
    elif is_dataclass(value) and not isinstance(value, Record | type):
        new = replace(value, **{item.name: rounded(getattr(value, item.name)) for item in fields(value)})
    elif isinstance(value, dict):
        new = {key: rounded(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        new = type(value)(map(rounded, value))
    result: Value = new
    return result


def documents_of(result: StudyResult) -> dict[str, Any]:
    """The result as JSON values by the names of their documents."""
    arrays: list[np.ndarray] = []
    name = f"{STUDY}{result.kind}"
    body = {"schema": SCHEMA, **_plain(result, arrays)}
    return {name: body, **{f"{name} {place}": {
        "dtype": array.dtype.str, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode(),
    } for place, array in enumerate(map(np.ascontiguousarray, arrays))}}


def result_in(documents: Mapping[str, Any], records: Mapping[str, Record]) -> StudyResult | None:
    """The result among a run's documents, None where there is none. Raises RunError for one that is not usable."""
    kind = next((kind for kind in _KINDS if STUDY + kind in documents), None)
    if kind is None:
        return None
    values = documents[STUDY + kind]
    try:
        if values["schema"] != SCHEMA:
            raise RunError(f"the run's study has schema {str(values['schema'])[:20]}, and this secost knows schema "
                           f"{SCHEMA}: it was written by another version, install that one")
        found: StudyResult = _built(_KINDS[kind], values, {
            Record: records.__getitem__, np.ndarray: lambda place: _array(documents[f"{STUDY}{kind} {place}"]),
        })
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunError(f"what the run's study found makes no sense ({type(error).__name__}: {error}): restore a copy "
                       "or run the study again") from error
    return found


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, Record):
        return value.key
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return len(arrays) - 1
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name), arrays) for item in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item, arrays) for key, item in value.items()}
    return [_plain(item, arrays) for item in value] if isinstance(value, list | tuple) else value


def _built(hint: Any, value: Any, kept: Mapping[Any, Any]) -> Any:
    """A value of the declared type out of JSON; records and arrays are had from what is kept, by their references."""
    if hint in kept:
        return kept[hint](value)
    if isinstance(hint, UnionType):  # of one type and None
        return None if value is None else _built(get_args(hint)[0], value, kept)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        make: Any = hint
        return make(**{item.name: _built(hints[item.name], value[item.name], kept) for item in fields(hint)
                       if item.name in value})
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is dict:
        return {key: _built(inside[1], item, kept) for key, item in value.items()}
    if kind is list or inside[1:] == (...,):
        return kind(_built(inside[0], item, kept) for item in value)
    if kind is tuple:
        return tuple(_built(part, item, kept) for part, item in zip(inside, value, strict=True))
    if not fits(value, hint):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _array(document: Mapping[str, Any]) -> np.ndarray:
    if document["dtype"] not in _ARRAYS:
        raise TypeError(f"{document['dtype']!r} is none of {_ARRAYS}")
    found: np.ndarray = np.frombuffer(base64.b64decode(document["data"]), document["dtype"])
    return found.reshape(document["shape"])

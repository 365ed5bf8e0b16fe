"""What was found, as plain data: one Record a trial, one Gain an evidence. They are what legs of the house exchange.

Field names are a contract (they are the columns of every JSON, CSV and Parquet file). A unit ends a name,
overheads are fractions of the baseline (0.031 is 3.1 %), and what is missing is None, never 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from secost.errors import RunError
from secost.plan.trials import BASELINE, Trial, variant_label

SCHEMA = 1
DONE, FAILED = "done", "failed"
PUBLISHED, FILE, TRAINED = "published", "file", "trained"


@dataclass
class Record:
    """One variant of one network at one setting: what it costs, and beside its baseline what it adds.

    With `alternative` it is no variant of the network but another one without attention, by that name, in its rounds.
    """

    model: str
    attention: str
    reduction: int | None
    placement: str
    integration: str
    stages: list[int] | None
    sites: int | None
    batch: int
    resolution: int | None
    backend: str
    precision: str
    device: str
    threads: int
    params: int | None = None
    macs: int | None = None
    other_ops: int | None = None
    activations: int | None = None
    memory_bytes: int | None = None
    kernels: int | None = None
    attention_params: int | None = None
    attention_macs: int | None = None
    params_overhead: float | None = None
    macs_overhead: float | None = None
    latency_ms: float | None = None
    latency_overhead: float | None = None
    latency_overhead_low: float | None = None
    latency_overhead_high: float | None = None
    latency_direct_ms: float | None = None
    rounds: int | None = None
    status: str = DONE
    error: str | None = None
    cautions: list[str] = field(default_factory=list)
    mac_convention: str | None = None
    unsupported_ops: dict[str, int] = field(default_factory=dict)
    memory_format: str = "contiguous"
    spelling: str | None = None
    processes: int | None = None
    images_per_s: float | None = None
    convert_s: float | None = None
    latency_floor_ms: float | None = None
    dataset: str | None = None
    seed: int | None = None
    epochs: int | None = None
    top1: float | None = None
    estimate: str | None = None
    estimated_top1: float | None = None
    estimated_overhead: float | None = None
    estimated_overhead_low: float | None = None
    estimated_overhead_high: float | None = None
    # Beyond the flat contract: what a report draws, and what every derived figure can be had from again.
    key: str = ""
    environment: str | None = None
    host: str | None = None  # another machine's name, where one worked; and the seconds since 1970 between which it did
    began_s: float | None = None
    ended_s: float | None = None
    memory_overhead: float | None = None
    kernels_overhead: float | None = None
    alternative: str | None = None
    by_stage: list[dict[str, Any]] = field(default_factory=list)
    by_site: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, Any] | None = None

    @property
    def trained(self) -> bool:
        """Whether this is the accuracy of one training (from one seed), and not a cost."""
        return self.dataset is not None

    @property
    def is_cost(self) -> bool:
        """Whether this is what a variant costs: neither a training nor a search's estimate."""
        return not self.trained and self.estimate is None

    @property
    def is_baseline(self) -> bool:
        """Whether this is the network itself, without attention."""
        return self.attention == BASELINE and self.alternative is None

    @property
    def label(self) -> str:
        """`se r=16`, `eca`, `none`; an alternative's name."""
        return self.alternative or variant_label(self.attention, self.reduction, self.spelling)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`; fields of a later secost are ignored."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    @classmethod
    def of_trial(cls, trial: Trial) -> Record:
        """A record with the trial's own words filled in and nothing measured yet."""
        values: dict[str, Any] = dict(vars(trial.setting))
        values["stages"] = None if trial.setting.stages is None else list(trial.setting.stages)
        if trial.training is not None:
            training = trial.training
            values |= {"dataset": training.on, "seed": training.seed, "epochs": training.epochs}
        return cls(attention=trial.attention, reduction=trial.reduction, sites=None, spelling=trial.spelling,
                   key=trial.key, estimate=trial.estimate, alternative=trial.alternative, **values)


_FIELD_TYPES = get_type_hints(Record)
FLAT_FIELDS = tuple(item.name for item in fields(Record))[: [item.name for item in fields(Record)].index("key")]


def overhead(value: float | None, baseline: float | None) -> float | None:
    """(value - baseline) / baseline, or None where either is missing or the baseline is 0."""
    if value is None or not baseline:
        return None
    return (value - baseline) / baseline


def document(records: list[Record], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON document of `--format json`: schema, environment, records."""
    return {"schema": SCHEMA, "environment": dict(environment), "records": [record.to_dict() for record in records]}


@dataclass(frozen=True)
class Gain:
    """Points of top-1 accuracy (percent) that an attention adds to one network, with the interval where there is one.

    It is plain data, whatever it comes from. One list of gains has one source: sources are never mixed. `pairs`
    counts what it comes from: published pairs, or seeds. `basis` says which (a citation, a file, a data set).
    What is None was not told and fits everything; but `stages` is None where all carry the attention, and the ends are
    None for fewer than two pairs. A published gain is of one `era` of recipes, and has an interval by what trainings
    differ by from seed to seed, and studies from one another. `borrowed`: nobody published this network, and the ends
    are those of one network more like the published ones; `next_low` and `next_high` say that beside the interval of a
    mean. With `alternative` it is no attention's, but what that network gains over this one.
    """

    model: str
    attention: str
    reduction: int | None
    points: float
    low: float | None
    high: float | None
    pairs: int
    source: str
    basis: str
    placement: str | None = None
    stages: tuple[int, ...] | None = None
    top1: float | None = None
    baseline_top1: float | None = None
    integration: str | None = None
    spelling: str | None = None
    era: str | None = None
    borrowed: bool = False
    next_low: float | None = None
    next_high: float | None = None
    alternative: str | None = None


# --- read again, from wherever it comes ---


def strict_json(text: str) -> Any:
    """The value of a JSON text that secost wrote. Raises RunError or ValueError where it is or holds anything else."""
    return json.loads(text, parse_float=_finite, parse_int=_whole, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RunError(f"{text[:20]} is no finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > 30:
        raise RunError(f"{text[:20]}... is no number that secost counts")
    return int(text)


def checked_record(values: Any) -> Record:
    """A record whose fields have the types that they are declared with: renderers compute with them."""
    if not isinstance(values, dict):
        raise RunError("it is not a JSON object")
    for name, hint in _FIELD_TYPES.items():
        if name in values and not fits(values[name], hint):
            raise RunError(f"its {name} is not {getattr(hint, '__name__', hint)}")
    return Record.from_dict(values)


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has a type as Record declares them: scalars, lists, dicts and unions of these."""
    if hint is Any:
        return True
    if isinstance(hint, UnionType):
        return any(fits(value, option) for option in get_args(hint))
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is list:
        return isinstance(value, list) and all(fits(item, inside[0]) for item in value)
    if kind is dict:
        return isinstance(value, dict) and all(fits(item, inside[1]) for item in value.values())
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)

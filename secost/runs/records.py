"""What was found, as plain data: one Record a trial. Records are what legs of the house exchange.

Field names are a contract (they are the columns of every JSON, CSV and Parquet file). A unit ends a name,
overheads are fractions of the baseline (0.031 is 3.1 %), and what is missing is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from secost.plan.trials import Trial, variant_label

SCHEMA = 1
DONE, FAILED = "done", "failed"


@dataclass
class Record:
    """One variant of one network at one setting: what it costs, and beside its baseline what it adds."""

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
    def label(self) -> str:
        """`se r=16`, `eca`, `none`."""
        return variant_label(self.attention, self.reduction, self.spelling)

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
        setting, training = trial.setting, trial.training
        return cls(
            model=setting.model, attention=trial.attention, reduction=trial.reduction,
            placement=setting.placement, integration=setting.integration,
            stages=None if setting.stages is None else list(setting.stages), sites=None,
            batch=setting.batch, resolution=setting.resolution, backend=setting.backend,
            precision=setting.precision, device=setting.device, threads=setting.threads,
            memory_format=setting.memory_format, spelling=trial.spelling, key=trial.key,
            dataset=training.dataset if training else None, seed=training.seed if training else None,
            epochs=training.epochs if training else None, estimate=trial.estimate,
        )


FLAT_FIELDS = tuple(item.name for item in fields(Record))[: [item.name for item in fields(Record)].index("key")]


def overhead(value: float | None, baseline: float | None) -> float | None:
    """(value - baseline) / baseline, or None where either is missing or the baseline is 0."""
    if value is None or not baseline:
        return None
    return (value - baseline) / baseline


def document(records: list[Record], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON document of `--format json`: schema, environment, records."""
    return {"schema": SCHEMA, "environment": dict(environment), "records": [record.to_dict() for record in records]}

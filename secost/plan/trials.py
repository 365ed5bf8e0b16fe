"""What a spec comes to, as plain data: settings, trials, trainings, comparisons.

A **comparison** is one network at one setting with all its variants, which are counted over one trace and
measured in the same rounds. A **trial** is one variant of one comparison: it becomes one record, and its
key, a hash of everything that decides the result, is what a run resumes by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from secost.plan.options import TOP, Stages, fields_of

BASELINE, NATIVE = "none", "native"


# What a grid has where nothing else is asked for: one value of each.
_USUAL: Mapping[str, Any] = {name: option.default for name, option in fields_of(TOP).items()}


@dataclass(frozen=True)
class Setting:
    """One network under one set of conditions: what all variants of a comparison share."""

    model: str
    placement: str = _USUAL["placement"][0]
    integration: str = _USUAL["integration"][0]
    stages: Stages = _USUAL["stages"][0]
    batch: int = _USUAL["batch"][0]
    resolution: int | None = _USUAL["resolution"][0]
    backend: str = _USUAL["backend"][0]
    precision: str = _USUAL["precision"][0]
    device: str = _USUAL["device"][0]
    threads: int = _USUAL["threads"][0]
    memory_format: str = _USUAL["memory_format"][0]

    @property
    def label(self) -> str:
        """The setting in a few words, for progress lines and figure titles."""
        stages = "" if self.stages is None else f" stages {','.join(map(str, self.stages))}"
        where = f"{self.resolution} px" if self.resolution else "own input"
        return f"{self.model} at {where}, {self.placement}{stages}"


@dataclass(frozen=True)
class Training:
    """One training: what on, from which seed, and how. What decides the result, and nothing else."""

    dataset: str
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    augment: bool
    deterministic: bool
    amp: bool


@dataclass(frozen=True)
class Trial:
    """One variant at one setting. `reduction` is None for an attention that has none.

    `spelling` is one way of several to write the same attention, None for secost's own. With `training` the variant is
    trained once and its accuracy measured; without, its cost is. `estimate` names the sampler of a search that asked
    for it: then accuracy and latency are estimated, and neither trained nor measured.
    """

    setting: Setting
    attention: str
    reduction: int | None = None
    latency: bool = True
    spelling: str | None = None
    training: Training | None = None
    estimate: str | None = None

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over the trial's canonical JSON."""
        values = asdict(self)
        # What came after the first release stands in the key only where it was asked for, so that old runs resume.
        for name in ("spelling", "training", "estimate"):
            if values[name] is None:
                del values[name]
        if self.setting.memory_format == Setting.memory_format:
            del values["setting"]["memory_format"]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        return variant_label(self.attention, self.reduction, self.spelling)


@dataclass(frozen=True)
class Comparison:
    """All trials of one setting, the baseline first."""

    setting: Setting
    trials: tuple[Trial, ...]


def variant_label(attention: str, reduction: int | None, spelling: str | None = None) -> str:
    """`se r=16`, or the attention's name alone where it has no reduction; a spelling follows in brackets."""
    name = attention if reduction is None else f"{attention} r={reduction}"
    return name if spelling is None else f"{name} ({spelling})"

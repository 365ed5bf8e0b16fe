"""What is asked for, as plain data: a spec (a grid), its comparisons, and their trials.

A **comparison** is one network at one setting with all its variants, which are counted over one trace and
measured in the same rounds. A **trial** is one variant of one comparison: it becomes one record, and its
key, a hash of everything that decides the result, is what a run resumes by.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from secost.errors import BadSpecError, UnknownNameError, nearest

PLACEMENTS = ("auto", "residual", "depthwise", "depthwise-pre", "stage", "conv")
INTEGRATIONS = ("standard", "pre", "post", "identity")
PRECISIONS = ("fp32", "bf16", "int8")
MEMORY_FORMATS = ("contiguous", "channels-last")
ALLOCATORS = ("steady", "default")
BASELINE, NATIVE = "none", "native"
DEFAULT_REDUCTIONS = (2, 4, 8, 16, 32)
ALL_STAGES = "all"
PER_SITE, PER_STAGE = "site", "stage"
DEFAULT_SPELLING, ALL_SPELLINGS = "default", "all"

Stages = tuple[int, ...] | None


@dataclass(frozen=True)
class Setting:
    """One network under one set of conditions: what all variants of a comparison share."""

    model: str
    placement: str = "auto"
    integration: str = "standard"
    stages: Stages = None
    batch: int = 1
    resolution: int | None = 224
    backend: str = "eager"
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    memory_format: str = "contiguous"

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
class TrainSpec:
    """How the variants of a spec are trained: `seeds` times each, from paired seeds.

    `data` is the folder where the data set lies, for those that do not ship with a package.
    """

    dataset: str = "digits"
    seeds: int = 5
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.05
    augment: bool = True
    deterministic: bool = False
    amp: bool = False
    data: str = ""

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise BadSpecError(f"{name} {getattr(self, name)} is not possible: it must be 1 or more")
        if not 0 < self.learning_rate < 100:
            raise BadSpecError(f"learning_rate {self.learning_rate} is not possible: it must be more than 0")

    def training(self, seed: int) -> Training:
        """The training from one seed."""
        return Training(
            self.dataset, seed, self.epochs, self.batch_size, self.learning_rate, self.augment, self.deterministic,
            self.amp,
        )

    @classmethod
    def from_dict(cls, values: Any) -> TrainSpec:
        """From plain values. Raises BadSpecError for an unknown key, or a value of the wrong kind."""
        if isinstance(values, TrainSpec):
            return values
        if not isinstance(values, Mapping):
            raise BadSpecError(f"train = {values!r} is no table: write [train] and its keys below it")
        kinds = {item.name: type(item.default) for item in fields(cls)}
        for key in values:
            if key not in kinds:
                raise UnknownNameError("key in [train]", str(key), kinds)
        return cls(**{key: _of_kind(f"train.{key}", kinds[key], value) for key, value in values.items()})


@dataclass(frozen=True)
class SearchSpec:
    """A search over which attention sits where: its space, its budget and what it may spend.

    `per` tells what changes together, a site or a stage. `trials` is how many networks the sampler may have judged;
    `epochs` trains the one-shot network. `calibrate` whole networks correct the table of latencies, `check` others test
    it. So many `finalists` are measured and trained alone. All points are judged where they are no more than
    `exhaustive`. Limits are fractions of the network without attention, None where there is none.
    """

    per: str = PER_SITE
    sampler: str = "nsga2"
    trials: int = 200
    population: int = 8
    epochs: int = 60
    calibrate: int = 16
    check: int = 20
    finalists: int = 4
    exhaustive: int = 1500
    max_latency: float | None = None
    max_params: float | None = None
    max_macs: float | None = None

    def __post_init__(self) -> None:
        _check_choices("per", (self.per,), (PER_SITE, PER_STAGE))
        for name in ("trials", "epochs", "finalists"):
            if getattr(self, name) < 1:
                raise BadSpecError(f"{name} {getattr(self, name)} is not possible: it must be 1 or more")
        for name, least in (("population", 2), ("calibrate", 3), ("check", 0), ("exhaustive", 0)):
            if getattr(self, name) < least:
                raise BadSpecError(f"{name} {getattr(self, name)} is not possible: it must be {least} or more")
        if not self.limits:
            raise BadSpecError("a search needs a budget: give --max-latency 3%, --max-params 5% or --max-macs 1%")
        for name, value in self.limits.items():
            if not value >= 0:
                raise BadSpecError(f"max_{name} {value} is not possible: it must be 0 or more")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that there are, by the name of what they limit."""
        given = {"latency": self.max_latency, "params": self.max_params, "macs": self.max_macs}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> SearchSpec:
        """From plain values. Raises BadSpecError for an unknown key, or a value of the wrong kind."""
        if isinstance(values, SearchSpec):
            return values
        if not isinstance(values, Mapping):
            raise BadSpecError(f"search = {values!r} is no table: write [search] and its keys below it")
        kinds = {item.name: float if item.default is None else type(item.default) for item in fields(cls)}
        for key in values:
            if key not in kinds:
                raise UnknownNameError("key in [search]", str(key), kinds)
        given = {key: value for key, value in values.items() if value is not None}
        return cls(**{key: _of_kind(f"search.{key}", kinds[key], value) for key, value in given.items()})


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


@dataclass(frozen=True)
class Spec:
    """A grid over models, variants and settings, and how long to measure.

    Every field down to `spelling` is a tuple of values to try. `seconds` limits the rounds of one comparison;
    `target` is the half-width (a fraction) at which they may end earlier. `processes` is the number of processes
    that share the rounds (0: chosen by the time there is). `allocator` is steady (freed memory is kept) or default
    (as the system does it). `calibration` is a folder of images, or `path.py:function` giving a batch, for int8.
    """

    models: tuple[str, ...]
    attention: tuple[str, ...] = ("se",)
    reductions: tuple[int, ...] = DEFAULT_REDUCTIONS
    placement: tuple[str, ...] = ("auto",)
    integration: tuple[str, ...] = ("standard",)
    stages: tuple[Stages, ...] = (None,)
    resolution: tuple[int | None, ...] = (224,)
    batch: tuple[int, ...] = (1,)
    backend: tuple[str, ...] = ("eager",)
    precision: tuple[str, ...] = ("fp32",)
    device: tuple[str, ...] = ("cpu",)
    threads: tuple[int, ...] = (1,)
    memory_format: tuple[str, ...] = ("contiguous",)
    spelling: tuple[str, ...] = (DEFAULT_SPELLING,)
    latency: bool = True
    seconds: float = 20.0
    target: float = 0.01
    seed: int = 0
    allow_download: bool = False
    processes: int = 0
    allocator: str = "steady"
    calibration: str = ""
    cuda_graphs: bool = False
    train: TrainSpec | None = None
    search: SearchSpec | None = None

    def __post_init__(self) -> None:
        _check(self)

    def comparisons(
        self, reducible: Mapping[str, bool], spellings: Mapping[str, Sequence[str]] | None = None
    ) -> list[Comparison]:
        """The grid, spelled out. `reducible` tells for each attention whether it has a reduction ratio.

        `spellings` names the ways in which an attention can be written; one without an entry has none but its own.
        """
        axes: tuple[tuple[Any, ...], ...] = (
            self.models, self.placement, self.integration, self.stages, self.batch,
            self.resolution, self.backend, self.precision, self.device, self.threads, self.memory_format,
        )
        variants = self._variants(reducible, spellings or {})
        found = []
        for values in itertools.product(*axes):
            setting = Setting(*values)
            found.append(
                Comparison(setting, tuple(Trial(setting, name, r, self.latency, way) for name, r, way in variants))
            )
        return found

    def trainings(self, comparison: Comparison) -> list[Trial]:
        """The trainings of a comparison's variants: seed by seed, so that pairs are complete early."""
        if self.train is None:
            return []
        return [
            replace(trial, latency=False, training=self.train.training(seed))
            for seed in range(self.train.seeds) for trial in comparison.trials
        ]

    def _variants(
        self, reducible: Mapping[str, bool], spellings: Mapping[str, Sequence[str]]
    ) -> list[tuple[str, int | None, str | None]]:
        variants: list[tuple[str, int | None, str | None]] = [(BASELINE, None, None)]
        if NATIVE in self.attention:
            variants.append((NATIVE, None, None))
        for name in self.attention:
            if name in (BASELINE, NATIVE):
                continue
            ratios = self.reductions if reducible[name] else (None,)
            variants += [(name, r, way) for r in ratios for way in self._ways(spellings.get(name, ()))]
        return list(dict.fromkeys(variants))

    def _ways(self, known: Sequence[str]) -> list[str | None]:
        """The spellings asked for, of those an attention has; its own (None) stands for the default."""
        if ALL_SPELLINGS in self.spelling:
            return [None, *known]
        return [None if way == DEFAULT_SPELLING else way for way in self.spelling if way in (DEFAULT_SPELLING, *known)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Spec.from_dict` reads them back."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        """A spec from plain values: a single value where a list may stand is taken for a list of one.

        A key means the same in the singular and in the plural. Raises BadSpecError for an unknown key (naming
        the nearest), a value of the wrong kind, and everything `_check` looks at.
        """
        known = {_singular(field.name): field.name for field in fields(cls)}
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = known.get(_singular(key))
            if name is None:
                near = nearest(key, [field.name for field in fields(cls)])
                hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known.values())}"
                raise BadSpecError(f"unknown key {key!r} in the spec: {hint}")
            if name in found:
                raise BadSpecError(f"the spec gives {name!r} twice, in the singular and in the plural: keep one")
            found[name] = _read_field(name, value)
        if "models" not in found:
            raise BadSpecError("the spec names no model: add models = [\"resnet50\"]")
        return cls(**found)

    @classmethod
    def from_toml(cls, path: str | Path) -> Spec:
        """A spec from a TOML file. Syntax errors are reported with their line and column."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise BadSpecError(f"can't read the spec {str(path)!r}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise BadSpecError(f"the spec {str(path)!r} is not UTF-8 text (byte {error.start})") from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadSpecError(f"the spec {str(path)!r} is not TOML: {_placed(error, text)}") from None
        return cls.from_dict(values)

    def difference(self, other: Spec) -> str | None:
        """The first key in which another spec differs, with both values; None where they are equal."""
        return _difference(self.to_dict(), other.to_dict())

    def with_changes(self, **changes: Any) -> Spec:
        """The same spec with some fields given anew, checked again."""
        return replace(self, **{name: _read_field(name, value) for name, value in changes.items()})


def variant_label(attention: str, reduction: int | None, spelling: str | None = None) -> str:
    """`se r=16`, or the attention's name alone where it has no reduction; a spelling follows in brackets."""
    name = attention if reduction is None else f"{attention} r={reduction}"
    return name if spelling is None else f"{name} ({spelling})"


_SCALARS = {
    "latency": bool, "seconds": float, "target": float, "seed": int, "allow_download": bool, "processes": int,
    "allocator": str, "calibration": str, "cuda_graphs": bool,
}
_KIND_NAMES = {bool: "true or false", str: "a text"}
_INTEGER_LISTS = ("reductions", "batch", "threads")


def _placed(error: tomllib.TOMLDecodeError, text: str) -> str:
    """The decoder's message, with a line and a column where it only says that the text ended too early."""
    lines = text.splitlines() or [""]
    return str(error).replace("at end of document", f"at line {len(lines)}, column {len(lines[-1]) + 1}")


def _singular(key: str) -> str:
    return key.replace("-", "_").removesuffix("s")


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], above: str = "") -> str | None:
    for name, value in mine.items():
        other = theirs[name]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if (found := _difference(value, other, f"{name}.")) is not None:
                return found
        elif value != other:
            return f"{above + name!r} was {value} and is now {other}"
    return None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _read_field(name: str, value: Any) -> Any:
    if name == "train":
        return None if value is None else TrainSpec.from_dict(value)
    if name == "search":
        return None if value is None else SearchSpec.from_dict(value)
    if name in _SCALARS:
        return _of_kind(name, _SCALARS[name], value)
    if name == "stages":
        return _read_stages(value)
    items = list(value) if isinstance(value, list | tuple) else [value]
    if name in _INTEGER_LISTS or name == "resolution":
        return tuple(_read_integer(name, item) for item in items)
    for item in items:
        if not isinstance(item, str):
            raise BadSpecError(f"{name} = {item!r} is not a text: write it in quotes")
    return tuple(items)


def _of_kind(name: str, kind: type, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadSpecError(f"{name} = {value!r} is not {_KIND_NAMES.get(kind, 'a number')}")
    return value


def _read_integer(name: str, value: Any) -> int | None:
    if value is None and name == "resolution":
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadSpecError(f"{name} {value!r} is not a whole number")
    return value


def _read_stages(value: Any) -> tuple[Stages, ...]:
    """`"all"`, `[3, 4]` (one selection) or `[[4], [3, 4], "all"]` (several)."""
    if value is None or value == ALL_STAGES:
        return (None,)
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, list | tuple):
        raise BadSpecError(f"stages = {value!r}: expected a list such as [3, 4] or \"all\"")
    if value and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        return (tuple(sorted(set(value))),)
    selections: list[Stages] = []
    for item in value:
        selections += _read_stages(item) if item is None or isinstance(item, str | list | tuple) else _bad_stage(item)
    return tuple(selections)


def _bad_stage(item: Any) -> list[Stages]:
    raise BadSpecError(f"stages: {item!r} is not a whole number, a list of them or \"all\"")


def _check(spec: Spec) -> None:
    for field in fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, tuple) and not value:
            raise BadSpecError(f"{field.name} is an empty list: give at least one value")
    _check_choices("placement", spec.placement, PLACEMENTS)
    _check_choices("integration", spec.integration, INTEGRATIONS)
    _check_choices("precision", spec.precision, PRECISIONS)
    _check_choices("memory_format", spec.memory_format, MEMORY_FORMATS)
    _check_choices("allocator", (spec.allocator,), ALLOCATORS)
    for r in spec.reductions:
        if r < 1:
            raise BadSpecError(f"reduction {r} is not possible: it divides the channels, so it must be 1 or more")
    for name in ("batch", "resolution", "threads"):
        for value in getattr(spec, name):
            if value is not None and value < 1:
                raise BadSpecError(f"{name} {value} is not possible: it must be 1 or more")
    for selection in spec.stages:
        if selection is not None and (not selection or min(selection) < 1):
            raise BadSpecError(f"stages {list(selection)}: stages are counted from 1")
    if spec.processes < 0:
        raise BadSpecError(f"processes {spec.processes} is not possible: give 1 or more, or 0 to have it chosen")
    if not 0 < spec.seconds < math.inf:
        raise BadSpecError(f"seconds {spec.seconds} is not possible: it must be more than 0, and an end")
    if not 0 < spec.target < 1:
        raise BadSpecError(f"target {spec.target} is not possible: it is a fraction, 0.01 for 1 %")


def _check_choices(kind: str, values: Sequence[str], choices: Sequence[str]) -> None:
    for value in values:
        if value not in choices:
            raise UnknownNameError(kind, value, choices)

"""What is asked for, as plain data: a grid over networks, variants and settings, how to train and what to search for.

Fields, their defaults and what they may hold are the rows of `options`; trials are in `trials`.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from secost.errors import BadSpecError, UnknownNameError, nearest
from secost.plan.alternatives import AUTO, NO_ALTERNATIVES, alternatives_of, check_alternatives
from secost.plan.options import (
    ALL_SPELLINGS,
    DEFAULT_SPELLING,
    SEARCH,
    TOP,
    TRAIN,
    Stages,
    check,
    fields_of,
    read,
    usual,
)
from secost.plan.trials import BASELINE, NATIVE, Comparison, Setting, Training, Trial
from secost.sequential import LEAST_SPREAD, USUAL_MOST, half_width, pairs_for

_top, _train, _search = partial(usual, TOP), partial(usual, TRAIN), partial(usual, SEARCH)


class _Table:
    """What stands below a heading of TOML."""

    heading: ClassVar[str]

    def __post_init__(self) -> None:
        check(self.heading, vars(self))

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """From plain values. Raises BadSpecError for an unknown key, or a value of the wrong kind."""
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise BadSpecError(f"{cls.heading} = {values!r} is no table: write [{cls.heading}] and its keys below it")
        known, found = fields_of(cls.heading), dict[str, Any]()
        for key, value in values.items():
            if key not in known:
                raise UnknownNameError(f"key in [{cls.heading}]", str(key), known)
            if value is not None or known[key].default is not None:  # None is what is not asked for
                found[key] = read(known[key], value, f"{cls.heading}.{key}")
        return cls(**found)


@dataclass(frozen=True)
class TrainSpec(_Table):
    """How the variants of a spec are trained: `seeds` times each, from paired seeds; with `until` more often, up to
    `max_seeds` times, until every gain is told from none or known to so many points.

    `train_device` is where it is not the device of the times: who deploys on a processor may train on a GPU.
    `amp` is None for a device's usual way: bfloat16 where torch allows it on cuda, fp32 elsewhere. `data` is the folder
    where the data set lies, for those that do not ship with a package. `fraction` or
    `train_images` is the part of its training set that is trained on, all where neither is given.
    """

    heading = TRAIN
    dataset: str = _train("dataset")
    fraction: float | None = _train("fraction")
    train_images: int | None = _train("train_images")
    seeds: int = _train("seeds")
    until: float | None = _train("until")
    max_seeds: int | None = _train("max_seeds")
    epochs: int = _train("epochs")
    batch_size: int = _train("batch_size")
    learning_rate: float = _train("learning_rate")
    augment: bool = _train("augment")
    deterministic: bool = _train("deterministic")
    train_device: str | None = _train("train_device")
    amp: bool | None = _train("amp")
    data: str = _train("data")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fraction is not None and self.train_images is not None:
            raise BadSpecError(f"fraction {self.fraction:g} and train_images {self.train_images} both say how much to "
                               "train on: keep one")
        if self.max_seeds is not None and self.until is None:
            raise BadSpecError(f"max_seeds {self.max_seeds} is not possible: it goes with --until, else give --seeds")
        if self.until is not None:
            self._check_reach(self.until)

    @property
    def most_seeds(self) -> int:
        """Of each variant."""
        if self.until is None:
            return self.seeds
        return max(self.seeds, USUAL_MOST) if self.max_seeds is None else self.max_seeds

    def _check_reach(self, until: float) -> None:
        if self.most_seeds < self.seeds:
            raise BadSpecError(f"max_seeds {self.max_seeds} is not possible: {self.seeds} seeds are trained in any "
                               "case, give at least that, or fewer --seeds")
        least = half_width(self.most_seeds, LEAST_SPREAD)
        if until < least:
            needed = pairs_for(until, LEAST_SPREAD)
            more = f", or --max-seeds {needed}" if needed else ""
            raise BadSpecError(
                f"until {until:g} is not possible: seeds differ by {LEAST_SPREAD:g} points at least, so "
                f"{self.most_seeds} tell no less than {least:.2g} points; give --until "
                f"{math.ceil(100 * least) / 100:g}{more}"
            )

    def training(self, seed: int) -> Training:
        """The training from one seed."""
        return Training(
            self.dataset, seed, self.epochs, self.batch_size, self.learning_rate, self.augment, self.deterministic,
            bool(self.amp), self.fraction, self.train_images,
        )


@dataclass(frozen=True)
class SearchSpec(_Table):
    """A search over which attention sits where: its space, its budget and what it may spend.

    `per` tells what changes together, a site or a stage. `trials` is how many networks the sampler may have judged;
    `epochs` trains the one-shot network. `calibrate` whole networks correct the table of latencies, `check` others test
    it. So many `finalists` are measured and trained alone. All points are judged where they are no more than
    `exhaustive`. Limits are fractions of the network without attention, None where there is none.
    """

    heading = SEARCH
    per: str = _search("per")
    sampler: str = _search("sampler")
    trials: int = _search("trials")
    population: int = _search("population")
    epochs: int = _search("epochs")
    calibrate: int = _search("calibrate")
    check: int = _search("check")
    finalists: int = _search("finalists")
    exhaustive: int = _search("exhaustive")
    max_latency: float | None = _search("max_latency")
    max_params: float | None = _search("max_params")
    max_macs: float | None = _search("max_macs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.limits:
            raise BadSpecError("a search needs a budget: give --max-latency 3%, --max-params 5% or --max-macs 1%")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that there are, by the name of what they limit."""
        given = {"latency": self.max_latency, "params": self.max_params, "macs": self.max_macs}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Spec:
    """A grid over models, variants and settings, and how long to measure.

    Every field down to `spelling` is a tuple of values to try. `seconds` limits the rounds of one comparison;
    `target` is the half-width (a fraction) at which they may end earlier. `processes` is the number of processes
    that share the rounds (0: chosen by the time there is). `allocator` is steady (freed memory is kept) or default
    (as the system does it). `calibration` is a folder of images, or `path.py:function` giving a batch, for int8.
    """

    models: tuple[str, ...]
    attention: tuple[str, ...] = _top("attention")
    reductions: tuple[int, ...] = _top("reductions")
    placement: tuple[str, ...] = _top("placement")
    integration: tuple[str, ...] = _top("integration")
    stages: tuple[Stages, ...] = _top("stages")
    resolution: tuple[int | None, ...] = _top("resolution")
    batch: tuple[int, ...] = _top("batch")
    backend: tuple[str, ...] = _top("backend")
    precision: tuple[str, ...] = _top("precision")
    device: tuple[str, ...] = _top("device")
    threads: tuple[int, ...] = _top("threads")
    memory_format: tuple[str, ...] = _top("memory_format")
    spelling: tuple[str, ...] = _top("spelling")
    alternatives: tuple[str, ...] = _top("alternatives")
    latency: bool = _top("latency")
    seconds: float = _top("seconds")
    target: float = _top("target")
    seed: int = _top("seed")
    allow_download: bool = _top("allow_download")
    processes: int = _top("processes")
    allocator: str = _top("allocator")
    calibration: str = _top("calibration")
    cuda_graphs: bool = _top("cuda_graphs")
    train: TrainSpec | None = None
    search: SearchSpec | None = None

    def __post_init__(self) -> None:
        check(TOP, {name: getattr(self, name) for name in fields_of(TOP)})
        for selection in self.stages:
            if selection is not None and (not selection or min(selection) < 1):
                raise BadSpecError(f"stages {list(selection)}: stages are counted from 1")
        check_alternatives(self.alternatives, self.models)
        if self.train is not None and self.train.amp is None:  # a GPU's usual way; a processor's is fp32
            devices = {self.train.train_device or device for device in self.device}
            object.__setattr__(self, TRAIN, replace(self.train, amp=devices == {"cuda"}))

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
        return [Comparison(setting, (*(Trial(setting, name, r, self.latency, way) for name, r, way in variants),
                                     *self._beside(setting)))
                for setting in itertools.starmap(Setting, itertools.product(*axes))]

    def _beside(self, setting: Setting) -> list[Trial]:
        """The alternatives in one comparison; the published ones only where something is measured."""
        trained = self.train is not None
        names = self.alternatives if self.latency or trained or AUTO not in self.alternatives else (NO_ALTERNATIVES,)
        return [Trial(setting, BASELINE, latency=self.latency, alternative=name)
                for name in alternatives_of(names, setting.model, setting.resolution, trained)]

    def trained_on(self, setting: Setting) -> str:
        """The device of the trainings of a comparison."""
        return (self.train and self.train.train_device) or setting.device

    def trainings(self, comparison: Comparison) -> list[Trial]:
        """The trainings of a comparison's variants: seed by seed, so that pairs are complete early."""
        seeds = 0 if self.train is None else self.train.seeds
        return [trial for seed in range(seeds) for trial in self.trainings_of(comparison, seed)]

    def trainings_of(self, comparison: Comparison, seed: int) -> list[Trial]:
        """Those from one seed."""
        assert self.train is not None
        training = self.train.training(seed)
        return [replace(trial, latency=False, training=training) for trial in comparison.trials]

    def _variants(
        self, reducible: Mapping[str, bool], spellings: Mapping[str, Sequence[str]]
    ) -> list[tuple[str, int | None, str | None]]:
        shipped = [NATIVE] if NATIVE in self.attention else []
        variants: list[tuple[str, int | None, str | None]] = [(name, None, None) for name in (BASELINE, *shipped)]
        for name in self.attention:
            if name not in (BASELINE, NATIVE):
                ratios = self.reductions if reducible[name] else (None,)
                variants += [(name, r, way) for r in ratios for way in self._ways(spellings.get(name, ()))]
        return list(dict.fromkeys(variants))

    def _ways(self, known: Sequence[str]) -> list[str | None]:
        """The spellings asked for, of those an attention has; its own (None) stands for the default."""
        if ALL_SPELLINGS in self.spelling:
            return [None, *known]
        return [None if way == DEFAULT_SPELLING else way for way in self.spelling if way in (DEFAULT_SPELLING, *known)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Spec.from_dict` reads them back. Of a training, what is not asked for is left out, and so
        are alternatives, as in specs from before there were any."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        if self.alternatives == Spec.alternatives:
            del values["alternatives"]
        if self.train is not None:
            values[TRAIN] = {name: value for name, value in values[TRAIN].items() if value is not None}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        """A spec from plain values: a single value where a list may stand is taken for a list of one.

        A key means the same in the singular and in the plural. Raises BadSpecError for an unknown key (naming
        the nearest), a value of the wrong kind, and one that `options` does not allow.
        """
        known = {_singular(field.name): field.name for field in fields(cls)}
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = known.get(_singular(key))
            if name is None:
                near = nearest(key, list(known.values()))
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
        except tomllib.TOMLDecodeError as error:  # which may only say that the text ended too early
            lines = text.splitlines() or [""]
            why = str(error).replace("at end of document", f"at line {len(lines)}, column {len(lines[-1]) + 1}")
            raise BadSpecError(f"the spec {str(path)!r} is not TOML: {why}") from None
        return cls.from_dict(values)

    def difference(self, other: Spec) -> str | None:
        """The first key in which another spec differs, with both values; None where they are equal."""
        return _difference(self.to_dict(), other.to_dict())

    def difference_in_run(self, begun: Spec) -> str | None:
        """What keeps a run that was begun with another spec from going on with this one; None where nothing does.

        The usual alternatives may be added to a run that has none. With `until` seeds may be added, to a run of fixed
        ones too, and its limits changed: the intervals allow for it. Without, more seeds after a look would not be what
        an interval promises.
        """
        mine, theirs = self.train, begun.train
        if mine is not None and theirs is not None and mine.until is not None:
            looked = replace(theirs, seeds=mine.seeds, until=mine.until, max_seeds=mine.max_seeds)
            begun = replace(begun, train=looked)
        if AUTO in self.alternatives and begun.alternatives == Spec.alternatives:
            begun = replace(begun, alternatives=self.alternatives)  # begun before there were any
        return begun.difference(self)

    def with_changes(self, **changes: Any) -> Spec:
        """The same spec with some fields given anew, checked again."""
        return replace(self, **{name: _read_field(name, value) for name, value in changes.items()})


def _read_field(name: str, value: Any) -> Any:
    if name not in (TRAIN, SEARCH):
        return read(fields_of(TOP)[name], value, name)
    return None if value is None else (TrainSpec if name == TRAIN else SearchSpec).from_dict(value)


def _singular(key: str) -> str:
    return key.replace("-", "_").removesuffix("s")


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], above: str = "") -> str | None:
    for name in dict.fromkeys((*mine, *theirs)):
        value, other = mine.get(name), theirs.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if (differing := _difference(value, other, f"{name}.")) is not None:
                return differing
        elif value != other:
            return f"{above + name!r} was {value} and is now {other}"
    return None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

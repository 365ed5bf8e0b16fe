"""What a spec comes to, as plain data: settings, trials, trainings, comparisons, and the Plan of them all.

A **comparison** is one network at one setting with all its variants, which are counted over one trace and
measured in the same rounds. A **trial** is one variant of one comparison: it becomes one record, and its
key, a hash of everything that decides the result, is what a run resumes by. The **Plan** is made once (by
`work.run.make_plan`) and handed down to all who carry it out or tell of it: it knows its trials in order, what is done,
and how many seconds the rest takes. Who carries it out tells a Listener.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from secost.plan.options import TOP, Stages, fields_of

if TYPE_CHECKING:
    from secost.plan.spec import Spec
    from secost.runs.records import Record

BASELINE, NATIVE = "none", "native"
# What a grid has where nothing else is asked for: one value of each.
_USUAL: Mapping[str, Any] = {name: option.default for name, option in fields_of(TOP).items()}
# Rough, for a small machine: loading and counting a network of ResNet-50's size, an epoch of digits on a network of the
# `small` family, a network judged by a search's one-shot network. A progress bar corrects them by what it sees.
_COUNTING_S, _EPOCH_S, _ESTIMATE_S = 3.0, 1.0, 0.1
_ALTERNATIVE_SHARE = 0.5


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
    """One training: what on, from which seed, and how. What decides the result, and nothing else.

    A checkpoint's identity is the text of a training, so what came later is not in it, but where it was asked for.
    """

    dataset: str
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    augment: bool
    deterministic: bool
    amp: bool
    fraction: float | None = field(default=None, repr=False)
    train_images: int | None = field(default=None, repr=False)

    @property
    def part(self) -> str:
        """How much of the training set, in words; nothing where it is all."""
        if self.train_images is not None:
            return f"{self.train_images} images"
        return "" if self.fraction is None else f"{100 * self.fraction:g} %"

    @property
    def on(self) -> str:
        """`digits`, `digits (500 images)`."""
        return f"{self.dataset} ({self.part})" if self.part else self.dataset


@dataclass(frozen=True)
class Trial:
    """One variant at one setting. `reduction` is None for an attention that has none.

    `spelling` is one way of several to write the same attention, None for secost's own. With `training` the variant is
    trained once and its accuracy measured; without, its cost is. `estimate` names the sampler of a search that asked
    for it: then accuracy and latency are estimated, and neither trained nor measured. `alternative` is what the same
    time could buy elsewhere, by name: that network without attention (see `plan.alternatives`).
    """

    setting: Setting
    attention: str
    reduction: int | None = None
    latency: bool = True
    spelling: str | None = None
    training: Training | None = None
    estimate: str | None = None
    alternative: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether this is the network itself, without attention."""
        return self.attention == BASELINE and self.alternative is None

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over the trial's canonical JSON."""
        values = asdict(self)
        # What came after the first release stands in the key only where it was asked for, so that old runs resume.
        for name in ("spelling", "training", "estimate", "alternative"):
            if values[name] is None:
                del values[name]
        for name in ("fraction", "train_images"):
            if self.training is not None and values["training"][name] is None:
                del values["training"][name]
        if self.setting.memory_format == Setting.memory_format:
            del values["setting"]["memory_format"]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        return self.alternative or variant_label(self.attention, self.reduction, self.spelling)


@dataclass(frozen=True)
class Comparison:
    """All trials of one setting, the baseline first, alternatives last."""

    setting: Setting
    trials: tuple[Trial, ...]


def rounds_s(seconds: float, trials: Sequence[Trial]) -> float:
    """The time limit of the rounds of one comparison, of `seconds` for its variants: an alternative, which takes longer
    than they do, adds half of that, so that their intervals stay as narrow."""
    return seconds * (1 + _ALTERNATIVE_SHARE * sum(trial.alternative is not None for trial in trials))


def variant_label(attention: str, reduction: int | None, spelling: str | None = None) -> str:
    """`se r=16`, or the attention's name alone where it has no reduction; a spelling follows in brackets."""
    name = attention if reduction is None else f"{attention} r={reduction}"
    return name if spelling is None else f"{name} ({spelling})"


@dataclass(frozen=True)
class Plan:
    """`comparisons` in their order; `left_out` is what of the grid no backend has, `notes` what else is to be told.

    `done` holds the keys of the trials that a run has already.
    """

    spec: Spec
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    done: frozenset[str] = frozenset()

    def having(self, done: Iterable[str]) -> Plan:
        """The same plan, beside what a run has."""
        return replace(self, done=frozenset(done))

    @property
    def trainings(self) -> list[Trial]:
        return [trial for comparison in self.comparisons for trial in self.spec.trainings(comparison)]

    @property
    def keys(self) -> list[str]:
        """Of costs, then of trainings, each in the order of the comparisons: as a run lists its records."""
        costs = [trial for comparison in self.comparisons for trial in comparison.trials]
        return [trial.key for trial in (*costs, *self.trainings)]

    def lacking(self, trials: Iterable[Trial]) -> list[Trial]:
        return [trial for trial in trials if trial.key not in self.done]

    @property
    def to_measure(self) -> Iterator[Comparison]:
        """What is left of the costs.

        The baseline is measured again beside what is left: a ratio needs both in the same rounds.
        """
        for comparison in self.comparisons:
            left = self.lacking(comparison.trials)
            if left:
                trials = (trial for trial in comparison.trials if trial in left or trial.is_baseline)
                yield replace(comparison, trials=tuple(trials))

    # --- how long -----------------------------------------------------------------------------------------------------

    @property
    def costs_s(self) -> float:
        """Seconds that what is left of the costs takes."""
        return sum(self.seconds_of(comparison.trials) for comparison in self.to_measure)

    @property
    def seconds(self) -> float:
        """Seconds that all that is left takes: costs, trainings, and a search's steps."""
        return self.costs_s + self.seconds_of(self.lacking(self.trainings)) + self._search_s

    def seconds_of(self, trials: Sequence[Trial]) -> float:
        """Seconds for trials of one comparison: its rounds are shared, its trainings and estimates are one by one."""
        epochs = sum(trial.training.epochs for trial in trials if trial.training is not None)
        estimates = sum(trial.estimate is not None for trial in trials)
        measured = any(trial.training is None and trial.estimate is None for trial in trials)
        return epochs * _EPOCH_S + estimates * _ESTIMATE_S + measured * self._comparison_s(trials)

    def share_of(self, record: Record, comparison: Comparison | None) -> float:
        """The seconds that one record of a comparison stands for."""
        if record.estimate is not None or comparison is None:
            return _ESTIMATE_S
        return self.seconds_of(comparison.trials) / len(comparison.trials)

    def _comparison_s(self, trials: Sequence[Trial]) -> float:
        return _COUNTING_S + (rounds_s(self.spec.seconds, trials) if self.spec.latency else 0.0)

    @property
    def _search_s(self) -> float:
        """Whole networks measured twice (for the table, and at the end), the one-shot network trained, the networks of
        the sampler and of a random draw judged, finalists trained."""
        search, train = self.spec.search, self.spec.train
        if search is None or train is None:
            return 0.0
        epochs = search.epochs + search.finalists * train.seeds * train.epochs
        judged = len(self.done.difference(self.keys))
        return 2 * self._comparison_s(()) + epochs * _EPOCH_S + max(0, 2 * search.trials - judged) * _ESTIMATE_S

    # --- in words -----------------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """What the dry run says: what is left out, the variants of each comparison that are left, the sum."""
        lines = [f"left out: {text}" for text in self.left_out]
        for comparison in self.comparisons:
            left = [trial.label for trial in self.lacking(comparison.trials)]
            done = len(comparison.trials) - len(left)
            lines.append(f"{comparison.setting.label}: {', '.join(left) or 'nothing left'}"
                         f"{f' ({done} done)' if done else ''}")
        trials = sum(len(comparison.trials) for comparison in self.comparisons)
        return [*lines, f"{trials} trials in {len(self.comparisons)} comparisons, {len(self.done)} done, "
                f"about {self.costs_s:.0f} s left"]

    def told(self) -> list[str]:
        """What the user should hear before it is carried out."""
        return [*self.notes, *([f"left out, as {' and '.join(self.left_out)}"] if self.left_out else [])]


@dataclass
class Listener:
    """What a caller hears while a plan is carried out. Every default does nothing."""

    on_plan: Callable[[Plan], object] = lambda plan: None
    on_comparison: Callable[[Comparison, int], object] = lambda comparison, trials: None
    on_share: Callable[[float], object] = lambda share: None
    on_record: Callable[[Record], object] = lambda record: None
    on_note: Callable[[str], object] = lambda text: None

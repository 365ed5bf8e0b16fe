"""The Plan: what a spec comes to, made once (by `work.planning`) and handed down to all who carry it out or tell of it.

It knows its trials in order, what is done, and how many seconds the rest takes: the dry run and every progress bar ask
it. Who carries it out tells a Listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, Comparison, Trial

if TYPE_CHECKING:
    from secost.runs.records import Record

# Rough, for a small machine: loading and counting a network of ResNet-50's size, an epoch of digits on a network of the
# `small` family, a network judged by a search's one-shot network. A progress bar corrects them by what it sees.
_COUNTING_S, _EPOCH_S, _ESTIMATE_S = 3.0, 1.0, 0.1


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
                trials = (trial for trial in comparison.trials if trial in left or trial.attention == BASELINE)
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
        return epochs * _EPOCH_S + estimates * _ESTIMATE_S + measured * self._comparison_s

    def share_of(self, record: Record, comparison: Comparison | None) -> float:
        """The seconds that one record of a comparison stands for."""
        if record.estimate is not None or comparison is None:
            return _ESTIMATE_S
        return self.seconds_of(comparison.trials) / len(comparison.trials)

    @property
    def _comparison_s(self) -> float:
        return _COUNTING_S + (self.spec.seconds if self.spec.latency else 0.0)

    @property
    def _search_s(self) -> float:
        """Whole networks measured twice (for the table, and at the end), the one-shot network trained, the networks of
        the sampler and of a random draw judged, finalists trained."""
        search, train = self.spec.search, self.spec.train
        if search is None or train is None:
            return 0.0
        epochs = search.epochs + search.finalists * train.seeds * train.epochs
        judged = len(self.done.difference(self.keys))
        return 2 * self._comparison_s + epochs * _EPOCH_S + max(0, 2 * search.trials - judged) * _ESTIMATE_S

    # --- in words -----------------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """What the dry run says: what is left out, the variants of each comparison that are left, the sum."""
        trials = sum(len(comparison.trials) for comparison in self.comparisons)
        return [
            *(f"left out: {text}" for text in self.left_out),
            *map(self._line, self.comparisons),
            f"{trials} trials in {len(self.comparisons)} comparisons, {len(self.done)} done, "
            f"about {self.costs_s:.0f} s left",
        ]

    def _line(self, comparison: Comparison) -> str:
        left = [trial.label for trial in self.lacking(comparison.trials)]
        done = len(comparison.trials) - len(left)
        return f"{comparison.setting.label}: {', '.join(left) or 'nothing left'}{f' ({done} done)' if done else ''}"

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

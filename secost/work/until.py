"""Adds paired seeds to the trainings of one setting until its gains are told, by the rule of `secost.sequential`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import stdev

from secost.plan.spec import Spec
from secost.plan.trials import Comparison, Listener, Plan, Trial
from secost.runs.records import DONE, Record
from secost.runs.store import RunStore
from secost.sequential import looked_difference, pairs_for, told
from secost.statistics import Interval

Pairs = Sequence[tuple[float, float]]


def add_seeds(
    comparison: Comparison, plan: Plan, store: RunStore, listener: Listener,
    carry_out: Callable[[Sequence[Trial]], None],
) -> None:
    """Train all variants from one more seed, and again, up to the most that were asked for; `carry_out` trains what of
    some trainings the run lacks. A variant of which no pair of seeds came to anything is not waited for."""
    train = plan.spec.train
    if train is None or train.until is None:
        return
    where = f"{comparison.setting.label}: " if len(plan.comparisons) > 1 else ""
    for seed in range(train.seeds, train.most_seeds + 1):
        pairs = pairs_so_far(comparison, plan.spec, store.records())
        gains = {label: looked_difference(mine) for label, mine in pairs.items()}
        left = {label: gain for label, gain in gains.items() if not told(gain, train.until)}
        if not left:
            return
        count = max(map(len, pairs.values()))
        if seed == train.most_seeds:
            listener.on_note(f"{where}not told after {count} seeds: {_words(left)}{_advice(left, pairs, train.until)}")
            return
        trials = plan.spec.trainings_of(comparison, seed)
        done = store.done_keys()
        if any(trial.key not in done for trial in trials):
            listener.on_note(f"{where}after {count} seeds not told yet: {_words(left)}")
            more = plan.spec.with_changes(train=replace(train, seeds=seed + 1))
            listener.on_plan(replace(plan, spec=more, comparisons=(comparison,), done=frozenset(done)))
        store.plan_more(trial.key for trial in trials)
        carry_out(trials)


def pairs_so_far(comparison: Comparison, spec: Spec, records: Sequence[Record]) -> dict[str, list[tuple[float, float]]]:
    """By variant the accuracies without and with attention of every seed from which both were trained."""
    assert spec.train is not None
    top1 = {record.key: record.top1 for record in records if record.status == DONE and record.top1 is not None}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for seed in range(sum(record.trained for record in records)):  # no more than there are trainings
        trials = spec.trainings_of(comparison, seed)
        base = next((top1.get(trial.key) for trial in trials if trial.is_baseline), None)
        for trial in trials:
            mine = top1.get(trial.key)
            if not trial.is_baseline and base is not None and mine is not None:
                pairs.setdefault(trial.label, []).append((base, mine))
    return pairs


def _words(gains: Mapping[str, Interval]) -> str:
    """`se r=4 +0.17 ± 0.40 points`."""
    return ", ".join(f"{label} {gain.estimate:+.2f} ± {gain.half_width:.2f} points" if gain.low is not None else label
                     for label, gain in gains.items())


def _advice(left: Mapping[str, Interval], pairs: Mapping[str, Pairs], until: float) -> str:
    """How many seeds it takes by the spread of those that were seen."""
    needed = [pairs_for(until, spread_of(pairs[label])) for label in left]
    known = [count for count in needed if count is not None]
    if len(known) < len(needed):
        return f"; seeds differ too much for {until:g} points, ask for less"
    return f"; give --max-seeds {max(known)}"


def spread_of(pairs: Pairs) -> float:
    """The standard deviation of the differences."""
    return stdev(second - first for first, second in pairs) if len(pairs) > 1 else 0.0

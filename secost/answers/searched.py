"""What a search found, read from its run's records: estimates by sampler, fronts, finalists, and how far to believe it.

Nothing here is measured or trained. Accuracies are in percent, overheads fractions of the network without attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, variance

import pandas as pd

from secost.answers.evidence import trained_gains
from secost.answers.groups import Group, group_records, pareto_front
from secost.answers.predicted import fit_latency, predict
from secost.errors import BadSpecError, RunError
from secost.plan.spec import SearchSpec, Spec
from secost.plan.trials import BASELINE, NATIVE
from secost.plan.variants import Point, Space, choice_label, for_sites, is_mix, make_space
from secost.runs.records import DONE, Gain, Record
from secost.runs.study import LatencyModel, Preference, SearchResult, StudyResult, rounded
from secost.statistics import Interval

SPATIAL, CHANNEL, BOTH = "spatial", "channel", "both"
_KINDS = {**dict.fromkeys(("se", "ese", "eca", "srm", "gc", "ge"), CHANNEL), "spatial": SPATIAL}
RANDOM, EXHAUSTIVE = "random draw", "all points"
WITHIN = 0.15  # of a measured overhead: so near is a good prediction
_FIELDS = {"latency": "estimated_overhead_high", "params": "params_overhead", "macs": "macs_overhead"}
_MEASURED_FIELDS = {**_FIELDS, "latency": "latency_overhead_high"}


def excesses(record: Record, limits: Mapping[str, float], measured: bool = False) -> dict[str, float]:
    """What a record is above each limit (below 0: under it); time at the upper end of its interval.

    Of a network whose figure is not known, nothing can be allowed: infinity.
    """
    values = {name: getattr(record, (_MEASURED_FIELDS if measured else _FIELDS)[name]) for name in limits}
    return {name: math.inf if value is None else value - limits[name] for name, value in values.items()}


def allowed(record: Record, limits: Mapping[str, float], measured: bool = False) -> bool:
    """Whether a record holds all limits; the network without attention always does."""
    return record.attention == BASELINE or all(value <= 0 for value in excesses(record, limits, measured).values())


def front(records: Iterable[Record]) -> list[Record]:
    """Estimates that none beats, by rising overhead: more accuracy for more time. Of equal ones the first."""
    return pareto_front(records, lambda record: (record.estimated_overhead or 0.0, -(record.estimated_top1 or 0.0)),
                        ties=False)


def hypervolume(points: Iterable[tuple[float, float]], overhead: float, top1: float) -> float:
    """The area that (top1, overhead) points cover, from an overhead (the most) and an accuracy (the least) on."""
    best, area = top1, 0.0
    for mine, cost in sorted(points, key=lambda point: (point[1], -point[0])):
        if cost <= overhead and mine > best:
            area += (overhead - cost) * (mine - best)
            best = mine
    return area


@dataclass(frozen=True)
class Finalist:
    """A network that was measured whole and trained alone. `estimate` is what the search thought of it, if it did."""

    record: Record
    gain: Gain | None
    estimate: Record | None
    allowed: bool

    @property
    def name(self) -> str:
        return self.record.label

    @property
    def top1(self) -> float | None:
        return None if self.gain is None else self.gain.top1


@dataclass(frozen=True)
class Searched:
    """The records of a search's run, and what follows from them: as it was kept, or made now where nothing was."""

    spec: Spec
    records: tuple[Record, ...]
    kept: SearchResult | None = None

    @property
    def asked(self) -> SearchSpec:
        assert self.spec.search is not None
        return self.spec.search

    @cached_property
    def group(self) -> Group:
        """Costs of whole networks: none, each option at all sites, mixes."""
        groups = group_records(self.records)
        if not groups:
            raise RunError("the run holds no costs yet: run the same command again to go on")
        return groups[0]

    @cached_property
    def uniform(self) -> list[Record]:
        """One option at all sites each, finished ones."""
        return [record for record in self.group.variants if not is_mix(record.attention)]

    @cached_property
    def mixes(self) -> dict[str, Record]:
        """Whole networks of the space that were measured, by name."""
        return {record.attention: record for record in self.group.variants if is_mix(record.attention)}

    @cached_property
    def space(self) -> Space:
        """The choices that were asked for at the sites that there are."""
        asked = [(record.attention, record.reduction) for record in self.records
                 if record.is_cost and not is_mix(record.attention) and record.attention not in (BASELINE, NATIVE)]
        return make_space(self.stages, asked, self.asked.per)

    @cached_property
    def stages(self) -> list[int]:
        """The stage of each site, read off the first network that has attention at all of them."""
        whole = next((record for record in self.uniform if record.by_site), None)
        if whole is None:
            raise RunError("no network with attention at all sites could be counted: see the records' reasons")
        return [int(row["stage"]) for row in whole.by_site]

    @cached_property
    def calibrating(self) -> list[Point]:
        """The points whose networks are measured to correct the table of latencies."""
        return self.space.balanced(self.asked.calibrate, self.spec.seed)

    @cached_property
    def checking(self) -> list[Point]:
        """Other points, whose networks are measured to test the table."""
        return self.space.drawn(self.asked.check, self.spec.seed + 1, self.calibrating)

    @cached_property
    def fitted(self) -> LatencyModel | None:
        """The table of latencies as it follows from the records, None where no time was measured."""
        mixes = [self.mixes[name] for point in self.calibrating if (name := self.space.name(point)) in self.mixes]
        try:
            return fit_latency(self.space, self.uniform, mixes)
        except BadSpecError:
            return None

    @cached_property
    def result(self) -> SearchResult:
        """Fits, predictions and statistics: what was kept at the search's end, or else made of the records."""
        if self.kept is not None:
            return self.kept
        believed = self._believed(gains := trained_gains(self.records))
        tested = [name for point in self.checking if (name := self.space.name(point)) in self.mixes
                  and self.mixes[name].latency_overhead is not None]
        return rounded(SearchResult(
            self.fitted, {} if self.fitted is None else {
                name: predict(self.fitted, self.space, self.space.point(name)).estimate for name in tested},
            {name: self._shares(name) for name in (self.asked.sampler, RANDOM, EXHAUSTIVE)}, self._preferences(), gains,
            self._baseline_top1, believed, rank_correlation(believed),
        ))

    @property
    def checks(self) -> list[tuple[float, Record]]:
        """Predicted overhead and record of each network that was measured to test the table, and not to make it."""
        return [(predicted, self.mixes[name]) for name, predicted in self.result.predicted.items()]

    def estimates(self, sampler: str) -> list[Record]:
        """What one sampler had judged, in its order."""
        return [record for record in self.records if record.estimate == sampler and record.status == DONE]

    @cached_property
    def estimated(self) -> dict[str, Record]:
        """Every network that was judged, by name."""
        return {record.attention: record for record in self.records if record.estimate is not None}

    def allowed_estimates(self, sampler: str) -> list[Record]:
        return [record for record in self.estimates(sampler) if allowed(record, self.asked.limits)]

    def best(self, records: Sequence[Record]) -> list[Record]:
        """By estimated accuracy, then by loss, then by time."""
        return sorted(records, key=lambda item: (-(item.estimated_top1 or 0.0), (item.samples or {}).get("loss", 0.0),
                                                 item.estimated_overhead or 0.0))

    def to_finish(self) -> list[Record]:
        """The estimates that are worth measuring and training: the sampler's best within the budget, first of all those
        on its front, and random search's best."""
        mine = [record for record in self.allowed_estimates(self.asked.sampler) if not self._is_plain(record)]
        on_front = self.best(front(mine))
        ranked = [*on_front, *(record for record in self.best(mine) if record not in on_front)]
        drawn = [record for record in self.best(self.allowed_estimates(RANDOM)) if not self._is_plain(record)]
        return list({record.attention: record for record in [*ranked[: self.asked.finalists], *drawn[:1]]}.values())

    def _is_plain(self, record: Record) -> bool:
        """Whether it has the same at all sites: such networks are measured and trained in any case."""
        return len(set(self.space.point(record.attention))) == 1

    @cached_property
    def finalists(self) -> list[Finalist]:
        """Everything that was measured whole and trained alone, none first."""
        gains = {(gain.attention, gain.reduction): gain for gain in self.result.gains}
        return [Finalist(record, gain, self._estimate_of(record), allowed(record, self.asked.limits, measured=True))
                for record in self.group.records if record.status == DONE
                and (gain := gains.get((record.attention, record.reduction))) is not None]

    def _estimate_of(self, record: Record) -> Record | None:
        if is_mix(record.attention):
            return self.estimated.get(record.attention)
        point = self.space.uniform((record.attention, record.reduction))
        return None if point is None else self.estimated.get(self.space.name(point))

    @property
    def _baseline_top1(self) -> float | None:
        """The mean accuracy of the network without attention, trained alone."""
        bare = [record.top1 for record in self.records
                if record.trained and record.attention == BASELINE and record.top1 is not None]
        return mean(bare) if bare else None

    @cached_property
    def chosen(self) -> Finalist | None:
        """The finalist of the sampler or of one choice everywhere with the largest gain within the budget; None where
        no network with attention holds it."""
        return max((item for item in self.finalists if item.allowed and item.gain is not None),
                   key=lambda item: item.gain.points if item.gain else -math.inf, default=None)

    def _kind_at(self, name: str, group: int) -> str:
        """What the attention of a mix at one group of sites weighs: channels, places, or both; none weighs nothing."""
        attention = self.space.options[group][self.space.point(name)[group]][0]
        return BASELINE if attention == BASELINE else _KINDS.get(attention, BOTH)

    def labels(self, record: Record) -> list[str]:
        """What a network has at each site: `se r=4`, `none`."""
        if not is_mix(record.attention):
            return [record.label] * len(self.stages)
        return [choice_label(choice) for choice in for_sites(record.attention, len(self.stages))]

    def _believed(self, gains: Sequence[Gain]) -> list[tuple[float, float]]:
        """(one-shot, alone) accuracies of every network that has both, none among them."""
        alone = {(gain.attention, gain.reduction): gain.top1 for gain in gains}
        pairs = [(estimate.estimated_top1, alone[record.attention, record.reduction]) for record in self.group.records
                 if record.status == DONE and (record.attention, record.reduction) in alone
                 and (estimate := self._estimate_of(record)) is not None]
        bare = self.estimated.get(self.space.name((0,) * len(self.space.groups)))
        if bare is not None and self._baseline_top1 is not None:
            pairs.append((bare.estimated_top1, self._baseline_top1))
        return [(first, second) for first, second in pairs if first is not None and second is not None]

    def _shares(self, sampler: str) -> list[float]:
        """The hypervolume that a sampler's first n estimates cover, for each n, as a part of what all points cover (of
        all that was judged, where not every point was)."""
        everything = self.allowed_estimates(EXHAUSTIVE) or [record for record in self.estimated.values()
                                                            if allowed(record, self.asked.limits)]
        corner = self._corner()
        whole = hypervolume(map(_place, everything), *corner)
        seen: list[tuple[float, float]] = []
        found = []
        for record in self.estimates(sampler):
            if allowed(record, self.asked.limits):
                seen.append(_place(record))
            found.append(hypervolume(seen, *corner) / whole if whole else 1.0)
        return found

    def _corner(self) -> tuple[float, float]:
        """From where hypervolumes are taken: the budget's time (the most, where there is none) and the least accuracy
        of all that was judged."""
        judged = self.estimated.values()
        most = max((record.estimated_overhead or 0.0 for record in judged), default=0.0)
        return (self.asked.limits.get("latency", most),
                min((record.estimated_top1 or 0.0 for record in judged), default=0.0))

    def _preferences(self) -> list[Preference]:
        """What sits where, by an even sample of the space: all its points, or the random draw. Empty where the space
        lacks one of the two kinds."""
        sample = self.estimates(EXHAUSTIVE) or self.estimates(RANDOM)
        best = front(self.allowed_estimates(EXHAUSTIVE) or self.allowed_estimates(self.asked.sampler))
        rows = []
        for number, group in enumerate(self.space.groups):
            by_kind: dict[str, list[float]] = {SPATIAL: [], CHANNEL: []}
            for record in sample:
                kind = self._kind_at(record.attention, number)
                if kind in by_kind:
                    by_kind[kind].append(record.estimated_top1 or 0.0)
            if min(map(len, by_kind.values())) < 2:
                return []
            names = [self._kind_at(record.attention, number) for record in best]
            rows.append(Preference(
                self.stages[group[0]], group, _difference(by_kind[CHANNEL], by_kind[SPATIAL]),
                {name: names.count(name) for name in (SPATIAL, CHANNEL, BOTH, BASELINE)},
            ))
        return rows


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    """Spearman's, with Fisher's interval (Bonett and Wright 2000: variance 1.06 / (n - 3)); None where ranks lack."""
    frame = pd.DataFrame(pairs, columns=["first", "second"]).rank()
    if len(frame) < 4 or frame["first"].nunique() < 2 or frame["second"].nunique() < 2:
        return None
    value = float(frame["first"].corr(frame["second"]))
    if abs(value) > 0.9999:
        return Interval(value, value, value)
    half = 1.96 * math.sqrt(1.06 / (len(frame) - 3))
    return Interval(value, math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half))


def _difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """mean(second) - mean(first) of independent samples, with the normal 95 % interval."""
    middle = mean(second) - mean(first)
    half = 1.96 * math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    return Interval(middle, middle - half, middle + half)


def read_search(records: Sequence[Record], spec: Spec, kept: StudyResult | None = None) -> Searched:
    """The search in a run, with what was kept of it. Raises BadSpecError for a run without one."""
    if spec.search is None:
        raise BadSpecError("this run holds no search: make one with secost search MODEL")
    return Searched(spec, tuple(records), kept if isinstance(kept, SearchResult) else None)


def _place(record: Record) -> tuple[float, float]:
    return record.estimated_top1 or 0.0, record.estimated_overhead or 0.0

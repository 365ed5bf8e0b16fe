"""What to expect of an attention by what others published: a gain for each era of recipes, with its interval.

One published pair carries the luck of two trainings, and what studies differ by; several of one network are pooled by
random effects (`pooling`). Recipes matter more than networks do, so classical and modern ones are never pooled
together. Of a network that nobody published the gain is *borrowed*: from its family where that has enough pairs, else
from all networks, with the interval of one network more in place of that of their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from secost.answers.groups import STANDARD_REDUCTION, grouped
from secost.answers.published import (
    IMAGENET,
    TOP1,
    PublishedAccuracy,
    PublishedGain,
    plain_name,
    published_accuracies,
    published_gains,
    scaling_rows,
    training_sd,
    trainings,
)
from secost.plan.alternatives import PUBLISHED_PX, plain_alternative
from secost.plan.trials import BASELINE
from secost.pooling import FEWEST_TO_PREDICT, Pooled, pooled
from secost.runs.records import PUBLISHED, Gain
from secost.writing import joined

_NOISY_ENDS = 2  # a gain is a difference of two trainings
# What gains of one network by recipes of one era differ by from study to study beyond that, a standard deviation in
# points: SE's by classical recipes, of which most studies are known; a test holds it to them. One study can't show it.
# Without, of networks that gain nothing one in six would be told to gain (reports/protocol/worlds.md).
BETWEEN_STUDIES = 0.3


def published_for(model: str, attention: Sequence[str]) -> list[Gain]:
    """The published gain of each variant of one network, by the name secost loads it by: one for each era of recipes,
    that with more trainings first."""
    bare = model.split(".")[0]
    names = {bare, f"torchvision:{bare}", bare.removeprefix("torchvision:")} if bare else set()
    mine = [pair for pair in _whole(attention) if pair.base.network in names]
    variants = grouped(mine, lambda pair: (pair.row.attention, pair.row.reduction, pair.row.era))
    return _most_first(_published(list(trainings(pairs))) for pairs in variants.values())


def borrowed_for(model: str, family: str | None, variants: Iterable[tuple[str, int | None]]) -> list[Gain]:
    """What is published of each (attention, r) on other networks on ImageNet, for a network that has nothing of its
    own: one for each era, that with more networks first. Fewer than three pairs lend nothing."""
    return _most_first(gain for attention, reduction in dict.fromkeys(variants)
                       for pairs in _by_era(_whole([attention])).values()
                       if (gain := _borrowed(model, attention, reduction, _kin(pairs, family))) is not None)


def published_alternatives(network: str) -> list[tuple[PublishedGain, str]]:
    """What others published of a network's alternatives on ImageNet: each against the network within one table and
    recipe, both without attention, and its name. Both at the usual resolution, or the alternative at another one."""
    found = []
    for base in published_accuracies():
        if (base.network, base.attention, base.dataset) != (network, BASELINE, IMAGENET) or base.copied_from:
            continue
        if base.metric == TOP1 and base.resolution in (None, PUBLISHED_PX):
            found += [(PublishedGain(base, row), name) for row in scaling_rows(base)
                      if not row.copied_from and (name := _name_beside(base, row)) is not None]
    return found


def published_gains_of(model: str, names: Sequence[str]) -> list[Gain]:
    """The published gain of each alternative of a network, one for each era of recipes.

    From the tables and recipes that have the network with attention as well, where there are such: then alternative and
    attention are told by one study.
    """
    network, asked = plain_name(model), {plain_alternative(name): name for name in names}
    pairs = [(pair, name) for pair, name in published_alternatives(network) if name in asked]
    with_attention = {_study(pair) for pair in published_gains() if pair.base.network == network}
    gains = []
    for name, era in dict.fromkeys((name, pair.row.era) for pair, name in pairs):
        mine = [pair for pair, other in pairs if (other, pair.row.era) == (name, era)]
        mine = trainings([pair for pair in mine if _study(pair) in with_attention] or mine)
        whose = joined(list(dict.fromkeys(pair.row.source.split(" ")[0] for pair in mine)))
        basis = f"{len(mine)} {'training' if len(mine) == 1 else 'trainings'} of {whose}"
        gains.append(replace(_published(mine), model=model, reduction=None, alternative=asked[name], basis=basis))
    return _most_first(gains)


@dataclass(frozen=True)
class BothWays:
    """What one table and recipe says of attention and of an alternative, over the same network without attention."""

    attention: PublishedGain
    alternative: PublishedGain

    @property
    def table(self) -> str:
        """`SENet arXiv:1709.01507v4 (TPAMI), Table 2`, with the recipe where the table has several."""
        row = self.attention.row
        parts = (row.source.split(" (")[0], row.table.split(" (")[0], row.recipe)
        return ", ".join(part for part in parts if part and not part.endswith(".csv"))


def published_both(model: str, attention: str, reduction: int | None, name: str) -> list[BothWays]:
    """Every table and recipe that has the network with the attention and its alternative of that name."""
    network = plain_name(model)
    others = {(_study(pair), pair.base.top1): pair for pair, other in published_alternatives(network)
              if other == plain_alternative(name)}
    mine = [pair for pair in _whole([attention]) if pair.base.network == network
            and pair.row.reduction in (None, reduction)]
    return [BothWays(pair, others[place]) for pair in mine if (place := (_study(pair), pair.base.top1)) in others]


def _study(pair: PublishedGain) -> tuple[str, ...]:
    return pair.base.source, pair.base.recipe or pair.base.table


def _name_beside(base: PublishedAccuracy, row: PublishedAccuracy) -> str | None:
    if row.network != base.network:
        return row.network if row.resolution == base.resolution else None
    return f"{row.network}@{row.resolution}" if row.resolution else None


@dataclass(frozen=True)
class Era:
    """What the pairs of one attention under recipes of one era say together; `pairs` has each training once."""

    attention: str
    era: str
    pairs: tuple[PublishedGain, ...]
    found: Pooled


def eras_of(gains: Iterable[PublishedGain]) -> list[Era]:
    """The pairs on ImageNet in which the whole network carries the attention, pooled by attention and era."""
    by_name = grouped(filter(_is_whole, gains), lambda pair: pair.row.attention)
    return [Era(name, era, tuple(pairs), found) for name, mine in by_name.items()
            for era, pairs in _by_era(mine).items() if (found := _pooled(pairs)) is not None]


def own_interval(pair: PublishedGain) -> tuple[float, float] | None:
    """The ends of one pair's interval, by the luck of two trainings; None where nobody published that."""
    found = _pooled([pair], alone=0.0)
    return None if found is None else (found.low, found.high)


def known_family(model: str) -> str | None:
    """The family that published tables give a network of this name, None for one that stands in no table."""
    return next((row.family for row in published_accuracies() if model and row.network == model), None)


def _whole(attention: Sequence[str]) -> list[PublishedGain]:
    """Pairs on ImageNet in which the whole network carries the attention."""
    return [pair for pair in published_gains() if pair.row.attention in attention and _is_whole(pair)]


def _is_whole(pair: PublishedGain) -> bool:
    return pair.row.dataset == IMAGENET and "only" not in pair.row.placement


def _by_era(pairs: Iterable[PublishedGain]) -> dict[str, list[PublishedGain]]:
    """Of one attention: each training once, at the standard r where there are several under one baseline."""
    standard = sorted(pairs, key=lambda pair: pair.row.reduction not in (None, STANDARD_REDUCTION))
    once: dict[tuple[object, ...], PublishedGain] = {}
    for pair in trainings(standard):
        once.setdefault((pair.base.source, pair.base.recipe, pair.base.model, pair.base.top1), pair)
    return grouped(once.values(), lambda pair: pair.row.era)


def _kin(pairs: Sequence[PublishedGain], family: str | None) -> list[PublishedGain]:
    kin = [pair for pair in pairs if pair.base.family == family]
    return kin if len(kin) >= FEWEST_TO_PREDICT else list(pairs)


def _pooled(pairs: Sequence[PublishedGain], alone: float = BETWEEN_STUDIES) -> Pooled | None:
    """None where nobody published how much trainings of these differ."""
    sds = [training_sd(pair.row.dataset, pair.row.era) for pair in pairs]
    variances = [_NOISY_ENDS * sd**2 for sd in sds if sd is not None]
    if len(variances) < len(pairs):
        return None
    return pooled([pair.points for pair in pairs], variances, alone=alone)


def _published(pairs: Sequence[PublishedGain]) -> Gain:
    first, found = pairs[0], _pooled(pairs)
    gain = replace(first.gain, era=first.row.era, pairs=len(pairs))
    if found is not None:
        gain = replace(gain, points=round(found.estimate, 3), low=found.low, high=found.high,
                       next_low=found.next_low, next_high=found.next_high)
    if len(pairs) == 1:
        return gain
    sources = len({pair.row.source for pair in pairs})
    return replace(gain, top1=None, baseline_top1=None, basis=f"{len(pairs)} trainings from {sources} "
                   f"{'source' if sources == 1 else 'sources'} (secost benefit --attention {gain.attention})")


def _borrowed(model: str, attention: str, reduction: int | None, pairs: Sequence[PublishedGain]) -> Gain | None:
    found = _pooled(pairs) if len(pairs) >= FEWEST_TO_PREDICT else None
    if found is None or found.next_low is None:
        return None
    families = {pair.base.family for pair in pairs}
    whose = f"the family {min(families)}" if len(families) == 1 else f"{len(families)} families"
    return Gain(model, attention, reduction, round(found.estimate, 3), found.next_low, found.next_high, len(pairs),
                PUBLISHED, f"borrowed from {len(pairs)} pairs of {whose}: nobody published this network (secost "
                f"benefit --attention {attention})", era=pairs[0].row.era, borrowed=True)


def _most_first(gains: Iterable[Gain]) -> list[Gain]:
    return sorted(gains, key=lambda gain: -gain.pairs)

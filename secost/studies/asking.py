"""Asks an Optuna sampler for points of a space and tells it what they came to.

The study lives in memory and is nobody's store: whoever judges the points keeps the results. As each sampler draws from
a seed, asking again from the beginning with the kept results gives the same study; that is how a search goes on.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secost.answers.groups import pareto_front
from secost.errors import BadSpecError, MissingExtraError, UnknownNameError
from secost.plan.variants import Point, Space

DEFAULT_SAMPLER = "nsga2"
_ALIASES = {"nsga2": "nsgaii", "nsga3": "nsgaiii"}


@dataclass(frozen=True)
class Worth:
    """What a point came to: accuracy (more is better), overhead (less), and what it exceeds each limit by."""

    top1: float
    overhead: float
    excess: Mapping[str, float]

    @property
    def allowed(self) -> bool:
        return all(value <= 0 for value in self.excess.values())


Judge = Callable[[list[Point]], Sequence[Worth]]


def ask_and_tell(
    space: Space, sampler: str, trials: int, judge: Judge, *, seed: int = 0, population: int = 8,
    first: Sequence[Point] = (),
) -> dict[Point, Worth]:
    """Up to `trials` different points with their worth, in the order in which they were judged.

    `judge` is given a batch of new points at a time; a point that the sampler asks for again is told from memory and
    is no trial. `first` are judged before the sampler has its say. Fewer come back where the space has no more.
    """
    optuna = import_optuna()
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(sampler, seed, population))
    distributions = {str(place): optuna.distributions.CategoricalDistribution(range(len(options)))
                     for place, options in enumerate(space.options)}
    for point in first:
        study.enqueue_trial(_parameters(point))
    known: dict[Point, Worth] = {}
    order = random.Random(seed)
    while len(known) < min(trials, space.size):
        asked = [study.ask(distributions) for _ in range(population)]
        points = [tuple(trial.params[str(place)] for place in range(len(space.options))) for trial in asked]
        new = [point for point in dict.fromkeys(points) if point not in known][: trials - len(known)]
        known |= zip(new, judge(new) if new else (), strict=True)
        for trial, point in zip(asked, points, strict=True):
            if point in known:
                _tell(study, trial, known[point])
        # In place of what it asked for again it gets neighbours of the best to look at: a small space would else be
        # asked round in circles.
        for point in _unseen(space, known, population - len(new), order):
            study.enqueue_trial(_parameters(point))
    return known


def _unseen(space: Space, known: Mapping[Point, Worth], count: int, order: random.Random) -> list[Point]:
    """So many points that were not judged: those that differ from the front in one group first, then any."""
    near = [neighbour for point in _front(known) for place, options in enumerate(space.options)
            for index in range(len(options)) if (neighbour := (*point[:place], index, *point[place + 1:])) not in known]
    distinct = list(dict.fromkeys(near))
    found = order.sample(distinct, min(count, len(distinct)))
    return [*found, *space.drawn(count - len(found), order.randrange(2**32), [*known, *found])]


def _front(known: Mapping[Point, Worth]) -> list[Point]:
    """The allowed points that none beats."""
    allowed = [point for point, worth in known.items() if worth.allowed]
    return pareto_front(allowed, lambda point: (known[point].overhead, -known[point].top1), ties=False)


def _tell(study: Any, trial: Any, worth: Worth) -> None:
    for name, value in worth.excess.items():
        trial.set_constraint(name, value)
    study.tell(trial, [worth.top1, worth.overhead])


def _parameters(point: Point) -> dict[str, int]:
    return {str(place): index for place, index in enumerate(point)}


def make_sampler(name: str, seed: int, population: int) -> Any:
    """One of Optuna's samplers: `nsga2`, `tpe`, `random`, ... Raises UnknownNameError for another name."""
    samplers = import_optuna().samplers
    known = {item.removesuffix("Sampler").lower(): item for item in dir(samplers)
             if item.endswith("Sampler") and not item.startswith(("Base", "PartialFixed", "Grid"))}
    found = known.get(_ALIASES.get(name, name))
    if found is None:
        raise UnknownNameError("sampler", name, [*_ALIASES, *(item for item in known if item not in _ALIASES.values())])
    options: dict[str, Any] = {"seed": seed}
    if found.startswith("NSGA"):
        options["population_size"] = population
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is experimental in Optuna its user is not the one to be told
            return getattr(samplers, found)(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise BadSpecError(f"sampler {name!r} can't be had from a name and a seed alone: {error}") from None


def import_optuna() -> Any:
    """Optuna, quiet. Raises MissingExtraError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "search", "secost search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

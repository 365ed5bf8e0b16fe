"""Which attention goes where, within a budget: a search over the points of a space, and what speaks for its answer.

First every option at all sites is measured and trained alone, as `secost train` does it. Whole networks of mixed
options then correct a table of latencies, and one network that holds all options is trained; the sampler's points are
judged by these two. What it found is measured and trained alone, beside a random search with as many trials. All of it
are records of one run, and the same call goes on with what is there. The sampler's study lives in memory: as it draws
from a seed, asking again from the beginning with the kept results gives the same study.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from secost.answers.groups import pareto_front
from secost.answers.predicted import predict
from secost.answers.searched import EXHAUSTIVE, RANDOM, Searched, excesses, read_search
from secost.errors import BadSpecError, MissingExtraError, RunError, UnknownNameError
from secost.meters.counts import MAC_CONVENTION, Cost, attention_cost, network_cost
from secost.networks.cache import cached_trace
from secost.networks.sites import Site
from secost.networks.surgery import check_fits, require_sites, seeded, sites, strip
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, Comparison, Listener, Plan, Trial
from secost.plan.variants import Point, Space, make_space
from secost.runs.records import Record, overhead
from secost.runs.store import RunStore
from secost.runs.study import LatencyModel
from secost.training.datasets import Data, Split
from secost.training.loop import draw_seed, train
from secost.training.oneshot import OneShot, held_out, statistics_of
from secost.work import trainings
from secost.work.comparison import Networks
from secost.work.executors import Executor, Job
from secost.work.run import make_plan, measure, open_run, workers_for

DEFAULT_MODEL, DEFAULT_DATASET = "small:resnet", "digits"
DEFAULT_ATTENTION, DEFAULT_REDUCTIONS, DEFAULT_LATENCY = ("se", "eca", "spatial"), (4, 8, 16), 0.2
DEFAULT_SAMPLER, _ALIASES = "nsga2", {"nsga2": "nsgaii", "nsga3": "nsgaiii"}
_ONESHOT = "oneshot"
_CHUNK = 4  # points that are judged in one job: some tenths of a second


def search(
    model: str = DEFAULT_MODEL, *, max_latency: float | None = None, max_params: float | None = None,
    max_macs: float | None = None, attentions: Sequence[str] = DEFAULT_ATTENTION,
    reductions: Sequence[int] = DEFAULT_REDUCTIONS, placement: str = "auto", per: str = "site",
    dataset: str = DEFAULT_DATASET, data: str = "", trials: int = 200, sampler: str = DEFAULT_SAMPLER,
    population: int = 8, oneshot_epochs: int = 60, calibrate: int = 16, check: int = 20, finalists: int = 4,
    exhaustive: int = 1500, seeds: int = 5, epochs: int = 40, learning_rate: float = 0.05, augment: bool = False,
    backend: str = "eager", threads: int = 1, seconds: float = 60.0, seed: int = 0, jobs: int | None = None,
    executor: str = "local", address: str | None = None, out: str | Path | None = None,
    listener: Listener | None = None,
) -> Searched:
    """Search for the most accurate mix of attentions within a budget, a fraction of the network without attention each.

    `seconds` limits the rounds of each of three comparisons. With `out` everything stays in that folder, and the same
    call goes on. `jobs` networks are trained or judged at a time, by an `executor` or on the scheduler at `address`.
    Raises BadSpecError for a space with one point or no budget, RunError for a folder that holds another
    search (naming what differs), MissingExtraError without Optuna.
    """
    make_sampler(sampler, seed, population)
    if max_latency is None and max_params is None and max_macs is None:
        max_latency = DEFAULT_LATENCY
    spec = Spec.from_dict({
        "models": model, "attention": [name for name in attentions if name != BASELINE] or [BASELINE],
        "reductions": list(reductions), "placement": placement, "backend": backend, "threads": threads,
        "seconds": seconds, "seed": seed,
        "train": {"dataset": dataset, "data": data, "seeds": seeds, "epochs": epochs, "augment": augment,
                  "learning_rate": learning_rate},
        "search": {"per": per, "sampler": sampler, "trials": trials, "population": population, "epochs": oneshot_epochs,
                   "calibrate": calibrate, "check": check, "finalists": finalists, "exhaustive": exhaustive,
                   "max_latency": max_latency, "max_params": max_params, "max_macs": max_macs},
    })
    return _carried_out(spec, out, listener or Listener(), jobs, executor, address)


def _carried_out(spec: Spec, out: str | Path | None, listener: Listener, jobs: int | None, executor: str,
                 address: str | None) -> Searched:
    course = trainings.prepare(spec, trainings.weights_of(0))  # what is measured is trained as the one-shot network
    spec = course.plan.spec
    net = strip(copy.deepcopy(course.networks.get(spec.models[0])), example=course.data.test.images[:1])
    workshop = _Workshop.of(spec, _only(course.plan.comparisons), course.data, net)
    jobs = trainings.checked_jobs(jobs) if address is None else None
    with workers_for(spec, executor, jobs, address) as workers, open_run(spec, out) as store:
        trainings.train_in_store(course, store, listener, jobs=jobs, executor=workers)
        _Search(workshop, course.networks, store, listener, workers).carry_out()
        found = read_search(store.records(), spec)
        store.keep_study(found.result)
        return read_search(found.records, spec, found.result)


def _only(comparisons: Sequence[Comparison]) -> Comparison:
    if len(comparisons) != 1:
        raise BadSpecError(f"a search is about one network at one setting, and {len(comparisons)} were given: keep one")
    return comparisons[0]


@dataclass(frozen=True)
class _Workshop:
    """What a search works with: the network without attention, its sites, and the space over them."""

    spec: Spec
    comparison: Comparison
    data: Data
    net: nn.Module
    sites: Sequence[Site]
    space: Space

    @classmethod
    def of(cls, spec: Spec, comparison: Comparison, data: Data, net: nn.Module | None = None) -> _Workshop:
        """Raises BadSpecError for a space with one point, NoSiteError where nothing can be put."""
        assert spec.search is not None and spec.train is not None
        setting, bare = comparison.setting, comparison.trials[0]
        net = net or trainings.build(replace(bare, training=spec.train.training(0)), spec, data)
        found = sites(net, setting.placement, setting.integration, setting.stages, example=data.test.images[:1])
        require_sites(found, net, setting.placement)
        choices = [(trial.attention, trial.reduction) for trial in comparison.trials]
        for name, reduction in choices:
            if name != BASELINE:
                check_fits(found, name, reduction)
        space = make_space([site.stage for site in found], choices, spec.search.per)
        if space.size < 2:
            raise BadSpecError("the space has one point, the network without attention: name what may be put in, such "
                               "as --attention se,eca,spatial")
        return cls(spec, comparison, data, net, found, space)


class _Search:
    """The steps of one search, each of which does what the run lacks of it."""

    def __init__(self, workshop: _Workshop, networks: Networks, store: RunStore, listener: Listener,
                 executor: Executor) -> None:
        assert workshop.spec.search is not None
        self.shop, self.networks, self.store, self.listener, self.executor = (
            workshop, networks, store, listener, executor)
        self.asked = workshop.spec.search
        self.space = workshop.space

    def carry_out(self) -> None:
        spec = self.shop.spec
        costs = read_search(self.store.records(), spec)
        self._measure([self.space.name(point) for point in (*costs.calibrating, *costs.checking)])
        table = read_search(self.store.records(), spec).fitted
        if table is None:
            raise RunError("latency could not be measured, so a search has nothing to go by: see the records' reasons "
                           "with secost report, or try another --backend")
        judge = _Judge(self.shop, self.store, self.listener, table, self.executor)
        uniform = [point for choice in self.space.options[0] if (point := self.space.uniform(choice)) is not None]
        ask_and_tell(self.space, self.asked.sampler, self.asked.trials, partial(judge, self.asked.sampler),
                     seed=spec.seed, population=self.asked.population, first=uniform)
        judge(RANDOM, self.space.drawn(self.asked.trials, spec.seed + 2))
        if self.space.size <= self.asked.exhaustive:
            judge(EXHAUSTIVE, list(self.space.points()))
        names = [record.attention for record in read_search(self.store.records(), spec).to_finish()]
        self._measure(names)
        self._train(names)

    def _measure(self, names: Sequence[str]) -> None:
        """Whole networks, in the same rounds as the one without attention."""
        first = self.shop.comparison.trials[0]
        trials = tuple(replace(first, attention=name) for name in names)
        self.store.plan_more(trial.key for trial in trials)
        plan = Plan(self.shop.spec, (Comparison(self.shop.comparison.setting, (first, *trials)),))
        measure(plan.having(self.store.done_keys()), self.store, self.listener, self.networks, self.executor, False)

    def _train(self, names: Sequence[str]) -> None:
        spec, done = self.shop.spec, self.store.done_keys()
        assert spec.train is not None
        first = self.shop.comparison.trials[0]
        wanted = (replace(first, attention=name, latency=False, training=spec.train.training(seed))
                  for seed in range(spec.train.seeds) for name in names)
        left = [trial for trial in wanted if trial.key not in done]
        self.store.plan_more(trial.key for trial in left)
        trainings.train_trials(left, spec, self.store, self.shop.data, self.listener, self.executor.workers,
                     executor=self.executor)


@dataclass(frozen=True)
class OneShotState:
    """The trained one-shot network as plain data, so that it travels to a worker once."""

    spec: Spec
    weights: Mapping[str, Tensor]
    statistics: Tensor
    held: Split
    data: Data
    key: str

    def network(self) -> OneShot:
        """The network, built once in a process."""
        if self.key not in _BUILT:
            comparison = _only(make_plan(self.spec).comparisons)
            _BUILT.clear()
            _BUILT[self.key] = _untrained(_Workshop.of(self.spec, comparison, self.data))
            _BUILT[self.key].load_state_dict(self.weights)
        return _BUILT[self.key]


_BUILT: dict[str, OneShot] = {}


def judge_points(state: OneShotState, points: Sequence[Sequence[int]]) -> list[list[float]]:
    """Accuracy (percent) and loss of each point, by the one-shot network. The work of one job."""
    with trainings.trainable(state.spec.threads[0]):
        found = [state.network().judge(tuple(point), state.statistics, state.held) for point in points]
    return [[item.top1, item.loss] for item in found]


def _untrained(shop: _Workshop) -> OneShot:
    with seeded(draw_seed(shop.spec.seed, _ONESHOT) % 2**32):
        return OneShot(copy.deepcopy(shop.net), shop.sites, shop.space)


def _train_oneshot(shop: _Workshop, folder: Path, listener: Listener) -> OneShotState:
    """Trained, or as the run kept it: a checkpoint an epoch."""
    spec = shop.spec
    assert spec.train is not None and spec.search is not None
    data, training = held_out(shop.data), replace(spec.train.training(spec.seed), epochs=spec.search.epochs)
    listener.on_note(f"training one network that holds all {len(shop.space.options[0])} options at each site, "
                     f"{training.epochs} epochs")
    net = _untrained(shop)
    with trainings.trainable(spec.threads[0]):
        train(net, data, training, folder / trainings.CHECKPOINTS / f"{_ONESHOT}.safetensors")
    weights = {name: item.detach().clone() for name, item in net.state_dict().items()}
    one = Split(shop.data.test.images[:1], shop.data.test.labels[:1])  # of the images, the shape is all that is needed
    shape = replace(shop.data, train=one, test=one)
    key = hashlib.sha256(json.dumps(spec.to_dict(), sort_keys=True).encode()).hexdigest()
    state = OneShotState(spec, weights, statistics_of(data), data.test, shape, key)
    _BUILT.clear()
    _BUILT[state.key] = net  # forked children have it
    return state


class _Judge:
    """Judges points by the one-shot network, the table of latencies and exact counts; each is kept as a record."""

    def __init__(self, shop: _Workshop, store: RunStore, listener: Listener, table: LatencyModel,
                 executor: Executor) -> None:
        self.shop, self.store, self.listener, self.table, self.executor = shop, store, listener, table, executor
        self.kept = {record.key: record for record in store.records() if record.estimate is not None}
        self.known = {record.attention: record for record in self.kept.values()}
        self._units: dict[Any, Cost] = {}
        self._shared: Any = None
        net, inputs = shop.net.eval(), (shop.data.test.images[:1],)
        self._base = network_cost(net, inputs, cached_trace(net, inputs))

    def __call__(self, sampler: str, points: Sequence[Point]) -> list[Worth]:
        """What the points that a sampler asked for came to."""
        first = self.shop.comparison.trials[0]
        trials = {point: replace(first, attention=self.shop.space.name(point), latency=False, estimate=sampler)
                  for point in points}
        self.store.plan_more(trial.key for trial in trials.values())
        left = [point for point in points if trials[point].key not in self.kept]
        for point in left:
            if twin := self.known.get(self.shop.space.name(point)):
                self._keep(point, trials[point], [twin.estimated_top1, (twin.samples or {})["loss"]])
        left = [point for point in left if trials[point].key not in self.kept]
        for point, judged in self._estimated(left):
            self._keep(point, trials[point], judged)
        return [self._worth(self.kept[trials[point].key]) for point in points]

    def _estimated(self, points: Sequence[Point]) -> Iterable[tuple[Point, list[float]]]:
        if not points:
            return
        if self._shared is None:
            self._shared = self.executor.share(_train_oneshot(self.shop, self.store.directory, self.listener))
        chunks = [points[begin:begin + _CHUNK] for begin in range(0, len(points), _CHUNK)]
        jobs = (Job(f"one-shot estimates of {self.shop.spec.models[0]}", judge_points, (self._shared, chunk))
                for chunk in chunks)
        for outcome in self.executor.run(jobs):
            if outcome.error is not None:
                raise outcome.error
            yield from zip(outcome.job.arguments[1], outcome.value, strict=True)

    def _keep(self, point: Point, trial: Trial, judged: Sequence[Any]) -> None:
        record = Record.of_trial(trial)
        costs = attention_cost(self.shop.net, self.shop.sites, trial.attention, None, self._units)
        added = sum((item.cost for item in costs), Cost())
        whole = self._base + added
        record.params, record.macs, record.sites = whole.params, whole.macs, len(costs)
        record.attention_params, record.attention_macs = added.params, added.macs
        record.mac_convention, record.placement = MAC_CONVENTION, self.shop.sites[0].placement
        record.params_overhead = overhead(record.params, self._base.params)
        record.macs_overhead = overhead(record.macs, self._base.macs)
        time = predict(self.table, self.shop.space, point)
        record.estimated_overhead, record.estimated_overhead_low, record.estimated_overhead_high = (
            time.estimate, time.low, time.high)
        record.estimated_top1, record.samples = judged[0], {"loss": judged[1]}
        record = self.store.add(record)
        self.kept[record.key] = self.known[record.attention] = record
        self.listener.on_record(record)

    def _worth(self, record: Record) -> Worth:
        assert self.shop.spec.search is not None
        assert record.estimated_top1 is not None and record.estimated_overhead is not None
        return Worth(record.estimated_top1, record.estimated_overhead, excesses(record, self.shop.spec.search.limits))


# --- asking a sampler ---


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
        study.enqueue_trial(dict(zip(distributions, point, strict=True)))
    known: dict[Point, Worth] = {}
    order = random.Random(seed)
    while len(known) < min(trials, space.size):
        asked = [study.ask(distributions) for _ in range(population)]
        points = [tuple(trial.params[place] for place in distributions) for trial in asked]
        new = [point for point in dict.fromkeys(points) if point not in known][: trials - len(known)]
        known |= zip(new, judge(new) if new else (), strict=True)
        for trial, point in zip(asked, points, strict=True):
            if point in known:
                for name, value in known[point].excess.items():
                    trial.set_constraint(name, value)
                study.tell(trial, [known[point].top1, known[point].overhead])
        # In place of what it asked for again it gets neighbours of the best to look at: a small space would else be
        # asked round in circles.
        for point in _unseen(space, known, population - len(new), order):
            study.enqueue_trial(dict(zip(distributions, point, strict=True)))
    return known


def _unseen(space: Space, known: Mapping[Point, Worth], count: int, order: random.Random) -> list[Point]:
    """So many points that were not judged: those that differ from the front in one group first, then any."""
    allowed = [point for point, worth in known.items() if worth.allowed]
    front = pareto_front(allowed, lambda point: (known[point].overhead, -known[point].top1), ties=False)
    near = [neighbour for point in front for place, options in enumerate(space.options)
            for index in range(len(options)) if (neighbour := (*point[:place], index, *point[place + 1:])) not in known]
    distinct = list(dict.fromkeys(near))
    found = order.sample(distinct, min(count, len(distinct)))
    return [*found, *space.drawn(count - len(found), order.randrange(2**32), [*known, *found])]


def make_sampler(name: str, seed: int, population: int) -> Any:
    """One of Optuna's samplers: `nsga2`, `tpe`, `random`, ... Raises UnknownNameError for another name."""
    samplers = import_optuna().samplers
    known = {item.removesuffix("Sampler").lower(): item for item in dir(samplers)
             if item.endswith("Sampler") and not item.startswith(("Base", "PartialFixed", "Grid"))}
    found = known.get(_ALIASES.get(name, name))
    if found is None:
        raise UnknownNameError("sampler", name, [*_ALIASES, *(item for item in known if item not in _ALIASES.values())])
    options = {"seed": seed, **({"population_size": population} if found.startswith("NSGA") else {})}
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

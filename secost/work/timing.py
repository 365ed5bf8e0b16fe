"""Times one comparison: makes every variant ready for its backend, then measures all in the same rounds.

Where the backend runs the network as it is (eager, fp32), variants are switched on one network, and alternatives are
networks beside it; elsewhere each is a copy of its own, converted once here and opened in each measuring process. A
variant that can't be made ready or run fails alone, with its reason; where the baseline fails, the comparison does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from secost.errors import NoSiteError
from secost.meters.backends.offered import get_backend
from secost.meters.conditions import AS_IT_IS, Backend, Prepared, Request, measuring, scatter
from secost.meters.fitness import Snapshot, between, snapshot
from secost.meters.latency import Rounds, Subject, Timer, Turn, measure, measure_turn, timer_for
from secost.meters.processes import ChildError, can_fork, in_child
from secost.networks.attended import Placed, attention_at, standalone
from secost.networks.sites import Site
from secost.networks.surgery import Switch, build_placed, check_outputs, seeded
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Setting, Trial, rounds_s
from secost.statistics import median, seconds_for
from secost.work.rivals import Rival

CONTROL = "control"
Calibrated = Callable[[tuple[Tensor, ...], nn.Module], tuple[tuple[Tensor, ...], ...] | None]
_PROBE_S, _PATIENCE = 300.0, 20.0
_PROBES, _PROBE_ROUNDS, _TOLD = 2, 4, 0.02
_OF_NORMAL = 0.6745  # the median distance from the middle of a normal distribution, in standard deviations


@dataclass
class Variant:
    """One variant, ready to be opened in a measuring process; `attention` is what can be timed in place.

    `run` is its pass where this process measures, opened already; `pass_s` how long one took here, where one was run.
    """

    prepared: Prepared
    attention: list[nn.Module] = field(default_factory=list)
    run: Callable[[], object] | None = None
    pass_s: float = 0.0

    @property
    def modules(self) -> list[nn.Module]:
        """What holds the weights that a pass reads."""
        return [*self.prepared.modules, *self.attention]


@dataclass(frozen=True)
class Timing:
    """What was measured: the rounds, their labels (baseline, control, variants), what failed, what was converted."""

    rounds: Rounds
    labels: list[str]
    failures: dict[str, Exception]
    convert_s: dict[str, float | None]
    cautions: dict[str, tuple[str, ...]]


class Stopwatch:
    """Times the variants of one comparison on one network."""

    def __init__(self, net: nn.Module, switch: Switch, inputs: tuple[Tensor, ...], setting: Setting, spec: Spec,
                 calibrated: Calibrated | None = None, rivals: Mapping[str, Rival] | None = None) -> None:
        """`calibrated` gives what int8 is fitted to, for inputs and a network; `rivals` are the alternatives."""
        self.net, self.switch, self.setting, self.spec = net, switch, setting, spec
        self.calibrated, self.rivals = calibrated, rivals or {}
        self.limit_s = spec.seconds
        self.inputs, self.request = self._asked(net, inputs)
        self.backend: Backend = get_backend(
            setting.backend, setting.precision, setting.device, setting.memory_format, spec.cuda_graphs
        )
        self.in_place = self.backend.in_place(self.request)
        self.apart = setting.device == "cpu" and can_fork()
        self.timer: Timer = timer_for(setting.device, setting.threads)
        self.variants: dict[str, Variant] = {}
        self.failures: dict[str, Exception] = {}

    def _asked(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Request]:
        """The batch that a network is run on, and how."""
        setting, spec = self.setting, self.spec
        fitted = self.calibrated if setting.precision == "int8" else None
        return tuple(item.repeat(setting.batch, *[1] * (item.ndim - 1)) for item in inputs), Request(
            precision=setting.precision, device=setting.device, threads=setting.threads,
            memory_format=setting.memory_format, cuda_graphs=spec.cuda_graphs, seed=spec.seed,
            calibration=None if fitted is None else fitted(inputs, net),
        )

    def time(self, trials: Sequence[Trial], sites: Sequence[Site],
             on_share: Callable[[float], object] = lambda share: None,
             on_note: Callable[[str], object] = lambda text: None) -> Timing:
        """Measure the given trials, the baseline first. Raises what the baseline raises.

        `on_note` hears, as soon as two processes have tried it, where an interval takes longer than there is time.
        """
        # Where children measure, the allocator is set in them alone.
        with measuring(self.setting.threads, AS_IT_IS if self.apart else self.spec.allocator):
            self.limit_s = rounds_s(self.spec.seconds, trials)
            for trial in trials:
                self._make_ready(trial, sites)
            try:
                rounds = self._measured(on_share, on_note)
            except ChildError:
                self._drop_what_fails_alone()
                rounds = self._measured(on_share, on_note)
            self.switch.select(BASELINE)
        ready = {label: variant.prepared for label, variant in self.variants.items()}
        return Timing(rounds, self._labels(), self.failures,
                      {label: prepared.convert_s for label, prepared in ready.items()},
                      {label: prepared.cautions for label, prepared in ready.items()})

    def _labels(self) -> list[str]:
        return [BASELINE, CONTROL, *(label for label in self.variants if label != BASELINE)]

    def _make_ready(self, trial: Trial, sites: Sequence[Site]) -> None:
        try:
            if trial.alternative is not None:
                variant = self._beside(self.rivals[trial.alternative])
            else:
                variant = self._on_the_network(trial, sites)
            if self.in_place or not self.apart:
                self._try(variant)  # a variant that can't run fails here, and each child finds caches filled
            self.variants[trial.label] = variant
        except Exception as error:
            if trial.is_baseline:
                raise
            self.failures[trial.label] = error

    def _on_the_network(self, trial: Trial, sites: Sequence[Site]) -> Variant:
        placed = self._placed(trial, sites)
        self.switch.select(trial.label)
        if self.in_place:
            prepared = self.backend.prepare(self.net, self.inputs, self.request)
            return Variant(prepared, [item.attention for item in placed])
        copy, prepared = self._converted(self.net, self.inputs, self.request)
        sited = [item.site for item in placed]
        return Variant(prepared, attention_at(copy, sited) if prepared.modules_run else [])

    def _beside(self, rival: Rival) -> Variant:
        """An alternative: a network of its own, or this one, without attention, on larger images."""
        self.switch.select(BASELINE)
        inputs, request = self._asked(rival.net, rival.inputs)
        if self.in_place:
            return Variant(self.backend.prepare(rival.net, inputs, request))
        return Variant(self._converted(rival.net, inputs, request)[1])

    def _placed(self, trial: Trial, sites: Sequence[Site]) -> list[Placed]:
        if trial.attention in (BASELINE, NATIVE):
            return []
        if trial.spelling is not None:
            self.switch.select(BASELINE)
            check_outputs(self.net, self.inputs, sites, trial.attention, trial.reduction, trial.spelling,
                          self.spec.seed)
        with torch.inference_mode(False), seeded(self.spec.seed):
            placed = build_placed(self.net, sites, trial.attention, trial.reduction, trial.spelling)
        self.switch.add(trial.label, placed)
        return placed

    def _converted(
        self, net: nn.Module, inputs: tuple[Tensor, ...], request: Request,
    ) -> tuple[nn.Module, Prepared]:
        """A copy of a network as it is now, and what the backend made of it."""
        with torch.inference_mode(False):
            copy = standalone(net)
            return copy, self.backend.prepare(copy, inputs, request)

    def _try(self, variant: Variant) -> None:
        run = variant.prepared.open()
        begin = perf_counter()
        with _marked(variant.attention, self.timer) as (numbers, _):
            run()
        variant.pass_s = perf_counter() - begin
        if len(set(numbers)) < len(variant.attention):
            raise NoSiteError("attention does not run at every site: the network calls a module there through a "
                              "reference of its own (a tuple, a closure); let its forward call self's module")
        variant.run = None if self.apart else run

    def _measured(self, on_share: Callable[[float], object], on_note: Callable[[str], object]) -> Rounds:
        spec = self.spec
        run_turn = self._in_a_child if self.apart else self._in_this_process()
        probe, told = Rounds(), False

        def watched(turn: Turn) -> Rounds:
            nonlocal told
            part = run_turn(turn)
            if turn.number < _PROBES and not told:
                probe.add(part, turn.number)
                probe.opening_s = part.opening_s  # the first process finds the caches of the disk empty
                told = (text := short_of_time(probe, self._labels(), self.limit_s)) is not None
                if text is not None:
                    on_note(text)
            return part

        return measure(watched, self._labels(), seconds=self.limit_s, target=spec.target, processes=spec.processes,
                       apart=self.apart, seed=spec.seed, on_share=on_share)

    def _in_this_process(self) -> Callable[[Turn], Rounds]:
        """Turns one after another: ready once, warm from the first turn on."""
        subjects, warm, _ = self._opened(0)

        def run_turn(turn: Turn) -> Rounds:
            return measure_turn(subjects, turn, self.timer, warm=warm if turn.number == 0 else subjects[:1])

        return run_turn

    def _in_a_child(self, turn: Turn) -> Rounds:
        slowest_s = max(variant.pass_s for variant in self.variants.values())
        # A child warms up and runs one round at least, however long that takes.
        patience_s = max(_PROBE_S, _PATIENCE * (turn.deadline_s - perf_counter() + slowest_s * len(self._labels())))
        return Rounds(**in_child(lambda: self._turn(turn).to_dict(), patience_s))

    def _turn(self, turn: Turn) -> Rounds:
        begin = perf_counter()
        # The child's thread is new: nothing is set for it.
        with measuring(self.setting.threads, self.spec.allocator, flush_denormals=True):
            subjects, warm, gaps = self._opened(turn.seed)
            marks: list[Snapshot] = []
            rounds = measure_turn(subjects, turn, self.timer, warm=warm, opened_s=perf_counter() - begin,
                                  on_ready=lambda: marks.append(snapshot()))
            rounds.notes = [between(marks[0], snapshot())]
        del gaps
        return rounds

    def _opened(self, seed: int) -> tuple[list[Subject], list[Subject], list[Tensor]]:
        """The subjects, those of them that need a pass before they are timed, and what fills the gaps in memory."""
        gaps = scatter((m for variant in self.variants.values() for m in variant.modules), seed) if self.apart else []
        subjects = [self._subject(label) for label in self._labels()]
        warm = [subject for subject in subjects if subject.label in (BASELINE, CONTROL, *self.rivals)]
        return subjects, warm if self.in_place else subjects, gaps

    def _subject(self, label: str) -> Subject:
        name = BASELINE if label == CONTROL else label
        variant = self.variants[name]
        run = variant.run or variant.prepared.open()
        direct = _direct_pass(variant.attention, run, self.timer) if variant.attention and label != CONTROL else None
        shown = BASELINE if name in self.rivals else name
        return Subject(label, run, (lambda: self.switch.select(shown)) if self.in_place else (lambda: None), direct)

    def _drop_what_fails_alone(self) -> None:
        """After a measuring process came to a bad end: try each variant in a process of its own."""
        for label in [name for name in self.variants if name != BASELINE] + [BASELINE]:
            subject = self._subject(label) if self.in_place else None

            def once(label: str = label, subject: Subject | None = subject) -> None:
                with measuring(self.setting.threads, self.spec.allocator, flush_denormals=True):
                    opened = subject or self._subject(label)
                    opened.prepare()
                    opened.run()

            try:
                in_child(once, _PROBE_S)
            except ChildError as error:
                if label == BASELINE:
                    raise
                self.failures[label] = error
                del self.variants[label]


def short_of_time(probe: Rounds, labels: Sequence[str], seconds: float) -> str | None:
    """How long an interval of 2 points takes by the first rounds, in words, where that is more than `seconds`.

    Of too few rounds to tell their scatter, how long the first interval of any width takes.
    """
    away: list[float] = []
    for label in labels[2:] or labels[1:2]:
        ratios = [time_s / base_s for time_s, base_s in probe.pairs(label, *labels[:2])]
        away += [abs(ratio - median(ratios)) for ratio in ratios]
    known = probe.count >= _PROBE_ROUNDS
    round_s = sum(median(probe.wall_s[label]) for label in labels) * probe.repeats
    needed_s = seconds_for(_TOLD, median(away) / _OF_NORMAL if known else 0.0, probe.opening_s, round_s)
    if needed_s <= seconds:
        return None
    width = f"± {100 * _TOLD:g} points" if known else "any width"
    return (f"an interval of {width} takes about {needed_s:.0f} s or more (getting ready {probe.opening_s:.2g} s a "
            f"process, a round {round_s:.2g} s), and there are {seconds:g}: give more with --seconds, in a new folder")


def _direct_pass(modules: Sequence[nn.Module], run: Callable[[], object], timer: Timer) -> Callable[[], list[float]]:
    """One pass that gives the seconds inside each module; one called several times in a pass has the sum.

    Biased as an estimate of the whole network's overhead (caches, allocation), so it only shares the cost out.
    """

    def direct() -> list[float]:
        spent = [0.0] * len(modules)
        with _marked(modules, timer) as (numbers, marks):
            run()
        for number, seconds in zip(numbers, timer.spent_s(marks), strict=True):
            spent[number] += seconds
        return spent

    return direct


@contextlib.contextmanager
def _marked(modules: Iterable[nn.Module], timer: Timer) -> Iterator[tuple[list[int], list[tuple[Any, Any]]]]:
    """Marks around every call of each module: the module's number, and when it began and ended."""
    handles: list[Any] = []
    begun: dict[int, Any] = {}
    numbers: list[int] = []
    marks: list[tuple[Any, Any]] = []
    for number, module in enumerate(modules):

        def begin(module: nn.Module, args: Any) -> None:
            begun[id(module)] = timer.mark()

        def end(module: nn.Module, args: Any, output: Any, number: int = number) -> None:
            marks.append((begun[id(module)], timer.mark()))
            numbers.append(number)

        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield numbers, marks
    finally:
        for handle in handles:
            handle.remove()

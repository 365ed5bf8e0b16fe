"""Paired rounds on a made clock: what is measured, to the last digit, and what is said about it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import pytest

from secost.errors import BadSpecError
from secost.glossary import CAUTIONS
from secost.meters.latency import CpuTimer, Rounds, Subject, Turn, cautions, measure, measure_turn

PASS_S = 0.01
TRUE = 0.030
LABELS = ("none", "control", "se")


@dataclass
class Machine:
    """A made machine and its clocks: a pass takes its length times what `noise` says, which may look at the time."""

    lengths: dict[str, float]
    noise: Callable[[Machine], float] = lambda machine: 1.0
    waiting: Callable[[Machine], float] = lambda machine: 0.0  # seconds that a pass waits for a processor
    seed: int = 0
    now_s: float = 0.0
    cpu_s: float = 0.0
    runs: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    prepare_s: float = 0.0
    opening_s: float = 0.0
    warm: int = 0
    direct: dict[str, list[float]] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def subjects(self) -> list[Subject]:
        return [Subject(x, self._runner(x), self._preparer(x), self._direct(x)) for x in self.lengths]

    def _runner(self, label: str) -> Callable[[], object]:
        def run() -> None:
            self.runs.append(label)
            worked = self.lengths[label] * self.noise(self)
            self.now_s += worked + self.waiting(self)
            self.cpu_s += worked

        return run

    def _preparer(self, label: str) -> Callable[[], object]:
        def prepare() -> None:
            self.prepared.append(label)
            self.now_s += self.prepare_s
            self.cpu_s += self.prepare_s

        return prepare

    def _direct(self, label: str) -> Callable[[], list[float]] | None:
        if label not in self.direct:
            return None

        def direct() -> list[float]:
            self.now_s += self.lengths[label]
            return self.direct[label]

        return direct

    def clock(self) -> float:
        return self.now_s

    def timer(self, cpu: bool = False) -> CpuTimer:
        return CpuTimer(wall=self.clock, cpu=(lambda: self.cpu_s) if cpu else None)

    def measure(
        self, seconds: float = 10.0, target: float = 0.0, cpu: bool = False, seed: int = 0, processes: int = 0,
        apart: bool = True, heard: list[float] | None = None,
    ) -> Rounds:
        def turn(turn: Turn) -> Rounds:
            self.turns.append(turn)
            self.now_s += self.opening_s
            subjects = self.subjects()
            return measure_turn(subjects, turn, self.timer(cpu), warm=subjects[: self.warm], opened_s=self.opening_s,
                                clock=self.clock)

        return measure(turn, list(self.lengths), seconds=seconds, target=target, seed=seed, processes=processes,
                       apart=apart, clock=self.clock, on_share=(heard if heard is not None else []).append)

    def orders(self) -> list[tuple[str, ...]]:
        size = len(self.lengths)
        return [tuple(self.runs[begin : begin + size]) for begin in range(0, len(self.runs), size)]


def _three(overhead: float = TRUE, length: float = PASS_S) -> dict[str, float]:
    return {"none": length, "control": length, "se": length * (1 + overhead)}


# --- what is measured ---------------------------------------------------------------------------------------------


def test_on_a_steady_clock_the_overhead_is_the_planted_one_to_the_last_digit() -> None:
    machine = Machine({"none": 0.0078125, "control": 0.0078125, "se": 0.009765625})  # powers of 2: no rounding
    rounds = machine.measure(seconds=8.0)
    interval = rounds.overhead("se", "none", "control")
    assert (interval.estimate, interval.low, interval.high) == (0.25, 0.25, 0.25)
    assert rounds.control("none", "control").estimate == 0.0
    assert rounds.latency_ms("se", *LABELS[:2]) == 9.765625
    assert rounds.added_ms("se", "none", "control").estimate == 1.953125


def test_a_variant_is_compared_with_the_mean_of_both_baselines_of_its_round() -> None:
    rounds = Rounds("wall", 1, {"none": [1.0, 2.0], "control": [3.0, 2.0], "se": [3.0, 2.0]}, {}, [0, 1])
    assert rounds.overhead("se", "none", "control").estimate == (0.5 + 0.0) / 2
    assert rounds.control("none", "control").estimate == (2.0 + 0.0) / 2


def test_every_variant_runs_once_a_round() -> None:
    machine = Machine(_three())
    machine.measure(seconds=1.0)
    assert all(sorted(order) == ["control", "none", "se"] for order in machine.orders())


def test_the_order_in_a_round_is_random_and_decided_by_the_seed() -> None:
    first, same, other = (Machine(_three()) for _ in range(3))
    for machine, seed in ((first, 1), (same, 1), (other, 2)):
        machine.measure(seconds=20.0, seed=seed)
    assert first.orders() == same.orders() != other.orders()
    assert len(set(first.orders())) == math.factorial(3)


def test_each_variant_comes_first_equally_often() -> None:
    machine = Machine(_three())
    rounds = machine.measure(seconds=60.0)
    firsts = [order[0] for order in machine.orders()]
    for label in machine.lengths:
        assert firsts.count(label) / len(firsts) == pytest.approx(1 / 3, abs=4 / math.sqrt(rounds.count) / 2)


def test_the_first_pass_of_a_process_is_slow_and_not_in_the_result() -> None:
    machine = Machine(_three(0.0), warm=1)
    machine.noise = lambda m: 5.0 if m.now_s == m.turns[-1].deadline_s - 1.0 else 1.0
    rounds = machine.measure(seconds=12.0, processes=12)
    assert max(max(times) for times in rounds.wall_s.values()) == pytest.approx(PASS_S)


def test_making_ready_is_not_timed() -> None:
    machine = Machine(_three(), prepare_s=0.5)
    rounds = machine.measure(seconds=60.0)
    assert rounds.latency_ms("none", *LABELS[:2]) == pytest.approx(10.0)
    assert machine.prepared[:3] == machine.runs[:3]


@pytest.mark.parametrize(("pass_s", "repeats"), [(0.0005, 4), (0.0015, 2), (0.002, 1), (0.01, 1), (0.05, 1)])
def test_a_sample_is_at_least_two_milliseconds_long(pass_s: float, repeats: int) -> None:
    machine = Machine(_three(length=pass_s, overhead=0.5), warm=1)
    rounds = machine.measure(seconds=3.0)
    assert rounds.repeats == repeats
    assert rounds.latency_ms("none", *LABELS[:2]) == pytest.approx(pass_s * 1e3)
    assert rounds.overhead("se", "none", "control").estimate == pytest.approx(0.5)


def test_a_clock_too_coarse_to_see_a_pass_gets_many_passes_a_sample() -> None:
    machine = Machine(_three(length=1e-6), warm=1)
    coarse = CpuTimer(wall=lambda: math.floor(machine.now_s * 1e4) / 1e4, cpu=None)
    subjects = machine.subjects()
    rounds = measure_turn(subjects, Turn(0, 0, 5.0, 0), coarse, warm=subjects[:1], clock=machine.clock)
    assert rounds.repeats == 2000


def test_with_a_processor_clock_waiting_is_in_no_figure_and_kept_beside_them() -> None:
    machine = Machine(_three(), waiting=lambda m: m.random.choice((0.0, 0.0, 0.004)))
    rounds = machine.measure(cpu=True)
    assert rounds.clock == "thread-cpu"
    assert rounds.overhead("se", "none", "control").estimate == pytest.approx(TRUE)
    assert rounds.latency_ms("none", *LABELS[:2]) == pytest.approx(PASS_S * 1e3)
    assert sum(rounds.wall_s["none"]) > sum(rounds.cpu_s["none"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cpu", [True, False])
def test_the_times_of_a_table_are_in_the_ratio_of_its_overheads(cpu: bool, seed: int) -> None:
    """Whatever the other clock does: attention waits twice as long here. Two speeds by turns, as of a shared core, take
    the ratio of the variants' own medians out of the interval in a run of five, so times are not those."""
    slow = [False]

    def speed(machine: Machine) -> float:
        slow[0] ^= machine.random.random() < 0.01
        return (1.4 if slow[0] else 1.0) * machine.random.gauss(1, 0.004)

    machine = Machine({**_three(), "eca": 1.01 * PASS_S}, speed, seed=seed,
                      waiting=lambda m: 0.002 * (1 + (m.runs[-1] in ("se", "eca"))) if cpu else 0.0)
    rounds = machine.measure(cpu=cpu)
    base_ms = rounds.latency_ms("none", *LABELS[:2])
    assert base_ms == pytest.approx(1e3 * median([base_s for _, base_s in rounds.pairs("none", *LABELS[:2])]))
    for label in ("none", "control", "se", "eca"):
        assert rounds.overhead(label, *LABELS[:2]).holds(rounds.latency_ms(label, *LABELS[:2]) / base_ms - 1)


# --- in place ---------------------------------------------------------------------------------------------------------


def test_a_direct_pass_of_each_variant_follows_every_fourth_round() -> None:
    machine = Machine(_three(), direct={"se": [0.001, 0.002]})
    rounds = machine.measure(seconds=4.0)
    assert abs(len(rounds.direct_s["se"]) - rounds.count / 4) <= rounds.processes
    assert len(rounds.direct_process) == len(rounds.direct_s["se"])
    assert rounds.direct_ms("se").estimate == pytest.approx(3.0)
    assert rounds.direct_ms("se", [1]).estimate == pytest.approx(2.0)
    assert machine.runs.count("se") == rounds.count


def test_turns_of_one_round_still_get_direct_passes_between_them() -> None:
    machine = Machine(_three(length=0.2), direct={"se": [0.01]})
    rounds = machine.measure(seconds=12.0)
    assert len(rounds.direct_s["se"]) == rounds.count // 4


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_time_is_shared_by_twelve_processes() -> None:
    rounds = Machine(_three(length=0.16)).measure(seconds=60.0)
    assert rounds.processes in (12, 13)
    sizes = [rounds.process.count(number) for number in range(12)]
    assert max(sizes) - min(sizes) <= 1


def test_a_process_ends_after_sixteen_rounds_where_more_time_is_left() -> None:
    """Many short processes tell more than a few long ones, where what differs between them is most of the noise."""
    rounds = Machine(_three(), lambda m: m.random.gauss(1, 0.01)).measure(seconds=30.0)
    assert rounds.process.count(3) == 16
    assert rounds.processes > 50


def test_a_slow_opening_gets_as_much_time_for_rounds_and_still_five_processes() -> None:
    few = Machine(_three(), opening_s=1.0).measure(seconds=10.0)
    assert few.processes == 5
    many = Machine(_three(), opening_s=1.0).measure(seconds=60.0)
    assert many.process.count(2) * 0.0303 == pytest.approx(1.0, abs=0.05)


def test_the_number_of_processes_can_be_fixed() -> None:
    machine = Machine(_three())
    rounds = machine.measure(seconds=10.0, processes=3)
    assert rounds.processes == 3
    assert machine.now_s == pytest.approx(10.0, abs=0.1)


def test_each_process_draws_an_order_of_its_own() -> None:
    machine = Machine(_three())
    machine.measure(seconds=10.0, processes=5)
    assert len({turn.seed for turn in machine.turns}) == 5


def test_where_no_processes_can_be_had_the_turns_are_one_and_judged_by_blocks() -> None:
    machine = Machine(_three(), lambda m: m.random.gauss(1, 0.01))
    rounds = machine.measure(seconds=10.0, apart=False)
    assert rounds.processes == 1
    assert 0 < rounds.overhead("se", "none", "control").half_width < 0.01
    assert "one-process" in cautions(rounds, LABELS, 0.01)


def test_a_difference_between_processes_is_in_the_interval() -> None:
    """Rounds that agree to the last digit within each process say nothing about the next one."""
    effects = [0.02, 0.05, 0.03, 0.06, 0.04, 0.035, 0.045, 0.025]
    columns = {"none": [1.0] * 80, "control": [1.0] * 80, "se": [1 + e for e in effects for _ in range(10)]}
    rounds = Rounds("wall", 1, columns, {}, [n for n in range(8) for _ in range(10)])
    apart = rounds.overhead("se", "none", "control")
    rounds.process = [0] * 80
    assert apart.low is not None and apart.low <= 0.025 and apart.high is not None and apart.high >= 0.05


# --- why rounds, not blocks -----------------------------------------------------------------------------------------


def _slowing(machine: Machine) -> float:
    return 1.0 + 0.10 * machine.now_s  # 10 % of its first speed slower each second


def _by_blocks(machine: Machine, passes: int) -> float:
    """All passes of one variant, then all of the next, as block-order tools do: the ratio of means."""
    means = []
    for subject in machine.subjects():
        begin = machine.now_s
        for _ in range(passes):
            subject.run()
        means.append((machine.now_s - begin) / passes)
    return means[1] / means[0]


def test_on_a_drifting_clock_pairs_give_the_true_ratio_and_blocks_do_not() -> None:
    """DESIGN section 6: true ratio 1.030, a drift of 10 %/s; blocks gave 1.143, pairs 1.0299."""
    two = {"none": PASS_S, "se": PASS_S * (1 + TRUE)}
    blocks = _by_blocks(Machine(two, _slowing), 100)
    rounds = Machine(_three(), lambda m: _slowing(m) * m.random.gauss(1, 0.002)).measure(seconds=10.0)
    pairs = rounds.overhead("se", "none", "control")
    assert blocks == pytest.approx(1.14, abs=0.01)
    assert 1 + pairs.estimate == pytest.approx(1.030, abs=0.0015)
    assert pairs.holds(TRUE)


# --- when it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 2.0, 7.0])
def test_the_time_limit_holds_for_everything_together(seconds: float) -> None:
    machine = Machine(_three(), lambda m: m.random.uniform(0.9, 1.1), opening_s=0.01, warm=2)
    rounds = machine.measure(seconds=seconds)
    assert 0.8 * seconds < machine.now_s <= seconds + 0.04
    assert rounds.count >= 5


def test_rounds_that_become_slower_still_end_in_time() -> None:
    machine = Machine(_three(), lambda m: 1.0 if m.now_s < 0.5 else 8.0)
    machine.measure(seconds=5.0)
    assert machine.now_s < 5.0 + 0.25


def test_processes_end_early_when_every_interval_is_within_the_target() -> None:
    machine = Machine(_three(), lambda m: m.random.gauss(1, 0.01))
    rounds = machine.measure(seconds=100.0, target=0.01)
    assert machine.now_s < 5.0
    assert rounds.processes >= 6
    assert rounds.overhead("se", "none", "control").half_width <= 0.01
    assert rounds.control("none", "control").half_width <= 0.01


def test_one_wide_variant_keeps_all_of_them_running() -> None:
    class Noisy(Machine):
        def _runner(self, label: str) -> Callable[[], object]:
            def run() -> None:
                self.now_s += PASS_S * (self.random.uniform(0.5, 1.5) if label == "se" else 1.0)

            return run

    machine = Noisy(_three())
    rounds = machine.measure(seconds=6.0, target=0.01)
    assert machine.now_s > 5.4
    assert rounds.control("none", "control").half_width == pytest.approx(0.0)


def test_too_little_time_for_one_round_is_refused_with_how_long_one_takes() -> None:
    with pytest.raises(BadSpecError, match=r"seconds 0\.02 is too short: one round of 3 passes takes 0\.03 s here"):
        Machine(_three()).measure(seconds=0.02)


def test_time_that_only_suffices_for_getting_ready_is_refused_too() -> None:
    message = r"one round of 3 passes takes 0\.9 s here, and getting ready for it 1\.2 s"
    with pytest.raises(BadSpecError, match=message):
        Machine(_three(0.0, length=0.3), opening_s=0.3, warm=1).measure(seconds=1.0)


def test_the_listener_hears_a_share_of_the_time_that_grows_to_one() -> None:
    heard: list[float] = []
    Machine(_three()).measure(seconds=1.0, heard=heard)
    assert heard == sorted(heard)
    assert 0.9 < heard[-1] <= 1.0


# --- cautions: each appears exactly when it should --------------------------------------------------------------------


def _quiet(count: int = 60, seed: int = 0) -> Rounds:
    source = random.Random(seed)
    draws = {label: [PASS_S * source.gauss(1, 0.004) for _ in range(count)] for label in ("none", "control", "se")}
    process = [10 * number // count for number in range(count)]
    return Rounds("thread-cpu", 1, draws, {label: list(times) for label, times in draws.items()}, process)


def _found(rounds: Rounds, target: float = 0.01) -> list[str]:
    return cautions(rounds, LABELS, target)


def _scaled(rounds: Rounds, label: str, factors: Sequence[float]) -> Rounds:
    for times in (rounds.wall_s[label], rounds.cpu_s[label]):
        times[:] = [time * factor for time, factor in zip(times, factors, strict=True)]
    return rounds


def test_quiet_rounds_give_no_caution() -> None:
    assert _found(_quiet()) == []


def test_a_control_that_differs_from_the_baseline_fails() -> None:
    assert _found(_scaled(_quiet(), "control", [1.01] * 60)) == ["control-failed"]
    assert _found(_scaled(_quiet(), "control", [1.0002] * 60)) == []


def test_waiting_for_more_than_a_tenth_of_the_time_is_contention() -> None:
    for share, expected in ((0.08, []), (0.12, ["contention"])):
        rounds = _quiet()
        rounds.wall_s["none"] = [time / (1 - share) for time in rounds.cpu_s["none"]]
        assert _found(rounds) == expected


def test_more_than_one_pass_in_twenty_that_lost_its_processor_is_preemption() -> None:
    for often, expected in ((40, []), (10, ["preemption"])):
        rounds = _quiet()
        for label, times in rounds.wall_s.items():
            times[:] = [t * (1.6 if n % often == 0 else 1.0) for n, t in enumerate(rounds.cpu_s[label])]
        assert [word for word in _found(rounds) if word == "preemption"] == expected


def test_contention_is_not_guessed_at_without_a_processor_clock() -> None:
    rounds = _quiet()
    rounds.clock, rounds.cpu_s["none"] = "wall", [0.0] * 60
    assert _found(rounds) == []


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_machine_that_changes_its_speed_by_more_than_five_percent_drifts(sign: int) -> None:
    for change, expected in ((0.04, []), (0.12, ["drift"])):
        rounds = _quiet()
        factors = [1 + sign * change * index / 60 for index in range(60)]
        for label in rounds.wall_s:
            _scaled(rounds, label, factors)
        assert _found(rounds) == expected


def test_fewer_than_twenty_rounds_are_too_few() -> None:
    assert "too-few-rounds" in _found(_quiet(19))
    assert "too-few-rounds" not in _found(_quiet(20))


def test_too_few_rounds_for_an_interval_miss_every_target() -> None:
    assert _found(_quiet(5), target=1.0) == ["too-few-rounds", "target-missed"]


def test_an_interval_wider_than_the_target_misses_it() -> None:
    rounds = _quiet()
    width = max(
        rounds.overhead("se", "none", "control").half_width, rounds.control("none", "control").half_width
    )
    assert _found(rounds, width * 0.99) == ["target-missed"]
    assert _found(rounds, width) == []


def test_every_caution_has_words_and_a_next_step() -> None:
    found = {
        "control-failed", "contention", "preemption", "drift", "too-few-rounds", "target-missed", "one-process",
        "throttling", "spinning-threads",
    }
    assert found <= CAUTIONS.keys()


def test_where_only_a_few_rounds_fit_every_subject_is_warmed_up() -> None:
    """A cold first pass among many rounds does not move a median; among few it would."""
    few = Machine(_three(), lambda m: 1.0, warm=2)
    rounds = few.measure(seconds=0.15, processes=1)
    assert few.runs.count("se") == rounds.count + 1
    many = Machine(_three(), lambda m: 1.0, warm=2)
    rounds = many.measure(seconds=5.0, processes=1)
    assert many.runs.count("se") == rounds.count

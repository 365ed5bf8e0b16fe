"""A plan is made once from a spec and handed down, and each network is loaded and traced once in a process."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import secost
from secost.cli import main
from secost.networks import sources, tracing
from secost.plan.spec import Spec
from secost.plan.trials import Listener, Plan
from secost.work import run as running
from secost.work.comparison import Networks
from secost.work.run import make_plan
from secost.work.trainings import weights_of

NETS = str(Path(__file__).parents[1].joinpath("small_nets.py"))
RESIDUAL = f"{NETS}:residual"


class Seen:
    """What was loaded (name, scores, seed), traced (a graph each) and planned in this process."""

    def __init__(self) -> None:
        self.loads: Counter[tuple[Any, ...]] = Counter()
        self.traces: Counter[str] = Counter()
        self.plans = 0


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    found = Seen()
    load, trace, plan = sources.load, tracing._trace_on, running.make_plan

    def loading(model: str, allow_download: bool = False, classes: int | None = None, seed: int = 0) -> Any:
        found.loads[model, classes, seed] += 1
        return load(model, allow_download, classes, seed)

    def tracing_(net: Any, inputs: Any, meta: bool, dtype: Any) -> Any:
        graph = trace(net, inputs, meta, dtype)
        if not isinstance(net, torch.nn.ModuleList) and type(net).__module__ != "secost.meters.counts":
            nodes = json.dumps([type(net).__name__, graph.to_dict()]).encode()
            found.traces[hashlib.sha256(nodes).hexdigest()] += 1
        return graph

    def planning_(*given: Any, **named: Any) -> Plan:
        found.plans += 1
        return plan(*given, **named)

    for module in ("secost.networks.sources", "secost.work.comparison", "secost.work.trainings"):
        monkeypatch.setattr(f"{module}.load", loading)
    monkeypatch.setattr(tracing, "_trace_on", tracing_)
    for module in ("secost.work.run", "secost.work.trainings"):
        monkeypatch.setattr(f"{module}.make_plan", planning_)
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path_factory.mktemp("cache")))
    return found


def once(seen: Seen, *loads: tuple[Any, ...]) -> None:
    assert seen.loads == Counter(loads)
    assert seen.plans == 1
    assert set(seen.traces.values()) == {1}


@pytest.mark.parametrize("cache", [True, False])
def test_profile_loads_traces_and_plans_once(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: bool
) -> None:
    if not cache:
        monkeypatch.setenv("SECOST_CACHE", "")
    assert main(["profile", RESIDUAL, "--resolution", "32", "--no-latency", "-q", "-o", str(tmp_path / "run")]) == 0
    once(seen, (RESIDUAL, None, 0))


def test_a_network_with_attention_of_its_own_is_traced_with_it_and_without(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECOST_CACHE", "")
    records = secost.profile("mobilenetv3_small_050", ["native", "se"], resolution=32, latency=False)
    assert [record.label for record in records][:3] == ["none", "native", "se r=2"]
    once(seen, ("mobilenetv3_small_050", None, 0))
    assert len(seen.traces) == 2


def test_sweep_loads_each_network_once_for_all_its_settings(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECOST_CACHE", "")
    arguments = ["sweep", "--model", RESIDUAL, "--model", f"{NETS}:plain", "--resolution", "32", "-r", "4", "--stages",
                 "1", "--no-latency", "-q", "-o", str(tmp_path / "run")]
    spec = tmp_path / "grid.toml"
    spec.write_text("batch = [1, 2, 4]\nmodel = 'given beside it'\n")
    assert main(["sweep", str(spec), *arguments[1:]]) == 0
    once(seen, (RESIDUAL, None, 0), (f"{NETS}:plain", None, 0))


def test_train_loads_its_network_once_beside_those_of_the_trainings(seen: Seen, tmp_path: Path) -> None:
    classifier = f"{NETS}:classifier"
    assert main(["train", classifier, "-r", "4", "--seeds", "2", "--epochs", "1", "--no-latency", "-q", "-o",
                 str(tmp_path / "run")]) == 0
    once(seen, (classifier, 10, 0))


@pytest.mark.slow
def test_search_loads_once_the_network_that_it_measures_and_trains(
    seen: Seen, tmp_path: Path, few_rounds: float
) -> None:
    secost.search("small:resnet", out=tmp_path, max_macs=5.0, attentions=["se"], reductions=[4], trials=4, calibrate=3,
                  check=0, finalists=1, oneshot_epochs=1, exhaustive=0, population=2, seeds=1, epochs=1,
                  seconds=few_rounds, jobs=2)
    once(seen, ("small:resnet", 10, weights_of(0)))


def test_a_network_that_is_handed_out_again_is_as_it_was_loaded() -> None:
    networks = Networks()
    spec = Spec((RESIDUAL,), resolution=(32,), reductions=(4,), integration=("standard", "pre"), latency=False)
    from secost.work.run import run_comparisons

    records = [record for record, _ in run_comparisons(make_plan(spec).comparisons, spec, Listener(), networks)]
    assert [record.status for record in records] == ["done"] * 4
    again, fresh = networks.get(RESIDUAL), sources.load(RESIDUAL)
    assert list(again.state_dict()) == list(fresh.state_dict()) and not again.training
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again.state_dict().values(),
                                                                 fresh.state_dict().values(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in again.modules())


# --- what a plan knows ------------------------------------------------------------------------------------------------


def heard(run: Callable[[Listener], object]) -> list[Plan]:
    plans: list[Plan] = []
    run(Listener(on_plan=plans.append))
    return plans


def test_a_listener_hears_the_plan_with_what_is_done(tmp_path: Path) -> None:
    spec = Spec((RESIDUAL,), reductions=(2, 4), resolution=(32,), latency=False)
    (first,) = heard(lambda listener: secost.sweep(spec, tmp_path, listener=listener))
    (second,) = heard(lambda listener: secost.sweep(spec, tmp_path, listener=listener))
    assert first.done == frozenset() and first.seconds > 0
    assert second.done == set(second.keys) and second.seconds == 0 and not list(second.to_measure)


def test_seconds_are_those_of_what_is_left() -> None:
    spec = Spec((RESIDUAL,), reductions=(2, 4), seconds=30.0, batch=(1, 2), train=None)
    plan = make_plan(spec)
    counted = make_plan(spec.with_changes(latency=False))
    assert plan.seconds - counted.seconds == 60.0
    first = plan.comparisons[0]
    half = plan.having(trial.key for trial in first.trials)
    assert half.seconds == plan.seconds / 2 and half.costs_s == plan.seconds_of(first.trials)
    trained = make_plan(spec.with_changes(train={"seeds": 2, "epochs": 3}))
    assert trained.seconds - plan.seconds == trained.seconds_of(trained.trainings) > 0
    assert trained.costs_s == plan.seconds


def test_a_searchs_steps_are_part_of_its_seconds() -> None:
    spec = Spec((RESIDUAL,), train=None)
    asked = spec.with_changes(train={"seeds": 1}, search={"max_macs": 0.1, "trials": 10})
    more = spec.with_changes(train={"seeds": 1}, search={"max_macs": 0.1, "trials": 30, "epochs": 80})
    assert make_plan(spec.with_changes(train={"seeds": 1})).seconds < make_plan(asked).seconds < make_plan(more).seconds


def test_the_dry_run_reads_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["sweep", "--model", RESIDUAL, "--resolution", "32", "-r", "4,8", "--seconds", "50", "-o",
                 str(tmp_path / "run"), "--dry-run"]
    assert main(arguments) == 0
    plan = make_plan(Spec((RESIDUAL,), reductions=(4, 8), resolution=(32,), seconds=50.0))
    out = capsys.readouterr().out
    assert out.splitlines() == plan.lines()
    assert out == textwrap.dedent(f"""\
        {RESIDUAL} at 32 px, auto: none, se r=4, se r=8
        3 trials in 1 comparisons, 0 done, about 53 s left
    """)

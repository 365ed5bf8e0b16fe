"""The decision: equal to brute force over every subset of stages, and honest about limits, ties and what is unknown."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import secost
from secost.answers.budget import Choice, Limit, choices, decide
from secost.answers.groups import LATENCY, MACS, PARAMS, Group, group_records
from secost.cli import main
from secost.errors import BadSpecError
from secost.runs.records import FILE, Gain, Record
from secost.writing import parse_share

NETWORKS = ("resnet18", "mobilenetv2_050", "small:vgg")
RATIOS = (4, 16)
RESOLUTION = 64


def counted(model: str, stages: Sequence[int] | None = None, ratio: int | None = None) -> list[Record]:
    ratios = RATIOS if ratio is None else (ratio,)
    return secost.profile(model, ["se"], ratios, stages=stages, resolution=RESOLUTION, latency=False)


@pytest.fixture(scope="module")
def groups() -> dict[str, Group]:
    return {model: group_records(counted(model))[0] for model in NETWORKS}


@pytest.mark.parametrize("model", NETWORKS)
def test_every_subset_of_stages_costs_what_the_network_with_just_these_costs(
    model: str, groups: dict[str, Group]
) -> None:
    stages = [row["stage"] for row in groups[model].variants[0].by_stage]
    found = {(choice.stages, dict(choice.reductions).get(choice.stages[0])): choice
             for choice in choices(groups[model]) if choice.reductions}
    subsets = [subset for size in range(1, len(stages) + 1) for subset in itertools.combinations(stages, size)]
    assert len(found) == len(subsets) * len(RATIOS)
    for subset in subsets[:: max(1, len(subsets) // 6)]:
        for ratio in RATIOS:
            whole = counted(model, subset, ratio)[-1]
            prices = found[subset, ratio].prices
            assert prices["params"].value == pytest.approx(whole.params_overhead, rel=1e-12)
            assert prices["macs"].value == pytest.approx(whole.macs_overhead, rel=1e-12)


@pytest.mark.parametrize("per_stage", [False, True])
@pytest.mark.parametrize("model", NETWORKS)
def test_the_choice_is_that_of_brute_force(model: str, per_stage: bool, groups: dict[str, Group]) -> None:
    """Nested loops over the stages' own rows, with none of the code under test."""
    base, records = groups[model].baseline, {record.reduction: record for record in groups[model].variants}
    assert base is not None and base.params and base.macs
    stages = [row["stage"] for row in records[4].by_stage]
    for max_params, max_macs in ((0.02, 0.01), (0.005, 0.5), (0.3, 0.002), (0.05, 0.05)):
        best, best_rank = None, None
        for picked in itertools.product((None, *RATIOS), repeat=len(stages)):
            used = [(stage, ratio) for stage, ratio in zip(stages, picked, strict=True) if ratio is not None]
            if not used or (not per_stage and len({ratio for _, ratio in used}) > 1):
                continue
            params = macs = channels = memory = 0
            for stage, ratio in used:
                row = next(row for row in records[ratio].by_stage if row["stage"] == stage)
                sites = [site for site in records[ratio].by_site if site["stage"] == stage]
                params, macs, memory = params + row["params"], macs + row["macs"], memory + row["memory_bytes"]
                channels += sum(site["channels"] for site in sites)
            if params / base.params > max_params or macs / base.macs > max_macs:
                continue
            rank = (channels, params, -macs, -memory)
            if best_rank is None or rank > best_rank:
                best, best_rank = tuple(used), rank
        limits = [Limit(PARAMS, max_params), Limit(MACS, max_macs)]
        found = decide(choices(groups[model], per_stage), limits).best
        assert (found.reductions if found else None) == best


@pytest.mark.slow
def test_senets_stage_finding_dropping_the_last_stage_fits_4_percent() -> None:
    """Of 2,514,944 weights (no biases, as the paper counts) the last stage holds 1,572,864; 942,080 stay without it."""
    records = secost.profile("resnet50", ["se"], [16], latency=False)
    last = next(row for row in records[1].by_stage if row["stage"] == 4)
    biases = sum(site["channels"] + site["channels"] // 16 for site in records[1].by_site if site["stage"] == 4)
    assert last["params"] - biases == 1_572_864
    found = decide(choices(group_records(records)[0]), [Limit(PARAMS, 0.04)])
    assert found.best is not None and found.best.stages == (1, 2, 3) and found.binding == ("params",)
    assert [choice.stages for choice in found.steps] == [(1, 2, 3, 4)]


# --- time -------------------------------------------------------------------------------------------------------------


def timed(low: float, value: float, high: float) -> Group:
    """Two stages, of which the second takes three quarters of the time inside."""
    base = Record("net", "none", None, "auto", "standard", None, 0, 1, 32, "eager", "fp32", "cpu", 1, params=1000,
                  macs=1000, memory_bytes=1000, latency_ms=10.0)
    stages = [
        {"stage": 1, "sites": 1, "params": 10, "macs": 10, "memory_bytes": 10, "latency_ms": 0.1,
         "latency_low_ms": 0.09, "latency_high_ms": 0.11},
        {"stage": 2, "sites": 1, "params": 30, "macs": 30, "memory_bytes": 30, "latency_ms": 0.3,
         "latency_low_ms": 0.28, "latency_high_ms": 0.32},
    ]
    sites = [{"stage": 1, "channels": 16}, {"stage": 2, "channels": 64}]
    se = Record("net", "se", 16, "auto", "standard", None, 2, 1, 32, "eager", "fp32", "cpu", 1, params=1040, macs=1040,
                memory_bytes=1040, latency_ms=10.4, latency_overhead=value, latency_overhead_low=low,
                latency_overhead_high=high, by_stage=stages, by_site=sites)
    return group_records([base, se])[0]


def test_a_limit_holds_at_the_upper_end_of_the_interval() -> None:
    group = timed(0.03, 0.04, 0.05)
    assert decide(choices(group), [Limit(LATENCY, 0.05)]).best == choices(group)[3]
    found = decide(choices(group), [Limit(LATENCY, 0.045)]).best  # the middle would fit, the upper end does not
    assert found is not None and found.stages == (2,)


def test_time_is_shared_out_by_the_time_inside_and_its_upper_end_allows_for_the_shares_own_interval() -> None:
    first, second = choices(timed(0.03, 0.04, 0.05))[1:3]
    assert (first.prices["latency"].value, second.prices["latency"].value) == (pytest.approx(0.01), pytest.approx(0.03))
    assert first.prices["latency"].upper == pytest.approx(0.05 * 0.11 / (0.11 + 0.28))
    assert not first.measured and choices(timed(0.03, 0.04, 0.05))[3].measured


def test_a_limit_on_what_nobody_measured_is_refused() -> None:
    records = counted("small:vgg")
    with pytest.raises(BadSpecError, match="a limit on time can't be held to anything"):
        decide(choices(group_records(records)[0]), [Limit(LATENCY, 10.0)])


def test_a_time_without_an_interval_keeps_no_limit() -> None:
    group = timed(0.03, 0.04, 0.05)
    for record in group.variants:
        record.latency_overhead_low = record.latency_overhead_high = None
    assert all("latency" not in choice.prices for choice in choices(group) if choice.reductions)


def test_a_gain_of_another_network_or_placement_is_not_taken() -> None:
    group = timed(0.03, 0.04, 0.05)
    for changes in ({"model": "other"}, {"placement": "conv"}, {"integration": "pre"}):
        gains = [Gain(**({"model": "net", "attention": "se", "reduction": 16, "points": 1.0, "low": 0.5, "high": 1.5,
                          "pairs": 5, "source": FILE, "basis": "x"} | changes))]  # type: ignore[arg-type]
        assert all(choice.gain is None for choice in choices(group, gains=gains))


def test_the_nearest_miss_is_the_one_least_over() -> None:
    found = decide(choices(timed(0.03, 0.04, 0.05)), [Limit(PARAMS, 0.005)])
    assert found.best is None and found.nearest is not None and found.nearest.stages == (1,)


def test_what_binds_is_what_every_step_further_breaks() -> None:
    found = decide(choices(timed(0.03, 0.04, 0.05)), [Limit(PARAMS, 0.035), Limit(MACS, 0.9)])
    assert found.best is not None and found.best.stages == (2,) and found.binding == ("params",)


# --- gains ------------------------------------------------------------------------------------------------------------


def test_with_gains_the_best_gain_wins_and_unknown_ones_come_last() -> None:
    group = timed(0.03, 0.04, 0.05)
    gains = [Gain("net", "se", 16, 0.4, 0.1, 0.7, 5, FILE, "mine.csv", stages=(1,))]
    found = decide(choices(group, gains=gains), []).best
    assert found is not None and found.stages == (1,) and found.gain is gains[0]
    bare: Choice | None = decide(choices(group), []).best
    assert bare is not None and bare.stages == (1, 2)


# --- words and the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("4%", 0.04), ("0.04", 0.04), ("0", 0.0), ("2.5 %", 0.025), ("250%", 2.5)])
def test_a_share_is_read(text: str, value: float) -> None:
    assert parse_share("--max-params", text) == value


@pytest.mark.parametrize("text", ["4", "four", "-1%", "3pt", "", "1%%"])
def test_a_share_that_could_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(BadSpecError, match=r"--max-params .* is no share"):
        parse_share("--max-params", text)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    secost.profile("small:vgg", ["se"], RATIOS, resolution=32, latency=False, out=out / "run")
    return out / "run"


def test_the_command_prints_the_choice_what_binds_and_the_next_steps(
    capsys: pytest.CaptureFixture[str], saved: Path
) -> None:
    assert main(["budget", str(saved), "--max-params", "1%", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["decisions"]
    assert found["choice"]["params_overhead"] <= 0.01 and found["binding"] == ["params"] and found["steps"]
    assert found["choice"]["attention"] == "se"


def test_limits_that_nothing_meets_show_the_nearest_miss_and_exit_1(
    capsys: pytest.CaptureFixture[str], saved: Path
) -> None:
    assert main(["budget", str(saved), "--max-macs", "0.0001%"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Nothing meets the limits. Nearest:" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-params", "4"], "no share"), (["--benefit", "hearsay"], "unknown source of benefit"),
        (["--benefit", "file"], "give --accuracy mine.csv"), (["--benefit", "trained"], "no accuracy was trained"),
        (["--benefit", "trained", "--accuracy", "x.csv"], "never mixed"),
    ],
)
def test_bad_requests_are_one_line(
    capsys: pytest.CaptureFixture[str], saved: Path, arguments: list[str], said: str
) -> None:
    assert main(["budget", str(saved), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and said in captured.err and captured.err.count("\n") == 1


def test_a_run_without_a_whole_variant_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    secost.profile("small:vgg", ["se"], [4], resolution=32, latency=False, stages=[3], out=tmp_path / "run")
    assert main(["budget", str(tmp_path / "run")]) == 2
    assert "without --stages" in capsys.readouterr().err


def test_a_run_with_single_stages_beside_the_whole_is_priced_from_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secost.sweep(secost.Spec.from_dict({"models": "resnet18", "attention": "se", "reductions": [4], "latency": False,
                                        "stages": [[4], "all"], "resolution": RESOLUTION}), tmp_path / "run")
    assert main(["budget", str(tmp_path / "run"), "--max-params", "5%"]) == 0
    out, err = capsys.readouterr()
    assert "stages 4: left out, as the records of all stages price every subset" in err
    assert "resnet18" in out

"""Runs: killed at any moment and started again, a sweep ends with the records of an undisturbed one."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest

import secost
from secost.errors import BadSpecError, UnknownNameError
from secost.meters.processes import ChildError, in_child
from secost.plan.spec import Spec
from secost.plan.trials import Listener
from secost.runs.store import read_run
from secost.work.run import make_plan

NETS = str(Path(__file__).parents[1].joinpath("small_nets.py"))
GRID = Spec(
    models=(f"{NETS}:residual", f"{NETS}:plain"), attention=("se", "cbam", "gc"), reductions=(2, 4, 8),
    resolution=(32,), latency=False,
)
# 2 networks x (none + 3 attentions x 3 ratios)
TRIALS = 20

PATIENCE_S = 600.0


def sweep_and_die(spec: Spec, out: Path, after: int) -> None:
    """Runs the sweep and kills its own process, for real, after the given number of committed records."""
    heard = itertools.count(1)
    secost.sweep(spec, out, listener=Listener(
        on_record=lambda record: os.kill(os.getpid(), signal.SIGKILL) if next(heard) == after else None))


# The same in a process of its own, which may fork to measure. Rounds end by their number.
KILLED = textwrap.dedent("""
    import json, os, signal, sys
    from secost.meters import latency
    latency._precise = lambda *given: True
    from secost import api
    from secost.plan.spec import Spec
    from secost.plan.trials import Listener

    left = int(sys.argv[3])
    def count(record):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    api.sweep(Spec.from_dict(json.loads(sys.argv[1])), sys.argv[2], listener=Listener(on_record=count))
""")


def run_killed(spec: Spec, out: Path, after: int) -> int:
    arguments = [sys.executable, "-c", KILLED, json.dumps(spec.to_dict()), str(out), str(after)]
    return subprocess.run(arguments, check=False, capture_output=True).returncode


@pytest.mark.slow
def test_a_sweep_killed_at_several_moments_ends_with_the_records_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = [record.to_dict() for record in secost.sweep(GRID, tmp_path / "whole")]
    assert len(undisturbed) == TRIALS
    for after in (1, 6, 4):  # right after the first record, in mid-comparison, over the border of two networks
        with pytest.raises(ChildError, match="SIGKILL"):
            in_child(partial(sweep_and_die, GRID, tmp_path / "killed", after), PATIENCE_S)
    assert len(read_run(tmp_path / "killed")[1]) == 1 + 6 + 4
    assert [record.to_dict() for record in secost.sweep(GRID, tmp_path / "killed")] == undisturbed


def test_a_finished_sweep_started_again_measures_nothing(tmp_path: Path) -> None:
    first = secost.sweep(GRID, tmp_path)
    started: list[object] = []
    again = secost.sweep(GRID, tmp_path, listener=Listener(on_comparison=lambda *given: started.append(given)))
    assert started == [] and [r.to_dict() for r in again] == [r.to_dict() for r in first]


def test_a_resumed_comparison_measures_the_baseline_again_beside_what_is_left(
    tmp_path: Path, few_rounds: float
) -> None:
    spec = Spec(models=(f"{NETS}:residual",), reductions=(2, 4), resolution=(32,), seconds=few_rounds)
    assert run_killed(spec, tmp_path, 2) == -signal.SIGKILL
    records = secost.sweep(spec, tmp_path)
    assert [r.label for r in records] == ["none", "se r=2", "se r=4"]
    assert all(r.samples and r.rounds == len(r.samples["baseline_s"]) for r in records)
    assert records[1].samples["baseline_s"] != records[2].samples["baseline_s"]  # each keeps the rounds it was in


def test_a_failed_trial_is_run_again_only_when_asked(tmp_path: Path) -> None:
    spec = Spec(models=(f"{NETS}:broken",), reductions=(2,), resolution=(32,), latency=False)
    first = secost.sweep(spec, tmp_path)
    assert [r.status for r in first] == ["failed", "failed"]
    assert secost.sweep(spec, tmp_path, retry_failed=True)[0].error == first[0].error


def test_the_plan_runs_an_attention_without_r_once() -> None:
    spec = Spec(models=("resnet18",), attention=("native", "none", "se", "eca"), reductions=(4, 8))
    trials = make_plan(spec).comparisons[0].trials
    assert [trial.label for trial in trials] == ["none", "native", "se r=4", "se r=8", "eca"]


def test_an_unknown_attention_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        secost.sweep(Spec(models=(f"{NETS}:plain",), attention=("ecaa",)), tmp_path / "run")


def test_a_spec_survives_toml_and_json(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(textwrap.dedent("""
        model = "resnet18"
        attention = ["se", "eca"]
        reduction = [4, 16]
        stages = [[4], [3, 4], "all"]
        latency = false
    """))
    spec = Spec.from_toml(path)
    assert spec.models == ("resnet18",) and spec.stages == ((4,), (3, 4), None)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_keys_tell_every_trial_apart_and_stay_the_same() -> None:
    keys = make_plan(GRID).keys
    assert len(set(keys)) == TRIALS and make_plan(GRID).keys == keys


def test_profile_leaves_a_module_of_the_users_as_it_was() -> None:
    import torch

    net = secost.load(f"{NETS}:residual").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    records = secost.profile(net, attentions=["se", "eca"], reductions=[4], resolution=32, latency=False)
    assert [r.attention for r in records] == ["none", "se", "eca"]
    assert net.training and torch.equal(torch.get_rng_state(), state)
    assert list(before) == list(net.state_dict())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


UNHURRIED = """
import time
from torch import nn

class Unhurried(nn.Sequential):
    def forward(self, x):
        time.sleep(0.05)
        return super().forward(x)

def plain():
    return Unhurried(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                     nn.Flatten(), nn.Linear(16, 10))
"""


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    """The first network ends by its number of rounds; the second's 6 processes sleep through 14 s and more."""
    (tmp_path / "unhurried.py").write_text(UNHURRIED)
    command = [sys.executable, "-m", "secost", "sweep", "--model", f"{NETS}:residual", "--model",
               f"{tmp_path / 'unhurried.py'}:plain", "--resolution", "32", "-r", "4", "--seconds", "300", "--target",
               "0.9", "-o", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "plain" in line:  # the first network is finished, the second has begun
                process.send_signal(signal.SIGINT)
                break
        error = process.stderr.read()
    assert process.returncode == 130
    assert "run the same command to go on" in error and "Traceback" not in error
    assert [record.label for record in read_run(tmp_path / "run")[1]] == ["none", "se r=4"]


def test_a_grid_of_backends_and_precisions_has_what_there_is_of_it() -> None:
    spec = Spec(models=("resnet18",), backend=("eager", "onnxruntime", "openvino"), precision=("fp32", "int8"))
    found = [(c.setting.backend, c.setting.precision) for c in make_plan(spec).comparisons]
    assert found == [("eager", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"),
                     ("openvino", "int8")]
    assert make_plan(spec).left_out == ("eager has no int8",)


@pytest.mark.parametrize(
    ("backends", "precisions", "formats"),
    [(("eager",), ("int8",), ("contiguous",)), (("eager",), ("fp32", "int8"), ("contiguous",)),
     (("eager", "openvino"), ("int8",), ("contiguous",)), (("onnxruntime", "openvino"), ("fp32",), ("channels-last",))],
)
def test_what_no_backend_of_a_grid_has_is_refused(
    backends: tuple[str, ...], precisions: tuple[str, ...], formats: tuple[str, ...]
) -> None:
    spec = Spec(models=("resnet18",), backend=backends, precision=precisions, memory_format=formats)
    with pytest.raises(BadSpecError, match=r"has no (precision|memory format)"):
        make_plan(spec)

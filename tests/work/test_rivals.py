"""Alternatives to attention: other networks in the rounds of one, counted as they are and trained from its seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secost
from secost.answers.evidence import trained_gains
from secost.cli import main
from secost.errors import BadSpecError
from secost.networks.recognition import find_attention
from secost.networks.sources import image_input, load
from secost.networks.tracing import trace
from secost.plan.trials import Setting
from secost.runs.records import DONE, FAILED, Record
from secost.work.comparison import Networks
from secost.work.rivals import rival_of

DEEPER, FINER = "scaled:small:shallow@2x1", "small:shallow@32"
QUICK: dict[str, Any] = {"reductions": 4, "resolution": 16, "seconds": 0.4, "target": 0.5}


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    found = secost.profile("small:shallow", "se", alternatives=[DEEPER, "@32"], **QUICK)
    return {record.label: record for record in found}


def test_they_come_last_under_their_names_as_networks_without_attention(records: dict[str, Record]) -> None:
    assert list(records) == ["none", "se r=4", DEEPER, FINER]
    others = [records[DEEPER], records[FINER]]
    assert [(one.attention, one.alternative, one.status) for one in others] == [
        ("none", DEEPER, DONE), ("none", FINER, DONE)]
    assert not any(one.is_baseline for one in others) and records["none"].is_baseline


def test_each_is_counted_as_it_is_when_it_stands_alone(records: dict[str, Record]) -> None:
    deeper, = secost.profile(DEEPER, "none", latency=False, resolution=16)
    finer, = secost.profile("small:shallow", "none", latency=False, resolution=32)
    for mine, alone in ((records[DEEPER], deeper), (records[FINER], finer)):
        for field in ("params", "macs", "memory_bytes", "kernels", "activations"):
            assert getattr(mine, field) == getattr(alone, field), field
        assert mine.attention_params == mine.attention_macs == mine.sites == 0
    # Three times the pixels more, of everything but the linear layer.
    convolved = records["none"].macs - 32 * 10  # type: ignore[operator]
    assert records[FINER].macs == 4 * convolved + 32 * 10
    assert records[FINER].macs_overhead == pytest.approx(3 * convolved / records["none"].macs)  # type: ignore[operator]


def test_their_times_are_of_the_same_rounds(records: dict[str, Record]) -> None:
    rounds = {record.rounds for record in records.values()}
    assert len(rounds) == 1 and None not in rounds
    base = [record.samples["baseline_s"] for record in records.values() if record.samples]
    assert all(times == base[0] for times in base)
    assert records[DEEPER].latency_overhead is not None and records[DEEPER].latency_overhead > 0


@pytest.mark.parametrize("settings", [{"backend": "onnxruntime"}, {"batch": 2, "memory_format": "channels-last"}])
def test_where_each_variant_is_a_copy_they_are_too(settings: dict[str, Any]) -> None:
    found = secost.profile("small:shallow", "se", alternatives=[DEEPER, "@32"], **QUICK, **settings)
    assert [record.status for record in found] == [DONE] * 4
    assert all(record.latency_overhead is not None for record in found[1:])


def test_the_network_is_left_as_it_was_and_runs_larger_images_itself() -> None:
    net = load("small:shallow")
    image = image_input(net, 16)[0]
    before = net(image)
    found = secost.profile(net, "se", alternatives="@32", **QUICK)
    assert [record.label for record in found] == ["none", "se r=4", "Sequential@32"]
    assert torch.equal(net(image), before)


def test_one_that_ships_with_attention_stands_there_without() -> None:
    net = load("small:shallow", classes=1000).eval()
    graph = trace(net, image_input(net, 64))
    rival = rival_of("seresnet18", Setting("small:shallow", resolution=64), net, graph, Networks())
    assert not find_attention(rival.graph)
    plain = load("resnet18")
    assert sum(map(torch.numel, rival.net.parameters())) == sum(map(torch.numel, plain.parameters()))


@pytest.mark.parametrize(("name", "words"), [
    ("resnet1000", "unknown model 'resnet1000'"), ("resnet18", "gives [1000] scores and small:shallow [10]"),
    ("@3000000000", "can't stand beside small:shallow"), ("scaled:small:shallow@0x1", "is no scaled network"),
])
def test_one_that_cant_stand_there_is_one_line_before_anything_is_measured(
    name: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:
    command = ["profile", "small:shallow", "--alternatives", name, "-r", "4", "--resolution", "16", "-o",
               str(tmp_path / "run")]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out and not (tmp_path / "run").exists()


def test_one_of_another_kind_of_input_is_told() -> None:
    with pytest.raises(BadSpecError, match="it has inputs of its own, so it is run at no other resolution"):
        secost.profile("small:shallow", "se", alternatives="@32", example=torch.randn(1, 3, 16, 16), reductions=4,
                       seconds=0.2)


def test_in_a_sweep_it_fails_alone(tmp_path: Path) -> None:
    spec = secost.Spec.from_dict({"models": "small:shallow", "alternatives": ["resnet18", DEEPER], **QUICK})
    found = secost.sweep(spec, tmp_path / "run")
    assert [(record.label, record.status) for record in found] == [
        ("none", DONE), ("se r=4", DONE), ("resnet18", FAILED), (DEEPER, DONE)]
    assert found[2].error is not None and "gives [1000] scores" in found[2].error


def test_they_are_trained_from_the_same_seeds(tmp_path: Path) -> None:
    found = secost.train("small:shallow", "se", 4, out=tmp_path / "run", alternatives="auto", seeds=2, epochs=1,
                         augment=False, latency=False, jobs=1)
    trained = [record for record in found if record.trained]
    wider = "scaled:small:shallow@1x1.5"
    assert [(record.label, record.seed) for record in trained] == [
        (label, seed) for seed in (0, 1) for label in ("none", "se r=4", DEEPER, wider)]
    gains = {gain.alternative: gain for gain in trained_gains(found)}
    assert set(gains) == {None, DEEPER, wider}
    base = {record.seed: record.top1 for record in trained if record.is_baseline}
    mine = {record.seed: record.top1 for record in trained if record.label == wider}
    assert gains[wider].pairs == 2
    assert gains[wider].points == pytest.approx(sum(mine[seed] - base[seed] for seed in base) / 2)  # type: ignore


def test_a_data_set_has_one_resolution(tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match="'small:shallow@32' can't be trained: digits has images of 8 px"):
        secost.train("small:shallow", "se", 4, out=tmp_path / "run", alternatives="@32", seeds=1, epochs=1)
    assert not (tmp_path / "run").exists()


def test_a_killed_run_goes_on_with_them(tmp_path: Path) -> None:
    spec = secost.Spec.from_dict({"models": "small:shallow", "alternatives": [DEEPER], **QUICK})
    once = secost.sweep(spec, tmp_path / "run")
    again = secost.sweep(spec, tmp_path / "run")
    assert again == once and isinstance(load(DEEPER), nn.Module)

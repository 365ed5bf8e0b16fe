"""Which alternatives a network gets, by name, and that they change nothing where there are none."""

from __future__ import annotations

from typing import Any

import pytest

from secost.errors import BadSpecError
from secost.plan.alternatives import alternatives_of, check_alternatives, split_alternative
from secost.plan.spec import Spec
from secost.plan.trials import Plan, Setting, Trial, rounds_s
from tests import made_alternatives


def spec(**given: Any) -> Spec:
    return Spec.from_dict({"models": "resnet50", **given})


def beside(**given: Any) -> list[str]:
    return [trial.label for comparison in spec(**given).comparisons({"se": True}) for trial in comparison.trials
            if trial.alternative is not None]


@pytest.mark.parametrize(("name", "expected"), [
    ("resnet101", ("resnet101", None)), ("resnet50@288", ("resnet50", 288)), ("@288", ("resnet50", 288)),
    ("scaled:small:resnet@2x1", ("scaled:small:resnet@2x1", None)),
    ("scaled:net.py:make@1x1.5@64", ("scaled:net.py:make@1x1.5", 64)), ("torchvision:resnet50@96", (
        "torchvision:resnet50", 96)),
])
def test_a_name_is_a_network_a_resolution_or_both(name: str, expected: tuple[str, int | None]) -> None:
    assert split_alternative(name, "resnet50") == expected


def test_auto_is_what_is_published_beside_the_network_in_its_own_library() -> None:
    assert beside(alternatives="auto") == ["resnet101", "resnet50@288"]
    assert beside(models="torchvision:resnet50", alternatives="auto") == [
        "torchvision:resnet101", "torchvision:resnet50@288"]
    assert beside(models="resnet50.a1_in1k", alternatives="auto") == ["resnet101", "resnet50@288"]
    assert beside(models="timm:resnet50", alternatives="auto") == ["timm:resnet101", "timm:resnet50@288"]
    assert beside(models="torchvision:resnext50_32x4d", alternatives="auto") == [
        "resnext101_32x4d", "torchvision:resnext50_32x4d@288"]  # which torchvision lacks
    assert beside(models="torchvision:mobilenet_v2", alternatives="auto") == ["mobilenetv2_140"]


@pytest.mark.parametrize("given", [
    {}, {"alternatives": "none"}, {"alternatives": "auto", "resolution": 160},
    {"alternatives": "auto", "latency": False}, {"alternatives": "auto", "models": "small:resnet"},
    {"alternatives": "auto", "models": "nets/resnet50.py:make"}, {"alternatives": "auto", "models": "resnet50.py:make"},
    {"alternatives": "auto", "models": "transformers:resnet50"}, {"alternatives": "auto", "resolution": 225},
    {"alternatives": "auto", "models": "efficientnet_b0"},
])
def test_auto_is_nothing_where_nothing_is_published_or_measured(given: dict[str, Any]) -> None:
    assert beside(**given) == []


def test_named_ones_are_counted_too_where_nothing_is_measured() -> None:
    assert beside(alternatives=["resnet101", "@160", "resnet50@160"], latency=False) == ["resnet101", "resnet50@160"]


def test_of_trainings_auto_is_the_network_deeper_and_wider() -> None:
    assert alternatives_of(("auto",), "small:vgg", 32, trained=True) == (
        "scaled:small:vgg@2x1", "scaled:small:vgg@1x1.5")
    assert alternatives_of(("auto",), "resnet50", 224, trained=True) == ()


def test_of_several_networks_each_gets_its_own() -> None:
    names, models = ("resnet18@256", "@288", "scaled:net.py:f@1x2"), ("resnet18", "resnet50", "net.py:f")
    check_alternatives(names, models)
    assert [alternatives_of(names, model, 224) for model in models] == [
        ("resnet18@256", "resnet18@288"), ("resnet50@288",), ("net.py:f@288", "scaled:net.py:f@1x2")]


@pytest.mark.parametrize(("names", "models", "words"), [
    (("auto", "resnet101"), ("resnet50",), "auto stands alone"), (("x", "none"), ("resnet50",), "none stands alone"),
    (("resnet101",), ("resnet18", "resnet50"), "does not say of which of 2 networks"),
    (("resnet18@256",), ("resnet50",), "'resnet18@256' is no alternative to resnet50"),
    (("scaled:small:resnet@2x1",), ("small:vgg",), "is no alternative to small:vgg"),
    (("resnet50@288",), ("torchvision:resnet50",), "is no alternative to torchvision:resnet50"),
    (("resnet50",), ("resnet50",), "'resnet50' is no alternative to resnet50"),
])
def test_names_that_can_be_no_alternative_are_one_line(
    names: tuple[str, ...], models: tuple[str, ...], words: str,
) -> None:
    with pytest.raises(BadSpecError, match=words) as caught:
        check_alternatives(names, models)
    assert "\n" not in str(caught.value)


def test_the_kept_list_is_what_the_published_tables_come_to() -> None:
    assert made_alternatives.FILE.read_text(encoding="utf-8") == made_alternatives.text()


def test_keys_and_specs_are_what_they_were_before_there_were_any() -> None:
    plain = Trial(Setting("resnet18"), "se", 16)
    assert Trial(Setting("resnet18"), "none").key == "eaa9a07ea3b384a0"  # by the code before
    assert len({Trial(Setting("resnet18"), "none", alternative=name).key for name in (None, "resnet34", "@288")}) == 3
    assert plain.key != Trial(Setting("resnet18"), "none", alternative="resnet34").key
    assert Trial(Setting("resnet18"), "none").key != Trial(Setting("resnet18"), "none", alternative="resnet34").key
    assert "alternatives" not in spec().to_dict() and spec(alternatives="auto").to_dict()["alternatives"] == ["auto"]
    assert Spec.from_dict(spec(alternatives=["@160", "resnet101"]).to_dict()).alternatives == ("@160", "resnet101")


def test_a_run_begun_without_may_go_on_with_the_usual_ones_and_with_no_others() -> None:
    assert spec(alternatives="auto").difference_in_run(spec()) is None
    assert "alternatives" in (spec(alternatives="resnet101").difference_in_run(spec()) or "")
    assert "alternatives" in (spec().difference_in_run(spec(alternatives="auto")) or "")
    assert "batch" in (spec(alternatives="auto", batch=2).difference_in_run(spec()) or "")


def test_alternatives_are_trained_from_the_same_seeds() -> None:
    made = spec(models="small:resnet", resolution=8, alternatives="auto", latency=False, train={"seeds": 2})
    trainings = [trial for trial in made.trainings(made.comparisons({"se": True})[0]) if trial.alternative is not None]
    assert [(trial.alternative, trial.training and trial.training.seed) for trial in trainings] == [
        (f"scaled:small:resnet@{scale}", seed) for seed in (0, 1) for scale in ("2x1", "1x1.5")]
    assert [trial.label for trial in trainings[:2]] == ["scaled:small:resnet@2x1", "scaled:small:resnet@1x1.5"]
    assert not any(trial.is_baseline for trial in trainings)


def test_the_variants_keep_their_time() -> None:
    comparison, = spec(alternatives="auto", seconds=20).comparisons({"se": True})
    assert rounds_s(20.0, comparison.trials) == 40.0 and rounds_s(20.0, comparison.trials[:2]) == 20.0
    alone = Plan(spec(seconds=20), tuple(spec(seconds=20).comparisons({"se": True})))
    both = Plan(spec(seconds=20, alternatives="auto"), (comparison,))
    assert both.costs_s == alone.costs_s + 20.0

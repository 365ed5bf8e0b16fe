"""What a decision rests on besides the gains: a training's noise, eras, what scaling buys instead, where SE sits."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest

from secost.answers import where
from secost.answers.expected import published_for
from secost.answers.published import (
    CLASSICAL,
    IMAGENET,
    MAP,
    MODERN,
    PublishedAccuracy,
    left_out_pairs,
    published_accuracies,
    published_gains,
    references,
    scaling_rows,
    seed_noise,
    training_sd,
)
from secost.errors import UnknownNameError


def one(
    source: str, table: str = "", recipe: str = "", network: str = "resnet50", **cells: object
) -> PublishedAccuracy:
    return next(row for row in published_accuracies() if row.source.startswith(source) and row.table.startswith(table)
                and recipe in ("", row.recipe) and row.network == network
                and all(getattr(row, name) == value for name, value in cells.items()))


# --- the noise of a training ---


def test_the_noise_is_pooled_by_degrees_of_freedom() -> None:
    """By hand: on CIFAR-100 four networks with three runs each; on CIFAR-10 two more with five."""
    assert training_sd("CIFAR-100", CLASSICAL) == pytest.approx(sqrt((0.10**2 + 0.38**2 + 0.36**2 + 0.23**2) / 4))
    threes, fives = 0.16**2 + 0.05**2 + 0.10**2 + 0.11**2, 0.16**2 + 0.20**2
    assert training_sd("CIFAR-10", CLASSICAL) == pytest.approx(sqrt((2 * threes + 4 * fives) / 16))
    goyal = 0.10**2 + 0.12**2 + 0.09**2 + 0.09**2
    assert training_sd(IMAGENET, CLASSICAL) == pytest.approx(sqrt((4 * goyal + 999 * 0.118**2) / 1015))


def test_the_noise_of_modern_recipes_is_of_their_own_rows() -> None:
    rows = [row for row in seed_noise() if (row.dataset, row.era) == (IMAGENET, MODERN)]
    assert len(rows) > 15 and {row.seeds for row in rows} == {3, 100}
    pooled = training_sd(IMAGENET, MODERN)
    assert pooled is not None and min(row.top1_sd for row in rows) < pooled < max(row.top1_sd for row in rows)
    assert training_sd("CIFAR-10", MODERN) == pytest.approx(0.149) != training_sd("CIFAR-10", CLASSICAL)


@pytest.mark.parametrize(("dataset", "era"), [("CIFAR-100", MODERN), ("COCO 2017 val", CLASSICAL), (IMAGENET, "")])
def test_a_noise_nobody_published_is_none(dataset: str, era: str) -> None:
    assert training_sd(dataset, era) is None


def test_short_and_partial_trainings_are_not_pooled_with_whole_ones() -> None:
    """Picard's 10,000 seeds of 30 s would be all there is of CIFAR-10, and his ImageNet trains one layer."""
    picard = {row.dataset for row in seed_noise() if row.source.startswith("Picard")}
    assert len(picard) == 2 and not picard & {"CIFAR-10", IMAGENET}


def test_every_noise_has_its_place_and_says_where_it_was_read() -> None:
    rows = seed_noise()
    assert all(row.source and row.where and row.era in (CLASSICAL, MODERN) and row.seeds > 1 and 0 < row.top1_sd < 1
               for row in rows)
    assert all(("from memory" in row.note) >= (not row.verified) for row in rows)
    assert 1 <= sum(not row.verified for row in rows) <= 3


# --- eras and metrics ---


def test_every_row_has_an_era_and_a_metric() -> None:
    rows = published_accuracies()
    assert {row.era for row in rows} == {CLASSICAL, MODERN} and {row.metric for row in rows} == {"top1", MAP}
    assert all(bool(row.line) <= bool(row.network) for row in rows)


@pytest.mark.parametrize(
    ("source", "recipe", "network", "era"),
    [("SENet arXiv", "", "resnet50", CLASSICAL), ("timm", "a1_in1k", "resnet50", MODERN),
     ("timm", "gluon_in1k", "resnet50", CLASSICAL), ("timm", "gluon_in1k", "resnext50_32x4d", MODERN),
     ("pycls", "", "resnet50", CLASSICAL), ("timm", "pycls_in1k", "regnetx_016", CLASSICAL),
     ("ECA-Net arXiv", "", "resnet50", CLASSICAL), ("ECA-Net arXiv", "", "mobilenetv2_100", MODERN),
     ("Coordinate", "", "mobilenetv2_100", CLASSICAL), ("hanser", "", "resnet50d", CLASSICAL)],
)
def test_an_era_is_that_of_the_recipe(source: str, recipe: str, network: str, era: str) -> None:
    """120 epochs without mixup and 200 with it are gluon's two; ECA's MobileNetV2 has about 400."""
    assert one(source, recipe=recipe, network=network).era == era


def test_se_gains_less_under_modern_recipes() -> None:
    """The medians of the two eras, and of all: what is new must not move them unseen."""
    by_era = {era: references("se", [pair for pair in published_gains(["se"]) if pair.base.era == era])[0]
              for era in (CLASSICAL, MODERN)}
    assert (by_era[CLASSICAL].pairs, by_era[CLASSICAL].median) == (25, 1.01)
    assert (by_era[MODERN].pairs, by_era[MODERN].median) == (18, 0.611)
    assert (references("se")[0].pairs, references("se")[0].median) == (43, 0.888)


def test_no_pair_crosses_metrics_and_top1_is_what_one_gets() -> None:
    assert {pair.row.metric for pair in published_gains()} == {"top1"}
    detection = published_gains(metric=MAP)
    assert len(detection) == 20 and {(pair.base.metric, pair.row.metric) for pair in detection} == {(MAP, MAP)}
    assert {pair.row.attention for pair in detection} == {"gc"} and left_out_pairs([], None, None, MAP) == []
    first = detection[0]
    assert (first.base.top1, first.row.top1, first.points) == (37.3, 38.5, 1.2)
    with pytest.raises(UnknownNameError):
        published_gains([], "detector")


def test_attention_in_some_blocks_is_no_gain_of_the_whole_network() -> None:
    """PP-LCNet: SE in the last two blocks gains 0.63 and in the first two loses 0.78; in all 13 it gains 1.76."""
    pairs = [pair for pair in published_gains(["se"]) if pair.row.source.startswith("PP-LCNet")]
    points = {pair.row.placement: pair.points for pair in pairs}
    assert points == {"all 13 blocks": 1.76, "blocks 12-13 of 13 only": 0.63, "blocks 7-8 of 13 only": -0.34,
                      "blocks 1-2 of 13 only": -0.78}
    family = {found.kind: found for found in references("se")}["family lcnet"]
    assert (family.pairs, family.median) == (1, 1.76)


@pytest.mark.parametrize("source", ["imgclsmob gluon/README.md (osmr/imgclsmob @90", "moskomule", "Triplet", "FcaNet"])
def test_what_another_recipe_or_no_baseline_stands_beside_makes_no_gain(source: str) -> None:
    gains = [pair for pair in published_gains() if pair.row.source.startswith(source)]
    assert not any(pair.row.dataset == IMAGENET for pair in gains)


def test_a_longer_training_with_se_is_not_compared_with_a_shorter_one_without() -> None:
    """PaddleClas trained ResNeXt50 120 epochs and SE-ResNeXt50 200 with mixup; its vd networks are of one recipe."""
    models = {pair.row.model for pair in published_gains(["se"]) if pair.row.source.startswith("PaddleClas")}
    assert models == {"ResNet18_vd", "ResNet34_vd", "ResNet50_vd"}
    assert {gain.points for gain in published_for("resnet18d", ["se"])} == {1.0}


def test_a_borrowed_baseline_makes_no_pair() -> None:
    """EMA's ResNet101 without attention is the training of weiaicunzai/pytorch-cifar100."""
    out = {(pair.row.model, pair.row.attention): pair.left_out for pair in left_out_pairs([], None, None)
           if pair.row.source.startswith("EMA")}
    assert set(out) == {("ResNet101", "coord"), ("ResNet101", "ema")} and "weiaicunzai" in out["ResNet101", "ema"]


def test_few_figures_are_from_memory() -> None:
    rows = published_accuracies()
    assert 0 < sum(not row.verified for row in rows) < 0.02 * len(rows)


# --- what the same time buys ---


def test_senets_table_2_has_the_deeper_networks() -> None:
    found = {row.network: row.top1 for row in scaling_rows(one("SENet arXiv", "Table 2 (re"))}
    assert found == {"resnet101": pytest.approx(100 - 23.17), "resnet152": pytest.approx(100 - 22.42)}
    with_se = one("SENet arXiv", "Table 2 (re", attention="se")
    assert {row.network for row in scaling_rows(with_se)} == set(found)
    resnext = scaling_rows(one("SENet arXiv", "Table 2 (re", network="resnext50_32x4d"))
    assert [(row.network, row.top1) for row in resnext] == [("resnext101_32x4d", 78.82)]


@pytest.mark.parametrize(("recipe", "size", "top1"), [("a1_in1k", 224, 81.494), ("a2_in1k", 288, 82.224),
                                                      ("a3_in1k", 224, 79.82)])
def test_resnet_strikes_back_has_resnet101(recipe: str, size: int, top1: float) -> None:
    found = {(row.network, row.resolution): row.top1
             for row in scaling_rows(one("timm", recipe=recipe, resolution=size, attention="none"))}
    assert found["resnet101", size] == top1 and {"resnet18", "resnet34", "resnet152"} <= {name for name, _ in found}
    assert ("resnet50", size) not in found and any(name == "resnet50" for name, _ in found)


def test_a_line_holds_one_kind_of_network_and_one_recipe() -> None:
    """resnet50d is no resnet50; an empty line (what secost can't load, or a kind of its own) has nothing beside it."""
    for row in published_accuracies():
        found = scaling_rows(row)
        assert all(other.attention == "none" and other.network and other.line == row.line for other in found)
        assert all((other.source, other.recipe, other.dataset, other.metric)
                   == (row.source, row.recipe, row.dataset, row.metric) for other in found)
        assert all(row.recipe or other.table == row.table for other in found)
        assert len({(other.network, other.resolution) for other in found}) == len(found)
    stemmed = scaling_rows(one("timm", recipe="ra2_in1k", network="resnet50d", resolution=224))
    assert {row.network for row in stemmed} == {"resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d",
                                                "resnet200d"}
    assert scaling_rows(replace(stemmed[0], line="")) == []


def test_mobilenetv2_scales_in_width_and_resolution() -> None:
    found = {(row.network, row.resolution): row.top1 for row in scaling_rows(
        one("tensorflow/models", "V2", network="mobilenetv2_100", resolution=224))}
    assert len(found) == 20 and found["mobilenetv2_140", 224] == 75.0 and found["mobilenetv2_100", 160] == 68.8


# --- where ---


def test_where_gains_and_costs_are_those_of_the_regression() -> None:
    rows = {(row.measure, row.device, row.block): row for row in where.where_effects()}
    last = rows[where.POINTS, "", 6]
    assert (last.effect, last.low, last.high, last.nets) == (0.479, 0.42, 0.539, 5138)
    assert rows[where.THROUGHPUT, "Xilinx ZCU102", 0].effect == -54.977
    assert len(rows) == 77 and all(row.low < row.effect < row.high for row in rows.values())
    assert {row.block for row in rows.values()} == set(range(7))


def test_where_is_told_in_two_sentences_as_a_regression_elsewhere() -> None:
    late, early = where.where_words()
    assert "a regression over 5,138 networks of another search space" in late and "0.48 to 0.52 points" in late
    assert "0.4 to 4.9 % of the throughput of 6 accelerators" in late
    assert "0.15 points" in early and "8 to 55 %" in early

"""The made records of `made_records` add up to what they say they are."""

from __future__ import annotations

from made_records import run_of_six, two_models, variant


def test_made_se_resnet50_has_the_published_sizes() -> None:
    made = variant("se", 16)
    assert made.attention_params == 2_530_992
    assert made.attention_macs == 2_514_944 + 5_519_360
    assert made.params == 28_088_024
    assert made.kernels == 270


def test_stages_of_made_records_add_up_to_the_whole() -> None:
    for made in (*run_of_six(), *two_models()):
        if made.attention != "none":
            assert sum(row["params"] for row in made.by_stage) == made.attention_params
            assert sum(row["macs"] for row in made.by_stage) == made.attention_macs

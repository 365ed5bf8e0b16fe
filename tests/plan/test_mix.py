"""A mix: one attention a site, by one name that stands wherever an attention's name does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secost
from secost.errors import BadSpecError, UnknownNameError
from secost.networks.attention_modules import Attention
from secost.plan.variants import mix_name, parse_mix
from secost.runs.records import Record

CHOICES = st.one_of(
    st.sampled_from([("none", None), ("eca", None), ("spatial", None)]),
    st.tuples(st.just("se"), st.integers(1, 64)),
)


@given(st.lists(CHOICES, min_size=1, max_size=40))
def test_a_name_says_what_sits_at_each_site_and_nothing_else(choices: list[tuple[str, int | None]]) -> None:
    name = mix_name(choices)
    assert parse_mix(name) == choices
    assert mix_name(parse_mix(name)) == name


def test_runs_of_one_choice_are_counted() -> None:
    assert mix_name([("none", None)] * 2 + [("se", 4), ("eca", None)]) == "mix:2xnone+se/4+eca"


def kinds(net: torch.nn.Module) -> dict[str, tuple[str, int | None]]:
    return {path.rpartition(".secost")[0]: (module.attention, module.reduction)
            for path, module in net.named_modules() if isinstance(module, Attention)}


def test_attach_puts_each_choice_at_its_site() -> None:
    net = secost.attach(secost.load("small:resnet"), "mix:none+spatial+se/4+eca", resolution=8)
    assert kinds(net) == {"layer2.0.bn2": ("spatial", None), "layer3.0.bn2": ("se", 4), "layer4.0.bn2": ("eca", None)}


def test_a_mix_of_one_kind_is_that_kind_in_every_figure_that_is_counted() -> None:
    records = secost.profile("small:resnet", ["se", "mix:4xse/4", "mix:4xnone"], 4, resolution=8, latency=False)
    none, uniform, same, empty = records
    for name in ("params", "macs", "other_ops", "activations", "memory_bytes", "kernels", "attention_macs", "sites"):
        assert getattr(uniform, name) == getattr(same, name), name
    assert (empty.params, empty.macs, empty.sites) == (none.params, none.macs, 0)
    assert uniform.by_site == same.by_site and uniform.by_stage == same.by_stage


def test_costs_of_a_mix_are_those_of_its_parts() -> None:
    names = ["mix:se/4+3xnone", "mix:none+spatial+2xnone", "mix:2xnone+eca+none", "mix:se/4+spatial+eca+none"]
    none, *parts, whole = secost.profile("small:resnet", names, latency=False, resolution=8)
    for name in ("params", "macs", "memory_bytes", "kernels"):
        added = [getattr(part, name) - getattr(none, name) for part in parts]
        assert getattr(whole, name) == getattr(none, name) + sum(added)
    assert [row["path"] for row in whole.by_site] == ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"]


def test_a_mix_is_timed_with_the_time_inside_each_of_its_modules(few_rounds: float) -> None:
    *_, mix = secost.profile("small:resnet", "mix:none+spatial+se/4+none", resolution=8, seconds=few_rounds)
    assert mix.status == "done" and mix.latency_overhead is not None
    assert [row["path"] for row in mix.by_site] == ["layer2.0.bn2", "layer3.0.bn2"]
    assert all(row["latency_ms"] > 0 for row in mix.by_site)


@pytest.mark.parametrize(("name", "words"), [
    ("mix:se/4+none", "names 2 sites and there are 4"),
    ("mix:4xse", "se in mix:4xse needs a reduction ratio, such as se/16"),
    ("mix:4xspatial/2", "spatial in mix:4xspatial/2 has no reduction ratio: write spatial"),
    ("mix:4xnone/2", "none in mix:4xnone/2 has no reduction ratio"),
    ("mix:", "is no mix"), ("mix:se//4", "is no mix"), ("mix:4xnative", "is no mix"),
    ("mix:se/64+3xnone", "reduction 64 is larger than the channels at layer1.0.bn2 (16)"),
])
def test_a_mix_that_makes_no_sense_is_one_line(name: str, words: str) -> None:
    with pytest.raises(BadSpecError, match=words.replace("(", r"\(").replace(")", r"\)")):
        secost.profile("small:resnet", name, latency=False, resolution=8)


def test_an_unknown_attention_in_a_mix_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="spatial"):
        secost.attach(secost.load("small:resnet"), "mix:3xnone+spatail", resolution=8)


def test_a_record_of_a_mix_has_no_reduction_and_is_labelled_by_its_name() -> None:
    records: list[Record] = secost.profile("small:resnet", "mix:3xnone+eca", [4, 8], latency=False, resolution=8)
    assert [(record.label, record.reduction) for record in records] == [("none", None), ("mix:3xnone+eca", None)]

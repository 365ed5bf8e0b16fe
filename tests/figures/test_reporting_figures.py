"""The figures: their numbers, labels that do not overlap, nothing cut off, and what a big sweep leaves out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import (
    as_shipped,
    baseline,
    by_backend,
    counted_only,
    floored,
    many,
    one_variant,
    over_batch,
    run_of_six,
    spelled,
    two_models,
    variant,
    with_trouble,
)
from matplotlib.axis import Tick
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from secost.answers.families import axis_families, compared_spellings, runtime_families
from secost.answers.groups import group_records
from secost.figures.comparisons import axis_figure, backend_figure, spelling_figure
from secost.figures.currencies import currency_figure
from secost.figures.drawing import Drawing, draw, shown_groups
from secost.figures.explorer import specification
from secost.figures.front import front_figure
from secost.figures.labels import Box, leader_boxes, place
from secost.figures.reduction import reduction_figure
from secost.figures.stages import stage_figure
from secost.runs.records import Record

LONG = "path/to/some/rather/long/directory/of/networks/net.py:factory_of_a_network"


def long_names() -> list[Record]:
    return [replace(item, model=LONG + item.model) for item in two_models()[:10]]


def backends_of_two() -> list[Record]:
    """Two attentions on each backend, one of them with a time that is missing."""
    more = [replace(item, attention="eca", reduction=None) for item in by_backend() if item.attention == "se"]
    more[1] = replace(more[1], latency_overhead=None, latency_ms=None)
    pairs = zip(by_backend()[::2], by_backend()[1::2], more, strict=True)
    return [replace(item, model=LONG) for found in pairs for item in found]


@functools.cache
def drawn(make: Callable[[], list[Record]]) -> list[Drawing]:
    return draw(group_records(make()))


def test_cost_against_r_has_a_panel_a_currency_and_a_line_an_attention() -> None:
    info = reduction_figure(group_records(run_of_six())[0])
    assert info is not None and info.reductions == (2, 4, 8, 16, 32)
    assert [panel.currency.name for panel in info.panels] == ["params", "macs", "memory", "kernels", "latency"]
    se, eca = info.panels[0].lines
    assert [round(point.percent, 1) for point in se.points] == [78.8, 39.4, 19.7, 9.9, 5.0]
    assert eca.reductions == () and len(eca.points) == 1
    timed = info.panels[4].lines[0].points[3]
    assert [timed.percent, timed.low, timed.high] == pytest.approx([8.1, 7.2, 9.0])


def test_cost_against_r_needs_two_ratios() -> None:
    assert reduction_figure(group_records(one_variant())[0]) is None


def test_front_has_time_or_the_next_best_currency() -> None:
    timed = front_figure(group_records(run_of_six()))
    counted = front_figure(group_records(counted_only()))
    assert timed is not None and timed.y.name == "latency"
    assert counted is not None and counted.y.name == "memory"
    assert [point.label for point in timed.panels[0].front] == ["eca"]
    assert timed.panels[0].x_scale == "log"
    assert front_figure(group_records(one_variant())) is None


def test_front_with_a_free_attention_is_on_a_symmetric_log_scale() -> None:
    records = [*run_of_six(), variant("simam", None, (0.03, 0.02, 0.04), params_overhead=0.0)]
    info = front_figure(group_records(records))
    assert info is not None and info.panels[0].x_scale == "symlog"
    assert any(drawing.name == "pareto" for drawing in draw(group_records(records)))


def test_stage_amounts_add_up_to_the_attention() -> None:
    info = stage_figure(group_records(run_of_six())[0])
    assert info is not None and info.labels == ("se r=16", "eca") and info.stages == (1, 2, 3, 4)
    assert sum(info.panels[0].amounts[0]) == 2_530_992
    assert sum(info.panels[1].amounts[0]) == 2_514_944 + 5_519_360


def test_currencies_begin_with_macs_and_end_with_the_clock() -> None:
    info = currency_figure(group_records(with_trouble())[0])
    assert info is not None
    assert [panel.currency.name for panel in info.panels] == ["macs", "params", "memory", "kernels", "latency"]
    assert info.panels[4].points[1] is None, "r=8 was not timed"


def test_big_sweeps_say_what_is_left_out() -> None:
    groups = group_records(many())
    front = front_figure(groups)
    assert front is not None and len(front.panels) == 6 and front.left_out == ("34 of 40 comparisons are left out.",)
    shown, note = shown_groups(groups)
    assert len(shown) == 1 and "One of 40 comparisons" in note[0]
    assert len(drawn(many)) == 4
    wide = [baseline(), *(variant("se", r) for r in range(1, 61))]
    info = currency_figure(group_records(wide)[0])
    assert info is not None and len(info.labels) == 24 and "36 variants" in info.left_out[0]


@pytest.mark.parametrize("make", [run_of_six, counted_only, one_variant, two_models, as_shipped, with_trouble, many,
                                  long_names, by_backend, backends_of_two, over_batch, spelled, floored])
def test_no_text_overlaps_another_or_leaves_the_figure(make: Callable[[], list[Record]]) -> None:
    for drawing in drawn(make):
        boxes = text_boxes(drawing)
        width, height = drawing.figure.bbox.width, drawing.figure.bbox.height
        for text, box in boxes:
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (drawing.name, text)
        for (text, box), (other, other_box) in itertools.combinations(boxes, 2):
            assert not overlap(box, other_box), (drawing.name, text, other)


def text_boxes(drawing: Drawing) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, with its rectangle in pixels."""
    renderer = drawing.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    ticks: set[Text] = set()
    drawn_ticks: set[Text] = set()
    for axes in drawing.figure.axes:
        both: tuple[Any, ...] = (axes.xaxis, axes.yaxis)
        for axis in both:
            ticks |= {text for tick in axis.findobj(Tick) for text in tick.findobj(Text)}
            if axes.axison:  # the ticks that draw() itself would draw
                drawn_ticks |= {tick.label1 for tick in axis._update_ticks() if tick.label1.get_visible()}
    found = [text for text in drawing.figure.findobj(Text) if text not in ticks] + list(drawn_ticks)
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found
            if text.get_visible() and text.get_text().strip()]


def overlap(one: Bbox, other: Bbox) -> bool:
    across, up = (min(one.x1, other.x1) - max(one.x0, other.x0)), (min(one.y1, other.y1) - max(one.y0, other.y0))
    return bool(across > 1 and up > 1)


def test_every_variant_of_a_small_run_has_its_label_on_the_front_figure() -> None:
    drawing = next(item for item in drawn(two_models) if item.name == "pareto")
    shown = [text for text, _ in text_boxes(drawing)]
    for label in ("se r=4", "cbam r=8", "gc r=16"):
        assert shown.count(label) == 2


def test_long_names_keep_both_ends() -> None:
    drawing = next(item for item in drawn(long_names) if item.name == "pareto")
    titles = [text for text, _ in text_boxes(drawing) if "…" in text]
    assert any(title.startswith("path/to/") and title.endswith("resnet50") for title in titles)


def test_backends_are_rows_with_times_and_overheads() -> None:
    (family,) = runtime_families(group_records(backends_of_two()))
    info = backend_figure(family)
    assert info.names[0] == "eager fp32" and info.base_ms == (106.0, 81.0, 70.0, 31.0, 64.0, 22.0)
    se, eca = info.bars
    assert se.overheads[0] is not None and se.overheads[0].percent == pytest.approx(4.2)
    assert eca.times_ms[1] is None and eca.overheads[1] is None and eca.overheads[2] is not None


def test_an_axis_has_overheads_with_intervals_and_images_a_second() -> None:
    (family,) = axis_families(group_records(over_batch()))
    info = axis_figure(family)
    assert info.values == (1, 4, 16, 64) and [line.label for line in info.lines] == ["se r=16", "eca"]
    first = info.lines[0]
    assert [round(point.percent, 1) for point in first.overheads] == [10.7, 9.2, 7.5, 5.9]
    assert first.overheads[0].low == pytest.approx(10.1)
    assert info.base[3] == pytest.approx(64e3 / (60.0 * 64**0.9))
    assert first.speeds[3] == pytest.approx(64e3 / (60.0 * 64**0.9 * 1.059))


def test_spellings_are_bars_with_the_other_function_hatched_and_last() -> None:
    (table,) = compared_spellings(group_records(spelled())[0])
    info = spelling_figure(table)
    assert info is not None and info.names[-1] == "pool-conv-hardsigmoid" and info.same == (True,) * 5 + (False,)
    assert "not the same function" in info.left_out[0]
    texts = [text for text, _ in text_boxes(next(item for item in drawn(spelled) if item.name == "spelling"))]
    assert "pool-conv-hardsigmoid *" in texts and "pool-linear" in texts


def test_the_floor_stands_in_the_stage_figure_and_beside_the_time() -> None:
    (group,) = group_records(floored())
    stages, currencies = stage_figure(group), currency_figure(group)
    assert stages is not None and stages.times is not None and stages.times.has_floor
    assert stages.times.direct[0] == pytest.approx((1.5, 1.2, 1.0, 0.9))
    assert stages.times.floors[0] == pytest.approx((0.9, 0.45, 0.3, 0.25))
    assert currencies is not None
    assert [panel.floors for panel in currencies.panels if panel.currency.name == "latency"] == [
        (pytest.approx(100 * 1.9 / 61.3),)]
    without = stage_figure(group_records(one_variant())[0])
    assert without is not None and without.times is None


def test_names_of_figures_are_their_own() -> None:
    threads = [replace(item, threads=count) for item in by_backend() for count in (1, 2)]
    for drawings in (*map(drawn, (by_backend, over_batch, spelled)), draw(group_records(threads))):
        names = [drawing.name for drawing in drawings]
        assert len(set(names)) == len(names), names


def test_kinds_of_attention_are_compared_in_one_spelling_each() -> None:
    ratios = [replace(item, reduction=r) for item in spelled() if item.attention == "se" for r in (4, 16)]
    (group,) = group_records([baseline(), *ratios])
    info, front = reduction_figure(group), front_figure([group])
    assert info is not None and [len(line.points) for line in info.panels[0].lines] == [2]
    assert front is not None and [point.label for point in front.panels[0].points] == ["se r=4", "se r=16"]


FRAME = Box(0, 0, 400, 300)


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), max_size=25), st.floats(10, 90), st.floats(8, 14))
def test_placed_labels_never_overlap(points: list[tuple[float, float]], width: float, height: float) -> None:
    obstacles = [Box(x, y, x, y).grown(5) for x, y in points]
    found = place(points, [(width, height)] * len(points), obstacles, FRAME)
    for one, other in itertools.combinations(found, 2):
        assert not one.box.overlaps(other.box)
        for first, second in ((one, other), (other, one)):
            if first.leader:
                line = leader_boxes(points[first.index], first.box)
                assert not any(part.overlaps(second.box) for part in line)
    for placement in found:
        assert placement.box.inside(FRAME)
        assert not any(placement.box.overlaps(obstacle) for obstacle in obstacles)


def test_a_lonely_label_sits_beside_its_point() -> None:
    (placement,) = place([(200, 150)], [(40, 10)], [Box(200, 150, 200, 150).grown(5)], FRAME)
    assert not placement.leader and placement.box.left == 208


def test_explorer_is_plain_data_with_every_point_and_its_fronts() -> None:
    chart = specification(group_records(run_of_six()))
    assert chart is not None
    points = chart["data"]["values"]
    assert [point["variant"] for point in points] == ["se r=2", "se r=4", "se r=8", "se r=16", "se r=32", "eca"]
    assert points[3]["t_shown"] == "66.3 ms, +8.1 % [7.2, 9.0]"
    assert "pt" in points[5]["front"].split() and points[0]["front"] == ""
    assert specification(group_records(one_variant())) is None


def test_explorer_compiles_and_draws_a_mark_for_each_point() -> None:
    vl_convert = pytest.importorskip("vl_convert")
    chart = specification(group_records(run_of_six()))
    assert chart is not None
    svg = vl_convert.vegalite_to_svg({**chart, "width": 600})
    assert svg.count('aria-roledescription="point"') == 6

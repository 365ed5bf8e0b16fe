"""The floor under attention's time: the formula by hand on made machines, its properties, and the measured rates."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secost.errors import BadSpecError
from secost.kept import write_kept
from secost.meters import roofline as module
from secost.meters.counts import attention_cost, by_site
from secost.meters.roofline import (
    ELEMENT_BYTES,
    Roofline,
    cached_roofline,
    floor_ms,
    measure_roofline,
    site_floors_ms,
)
from secost.networks import surgery
from secost.networks.sources import load

# Reads 1,000 bytes a second from its cache of 1 KiB and 100 beyond it; updates twice as fast, both ways together.
MADE = Roofline(1, ((512, 1000.0), (1024, 1000.0), (2048, 100.0)), ((512, 2000.0), (2048, 200.0)), {"fp32": 50.0})
FLAT = Roofline(1, ((1, 100.0),), ((1, 100.0),), {"fp32": 1e12})


# --- the formula ---------------------------------------------------------------------------------------------------


def test_the_floor_is_squeeze_plus_excite_plus_gate() -> None:
    """25 elements are 100 bytes. Squeeze 100/1000 s; 30 MACs at 50 a second are 0.6 s, longer than 40 bytes of weights
    at 1,000; gate 200/2000 = 0.1 s of traffic, but 25 products at 50 a second are 0.5 s."""
    assert floor_ms([25], 30, 10, 1, "fp32", MADE) == pytest.approx((0.1 + 0.6 + 0.5) * 1e3)


def test_a_map_that_does_not_fit_into_the_cache_is_read_at_the_speed_of_what_is_behind_it() -> None:
    fast = Roofline(1, MADE.read, MADE.update, {"fp32": math.inf})
    assert floor_ms([256], 0, 0, 1, "fp32", fast) == pytest.approx((1024 / 1000 + 2048 / 2000) * 1e3)
    assert floor_ms([512], 0, 0, 1, "fp32", fast) == pytest.approx((2048 / 100 + 4096 / 200) * 1e3)


def test_between_two_measured_sizes_the_faster_one_holds_so_that_the_floor_is_never_too_high() -> None:
    assert MADE.read_bytes_per_s(2047) == 1000.0
    assert MADE.read_bytes_per_s(2048) == 100.0
    assert MADE.read_bytes_per_s(1) == 1000.0
    assert MADE.update_bytes_per_s(1 << 40) == 200.0


def test_weights_are_read_once_for_all_images_and_macs_are_done_for_each() -> None:
    weights_only = Roofline(1, ((1, 100.0),), ((1, math.inf),), {"fp32": math.inf})
    assert floor_ms([0], 1000, 10, 1, "fp32", weights_only) == floor_ms([0], 1000, 10, 64, "fp32", weights_only) == 400
    macs_only = Roofline(1, ((1, math.inf),), ((1, math.inf),), {"fp32": 10.0})
    assert floor_ms([0], 10, 0, 3, "fp32", macs_only) == 3000.0


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_a_smaller_type_has_less_to_move(precision: str, size: int) -> None:
    assert ELEMENT_BYTES[precision] == size
    assert floor_ms([100], 0, 0, 1, precision, FLAT) == pytest.approx(3 * 100 * size / 100 * 1e3)


def test_without_a_rate_for_a_precision_the_traffic_alone_is_the_floor() -> None:
    assert floor_ms([100], 10**9, 0, 1, "bf16", FLAT) == floor_ms([100], 0, 0, 1, "bf16", FLAT)


# --- its properties ------------------------------------------------------------------------------------------------

speeds = st.floats(1e6, 1e12)


@st.composite
def rooflines(draw: st.DrawFn) -> Roofline:
    def curve() -> tuple[tuple[int, float], ...]:
        found = sorted(draw(st.lists(speeds, min_size=3, max_size=3)), reverse=True)
        return tuple(zip((1 << 14, 1 << 20, 1 << 26), found, strict=True))

    return Roofline(1, curve(), curve(), {"fp32": draw(speeds)})


@given(rooflines(), st.integers(1, 10**7), st.integers(1, 10**6), st.integers(0, 10**8), st.integers(0, 10**6))
def test_it_grows_with_the_map_the_macs_the_weights_and_the_batch(
    roof: Roofline, elements: int, more: int, macs: int, params: int
) -> None:
    here = floor_ms([elements], macs, params, 1, "fp32", roof)
    assert 0 < here < floor_ms([elements + more], macs, params, 1, "fp32", roof)
    assert here <= floor_ms([elements], macs + more, params, 1, "fp32", roof)
    assert here <= floor_ms([elements], macs, params + more, 1, "fp32", roof)
    assert here < floor_ms([elements], macs, params, 2, "fp32", roof)


@given(rooflines(), st.integers(1 << 25, 1 << 28), st.integers(2, 64))
def test_beyond_the_last_cache_it_is_linear_in_the_batch(roof: Roofline, elements: int, batch: int) -> None:
    one = floor_ms([elements], 0, 0, 1, "fp32", roof)
    assert floor_ms([elements], 0, 0, batch, "fp32", roof) == pytest.approx(batch * one)


@given(rooflines(), st.integers(1, 10**7), st.floats(1, 100))
def test_a_machine_that_is_faster_in_everything_has_a_lower_floor(roof: Roofline, elements: int, times: float) -> None:
    faster = Roofline(
        2, tuple((size, speed * times) for size, speed in roof.read),
        tuple((size, speed * times) for size, speed in roof.update),
        {name: rate * times for name, rate in roof.macs_per_s.items()},
    )
    slow, fast = (floor_ms([elements], 1000, 100, 1, "fp32", machine) for machine in (roof, faster))
    assert fast == pytest.approx(slow / times)


# --- by site -------------------------------------------------------------------------------------------------------


def test_each_site_has_the_floor_of_its_own_map_in_the_order_of_by_site() -> None:
    net = load("resnet18")
    sites = surgery.sites(net, resolution=64)
    costs = attention_cost(net, sites, "se", 16, {})
    floors = site_floors_ms(costs, 2, "fp32", MADE)
    rows = by_site(costs)
    assert len(floors) == len(rows) == 8
    for row, floor in zip(rows, floors, strict=True):
        elements, channels = row["channels"] * row["height"] * row["width"], row["channels"]
        layer_macs = 2 * channels * (channels // 16)  # SE's two linear layers, by hand
        assert row["macs"] == layer_macs + elements
        assert floor == floor_ms([elements], layer_macs, row["params"], 2, "fp32", MADE)


def test_a_module_called_twice_reads_two_maps_and_its_weights_once() -> None:
    class Shared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unit = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.unit(torch.nn.functional.avg_pool2d(self.unit(self.unit(x)), 2))

    net = Shared().eval()
    site = next(site for site in surgery.sites(net, placement="conv", resolution=8) if site.calls > 1)
    cost = attention_cost(net, [site], "se", 1, {})
    expected = floor_ms([3 * h * w for h, w in site.maps], 18 * site.calls, cost[0].cost.params, 1, "fp32", FLAT)
    assert site_floors_ms(cost, 1, "fp32", FLAT) == [expected]
    assert cost[0].cost.params == 2 * (9 + 3)


def test_without_a_roofline_or_with_a_type_of_unknown_size_there_is_no_floor() -> None:
    net = load("resnet18")
    costs = attention_cost(net, surgery.sites(net, resolution=32)[:2], "eca", None, {})
    assert site_floors_ms(costs, 1, "fp32", None) == [None, None]
    assert site_floors_ms(costs, 1, "int4", MADE) == [None, None]


# --- measured ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["quickly", pytest.param("at length", marks=pytest.mark.slow)])
def measured(request: pytest.FixtureRequest) -> Roofline:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "quickly":
            quickly(patch)
        return measure_roofline(1)


def test_every_rate_is_a_positive_number_and_larger_working_sets_are_never_faster(measured: Roofline) -> None:
    for curve in (measured.read, measured.update):
        sizes, found = zip(*curve, strict=True)
        assert list(sizes) == sorted(set(sizes)) and sizes[0] <= 1 << 14 and sizes[-1] >= 1 << 20
        assert all(math.isfinite(speed) and speed > 0 for speed in found)
        assert list(found) == sorted(found, reverse=True)
    assert measured.macs_per_s["fp32"] > 0 and all(map(math.isfinite, measured.macs_per_s.values()))


@pytest.mark.slow
def test_it_agrees_with_numpy_within_a_factor_of_ten() -> None:
    """Another library's copy, read and write together, best of a few: loose, as the machine is shared."""
    measured, source, target = measure_roofline(1), np.ones(1 << 22), np.empty(1 << 22)
    times = []
    for _ in range(5):
        begin = module.time.perf_counter()
        np.copyto(target, source)
        times.append(module.time.perf_counter() - begin)
    assert measured.update_bytes_per_s(source.nbytes) < 10 * 2 * source.nbytes / min(times)


def test_measuring_leaves_the_thread_count_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    quickly(monkeypatch)
    assert measure_roofline(2).threads == 2
    assert torch.get_num_threads() == before


def test_more_threads_have_more_caches_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each thread has its own cache, twice the threads hold twice the bytes at twice the speed."""
    monkeypatch.setattr(module, "_bandwidths", lambda size: (5.0, 7.0) if size <= 1 << 20 else (3.0, 4.0))
    monkeypatch.setattr(module, "_macs_per_s", lambda precision: 1.0)
    found = measure_roofline(2)
    assert found.read[0] == (2 << 14, 10.0) and found.update[0] == (2 << 14, 14.0)
    assert found.read_bytes_per_s(2 << 20) == 10.0 and found.read_bytes_per_s(1 << 30) == 3.0


def test_a_disturbed_try_at_a_small_size_is_mended_by_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_bandwidths", lambda size: (1.0, 1.0) if size == 1 << 15 else (9.0, 9.0))
    monkeypatch.setattr(module, "_macs_per_s", lambda precision: None)
    found = measure_roofline(1)
    assert found.read_bytes_per_s(1 << 15) == 9.0
    assert found.macs_per_s == {}


def test_a_type_that_torch_has_no_kernel_for_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("not implemented for 'Char'")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert module._macs_per_s("int8") is None


@pytest.mark.parametrize("threads", [0, -1])
def test_a_thread_count_below_one_is_refused(threads: int) -> None:
    with pytest.raises(BadSpecError, match="expected 1 or more"):
        measure_roofline(threads)


# --- kept ----------------------------------------------------------------------------------------------------------


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real measuring, with one try each."""
    monkeypatch.setattr(module, "_TRY_S", 0.0)
    monkeypatch.setattr(module, "_LARGEST_BYTES", 1 << 21)
    monkeypatch.setattr(module, "_CACHES", 0)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The thread counts that were really measured, with a cache folder of its own."""
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path))
    calls: list[int] = []

    def measure(threads: int) -> Roofline:
        calls.append(threads)
        return Roofline(threads, ((16, 3.5), (32, 1 / 3)), ((16, 2.0),), {"fp32": 1e11 / 7})

    monkeypatch.setattr(module, "measure_roofline", measure)
    return calls


def test_a_second_call_gives_an_equal_value_without_measuring(counted: list[int]) -> None:
    assert cached_roofline(1) == cached_roofline(1)
    assert counted == [1]


def test_other_threads_another_torch_and_another_machine_are_entries_of_their_own(
    counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_roofline(1)
    assert cached_roofline(2).threads == 2
    facts = module.environment.describe()
    for name in ("torch", "cpu", "turbo"):
        monkeypatch.setattr(module.environment, "describe", lambda name=name: {**facts, name: "another"})
        cached_roofline(1)
    monkeypatch.setattr(module.environment, "describe", lambda: {**facts, "timm": "another"})
    cached_roofline(1)
    assert counted == [1, 2, 1, 1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "", lambda text: text[:-1], lambda text: text.replace("3.5", "9.5"), lambda text: "\0" * 50,
        lambda text: text.partition("\n")[2],
    ],
)
def test_a_damaged_file_is_measured_again_and_mended(counted: list[int], tmp_path: Path, damage: object) -> None:
    whole = cached_roofline(1)
    (path,) = tmp_path.glob("rooflines/*.json")
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    assert cached_roofline(1) == whole and counted == [1, 1]
    assert cached_roofline(1) == whole and counted == [1, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("read", []), ("read", [[16, 1.0], [32, 2.0]]), ("read", [[32, 2.0], [16, 1.0]]), ("read", [[16, 0.0]]),
        ("update", [[16, -1.0]]), ("update", None), ("macs_per_s", {"fp32": math.inf}), ("macs_per_s", 3),
        ("threads", 2),
    ],
)
def test_a_file_with_values_that_can_not_be_is_measured_again(
    counted: list[int], tmp_path: Path, field: str, value: object
) -> None:
    cached_roofline(1)
    (path,) = tmp_path.glob("rooflines/*.json")
    write_kept(path, {**json.loads(path.read_text().partition("\n")[2]), field: value})
    cached_roofline(1)
    assert counted == [1, 1]


def test_an_empty_cache_variable_keeps_nothing(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECOST_CACHE", "")
    cached_roofline(1)
    cached_roofline(1)
    assert counted == [1, 1]


def test_a_folder_that_can_not_be_written_is_no_error(
    counted: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path / "file"))
    assert cached_roofline(1).threads == 1


@given(rooflines())
def test_json_gives_back_what_was_put_in(roof: Roofline) -> None:
    assert Roofline.from_dict(json.loads(json.dumps(roof.to_dict()))) == roof


def test_a_backend_that_fuses_may_gate_the_map_on_its_way_into_the_next_operation() -> None:
    """As in the first test, without the 0.5 s of the gate."""
    assert floor_ms([25], 30, 10, 1, "fp32", MADE, fuses=True) == pytest.approx((0.1 + 0.6) * 1e3)

"""What every backend promises, at every precision it has: eager's outputs, in a forked process too, and a cache."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nets
import pytest
import small_nets
import torch
from torch import Tensor, nn

from secost.meters.backends.offered import BACKENDS
from secost.meters.backends.torch import has_bf16
from secost.meters.conditions import ConversionError, Prepared, Request, apart, measuring
from secost.meters.processes import ChildError, can_fork, in_child
from secost.networks import attended, surgery
from secost.networks.importing import import_timm

CASES = [(name, precision) for name in BACKENDS.names() for precision in BACKENDS.get(name).precisions]
RELATIVE = 1e-3
CHILD_S = 300.0


def with_lively_norms(net: nn.Module) -> nn.Module:
    """Norms drawn at random: timm's zero at the end of a residual branch would hide what the branch computes."""
    with surgery.seeded(1):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def small() -> nn.Module:
    """Two residual blocks with SE at both."""
    with surgery.seeded(0):
        net = with_lively_norms(small_nets.residual())
        return surgery.attach(net, "se", 4, resolution=32).eval()


def image(size: int = 32, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(2))


def sqnr_db(expected: Tensor, found: Tensor) -> float:
    """Signal to quantisation noise in dB; infinite where nothing differs."""
    noise = (expected - found).pow(2).sum()
    return math.inf if noise == 0 else float(10 * torch.log10(expected.pow(2).sum() / noise))


def floor_db(net: nn.Module, bits: int) -> float:
    """The least SQNR of sound rounding at every weight and every map.

    A uniform quantiser of b bits over +-4 deviations gives 6.02 b + 4.77 - 12 dB (Bennett 1948's noise of step^2 / 12);
    the noise of all roundings adds up; 6 dB for what they are not: independent, of one size, and Gaussian.
    """
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
    return 6.02 * bits + 4.77 - 12 - 10 * math.log10(2 * layers) - 6


def output_of(run: Callable[[], object]) -> Tensor:
    with measuring(1):
        outputs = run()
    first = outputs if isinstance(outputs, Tensor) else outputs[0]  # type: ignore[index]
    return torch.as_tensor(first).detach().clone().float()


def three_passes(ready: Prepared) -> list[Tensor]:
    """Outputs of a forked process: of a pass, of the next, and of one after its buffer was filled with sevens."""

    def passes() -> list[Any]:
        run = ready.open()
        found = [output_of(run), output_of(run)]
        outputs = run()
        held = outputs if isinstance(outputs, Tensor) else outputs[0]  # type: ignore[index]
        torch.as_tensor(held).fill_(7.0)
        return [item.tolist() for item in (*found, output_of(run))]

    return [torch.tensor(item) for item in in_a_child(passes)]


def in_a_child(work: Callable[[], Any]) -> Any:
    if not can_fork():
        pytest.skip("no fork here")
    return in_child(work, CHILD_S)


def require(backend: str, precision: str) -> None:
    for package in BACKENDS.get(backend).packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if precision == "bf16" and not has_bf16():
        pytest.skip("no bf16 on this processor")


def prepared(backend: str, precision: str, net: nn.Module, x: Tensor, **conditions: Any) -> Prepared:
    require(backend, precision)
    return BACKENDS.get(backend).prepare(attended.standalone(net), (x,), Request(precision=precision, **conditions))


def check_output(precision: str, net: nn.Module, expected: Tensor, found: Tensor) -> None:
    """Close to eager's for the precision, and no closer than the precision can be."""
    assert found.shape == expected.shape
    if precision == "fp32":
        assert float((found - expected).abs().max() / expected.abs().max()) < RELATIVE
        return
    bits = {"int8": 8, "bf16": 9}[precision]  # bf16: 8 bits of significand and a sign
    found_db = sqnr_db(expected, found)
    assert floor_db(net, bits) < found_db < 60, "noise of another precision than the one asked for"


# --- one small network, every backend and precision -------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return small()


@pytest.fixture(scope="module")
def expected(net: nn.Module) -> Tensor:
    with torch.inference_mode():
        return net(image()).clone()


@pytest.fixture(scope="module", params=[
    # A compilation takes half a minute: see test_one_layer_is_compiled_once_and_gives_eagers_outputs.
    pytest.param(case, marks=[pytest.mark.slow] if case[0] == "compile" else [], id="-".join(case)) for case in CASES
])
def case(request: pytest.FixtureRequest, net: nn.Module) -> Iterator[tuple[str, str, Prepared]]:
    backend, precision = request.param
    yield backend, precision, prepared(backend, precision, net, image())


def test_outputs_in_forked_processes_are_eagers_again_and_again(
    case: tuple[str, str, Prepared], net: nn.Module, expected: Tensor
) -> None:
    _, precision, ready = case
    found = [three_passes(ready) for _ in range(2)]
    check_output(precision, net, expected, found[0][0])
    for passes in found:
        assert all(torch.equal(item, found[0][0]) for item in passes)


def test_only_a_conversion_has_its_seconds_told(case: tuple[str, str, Prepared]) -> None:
    backend, _, ready = case
    assert (ready.convert_s is None) == (backend == "eager")
    assert ready.convert_s is None or ready.convert_s > 0


def test_random_calibration_is_a_caution_of_int8_alone(case: tuple[str, str, Prepared]) -> None:
    _, precision, ready = case
    assert ready.cautions == (("random-calibration",) if precision == "int8" else ())


def test_the_same_network_is_not_converted_twice(
    case: tuple[str, str, Prepared], net: nn.Module, expected: Tensor
) -> None:
    backend, precision, first = case
    again = prepared(backend, precision, net, image())
    assert again.cached == (backend != "eager")
    assert again.convert_s == first.convert_s
    assert torch.equal(three_passes(again)[0], three_passes(first)[0])


@pytest.mark.parametrize(("backend", "precision"), [("onnxruntime", "fp32"), ("openvino", "fp32")])
def test_one_other_weight_is_another_model(backend: str, precision: str, net: nn.Module, expected: Tensor) -> None:
    prepared(backend, precision, net, image())
    other = attended.standalone(net)
    with torch.no_grad():
        last = other[-1]
        assert isinstance(last, nn.Linear)
        last.bias = nn.Parameter(last.bias + torch.eye(len(last.bias))[0])  # a tensor of its own: nothing is shared
    ready = prepared(backend, precision, other, image())
    assert not ready.cached
    torch.testing.assert_close(three_passes(ready)[0] - expected, torch.eye(10)[:1].repeat(2, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("backend", "precision"), [
    ("onnxruntime", "int8"), pytest.param("openvino", "int8", marks=pytest.mark.slow)])
def test_int8_is_fitted_to_the_images_given_and_cached_by_them(backend: str, precision: str, net: nn.Module) -> None:
    x = image()
    dim = tuple((item / 50,) for item in image(batch=8).split(2))  # ranges fitted to these cut the real images off
    good = tuple((item,) for item in image(batch=8).split(2))
    with torch.inference_mode():
        expected = net(x)
    found = {}
    for name, batches in (("dim", dim), ("good", good)):
        ready = prepared(backend, precision, net, x, calibration=batches)
        assert ready.cautions == () and not ready.cached
        found[name] = sqnr_db(expected, three_passes(ready)[0])
    assert found["good"] > floor_db(net, 8) > found["dim"]
    assert prepared(backend, precision, net, x, calibration=good).cached


def test_int8_convolutions_and_layers_run_on_integers(net: nn.Module, tmp_path: Path) -> None:
    ready = prepared("onnxruntime", "int8", net, image())
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 4
    options.intra_op_num_threads = 1
    [model] = [cell.cell_contents for cell in ready.open.__closure__ or () if isinstance(cell.cell_contents, Path)]
    runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
    layers = {kind: sum(isinstance(module, kind) for module in net.modules()) for kind in (nn.Conv2d, nn.Linear)}
    assert kinds.count("QLinearConv") == layers[nn.Conv2d] and "Conv" not in kinds
    assert kinds.count("QGemm") == layers[nn.Linear] and not {"Gemm", "MatMul"} & set(kinds)


def test_batches_of_calibration_are_cut_to_the_size_the_network_is_run_at(net: nn.Module, expected: Tensor) -> None:
    singles = tuple((item,) for item in image(batch=3).split(1))
    ready = prepared("onnxruntime", "int8", net, image(), calibration=singles)
    check_output("int8", net, expected, three_passes(ready)[0])


# --- what can't be taken ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_network_that_the_exporter_cant_take_is_one_line_with_its_reason(backend: str) -> None:
    require(backend, "fp32")
    with pytest.raises(ConversionError, match=r"^DataDependent can't be exported to ONNX: .*data-dependent") as caught:
        prepared(backend, "fp32", nets.DataDependent().eval(), image(16))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_reason_of_a_converter_in_its_own_process_comes_back_in_one_line(tmp_path: Path) -> None:
    from secost.meters.backends.conversion import convert_apart

    require("onnxruntime", "int8")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ConversionError) as caught:
        convert_apart("quantise_onnx", source=broken, target=tmp_path / "out.onnx", batches=tmp_path / "none.npz",
                      unsigned=True, reduce_range=False)
    assert "\n" not in str(caught.value) and ":" in str(caught.value)


def test_without_a_cache_it_still_converts_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, net: nn.Module, expected: Tensor
) -> None:
    monkeypatch.setenv("SECOST_CACHE", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ready = prepared("onnxruntime", "fp32", net, image())
    assert not ready.cached
    check_output("fp32", net, expected, output_of(ready.open()))
    assert not prepared("onnxruntime", "fp32", net, image()).cached
    assert list(tmp_path.iterdir())  # and the process takes them with it: test_backends_cache


def test_a_network_of_two_inputs_gets_both() -> None:
    require("onnxruntime", "fp32")
    net = with_lively_norms(nets.TwoInputs())
    inputs = (image(16), torch.randn(2, 4))
    with torch.inference_mode():
        expected = net(*inputs)
    for name in ("onnxruntime", "openvino"):
        require(name, "fp32")
        ready = BACKENDS.get(name).prepare(attended.standalone(net), inputs, Request())
        check_output("fp32", net, expected, three_passes(ready)[0])


def test_openvino_in_a_process_forked_from_one_that_used_it_is_refused_not_hung(
    monkeypatch: pytest.MonkeyPatch, net: nn.Module
) -> None:
    ready = prepared("openvino", "fp32", net, image())
    monkeypatch.setattr("secost.meters.backends.exported._cores", {os.getpid(): "in use"})
    with pytest.raises(ChildError, match="openvino ran already in the process that this one was forked from"):
        three_passes(ready)


# --- compile ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_layer_is_compiled_once_and_gives_eagers_outputs() -> None:
    with surgery.seeded(0):
        layer, x = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid()).eval(), torch.rand(2, 8)
    with torch.inference_mode():
        expected = layer(x)
    first, again = prepared("compile", "fp32", layer, x), prepared("compile", "fp32", layer, x)
    assert first.cautions == () and not first.cached and (first.convert_s or 0.0) > 0
    assert again.cached and again.convert_s == first.convert_s
    found = three_passes(first)
    check_output("fp32", layer, expected, found[0])
    assert all(torch.equal(item, found[0]) for item in (*found, *three_passes(again)))


@pytest.mark.slow
def test_graph_breaks_are_a_caution_and_the_outputs_are_right_all_the_same() -> None:
    net = nets.DataDependent().eval()
    ready = prepared("compile", "fp32", net, image(16))
    assert ready.cautions == ("graph-breaks",)
    with torch.inference_mode():
        check_output("fp32", net, net(image(16)), output_of(ready.open()))


@pytest.mark.slow
def test_a_fork_of_what_was_compiled_for_two_threads_does_not_hang(net: nn.Module, expected: Tensor) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    ready = prepared("compile", "fp32", net, image(), threads=2)

    def pass_() -> list[list[float]]:
        with measuring(2):
            found: Tensor = ready.open()()  # type: ignore[assignment]
            return found.tolist()

    check_output("fp32", net, expected, torch.tensor(in_a_child(pass_)))


@pytest.mark.slow
def test_a_dozen_variants_of_one_class_stay_compiled() -> None:
    from torch._dynamo.utils import counters

    runs = []
    for width in range(1, 13):
        layer = nn.Linear(4, width).eval()
        runs.append((layer, prepared("compile", "fp32", layer, torch.ones(1, 4)).open()))
    compiled = counters["stats"]["unique_graphs"]
    for layer, run in [*runs, *reversed(runs)]:
        torch.testing.assert_close(output_of(run), layer(torch.ones(1, 4)).detach())
    assert counters["stats"]["unique_graphs"] == compiled


def test_a_network_that_compile_cant_take_is_one_line(monkeypatch: pytest.MonkeyPatch, net: nn.Module) -> None:
    def fails() -> None:
        try:
            raise OSError("no rights to compile\nin here")
        except OSError as error:
            raise RuntimeError("backend failed\nset TORCH_LOGS") from error

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: fails)
    with pytest.raises(ConversionError, match=r"^compile can't take Sequential: OSError: no rights to compile$"):
        prepared("compile", "fp32", net, image())


# --- real networks ----------------------------------------------------------------------------------------------------


def real(name: str) -> nn.Module:
    timm = import_timm()
    with surgery.seeded(0):
        net = with_lively_norms(timm.create_model(name))
        return surgery.attach(net, "se", 8, resolution=64).eval() if name == "resnet18" else net


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18", "seresnext26t_32x4d"])
@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_real_networks_give_eagers_outputs_in_a_forked_process(name: str, backend: str, precision: str) -> None:
    net, x = real(name), image(64)
    with torch.inference_mode():
        expected = apart(lambda: net(x)).clone()
    ready = prepared(backend, precision, net, x)
    check_output(precision, net, expected, three_passes(ready)[0])

"""The list of backends, what is refused and how, and the state of the process while one is measured."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, MissingExtraError, UnknownNameError
from secost.glossary import CAUTIONS
from secost.meters import conditions
from secost.meters.backends import offered as backends
from secost.meters.backends import torch as torch_backends
from secost.meters.backends.offered import BACKENDS, get_backend, missing_here
from secost.meters.conditions import (
    Backend,
    Batch,
    ConversionError,
    Prepared,
    Request,
    apart,
    measuring,
    quiet,
    reason_of,
    steady_allocator,
)
from secost.plan.options import MEMORY_FORMATS, PRECISIONS


@pytest.mark.parametrize("name", BACKENDS.names())
def test_a_backend_says_what_it_has_in_words_that_a_spec_can_ask_for(name: str) -> None:
    backend = BACKENDS.get(name)
    assert backend.name == name
    assert backend.summary
    assert "fp32" in backend.precisions and set(backend.precisions) <= set(PRECISIONS)
    assert "cpu" in backend.devices
    assert "contiguous" in backend.memory_formats and set(backend.memory_formats) <= set(MEMORY_FORMATS)
    assert (backend.extra is None) == (backend.packages == ())


def test_a_backend_of_a_third_party_needs_five_fields_and_is_found_by_its_name() -> None:
    def prepare(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
        return Prepared(lambda: lambda: net(*inputs) * 2)

    BACKENDS.register("doubling", Backend("doubling", "twice", ("fp32",), ("cpu",), prepare))
    try:
        backend = get_backend("doubling")
        assert not backend.in_place(Request())
        assert missing_here(backend) == []
        run = backend.prepare(nn.Identity(), (torch.ones(1),), Request()).open()
        assert run() == torch.tensor([2.0])
    finally:
        del BACKENDS._entries["doubling"]


def test_an_unknown_backend_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="eager"):
        get_backend("eagre", "fp32", "cpu")


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("eager", {"precision": "int8"}, r"backend 'eager' has no precision 'int8': expected one of fp32, bf16"),
        ("eager", {"device": "abacus"}, r"backend 'eager' has no device 'abacus': expected one of cpu, cuda, mps"),
        ("openvino", {"device": "cuda"}, r"backend 'openvino' has no device 'cuda': expected one of cpu"),
        ("onnxruntime", {"precision": "bf16"}, r"has no precision 'bf16': expected one of fp32, int8"),
        ("onnxruntime", {"memory_format": "channels-last"}, r"has no memory format 'channels-last': .* contiguous"),
        ("eager", {"cuda_graphs": True}, r"CUDA graphs need device 'cuda', not 'cpu'"),
        ("onnxruntime", {"cuda_graphs": True, "device": "cuda"}, r"no CUDA graphs: expected one of eager, compile"),
    ],
)
def test_what_a_backend_lacks_is_refused_with_what_it_has(name: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSpecError, match=message):
        get_backend(name, **asked)


@pytest.mark.parametrize(("name", "device"), [("eager", "cuda"), ("compile", "cuda"), ("eager", "mps")])
def test_a_device_that_is_not_in_this_machine_is_one_line(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BadSpecError, match=rf"backend '{name}': device '{device}' is not here: .*secost list backends"):
        get_backend(name, device=device)
    assert any(device in line for line in missing_here(BACKENDS.get(name)))


@pytest.mark.parametrize("name", ["eager", "compile", "openvino"])
def test_bf16_is_refused_where_the_processor_would_only_emulate_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(torch_backends, "has_bf16", lambda: False)
    with pytest.raises(BadSpecError, match=r"bf16 is not here: this processor has no bfloat16 instructions"):
        get_backend(name, "bf16")
    monkeypatch.undo()
    monkeypatch.setattr(torch_backends, "has_bf16", lambda: True)
    if name != "openvino":
        assert get_backend(name, "bf16").name == name


def test_compile_without_a_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(BadSpecError, match=r"finds no no-such-compiler -O2: install it, or name another in CXX"):
        get_backend("compile")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnxruntime", "onnxruntime", "onnx"), ("onnxruntime", "onnxscript", "onnx"),
     ("openvino", "openvino", "openvino"), ("openvino", "nncf", "openvino")],
)
def test_a_backend_that_is_not_installed_names_the_extra_that_brings_it(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == package else find(asked))
    message = rf"backend '{name}' needs {package}, .* pip install 'secost\[{extra}\]'"
    with pytest.raises(MissingExtraError, match=message):
        get_backend(name)
    assert missing_here(BACKENDS.get(name)) == [f"{package}: pip install 'secost[{extra}]'"]


def test_every_caution_of_a_backend_has_words() -> None:
    assert {"random-calibration", "graph-breaks"} <= set(CAUTIONS)


# --- eager in place ---------------------------------------------------------------------------------------------------


def test_eager_sees_attention_that_is_switched_after_it_was_prepared() -> None:
    net = nn.Sequential(nn.Identity())
    backend = get_backend("eager", "fp32", "cpu")
    assert backend.in_place(Request())
    run = backend.prepare(net, (torch.ones(1),), Request()).open()
    handle = net[0].register_forward_hook(lambda module, args, output: output * 3)
    assert run() == torch.tensor([3.0])
    handle.remove()
    assert run() == torch.tensor([1.0])


@pytest.mark.parametrize(
    "request_", [Request(precision="bf16"), Request(memory_format="channels-last"), Request(device="cuda")]
)
def test_eager_that_casts_or_moves_wants_a_network_of_its_own(request_: Request) -> None:
    assert not BACKENDS.get("eager").in_place(request_)


def test_channels_last_lays_weights_and_inputs_out_so_and_changes_no_number() -> None:
    net, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(2, 3, 8, 8)
    expected = net(x)
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    run = BACKENDS.get("eager").prepare(net, (x,), Request(memory_format="channels-last")).open()
    torch.testing.assert_close(run(), expected, check_stride=False)
    assert seen[0].is_contiguous(memory_format=torch.channels_last) and not seen[0].is_contiguous()
    assert net.weight.is_contiguous(memory_format=torch.channels_last) and not net.weight.is_contiguous()


# --- CUDA graphs, on made ones ----------------------------------------------------------------------------------------


class FakeCuda:
    """What a capture asks of torch.cuda, written down."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def Stream(self) -> FakeCuda.Queue:
        return FakeCuda.Queue(self, "side")

    def current_stream(self) -> FakeCuda.Queue:
        return FakeCuda.Queue(self, "main")

    def stream(self, queue: FakeCuda.Queue) -> Any:
        return self.during(f"on {queue.name}")

    def graph(self, graph: FakeCuda.CUDAGraph) -> Any:
        return self.during("capture")

    def CUDAGraph(self) -> Any:
        log = self.log

        class Graph:
            def replay(self) -> None:
                log.append("replay")

        return Graph()

    def during(self, what: str) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def block() -> Iterator[None]:
            self.log.append(f"{what} (")
            yield
            self.log.append(")")

        return block()

    class Queue:
        def __init__(self, cuda: FakeCuda, name: str) -> None:
            self.cuda, self.name = cuda, name

        def wait_stream(self, other: FakeCuda.Queue) -> None:
            self.cuda.log.append(f"{self.name} waits for {other.name}")


def test_a_graph_is_captured_after_a_warm_up_on_a_side_stream_and_then_only_replayed() -> None:
    cuda = FakeCuda()

    def run() -> str:
        cuda.log.append("pass")
        return "outputs"

    replay = torch_backends.captured(run, cuda)
    assert cuda.log == [
        "side waits for main", "on side (", "pass", "pass", "pass", ")", "main waits for side", "capture (", "pass", ")"
    ]
    cuda.log.clear()
    assert replay() == "outputs"
    assert replay() == "outputs"
    assert cuda.log == ["replay", "replay"]


# --- the state of the process -----------------------------------------------------------------------------------------


def test_threads_are_set_while_measuring_and_given_back() -> None:
    before = torch.get_num_threads()
    with measuring(before + 1):
        assert torch.get_num_threads() == before + 1
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"), measuring(before + 1):
        raise RuntimeError("broken")
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_without_glibc_the_allocator_is_left_alone(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: object) -> Any:
        raise error("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert steady_allocator() is False
    with measuring(1):
        pass


@pytest.fixture
def mallopt_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    return calls


def test_the_allocator_keeps_what_it_has_where_it_is_glibc(mallopt_calls: list[tuple[int, int]]) -> None:
    assert steady_allocator() is True
    assert sorted(mallopt_calls) == [(-3, conditions._KEEP_BYTES), (-1, conditions._KEEP_BYTES)]


def test_the_systems_own_allocator_is_left_as_it_is_where_it_was_asked_for(
    mallopt_calls: list[tuple[int, int]]
) -> None:
    with measuring(1, "default"):
        pass
    assert mallopt_calls == []
    with measuring(1):
        assert len(mallopt_calls) == 2
    assert [value for _, value in mallopt_calls[2:]] == [conditions._USUAL_BYTES] * 2, "given back"


def test_work_apart_gives_its_result_or_its_error_and_leaves_no_thread() -> None:
    threads = threading.active_count()
    assert apart(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyError, match="reason"):
        apart(lambda: {}["reason"])
    assert threading.active_count() == threads


def test_quiet_silences_what_converters_say_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("progress")
        warnings.warn("deprecated", stacklevel=1)  # an error outside, as pytest is set here
        logging.getLogger("converter").error("skipped")
    print("result")
    assert capsys.readouterr().out == "result\n"
    assert logging.root.manager.disable == 0


def _wrapped(*causes: Exception) -> Exception:
    outer: Exception = RuntimeError("failed\nsee the log")
    at = outer
    for cause in causes:
        at.__cause__ = cause
        at = cause
    return outer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (_wrapped(ValueError("no rule\nfor op X")), "ValueError: no rule"),
        (_wrapped(TypeError("outer"), KeyError("op")), "KeyError: 'op'"),
        (ValueError("\n\n  only line"), "ValueError: only line"),
        (ValueError(), "ValueError: no reason given"),
        (ConversionError("plain"), "ConversionError: plain"),
    ],
)
def test_a_reason_is_the_first_line_of_what_lies_at_the_bottom(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_the_names_that_backends_exports_are_there() -> None:
    assert all(hasattr(backends, name) for name in backends.__all__)
    assert isinstance(Request(), Request) and isinstance(measuring, Callable)  # type: ignore[arg-type]

"""The two runtimes that take torch's own export: ONNX Runtime, and OpenVINO on the CPU.

ONNX Runtime runs it as fp32 or as static int8 (QDQ), OpenVINO in fp32, bf16, or quantised to int8 by NNCF.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secost.meters.backends import conversion
from secost.meters.backends.calibration import fitted
from secost.meters.backends.converters import import_openvino
from secost.meters.backends.torch import has_bf16
from secost.meters.conditions import Batch, ConversionError, Prepared, Request, Run, reason_of

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ELEMENTS = {
    "tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64, "tensor(int32)": torch.int32, "tensor(uint8)": torch.uint8,
    "tensor(int8)": torch.int8, "tensor(bool)": torch.bool,
}
_MODEL_FILE = "model.xml"
_cores: dict[int, Any] = {}
_VERSIONS = ("torch", "onnx", "onnxscript", "openvino")


# --- ONNX Runtime --------------------------------------------------------------------------------------------------


def prepare_onnxruntime(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
    """The network as an ONNX file, quantised where int8 is asked for; each process opens its own session."""
    content = conversion.content_key(net, inputs)
    exported = conversion.to_onnx(net, inputs, content)
    if request.precision != "int8":
        return _prepared(exported, exported.seconds, inputs, request, ())
    batches, cautions = fitted(inputs, request)
    unsigned, narrow = _is_x86(), not _has_vnni()
    key = conversion.under(
        content, conversion.tensors_key(batches), f"{unsigned=} {narrow=}",
        conversion.versions("torch", "onnx", "onnxscript", "onnxruntime"),
    )

    quantised = conversion.quantised(
        "onnxruntime-int8", key, batches, "quantise_onnx", exported.folder / conversion.ONNX_FILE, unsigned=unsigned,
        reduce_range=narrow,
    )
    return _prepared(quantised, exported.seconds + quantised.seconds, inputs, request, cautions)


def onnxruntime_lacks(request: Request) -> str | None:
    """Why this machine can't do it: the build of onnxruntime decides about CUDA."""
    if request.device != "cuda" or importlib.util.find_spec("onnxruntime") is None:
        return None
    if request.precision == "int8":
        return "int8 is for the CPU: on CUDA onnxruntime computes QDQ networks in floating point"
    import onnxruntime

    if _PROVIDERS["cuda"] in onnxruntime.get_available_providers():
        return None
    return "device 'cuda' is not here: this onnxruntime has no CUDAExecutionProvider (onnxruntime-gpu has)"


def _prepared(
    entry: conversion.Entry, seconds: float, inputs: Batch, request: Request, cautions: tuple[str, ...]
) -> Prepared:
    path = entry.folder / conversion.ONNX_FILE
    return Prepared(lambda: _open_session(path, inputs, request), seconds, entry.cached, cautions)


def _open_session(path: Path, inputs: Batch, request: Request) -> Run:
    """A session of this process, and a pass over inputs and outputs that stay where they are.

    Bound once (IO binding), so that no pass pays for handing arrays over, or, on a GPU, for copies to it and back:
    the other backends don't either. Each pass writes the same output tensors again.
    """
    session = _session(path, request)
    binding = session.io_binding()
    held = [item.to(request.device).contiguous() for item in inputs]
    for given, item in zip(session.get_inputs(), held, strict=True):
        binding.bind_input(given.name, *_place(item, given.type))
    outputs = [
        torch.empty(tuple(given.shape), dtype=_ELEMENTS[given.type], device=request.device)
        for given in session.get_outputs()
    ]
    for given, item in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(given.name, *_place(item, given.type))

    def run() -> tuple[torch.Tensor, ...]:
        session.run_with_iobinding(binding)
        return kept[1]

    kept = (held, tuple(outputs))  # the binding holds addresses only
    return run


def _session(path: Path, request: Request) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = request.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Workers that spin between passes take processor time from the other variants of a round.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        # No falling back on another device unseen.
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[_PROVIDERS[request.device]], enable_fallback=0
        )
        if session.get_providers()[0] != _PROVIDERS[request.device]:
            raise ConversionError(f"it runs on {session.get_providers()[0]}, not on {request.device}")
        return session
    except Exception as error:
        raise ConversionError(f"onnxruntime can't load the exported network: {reason_of(error)}") from error


def _place(item: torch.Tensor, element: str) -> tuple[str, int, Any, tuple[int, ...], int]:
    """What a binding wants of a tensor: device, its number, element type, shape, address."""
    numpy_type = torch.empty(0, dtype=_ELEMENTS[element]).numpy().dtype
    return item.device.type, item.device.index or 0, numpy_type, tuple(item.shape), item.data_ptr()


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686", "x86")


def _has_vnni() -> bool:
    """Whether int8 products are summed without overflow: VNNI on x86; other processors have no such trouble."""
    if not _is_x86():
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return bool(torch.cpu._is_vnni_supported())
    return "avx512_vnni" in flags or "avx_vnni" in flags


# --- OpenVINO ------------------------------------------------------------------------------------------------------


def prepare_openvino(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
    """The network as OpenVINO's files, quantised where int8 is asked for; each process compiles them for itself."""
    content = conversion.content_key(net, inputs)
    model = _converted(net, inputs, content)
    cautions: tuple[str, ...] = ()
    if request.precision == "int8":
        batches, cautions = fitted(inputs, request)
        model = _quantised(content, batches, model)
    path = model.folder / _MODEL_FILE
    return Prepared(lambda: _open_compiled(path, inputs, request), model.seconds, model.cached, cautions)


def openvino_lacks(request: Request) -> str | None:
    """Why this machine can't do it, None where it can."""
    if request.precision == "bf16" and not has_bf16():
        return "bf16 is not here: this processor has no bfloat16 instructions (AVX-512 BF16, AMX or Arm's)"
    return None


def _converted(net: nn.Module, inputs: Batch, content: str | None) -> conversion.Entry:
    exported = conversion.to_onnx(net, inputs, content)
    key = conversion.under(content, conversion.versions(*_VERSIONS))
    made = conversion.kept("openvino-fp32", key, lambda folder: conversion.convert_apart(
        "convert_openvino", source=exported.folder / conversion.ONNX_FILE, target=folder / _MODEL_FILE,
    ))
    return conversion.Entry(made.folder, exported.seconds + made.seconds, made.cached)


def _quantised(content: str | None, batches: tuple[Batch, ...], model: conversion.Entry) -> conversion.Entry:
    key = conversion.under(content, conversion.tensors_key(batches), conversion.versions(*_VERSIONS, "nncf"))

    made = conversion.quantised("openvino-int8", key, batches, "quantise_openvino", model.folder / _MODEL_FILE)
    return conversion.Entry(made.folder, model.seconds + made.seconds, made.cached)


def _open_compiled(path: Path, inputs: Batch, request: Request) -> Run:
    """The model compiled in this process, and a pass over inputs and outputs that stay where they are.

    Each pass writes the same output arrays again.
    """
    settings = {
        "INFERENCE_NUM_THREADS": request.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if request.precision == "bf16" else "f32",
        # No other backend is tied to a processor; tied to a busy one, a pass can't get away from it.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = _core().compile_model(str(path), "CPU", settings)
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(f"openvino can't compile the network: {reason_of(error)}") from error
    infer = compiled.create_infer_request()
    held = [item.contiguous().numpy() for item in inputs]
    for place, item in enumerate(held):
        infer.set_input_tensor(place, import_openvino().Tensor(item, shared_memory=True))
    count = len(compiled.outputs)

    def run() -> list[Any]:
        infer.infer()
        return [infer.get_output_tensor(place).data for place in range(count)]

    return run


def _core() -> Any:
    """The one Core of this process.

    Its threads don't live on in a forked process, where a pass would wait for them for ever: that is refused.
    """
    for owner in _cores:
        if owner != os.getpid():
            raise ConversionError(
                "openvino ran already in the process that this one was forked from, and would hang here: start anew"
            )
    return _cores.setdefault(os.getpid(), import_openvino().Core())

"""ONNX Runtime: the network exported by torch's own exporter, as fp32 or as static int8 (QDQ)."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secost.meters.backends import conversion
from secost.meters.backends.calibration import fitted
from secost.meters.conditions import Batch, ConversionError, Prepared, Request, Run, reason_of

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ELEMENTS = {
    "tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64, "tensor(int32)": torch.int32, "tensor(uint8)": torch.uint8,
    "tensor(int8)": torch.int8, "tensor(bool)": torch.bool,
}


def prepare(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
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

    def quantise(folder: Path) -> None:
        path = folder / "batches.npz"
        conversion.save_batches(batches, path)
        conversion.convert_apart(
            "quantise_onnx", source=exported.folder / conversion.ONNX_FILE, target=folder / conversion.ONNX_FILE,
            batches=path, unsigned=unsigned, reduce_range=narrow,
        )
        path.unlink()

    quantised = conversion.kept("onnxruntime-int8", key, quantise)
    return _prepared(quantised, exported.seconds + quantised.seconds, inputs, request, cautions)


def lacks(request: Request) -> str | None:
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
    return Prepared(lambda: _open(path, inputs, request), seconds, entry.cached, cautions)


def _open(path: Path, inputs: Batch, request: Request) -> Run:
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

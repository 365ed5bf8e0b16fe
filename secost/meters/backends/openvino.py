"""OpenVINO on the CPU: the exported network in fp32 or bf16, or quantised to int8 by NNCF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy
from torch import nn

from secost.meters.backends import conversion
from secost.meters.backends.calibration import fitted
from secost.meters.backends.converters import import_openvino
from secost.meters.backends.torch import has_bf16
from secost.meters.conditions import Batch, ConversionError, Prepared, Request, Run, reason_of

_MODEL_FILE = "model.xml"
_cores: dict[int, Any] = {}
_VERSIONS = ("torch", "onnx", "onnxscript", "openvino")


def prepare(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
    """The network as OpenVINO's files, quantised where int8 is asked for; each process compiles them for itself."""
    content = conversion.content_key(net, inputs)
    model = _converted(net, inputs, content)
    cautions: tuple[str, ...] = ()
    if request.precision == "int8":
        batches, cautions = fitted(inputs, request)
        model = _quantised(content, batches, model)
    path = model.folder / _MODEL_FILE
    return Prepared(lambda: _open(path, inputs, request), model.seconds, model.cached, cautions)


def lacks(request: Request) -> str | None:
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

    def quantise(folder: Path) -> None:
        path = folder / "batches.npz"
        conversion.save_batches(batches, path)
        conversion.convert_apart(
            "quantise_openvino", source=model.folder / _MODEL_FILE, target=folder / _MODEL_FILE, batches=path
        )
        path.unlink()

    made = conversion.kept("openvino-int8", key, quantise)
    return conversion.Entry(made.folder, model.seconds + made.seconds, made.cached)


def _open(path: Path, inputs: Batch, request: Request) -> Run:
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
    held = [numpy.ascontiguousarray(item.numpy()) for item in inputs]
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

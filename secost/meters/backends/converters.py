"""What quantises and converts ONNX files, run as `python -m secost.meters.backends.converters` in a process of its own.

Plain files in, plain files out, the request as JSON on stdin: nothing here imports torch, and no thread that a
converter starts is left in the process that measures. The reason of a failure is the last line of stdout.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_TELEMETRY = "openvino_telemetry"


def quantise_onnx(source: str, target: str, batches: str, unsigned: bool, reduce_range: bool) -> None:
    """An ONNX file with int8 weights (a scale a channel) and activations, as QDQ pairs (onnxruntime).

    Activations are fitted to the smallest and largest value in the batches, and are `unsigned` for x86: there
    onnxruntime 1.32 turns signed ones into unsigned itself, but only where a map has one reader, and leaves
    convolutions whose ends then differ in floating point. With the default (signed) 19 of the 20 convolutions of
    ResNet-18 with SE ran so, and SE's int8 overhead came out as +77 % instead of +12 %. `reduce_range` keeps weights
    to 7 bits: without VNNI a sum of two products of 8 bits overflows its 16.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    cleaned = Path(target).with_suffix(".cleaned")
    quant_pre_process(source, str(cleaned), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(cleaned), target, _reader(str(cleaned), batches), per_channel=True, reduce_range=reduce_range,
        activation_type=quantization.QuantType.QUInt8 if unsigned else quantization.QuantType.QInt8,
    )
    cleaned.unlink()


def optimise_onnx(source: str, target: str) -> None:
    """An ONNX file as onnxruntime runs it on this kind of processor: its graph optimisations done (onnxruntime)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath, options.log_severity_level = target, 4
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def import_openvino() -> Any:
    """The openvino module without its telemetry, which would report each import and conversion over the network."""
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _TELEMETRY}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(before)


def convert_openvino(source: str, target: str) -> None:
    """An ONNX file as OpenVINO's XML and weights, in the precision that it has."""
    openvino = import_openvino()
    # By default weights are written as fp16.
    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)


def quantise_openvino(source: str, target: str, batches: str, narrow: bool) -> None:
    """An OpenVINO model with int8 weights and activations (NNCF, post-training, its default preset).

    `narrow` halves the range of all weights, for processors whose int8 sums overflow; NNCF by itself halves the first
    layer's.
    """
    openvino = import_openvino()
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # this process ends with the conversion
    import nncf

    model = openvino.Core().read_model(source)
    items = list(_batches(batches))
    fix = nncf.OverflowFix.ENABLE if narrow else nncf.OverflowFix.FIRST_LAYER
    quantised = nncf.quantize(model, nncf.Dataset(items), subset_size=len(items),
                              advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix))
    openvino.save_model(quantised, target, compress_to_fp16=False)


def _batches(path: str) -> Iterator[list[Any]]:
    """Calibration batches as lists of arrays, one an input."""
    import numpy

    with numpy.load(path, allow_pickle=False) as arrays:
        batch = 0
        while f"{batch}_0" in arrays:
            places = sum(name.startswith(f"{batch}_") for name in arrays)
            yield [arrays[f"{batch}_{place}"] for place in range(places)]
            batch += 1


def _reader(model: str, batches: str) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    names = [item.name for item in onnx.load(model).graph.input]

    items = (dict(zip(names, item, strict=True)) for item in _batches(batches))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(items, None)

    return Reader()


_CONVERTERS: dict[str, Callable[..., None]] = {
    "quantise_onnx": quantise_onnx, "optimise_onnx": optimise_onnx, "convert_openvino": convert_openvino,
    "quantise_openvino": quantise_openvino,
}


def main() -> int:
    """Carry out the request on stdin: 0 where it was done, 1 with the reason on stdout."""
    logging.disable(logging.CRITICAL)
    request = json.load(sys.stdin)
    converter = _CONVERTERS[request.pop("do")]
    try:
        converter(**request)
    except Exception as error:  # whatever a converter raises is its reason
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(f"\n{type(error).__name__}: {lines[0]}" if lines else f"\n{type(error).__name__}")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # no waiting for what the converters left running

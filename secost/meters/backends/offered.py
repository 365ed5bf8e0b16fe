"""What runs a network's forward pass: one entry a backend, each making a network ready for the paired rounds.

`eager` and `compile` are PyTorch, `onnxruntime` and `openvino` run the exported network. Third parties register
others. Neighbours: `conditions` has what a backend is and under which conditions it runs.
"""

from __future__ import annotations

import importlib.util

from secost.errors import BadSpecError, MissingExtraError
from secost.meters.backends.exported import onnxruntime_lacks, prepare_onnxruntime, prepare_openvino
from secost.meters.backends.torch import compile_lacks, lacks, prepare_compiled, prepare_eager, runs_in_place
from secost.meters.conditions import Backend, ConversionError, Prepared, Request
from secost.registry import Registry

__all__ = ["BACKENDS", "Backend", "ConversionError", "Prepared", "Request", "get_backend", "missing_here",
           "not_offered"]

BACKENDS: Registry[Backend] = Registry("backend")
_ALTERNATIVES = "secost list backends shows what is here"


def get_backend(
    name: str, precision: str = "fp32", device: str = "cpu", memory_format: str = "contiguous",
    cuda_graphs: bool = False, here: bool = True,
) -> Backend:
    """The backend of that name, able to run so on this machine; without `here` on some machine, which is enough to
    count for.

    Raises UnknownNameError for a name that no backend has, BadSpecError for what the backend or this machine lacks,
    MissingExtraError, naming the extra, where a package is not installed.
    """
    backend = BACKENDS.get(name)
    for kind, value, offered in _asked(backend, precision, device, memory_format):
        if value not in offered:
            raise BadSpecError(f"backend {name!r} has no {kind} {value!r}: expected one of {', '.join(offered)}")
    if cuda_graphs and device != "cuda":
        raise BadSpecError(f"CUDA graphs need device 'cuda', not {device!r}: give --device cuda, or leave them out")
    if cuda_graphs and name not in _CAPTURED:
        raise BadSpecError(f"backend {name!r} has no CUDA graphs: expected one of {', '.join(_CAPTURED)}")
    if not here:
        return backend
    for package in _absent(backend):
        raise MissingExtraError(package, backend.extra or package, f"backend {name!r}")
    reason = backend.lacks(Request(precision=precision, device=device, memory_format=memory_format))
    if reason is not None:
        raise BadSpecError(f"backend {name!r}: {reason}; {_ALTERNATIVES}")
    return backend


def not_offered(name: str, precision: str, device: str, memory_format: str) -> list[str]:
    """Which of the three this backend never has, on any machine. Raises UnknownNameError for the name."""
    asked = _asked(BACKENDS.get(name), precision, device, memory_format)
    return [value for _, value, offered in asked if value not in offered]


def _asked(backend: Backend, precision: str, device: str, memory_format: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [("precision", precision, backend.precisions), ("device", device, backend.devices),
            ("memory format", memory_format, backend.memory_formats)]


def missing_here(backend: Backend) -> list[str]:
    """What this machine lacks for a backend, a line each; empty where all of it works."""
    if packages := _absent(backend):
        return [f"{', '.join(packages)}: pip install 'secost[{backend.extra}]'"]
    reasons = [backend.lacks(Request(device=device)) for device in backend.devices]
    at_hand = [device for device, reason in zip(backend.devices, reasons, strict=True) if reason is None]
    reasons += [backend.lacks(Request(precision=precision, device=device))
                for precision in backend.precisions for device in at_hand]
    return list(dict.fromkeys(reason for reason in reasons if reason is not None))


def _absent(backend: Backend) -> list[str]:
    return [package for package in backend.packages if importlib.util.find_spec(package) is None]


_CAPTURED = ("eager", "compile")
_FORMATS = ("contiguous", "channels-last")
for _backend in (
    Backend(
        "eager", "PyTorch as it is", ("fp32", "bf16"), ("cpu", "cuda", "mps"), prepare_eager,
        memory_formats=_FORMATS, in_place=runs_in_place, lacks=lacks,
    ),
    Backend(
        "compile", "torch.compile with TorchInductor, default options", ("fp32", "bf16"), ("cpu", "cuda"),
        prepare_compiled, memory_formats=_FORMATS, lacks=compile_lacks, fuses=True,
    ),
    Backend(
        "onnxruntime", "ONNX Runtime on torch's export, int8 as static QDQ", ("fp32", "int8"), ("cpu", "cuda"),
        prepare_onnxruntime, extra="onnx", packages=("onnxruntime", "onnx", "onnxscript"), lacks=onnxruntime_lacks,
    ),
    Backend(
        "openvino", "OpenVINO on torch's export, int8 by NNCF", ("fp32", "bf16", "int8"), ("cpu",), prepare_openvino,
        extra="openvino", packages=("openvino", "nncf", "onnx", "onnxscript"), lacks=lacks, fuses=True,
    ),
):
    BACKENDS.register(_backend.name, _backend)

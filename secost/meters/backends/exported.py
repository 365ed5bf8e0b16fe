"""The runtimes that take torch's own export, ONNX Runtime and OpenVINO on the CPU, and what their int8 is fitted to.

ONNX Runtime runs it as fp32 or as static int8 (QDQ), OpenVINO in fp32, bf16, or quantised to int8 by NNCF. Static
quantisation fixes each activation's range from a few batches: the user's images, a function of the user's, or, without
either, random images. Latency does not depend on them; accuracy does.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, SecostError, one_line
from secost.glossary import Caution
from secost.meters.backends import conversion
from secost.meters.backends.converters import import_openvino
from secost.meters.conditions import Batch, ConversionError, Prepared, Request, Run, reason_of
from secost.networks.importing import user_function
from secost.networks.sources import normalisation, read_image

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ELEMENTS = {
    "tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64, "tensor(int32)": torch.int32, "tensor(uint8)": torch.uint8,
    "tensor(int8)": torch.int8, "tensor(bool)": torch.bool,
}
_MODEL_FILE = "model.xml"
_cores: dict[int, Any] = {}
_VERSIONS = ("torch", "onnx", "onnxscript", "openvino")
MOST_IMAGES = 128
_RANDOM_IMAGES = 16
_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))


# --- ONNX Runtime --------------------------------------------------------------------------------------------------


def prepare_onnxruntime(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
    """The network as an ONNX file, quantised where int8 is asked for; each process opens its own session."""
    content = conversion.content_key(net, inputs)
    exported = conversion.to_onnx(net, inputs, content)
    key = conversion.under(content, conversion.versions("torch", "onnx", "onnxscript", "onnxruntime"))
    if request.precision != "int8":
        return _prepared(exported, key, exported.seconds, inputs, request, ())
    batches, cautions = fitted(inputs, request)
    unsigned, narrow = _is_x86(), not _has_vnni()
    key = conversion.under(key, conversion.tensors_key(batches), f"{unsigned=} {narrow=}")
    quantised = conversion.quantised(
        "onnxruntime-int8", key, batches, "quantise_onnx", exported.folder / conversion.ONNX_FILE, unsigned=unsigned,
        reduce_range=narrow,
    )
    return _prepared(quantised, key, exported.seconds + quantised.seconds, inputs, request, cautions)


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
    entry: conversion.Entry, key: str | None, seconds: float, inputs: Batch, request: Request, cautions: tuple[str, ...]
) -> Prepared:
    """On the CPU the graph is optimised here, once for this kind of processor: every session of every measuring process
    would spend three quarters of its opening on it."""
    if request.device == "cpu":
        key = conversion.under(key, platform.machine(), torch.backends.cpu.get_cpu_capability())
        source = entry.folder / conversion.ONNX_FILE
        entry = conversion.kept("onnxruntime-optimised", key, lambda folder: conversion.convert_apart(
            "optimise_onnx", source=source, target=folder / conversion.ONNX_FILE))
        seconds += entry.seconds
    path = entry.folder / conversion.ONNX_FILE
    return Prepared(lambda: _open_session(path, inputs, request), seconds, entry.cached, cautions)


def _open_session(path: Path, inputs: Batch, request: Request) -> Run:
    """A session of this process, and a pass over inputs and outputs that stay where they are.

    Bound once (IO binding), so that no pass pays for handing arrays over, or, on a GPU, for copies to it and back:
    the other backends don't either. Each pass writes the same output tensors again.
    """
    session = _session(path, request)
    binding = session.io_binding()
    given = [item.to(request.device).contiguous() for item in inputs]
    outputs = tuple(torch.empty(tuple(place.shape), dtype=_ELEMENTS[place.type], device=request.device)
                    for place in session.get_outputs())
    for bind, places, items in (
        (binding.bind_input, session.get_inputs(), given), (binding.bind_output, session.get_outputs(), outputs),
    ):
        for place, item in zip(places, items, strict=True):
            # Device, its number, element type, shape, address.
            element = torch.empty(0, dtype=_ELEMENTS[place.type]).numpy().dtype
            bind(place.name, item.device.type, item.device.index or 0, element, tuple(item.shape), item.data_ptr())

    def run() -> tuple[Tensor, ...]:
        session.run_with_iobinding(binding)
        return kept[1]

    kept = (given, outputs)  # the binding holds addresses only
    return run


def _session(path: Path, request: Request) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = request.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if request.device == "cpu" else levels.ORT_ENABLE_ALL
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
    exported = conversion.to_onnx(net, inputs, content)
    key = conversion.under(content, conversion.versions(*_VERSIONS))
    model = conversion.kept("openvino-fp32", key, lambda folder: conversion.convert_apart(
        "convert_openvino", source=exported.folder / conversion.ONNX_FILE, target=folder / _MODEL_FILE,
    ))
    seconds = exported.seconds + model.seconds
    cautions: tuple[str, ...] = ()
    if request.precision == "int8":
        batches, cautions = fitted(inputs, request)
        narrow, source = not _has_vnni(), model.folder / _MODEL_FILE
        key = conversion.under(content, conversion.tensors_key(batches), f"{narrow=}",
                               conversion.versions(*_VERSIONS, "nncf"))
        model = conversion.quantised("openvino-int8", key, batches, "quantise_openvino", source, narrow=narrow)
        seconds += model.seconds
    path = model.folder / _MODEL_FILE
    import_openvino()  # starts no thread, and takes 0.3 s, which each measuring process is spared
    return Prepared(lambda: _open_compiled(path, inputs, request), seconds, model.cached, cautions)


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


# --- what int8 is fitted to ----------------------------------------------------------------------------------------


def load_calibration(text: str, inputs: Batch, net: nn.Module | None = None) -> tuple[Batch, ...] | None:
    """Batches shaped as `inputs`, from a folder of images or from `path.py:function`; None for an empty text.

    A folder is searched with its subfolders; of more than 128 images 128 are taken, evenly over their sorted names.
    An image is resized to cover the input, cut at the centre, and normalised as the network's timm `pretrained_cfg`
    says, else with ImageNet's mean and standard deviation. A function returns one batch (N, C, H, W), a tuple of
    tensors for a network of several inputs, or a list of either. Raises BadSpecError for what does not fit.
    """
    if not text:
        return None
    if Path(text).is_dir():
        samples: list[Batch] = [(image,) for image in _images(Path(text), inputs, net)]
    elif ":" in text:
        samples = _samples(text, inputs)
    else:
        raise BadSpecError(f"calibration {text!r} is no folder: give a folder of images, or path.py:function")
    return _batched(samples, inputs)


def random_batches(inputs: Batch, seed: int) -> tuple[Batch, ...]:
    """Gaussian images (mean 0, deviation 1: as normalised images have), at least 16, shaped as `inputs`.

    Inputs that are no floating-point numbers are given again as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    count = -(-_RANDOM_IMAGES // max(1, inputs[0].shape[0] if inputs[0].ndim else 1))

    def draw(item: Tensor) -> Tensor:
        return torch.randn(item.shape, generator=generator) if item.is_floating_point() else item

    return tuple(tuple(draw(item) for item in inputs) for _ in range(count))


def fitted(inputs: Batch, request: Request) -> tuple[tuple[Batch, ...], tuple[str, ...]]:
    """The batches to fit int8 to, in the inputs' own size, and the cautions that go with them."""
    if request.calibration:
        return _batched(_single(request.calibration), inputs), ()
    return random_batches(inputs, request.seed), (Caution.RANDOM_CALIBRATION,)


def _images(folder: Path, inputs: Batch, net: nn.Module | None) -> list[Tensor]:
    if len(inputs) != 1 or inputs[0].ndim != 4 or inputs[0].shape[1] not in (1, 3):
        shapes = ", ".join(str(tuple(item.shape)) for item in inputs)
        raise BadSpecError(
            f"calibration images fit a network with one input (N, 1 or 3, H, W), not {shapes}: give path.py:function"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not paths:
        raise BadSpecError(f"calibration folder {str(folder)!r} has no image: expected files such as .jpg or .png")
    step = max(1.0, len(paths) / MOST_IMAGES)
    chosen = [paths[int(place * step)] for place in range(min(len(paths), MOST_IMAGES))]
    _, channels, height, width = inputs[0].shape
    mean, std = normalisation(net, channels)
    return [(read_image(path, channels, height, width) - mean) / std for path in chosen]


def _samples(text: str, inputs: Batch) -> list[Batch]:
    """What the user's function returns, cut into samples of one."""
    try:
        with torch.no_grad():
            given = user_function(text)()
            batches = _as_batches(given, len(inputs))
    except SecostError:
        raise
    except Exception as error:  # the user's code
        raise BadSpecError(f"calibration {text!r} failed: {one_line(error)}") from error
    for batch in batches:
        _check_batch(text, batch, inputs)
    samples = _single(batches)
    if not samples:
        raise BadSpecError(f"calibration {text!r} gave no batch: return a tensor (N, C, H, W), or a list of them")
    return samples


def _as_batches(given: Any, places: int) -> list[Batch]:
    """A batch, or an iterable of batches; a tuple of tensors is one batch only where there are several inputs."""
    if isinstance(given, Tensor):
        return [(given,)]
    if places > 1 and _is_batch(given, places):
        return [tuple(given)]
    if not isinstance(given, Iterable):
        raise BadSpecError(f"a {type(given).__name__} is no batch: return a tensor, or a list of tensors")
    return [(item,) if isinstance(item, Tensor) else tuple(item) for item in itertools.islice(given, MOST_IMAGES)]


def _is_batch(given: Any, places: int) -> bool:
    return isinstance(given, list | tuple) and len(given) == places and all(isinstance(item, Tensor) for item in given)


def _check_batch(text: str, batch: Batch, inputs: Batch) -> None:
    fits = _is_batch(batch, len(inputs)) and all(
        item.ndim == like.ndim and item.shape[1:] == like.shape[1:] and len(item) == len(batch[0]) > 0
        for item, like in zip(batch, inputs, strict=True)
    )
    if not fits:
        shapes = ", ".join(str(tuple(getattr(item, "shape", ()))) for item in batch)
        wanted = ", ".join(f"(N, {', '.join(map(str, like.shape[1:]))})" for like in inputs)
        raise BadSpecError(f"calibration {text!r} gave a batch of {shapes}: expected {wanted}")


def _single(batches: Iterable[Batch]) -> list[Batch]:
    """Batches cut into samples, each a batch of one."""
    return [
        tuple(item[place:place + 1] for item in batch) for batch in batches for place in range(len(batch[0]))
    ]


def _batched(samples: list[Batch], inputs: Batch) -> tuple[Batch, ...]:
    """Samples in batches of the inputs' own size, the last one filled up from the beginning: exports fix the size."""
    samples, size = samples[:MOST_IMAGES], len(inputs[0])
    needed = -(-len(samples) // size) * size
    filled = [samples[place % len(samples)] for place in range(needed)]
    return tuple(
        tuple(
            torch.cat([sample[place] for sample in filled[begin:begin + size]]).to(like.dtype).cpu().detach()
            for place, like in enumerate(inputs)
        )
        for begin in range(0, needed, size)
    )

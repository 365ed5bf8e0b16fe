"""The two backends that are PyTorch itself: eager, and compile (TorchInductor with its default options).

On CUDA either can be captured into a CUDA graph. What a plain `torch.compile(net)` gives is measured: its guards are
part of each pass, parameters are not frozen.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from secost.glossary import Caution
from secost.kept import cache_folder
from secost.meters.backends import conversion
from secost.meters.conditions import (
    AS_IT_IS,
    Batch,
    ConversionError,
    Prepared,
    Request,
    Run,
    apart,
    measuring,
    quiet,
    reason_of,
)
from secost.meters.environment import sees_cuda

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GRAPH_WARM_UPS = 3
_INDUCTOR_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def runs_in_place(request: Request) -> bool:
    """Whether eager runs the network as it is, with nothing moved or cast."""
    return (request.precision, request.device, request.memory_format) == ("fp32", "cpu", "contiguous")


def prepare_eager(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
    """PyTorch as it is; anything but fp32, contiguous, on the CPU changes the network that is given."""
    if runs_in_place(request):
        return Prepared(lambda: lambda: net(*inputs), modules=(net,), modules_run=True)
    net, inputs = placed(net, inputs, request)
    return Prepared(lambda: _opened(lambda: net(*inputs), request), modules=(net,), modules_run=not request.cuda_graphs)


def prepare_compiled(net: nn.Module, inputs: Batch, request: Request) -> Prepared:
    """The network compiled for these shapes, by running it once here; forked processes inherit the compiled code."""
    conditions = (request.precision, request.device, request.memory_format, str(request.threads))
    key = conversion.under(conversion.content_key(net, inputs), *conditions, conversion.versions("torch"))
    net, inputs = placed(net, inputs, request)
    try:
        with quiet(), _inductor_folder():
            run = _compiled(net, inputs)
            seconds, breaks, from_cache = apart(lambda: _first_pass(run, request))
    except Exception as error:
        raise ConversionError(f"compile can't take {type(net).__name__}: {reason_of(error)}") from error
    made = conversion.remember_seconds("compile", key, seconds, from_cache)
    cautions = (Caution.GRAPH_BREAKS,) if breaks else ()
    return Prepared(lambda: _opened(_checked(run, request), request), made, from_cache, cautions, (net,))


def placed(net: nn.Module, inputs: Batch, request: Request) -> tuple[nn.Module, Batch]:
    """Network and inputs in the precision, on the device and in the memory format asked for. Changes the network."""
    dtype, device = _DTYPES[request.precision], torch.device(request.device)
    channels_last = request.memory_format == "channels-last"
    with torch.inference_mode(False):
        net.to(device=device, dtype=dtype)
        if channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def move(item: Tensor) -> Tensor:
        moved = item.to(device, dtype if item.is_floating_point() else item.dtype)
        return moved.contiguous(memory_format=torch.channels_last) if channels_last and item.ndim == 4 else moved

    return net, tuple(move(item) for item in inputs)


def lacks(request: Request) -> str | None:
    """Why this machine can't run torch so, None where it can."""
    if request.device == "cuda" and not sees_cuda():
        return "device 'cuda' is not here: torch sees no CUDA GPU"
    if request.device == "mps" and not torch.backends.mps.is_available():
        return "device 'mps' is not here: torch sees no Apple GPU"
    if request.precision != "bf16":
        return None
    if request.device == "cpu" and not has_bf16():
        return "bf16 is not here: this processor has no bfloat16 instructions (AVX-512 BF16, AMX or Arm's)"
    if request.device == "cuda" and not torch.cuda.is_bf16_supported():
        return "bf16 is not here: this GPU has no bfloat16 arithmetic"
    return None


def compile_lacks(request: Request) -> str | None:
    """As `lacks`, and inductor builds C++ for the CPU."""
    compiler = shlex.split(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))
    if request.device == "cpu" and not (compiler and shutil.which(compiler[0])):
        return f"compile builds C++ and finds no {' '.join(compiler)}: install it, or name another in CXX"
    return lacks(request)


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself: elsewhere torch emulates it, slowly."""
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if any(getattr(torch.cpu, name, bool)() for name in native):
        return True
    is_arm = torch.backends.cpu.get_cpu_capability() in ("SVE", "SVE256", "NEON")
    return is_arm and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def captured(run: Run, cuda: Any = torch.cuda) -> Run:
    """One CUDA graph of a forward pass, replayed: no launch costs. Each replay writes the same outputs again.

    Warmed up on a side stream first, so that nothing of what libraries do on their first call is in the graph.
    """
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        for _ in range(_GRAPH_WARM_UPS):
            run()
    cuda.current_stream().wait_stream(stream)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        outputs = run()

    def replay() -> object:
        graph.replay()
        return outputs

    return replay


def _opened(run: Run, request: Request) -> Run:
    return captured(run) if request.cuda_graphs else run


def _compiled(net: nn.Module, inputs: Batch) -> Run:
    """The network compiled under a code object of its own.

    Dynamo keeps what it compiled with the code object: variants of one class would share a list of at most eight and
    search through it at every call.
    """

    def forward() -> object:
        return net(*inputs)

    code = forward.__code__.replace(co_name=f"forward_{id(net)}")
    own = types.FunctionType(code, forward.__globals__, code.co_name, None, forward.__closure__)
    compiled: Callable[[], object] = torch.compile(own, dynamic=False)
    return compiled


def _first_pass(run: Run, request: Request) -> tuple[float, int, bool]:
    """Seconds of the pass that compiles, graph breaks met, and whether inductor had all of it in its cache."""
    from torch._dynamo.utils import counters

    before = {name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss", "bypass")}
    breaks = sum(counters["graph_break"].values())
    begin = time.perf_counter()
    with _one_process(), measuring(request.threads, AS_IT_IS):
        run()
    seconds = time.perf_counter() - begin
    new = {name: counters["inductor"][f"fxgraph_cache_{name}"] - count for name, count in before.items()}
    from_cache = new["hit"] > 0 and not new["miss"] and not new["bypass"]
    return seconds, sum(counters["graph_break"].values()) - breaks, from_cache


def _checked(run: Run, request: Request) -> Run:
    """The compiled pass, run once in the process that measures: compiling again there would be timed."""
    with measuring(request.threads, AS_IT_IS), torch.compiler.set_stance("fail_on_recompile"):
        run()
    return run


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """Inductor compiling in this process alone: a pool of workers, or tqdm's watching thread, would outlive it.

    Inductor's settings belong to the thread that makes them.
    """
    import torch._inductor.config as inductor
    from tqdm import tqdm

    before, tqdm.monitor_interval = tqdm.monitor_interval, 0
    try:
        with inductor.patch(compile_threads=1):
            yield
    finally:
        tqdm.monitor_interval = before


@contextlib.contextmanager
def _inductor_folder() -> Iterator[None]:
    """Inductor's own cache, which goes by content, in secost's cache folder, unless the user has chosen one.

    Its usual one is a folder under /tmp that any user of the machine can make first.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    folder, before = cache_folder(), os.environ.get(_INDUCTOR_FOLDER)
    if folder is None or before not in (None, default_cache_dir()):
        yield
        return
    os.environ[_INDUCTOR_FOLDER] = str(folder / "inductor")
    try:
        yield
    finally:
        os.environ.pop(_INDUCTOR_FOLDER, None)
        if before is not None:
            os.environ[_INDUCTOR_FOLDER] = before

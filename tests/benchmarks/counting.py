"""Counting none + 5 ratios of ResNet-50: secost against one fvcore trace, and against each peer's loop over 6 networks.

The peers get their six networks ready built; secost gets one. Limit: 1.3 x one fvcore trace.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import secost
from secost.networks import tracing
from tests.benchmarks.paired import Job, rounds, show

RATIOS = (2, 4, 8, 16, 32)
Counter = Callable[[nn.Module, Tensor], object]


def main(repeats: int = 7) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    net, x = secost.load("resnet50"), torch.randn(1, 3, 224, 224)
    own = copy.deepcopy(net)  # thop and ptflops leave things on a network, which makes it another one to a cache
    variants = [net, *(secost.attach(copy.deepcopy(net), "se", reduction=r) for r in RATIOS)]
    with tempfile.TemporaryDirectory() as folder:
        jobs: dict[str, Job] = {
            "fvcore, one trace of one network": lambda: _fvcore(net, x),
            "secost, nothing cached": lambda: _secost(own, ""),
            "secost, sites and layers cached": lambda: _secost(own, folder),
        }
        for name, counter in _peers():
            jobs[f"{name}, loop over 6 networks"] = _loop(counter, variants, x)
        times = rounds(jobs, repeats)
    limits = {name: 1.3 for name in jobs if name.startswith("secost")}
    show("none + SE at 5 ratios on ResNet-50, 224 px, one thread", times, "fvcore, one trace of one network", limits)


def _secost(net: nn.Module, cache: str) -> object:
    os.environ["SECOST_CACHE"] = cache
    if not cache:
        tracing._known_shapes.clear()
    return secost.profile(net, reductions=RATIOS, latency=False)


def _loop(counter: Counter, variants: list[nn.Module], x: Tensor) -> Job:
    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for variant in variants:
                counter(variant, x)

    return run


def _peers() -> Iterator[tuple[str, Counter]]:
    """Every peer that is installed; the others are named and left out."""
    yield "fvcore", _fvcore
    yield "torch FlopCounterMode", _torch
    for name, counter in (
        ("ptflops (aten)", _ptflops("aten")), ("ptflops (pytorch)", _ptflops("pytorch")), ("thop", _thop),
        ("calflops", _calflops), ("torchinfo", _torchinfo),
    ):
        try:
            counter(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), torch.rand(1, 3, 8, 8))
        except ImportError as error:
            print(f"{name} left out: {error}")
            continue
        yield name, counter


def _fvcore(net: nn.Module, x: Tensor) -> object:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(net, (x,))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return analysis.total()


def _torch(net: nn.Module, x: Tensor) -> object:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    return counter.get_total_flops()


def _ptflops(backend: str) -> Counter:
    def count(net: nn.Module, x: Tensor) -> object:
        from ptflops import get_model_complexity_info

        return get_model_complexity_info(
            net, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, backend=backend
        )

    return count


def _thop(net: nn.Module, x: Tensor) -> object:
    import thop

    return thop.profile(net, inputs=(x,), verbose=False)


def _calflops(net: nn.Module, x: Tensor) -> object:
    from calflops import calculate_flops

    return calculate_flops(
        model=net, input_shape=tuple(x.shape), output_as_string=False, print_results=False, print_detailed=False
    )


def _torchinfo(net: nn.Module, x: Tensor) -> object:
    import torchinfo

    return torchinfo.summary(net, input_data=x, verbose=0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

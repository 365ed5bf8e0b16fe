"""What a second worker is worth: the same sweep and the same trainings, 40 trials each, on one and on two.

`python -m tests.benchmarks.spread counts|trainings [local|dask ...]`. Nothing may be cached and nothing else run.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import secost
from secost.networks.importing import import_timm
from secost.plan.spec import Spec
from secost.runs.store import RunStore
from secost.work.run import make_plan, open_executor, run_in_store

MODELS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "regnetx_016", "regnety_016", "efficientnet_b0",
    "efficientnet_b2", "efficientnet_b3", "mobilenetv2_100", "mobilenetv3_large_100", "densenet121", "convnext_tiny",
    "dla34", "ghostnet_100", "resnest26d", "hrnet_w18_small", "vgg11_bn", "torchvision:vgg16_bn",
)
REPEATS = 3


def counts(executor: str, workers: int, folder: Path) -> tuple[float, int]:
    """Seconds for 40 counts of 20 networks, the workers started already; and how many records there are."""
    spec = Spec.from_dict({"models": list(MODELS), "attention": ["se"], "reductions": 4, "latency": False})
    with open_executor(executor, workers) as chosen, RunStore.create_or_resume(folder / "run", spec, {}) as store:
        chosen.check(_warm)
        began = time.perf_counter()
        records = run_in_store(make_plan(spec), store, executor=chosen).records
        return time.perf_counter() - began, len(records)


def trainings(executor: str, workers: int, folder: Path) -> tuple[float, int]:
    """Seconds for 40 trainings (and 5 counts) of a small network, the start of the workers among them."""
    began = time.perf_counter()
    records = secost.train(
        "small:resnet", ["se", "eca", "spatial", "simam"], [4], out=folder / "run", seeds=8, epochs=6, latency=False,
        jobs=workers, executor=executor)
    return time.perf_counter() - began, sum(record.trained for record in records)


def _warm() -> None:
    """What each worker imports once, whichever trial is its first."""
    import_timm()


def compare(work: Callable[[str, int, Path], tuple[float, int]], executors: Sequence[str]) -> None:
    for executor in executors:
        ratios = []
        for repeat in range(REPEATS):
            times = {}
            for workers in ((1, 2), (2, 1))[repeat % 2]:
                with tempfile.TemporaryDirectory() as folder:
                    os.environ["SECOST_CACHE"] = f"{folder}/cache"
                    times[workers], count = work(executor, workers, Path(folder))
            ratios.append(times[1] / times[2])
            print(f"{executor}: {count} trials, one worker {times[1]:.1f} s, two {times[2]:.1f} s: {ratios[-1]:.2f} x",
                  flush=True)
        print(f"{executor}: median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    compare({"counts": counts, "trainings": trainings}[sys.argv[1]], sys.argv[2:] or ["local", "dask"])

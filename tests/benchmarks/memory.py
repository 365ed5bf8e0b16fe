"""Peak memory of fresh processes (ru_maxrss).

Limits: a 6-variant profile of ResNet-50 takes 1.5 x one network's forward pass; EfficientNet-B7 at 600 px 2 GiB.
"""

from __future__ import annotations

import sys
from statistics import median

from tests.benchmarks.fresh import python, run, secost, timm_prelude


def main(repeats: int = 3) -> None:
    prelude = timm_prelude()
    print(f"\n{'peak memory, MiB':<52} {'median':>8} {'x':>6}   limit")
    for model, resolution, limit in (("resnet50", 224, "1.5 x"), ("tf_efficientnet_b7", 600, "2048 MiB")):
        forward = python(
            f"{prelude}net = timm.create_model({model!r}).eval()\n"
            f"with torch.no_grad(): net(torch.rand(1, 3, {resolution}, {resolution}))"
        )
        profile = secost("profile", model, "--resolution", str(resolution), "--no-latency", "--quiet")
        floor = _peak(forward, repeats)
        _row(f"{model} at {resolution} px: one forward pass", floor, floor, "")
        _row(f"{model} at {resolution} px: secost profile, none + SE at 5 r", _peak(profile, repeats), floor, limit)


def _peak(arguments: list[str], repeats: int) -> float:
    return median(run(arguments, {"SECOST_CACHE": ""}).peak_mib for _ in range(repeats))


def _row(name: str, peak: float, floor: float, limit: str) -> None:
    print(f"{name:<52} {peak:8.0f} {peak / floor:6.2f}   {limit}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

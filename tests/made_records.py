"""Made records for the tests of analysis/ and reporting/, from real numbers, and tests that they add up.

ResNet-50 at 224 px: 25,557,032 parameters, 4,089,184,256 MACs; SE with biases adds 2Ch + h + C parameters and 2Ch MACs
a site besides one MAC per element it scales (5,519,360 in all). Times are made up.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from secost.runs.records import Record, overhead

STAGES = ((256, 56, 3), (512, 28, 4), (1024, 14, 6), (2048, 7, 3))
BASE = {"params": 25_557_032, "macs": 4_089_184_256, "memory_bytes": 480_000_000, "kernels": 174,
        "other_ops": 71_000_000, "activations": 11_113_984}
ENVIRONMENT = {"cpu": "Made-up CPU @ 2.0 GHz", "logical_cores": 2, "torch": "2.13.0+cpu", "python": "3.11.7",
               "secost": "0.1.0", "os": "Linux", "threads": 1, "load_1min": 0.4}
TIMES = {2: (0.094, 0.084, 0.104), 4: (0.089, 0.080, 0.098), 8: (0.083, 0.074, 0.092), 16: (0.081, 0.072, 0.090),
         32: (0.080, 0.071, 0.089)}
ECA_TIME = (0.052, 0.044, 0.060)


def record(attention: str = "none", reduction: int | None = None, **changes: Any) -> Record:
    """A record of ResNet-50 with nothing counted, changed as given."""
    values: dict[str, Any] = {
        "model": "resnet50", "attention": attention, "reduction": reduction, "placement": "auto",
        "integration": "standard", "stages": None, "sites": 0, "batch": 1, "resolution": 224, "backend": "eager",
        "precision": "fp32", "device": "cpu", "threads": 1,
    }
    return Record(**{**values, **changes})


def baseline(timed: bool = True, **changes: Any) -> Record:
    """ResNet-50 without attention."""
    values: dict[str, Any] = {**BASE, "mac_convention": "conv+linear+matmul+gate", "key": "none"}
    if timed:
        values |= {"latency_ms": 61.3, "rounds": 212}
    return record(**{**values, **changes})


def variant(attention: str, reduction: int | None = None, time: tuple[float, float, float] | None = None,
            **changes: Any) -> Record:
    """ResNet-50 with an attention at each of its 16 sites; `time` is (overhead, low, high)."""
    rows = [_stage(index, *stage, attention, reduction) for index, stage in enumerate(STAGES, 1)]
    added = {name: sum(row[name] for row in rows) for name in ("params", "macs", "memory_bytes", "kernels")}
    values: dict[str, Any] = {
        **{name: BASE[name] + added[name] for name in added}, "other_ops": 77_000_000, "activations": 11_140_000,
        "sites": 16, "attention_params": added["params"], "attention_macs": added["macs"],
        "params_overhead": overhead(BASE["params"] + added["params"], BASE["params"]),
        "macs_overhead": overhead(BASE["macs"] + added["macs"], BASE["macs"]),
        "memory_overhead": overhead(BASE["memory_bytes"] + added["memory_bytes"], BASE["memory_bytes"]),
        "kernels_overhead": overhead(BASE["kernels"] + added["kernels"], BASE["kernels"]),
        "by_stage": rows, "mac_convention": "conv+linear+matmul+gate", "key": f"{attention}-{reduction}",
    }
    return record(attention, reduction, **{**values, **(_timing(time) if time else {}), **changes})


def run_of_six() -> list[Record]:
    """The baseline, SE at five ratios and ECA, timed."""
    return [baseline(), *(variant("se", r, TIMES[r]) for r in TIMES), variant("eca", time=ECA_TIME)]


def counted_only() -> list[Record]:
    """The same without a clock."""
    return [baseline(timed=False), *(variant("se", r) for r in TIMES), variant("eca")]


def one_variant() -> list[Record]:
    return [baseline(), variant("se", 16, TIMES[16])]


def two_models() -> list[Record]:
    """Three attentions, three ratios, two models; on the second, simam has no r and the times are wider."""
    found = []
    for model, factor in (("resnet50", 1.0), ("mobilenetv2_100", 2.3)):
        found.append(baseline(model=model, latency_ms=61.3 / factor))
        for index, (attention, r) in enumerate([(name, r) for name in ("se", "cbam", "gc") for r in (4, 8, 16)]):
            middle = factor * (0.06 + 0.012 * index)
            found.append(variant(attention, r, (middle, middle - 0.01 * factor, middle + 0.011 * factor), model=model))
    return found


def as_shipped() -> list[Record]:
    """EfficientNet-B0 as shipped, stripped, and with ECA in place of its SE; ECA could not be told from nothing."""
    base: dict[str, Any] = {"model": "efficientnet_b0", "params": 4_652_008, "macs": 384_591_000}
    native = {"model": "efficientnet_b0", "params": 5_288_548, "macs": 391_220_000,
              "params_overhead": overhead(5_288_548, 4_652_008), "macs_overhead": overhead(391_220_000, 384_591_000)}
    eca = {"model": "efficientnet_b0", "params": 4_652_086, "macs": 387_440_000,
           "params_overhead": overhead(4_652_086, 4_652_008), "macs_overhead": overhead(387_440_000, 384_591_000)}
    return [baseline(**base), variant("native", None, (0.182, 0.168, 0.197), **native),
            variant("eca", None, (0.004, -0.006, 0.013), **eca)]


def with_trouble() -> list[Record]:
    """A failed variant, a missing time, and cautions."""
    records = run_of_six()[:4]
    records[1] = replace(records[1], cautions=["contention", "drift"], unsupported_ops={"aten::roll": 2})
    records[2] = record("se", 4, status="failed", error="RuntimeError: out of memory | while tracing", cautions=[])
    records[3] = replace(records[3], latency_overhead=None, latency_overhead_low=None, latency_overhead_high=None)
    return records


def many() -> list[Record]:
    """A sweep of 480 records: 40 models, each with 12."""
    found = []
    for index in range(40):
        name = f"made_net_{index:02d}"
        found.append(baseline(model=name))
        for attention in ("se", "cbam", "gc", "ge", "coord"):
            for r in (4, 16):
                middle = 0.02 + 0.002 * index + 0.3 / (r + len(attention))
                found.append(variant(attention, r, (middle, middle - 0.01, middle + 0.01), model=name))
        found.append(variant("simam", None, (0.05, 0.04, 0.06), model=name))
    return found


BACKENDS = (  # backend, precision, ms without attention, overhead, half-width, seconds to convert
    ("eager", "fp32", 106.0, 0.042, 0.003, None), ("compile", "fp32", 81.0, 0.056, 0.004, 48.2),
    ("onnxruntime", "fp32", 70.0, 0.062, 0.005, 2.1), ("onnxruntime", "int8", 31.0, 0.118, 0.009, 14.0),
    ("openvino", "fp32", 64.0, 0.041, 0.004, 3.0), ("openvino", "int8", 22.0, 0.160, 0.011, 22.0),
)
DIRECT_MS, FLOOR_MS = (1.5, 1.2, 1.0, 0.9), (0.9, 0.45, 0.3, 0.25)


def with_floor(made: Record) -> Record:
    """The record with a time inside the modules and a floor at each of its 16 sites: 4.6 and 1.9 ms in all."""
    rows = [{"path": f"layer{stage}.{index}.bn3", "stage": stage, "channels": channels, "height": side, "width": side,
             "calls": 1, "latency_ms": DIRECT_MS[stage - 1] / count, "floor_ms": FLOOR_MS[stage - 1] / count}
            for stage, (channels, side, count) in enumerate(STAGES, 1) for index in range(count)]
    return replace(made, by_site=rows, latency_direct_ms=sum(DIRECT_MS), latency_floor_ms=sum(FLOOR_MS))


def floored() -> list[Record]:
    """One variant whose floor is known."""
    return [baseline(placement="residual"), with_floor(variant("se", 16, TIMES[16], placement="residual"))]


def by_backend() -> list[Record]:
    """ResNet-50 with and without SE r=16 on six backends and precisions of one machine; a floor on eager."""
    found = []
    for backend, precision, base_ms, middle, half, convert_s in BACKENDS:
        common: dict[str, Any] = {"backend": backend, "precision": precision, "placement": "residual",
                                  "environment": "1", "convert_s": convert_s}
        made = variant("se", 16, (middle, middle - half, middle + half), **common)
        made = replace(made, latency_ms=base_ms * (1 + middle), images_per_s=1e3 / (base_ms * (1 + middle)))
        found += [baseline(**{**common, "latency_ms": base_ms, "images_per_s": 1e3 / base_ms}),
                  with_floor(made) if backend == "eager" else made]
    return found


def over_batch() -> list[Record]:
    """SE and ECA at four batches: SE's overhead falls, ECA's stays. Throughput is left to be had from the latency."""
    found = []
    for batch, middle in ((1, 0.107), (4, 0.092), (16, 0.075), (64, 0.059)):
        base_ms = 60.0 * batch**0.9
        found.append(baseline(batch=batch, latency_ms=base_ms))
        for attention, r, value in (("se", 16, middle), ("eca", None, 0.05)):
            made = variant(attention, r, (value, value - 0.006, value + 0.006), batch=batch)
            found.append(replace(made, latency_ms=base_ms * (1 + value)))
    return found


SPELLED = {None: 0.080, "mean-conv": 0.079, "pool-linear": 0.090, "mean-linear-inplace": 0.065,
           "pool-conv-inplace": 0.0652, "pool-conv-hardsigmoid": 0.060}


def spelled(count: int = 200, noise: float = 0.002, processes: int = 5) -> list[Record]:
    """SE r=16 in six spellings, timed in the same rounds; two in-place ones alike, the fastest another function."""
    drawn = random.Random(7)
    base = [0.0613 * drawn.uniform(0.98, 1.05) for _ in range(count)]
    found = [baseline()]
    for name, middle in SPELLED.items():
        times = [value * (1 + middle) * (1 + drawn.gauss(0, noise)) for value in base]
        samples = {"clock": "thread-cpu", "baseline_s": base, "variant_s": times, "control_low": -0.002,
                   "control_high": 0.002, "process": [index * processes // count for index in range(count)]}
        made = variant("se", 16, (middle, middle - 0.006, middle + 0.006), samples=samples, key=f"se-{name}")
        found.append(replace(made, spelling=name))
    return found


def _stage(stage: int, channels: int, side: int, count: int, attention: str, reduction: int | None) -> dict[str, Any]:
    elements = channels * side * side
    if reduction is None:
        params = macs = {256: 5, 512: 5, 1024: 5, 2048: 7}[channels]
        macs = macs * channels
        kernels = 5
    else:
        hidden = max(1, channels // reduction)
        factor = {"se": 1, "gc": 1}.get(attention, 2)
        params = factor * (2 * channels * hidden + hidden + channels)
        macs, kernels = factor * 2 * channels * hidden, 6 * factor
    moved = 12 * elements + 8 * params
    return {"stage": stage, "sites": count, "params": count * params, "macs": count * (macs + elements),
            "memory_bytes": count * moved, "kernels": count * kernels}


def _timing(time: tuple[float, float, float]) -> dict[str, Any]:
    middle, low, high = time
    rounds = random.Random(int(1e6 * middle))
    base = [0.0613 * rounds.uniform(0.99, 1.02) for _ in range(32)]
    return {
        "latency_ms": round(61.3 * (1 + middle), 3), "latency_overhead": middle, "latency_overhead_low": low,
        "latency_overhead_high": high, "latency_direct_ms": 61.3 * middle * 0.9, "rounds": 212,
        "samples": {"baseline_s": base, "variant_s": [value * (1 + middle) for value in base],
                    "control_s": [value * rounds.uniform(0.995, 1.005) for value in base],
                    "clock": "thread-cpu", "control_low": -0.003, "control_high": 0.004},
    }

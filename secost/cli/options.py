"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from secost.errors import BadSpecError, UnknownNameError

STDOUT_FORMATS = ("table", "json", "csv", "md")
FILE_FORMATS = ("md", "html", "png", "svg", "csv", "json")
REPORT_FORMATS = ("md", "html", "png", "csv", "json")

Reductions = Annotated[str | None, typer.Option("-r", "--reductions", help="Reduction ratios, such as 2,4,8,16,32.")]
Attention = Annotated[str | None, typer.Option("--attention", help="Attentions, such as se,eca; native is as shipped.")]
Placement = Annotated[
    str | None, typer.Option("--placement", help="auto, residual, depthwise, depthwise-pre, stage, conv.")
]
Integration = Annotated[str | None, typer.Option("--integration", help="standard, pre, post, identity (SENet 6.5).")]
Stages = Annotated[str | None, typer.Option("--stages", help="Stages that carry attention, such as 3,4 [all].")]
Resolution = Annotated[str | None, typer.Option("--resolution", help="Height and width of the image in pixels [224].")]
Example = Annotated[str | None, typer.Option("--example", help="path.py:function that returns the example inputs.")]
Batch = Annotated[str | None, typer.Option("--batch", help="Images in one forward pass of the latency rounds [1].")]
Backend = Annotated[str | None, typer.Option("--backend", help="What runs the network [eager].")]
Precision = Annotated[str | None, typer.Option("--precision", help="Precision of the latency rounds [fp32].")]
Device = Annotated[str | None, typer.Option("--device", help="Device of the latency rounds [cpu].")]
Threads = Annotated[str | None, typer.Option("--threads", help="Threads of the latency rounds [1].")]
MemoryFormat = Annotated[str | None, typer.Option("--memory-format", help="contiguous, channels-last [contiguous].")]
Spelling = Annotated[
    str | None, typer.Option("--spelling", help="Ways to write the same attention: all, or names [default].")
]
Latency = Annotated[bool | None, typer.Option("--latency/--no-latency", help="Measure latency, or count only.")]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Time limit of one network's latency rounds [20].")]
Target = Annotated[float | None, typer.Option("--target", help="Half-width at which rounds end earlier [0.01 = 1 %].")]
Processes = Annotated[int | None, typer.Option("--processes", help="Processes that share the rounds [by the time].")]
Allocator = Annotated[str | None, typer.Option("--allocator", help="steady keeps freed memory; default [steady].")]
Calibration = Annotated[
    str | None, typer.Option("--calibration", help="Folder of images, or path.py:function, that int8 is fitted to.")
]
CudaGraphs = Annotated[bool | None, typer.Option("--cuda-graphs", help="Replay one captured graph (cuda only).")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of weights and of the order in each round [0].")]
Download = Annotated[bool, typer.Option("--allow-download", help="Let transformers fetch a config from its hub.")]
Accuracy = Annotated[
    str | None, typer.Option("--accuracy", help="CSV of your own: model,attention,reduction,placement,top1[,seed].")
]
Benefit = Annotated[str | None, typer.Option("--benefit", help="Where gains come from: published, file, trained.")]
Format = Annotated[str, typer.Option("--format", help="What goes to stdout: table, json, csv, md.")]
Output = Annotated[str | None, typer.Option("-o", "--output", help="Folder for the run and its report.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Executor = Annotated[str, typer.Option("--executor", help="Where trials run: local processes, or dask's workers.")]
Address = Annotated[str | None, typer.Option("--address", help="A dask scheduler of yours, such as tcp://host:8786.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes on this machine that share the trials [1].")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, what is done and how long it takes.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed trials of a run again.")]

_INTEGERS = ("reductions", "resolution", "batch", "threads")
_WORDS = (
    "attention", "placement", "integration", "backend", "precision", "device", "memory_format", "spelling",
)


def spec_values(**given: Any) -> dict[str, Any]:
    """The options that were given, as values of a spec: lists of words or of whole numbers."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in _INTEGERS:
            values[name] = integers(name, value)
        elif name in _WORDS:
            values[name] = words(value)
        elif name == "stages":
            values[name] = None if value == "all" else integers(name, value)
        else:
            values[name] = value
    return values


def words(text: str) -> list[str]:
    """`se, eca` as a list of words."""
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(name: str, text: str) -> list[int]:
    """`2,4,8` as whole numbers. Raises BadSpecError for anything else."""
    found = []
    for word in words(text):
        try:
            found.append(int(word))
        except ValueError:
            raise BadSpecError(f"--{name} {word!r} is not a whole number: give a list such as 2,4,8") from None
    if not found:
        raise BadSpecError(f"--{name} {text!r} holds no number: give a list such as 2,4,8")
    return found


def check_format(name: str, known: tuple[str, ...] = STDOUT_FORMATS) -> None:
    """Raise UnknownNameError for a format that can't be had, before any work is done."""
    if name not in known:
        raise UnknownNameError("format", name, known)

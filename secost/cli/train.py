"""`secost train`: what attention gains, trained here from paired seeds, beside what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli import options
from secost.cli.profile import Model, finish
from secost.cli.progress import listening

Dataset = Annotated[str | None, typer.Option("--dataset", help="A data set's name, or a folder of images [digits].")]
Data = Annotated[str | None, typer.Option("--data", help="Folder where torchvision's data set lies.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Trainings of each variant, from paired seeds [5].")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training set [20].")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images in a training step [64].")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="At its highest [0.05].")]
Augment = Annotated[bool | None, typer.Option("--augment/--no-augment", help="Shift images, and mirror photographs.")]
Deterministic = Annotated[bool | None, typer.Option("--deterministic", help="Only algorithms equal to the bit.")]
Amp = Annotated[bool | None, typer.Option("--amp", help="Train in bfloat16 where torch allows it.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "--workers", help="Trainings at a time [2, where it can].")]


def train(
    model: Model,
    reductions: options.Reductions = None, attention: options.Attention = None, placement: options.Placement = None,
    integration: options.Integration = None, stages: options.Stages = None, dataset: Dataset = None, data: Data = None,
    seeds: Seeds = None, epochs: Epochs = None, batch_size: BatchSize = None, learning_rate: LearningRate = None,
    augment: Augment = None, deterministic: Deterministic = None, amp: Amp = None, jobs: Jobs = None,
    device: options.Device = None, memory_format: options.MemoryFormat = None, latency: options.Latency = None,
    seconds: options.Seconds = None, allow_download: options.Download = False, format: options.Format = "table",
    executor: options.Executor = "local", address: options.Address = None, output: options.Output = None,
    quiet: options.Quiet = False, retry_failed: options.RetryFailed = False,
) -> int:
    """Train every variant from the same seeds: the gain with its interval, beside the cost. Resumable at any moment."""
    options.check_format(format)
    values = options.spec_values(
        reductions=reductions or "16", attention=attention, placement=placement, integration=integration,
        stages=stages, device=device, memory_format=memory_format, latency=latency, seconds=seconds,
    )
    given = {
        "dataset": dataset, "data": data, "seeds": seeds, "epochs": epochs, "batch_size": batch_size,
        "learning_rate": learning_rate, "augment": augment, "deterministic": deterministic, "amp": amp,
    }
    training = {name: value for name, value in given.items() if value is not None}
    from secost.plan.spec import Spec

    spec = Spec.from_dict({"models": model, "allow_download": allow_download, "train": training, **values})
    folder = output or str(Path("runs") / "train")
    from secost import api

    with listening(_work(spec), quiet) as listener:
        records, spec = api.train_spec(
            spec, folder, listener=listener, retry_failed=retry_failed, jobs=jobs, executor=executor, address=address,
        )
    return finish(records, spec, format, folder)


def _work(spec: object) -> int:
    from secost.plan.spec import Spec
    from secost.work.run import plan

    assert isinstance(spec, Spec)
    return sum(len(comparison.trials) + len(spec.trainings(comparison)) for comparison in plan(spec))

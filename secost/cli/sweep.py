"""`secost sweep`: what attention costs over a grid of networks, attentions and settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secost.cli import options
from secost.cli.profile import finish, plan_lines, trials
from secost.cli.progress import listening

if TYPE_CHECKING:
    from secost.plan.spec import Spec

Models = Annotated[list[str] | None, typer.Option("--model", help="A network; may be given several times.")]


def sweep(
    spec: Annotated[str | None, typer.Argument(help="A TOML spec; options given beside it win.")] = None,
    models: Models = None,
    reductions: options.Reductions = None, attention: options.Attention = None, placement: options.Placement = None,
    integration: options.Integration = None, stages: options.Stages = None, resolution: options.Resolution = None,
    batch: options.Batch = None, backend: options.Backend = None, precision: options.Precision = None,
    device: options.Device = None, threads: options.Threads = None, memory_format: options.MemoryFormat = None,
    spelling: options.Spelling = None, latency: options.Latency = None, seconds: options.Seconds = None,
    target: options.Target = None, processes: options.Processes = None, allocator: options.Allocator = None,
    calibration: options.Calibration = None, cuda_graphs: options.CudaGraphs = None, seed: options.Seed = None,
    allow_download: options.Download = False, executor: options.Executor = "local", address: options.Address = None,
    workers: options.Workers = None, format: options.Format = "table", output: options.Output = None,
    quiet: options.Quiet = False, dry_run: options.DryRun = False, retry_failed: options.RetryFailed = False,
) -> int:
    """A grid over networks, attentions and settings, resumable: the same command goes on where it stopped."""
    options.check_format(format)
    values = options.spec_values(
        models=models, reductions=reductions, attention=attention, placement=placement, integration=integration,
        stages=stages, resolution=resolution, batch=batch, backend=backend, precision=precision, device=device,
        threads=threads, memory_format=memory_format, spelling=spelling, latency=latency, seconds=seconds,
        target=target, processes=processes, allocator=allocator, calibration=calibration, cuda_graphs=cuda_graphs,
        seed=seed,
    )
    grid = _grid(spec, values, allow_download)
    folder = output or str(Path("runs") / (Path(spec).stem if spec else "sweep"))
    if dry_run:
        return plan_lines(grid, folder)
    from secost import api

    with listening(trials(grid), quiet) as listener:
        records = api.sweep(
            grid, folder, retry_failed=retry_failed, listener=listener, executor=executor, workers=workers,
            address=address,
        )
    return finish(records, grid, format, folder)


def _grid(path: str | None, values: dict[str, Any], allow_download: bool) -> Spec:
    from secost.plan.spec import Spec

    if allow_download:
        values["allow_download"] = True
    if path is None:
        return Spec.from_dict(values)
    return Spec.from_toml(path).with_changes(**values)

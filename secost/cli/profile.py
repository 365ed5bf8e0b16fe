"""`secost profile`: what attention costs on one network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secost.cli import options
from secost.cli.progress import listening, note
from secost.cli.report import show

if TYPE_CHECKING:
    from secost.plan.spec import Comparison, Spec
    from secost.runs.records import Record

Model = Annotated[
    str, typer.Argument(help="resnet50, torchvision:vgg16, transformers:resnet, net.py:factory or package:factory")
]


def profile(
    model: Model,
    reductions: options.Reductions = None, attention: options.Attention = None, placement: options.Placement = None,
    integration: options.Integration = None, stages: options.Stages = None, resolution: options.Resolution = None,
    example: options.Example = None, batch: options.Batch = None, backend: options.Backend = None,
    precision: options.Precision = None, device: options.Device = None, threads: options.Threads = None,
    memory_format: options.MemoryFormat = None, spelling: options.Spelling = None, latency: options.Latency = None,
    seconds: options.Seconds = None, target: options.Target = None, processes: options.Processes = None,
    allocator: options.Allocator = None, calibration: options.Calibration = None,
    cuda_graphs: options.CudaGraphs = None, seed: options.Seed = None, allow_download: options.Download = False,
    reconcile: Annotated[bool, typer.Option("--reconcile", help="Show every tool's count of this network.")] = False,
    format: options.Format = "table", output: options.Output = None, quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
) -> int:
    """What attention costs on one network: counts, latency, table, and with -o a run and its report."""
    options.check_format(format)
    values = options.spec_values(
        reductions=reductions, attention=attention, placement=placement, integration=integration, stages=stages,
        resolution=resolution, batch=batch, backend=backend, precision=precision, device=device, threads=threads,
        memory_format=memory_format, spelling=spelling, latency=latency, seconds=seconds, target=target,
        processes=processes, allocator=allocator, calibration=calibration, cuda_graphs=cuda_graphs, seed=seed,
    )
    from secost.plan.spec import Spec

    spec = Spec.from_dict({"models": model, "allow_download": allow_download, **values})
    if reconcile:
        return _reconcile(spec, example, format)
    if dry_run:
        return plan_lines(spec, output)
    inputs = _example(example)
    if inputs is not None:
        spec = spec.with_changes(resolution=None)
    from secost import api

    with listening(trials(spec), quiet) as listener:
        records = api.profile_spec(spec, example=inputs, out=output, listener=listener)
    return finish(records, spec, format, output)


def finish(records: Sequence[Record], spec: Spec, format: str, output: str | None) -> int:
    """Print, write the pages, and tell whether all trials were carried out."""
    from secost.meters.environment import describe
    from secost.pages.report import build_report
    from secost.runs.records import FAILED
    from secost.runs.store import environment_id, read_run

    machine = describe()
    environments = read_run(Path(output))[2] if output else {environment_id(machine): machine}
    pages = build_report(list(records), spec.to_dict(), environments)
    show(pages, format)
    if output:
        from secost.render.formats import write_report

        write_report(pages, Path(output), options.REPORT_FORMATS)
        note(f"report in {output}")
    failed = [record for record in records if record.status == FAILED]
    for record in failed:
        note(f"failed: {record.model} {record.label}: {record.error}")
    return 1 if failed else 0


def _example(name: str | None) -> Any:
    if name is None:
        return None
    from secost.networks.sources import load_example

    return load_example(name)


def trials(spec: Spec) -> int:
    from secost.work.run import plan

    return sum(len(comparison.trials) for comparison in plan(spec))


def plan_lines(spec: Spec, output: str | None) -> int:
    from secost.work.run import check_models, left_out, plan

    check_models(spec)
    comparisons = plan(spec)
    for line in left_out(spec):
        typer.echo(f"left out: {line}")
    done = _done(output, spec)
    for comparison in comparisons:
        typer.echo(_plan_line(comparison, done))
    left = [c for c in comparisons if any(trial.key not in done for trial in c.trials)]
    seconds = len(left) * ((spec.seconds if spec.latency else 0) + _COUNTING_SECONDS)
    trials = sum(len(comparison.trials) for comparison in comparisons)
    typer.echo(f"{trials} trials in {len(comparisons)} comparisons, {len(done)} done, about {seconds:.0f} s left")
    return 0


_COUNTING_SECONDS = 3  # loading and counting one network of ResNet-50's size on a small machine


def _plan_line(comparison: Comparison, done: set[str]) -> str:
    left = [trial.label for trial in comparison.trials if trial.key not in done]
    finished = len(comparison.trials) - len(left)
    done_text = f" ({finished} done)" if finished else ""
    return f"{comparison.setting.label}: {', '.join(left) or 'nothing left'}{done_text}"


def _done(output: str | None, spec: Spec) -> set[str]:
    from secost.errors import BadSpecError
    from secost.runs.store import DATABASE, RunStore

    if output is None or not (Path(output) / DATABASE).exists():
        return set()
    with RunStore.open_readonly(Path(output)) as store:
        if difference := store.spec.difference(spec):
            raise BadSpecError(f"the run in {output!r} has another spec: {difference}")
        return store.done_keys()


def _reconcile(spec: Spec, example: str | None, format: str) -> int:
    from secost.meters.counts import conventions
    from secost.networks.inputs import inputs_for
    from secost.networks.sources import load

    net = load(spec.models[0], spec.allow_download)
    rows = conventions(net, inputs_for(net, spec.resolution[0], _example(example)))
    if format == "json":
        from secost.cleaning import to_json

        typer.echo(to_json({"model": spec.models[0], "conventions": rows}, indent=2))
        return 0
    from secost.cli.report import print_rows

    print_rows(f"{spec.models[0]}, one image: what each convention counts", rows, sys.stdout)
    return 0

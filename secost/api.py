"""The command line's verbs as functions. `secost.profile` and the others are these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secost.errors import BadSpecError, SecostError
from secost.plan.spec import DEFAULT_REDUCTIONS, DEFAULT_SPELLING, Spec
from secost.runs.records import Record

if TYPE_CHECKING:
    from torch import nn

    from secost.networks.inputs import Example
    from secost.work.run import Listener


def profile(
    model: str | nn.Module, attentions: str | Sequence[str] = ("se",),
    reductions: int | Sequence[int] = DEFAULT_REDUCTIONS, *,
    placement: str = "auto", integration: str = "standard", stages: int | Sequence[int] | None = None,
    resolution: int | None = 224, example: Example | None = None, batch: int = 1, backend: str = "eager",
    precision: str = "fp32", device: str = "cpu", threads: int = 1, memory_format: str = "contiguous",
    spelling: str | Sequence[str] = DEFAULT_SPELLING, latency: bool = True, seconds: float = 20.0, target: float = 0.01,
    processes: int = 0, allocator: str = "steady", calibration: str = "", cuda_graphs: bool = False, seed: int = 0,
    out: str | Path | None = None, listener: Listener | None = None,
) -> list[Record]:
    """What attention costs on one network: a record a variant, the one without attention first.

    `model` is a name (`resnet50`, `torchvision:vgg16`, `net.py:factory`) or a module, which is left as it was found.
    `seconds` limits the latency rounds of all variants together, `target` is the half-width of the intervals at which
    they end earlier. With `out` (and a name) the records are kept in a run in that folder; the same call resumes it.
    Raises SecostError with one line for a wrong request; a network that fails gives records with status "failed".
    """
    named = isinstance(model, str)
    spec = Spec.from_dict(
        {
            "models": model if named else type(model).__name__, "attention": attentions, "reductions": reductions,
            "placement": placement, "integration": integration, "stages": stages,
            "resolution": None if example is not None else resolution,
            "batch": batch, "backend": backend, "precision": precision, "device": device, "threads": threads,
            "memory_format": memory_format, "spelling": spelling, "latency": latency, "seconds": seconds,
            "target": target, "processes": processes, "allocator": allocator, "calibration": calibration,
            "cuda_graphs": cuda_graphs, "seed": seed,
        }
    )
    if out is not None and not named:
        raise BadSpecError("out needs a model's name, by which the run can be resumed: give path/to/net.py:factory")
    net = None if isinstance(model, str) else model
    return profile_spec(spec, net=net, example=example, out=out, listener=listener)


def profile_spec(
    spec: Spec, *, net: nn.Module | None = None, example: Example | None = None, out: str | Path | None = None,
    listener: Listener | None = None,
) -> list[Record]:
    """`profile` for a spec that is made already: a wrong request raises, where `sweep` keeps a failed record."""
    from secost.work.run import Listener, check_models, run_in_memory, run_in_store, with_fitting_reductions

    if net is None:
        check_models(spec)
    spec = with_fitting_reductions(spec, listener or Listener(), net, example)
    if out is None:
        return run_in_memory(spec, listener, net, example)
    from secost.meters.environment import describe
    from secost.runs.store import DATABASE, RunStore, discard_if_empty

    out = Path(out)
    made = next((folder for folder in (*reversed(out.parents), out) if not folder.exists()), None)
    fresh = not (out / DATABASE).exists()
    store = RunStore.create_or_resume(out, spec, describe())
    try:
        with store:
            return run_in_store(spec, store, listener, strict=True, example=example)
    except SecostError:
        if fresh:
            discard_if_empty(out, made)  # a request that turns out to be wrong leaves nothing behind
        raise


def sweep(
    spec: str | Path | Spec, out: str | Path, *, retry_failed: bool = False, listener: Listener | None = None,
    executor: str = "local", workers: int | None = None, address: str | None = None,
) -> list[Record]:
    """Carry out a grid (a TOML file or a Spec) into a run folder, one commit a record; the same call resumes it.

    `executor` "local" has `workers` processes; "dask" the workers of the scheduler at `address`, or `workers` of its
    own on this machine. Raises BadSpecError before any trial where a worker can't carry the spec out.
    """
    from secost.meters.environment import describe
    from secost.runs.store import RunStore
    from secost.work.run import check_models, plan, run_in_store, workers_for

    spec = spec if isinstance(spec, Spec) else Spec.from_toml(spec)
    check_models(spec)
    plan(spec)
    with (workers_for(spec, executor, workers, address) as chosen,
          RunStore.create_or_resume(Path(out), spec, describe()) as store):
        return run_in_store(spec, store, listener, retry_failed, executor=chosen)


def train(
    model: str, attentions: str | Sequence[str] = ("se",), reductions: int | Sequence[int] = (16,), *,
    out: str | Path, dataset: str = "digits", seeds: int = 5, epochs: int = 20, batch_size: int = 64,
    learning_rate: float = 0.05, augment: bool = True, deterministic: bool = False, amp: bool = False, data: str = "",
    placement: str = "auto", integration: str = "standard", stages: int | Sequence[int] | None = None,
    device: str = "cpu", latency: bool = True, seconds: float = 20.0, jobs: int | None = None,
    retry_failed: bool = False, listener: Listener | None = None, executor: str = "local", address: str | None = None,
) -> list[Record]:
    """What attention costs and what it gains: every variant trained from the same seeds on one data set.

    Gives the records of the costs, then those of the trainings (`top1` in percent, `seed`), all kept in the run `out`;
    the same call resumes it, from the last epoch that was kept. `secost.report(out)` shows the gains. `jobs` are
    trained at a time; `executor` and `address` are those of `sweep`.
    """
    spec = Spec.from_dict({
        "models": model, "attention": attentions, "reductions": reductions, "placement": placement,
        "integration": integration, "stages": stages, "device": device, "latency": latency, "seconds": seconds,
        "train": {
            "dataset": dataset, "seeds": seeds, "epochs": epochs, "batch_size": batch_size,
            "learning_rate": learning_rate, "augment": augment, "deterministic": deterministic, "amp": amp,
            "data": data,
        },
    })
    return train_spec(spec, out, listener=listener, retry_failed=retry_failed, jobs=jobs, executor=executor,
                      address=address)[0]


def train_spec(
    spec: Spec, out: str | Path, *, listener: Listener | None = None, retry_failed: bool = False,
    jobs: int | None = None, keep_weights: bool = False, executor: str = "local", address: str | None = None,
) -> tuple[list[Record], Spec]:
    """`train` for a spec that is made already; gives the spec too, at the resolution of the data set.

    With `keep_weights` the trained networks stay in the run, for `secost.work.trainings.trained_net`.
    """
    from secost.meters.environment import describe
    from secost.runs.store import RunStore
    from secost.work.run import check_models, plan, workers_for
    from secost.work.trainings import at_resolution, check_training, checked_jobs, train_in_store

    check_models(spec)
    data = check_training(spec)
    spec = at_resolution(spec, data)
    plan(spec)
    jobs = checked_jobs(jobs) if address is None else None
    with (workers_for(spec, executor, jobs, address) as chosen,
          RunStore.create_or_resume(Path(out), spec, describe()) as store):
        return train_in_store(spec, store, data, listener, retry_failed, jobs, keep_weights, chosen), spec


def report(
    run: str | Path, formats: Sequence[str] = ("md", "png", "html"), out: str | Path | None = None, *,
    benefit: str | None = None, accuracy: str | None = None,
) -> list[Path]:
    """Render a run again: the files written, in `out` or in the run's own folder.

    `benefit` names where gains in accuracy come from (published, file, trained; what the run trained, unless asked
    otherwise), `accuracy` a CSV of the user's own.
    """
    from secost.answers.evidence import gains_from
    from secost.pages.report import build_report
    from secost.render.formats import write_report
    from secost.runs.store import read_run

    spec, records, environments = read_run(Path(run))
    gains = gains_from(benefit, accuracy, records)[0] if benefit or accuracy else None
    return write_report(build_report(records, spec.to_dict(), environments, gains=gains), Path(out or run), formats)


"""The command line's verbs as functions. `secost.profile` and the others are these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secost.errors import BadSpecError
from secost.plan.options import TRAIN, fields_of, option_of
from secost.plan.spec import Spec, TrainSpec
from secost.runs.records import Record

if TYPE_CHECKING:
    from torch import nn

    from secost.networks.sources import Example
    from secost.plan.trials import Listener

_PLACEMENT, _INTEGRATION, _DEVICE = Spec.placement[0], Spec.integration[0], Spec.device[0]
_PROFILED_BESIDE: tuple[str, ...] = option_of("profile", "alternatives").default_of("profile")
_TRAINED_REDUCTIONS: tuple[int, ...] = option_of("train", "reductions").default_of("train")


def profile(
    model: str | nn.Module, attentions: str | Sequence[str] = Spec.attention,
    reductions: int | Sequence[int] = Spec.reductions, *,
    placement: str = _PLACEMENT, integration: str = _INTEGRATION, stages: int | Sequence[int] | None = None,
    resolution: int | None = Spec.resolution[0], example: Example | None = None, batch: int = Spec.batch[0],
    backend: str = Spec.backend[0], precision: str = Spec.precision[0], device: str = _DEVICE,
    threads: int = Spec.threads[0], memory_format: str = Spec.memory_format[0],
    spelling: str | Sequence[str] = Spec.spelling[0], alternatives: str | Sequence[str] = _PROFILED_BESIDE,
    latency: bool = Spec.latency, seconds: float = Spec.seconds, target: float = Spec.target,
    processes: int = Spec.processes, allocator: str = Spec.allocator, calibration: str = Spec.calibration,
    cuda_graphs: bool = Spec.cuda_graphs, seed: int = Spec.seed,
    out: str | Path | None = None, listener: Listener | None = None,
) -> list[Record]:
    """What attention costs on one network: a record a variant, the one without attention first, alternatives last.

    `model` is a name (`resnet50`, `torchvision:vgg16`, `net.py:factory`) or a module, which is left as it was found.
    `seconds` limits the latency rounds of all variants together, `target` is the half-width of the intervals at which
    they end earlier. With `out` (and a name) the records are kept in a run in that folder; the same call resumes it.
    Raises SecostError with one line for a wrong request; a network that fails gives records with status "failed".
    """
    given: dict[str, Any] = {**locals()}
    del given["out"], given["listener"], given["example"]
    net = None if isinstance(model, str) else model
    if net is not None:
        given["model"] = type(net).__name__
    if example is not None:
        given["resolution"] = None
    spec = Spec.from_dict(given)
    if out is not None and net is not None:
        raise BadSpecError("out needs a model's name, by which the run can be resumed: give path/to/net.py:factory")
    from secost.work.comparison import Networks
    from secost.work.run import profile_spec

    return profile_spec(spec, Networks(net=net, example=example), out=out, listener=listener).records


def sweep(
    spec: str | Path | Spec, out: str | Path, *, retry_failed: bool = False, listener: Listener | None = None,
    executor: str = "local", workers: int | None = None, address: str | None = None,
) -> list[Record]:
    """Carry out a grid (a TOML file or a Spec) into a run folder, one commit a record; the same call resumes it.

    `executor` "local" has `workers` processes; "dask" the workers of the scheduler at `address`, or `workers` of its
    own on this machine. Raises BadSpecError before any trial where a worker can't carry the spec out.
    """
    from secost.work.run import sweep_spec

    spec = spec if isinstance(spec, Spec) else Spec.from_toml(spec)
    return sweep_spec(spec, out, retry_failed=retry_failed, listener=listener, executor=executor, workers=workers,
                      address=address).records


def train(
    model: str, attentions: str | Sequence[str] = Spec.attention,
    reductions: int | Sequence[int] = _TRAINED_REDUCTIONS, *,
    out: str | Path, dataset: str = TrainSpec.dataset, fraction: float | None = TrainSpec.fraction,
    train_images: int | None = TrainSpec.train_images, seeds: int = TrainSpec.seeds,
    until: float | None = TrainSpec.until, max_seeds: int | None = TrainSpec.max_seeds,
    epochs: int = TrainSpec.epochs, batch_size: int = TrainSpec.batch_size,
    learning_rate: float = TrainSpec.learning_rate, augment: bool = TrainSpec.augment,
    deterministic: bool = TrainSpec.deterministic, train_device: str | None = TrainSpec.train_device,
    amp: bool | None = TrainSpec.amp, data: str = TrainSpec.data,
    placement: str = _PLACEMENT, integration: str = _INTEGRATION, stages: int | Sequence[int] | None = None,
    device: str = _DEVICE, memory_format: str = Spec.memory_format[0],
    alternatives: str | Sequence[str] = Spec.alternatives, latency: bool = Spec.latency,
    seconds: float = Spec.seconds, jobs: int | None = None, retry_failed: bool = False,
    listener: Listener | None = None, executor: str = "local", address: str | None = None,
) -> list[Record]:
    """What attention costs and what it gains: every variant trained from the same seeds on one data set.

    Gives the records of the costs, then those of the trainings (`top1` in percent, `seed`), all kept in the run `out`;
    the same call resumes it, from the last epoch that was kept. `secost.report(out)` shows the gains. With
    `until` seeds are added until each gain is told from none, or known to so many points. `jobs` are trained at a time;
    `executor` and `address` are those of `sweep`.
    """
    given: dict[str, Any] = {**locals()}
    for name in ("out", "jobs", "retry_failed", "listener", "executor", "address"):
        del given[name]
    table = {name: given.pop(name) for name in fields_of(TRAIN)}
    spec = Spec.from_dict({**given, "train": table})
    from secost.work.trainings import train_spec

    return train_spec(spec, out, listener=listener, retry_failed=retry_failed, jobs=jobs, executor=executor,
                      address=address).records


def report(
    run: str | Path, formats: Sequence[str] = ("md", "png", "html"), out: str | Path | None = None, *,
    benefit: str | None = None, accuracy: str | None = None, price: float | None = None,
) -> list[Path]:
    """Render a run again: the files written, in `out` or in the run's own folder.

    The run of a study or a search has a page of its own, and where evidence is asked for that of its costs. `benefit`
    names where gains in accuracy come from (auto, published, trained, file, none; `auto` unless asked otherwise: what
    the run trained, else what is published), `accuracy` a CSV of the user's own. `price` is the most time that a point
    of accuracy may cost, as a fraction of the baseline's.
    """
    from secost.answers.evidence import gains_from
    from secost.pages.cost import page_of
    from secost.render.formats import write
    from secost.runs.store import read_all

    kept = read_all(run)
    gains = gains_from(benefit, accuracy, kept.records)[0] if benefit or accuracy else None
    return write(page_of(kept, gains, price), out or run, formats)

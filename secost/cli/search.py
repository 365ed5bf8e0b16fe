"""`secost search`: which attention goes where, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secost.cli import options, train
from secost.cli.progress import listening, note
from secost.cli.report import show_page

Model = Annotated[str, typer.Argument(help="Any network that can be trained on the data set.")]
MaxLatency = Annotated[str | None, typer.Option("--max-latency", help="Most added time, such as 3% [20%].")]
MaxParams = Annotated[str | None, typer.Option("--max-params", help="Most added parameters, such as 5%.")]
MaxMacs = Annotated[str | None, typer.Option("--max-macs", help="Most added MACs, such as 1%.")]
Per = Annotated[str, typer.Option("--per", help="What chooses by itself: site or stage.")]
Trials = Annotated[int, typer.Option("--trials", help="Networks that the sampler may have judged.")]
Sampler = Annotated[str, typer.Option("--sampler", help="Optuna's, by name: nsga2, nsga3, tpe, random, ...")]
Population = Annotated[int, typer.Option("--population", help="Networks asked for at a time: a generation.")]
OneShotEpochs = Annotated[int, typer.Option("--oneshot-epochs", help="Epochs of the network that holds all options.")]
Calibrate = Annotated[int, typer.Option("--calibrate", help="Whole networks that correct the table of latencies.")]
Check = Annotated[int, typer.Option("--check", help="Random networks that test the table.")]
Finalists = Annotated[int, typer.Option("--finalists", help="Networks measured whole and trained alone.")]
Exhaustive = Annotated[int, typer.Option("--exhaustive", help="Judge all points where they are no more than this.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Trainings of each finalist, from paired seeds.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Passes over the training set, for finalists.")]
Dataset = Annotated[str, typer.Option("--dataset", help="A data set's name, or a folder of images.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="At its highest.")]
Augment = Annotated[bool, typer.Option("--augment/--no-augment", help="Shift images, and mirror photographs.")]
Attention = Annotated[str, typer.Option("--attention", help="What may sit at a site; none always may.")]
Reductions = Annotated[str, typer.Option("-r", "--reductions", help="Reduction ratios that may be chosen.")]


def search(
    model: Model = "small:resnet", max_latency: MaxLatency = None, max_params: MaxParams = None,
    max_macs: MaxMacs = None, attention: Attention = "none,se,eca,spatial", reductions: Reductions = "4,8,16",
    placement: options.Placement = None, per: Per = "site", dataset: Dataset = "digits", data: train.Data = None,
    trials: Trials = 200, sampler: Sampler = "nsga2", population: Population = 8,
    oneshot_epochs: OneShotEpochs = 60, calibrate: Calibrate = 16, check: Check = 20, finalists: Finalists = 4,
    exhaustive: Exhaustive = 1500, seeds: Seeds = 5, epochs: Epochs = 40,
    learning_rate: LearningRate = 0.05, augment: Augment = False,
    backend: options.Backend = None, threads: options.Threads = None, seconds: options.Seconds = None,
    seed: options.Seed = None, jobs: train.Jobs = None, executor: options.Executor = "local",
    address: options.Address = None, format: options.Format = "table",
    output: options.Output = None, quiet: options.Quiet = False,
) -> int:
    """Which attention goes where within a budget: a search, and what speaks for its answer. Resumable at any moment."""
    options.check_format(format)
    from secost.numbers import parse_share
    from secost.pages.search import page
    from secost.render.plain_pages import write_pages
    from secost.studies import search as found

    def limit(option: str, text: str | None) -> float | None:
        return None if text is None else parse_share(option, text)

    folder = output or str(Path("runs") / "search")
    with listening(2 * trials + (seeds + 1) * (finalists + 8), quiet) as listener:
        result = found.search(
            model, max_latency=limit("--max-latency", max_latency), max_params=limit("--max-params", max_params),
            max_macs=limit("--max-macs", max_macs), attentions=options.words(attention),
            reductions=options.integers("reductions", reductions),
            placement=placement or "auto", per=per, dataset=dataset, data=data or "", trials=trials, sampler=sampler,
            population=population, oneshot_epochs=oneshot_epochs, calibrate=calibrate, check=check,
            finalists=finalists, exhaustive=exhaustive, seeds=seeds, epochs=epochs, learning_rate=learning_rate,
            augment=augment, backend=backend or "eager", threads=_one("threads", threads), seed=seed or 0,
            seconds=60.0 if seconds is None else seconds, jobs=jobs, executor=executor, address=address,
            out=folder, listener=listener,
        )
    shown = page(result)
    write_pages(shown, Path(folder))
    note(f"report in {folder}")
    show_page(shown, format)
    return 0 if result.chosen is not None else 1


def _one(name: str, text: str | None) -> int:
    from secost.errors import BadSpecError

    found = options.integers(name, text or "1")
    if len(found) != 1:
        raise BadSpecError(f"--{name} {text!r}: a search is about one setting, give one number")
    return found[0]

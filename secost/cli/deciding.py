"""`secost benefit` and `secost budget`: what is known of the gain, and the best choice within limits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secost.cli import options
from secost.cli.progress import note

if TYPE_CHECKING:
    from secost.analysis.budget import Limit
    from secost.analysis.groups import Group
    from secost.benefit.gains import Gain
    from secost.records import Record

Accuracy = Annotated[str | None, typer.Option(
    "--accuracy", help="CSV of your own: model,attention,reduction,placement,top1[,seed]."
)]
MaxLatency = Annotated[str | None, typer.Option("--max-latency", help="Most that time may grow, such as 2%.")]
MaxParams = Annotated[str | None, typer.Option("--max-params", help="Most that parameters may grow, such as 5%.")]
MaxMacs = Annotated[str | None, typer.Option("--max-macs", help="Most that MACs may grow, such as 1%.")]
MaxMemory = Annotated[str | None, typer.Option("--max-memory", help="Most that memory traffic may grow.")]
Benefit = Annotated[str | None, typer.Option("--benefit", help="Rank by gain: published, file or trained.")]
PerStage = Annotated[bool, typer.Option("--per-stage", help="Let r differ from stage to stage.")]


def benefit(
    attention: Annotated[str | None, typer.Option("--attention", help="Attentions, such as se,eca [all].")] = None,
    family: Annotated[str | None, typer.Option("--family", help="A family of networks, such as resnet.")] = None,
    accuracy: Accuracy = None, format: options.Format = "table", output: options.Output = None,
) -> int:
    """Published gains of attention, each from one table with its citation; or those of your own accuracies."""
    options.check_format(format)
    from secost.reporting import evidence

    if accuracy is not None:
        found = _file_gains(accuracy, None)
        page = evidence.of_file(found.gains, found.unmatched, accuracy)
    else:
        from secost.benefit.published import published_gains

        names = options.words(attention) if attention else []
        page = evidence.of_published(published_gains(names, family), names)
    return _show(page, format, output)


def budget(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or a file of --format json.")],
    max_latency: MaxLatency = None, max_params: MaxParams = None, max_macs: MaxMacs = None,
    max_memory: MaxMemory = None, benefit: Benefit = None, accuracy: Accuracy = None, per_stage: PerStage = False,
    format: options.Format = "table", output: options.Output = None,
) -> int:
    """The best attention, r and stages within limits: every choice is looked at. Exit 1 where none meets them."""
    options.check_format(format)
    from secost.analysis.budget import choices, decide
    from secost.analysis.groups import group_records
    from secost.errors import BadSpecError
    from secost.reporting import decisions
    from secost.sweeps.documents import read_results

    limits = _limits({"latency": max_latency, "params": max_params, "macs": max_macs, "memory": max_memory})
    records, _ = read_results(run)
    groups = [group for group in group_records(records) if group.variants]
    if not groups:
        raise BadSpecError(f"{run!r} holds no finished variant to choose from: profile a network with --attention")
    gains, lost = _gains(benefit, accuracy, records, groups)
    found = [(group, decide(choices(group, per_stage, gains), limits, bool(gains))) for group in groups]
    for line in lost:
        note(line)
    page = decisions.of_budget(found, gains)
    _show(page, format, output)
    return 1 if any(decision.best is None for _, decision in found) else 0


def _gains(source: str | None, accuracy: str | None, records: list[Record], groups: list[Group]) -> tuple[Any, Any]:
    """Gains of the one source that was asked for, and lines on what of it found no variant."""
    from secost.benefit.gains import FILE, PUBLISHED, SOURCES, TRAINED
    from secost.errors import BadSpecError, UnknownNameError

    source = source or (FILE if accuracy else None)
    if source is None:
        return [], []
    if source not in SOURCES:
        raise UnknownNameError("source of benefit", source, SOURCES)
    if accuracy and source != FILE:
        raise BadSpecError(f"--benefit {source} and --accuracy are two sources, which are never mixed: keep one")
    if source == FILE:
        if accuracy is None:
            raise BadSpecError("--benefit file needs the file: give --accuracy mine.csv")
        found = _file_gains(accuracy, {record.model for record in records})
        return list(found.gains), [*found.unmatched, *_lost(groups, found.gains)]
    if source == TRAINED:
        from secost.analysis.benefits import trained_gains

        gains = trained_gains(records)
        if not gains:
            raise BadSpecError("no accuracy was trained in this run: make one with secost train MODEL")
        return gains, []
    assert source == PUBLISHED
    gains = _published(groups)
    if not gains:
        raise BadSpecError("nothing comparable is published for these networks: secost benefit shows what there is")
    return gains, []


def _published(groups: list[Group]) -> list[Gain]:
    """For each variant the first published gain of its own network."""
    from secost.analysis.published import plain_name
    from secost.benefit.published import gains_for

    found: list[Gain] = []
    for group in groups:
        model = group.records[0].model
        known = gains_for(plain_name(model), group.attentions)
        found += _as_named(known, model)
    return found


def _as_named(gains: list[Gain], model: str) -> list[Gain]:
    from dataclasses import replace

    return [replace(gain, model=model) for gain in gains]


def _lost(groups: list[Group], gains: Any) -> list[str]:
    from secost.analysis.benefits import unmatched

    return [f"not in the run: {gain.model} {gain.attention}{'' if gain.reduction is None else f' r={gain.reduction}'}"
            for gain in unmatched(groups, gains)]


def _file_gains(accuracy: str, models: set[str] | None) -> Any:
    from secost.benefit.accuracy_file import file_gains, read_accuracies

    found = read_accuracies(accuracy, models)
    if models is None:
        from secost.networks.sources import check_name

        for model in dict.fromkeys(row.model for row in found):
            check_name(model)
    return file_gains(found, Path(accuracy).name)


def _limits(given: dict[str, str | None]) -> list[Limit]:
    from secost.analysis.budget import LIMITED, Limit
    from secost.analysis.limits import parse_share

    by_name = {currency.name: currency for currency in LIMITED}
    asked = {name: text for name, text in given.items() if text is not None}
    return [Limit(by_name[name], parse_share(f"--max-{name}", text)) for name, text in asked.items()]


def _show(page: Any, format: str, output: str | None) -> int:
    """On stdout, or as a file of that format in the folder `output`."""
    import os
    import shutil

    from secost.reporting.plain_pages import render_page, write_page

    color = output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = render_page(page, format, shutil.get_terminal_size((120, 24)).columns, color)
    if output is None:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    else:
        typer.echo(str(write_page(page, Path(output), format)))
    return 0

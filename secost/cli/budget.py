"""`secost budget`: the best choice within limits."""

from __future__ import annotations

from typing import Annotated

import typer

from secost.cli import options
from secost.cli.screen import note, show_or_write

MaxLatency = Annotated[str | None, typer.Option("--max-latency", help="Most that time may grow, such as 2%.")]
MaxParams = Annotated[str | None, typer.Option("--max-params", help="Most that parameters may grow, such as 5%.")]
MaxMacs = Annotated[str | None, typer.Option("--max-macs", help="Most that MACs may grow, such as 1%.")]
MaxMemory = Annotated[str | None, typer.Option("--max-memory", help="Most that memory traffic may grow.")]
PerStage = Annotated[bool, typer.Option("--per-stage", help="Let r differ from stage to stage.")]


def budget(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or a file of --format json.")],
    max_latency: MaxLatency = None, max_params: MaxParams = None, max_macs: MaxMacs = None,
    max_memory: MaxMemory = None, benefit: options.Benefit = None, accuracy: options.Accuracy = None,
    per_stage: PerStage = False, format: options.Format = "table", output: options.Output = None,
) -> int:
    """The best attention, r and stages within limits: every choice is looked at. Exit 1 where none meets them."""
    options.check_format(format, output)
    from secost.answers.budget import LIMITED, Limit, choices, decide
    from secost.answers.evidence import gains_from
    from secost.answers.groups import group_records
    from secost.errors import BadSpecError
    from secost.pages import budget as decisions
    from secost.runs.store import read_results
    from secost.writing import parse_share

    by_name = {currency.name: currency for currency in LIMITED}
    asked = {"latency": max_latency, "params": max_params, "macs": max_macs, "memory": max_memory}
    limits = [Limit(by_name[name], parse_share(f"--max-{name}", text)) for name, text in asked.items()
              if text is not None]
    records, _ = read_results(run)
    groups = [group for group in group_records(records) if group.variants]
    if not groups:
        raise BadSpecError(f"{run!r} holds no finished variant to choose from: profile a network with --attention")
    whole = [group for group in groups if any(record.stages is None for record in group.variants)]
    for group in groups:
        if whole and group not in whole:
            note(f"{group.label}: left out, as the records of all stages price every subset of them")
    groups = whole or groups
    gains, lost = gains_from(benefit, accuracy, records)
    decided = [(group, decide(choices(group, per_stage, gains), limits)) for group in groups]
    for line in lost:
        note(line)
    show_or_write(decisions.of_budget(decided, gains), format, output)
    return 1 if any(decision.best is None for _, decision in decided) else 0

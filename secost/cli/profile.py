"""`secost profile`: what attention costs on one network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secost.cli.options import Given
from secost.cli.screen import listening, note, show, write_report

if TYPE_CHECKING:
    from secost.plan.spec import Spec
    from secost.work.run import Finished

Model = Annotated[
    str, typer.Argument(help="resnet50, torchvision:vgg16, transformers:resnet, net.py:factory or package:factory")
]


def profile(model: Model, given: Given) -> int:
    """What attention costs on one network: counts, latency, table, and with -o a run and its report."""
    from secost.plan.spec import Spec

    spec = Spec.from_dict({"models": model, **given.spec_values()})
    worth = Worth.of(given)
    if given["reconcile"]:
        return _reconcile(spec, given)
    if given["dry_run"]:
        return dry_run(spec, given["output"])
    example = example_of(given)
    if example is not None:
        spec = spec.with_changes(resolution=None)
    with listening(given["quiet"]) as listener:
        from secost.work.comparison import Networks
        from secost.work.run import profile_spec

        networks = Networks(spec.allow_download, example=example)
        run = profile_spec(spec, networks, out=given["output"], listener=listener)
    return finish(run, given["format"], given["output"], worth)


@dataclass(frozen=True)
class Worth:
    """How the verdict is to be had: where gains come from, the user's file of accuracies, the most time a point."""

    benefit: str | None = None
    accuracy: str | None = None
    price: float | None = None

    @classmethod
    def of(cls, given: Given) -> Worth:
        """What was given; a source that can't be had, a file that can't be read and a price that is none are told
        before any work."""
        from secost.answers.accuracies import read_accuracies
        from secost.answers.evidence import check_source
        from secost.errors import BadSpecError
        from secost.runs.records import FILE, TRAINED

        benefit, accuracy = given["benefit"], given["accuracy"]
        check_source(benefit, accuracy)
        if benefit == TRAINED:
            raise BadSpecError(f"--benefit {TRAINED}: nothing is trained here: run secost train MODEL, or leave it out")
        if benefit == FILE and not accuracy:
            raise BadSpecError(f"--benefit {FILE} needs the file: give --accuracy mine.csv")
        if accuracy:
            read_accuracies(accuracy)
        return cls(benefit, accuracy, given.value("price"))


NOT_ASKED = Worth()


def finish(run: Finished, format: str, output: str | None, worth: Worth = NOT_ASKED) -> int:
    """Print, write the pages, and tell whether all trials were carried out."""
    from secost.answers.evidence import gains_from
    from secost.errors import BadSpecError
    from secost.pages.cost import cost_page
    from secost.runs.records import FAILED

    try:
        gains, lost = gains_from(worth.benefit, worth.accuracy, run.records)
    except BadSpecError as error:  # what was measured is shown all the same
        gains, lost = [], [str(error)]
    for line in lost:
        note(line)
    page = cost_page(run.records, run.spec.to_dict(), run.environments, gains=gains, price=worth.price)
    show(page, format)
    if output:
        write_report(page, output)
    failed = [record for record in run.records if record.status == FAILED]
    for record in failed:
        note(f"failed: {record.model} {record.label}: {record.error}")
    return 1 if failed else 0


def dry_run(spec: Spec, output: str | None) -> int:
    """Say what would run, beside what the run in the folder has already."""
    from secost.errors import BadSpecError
    from secost.runs.database import DATABASE
    from secost.runs.store import RunStore
    from secost.work.run import make_plan

    plan = make_plan(spec)
    if output is not None and (Path(output) / DATABASE).exists():
        with RunStore.open_readonly(Path(output)) as store:
            if difference := spec.difference_in_run(store.spec):
                raise BadSpecError(f"the run in {output!r} has another spec: {difference}")
            plan = plan.having(store.done_keys())
    for line in plan.lines():
        typer.echo(line)
    return 0


def example_of(given: Given) -> Any:
    """The inputs that the user's function gives, None where none was named."""
    if given["example"] is None:
        return None
    from secost.networks.sources import load_example

    return load_example(given["example"])


def _reconcile(spec: Spec, given: Given) -> int:
    from secost.meters.counts import conventions
    from secost.networks.sources import inputs_for, load
    from secost.pages.page import Page

    net = load(spec.models[0], spec.allow_download)
    rows = conventions(net, inputs_for(net, spec.resolution[0], example_of(given)))
    title = f"{spec.models[0]}, one image: what each convention counts"
    show(Page.of_rows(title, rows, {"model": spec.models[0], "conventions": rows}), given["format"])
    return 0

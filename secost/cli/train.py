"""`secost train`: what attention gains, trained here from paired seeds, beside what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from secost.cli.options import Given
from secost.cli.profile import Model, finish
from secost.cli.screen import listening
from secost.plan.options import TRAIN

if TYPE_CHECKING:
    from secost.plan.spec import Spec
    from secost.runs.records import Record


def train(model: Model, given: Given) -> int:
    """Train every variant from the same seeds: the gain with its interval, beside the cost. Resumable at any moment."""
    values = {"models": model, "train": given.spec_values(TRAIN), **given.spec_values()}
    from secost.plan.spec import Spec

    spec = Spec.from_dict(values)
    folder = given["output"] or str(Path("runs") / "train")
    if given["dry_run"]:
        return _dry_run(spec, Path(folder), given["jobs"])
    with listening(given["quiet"]) as listener:
        from secost.work.trainings import train_spec

        run = train_spec(spec, folder, listener=listener, retry_failed=bool(given["retry_failed"]), jobs=given["jobs"],
                         executor=given["executor"], address=given["address"])
    return finish(run, given["format"], folder)


def _dry_run(spec: Spec, folder: Path, jobs: int | None) -> int:
    """Say what would be trained, how long it takes, and what so many seeds can tell; nothing is kept."""
    from secost.answers.evidence import trained_seeds
    from secost.pages.forecast import lines
    from secost.work.forecast import forecast
    from secost.work.trainings import checked_jobs, prepare

    jobs, course = checked_jobs(jobs), prepare(spec)
    plan, records = course.plan, _records(course.plan.spec, folder)
    plan = plan.having(record.key for record in records)
    for line in lines(plan, forecast(course, plan, records), trained_seeds(records), jobs, len(course.data.train)):
        typer.echo(line)
    return 0


def _records(spec: Spec, folder: Path) -> list[Record]:
    """What the run in the folder has. Raises BadSpecError where it can't go on with this spec."""
    from secost.errors import BadSpecError
    from secost.runs.store import DATABASE, RunStore

    if not (folder / DATABASE).exists():
        return []
    with RunStore.open_readonly(folder) as store:
        if difference := spec.difference_in_run(store.spec):
            raise BadSpecError(f"the run in {str(folder)!r} has another spec: {difference}")
        return store.records()

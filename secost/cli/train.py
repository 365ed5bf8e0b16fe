"""`secost train`: what attention gains, trained here from paired seeds, beside what it costs."""

from __future__ import annotations

from pathlib import Path

from secost.cli.options import Given
from secost.cli.profile import Model, finish
from secost.cli.screen import listening
from secost.plan.options import TRAIN


def train(model: Model, given: Given) -> int:
    """Train every variant from the same seeds: the gain with its interval, beside the cost. Resumable at any moment."""
    values = {"models": model, "train": given.spec_values(TRAIN), **given.spec_values()}
    from secost.plan.spec import Spec

    spec = Spec.from_dict(values)
    folder = given["output"] or str(Path("runs") / "train")
    with listening(given["quiet"]) as listener:
        from secost.work.trainings import train_spec

        run = train_spec(spec, folder, listener=listener, retry_failed=bool(given["retry_failed"]), jobs=given["jobs"],
                         executor=given["executor"], address=given["address"])
    return finish(run, given["format"], folder)

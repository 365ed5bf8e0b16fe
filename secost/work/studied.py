"""The run of a study: a folder, or one that goes away again, with trainings and costs of more than one setting.

The costs of a study's further networks stand in its one run, after those that the run was begun with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from secost.errors import SecostError
from secost.meters.environment import describe
from secost.plan.spec import Spec
from secost.runs.records import Record
from secost.runs.store import DATABASE, RunStore, discard_if_empty
from secost.training.datasets import Data
from secost.work.run import Listener, check_models, plan, run_lacking, with_fitting_reductions
from secost.work.trainings import at_resolution, check_training


@contextmanager
def study_run(spec: Spec, out: str | Path | None) -> Iterator[RunStore]:
    """The run in the folder `out`, made or gone on with. A request that turns out to be wrong leaves nothing there."""
    check_models(spec)
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        made = next((above for above in (*reversed(folder.parents), folder) if not above.exists()), None)
        fresh = not (folder / DATABASE).exists()
        store = RunStore.create_or_resume(folder, spec, describe())
        try:
            with store:
                yield store
        except SecostError:
            if fresh:
                discard_if_empty(folder, made)
            raise


def checked_training(spec: Spec) -> tuple[Spec, Data]:
    """The spec at the resolution of its data set, and the data. Raises for a request that can't be carried out."""
    check_models(spec)
    data = check_training(spec)
    spec = at_resolution(spec, data)
    plan(spec)
    return spec, data


def measure_more(spec: Spec, store: RunStore, listener: Listener) -> list[Record]:
    """The records of a spec's comparisons in a run that was begun with another; what it lacks of them is measured.

    A wrong request raises; a network that fails gives failed records.
    """
    spec = with_fitting_reductions(spec, listener)
    comparisons = plan(spec)
    keys = [trial.key for comparison in comparisons for trial in comparison.trials]
    store.plan_more(keys)
    run_lacking(comparisons, spec, store, listener)
    by_key = {record.key: record for record in store.records()}
    return [by_key[key] for key in keys]

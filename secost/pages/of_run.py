"""The page that a run has of its own: its study's, or its search's. An ordinary run has none, and the cost report."""

from __future__ import annotations

from secost.answers.searched import read_search
from secost.pages import occlusion, quantization, scaling, search
from secost.pages.page import PlainPage
from secost.runs.store import Run
from secost.runs.study import Occlusion, Quantization, Scaling


def page_of(run: Run) -> PlainPage | None:
    """The page as the command wrote it that made the run; None for an ordinary run."""
    if run.spec.search is not None:
        return search.page(read_search(run.records, run.spec, run.study))
    if isinstance(run.study, Scaling):
        return scaling.page(run.study)
    if isinstance(run.study, Occlusion):
        return occlusion.page(run.study)
    return quantization.page(run.study) if isinstance(run.study, Quantization) else None

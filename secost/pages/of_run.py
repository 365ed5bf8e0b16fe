"""The page of a run: its study's, or its search's, or that of its costs."""

from __future__ import annotations

from collections.abc import Sequence

from secost.answers.searched import read_search
from secost.pages import occlusion, quantization, scaling, search
from secost.pages.cost import cost_page
from secost.pages.page import Page
from secost.runs.records import Gain
from secost.runs.store import Run
from secost.runs.study import Occlusion, Quantization, Scaling


def page_of(run: Run, gains: Sequence[Gain] | None = None) -> Page:
    """The page as the command wrote it that made the run; with `gains` of one source, that of its costs."""
    if gains is None and run.spec.search is not None:
        return search.page(read_search(run.records, run.spec, run.study))
    if gains is None and isinstance(run.study, Scaling):
        return scaling.page(run.study)
    if gains is None and isinstance(run.study, Occlusion):
        return occlusion.page(run.study)
    if gains is None and isinstance(run.study, Quantization):
        return quantization.page(run.study)
    return cost_page(run.records, run.spec.to_dict(), run.environments, gains=gains)

"""Which rows nobody beats: the Pareto front over any two fields."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from secost.errors import UnknownNameError


def pareto_front(frame: pd.DataFrame, x: str, y: str, maximize: Collection[str] = ()) -> pd.Series[bool]:
    """A mask of the rows on the front of two fields, less being better except for those named in `maximize`.

    A row is beaten by another that is at least as good in both fields and better in one. Rows that are equal
    in both do not beat each other: either all of them are on the front or none. A row with NA in one of the two
    is not on the front and beats nobody. The mask has the frame's index. Takes n log n steps.
    """
    for name in (x, y):
        if name not in frame.columns:
            raise UnknownNameError("field", name, map(str, frame.columns))
    across, up = _cost(frame[x], x in maximize), _cost(frame[y], y in maximize)
    known = across.notna() & up.notna()
    across, up = across[known], up[known]
    best_here = up.groupby(across).min().sort_index()
    best_before = best_here.cummin().shift()
    before = across.map(best_before)
    on_front = (up == across.map(best_here)) & (before.isna() | (up < before))
    return on_front.reindex(frame.index, fill_value=False).astype(bool)


def _cost(values: pd.Series[Any], negate: bool) -> pd.Series[float]:
    numbers = pd.Series(values.astype("Float64").to_numpy(dtype=float, na_value=float("nan")), index=values.index)
    # Adding 0.0 makes -0.0 and 0.0 one value.
    return (-numbers if negate else numbers) + 0.0

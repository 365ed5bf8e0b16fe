"""Records as a tidy pandas table, and each row beside its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from secost.answers.groups import CURRENCIES, LATENCY, SETTING_FIELDS
from secost.plan.trials import BASELINE
from secost.runs.records import DONE, FLAT_FIELDS, Record

COLUMNS = (*FLAT_FIELDS, "memory_overhead", "kernels_overhead", "key", "environment")
_DTYPES = {
    "int": "Int64", "int | None": "Int64", "float | None": "Float64", "str": "string", "str | None": "string",
}


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record, the contract's fields first and in its order; what is missing is NA, `stages` is a tuple.

    `by_stage`, `by_site` and `samples` are no columns: they are tables of their own.
    """
    types = {item.name: str(item.type) for item in fields(Record)}
    columns = {name: _column([getattr(record, name) for record in records], types[name]) for name in COLUMNS}
    return pd.DataFrame(columns)


def add_baselines(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of the frame with each row joined to its comparison's baseline (the first finished `none` row).

    New columns `params_added`, `macs_added`, `memory_bytes_added` (bytes), `kernels_added` and `latency_ms_added`
    are absolute differences. The overheads of the four counts are computed again from the join (kept where there is no
    baseline). `latency_overhead` stays the paired estimate of the record: a ratio of two medians is not the same.
    Times of two environments are not subtracted from each other.
    """
    joined = frame.copy()
    groups = frame.groupby(list(SETTING_FIELDS), dropna=False, sort=False).ngroup()
    first = frame[(frame["attention"] == BASELINE) & (frame["status"] == DONE)].index
    baseline = frame.loc[first].assign(_group=groups.loc[first]).drop_duplicates("_group").set_index("_group")
    same_machine = _same(frame["environment"], groups.map(baseline["environment"]))
    for currency in CURRENCIES:
        reference = groups.map(baseline[currency.field])
        added = frame[currency.field] - reference
        if currency is LATENCY:
            joined[f"{currency.field}_added"] = added.where(same_machine)
            continue
        joined[f"{currency.field}_added"] = added
        fraction = (added / reference.where(reference != 0)).astype("Float64")
        joined[currency.overhead_field] = fraction.fillna(frame[currency.overhead_field])
    return joined


def _column(values: list[Any], annotation: str) -> pd.Series[Any]:
    dtype = _DTYPES.get(annotation, "object")
    plain = [tuple(value) if isinstance(value, list) else value for value in values]
    return pd.Series(plain, dtype=dtype)


def _same(left: pd.Series[Any], right: pd.Series[Any]) -> pd.Series[bool]:
    return ((left == right).fillna(False) | (left.isna() & right.isna())).astype(bool)

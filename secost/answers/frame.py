"""Records as a tidy pandas table: one row a trial, units in the names, an interval as two columns beside its value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from secost.answers.groups import CURRENCIES, LATENCY, SETTING_FIELDS
from secost.plan.trials import BASELINE
from secost.runs.records import DONE, FLAT_FIELDS, Record
from secost.runs.store import read_results

COLUMNS = (*FLAT_FIELDS, "memory_overhead", "kernels_overhead", "alternative", "key", "environment")
_DTYPES = {"int": "Int64", "int | None": "Int64", "float | None": "Float64"}
_TEXT = pd.StringDtype("python")  # pyarrow's has no room for names that are no Unicode


def frame(records: Sequence[Record] | str | Path, added: bool = False) -> pd.DataFrame:
    """One row a trial, of records or of what a run's folder or JSON document holds; what is missing is NA.

    The contract's fields come first and in its order; those of CSV and Parquet are these. Overheads are fractions
    (0.031 is 3.1 %). Lists are texts with `;` between their parts, `unsupported_ops` is JSON. `by_stage`, `by_site` and
    `samples` are no columns: they are tables of their own. With `added` each row has its differences to its baseline
    too, see `add_baselines`.
    """
    rows = read_results(records)[0] if isinstance(records, str | Path) else records
    types = {item.name: str(item.type) for item in fields(Record)}
    table = pd.DataFrame({name: pd.Series([_flat(getattr(row, name)) for row in rows],
                                          dtype=_DTYPES.get(types[name], _TEXT)) for name in COLUMNS})
    return add_baselines(table) if added else table


def _flat(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return ";".join(map(str, value)) if isinstance(value, list) else value


def add_baselines(table: pd.DataFrame) -> pd.DataFrame:
    """A copy of the table with each row joined to its comparison's baseline (the first finished `none` row).

    New columns `params_added`, `macs_added`, `memory_bytes_added` (bytes), `kernels_added` and `latency_ms_added`
    are absolute differences. The overheads of the four counts are computed again from the join (kept where there is no
    baseline). `latency_overhead` stays the paired estimate of the record: a ratio of two medians is not the same.
    Times of two environments are not subtracted from each other.
    """
    joined = table.copy()
    groups = table.groupby(list(SETTING_FIELDS), dropna=False, sort=False).ngroup()
    first = table[(table["attention"] == BASELINE) & table["alternative"].isna() & (table["status"] == DONE)].index
    baseline = table.loc[first].assign(_group=groups.loc[first]).drop_duplicates("_group").set_index("_group")
    mine, theirs = table["environment"], groups.map(baseline["environment"])
    same_machine = ((mine == theirs).fillna(False) | (mine.isna() & theirs.isna())).astype(bool)
    for currency in CURRENCIES:
        reference = groups.map(baseline[currency.field])
        added = table[currency.field] - reference
        joined[f"{currency.field}_added"] = added.where(same_machine) if currency is LATENCY else added
        if currency is not LATENCY:
            fraction = (added / reference.where(reference != 0)).astype("Float64")
            joined[currency.overhead_field] = fraction.fillna(table[currency.overhead_field])
    return joined

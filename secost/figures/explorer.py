"""The interactive chart of the HTML page as a Vega-Lite specification: a plain dict, written here, tested as data.

Axes are chosen in the page; points off the front of the chosen pair fade; the legend filters; hovering shows all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from secost.answers.groups import CURRENCIES, LATENCY, PARAMS, Currency, Group, pareto_front
from secost.runs.records import Record
from secost.writing import NA, plain

_ALL = "all"
_MOST_POINTS = 600
# One letter a currency keeps the page small; `front` holds the pairs of letters on whose front a point is.
_LETTERS = {"params": "p", "macs": "m", "memory": "b", "kernels": "k", "latency": "t"}
_FRONT = "indexof(datum.front, x_axis + y_axis) >= 0 || indexof(datum.front, y_axis + x_axis) >= 0"
_SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left"]
_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def specification(groups: Sequence[Group]) -> dict[str, Any] | None:
    """The chart of all compared records, or None where fewer than two have two overheads to show."""
    currencies = [currency for currency in CURRENCIES if any(group.has(currency) for group in groups)]
    points = [_values(group, record, currencies) | {"front": front} for group in groups
              for record, front in zip(group.compared, _fronts(group, currencies), strict=True)][:_MOST_POINTS]
    if len(currencies) < 2 or len(points) < 2:
        return None
    attentions = list(dict.fromkeys(point["attention"] for point in points))
    up = LATENCY if LATENCY in currencies else currencies[-1]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": "Overheads of all variants in any two currencies, in percent; less is better in both.",
        "width": "container", "height": 380, "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": points},
        "params": _parameters(groups, currencies, PARAMS if PARAMS in currencies else currencies[0], up),
        "transform": [
            {"filter": f"comparison == '{_ALL}' || datum.comparison == comparison"},
            {"calculate": "datum[x_axis]", "as": "x"}, {"calculate": "datum[y_axis]", "as": "y"},
            {"calculate": "y_axis == 't' ? datum.low : null", "as": "y_low"},
            {"calculate": "y_axis == 't' ? datum.high : null", "as": "y_high"},
            {"filter": "isValid(datum.x) && isValid(datum.y)"},
        ],
        "layer": [_intervals(), _marks(currencies, attentions)],
        "config": {"font": "system-ui, sans-serif", "background": "white", "axis": {"labelFontSize": 12}},
    }


def _values(group: Group, record: Record, currencies: Sequence[Currency]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "comparison": plain(group.label), "variant": plain(record.label), "attention": plain(record.attention),
        "r": NA if record.reduction is None else str(record.reduction), "cautions": plain("; ".join(record.cautions)),
    }
    for currency in currencies:
        value = group.overhead(record, currency)
        letter = _LETTERS[currency.name]
        values[letter] = _percent(value)
        values[f"{letter}_shown"] = f"{currency.show_total(record)}, {currency.show_overhead(record, group.baseline)}"
    low, high = LATENCY.interval(record) or (None, None)
    return {**values, "low": _percent(low), "high": _percent(high)}


def _percent(fraction: float | None) -> float | None:
    """In percent, with the digits a screen can show."""
    return None if fraction is None else float(f"{100 * fraction:.6g}")


def _fronts(group: Group, currencies: Sequence[Currency]) -> list[str]:
    """For each record the pairs of currencies' letters on whose front it is: `pt mt`."""
    fronts: list[list[str]] = [[] for _ in group.compared]
    for x, y in itertools.combinations_with_replacement(currencies, 2):
        overheads = [(group.overhead(record, x), group.overhead(record, y)) for record in group.compared]
        known = {place: (across, up) for place, (across, up) in enumerate(overheads)
                 if across is not None and up is not None}
        for place in pareto_front(known, known.__getitem__):
            fronts[place].append(f"{_LETTERS[x.name]}{_LETTERS[y.name]}")
    return [" ".join(pairs) for pairs in fronts]


def _parameters(groups: Sequence[Group], currencies: Sequence[Currency], x: Currency, y: Currency) -> list[Any]:
    names = [_LETTERS[currency.name] for currency in currencies]
    titles = [f"{currency.title} overhead (%)" for currency in currencies]
    axes = [
        {"name": name, "value": _LETTERS[chosen.name],
         "bind": {"input": "select", "options": names, "labels": titles, "name": f"{direction} "}}
        for name, chosen, direction in (("x_axis", x, "Across:"), ("y_axis", y, "Up:"))
    ]
    labels = list(dict.fromkeys(plain(group.label) for group in groups if group.compared))
    chooser: dict[str, Any] = {"name": "comparison", "value": _ALL}
    if len(labels) > 1:
        chooser["bind"] = {"input": "select", "options": [_ALL, *labels], "name": "Comparison: "}
    return [*axes, chooser]


def _intervals() -> dict[str, Any]:
    return {
        "mark": {"type": "rule", "strokeWidth": 1.2, "color": "#777777", "aria": False},
        "transform": [{"filter": "isValid(datum.y_low) && isValid(datum.y_high)"}],
        "encoding": {"x": _axis("x"), "y": _axis("y_low"), "y2": {"field": "y_high"}, "opacity": _opacity()},
    }


def _marks(currencies: Sequence[Currency], attentions: Sequence[str]) -> dict[str, Any]:
    shown = [{"field": name, "type": "nominal", "title": name} for name in ("comparison", "variant", "attention", "r")]
    shown += [{"field": f"{_LETTERS[currency.name]}_shown", "type": "nominal", "title": currency.word}
              for currency in currencies]
    shown.append({"field": "cautions", "type": "nominal", "title": "cautions"})
    return {
        "params": [{"name": "picked", "select": {"type": "point", "fields": ["attention"]}, "bind": "legend"}],
        "mark": {"type": "point", "filled": True, "size": 90},
        "encoding": {"x": _axis("x"), "y": _axis("y"), "color": _by_attention(attentions, _COLORS),
                     "shape": _by_attention(attentions, _SHAPES), "opacity": _opacity(), "tooltip": shown},
    }


def _by_attention(attentions: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    """The same colour or shape for each attention as in the figures."""
    scale = {"domain": list(attentions), "range": [values[place % len(values)] for place in range(len(attentions))]}
    return {"field": "attention", "type": "nominal", "title": "attention", "scale": scale}


def _axis(field: str) -> dict[str, Any]:
    """The title is in the page, beside the box in which the axis is chosen: a Vega-Lite title is fixed."""
    return {"field": field, "type": "quantitative", "title": None, "axis": {"tickCount": 6}}


def _opacity() -> dict[str, Any]:
    """Full on the front, faded where beaten, nearly gone where the legend has filtered it out."""
    on_front = {"test": {"and": [{"param": "picked"}, _FRONT]}, "value": 1}
    return {"condition": [on_front, {"param": "picked", "value": 0.4}], "value": 0.06}

"""What a budget allows, for a page: the choice, what binds, and what one step more would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secost.answers.budget import LIMITED, Choice, Decision, Limit
from secost.answers.groups import Group
from secost.answers.where import SE, where_words
from secost.glossary import CAUTIONS, SERIOUS
from secost.pages.page import Page, Section, Table
from secost.pages.wording import gain_words
from secost.runs.records import Gain
from secost.writing import NA, joined, percent


def of_budget(found: Sequence[tuple[Group, Decision]], gains: Sequence[Gain] = ()) -> Page:
    """One section a comparison."""
    sections = tuple(Section("choice", group.label, (*_words(decision, gains), *_careful(group)), (_table(decision),))
                     for group, decision in found)
    limits = found[0][1].limits if found else ()
    asked = joined([_limit(limit) for limit in limits]) or "no limit"
    headline = f"Limits: {asked}. They hold at the upper end of an interval."
    rows = tuple(row for group, decision in found for row in _rows(group, decision))
    document = {
        "limits": {limit.currency.name: limit.value for limit in limits},
        "decisions": [{
            "comparison": group.label, "ranked_by": decision.ranked_by, "looked_at": decision.looked_at,
            "choice": _plain(decision.best), "nearest_miss": _plain(decision.nearest),
            "binding": list(decision.binding), "steps": [_plain(choice) for choice in decision.steps],
        } for group, decision in found],
    }
    return Page("budget", "The best choice within the budget", headline, sections, rows, document)


def _words(decision: Decision, gains: Sequence[Gain]) -> tuple[str, ...]:
    looked = f"{decision.looked_at:,} choices were looked at, ranked by {decision.ranked_by}"
    if decision.best is None:
        return (f"Nothing meets the limits. Nearest: {_named(decision.nearest)}.", f"{looked}.")
    best = decision.best
    found = [f"Choice: {best.label}{_gain(best)}, {_prices(best)}."]
    if not gains:
        found.append("Without a gain in accuracy this is the most attention for the money, not the most accuracy: give "
                     "--benefit or --accuracy to rank by that.")
    elif best.gain is None:
        found.append("No choice within the limits has a known gain: this is the most attention for the money, not the "
                     "most accuracy.")
    if not best.measured and "latency" in best.prices:
        found.append("Its time is worked out from the whole's by each stage's share: measure it with --stages "
                     f"{','.join(map(str, best.stages))} before you build on it.")
    if best.attention == SE:
        found += where_words()
    if decision.binding:
        found.append(f"What binds: {joined(list(decision.binding))}; every step further breaks it.")
    found += [f"One step more: {choice.label} costs {_prices(choice)}{_breaks(choice, decision.limits)}."
              for choice in decision.steps]
    return (*found, f"{looked}.")


def _careful(group: Group) -> tuple[str, ...]:
    """What the records themselves warn of."""
    codes = dict.fromkeys(code for record in group.records for code in record.cautions if code in SERIOUS)
    return tuple(f"Careful, {code}: {CAUTIONS[code].meaning}." for code in codes)


def _table(decision: Decision) -> Table:
    shown = [choice for choice in (decision.best or decision.nearest, *decision.steps) if choice is not None]
    rows = [(choice.label, *(_price(choice, currency.name) for currency in LIMITED), f"{choice.channels:,}",
             gain_words(choice.gain) if choice.gain else NA) for choice in shown]
    return Table.of("Overheads; of a time its upper end in brackets",
                     ("Choice", *(currency.title for currency in LIMITED), "channels gated", "gain"), rows)


def _prices(choice: Choice) -> str:
    return joined([f"{_price(choice, currency.name)} {currency.word}" for currency in LIMITED
                   if currency.name in choice.prices])


def _price(choice: Choice, name: str) -> str:
    price = choice.prices.get(name)
    if price is None:
        return NA
    return percent(price.value) if price.upper == price.value else f"{percent(price.value)} [{percent(price.upper)}]"


def _gain(choice: Choice) -> str:
    return f", which gains {gain_words(choice.gain)} ({choice.gain.source}: {choice.gain.basis})" if choice.gain else ""


def _breaks(choice: Choice, limits: Sequence[Limit]) -> str:
    broken = [_limit(limit) for limit in limits if limit.over(choice) > 0]
    return f", over {joined(broken)}" if broken else ""


def _named(choice: Choice | None) -> str:
    return "nothing" if choice is None else f"{choice.label}, {_prices(choice)}"


def _limit(limit: Limit) -> str:
    return f"{limit.currency.word} {percent(limit.value)}"


def _rows(group: Group, decision: Decision) -> list[dict[str, Any]]:
    named = [("choice", decision.best), ("nearest miss", decision.nearest),
             *(("step", choice) for choice in decision.steps)]
    return [{"comparison": group.label, "what": what, **_flat(choice)} for what, choice in named if choice is not None]


def _flat(choice: Choice) -> dict[str, Any]:
    found: dict[str, Any] = {
        "choice": choice.label, "attention": choice.attention, "stages": ",".join(map(str, choice.stages)),
        "reductions": ",".join("" if ratio is None else str(ratio) for _, ratio in choice.reductions),
        "channels": choice.channels, "measured": choice.measured,
        "gain_points": choice.gain.points if choice.gain else None,
    }
    for currency in LIMITED:
        price = choice.prices.get(currency.name)
        found[f"{currency.name}_overhead"] = price and price.value
        found[f"{currency.name}_overhead_upper"] = price and price.upper
    return found


def _plain(choice: Choice | None) -> dict[str, Any] | None:
    return None if choice is None else {
        **_flat(choice), "stages": list(choice.stages),
        "reductions": {str(stage): ratio for stage, ratio in choice.reductions}}

"""The Pareto front against brute force, and what it makes of equals."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import run_of_six

from secost.answers.groups import LATENCY, PARAMS, group_records, pareto_front

VALUES = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.0]), st.floats(-1e6, 1e6))


@settings(deadline=None)  # how long a front takes on a busy machine is not asked here
@given(st.lists(st.tuples(VALUES, VALUES), max_size=25))
def test_the_front_equals_brute_force(places: list[tuple[float, float]]) -> None:
    front = pareto_front(range(len(places)), places.__getitem__)
    assert sorted(front) == [index for index, mine in enumerate(places)
                             if not any(_beats(other, mine) for other in places)]
    assert [places[index][0] for index in front] == sorted(places[index][0] for index in front)


@settings(deadline=None)  # how long a front takes on a busy machine is not asked here
@given(st.lists(st.tuples(VALUES, VALUES), max_size=25))
def test_without_ties_the_first_of_equals_stands_for_them(places: list[tuple[float, float]]) -> None:
    front = pareto_front(range(len(places)), places.__getitem__)
    alone = pareto_front(range(len(places)), places.__getitem__, ties=False)
    assert alone == [index for index in front if places.index(places[index]) == index]


def _beats(other: tuple[float, float], mine: tuple[float, float]) -> bool:
    return other != mine and other[0] <= mine[0] and other[1] <= mine[1]


def test_the_front_of_a_run() -> None:
    (group,) = group_records(run_of_six())
    known = {record.label: (across, up) for record in group.variants
             if (across := group.overhead(record, PARAMS)) is not None
             and (up := group.overhead(record, LATENCY)) is not None}
    assert len(known) == 6 and pareto_front(known, known.__getitem__) == ["eca"]

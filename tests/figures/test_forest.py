"""The forest plot of published gains: what is drawn is what is published."""

from __future__ import annotations

from secost.answers.expected import eras_of
from secost.answers.published import published_gains
from secost.figures.forest import forest


def test_each_pair_is_a_line_and_their_mean_stands_below() -> None:
    eras = [era for era in eras_of(published_gains(["se"])) if era.era == "classical"]
    (drawing,) = forest(eras)
    (axis,) = [axis for axis in drawing.figure.axes if axis.axison]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names[-2:] == ["mean", "one network more"] and len(names) == eras[0].found.studies + 2
    assert names[0].startswith("VGG-16")  # +1.80, the most
    (mean,) = [line for line in axis.lines if line.get_label() == "their mean, with its interval"]
    assert list(mean.get_xdata()) == [eras[0].found.estimate]
    assert f"{eras[0].found.estimate:+.2f} points" in drawing.alt


def test_two_pairs_say_nothing_of_one_network_more() -> None:
    eras = [era for era in eras_of(published_gains(["eca"])) if era.era == "classical"]
    assert eras[0].found.studies == 2
    (drawing,) = forest(eras)
    (axis,) = [axis for axis in drawing.figure.axes if axis.axison]
    assert [label.get_text() for label in axis.get_yticklabels()][-1] == "mean"


def test_pairs_that_can_not_be_pooled_draw_nothing() -> None:
    assert forest([]) == []
    assert forest([era for era in eras_of(published_gains()) if len(era.pairs) == 1]) == []

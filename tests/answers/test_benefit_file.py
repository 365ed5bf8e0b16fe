"""The user's own accuracies: read strictly, paired by seed, and never dropped in silence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from secost.answers.accuracies import file_gains, gains_of_file, read_accuracies
from secost.cli import main
from secost.errors import BadSpecError
from secost.statistics import paired_difference, unpaired_difference

HEADER = "model,attention,reduction,placement,top1,seed\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_seeds_are_paired_and_the_interval_is_students() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, so 2 +- 4.303 / sqrt(3)."""
    found = paired_difference([(70.0, 71.0), (60.0, 62.0), (80.0, 83.0)])
    assert found.estimate == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0 + 4.3027 / math.sqrt(3), abs=1e-3)


def test_pairing_takes_out_what_both_share() -> None:
    pairs = [(70.0, 71.0), (60.0, 61.1), (80.0, 80.9)]
    assert paired_difference(pairs).half_width < 0.03 * unpaired_difference(pairs).half_width
    assert paired_difference(pairs).estimate == pytest.approx(unpaired_difference(pairs).estimate)


def test_welchs_interval_has_the_values_of_a_worked_example() -> None:
    """Equal variances and sizes: 2 (n - 1) degrees of freedom. Means 2 and 5, variances 1: 3 +- 2.776 sqrt(2/3)."""
    found = unpaired_difference([(1.0, 4.0), (2.0, 5.0), (3.0, 6.0)])
    assert (found.estimate, found.high) == (pytest.approx(3.0), pytest.approx(3 + 2.7764 * math.sqrt(2 / 3), abs=1e-3))


def test_one_seed_has_no_interval() -> None:
    found = paired_difference([(70.0, 71.0)])
    assert (found.estimate, found.low, found.high) == (1.0, None, None)
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([])


def test_gains_are_paired_by_model_placement_and_seed(tmp_path: Path) -> None:
    text = HEADER + "".join(
        f"resnet18,{attention},{ratio},residual,{top1},{seed}\n"
        for seed, (base, se) in enumerate([(70.0, 71.0), (60.0, 62.0), (80.0, 83.0)])
        for attention, ratio, top1 in (("none", "", base), ("se", "16", se))
    )
    found = file_gains(read_accuracies(written(tmp_path, text)), "mine.csv")
    (gain,) = found.gains
    assert (gain.model, gain.attention, gain.reduction, gain.pairs) == ("resnet18", "se", 16, 3)
    assert gain.points == pytest.approx(2.0) and gain.low is not None and found.unmatched == []
    assert (gain.baseline_top1, gain.top1) == (pytest.approx(70.0), pytest.approx(72.0))


def test_without_seeds_there_is_one_pair_and_no_interval(tmp_path: Path) -> None:
    text = "model,attention,reduction,placement,top1\nresnet18,none,,,70\nresnet18,se,16,residual,71.5 %\n"
    (gain,) = file_gains(read_accuracies(written(tmp_path, text)), "mine.csv").gains
    assert (gain.points, gain.low, gain.pairs) == (1.5, None, 1)


def test_what_finds_no_partner_is_listed_with_its_line(tmp_path: Path) -> None:
    text = HEADER + "a,none,,,70,0\na,se,16,residual,71,1\nb,se,16,residual,50,0\nc,none,,,60,0\n"
    found = file_gains(read_accuracies(written(tmp_path, text)), "mine.csv")
    assert found.gains == []
    assert [line.split(":")[0] for line in found.unmatched] == ["line 3", "line 4", "line 2", "line 5"]
    assert "no row without attention has seed 1" in found.unmatched[0]


def test_two_baselines_of_one_seed_are_not_chosen_from(tmp_path: Path) -> None:
    text = HEADER + "a,none,,,70,0\na,none,,,72,0\na,se,16,residual,71,0\n"
    found = file_gains(read_accuracies(written(tmp_path, text)), "mine.csv")
    assert found.gains == [] and any("same seed" in line for line in found.unmatched)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,top1\na,70\n", "lacks the column attention, reduction, placement"),
        (HEADER, "no row below its header"),
        (HEADER + "a,se,16,residual,170,0\n", "line 2: top1 '170' is no accuracy in percent, 0 to 100"),
        (HEADER + "a,se,16,residual,-1,0\n", "no accuracy"),
        (HEADER + "a,se,16,residual,nan,0\n", "no accuracy"),
        (HEADER + "a,se,16,residual,high,0\n", "no accuracy"),
        (HEADER + "a,se,sixteen,residual,70,0\n", "reduction 'sixteen' is not a whole number"),
        (HEADER + ",se,16,residual,70,0\n", "model is empty"),
        (HEADER + "a,none,,,0.70,0\na,se,16,residual,71,0\n", "mixes fractions and percentages: top1 0.7 in line 2"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadSpecError) as caught:
        read_accuracies(written(tmp_path, text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_where_all_accuracies_are_fractions_they_are_read_so_and_it_is_said(tmp_path: Path) -> None:
    text = HEADER + "a,none,,,0.70,0\na,se,16,residual,0.71,0\na,none,,,0.69,1\na,se,16,residual,0.71,1\n"
    (gain,), told = file_gains(read_accuracies(written(tmp_path, text)), "mine.csv")
    assert gain.points == pytest.approx(1.5) and gain.top1 == pytest.approx(71)
    assert told == ["mine.csv: its accuracies are fractions, so they were read as such (0.7 as 70.00 %)"]


def test_an_alternative_is_a_network_of_its_own_in_the_file(tmp_path: Path) -> None:
    text = HEADER + "a,none,,,70,0\na,none,,,71,1\nb,none,,,73,0\nb,none,,,73.5,1\na,se,16,,71,0\na,se,16,,72.5,1\n"
    gains, told = gains_of_file(written(tmp_path, text), {"a"}, {"b": "a"})
    assert told == [] and [(gain.attention, gain.alternative, gain.points, gain.pairs) for gain in gains] == [
        ("se", None, pytest.approx(1.25), 2), ("none", "b", pytest.approx(2.75), 2)]


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match="can't read the accuracies"):
        read_accuracies(tmp_path / "none.csv")


def test_a_file_about_other_models_alone_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "a,none,,,70,0\n")
    with pytest.raises(BadSpecError, match="none of the models at hand"):
        read_accuracies(path, {"resnet18"})


def test_the_command_shows_the_gains_and_what_found_no_partner(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = written(tmp_path, HEADER + "resnet18,none,,,70,0\nresnet18,se,16,,71,0\nresnet18,eca,,,71,4\n")
    assert main(["benefit", "--accuracy", str(path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gains"][0]["points"] == 1.0 and len(found["unmatched"]) == 1


def test_the_command_names_the_nearest_of_an_unknown_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "resnet81,none,,,70,0\n")
    assert main(["benefit", "--accuracy", str(path)]) == 2
    assert "unknown model 'resnet81': did you mean" in capsys.readouterr().err


def test_a_report_shows_the_users_gains_beside_the_runs_costs_and_lists_the_rest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import secost

    secost.profile("small:vgg", ["se"], [4], resolution=32, latency=False, out=tmp_path / "run")
    rows = "".join(f"small:vgg,{name},{ratio},conv,{top1},{seed}\n" for seed, base in enumerate((70.0, 72.0, 71.0))
                   for name, ratio, top1 in (("none", "", base), ("se", 4, base + 1 + seed / 10), ("se", 8, base)))
    path = written(tmp_path, HEADER + rows)
    assert main(["report", str(tmp_path / "run"), "--accuracy", str(path), "--format", "md,png"]) == 0
    page = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "**Worth it? Worth it: se r=4 gains +1.10 points" in page and "Not in this run" in page
    assert (tmp_path / "run" / "cost-benefit.png").is_file()
    assert "not in the run: small:vgg se r=8" in capsys.readouterr().err
    assert main(["budget", str(tmp_path / "run"), "--accuracy", str(path), "--format", "json"]) == 0
    choice = json.loads(capsys.readouterr().out)["decisions"][0]["choice"]
    assert choice["gain_points"] == pytest.approx(1.1)

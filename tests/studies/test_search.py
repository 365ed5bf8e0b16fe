"""A whole search, small: every step is kept in its run, a killed one goes on, and the page says what was found."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import secost
from secost.answers.searched import EXHAUSTIVE, RANDOM, Searched, front, read_search
from secost.errors import BadSpecError, RunError
from secost.pages.search import page, sentences
from secost.plan.variants import is_mix
from secost.render.formats import PAGE_FORMATS, render, write
from secost.runs.database import DATABASE
from secost.runs.records import Record
from secost.runs.store import RunStore, read_all
from tests.conftest import LONG_S, end_by_number

# The budget is one of parameters, which are counted: what holds it must not hang on a time measured here.
SMALL: dict[str, Any] = {
    "max_params": 2.0, "attentions": ["se", "spatial"], "reductions": [4], "per": "site", "trials": 10,
    "oneshot_epochs": 1, "calibrate": 4, "check": 3, "finalists": 2, "seeds": 2, "epochs": 1, "seconds": LONG_S,
    "jobs": 2,
}
JUDGED = {"nsga2": 10, RANDOM: 10, EXHAUSTIVE: 27}  # three sites, each with one of the two or none


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "run"
    with pytest.MonkeyPatch.context() as patch:
        end_by_number(patch)
        secost.search("small:shallow", out=folder, **SMALL)
    return folder


@pytest.fixture(scope="module")
def found(run: Path) -> Searched:
    kept = read_all(run)
    return read_search(kept.records, kept.spec, kept.study)


def test_every_network_is_judged_once_by_each_of_sampler_draw_and_all(found: Searched) -> None:
    counted = Counter((record.estimate, record.attention) for record in found.records if record.estimate)
    assert set(counted.values()) == {1}
    by = Counter(record.estimate for record in found.records if record.estimate)
    assert by == JUDGED


def test_one_network_has_one_estimate_whoever_asked(found: Searched) -> None:
    for name in {record.attention for record in found.records if record.estimate}:
        mine = [record for record in found.records if record.estimate and record.attention == name]
        assert len({(r.estimated_top1, r.estimated_overhead, r.params, r.macs) for r in mine}) == 1


def test_counts_of_an_estimate_are_those_of_the_network_itself(found: Searched) -> None:
    measured = next(record for record in found.mixes.values() if record.attention in found.estimated)
    estimated = found.estimated[measured.attention]
    for name in ("params", "macs", "sites", "attention_params", "attention_macs"):
        assert getattr(estimated, name) == getattr(measured, name), name
    assert estimated.params_overhead == pytest.approx(measured.params_overhead)


def test_finalists_are_measured_whole_and_trained_from_the_seeds_of_the_others(found: Searched) -> None:
    mine = [item for item in found.finalists if is_mix(item.record.attention)]
    assert 2 <= len(mine) <= 3
    for item in mine:
        assert item.record.latency_overhead is not None and item.gain is not None and item.gain.pairs == 2
    assert {item.name for item in found.finalists} >= {"se r=4", "spatial"}


def test_the_search_covers_no_more_than_all_points_do(found: Searched) -> None:
    assert found.result.shares[EXHAUSTIVE][-1] == pytest.approx(1.0)
    for name in ("nsga2", RANDOM):
        shares = found.result.shares[name]
        assert shares == sorted(shares) and 0 <= shares[-1] <= 1 + 1e-9
    best = front(found.allowed_estimates(EXHAUSTIVE))
    assert all(first.estimated_top1 < second.estimated_top1 for first, second in itertools.pairwise(best))


def test_the_same_call_again_does_nothing_twice(run: Path, found: Searched) -> None:
    before = (run / DATABASE).read_bytes()
    again = secost.search("small:shallow", out=run, **SMALL)
    assert [record.key for record in again.records] == [record.key for record in found.records]
    assert again.records == found.records and again.result == found.result
    assert (run / DATABASE).read_bytes() == before


def test_what_the_search_concluded_is_kept_and_follows_from_its_records(found: Searched) -> None:
    assert found.kept is not None
    assert Searched(found.spec, found.records).result == found.kept


def test_a_report_renders_the_search_again_byte_for_byte(run: Path, found: Searched, tmp_path: Path) -> None:
    made = write(page(found), tmp_path / "made", PAGE_FORMATS)
    again = secost.report(run, PAGE_FORMATS[::-1], tmp_path / "again")  # in another order the same bytes
    assert {path.name: path.read_bytes() for path in again} == {path.name: path.read_bytes() for path in made}


def test_another_space_in_the_same_folder_is_refused_naming_what_differs(run: Path) -> None:
    with pytest.raises(RunError, match=r"'attention' was \['se', 'spatial'\] and is now \['se', 'eca'\]"):
        secost.search("small:shallow", out=run, **{**SMALL, "attentions": ["se", "eca"]})
    with pytest.raises(RunError, match=r"'search\.max_params' was 2\.0 and is now 0\.5"):
        secost.search("small:shallow", out=run, **{**SMALL, "max_params": 0.5})


def test_the_page_answers_in_three_sentences_and_shows_the_figures_behind_them(found: Searched, tmp_path: Path) -> None:
    told = sentences(found)
    assert len(told) == 3
    best = found.chosen
    assert best is not None and best.name in told[0]
    files = {path.name for path in write(page(found), tmp_path, PAGE_FORMATS)}
    assert {"search.md", "search.html", "search.json", "search.csv", "search-front.png", "search-networks.png",
            "search-checks.png"} == files
    text = (tmp_path / "search.md").read_text()
    assert all(words in text for words in ("Spatial early and channel late?", "random draw", "all points", "Spearman"))
    document = json.loads((tmp_path / "search.json").read_text())
    assert document["chosen"] == best.record.attention and len(document["latency_checks"]) == 3
    assert len((tmp_path / "search.csv").read_text().splitlines()) == 1 + sum(JUDGED.values())
    for width in (80, 120, 200):
        assert max(map(len, render(page(found), "table", width).splitlines())) <= width


def test_the_report_of_costs_has_the_whole_networks_and_no_estimates(run: Path, tmp_path: Path) -> None:
    secost.report(run, ["csv", "md"], tmp_path, benefit="trained")
    text = (tmp_path / "report.md").read_text()
    assert "se r=4" in text and "mix:" in text


def test_a_space_with_one_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSpecError, match="one point"):
        secost.search("small:shallow", out=tmp_path / "run", **{**SMALL, "attentions": ["none"]})
    assert not (tmp_path / "run").exists()


def kept(folder: Path) -> list[Record]:
    with RunStore.open_readonly(folder) as store:
        return store.records()


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 16, 40])
def test_a_killed_search_goes_on_and_loses_and_doubles_nothing(
    after: int, tmp_path: Path, found: Searched, few_rounds: float
) -> None:
    folder = tmp_path / "run"
    words = ("import secost; from secost.meters import latency; latency._precise = lambda *given: True; "
             f"secost.search('small:shallow', out={str(folder)!r}, **{SMALL!r})")
    process = subprocess.Popen([sys.executable, "-c", words], start_new_session=True)
    while process.poll() is None:
        time.sleep(0.02)
        if (folder / DATABASE).exists():
            try:
                count = len(kept(folder))
            except RunError:
                continue
            if count >= after:
                break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = kept(folder)
    assert len(before) >= after
    done = secost.search("small:shallow", out=folder, **SMALL)
    after_records = {record.key: record for record in done.records}
    assert all(after_records[record.key] == record for record in before)
    assert len(after_records) == len(done.records)
    counted = Counter(record.estimate for record in done.records if record.estimate)
    assert counted == JUDGED
    assert [r.attention for r in done.estimates(RANDOM)] == [r.attention for r in found.estimates(RANDOM)]

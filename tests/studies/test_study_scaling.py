"""`secost study scaling`: published sizes, one dimension alone at equal MACs, what is refused, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import secost
from secost.cli import main
from secost.errors import BadSpecError
from secost.pages.scaling import findings
from secost.runs.store import read_all
from secost.runs.study import Scaling, Size
from secost.studies.scaling import PUBLISHED, parse_phis, scaling

FACTORY = """
from torch import nn

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()

def make(depth=1.0, width=1.0):
    channels = 8 * round(2 * width)
    blocks = [Block(channels) for _ in range(round(2 * depth))]
    return nn.Sequential(nn.Conv2d(3, channels, 3, stride=4), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(channels, 10))
"""
@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(FACTORY)
    return f"{tmp_path / 'net.py'}:make"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["study", "scaling", *arguments, "-q"])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("text", "phis"), [("0..2", [0, 1, 2]), ("0,0.5", [0, 0.5]), ("3", [3])])
def test_phi_is_a_range_or_a_list(text: str, phis: list[float]) -> None:
    assert parse_phis(text) == phis


@pytest.mark.parametrize("text", ["", "a", "0..x", "2..1", "1;2"])
def test_phi_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(BadSpecError, match=r"write 0\.\.7"):
        parse_phis(text)


def test_any_factory_of_depth_and_width_scales(model: str) -> None:
    study = scaling(model, [0, 2], reductions=[4], latency=False)
    compound = dict(study.of("compound"))
    assert list(compound) == [Size("compound", 0.0, 1.0, 1.0, 224), Size("compound", 2.0, 1.44, 1.21, 296)]
    assert all(records[0].params for records in compound.values())
    assert study.growth == pytest.approx(1.2 * 1.1**2 * 1.15**2)


def test_one_dimension_alone_reaches_the_same_macs(model: str) -> None:
    study = scaling(model, [3], reductions=[4], latency=False)
    target = study.of("compound")[0][1][0].macs
    assert target is not None
    for way in ("depth", "resolution"):  # widths of this factory come in steps of eight
        (size, records), = study.of(way)
        assert records[0].macs == pytest.approx(target, rel=0.1)
        assert [name for name in ("depth", "width") if getattr(size, name) != 1] == [way] * (way == "depth")


def test_a_phi_beyond_memory_is_refused_before_it_is_built(model: str) -> None:
    with pytest.raises(BadSpecError, match=r"phi 60 needs about [\d,.]+ GB .* are free: give a smaller phi"):
        scaling(model, [60], reductions=[4], latency=False)


@pytest.mark.parametrize(("given", "told"), [
    ({"alpha": 0.5}, "--alpha 0.5"), ({"gamma": 9.0}, "--gamma 9"), ({"phis": [-1]}, "phi -1"), ({"phis": []}, "--phi"),
])
def test_coefficients_that_shrink_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(BadSpecError, match=told):
        scaling("efficientnet_b0", **{"phis": [0], "latency": False, **given})  # type: ignore[arg-type]


def test_the_run_is_written_and_taken_up_again(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code, first, _ = run(capsys, model, "--phi", "0,1", "-r", "4", "--no-latency", "--format", "json", "-o", str(out))
    assert code == 0
    assert {path.name for path in out.iterdir()} == {
        "records.sqlite", "study-scaling.md", "study-scaling.html", "study-scaling.json", "study-scaling.csv",
        "scaling.png"}
    kept = read_all(out)
    assert isinstance(kept.study, Scaling)
    assert [size.way for size, _ in kept.study.sizes] == ["compound", "compound", "depth", "width", "resolution"]
    assert [record for _, records in kept.study.sizes for record in records] == kept.records
    assert "![" in (out / "study-scaling.md").read_text()
    assert "<svg" in (out / "study-scaling.html").read_text()
    again = run(capsys, model, "--phi", "0,1", "-r", "4", "--no-latency", "--format", "json", "-o", str(out))[1]
    assert json.loads(again) == json.loads(first)
    assert json.loads(first)["sizes"][0]["records"][0]["attention"] == "none"


def test_a_name_that_does_not_scale_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "resnet50", "--no-latency")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "network that scales" in err


def test_a_size_that_takes_too_long_is_counted_and_says_so(model: str) -> None:
    study = scaling(model, [0], reductions=[4], seconds=1e-6)
    assert study.of("compound")[0][1][0].latency_ms is None
    assert "counted and not measured" in study.notes[0]
    assert "not measured at two sizes" in findings(study)[-1]


@pytest.mark.slow
def test_efficientnet_comes_out_as_published() -> None:
    study = scaling(phis=range(4), latency=False)
    own = [records[1] for _, records in study.of("compound")]
    assert [record.params for record in own] == [5_288_548, 7_794_184, 9_109_994, 12_233_232]
    assert [round(record.macs or 0, -7) / 1e9 for record in own] == [0.39, 0.69, 1.0, 1.84]
    assert PUBLISHED[3] == (1.4, 1.2, 300)


@pytest.mark.slow
def test_the_papers_table_of_single_dimensions_is_not_what_its_coefficients_give() -> None:
    """Table 7 prints 1.8, 1.8 and 1.9 GMACs for depth 4, width 2 and resolution 2 alone; four times B0's 0.39 is 1.56,
    and doubling a resolution multiplies each map by four exactly. Only its compound row (1.8) follows from its factors.
    """
    def gmacs(depth: float, width: float, resolution: int) -> float:
        name = f"scaled:efficientnet_b0@{depth}x{width}"
        macs = secost.profile(name, "native", resolution=resolution, latency=False)[1].macs
        assert macs is not None
        return macs / 1e9

    base = gmacs(1, 1, 224)
    assert 3.95 * base < gmacs(1, 1, 448) < 4 * base < 1.6
    assert gmacs(4, 1, 224) < 1.6
    assert gmacs(1, 2, 224) < 1.6
    assert gmacs(1.4, 1.2, 291) == pytest.approx(1.8, abs=0.05)

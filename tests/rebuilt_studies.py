"""The three studies as objects, rebuilt from what was published of them in reports/: they were not kept as results.

Scaling and quantization are whole in their JSON documents. Occlusion is there with its maps; its image is that of the
data set, which is made from a seed; what each seed's gates did is in `CORNER_PAIRS`. `test_golden` shows that each
renders to the published files, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from secost.runs.records import Record
from secost.statistics import Interval
from secost.studies import occlusion, quantization, scaling
from secost.training.datasets import load_data

REPORTS = Path(__file__).parents[1] / "reports"

# (untrained, trained) of each seed at each site: how much deeper the readers' gates fall with the corner covered. The
# document holds only means and intervals of them. These were recovered: the figure gives each to a hundredth of a
# point, each is a float32, and of all such numbers only these give the nine published figures of their site to the
# last bit. (The first trained one of each site follows from the published maps, and does.)
CORNER_PAIRS = {
    "2": (
        (-0.0003414530656300485, -0.0007097281632013619), (-0.0005122661241330206, -0.002543918788433075),
        (-0.00016662148118484765, -0.00047151086619123816), (-0.00014399868086911738, -0.00021870050113648176),
        (-0.00035459065111353993, -2.152053639292717e-05),
    ),
    "5": (
        (-4.158052252023481e-05, -0.0031110355630517006), (4.791090032085776e-05, -0.00317207258194685),
        (-9.113694250117987e-05, -0.004050548188388348), (-2.9982082196511328e-05, -0.00451964046806097),
        (3.3274496672675014e-05, -0.0001143626868724823),
    ),
    "8": (
        (-2.889864845201373e-07, -0.026414625346660614), (-1.7845595721155405e-05, -0.01036046538501978),
        (3.3123874345619697e-06, -0.021622702479362488), (1.4991178431955632e-06, -0.00645863963291049),
        (9.93038611341035e-08, -0.03702162206172943),
    ),
}


def rebuilt_scaling() -> scaling.Scaling:
    """reports/study-scaling."""
    found = _document("study-scaling")
    study = scaling.Scaling(found["model"], found["alpha"], found["beta"], found["gamma"], notes=found["notes"])
    for values in found["sizes"]:
        records = [Record.from_dict(record) for record in values.pop("records")]
        study.sizes.append((scaling.Size(**values), records))
    return study


def rebuilt_quantization() -> quantization.Quantization:
    """reports/study-quantization."""
    found = _document("study-quantization")
    return quantization.Quantization(
        found["model"], found["attention"], found["dataset"], tuple(found["placements"]), tuple(found["bits"]),
        found["epochs"], found["qat_epochs"],
        full=[quantization.Full(**row) for row in found["full"]],
        rounded=[quantization.Rounded(**row) for row in found["rounded"]],
        latency=[Record.from_dict(record) for record in found["latency"]], notes=found["notes"],
    )


def rebuilt_occlusion() -> occlusion.Occlusion:
    """reports/study-occlusion."""
    found = _document("study-occlusion")
    kinds = {gate["name"]: gate["kind"] for gate in found["gates"]}
    maps = load_file(REPORTS / "study-occlusion" / occlusion.SHIFTS_FILE)
    return occlusion.Occlusion(
        found["model"], found["attention"], found["subject"], found["occluder_px"], found["stride_px"], found["rows"],
        found["columns"], _shown_image(),
        sites=[occlusion.SiteGates(**_with_intervals(gate)) for gate in found["gates"]],
        shifts=[occlusion.Shifts(name, kind, maps[name]) for name, kind in kinds.items()],
        cues=[occlusion.CueTest(test["gate"], tuple(test["readers"]), test["correlation"], CORNER_PAIRS[test["gate"]])
              for test in found["corner"]],
        detectors=[occlusion.Detectors(**{**row, "channels": tuple(row["channels"])}) for row in found["detectors"]],
        notes=found["notes"], top1=Interval(**found["top1"]),
    )


STUDIES: dict[str, Callable[[], Any]] = {
    "study-scaling": rebuilt_scaling, "study-occlusion": rebuilt_occlusion, "study-quantization": rebuilt_quantization,
}


def study_page(name: str) -> Any:
    """The page of a rebuilt study; `name` is that of its folder in reports/."""
    module = {"study-scaling": scaling, "study-occlusion": occlusion, "study-quantization": quantization}[name]
    return module.page(STUDIES[name]())


def _document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPORTS / name / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _shown_image() -> Any:
    """The first image with the corner among those that were occluded, as the study shows it."""
    test = load_data(occlusion.DEFAULT_DATASET).test
    half = len(test.images) // 2
    return occlusion._as_shown(test.images[half:][test.labels[half:] == 0][0])


def _with_intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Interval(**value) if isinstance(value, dict) else value for name, value in values.items()}

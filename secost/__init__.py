"""secost: is attention worth its cost? Counts and measures what it adds to a network, and says so.

The names below are imported when they are first used, so that `import secost` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secost.answers.frame import frame
    from secost.api import profile, report, sweep, train
    from secost.errors import SecostError
    from secost.networks.attention import register_attention
    from secost.networks.sites import Site
    from secost.networks.sources import load
    from secost.networks.surgery import attach, set_reduction, sites, strip
    from secost.plan.spec import Spec
    from secost.runs.records import Record
    from secost.studies.occlusion import occlusion
    from secost.studies.quantization import quantization
    from secost.studies.scaling import scaling
    from secost.studies.search import search

__version__ = "0.1.0"
__all__ = [
    "Record", "SecostError", "Site", "Spec", "attach", "frame", "load", "occlusion", "profile", "quantization",
    "register_attention", "report", "scaling", "search", "set_reduction", "sites", "strip", "sweep", "train",
]

_HOMES = {
    "frame": "secost.answers.frame", "profile": "secost.api", "report": "secost.api", "sweep": "secost.api",
    "train": "secost.api", "SecostError": "secost.errors", "register_attention": "secost.networks.attention",
    "Site": "secost.networks.sites", "load": "secost.networks.sources", "attach": "secost.networks.surgery",
    "set_reduction": "secost.networks.surgery", "sites": "secost.networks.surgery", "strip": "secost.networks.surgery",
    "Spec": "secost.plan.spec", "Record": "secost.runs.records", "occlusion": "secost.studies.occlusion",
    "quantization": "secost.studies.quantization", "scaling": "secost.studies.scaling",
    "search": "secost.studies.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'secost' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

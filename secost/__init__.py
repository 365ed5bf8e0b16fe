"""secost: is attention worth its cost? Counts and measures what it adds to a network, and says so.

The names below are imported when they are first used, so that `import secost` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secost.answers.frame import frame
    from secost.api import train
    from secost.cli import profile
    from secost.cli.report import report
    from secost.cli.sweep import sweep
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
    "Record": "secost.runs.records", "SecostError": "secost.errors", "Site": "secost.networks.sites",
    "Spec": "secost.plan.spec",
    "attach": "secost.networks.surgery", "frame": "secost.answers.frame",
    "load": "secost.networks.sources", "profile": "secost.api",
    "register_attention": "secost.networks.attention", "report": "secost.api",
    "occlusion": "secost.studies.occlusion", "quantization": "secost.studies.quantization",
    "scaling": "secost.studies.scaling", "search": "secost.studies.search", "set_reduction": "secost.networks.surgery",
    "sites": "secost.networks.surgery",
    "strip": "secost.networks.surgery", "sweep": "secost.api", "train": "secost.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'secost' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

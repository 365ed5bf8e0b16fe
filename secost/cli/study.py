"""`secost study`: what counting and measuring one network can't answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from secost.cli.options import Given, command
from secost.cli.screen import listening, show, write_report

if TYPE_CHECKING:
    from secost.pages.page import Page

study = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Studies: occlusion, quantization, scaling.")

Family = Annotated[str, typer.Argument(metavar="MODEL", help="A family that scales, or net.py:factory(depth, width).")]
Gated = Annotated[str, typer.Argument(metavar="MODEL", help="Any network with gates, its own or attached.")]
Sited = Annotated[str, typer.Argument(metavar="MODEL", help="Any network that has sites at the placements.")]


@study.callback()
def _study() -> None:
    pass


def scaling(model: Family = "efficientnet_b0", *, given: Given) -> int:
    """What attention adds as depth, width and resolution grow together, and by one alone at equal MACs."""
    from secost.pages.scaling import page
    from secost.studies.scaling import parse_phis, scaling

    phis = parse_phis(given["phi"])
    return _show(lambda **keywords: page(scaling(model, **{**keywords, "phis": phis})), given)


def occlusion(model: Gated = "small:shallow", *, given: Given) -> int:
    """Which part of an image opens or closes each gate: an occluder slides over it. Trains where weights lack."""
    from secost.pages.occlusion import page
    from secost.studies.occlusion import occlusion

    return _show(lambda **keywords: page(occlusion(model, **keywords)), given)


def quantization(model: Sited = "small:mobile", *, given: Given) -> int:
    """Which placement of attention stands low precision better: simulated bits, and real int8 beside them."""
    from secost.pages.quantization import page
    from secost.studies.quantization import quantization

    return _show(lambda **keywords: page(quantization(model, **keywords)), given)


for _function in (scaling, occlusion, quantization):
    study.command(_function.__name__)(command(_function.__name__, _function))


def _show(carry_out: Callable[..., Page], given: Given) -> int:
    """Carry a study out, write its page where a folder was named, and print it."""
    with listening(given["quiet"]) as listener:
        page = carry_out(**given.keywords(), out=given["output"], listener=listener)
    if given["output"]:
        write_report(page, given["output"])
    show(page, given["format"])
    return 0

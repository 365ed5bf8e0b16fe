"""`secost study`: what counting and measuring one network can't answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secost.cli import options, train
from secost.cli.progress import listening, note
from secost.cli.report import show_page

if TYPE_CHECKING:
    from secost.pages.page import PlainPage

study = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Studies: occlusion, quantization, scaling.")

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="A family that scales, or net.py:factory(depth, width).")]
Phi = Annotated[str, typer.Option("--phi", help="Coefficients, such as 0..7 or 0,0.5,1.")]
Alpha = Annotated[float, typer.Option("--alpha", help="Depth grows by alpha^phi.")]
Beta = Annotated[float, typer.Option("--beta", help="Width grows by beta^phi.")]
Gamma = Annotated[float, typer.Option("--gamma", help="Resolution grows by gamma^phi.")]

Shallow = Annotated[str, typer.Argument(metavar="MODEL", help="Any network with gates, its own or attached.")]
Image = Annotated[str | None, typer.Option("--image", help="An image file, in place of a data set.")]
Dataset = Annotated[str | None, typer.Option("--dataset", help="A data set's name or folder [three-cues].")]
Weights = Annotated[str | None, typer.Option("--weights", help="Your weights, .safetensors or a state dict (.pt).")]
OneAttention = Annotated[str | None, typer.Option("--attention", help="Attention to attach [the network's own].")]
Reduction = Annotated[int | None, typer.Option("-r", "--reduction", help="Its reduction ratio.")]
Pixels = Annotated[int, typer.Option("--resolution", help="Height and width of --image in pixels.")]
Occluder = Annotated[int | None, typer.Option("--occluder", help="Side of the occluder in pixels [a seventh].")]
Stride = Annotated[int | None, typer.Option("--stride", help="Pixels from place to place [half the occluder].")]
Seeds = Annotated[int, typer.Option("--seeds", help="Trainings, where weights lack.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Passes over the training set.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="At its highest.")]

Mobile = Annotated[str, typer.Argument(metavar="MODEL", help="Any network that has sites at the placements.")]
Bits = Annotated[str, typer.Option("--bits", help="Bits of weights and maps, 2 to 16.")]
Placements = Annotated[str, typer.Option("--placement", help="Placements to compare, the first two as a pair.")]
GivenAttention = Annotated[str, typer.Option("--attention", help="The attention.")]
GivenReduction = Annotated[int, typer.Option("-r", "--reduction", help="Its reduction ratio.")]
Digits = Annotated[str, typer.Option("--dataset", help="A data set's name or folder.")]
QatEpochs = Annotated[int, typer.Option("--qat-epochs", help="Epochs of training at each precision; 0 for none.")]
Backends = Annotated[str, typer.Option("--backend", help="Backends whose real int8 is run; an empty text for none.")]


@study.callback()
def _study() -> None:
    pass


@study.command("scaling")
def scaling(
    model: _Model = "efficientnet_b0", phi: Phi = "0..7", alpha: Alpha = 1.2, beta: Beta = 1.1, gamma: Gamma = 1.15,
    attention: options.Attention = None, reductions: options.Reductions = None, latency: options.Latency = None,
    seconds: options.Seconds = None, seed: options.Seed = None, format: options.Format = "table",
    output: options.Output = None, quiet: options.Quiet = False,
) -> int:
    """What attention adds as depth, width and resolution grow together, and by one alone at equal MACs."""
    options.check_format(format)
    from secost.pages.scaling import page
    from secost.studies import scaling as found

    phis = found.parse_phis(phi)
    with listening(4 * (len(phis) + 3 * min(len(phis), 3)), quiet) as listener:  # and three of one dimension alone
        result = found.scaling(
            model, phis, alpha=alpha, beta=beta, gamma=gamma, attentions=options.words(attention) if attention else (),
            reductions=options.integers("reductions", reductions or "4,16"), latency=latency is not False,
            seconds=20.0 if seconds is None else seconds, seed=seed or 0, out=output, listener=listener,
        )
    return _show(page(result), format, output)


@study.command("occlusion")
def occlusion(
    model: Shallow = "small:shallow", image: Image = None, dataset: Dataset = None, data: train.Data = None,
    weights: Weights = None, attention: OneAttention = None, reduction: Reduction = None,
    placement: options.Placement = None, resolution: Pixels = 224, occluder: Occluder = None, stride: Stride = None,
    seeds: Seeds = 5, epochs: Epochs = 8, learning_rate: LearningRate = 0.05, jobs: train.Jobs = None,
    format: options.Format = "table", output: options.Output = None, quiet: options.Quiet = False,
) -> int:
    """Which part of an image opens or closes each gate: an occluder slides over it. Trains where weights lack."""
    options.check_format(format)
    from secost.pages.occlusion import page
    from secost.studies import occlusion as found

    with listening(2 * seeds + 2, quiet) as listener:
        result = found.occlusion(
            model, image=image, dataset=dataset, data=data or "", weights=weights, attention=attention,
            reduction=reduction, placement=placement or "auto", resolution=resolution, occluder=occluder,
            stride=stride, seeds=seeds, epochs=epochs, learning_rate=learning_rate, jobs=jobs, out=output,
            listener=listener,
        )
    return _show(page(result), format, output)


@study.command("quantization")
def quantization(
    model: Mobile = "small:mobile", bits: Bits = "8,6,4", placement: Placements = "depthwise-pre,depthwise",
    attention: GivenAttention = "se", reduction: GivenReduction = 4, dataset: Digits = "digits",
    data: train.Data = None, seeds: Seeds = 5, epochs: Epochs = 20, qat_epochs: QatEpochs = 2,
    learning_rate: LearningRate = 0.05, backend: Backends = "onnxruntime,openvino", latency: options.Latency = None,
    seconds: options.Seconds = None, jobs: train.Jobs = None, format: options.Format = "table",
    output: options.Output = None, quiet: options.Quiet = False,
) -> int:
    """Which placement of attention stands low precision better: simulated bits, and real int8 beside them."""
    options.check_format(format)
    from secost.pages.quantization import page
    from secost.studies import quantization as found

    with listening(4 * seeds + 8, quiet) as listener:
        result = found.quantization(
            model, bits=options.integers("bits", bits), placements=options.words(placement), attention=attention,
            reduction=reduction, dataset=dataset, data=data or "", seeds=seeds, epochs=epochs, qat_epochs=qat_epochs,
            learning_rate=learning_rate, backends=options.words(backend), latency=latency is not False,
            seconds=10.0 if seconds is None else seconds, jobs=jobs, out=output, listener=listener,
        )
    return _show(page(result), format, output)


def _show(page: PlainPage, format: str, output: str | None) -> int:
    from secost.render.plain_pages import write_pages

    if output:
        write_pages(page, Path(output))
        note(f"report in {output}")
    show_page(page, format)
    return 0

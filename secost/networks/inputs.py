"""What a network is run on: the user's example, an image made here, or image files as it expects them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, ModelLoadError, one_line

Example = Tensor | Sequence[Tensor]
_STEM_CHANNELS = 16  # a first convolution that takes more is no stem, or reads rearranged pixels
# ImageNet's, as torchvision's and most of timm's weights were trained with (RGB, of values 0 to 1).
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def inputs_for(net: nn.Module, resolution: int | None, example: Example | None) -> tuple[Tensor, ...]:
    """The inputs to trace with: the example, the network's own `example_input_array`, or a made image."""
    if example is not None:
        return as_inputs(example)
    own = getattr(net, "example_input_array", None)
    if own is not None:
        return as_inputs(own, "example_input_array")
    return image_input(net, resolution or 224)


def as_inputs(example: Example, name: str = "example") -> tuple[Tensor, ...]:
    """A tensor or a sequence of tensors as a tuple, cut to one sample where all share a first dimension."""
    inputs = tuple(example) if isinstance(example, list | tuple) else (example,)
    if not inputs or not all(isinstance(item, Tensor) for item in inputs):
        raise ModelLoadError(f"{name} is not a tensor or a sequence of tensors: give the inputs of one forward pass")
    sizes = {item.shape[0] if item.ndim else None for item in inputs}
    return tuple(item[:1] for item in inputs) if len(sizes) == 1 and None not in sizes else inputs


def image_input(net: nn.Module, resolution: int) -> tuple[Tensor, ...]:
    """A made image (1, 3, resolution, resolution), the same each time; of as many channels as a stem asks for."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    channels = 3 if first is None else _image_channels(first.in_channels)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, resolution, resolution, generator=generator)
    parameter = next((p for p in net.parameters() if p.is_floating_point()), None)
    return (image if parameter is None else image.to(parameter.dtype).to(parameter.device),)


def _image_channels(into_stem: int) -> int:
    """Channels of the image: the stem's, but for 3 * k * k of them, which are a colour image's pixels rearranged."""
    rearranged = into_stem % 3 == 0 and math.isqrt(into_stem // 3) ** 2 == into_stem // 3
    return 3 if rearranged or into_stem > _STEM_CHANNELS else into_stem


def read_image(path: Path, channels: int, height: int, width: int, convert: bool = True) -> Tensor:
    """One image as (1, C, H, W), values 0 to 1: resized to cover the size and cut at the centre.

    C is 1 (grey) or 3 (colours); an image with other channels is converted, or refused without `convert`. Raises
    BadSpecError for a file that can't be read.
    """
    from PIL import Image, ImageOps

    if channels not in (1, 3):
        raise BadSpecError(f"an image file has 1 or 3 channels, and the network takes {channels}: give another network")
    try:
        with Image.open(path) as file:
            bands = len(file.getbands()) if file.mode != "P" else 3
            colours = file.convert("RGB" if channels == 3 else "L")
            image = ImageOps.fit(colours, (width, height), Image.Resampling.BICUBIC)
    except Exception as error:  # a damaged file: the decoders raise many things
        raise BadSpecError(f"image {str(path)!r} can't be read: {one_line(error)}") from None
    if bands != channels and not convert:
        raise BadSpecError(f"image {str(path)!r} channels: {bands}, where the network takes {channels}: "
                           "convert it first")
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).to(torch.float32) / 255
    return values.reshape(1, height, width, channels).permute(0, 3, 1, 2).contiguous()


def normalisation(net: nn.Module | None, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation a channel, (1, C, 1, 1): timm's for its network, else ImageNet's."""
    known = getattr(net, "pretrained_cfg", None)
    moments = []
    for name, usual in (("mean", _MEAN), ("std", _STD)):
        values = known.get(name) if isinstance(known, dict) else None
        values = torch.tensor([float(value) for value in (values if values is not None else usual)])
        moments.append((values if len(values) == channels else values.mean().repeat(channels)).reshape(1, -1, 1, 1))
    return moments[0], moments[1]

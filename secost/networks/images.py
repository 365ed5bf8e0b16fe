"""Image files as the input that a network expects."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, one_line

# ImageNet's, as torchvision's and most of timm's weights were trained with (RGB, of values 0 to 1).
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    found = []
    for name, usual in (("mean", _MEAN), ("std", _STD)):
        values = known.get(name) if isinstance(known, dict) else None
        values = torch.tensor([float(value) for value in (values if values is not None else usual)])
        found.append((values if len(values) == channels else values.mean().repeat(channels)).reshape(1, -1, 1, 1))
    return found[0], found[1]

"""From a name to a network: timm, torchvision, transformers, a Python file, an importable module; its weights, inputs.

A network comes in eval mode, on the CPU, with random weights drawn from a fixed seed; torch's global random state is
left as it was. A user's weights are a state dict, as safetensors or as torch saves it, read without running any code.
What it is run on is the user's example, an image made here, or image files as it expects them.
Neighbours: `tracing` looks at what a network does, `surgery` changes it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, MissingExtraError, ModelLoadError, UnknownNameError, nearest, one_line
from secost.networks.families import FAMILIES, SMALL, check_small, load_scaled, load_small, parse_scaled
from secost.networks.importing import declare_missing_operators, import_timm, import_torchvision, user_function
from secost.registry import Registry

WEIGHT_SEED = 0
_WRAPPED = ("state_dict", "model_state_dict", "state_dict_ema", "model")
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")
_SHOWN = 3
Example = Tensor | Sequence[Tensor]
_STEM_CHANNELS = 16  # a first convolution that takes more is no stem, or reads rearranged pixels
# ImageNet's, as torchvision's and most of timm's weights were trained with (RGB, of values 0 to 1).
_MOMENTS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Source:
    """One way to a network: a prefix such as `torchvision:`, what it loads, and what it can list."""

    prefix: str
    summary: str
    load: Callable[[str, bool], nn.Module]
    names: Callable[[], list[str]]
    # The same with so many classes; None where they can't be chosen.
    with_classes: Callable[[str, bool, int], nn.Module] | None = None


SOURCES: Registry[Source] = Registry("model source")


def load(model: str, allow_download: bool = False, classes: int | None = None, seed: int = WEIGHT_SEED) -> nn.Module:
    """The network of that name, in eval mode, on the CPU, with random weights drawn from `seed`.

    `classes` asks for so many scores, where the source can do that (a factory takes them as `num_classes`). Raises
    UnknownNameError (a ModelLoadError for files) where there is no such network, ModelLoadError where building it
    fails. Weights are never downloaded; `allow_download` lets transformers fetch a config.
    """
    source, name = split_name(model)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the zoos warn of their own deprecations; they are not the user's
        torch.manual_seed(seed)
        try:
            if classes is None or source.with_classes is None:
                net = source.load(name, allow_download)
            else:
                net = source.with_classes(name, allow_download, classes)
        except (ModelLoadError, UnknownNameError, MissingExtraError):
            raise
        except (Exception, SystemExit) as error:  # a factory is other people's code: anything may come out of it
            raise ModelLoadError(f"{model!r} could not be built: {one_line(error)}") from error
    if not isinstance(net, nn.Module):
        raise ModelLoadError(f"{model!r} gave a {type(net).__name__}, expected a torch.nn.Module: return the network")
    return net.cpu().eval()


def split_name(model: str) -> tuple[Source, str]:
    """The source that a name belongs to and the name within it: `torchvision:resnet50`, `net.py:make`, `resnet50`."""
    if not isinstance(model, str) or not model:
        raise ModelLoadError(f"{model!r} is no model name: expected a text such as resnet50 or path/to/net.py:factory")
    prefix, colon, rest = model.partition(":")
    if colon and prefix in SOURCES.names():
        return SOURCES.get(prefix), rest
    path, colon, factory = model.rpartition(":")
    if not colon:
        if model.endswith(".py"):
            raise ModelLoadError(f"{model!r} names a file but no factory: write {model}:factory")
        return SOURCES.get("timm"), model
    if not factory:
        raise ModelLoadError(f"{model!r} names no factory after the colon: write {path}:factory")
    return (SOURCES.get("file") if path.endswith(".py") else SOURCES.get("module")), model


def check_name(model: str) -> None:
    """Raise for a name that can't be right, without building the network: cheap, for planning a sweep."""
    source, name = split_name(model)
    check = _CHECKS.get(source.prefix)
    if check is not None:
        check(name)


def load_example(name: str) -> tuple[Tensor, ...]:
    """The example inputs that `path.py:function` or `package.module:function` returns."""
    return as_inputs(user_function(name)(), name)


def inputs_for(net: nn.Module, resolution: int | None, example: Example | None) -> tuple[Tensor, ...]:
    """The inputs to trace with: the example, the network's own `example_input_array`, or a made image."""
    if example is not None:
        return as_inputs(example)
    own = getattr(net, "example_input_array", None)
    return image_input(net, resolution or 224) if own is None else as_inputs(own, "example_input_array")


def as_inputs(example: Example, name: str = "example") -> tuple[Tensor, ...]:
    """A tensor or a sequence of tensors as a tuple, cut to one sample where all share a first dimension."""
    inputs = tuple(example) if isinstance(example, list | tuple) else (example,)
    if not inputs or not all(isinstance(item, Tensor) for item in inputs):
        raise ModelLoadError(f"{name} is not a tensor or a sequence of tensors: give the inputs of one forward pass")
    sizes = {item.shape[0] if item.ndim else None for item in inputs}
    return tuple(item[:1] for item in inputs) if len(sizes) == 1 and None not in sizes else inputs


def image_input(net: nn.Module, resolution: int) -> tuple[Tensor, ...]:
    """A made image (1, 3, resolution, resolution), the same each time; of as many channels as a stem asks for."""
    into_stem = next((module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)), 3)
    # 3 * k * k of them are a colour image's pixels rearranged.
    rearranged = into_stem % 3 == 0 and math.isqrt(into_stem // 3) ** 2 == into_stem // 3
    channels = 3 if rearranged or into_stem > _STEM_CHANNELS else into_stem
    image = torch.randn(1, channels, resolution, resolution, generator=torch.Generator().manual_seed(0))
    parameter = next((p for p in net.parameters() if p.is_floating_point()), None)
    return (image if parameter is None else image.to(parameter.dtype).to(parameter.device),)


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
    config = getattr(net, "pretrained_cfg", None)
    moments = []
    for name, usual in _MOMENTS.items():
        known = config.get(name) if isinstance(config, dict) else None
        values = torch.tensor([float(value) for value in (usual if known is None else known)])
        moments.append((values if len(values) == channels else values.mean().repeat(channels)).reshape(1, -1, 1, 1))
    return moments[0], moments[1]


def load_weights(net: nn.Module, path: str | Path) -> nn.Module:
    """Load a file of weights into the network, in place, and return it.

    The file is a state dict, alone or under `state_dict` or `model`; prefixes of DistributedDataParallel and
    torch.compile are dropped. Raises BadSpecError for a file that can't be read, or whose keys or shapes are others:
    the first few are named.
    """
    weights, expected = _state_dict(Path(path)), net.state_dict()
    if weights.keys() != expected.keys():
        weights = {_PREFIXES.sub("", key): value for key, value in weights.items()}
    problems = _differences(weights, expected)
    if problems:
        raise BadSpecError(f"weights {str(path)!r} don't fit {type(net).__name__}: {'; '.join(problems)}")
    net.load_state_dict(dict(weights))
    return net


def wake_norms(net: nn.Module) -> nn.Module:
    """Give norms that start at zero, as timm's at the end of a residual branch, a weight of 1, in place.

    On random weights everything behind such a norm is zero, attention's map too, so that nothing can be studied there.
    """
    with torch.no_grad():
        for module in net.modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm) and \
                    weight is not None and not bool(weight.any()):
                weight.fill_(1.0)
    return net


def _check_timm(name: str) -> None:
    timm = import_timm()
    if not timm.is_model(name):
        raise _unknown_model(name, timm.list_models())
    bare, dot, _ = name.partition(".")
    if dot and name not in timm.list_pretrained(f"{bare}.*"):  # timm builds a network of any tag without its weights
        raise UnknownNameError("model", name, timm.list_pretrained(f"{bare}.*"))


def _load_timm(name: str, allow_download: bool, classes: int | None) -> Any:
    _check_timm(name)
    return import_timm().create_model(name, pretrained=False, **_wanted(classes))


def _wanted(classes: int | None) -> dict[str, Any]:
    return {} if classes is None else {"num_classes": classes}


def _check_torchvision(name: str) -> None:
    names = import_torchvision().models.list_models()
    if name not in names:
        raise _unknown_model(name, names)


def _load_torchvision(name: str, allow_download: bool, classes: int | None) -> Any:
    _check_torchvision(name)
    models = import_torchvision().models
    backbone = "weights_backbone" in models.get_model_builder(name).__annotations__
    return models.get_model(name, weights=None, **{"weights_backbone": None} if backbone else {}, **_wanted(classes))


def _unknown_model(name: str, known: list[str]) -> UnknownNameError:
    return UnknownNameError("model", name if nearest(name, known) else name.partition(".")[0], known)


def _check_file(name: str) -> None:
    path = name.rpartition(":")[0]
    if not Path(path).is_file():
        raise ModelLoadError(f"no file {path!r}: check the path")


_CHECKS: dict[str, Callable[[str], object]] = {
    "timm": _check_timm, "torchvision": _check_torchvision, "small": check_small, "scaled": parse_scaled,
    "file": _check_file,
}


def _load_transformers(name: str, allow_download: bool) -> Any:
    declare_missing_operators()
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise MissingExtraError("transformers", "transformers", f"transformers:{name}") from None
    config = _transformers_config(transformers, name, allow_download)
    for auto in (transformers.AutoModelForImageClassification, transformers.AutoModel):
        if type(config) in auto._model_mapping:
            return auto.from_config(config)
    raise ModelLoadError(f"transformers has no model for the config of {name!r}")


def _transformers_config(transformers: ModuleType, name: str, allow_download: bool) -> Any:
    if name in transformers.CONFIG_MAPPING:
        return transformers.AutoConfig.for_model(name)
    try:
        return transformers.AutoConfig.from_pretrained(name, local_files_only=not allow_download)
    except (OSError, ValueError) as error:
        if "/" not in name and not Path(name).exists():
            raise UnknownNameError("transformers model type", name, transformers.CONFIG_MAPPING) from None
        hint = "" if allow_download else "; a hub name needs --allow-download unless it is in the local cache"
        raise ModelLoadError(f"no transformers config at {name!r}{hint}: {one_line(error, 120)}") from None


def _list_transformers() -> list[str]:
    if importlib.util.find_spec("transformers") is None:
        return []
    declare_missing_operators()
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    return sorted(auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def _load_factory(name: str, allow_download: bool, classes: int | None) -> Any:
    """With `num_classes` where that is asked for and the factory takes it; what it gives is checked by its trainer."""
    factory = user_function(name)
    try:
        takes = classes is not None and "num_classes" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        takes = False
    return factory(num_classes=classes) if takes else factory()


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadSpecError(f"weights {str(path)!r} can't be read: {error.strerror or error}") from None
    except Exception:  # torch and safetensors raise many things for what is no file of theirs
        raise BadSpecError(f"weights {str(path)!r} can't be read: give a safetensors file, or a state dict that "
                           "torch.save wrote") from None
    for name in _WRAPPED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise BadSpecError(f"weights {str(path)!r} hold no state dict: save net.state_dict() or a safetensors file")
    return {str(key): value for key, value in loaded.items()}


def _differences(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    missing = [key for key in expected if key not in weights]
    unknown = [key for key in weights if key not in expected]
    other = [f"{key} {tuple(weights[key].shape)} for {tuple(expected[key].shape)}" for key in expected
             if key in weights and weights[key].shape != expected[key].shape]
    return [f"{len(keys)} {word}, {', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
            for word, keys in (("missing", missing), ("unknown", unknown), ("of another shape", other)) if keys]


def _of_any_classes(
    prefix: str, summary: str, build: Callable[[str, bool, int | None], Any], names: Callable[[], list[str]]
) -> Source:
    """A source that can build a network for any number of classes; None asks for the network's own."""
    return Source(prefix, summary, lambda name, allow_download: build(name, allow_download, None), names, build)


for _source in (
    _of_any_classes("timm", "a bare name, or timm:name", _load_timm, lambda: import_timm().list_models()),
    _of_any_classes(
        "torchvision", "torchvision:name", _load_torchvision, lambda: import_torchvision().models.list_models()
    ),
    _of_any_classes(
        "small", "small:resnet, small:vgg, small:mobile, small:shallow: for images of 8 to 64 px",
        lambda name, _, classes: load_small(name, classes), lambda: list(SMALL),
    ),
    _of_any_classes(
        "scaled", "scaled:name@DEPTHxWIDTH, or scaled:net.py:factory@DEPTHxWIDTH",
        lambda name, _, classes: load_scaled(name, classes), lambda: [f"{name}@1x1" for name in FAMILIES],
    ),
    Source("transformers", "transformers:type, from its config", _load_transformers, _list_transformers),
    _of_any_classes("file", "path/to/net.py:factory", _load_factory, list),
    _of_any_classes("module", "package.module:factory", _load_factory, list),
):
    SOURCES.register(_source.prefix, _source)

"""From a name to a network: timm, torchvision, transformers, a Python file, an importable module.

A network comes in eval mode, on the CPU, with random weights drawn from a fixed seed; torch's global random
state is left as it was. Neighbours: `tracing` looks at what a network does, `surgery` changes it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from secost.errors import MissingExtraError, ModelLoadError, UnknownNameError, nearest, one_line
from secost.registry import Registry

WEIGHT_SEED = 0
Example = torch.Tensor | Sequence[torch.Tensor]


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


def load(
    model: str, allow_download: bool = False, classes: int | None = None, seed: int = WEIGHT_SEED
) -> nn.Module:
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
    if source.prefix == "timm":
        _check_timm(name)
    elif source.prefix == "torchvision":
        _check_torchvision(name)
    elif source.prefix == "small" and name not in _list_small():
        raise UnknownNameError("small network", name, _list_small())
    elif source.prefix == "scaled":
        from secost.networks.scaled import parse_scaled

        parse_scaled(name)
    elif source.prefix == "file" and not Path(name.rpartition(":")[0]).is_file():
        raise ModelLoadError(f"no file {name.rpartition(':')[0]!r}: check the path")


def load_example(name: str) -> tuple[torch.Tensor, ...]:
    """The example inputs that `path.py:function` or `package.module:function` returns."""
    given = _factory(name)()
    return as_inputs(given, name)


def as_inputs(example: Example, name: str = "example") -> tuple[torch.Tensor, ...]:
    """A tensor or a sequence of tensors as a tuple, cut to one sample where all share a first dimension."""
    inputs = tuple(example) if isinstance(example, list | tuple) else (example,)
    if not inputs or not all(isinstance(item, torch.Tensor) for item in inputs):
        raise ModelLoadError(f"{name} is not a tensor or a sequence of tensors: give the inputs of one forward pass")
    sizes = {item.shape[0] if item.ndim else None for item in inputs}
    return tuple(item[:1] for item in inputs) if len(sizes) == 1 and None not in sizes else inputs


def declare_missing_operators() -> None:
    """Declare torchvision's operators where its compiled library does not load, so that it imports.

    A CPU build of torch beside a CUDA build of torchvision can't load torchvision's library, and the import then
    fails for the lack of `nms`, which no classification network calls. Real operators are left alone.
    """
    if "torchvision" in sys.modules or hasattr(torch.ops.torchvision, "nms"):
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        _fragment.define(schema)  # type: ignore[no-untyped-call]


# Kept for the life of the process: the declarations go when the library object goes.
_fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def import_torchvision() -> ModuleType:
    """The torchvision module, importable beside a CPU build of torch too."""
    declare_missing_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("torchvision")


def import_timm() -> ModuleType:
    """The timm module (it imports torchvision)."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("timm")


def _check_timm(name: str) -> None:
    timm = import_timm()
    if not timm.is_model(name):
        raise _unknown_model(name, timm.list_models())
    bare, dot, _ = name.partition(".")
    if dot and name not in timm.list_pretrained(f"{bare}.*"):  # timm builds a network of any tag without its weights
        raise UnknownNameError("model", name, timm.list_pretrained(f"{bare}.*"))


def _load_timm(name: str, allow_download: bool) -> nn.Module:
    return _timm_with_classes(name, allow_download, None)


def _timm_with_classes(name: str, allow_download: bool, classes: int | None) -> nn.Module:
    _check_timm(name)
    arguments = {} if classes is None else {"num_classes": classes}
    net: nn.Module = import_timm().create_model(name, pretrained=False, **arguments)
    return net


def _check_torchvision(name: str) -> None:
    names = _list_torchvision()
    if name not in names:
        raise _unknown_model(name, names)


def _load_torchvision(name: str, allow_download: bool) -> nn.Module:
    return _torchvision_with_classes(name, allow_download, None)


def _torchvision_with_classes(name: str, allow_download: bool, classes: int | None) -> nn.Module:
    _check_torchvision(name)
    models = import_torchvision().models
    arguments: dict[str, Any] = {"weights": None} | ({} if classes is None else {"num_classes": classes})
    if "weights_backbone" in models.get_model_builder(name).__annotations__:
        arguments["weights_backbone"] = None
    net: nn.Module = models.get_model(name, **arguments)
    return net


def _list_torchvision() -> list[str]:
    names: list[str] = import_torchvision().models.list_models()
    return names


def _unknown_model(name: str, known: list[str]) -> UnknownNameError:
    bare = name.partition(".")[0]
    return UnknownNameError("model", name, known) if nearest(name, known) else UnknownNameError("model", bare, known)


def _load_transformers(name: str, allow_download: bool) -> nn.Module:
    declare_missing_operators()
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise MissingExtraError("transformers", "transformers", f"transformers:{name}") from None
    config = _transformers_config(transformers, name, allow_download)
    for auto in (transformers.AutoModelForImageClassification, transformers.AutoModel):
        if type(config) in auto._model_mapping:
            net: nn.Module = auto.from_config(config)
            return net
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


def _load_factory(name: str, allow_download: bool) -> nn.Module:
    net: nn.Module = _factory(name)()
    return net


def _factory_with_classes(name: str, allow_download: bool, classes: int) -> nn.Module:
    """With `num_classes` where the factory takes it; what it gives otherwise is checked by whoever trains it."""
    factory = _factory(name)
    try:
        takes = "num_classes" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        takes = False
    net: nn.Module = factory(num_classes=classes) if takes else factory()
    return net


def _load_small(name: str, allow_download: bool) -> nn.Module:
    from secost.networks.small import load_small

    return load_small(name)


def _small_with_classes(name: str, allow_download: bool, classes: int) -> nn.Module:
    from secost.networks.small import load_small

    return load_small(name, classes)


def _list_small() -> list[str]:
    from secost.networks.small import SMALL

    return list(SMALL)


def _load_scaled(name: str, allow_download: bool) -> nn.Module:
    return _scaled_with_classes(name, allow_download, None)


def _scaled_with_classes(name: str, allow_download: bool, classes: int | None) -> nn.Module:
    from secost.networks.scaled import load_scaled

    return load_scaled(name, _factory, classes)


def _list_scaled() -> list[str]:
    from secost.networks.scaled import FAMILIES

    return [f"{name}@1x1" for name in FAMILIES]


def _factory(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    if not place:
        raise ModelLoadError(f"{name!r} names no function: write path.py:function or package.module:function")
    declare_missing_operators()  # the user's file may import torchvision, or what imports it
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    factory = getattr(module, attribute, None)
    if factory is None:
        near = nearest(attribute, [key for key, value in vars(module).items() if callable(value)])
        hint = f"did you mean {near[0]!r}?" if near else "name a function that returns the network"
        raise ModelLoadError(f"{place!r} has no {attribute!r}: {hint}")
    if isinstance(factory, nn.Module):
        return lambda: factory
    if not callable(factory):
        raise ModelLoadError(f"{name!r} is a {type(factory).__name__}, expected a function that returns the network")
    found: Callable[..., Any] = factory
    return found


def _import_file(path: Path) -> ModuleType:
    """A Python file as a module under a private name, so that no file of the user's shadows a library."""
    if not path.is_file():
        raise ModelLoadError(f"no file {str(path)!r}: check the path")
    path = path.resolve()
    name = f"secost_user_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelLoadError(f"{str(path)!r} can't be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling a network of the user's needs its classes to be found again
    _append_to_path(path.parent)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        place = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise ModelLoadError(f"{str(path)!r} is not a Python file that runs: {one_line(error)}{place}") from error
    return module


def _import_module(name: str) -> ModuleType:
    _append_to_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModelLoadError(
            f"can't import {name!r}: {one_line(error)}; expected timm's name, torchvision:name, "
            "transformers:type, path.py:factory or package.module:factory"
        ) from error


def _append_to_path(folder: Path) -> None:
    """The user's folder last on the path: it can add modules, not replace any."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _list_timm() -> list[str]:
    names: list[str] = import_timm().list_models()
    return names


def _nothing() -> list[str]:
    return []


for _source in (
    Source("timm", "a bare name, or timm:name", _load_timm, _list_timm, _timm_with_classes),
    Source("torchvision", "torchvision:name", _load_torchvision, _list_torchvision, _torchvision_with_classes),
    Source(
        "small", "small:resnet, small:vgg, small:mobile, small:shallow: for images of 8 to 64 px", _load_small,
        _list_small, _small_with_classes,
    ),
    Source(
        "scaled", "scaled:name@DEPTHxWIDTH, or scaled:net.py:factory@DEPTHxWIDTH", _load_scaled, _list_scaled,
        _scaled_with_classes,
    ),
    Source("transformers", "transformers:type, from its config", _load_transformers, _list_transformers),
    Source("file", "path/to/net.py:factory", _load_factory, _nothing, _factory_with_classes),
    Source("module", "package.module:factory", _load_factory, _nothing, _factory_with_classes),
):
    SOURCES.register(_source.prefix, _source)

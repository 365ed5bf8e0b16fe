"""Other people's code, imported: timm, torchvision (also beside a CPU build of torch), a user's file or module.

Nothing of theirs is run before it is needed, no file of the user's shadows a library, and what fails is one line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from secost.errors import ModelLoadError, nearest, one_line


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
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        _fragment.define(name + schema)  # type: ignore[no-untyped-call]


# Kept for the life of the process: the declarations go when the library object goes.
_fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def import_torchvision() -> ModuleType:
    """The torchvision module, importable beside a CPU build of torch too."""
    return import_quietly("torchvision")


def import_timm() -> ModuleType:
    """The timm module (it imports torchvision)."""
    return import_quietly("timm")


def import_quietly(name: str) -> ModuleType:
    """A module that is torchvision's or imports it, beside a CPU build of torch too, without its own warnings."""
    declare_missing_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def user_function(name: str) -> Callable[..., Any]:
    """The function that `path.py:function` or `package.module:function` names. Raises ModelLoadError for none."""
    place, _, attribute = name.rpartition(":")
    if not place:
        raise ModelLoadError(f"{name!r} names no function: write path.py:function or package.module:function")
    declare_missing_operators()  # the user's file may import torchvision, or what imports it
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    function: Any = getattr(module, attribute, None)
    if function is None:
        near = nearest(attribute, [key for key, value in vars(module).items() if callable(value)])
        hint = f"did you mean {near[0]!r}?" if near else "name a function that returns the network"
        raise ModelLoadError(f"{place!r} has no {attribute!r}: {hint}")
    if isinstance(function, nn.Module):
        return lambda: function
    if not callable(function):
        raise ModelLoadError(f"{name!r} is a {type(function).__name__}, expected a function that returns the network")
    return cast("Callable[..., Any]", function)


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

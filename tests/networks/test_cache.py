"""The cache: the same network hits, anything that a forward pass could depend on misses, trouble is no error."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secost.kept import cache_folder
from secost.networks import cache
from secost.networks.cache import Uncacheable, cached_trace, fingerprint
from secost.networks.sources import inputs_for, load

X = (torch.zeros(1, 3, 16, 16),)
SWITCH = True
TABLE = {"stride": 1}


class Configured(nn.Module):
    """Its forward looks at whatever `option` it is given."""

    flag = True

    def __init__(self, option: Any = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.option = option

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if SWITCH and self.flag and TABLE["stride"] else x


class Slotted:
    __slots__ = ("stride",)

    def __init__(self, stride: int) -> None:
        self.stride = stride


class Plain:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Forgetful(Plain):
    """What its copy has is not all it has."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def closure(stride: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x[:, :, ::stride]


def inner(stride: int) -> Callable[[Tensor], Tensor]:
    def one(x: Tensor) -> Tensor:
        return (lambda y: y + 1)(x)

    def two(x: Tensor) -> Tensor:
        return (lambda y: y * 2)(x)

    return one if stride == 1 else two


def key(option: Any = None) -> str:
    return fingerprint(Configured(option), X)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each trace that was really made."""
    made: list[int] = []
    real = cache.trace_image

    def counted(*args: Any) -> Any:
        made.append(1)
        return real(*args)

    monkeypatch.setattr(cache, "trace_image", counted)
    return made


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


# --- hits ------------------------------------------------------------------------------------------------------


def test_a_second_call_reads_what_the_first_wrote(folder: Path, passes: list[int]) -> None:
    first = cached_trace(nets.TinyResNet(), X)
    second = cached_trace(nets.TinyResNet(), X)
    assert second.to_dict() == first.to_dict() and len(passes) == 1 and len(files(folder)) == 1


def test_weights_are_no_part_of_the_key() -> None:
    net = nets.TinyResNet()
    before = fingerprint(net, X)
    nn.init.zeros_(net.conv1.weight)
    assert fingerprint(net.train(), X) == before == fingerprint(nets.TinyResNet(), X)


def test_a_forward_pass_in_between_changes_nothing(folder: Path, passes: list[int]) -> None:
    net = nets.ChangesBuffers()
    for _ in range(2):
        cached_trace(net, X)
    assert len(passes) == 1


# --- misses ----------------------------------------------------------------------------------------------------

DIFFERENT: dict[str, tuple[Any, Any]] = {
    "a number": (1, 2),
    "an int and a float": (1, 1.0),
    "a bool and an int": (True, 1),
    "an item of a list": ([1, [2]], [1, [3]]),
    "a list and a tuple": ([1], (1,)),
    "the order of a dict": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "a set": ({1, 2}, {1, 3}),
    "a lambda's constant": (lambda x: x + 1, lambda x: x + 2),
    "a closure": (closure(1), closure(2)),
    "a function inside a function": (inner(1), inner(2)),
    "a partial's argument": (functools.partial(F.pad, pad=(1, 1)), functools.partial(F.pad, pad=(2, 2))),
    "a default": ((lambda x, stride=1: x), (lambda x, stride=2: x)),
    "a slot": (Slotted(1), Slotted(2)),
    "an object's attribute": (Plain(stride=1), Plain(stride=2)),
    "an object's object": (Plain(inner=Plain(stride=1)), Plain(inner=Plain(stride=2))),
    "a bound method's object": (Plain(stride=1).__init__, Plain(stride=2).__init__),
    "a numpy array": (np.array([1, 2]), np.array([1, 3])),
    "a numpy array's type": (np.zeros(2, np.int32), np.zeros(1, np.int64)),
    "a tensor kept as an attribute": (torch.tensor([1.0]), torch.tensor([2.0])),
    "a module kept outside the tree": ([nn.MaxPool2d(2)], [nn.MaxPool2d(3)]),
    "a subclass of list": (type("L", (list,), {})([1]), [1]),
    "a class": (nn.ReLU, nn.GELU),
    "a builtin": (torch.relu, torch.sigmoid),
    "a dtype": (torch.float32, torch.float16),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_another_attribute_is_another_key(what: str) -> None:
    one, other = DIFFERENT[what]
    assert key(one) != key(other)


@pytest.mark.parametrize("what", DIFFERENT)
def test_the_same_attribute_is_the_same_key(what: str) -> None:
    one, _ = DIFFERENT[what]
    assert key(one) == key(one)


@pytest.mark.parametrize(("one", "other"), [
    (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 32)),
    (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.float64)),
    (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16).to(memory_format=torch.channels_last)),
], ids=["shape", "dtype", "layout"])
def test_another_input_is_another_key(one: Tensor, other: Tensor) -> None:
    assert fingerprint(Configured(), (one,)) != fingerprint(Configured(), (other,))


def changed_hook(net: Configured) -> None:
    net.conv.register_forward_hook(lambda module, args, output: output * 2)


def changed_forward(net: Configured) -> None:
    net.forward = lambda x: x  # type: ignore[method-assign]


def changed_dtype(net: Configured) -> None:
    net.double()


def changed_stride(net: Configured) -> None:
    net.conv.stride = (2, 2)


def changed_child(net: Configured) -> None:
    net.conv = nn.Conv2d(3, 8, 5, padding=2)


def changed_buffer(net: Configured) -> None:
    net.register_buffer("extra", torch.zeros(1))


@pytest.mark.parametrize("change", [changed_hook, changed_forward, changed_dtype, changed_stride, changed_child,
                                    changed_buffer])
def test_a_changed_network_is_another_key(change: Callable[[Configured], None]) -> None:
    net = Configured()
    before = fingerprint(net, X)
    change(net)
    assert fingerprint(net, X) != before


@pytest.mark.parametrize(("place", "name", "value"), [
    (Configured, "flag", False),
    (Configured, "forward", lambda self, x: x),
    (sys.modules[__name__], "SWITCH", False),
    (sys.modules[__name__], "TABLE", {"stride": 2}),
    (nn.Conv2d, "forward", lambda self, x: x),
], ids=["class attribute", "method", "global", "global table", "torch's own method"])
def test_what_is_changed_while_running_is_another_key(
    place: type | ModuleType, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key()
    monkeypatch.setattr(place, name, value)
    assert key() != before


def test_a_table_changed_in_place_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setitem(TABLE, "stride", 2)
    assert key() != before


def test_a_function_of_an_installed_package_that_is_replaced_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    net = load("efficientnet_b0")
    before = fingerprint(net, X)
    import timm.layers.squeeze_excite as squeeze_excite

    monkeypatch.setattr(squeeze_excite.SEModule, "forward", lambda self, x: x)
    monkeypatch.setattr(type(net.blocks[1][0].se), "forward", lambda self, x: x)
    assert fingerprint(net, X) != before


def test_autocast_is_another_key() -> None:
    before = key()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert key() != before


# --- what can't be told ----------------------------------------------------------------------------------------


class ReadsTheEnvironment(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * len(os.environ)


class ImportsLate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        import nets as late

        return late.F.relu(x)


@pytest.mark.parametrize("make", [
    lambda: Configured(Forgetful(stride=1)), lambda: Configured(open), lambda: Configured(iter([1])),
    lambda: Configured({object(), object()}), lambda: Configured(sys.stdout), ReadsTheEnvironment, ImportsLate,
    lambda: Configured(torch.zeros(3000, 3000)),
], ids=["own copying", "builtin function", "iterator", "set of objects", "file", "environment", "late import", "large"])
def test_what_cannot_be_compared_is_uncacheable_or_told_apart(make: Callable[[], nn.Module]) -> None:
    try:
        first = fingerprint(make(), X)
    except Uncacheable:
        return
    assert first == fingerprint(make(), X)


@pytest.mark.parametrize("make", [
    lambda: Configured(Forgetful(stride=1)), lambda: Configured(sys.stdout), ReadsTheEnvironment, ImportsLate,
], ids=["own copying", "file", "environment", "late import"])
def test_in_doubt_nothing_is_kept(make: Callable[[], nn.Module], folder: Path) -> None:
    with pytest.raises(Uncacheable):
        fingerprint(make(), X)
    cached_trace(make(), X)
    assert files(folder) == []


def test_a_global_hook_is_uncacheable() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        with pytest.raises(Uncacheable):
            fingerprint(Configured(), X)
    finally:
        handle.remove()


def test_a_graph_of_real_tensors_is_not_kept(folder: Path) -> None:
    cached_trace(nets.DataDependent(), X)
    assert files(folder) == []


# --- between processes -----------------------------------------------------------------------------------------

NET = """
    import torch
    from torch import nn
    from helper import widen

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
        def forward(self, x):
            return widen(self.conv(x)) + 1

    def make():
        return Net()
"""
HELPER = """
    def widen(x):
        return x.repeat(1, 2, 1, 1)
"""
SCRIPT = """
    import sys, torch
    from secost.networks.sources import load
    from secost.networks.cache import fingerprint
    print(fingerprint(load(sys.argv[1]), (torch.zeros(1, 3, 16, 16),)))
"""


def keys_in_processes(tmp_path: Path, edits: list[tuple[str, str, str]]) -> list[str]:
    """The key of a user's file, in one process after each edit (file, old, new) and one before all."""
    texts = {"net.py": NET, "helper.py": HELPER}
    found = []
    for edit in [None, *edits]:
        if edit is not None:
            name, old, new = edit
            assert old in texts[name]
            texts[name] = texts[name].replace(old, new)
        for name, text in texts.items():
            (tmp_path / name).write_text(textwrap.dedent(text))
        command = [sys.executable, "-B", "-c", textwrap.dedent(SCRIPT), f"{tmp_path / 'net.py'}:make"]
        found.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.mark.slow
def test_a_process_after_an_edit_has_another_key(tmp_path: Path) -> None:
    before, helped, back = keys_in_processes(tmp_path, [
        ("helper.py", "1, 2, 1, 1", "1, 3, 1, 1"), ("helper.py", "1, 3, 1, 1", "1, 2, 1, 1"),
    ])
    assert before == back != helped


def test_an_edited_file_has_another_key(tmp_path: Path) -> None:
    path, keys = tmp_path / "own.py", []
    for addend in (1, 2):
        path.write_text(textwrap.dedent(NET).replace("from helper import widen\n", "widen = torch.relu\n")
                        .replace("+ 1", f"+ {addend}"))
        keys.append(fingerprint(load(f"{path}:make"), X))
    assert keys[0] != keys[1]


def test_code_that_was_edited_after_its_import_keeps_the_key_of_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text(textwrap.dedent(NET).replace("from helper import widen\n", "widen = torch.relu\n"))
    net = load(f"{path}:make")
    before = fingerprint(net, X)
    path.write_text("raise SystemExit")
    assert fingerprint(net, X) == before


# --- trouble with the disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [
    b"", b"\xff\xfe", b"null", b"{}", b'{"nodes": [[1]]}', b"not json", b"[" * 5000,
])
def test_a_damaged_file_is_as_good_as_none(content: bytes, folder: Path, passes: list[int]) -> None:
    expected = cached_trace(nets.TinyResNet(), X).to_dict()
    (file,) = files(folder)
    file.write_bytes(content)
    assert cached_trace(nets.TinyResNet(), X).to_dict() == expected and len(passes) == 2


def test_a_file_with_one_figure_changed_is_not_believed(folder: Path) -> None:
    expected = cached_trace(nets.TinyResNet(), X).to_dict()
    (file,) = files(folder)
    checksum, _, text = file.read_text().partition("\n")
    values = json.loads(text)
    values["outputs"] = [0]
    file.write_text(f"{checksum}\n{json.dumps(values)}")
    assert cached_trace(nets.TinyResNet(), X).to_dict() == expected


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path / "file" / "cache"))
    assert cached_trace(nets.TinyResNet(), X).nodes


def test_an_empty_variable_turns_it_off(monkeypatch: pytest.MonkeyPatch, passes: list[int], tmp_path: Path) -> None:
    monkeypatch.setenv("SECOST_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        cached_trace(nets.TinyResNet(), X)
    assert len(passes) == 2 and not list(tmp_path.iterdir())


def test_without_the_variable_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SECOST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "secost"


# --- inputs ----------------------------------------------------------------------------------------------------


def test_the_made_image_is_the_same_each_time_and_takes_nothing_from_torchs_generator() -> None:
    net, state = nets.TinyResNet(), torch.get_rng_state()
    one, other = (inputs_for(net, 32, None) for _ in range(2))
    assert torch.equal(one[0], other[0]) and one[0].shape == (1, 3, 32, 32)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("channels", "made"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (12, 3), (48, 3), (64, 3)])
def test_the_made_image_has_the_channels_that_the_stem_takes(channels: int, made: int) -> None:
    assert inputs_for(nets.GreyScale(channels), 16, None)[0].shape == (1, made, 16, 16)


def test_the_made_image_has_the_networks_precision() -> None:
    assert inputs_for(nets.TinyResNet().double(), None, None)[0].dtype == torch.float64


def test_an_example_is_cut_to_one_sample() -> None:
    image, vector = inputs_for(nets.TwoInputs(), 224, (torch.zeros(8, 3, 16, 16), torch.zeros(8, 4)))
    assert (len(image), len(vector)) == (1, 1)
    (alone,) = inputs_for(nets.TinyResNet(), 224, torch.zeros(8, 3, 16, 16))
    assert len(alone) == 1


def test_a_networks_own_example_goes_before_the_made_image() -> None:
    net = nets.TinyResNet()
    net.example_input_array = torch.zeros(4, 3, 24, 24)
    assert inputs_for(net, 224, None)[0].shape == (1, 3, 24, 24)
    assert cached_trace(net, inputs_for(net, 224, None)).nodes[0].shape == [1, 3, 24, 24]

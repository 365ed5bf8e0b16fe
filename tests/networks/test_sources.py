"""Sources: from a name to a network, and one line for every name that is none."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from secost.errors import ModelLoadError, SecostError, UnknownNameError
from secost.networks.sources import SOURCES, as_inputs, check_name, load, load_example

FILE = """
    import torch
    from torch import nn

    network = nn.Conv2d(3, 4, 1)
    number = 3

    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())

    def needs_width(width):
        return nn.Conv2d(3, width, 1)

    def raises():
        raise ValueError("first line\\nsecond line")

    def gives_text():
        return "resnet"

    def example():
        return torch.zeros(4, 3, 8, 8), torch.zeros(4, 2)

    def bad_example():
        return {"x": 1}

    def leaves():
        raise SystemExit(3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(FILE))
    return path


def refused(name: str, check: bool = False) -> str:
    with pytest.raises(SecostError) as caught:
        (check_name if check else load)(name)
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__}: {caught.value}"


# --- what loads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18", "torchvision:resnet18"])
def test_the_zoos_networks_load_in_eval_mode_with_the_same_weights_each_time(name: str) -> None:
    one, other = load(name), load(name)
    assert not any(module.training for module in one.modules())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_transformers_model_type_loads_its_default_config() -> None:
    pytest.importorskip("transformers")
    net = load("transformers:mobilenet_v1")
    assert type(net).__name__ == "MobileNetV1ForImageClassification" and not net.training


def test_a_factory_in_a_file_and_a_module_in_it_load(file: Path) -> None:
    assert isinstance(load(f"{file}:make"), nn.Sequential)
    assert isinstance(load(f"{file}:network"), nn.Conv2d)


def test_a_relative_path_and_an_importable_module_load(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert isinstance(load("net.py:make"), nn.Sequential)
    assert isinstance(load("torch.nn:Identity"), nn.Identity)


def test_a_file_named_like_a_library_shadows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "json.py"
    path.write_text("from torch import nn\ndef make():\n    import json\n    json.dumps(1)\n    return nn.Identity()\n")
    load(f"{path}:make")


def test_an_edited_file_is_read_again(file: Path) -> None:
    load(f"{file}:make")
    file.write_text("from torch import nn\ndef make():\n    return nn.Identity()\n")
    assert isinstance(load(f"{file}:make"), nn.Identity)


def test_loading_takes_nothing_from_torchs_generator(file: Path) -> None:
    state = torch.get_rng_state()
    for name in ("resnet18", f"{file}:make"):
        load(name)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_zoos_list_their_names() -> None:
    for source, name in (("timm", "seresnet50"), ("torchvision", "resnet50"), ("transformers", "regnet")):
        assert name in SOURCES.get(source).names()


# --- what does not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "words"), [
    ("resnet51", "UnknownNameError: unknown model 'resnet51': did you mean resnet51q or "),
    ("seresnet50.nonsense_tag_1k", "unknown model"),
    ("torchvision:resnet5", "UnknownNameError: unknown model 'resnet5': did you mean resnet50 or "),
    ("transformers:regnett", "UnknownNameError: unknown transformers model type 'regnett': did you mean regnet"),
    ("transformers:no/such", "ModelLoadError: no transformers config at 'no/such'; a hub name needs --allow-download"),
    ("", "ModelLoadError: '' is no model name"),
    ("net.py", "ModelLoadError: 'net.py' names a file but no factory: write net.py:factory"),
    ("net.py:", "ModelLoadError: 'net.py:' names no factory after the colon"),
    ("no/such.py:make", "ModelLoadError: no file 'no/such.py': check the path"),
    ("no.such.package:make", "ModelLoadError: can't import 'no.such.package': ModuleNotFoundError"),
    ("torch.nn:Conv2dd", "ModelLoadError: 'torch.nn' has no 'Conv2dd': did you mean 'Conv2d'?"),
    ("torch.nn:Conv2d", "ModelLoadError: 'torch.nn:Conv2d' could not be built: TypeError"),
])
def test_a_name_that_is_none_is_one_line(name: str, words: str) -> None:
    if name.startswith("transformers:"):
        pytest.importorskip("transformers")
    assert words in refused(name)


@pytest.mark.parametrize(("factory", "words"), [
    ("mak", "has no 'mak': did you mean 'make'?"),
    ("number", "is a int, expected a function that returns the network"),
    ("needs_width", "could not be built: TypeError: needs_width() missing 1 required positional argument: 'width'"),
    ("raises", "could not be built: ValueError: first line second line"),
    ("gives_text", "gave a str, expected a torch.nn.Module: return the network"),
    ("leaves", "could not be built: SystemExit"),
])
def test_a_factory_that_gives_no_network_is_one_line(factory: str, words: str, file: Path) -> None:
    message = refused(f"{file}:{factory}")
    assert message.startswith("ModelLoadError") and words in message


@pytest.mark.parametrize(("content", "words"), [
    (b"def make(:\n", "is not a Python file that runs: SyntaxError"), (b"\x00\x01", "is not a Python file that runs"),
    (b"\xff\xfe\x00", "is not a Python file that runs"), (b"import no_such_module_of_mine\n", "ModuleNotFoundError"),
    (b"1 / 0\n", "ZeroDivisionError"), (b"raise SystemExit(3)\n", "SystemExit"),
])
def test_a_file_that_does_not_run_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(content)
    assert words in refused(f"{path}:make")
    assert not [name for name in sys.modules if name.startswith("secost_user_broken")]


@pytest.mark.parametrize("name", ["resnet51", "torchvision:resnet5", "no/such.py:make"])
def test_a_wrong_name_is_told_without_building_anything(name: str) -> None:
    refused(name, check=True)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    assert "no file" in refused(f"{tmp_path / 'folder.py'}:make")


# --- examples --------------------------------------------------------------------------------------------------


def test_an_example_comes_from_a_file_one_sample_of_it(file: Path) -> None:
    assert [tuple(item.shape) for item in load_example(f"{file}:example")] == [(1, 3, 8, 8), (1, 2)]


@pytest.mark.parametrize("given", [(), {"x": 1}, "text", [1, 2], 3])
def test_an_example_that_is_no_tensors_is_one_line(given: object) -> None:
    with pytest.raises(ModelLoadError, match="not a tensor or a sequence of tensors"):
        as_inputs(given)  # type: ignore[arg-type]


def test_inputs_of_different_first_dimensions_are_left_whole() -> None:
    assert [len(item) for item in as_inputs((torch.zeros(4, 3), torch.zeros(2, 3)))] == [4, 2]


# --- torchvision's operators -----------------------------------------------------------------------------------


def in_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(code)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timm_imports_where_torchvisions_library_does_not_load() -> None:
    assert in_process("""
        import torch
        def fails(path):
            raise OSError("libcudart.so: cannot open shared object file")
        torch.ops.load_library = fails
        from secost.networks.importing import import_timm
        timm = import_timm()
        print(timm.create_model("resnet18") is not None, hasattr(torch.ops.torchvision, "nms"))
    """) == "True True"


def test_real_operators_are_left_alone() -> None:
    assert in_process("""
        import torch
        def loads(path):
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.impl("nms", lambda dets, scores, iou_threshold: torch.arange(3), "CPU")
            kept.append(library)
        kept = []
        torch.ops.load_library = loads
        from secost.networks.importing import declare_missing_operators
        declare_missing_operators()
        print(torch.ops.torchvision.nms(torch.zeros(3, 4), torch.zeros(3), 0.5).tolist())
    """) == "[0, 1, 2]"


def test_unknown_names_are_errors_of_their_own() -> None:
    with pytest.raises(UnknownNameError):
        load("resnet51")

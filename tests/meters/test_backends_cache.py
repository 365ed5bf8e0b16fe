"""Converted models on disk: whole or not at all, by content, within bounds, gone with the process where not kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_nets
import torch
from torch import nn

from secost.meters.backends import conversion, converters
from secost.meters.backends.conversion import content_key, kept, tensors_key, under
from secost.networks import attended, surgery

X = (torch.zeros(1, 3, 32, 32),)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


def writing(text: str, calls: list[str] | None = None) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        if calls is not None:
            calls.append(text)
        (folder / "model.bin").write_text(text)

    return make


def test_an_entry_is_made_once_and_says_what_its_making_took() -> None:
    calls: list[str] = []
    first = kept("toy", "k" * 64, writing("a", calls))
    second = kept("toy", "k" * 64, writing("b", calls))
    assert calls == ["a"]
    assert (first.cached, second.cached) == (False, True)
    assert second.seconds == first.seconds
    assert (second.folder / "model.bin").read_text() == "a"


def test_another_key_or_kind_is_another_entry() -> None:
    kept("toy", "k" * 64, writing("a"))
    assert not kept("toy", "l" * 64, writing("b")).cached
    assert not kept("game", "k" * 64, writing("c")).cached


def test_what_was_interrupted_is_never_used_and_leaves_nothing(cache: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "model.bin").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept("toy", "k" * 64, half)
    assert list(cache.iterdir()) == []
    assert not kept("toy", "k" * 64, writing("whole")).cached


def test_what_was_killed_while_it_was_written_is_never_used(cache: Path) -> None:
    code = (
        "import os, pathlib; from secost.meters.backends.conversion import kept\n"
        "kept('toy', 'k' * 64, lambda f: ((f / 'model.bin').write_text('half'), os._exit(9)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert [path.name.startswith(".part-") for path in cache.iterdir()] == [True]
    entry = kept("toy", "k" * 64, writing("whole"))
    assert not entry.cached and (entry.folder / "model.bin").read_text() == "whole"


@pytest.mark.parametrize("damage", ["truncated", "changed", "removed", "undescribed"])
def test_a_damaged_entry_is_made_again(damage: str) -> None:
    entry = kept("toy", "k" * 64, writing("content"))
    model = entry.folder / "model.bin"
    if damage == "removed":
        model.unlink()
    elif damage == "undescribed":
        (entry.folder / "entry.json").write_text("{")
    else:
        model.write_text("conten" if damage == "truncated" else "Content")
    again = kept("toy", "k" * 64, writing("content"))
    assert not again.cached
    assert (again.folder / "model.bin").read_text() == "content"
    assert kept("toy", "k" * 64, writing("never")).cached


def test_where_another_process_was_faster_its_entry_is_used() -> None:
    def slow(folder: Path) -> None:
        kept("toy", "k" * 64, writing("theirs"))
        (folder / "model.bin").write_text("ours")

    entry = kept("toy", "k" * 64, slow)
    assert (entry.folder / "model.bin").read_text() == "theirs"
    assert len(list(entry.folder.parent.iterdir())) == 1


@pytest.mark.parametrize("how", [
    "unwritable", *(pytest.param(how, marks=pytest.mark.slow) for how in ("empty", "no key"))])
def test_where_nothing_can_be_kept_the_folder_goes_with_the_process(how: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "passing").mkdir()
    setting = {"empty": "", "unwritable": str(tmp_path / "file"), "no key": str(tmp_path / "cache")}[how]
    code = (
        "import os; from secost.meters.backends.conversion import kept\n"
        f"key = {None if how == 'no key' else 'k' * 64!r}\n"
        "entry = kept('toy', key, lambda f: (f / 'model.bin').write_text('x'))\n"
        "pid = os.fork()\n"
        "if pid == 0: raise SystemExit\n"  # a fork that ends in the usual way
        "os.waitpid(pid, 0)\n"
        "print(entry.cached, (entry.folder / 'model.bin').read_text())\n"
    )
    environment = {**os.environ, "SECOST_CACHE": setting, "TMPDIR": str(tmp_path / "passing")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False x\n"
    assert list((tmp_path / "passing").iterdir()) == []


def test_room_is_made_from_what_was_used_longest_ago_but_not_from_what_is_in_use(cache: Path) -> None:
    entries = [kept("toy", str(number) * 64, writing("x" * 1000)).folder for number in range(4)]
    now = time.time()
    for entry, age_s in zip(entries, (300.0, 500.0, 400.0, 1.0), strict=True):
        os.utime(entry / "entry.json", (now - age_s, now - age_s))
    conversion._make_room(cache, room_bytes=2500, spared_s=100.0)
    assert {path for path in entries if path.exists()} == {entries[0], entries[3]}
    conversion._make_room(cache, room_bytes=0, spared_s=350.0)
    assert {path for path in entries if path.exists()} == {entries[0], entries[3]}
    conversion._make_room(cache, room_bytes=0, spared_s=100.0)
    assert {path for path in entries if path.exists()} == {entries[3]}


def test_what_a_killed_process_left_goes_after_a_day(cache: Path) -> None:
    entry = kept("toy", "k" * 64, writing("x")).folder
    left = cache / ".part-left"
    left.mkdir()
    conversion._make_room(cache)
    assert left.exists()
    day_before_yesterday = time.time() - 172_800
    for path in (left, entry / "entry.json"):
        os.utime(path, (day_before_yesterday, day_before_yesterday))
    conversion._make_room(cache)
    assert not left.exists() and entry.exists()


def test_using_an_entry_makes_it_young() -> None:
    entry = kept("toy", "k" * 64, writing("a")).folder / "entry.json"
    os.utime(entry, (0.0, 0.0))
    kept("toy", "k" * 64, writing("b"))
    assert time.time() - entry.stat().st_mtime < 3600


# --- the key ----------------------------------------------------------------------------------------------------------


def attached(attention: str = "se", reduction: int = 4) -> nn.Module:
    with surgery.seeded(0):
        return surgery.attach(small_nets.residual().eval(), attention, reduction, resolution=32)


def test_equal_networks_have_one_key_and_each_change_has_another() -> None:
    keys = {"as it is": content_key(attached(), X)}
    assert content_key(attended.standalone(attached()), X) == keys["as it is"] is not None
    keys["another attention"] = content_key(attached("eca"), X)
    keys["another ratio"] = content_key(attached(reduction=8), X)
    keys["no attention"] = content_key(surgery.strip(attached(), 32), X)
    keys["another shape"] = content_key(attached(), (torch.zeros(2, 3, 32, 32),))
    for name in ("0.weight", "1.bn1.running_mean", "1.bn2.secost.fc1.bias"):
        net = attached()
        tensor = dict(net.named_parameters()).get(name, dict(net.named_buffers()).get(name))
        assert tensor is not None
        with torch.no_grad():
            tensor.view(-1)[-1] += 2**-10
        keys[name] = content_key(net, X)
    assert len(set(keys.values())) == len(keys)


def test_attention_at_another_side_of_a_block_has_another_key() -> None:
    keys = set()
    for integration in ("standard", "pre", "post", "identity"):
        with surgery.seeded(0):
            net = surgery.attach(small_nets.residual().eval(), "se", 4, integration=integration, resolution=32)
        keys.add(content_key(net, X))
    assert len(keys) == 4 and None not in keys


def test_the_key_is_the_same_from_process_to_process() -> None:
    code = (
        "import torch, small_nets; from secost.networks import surgery\n"
        "from secost.meters.backends.conversion import content_key\n"
        "with surgery.seeded(0): net = surgery.attach(small_nets.residual().eval(), 'se', 4, resolution=32)\n"
        "print(content_key(net, (torch.zeros(1, 3, 32, 32),)))\n"
    )
    keys = []
    for seed in ("7", "8"):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        keys.append(done.stdout.strip())
    assert keys[0] == keys[1] and len(keys[0]) == 64


def test_a_network_whose_content_cant_be_told_has_no_key() -> None:
    net = attached()
    net.odd = threading.Lock()  # type: ignore[assignment]
    assert content_key(net, X) is None
    assert under(None, "int8") is None


def test_the_key_leaves_the_networks_hooks_where_they_were() -> None:
    net = attached()
    before = net(torch.ones(X[0].shape))
    content_key(net, X)
    assert torch.equal(net(torch.ones(X[0].shape)), before)
    assert not torch.equal(surgery.strip(net, 32)(torch.ones(X[0].shape)), before)


def test_conditions_and_calibration_are_part_of_a_key() -> None:
    key = content_key(attached(), X)
    batches = ((torch.zeros(1, 3),), (torch.ones(1, 3),))
    keys = {key, under(key, "a"), under(key, "b"), under(key, "a", "b"), under(key, tensors_key(batches)),
            under(key, tensors_key(batches[::-1])), under(key, tensors_key(None))}
    assert len(keys) == 7


# --- what is done in a process of its own -----------------------------------------------------------------------------


def test_batches_come_back_as_they_were_saved(tmp_path: Path) -> None:
    batches = tuple((torch.full((2, 3), float(index)), torch.tensor([index])) for index in range(12))
    conversion.save_batches(batches, tmp_path / "batches.npz")
    found = list(converters._batches(str(tmp_path / "batches.npz")))
    assert [[array.tolist() for array in item] for item in found] == [
        [array.tolist() for array in item] for item in batches
    ]


def test_a_converter_gives_its_reason_in_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    def fails(**values: object) -> None:
        raise ValueError("no rule\nfor op X")

    monkeypatch.setitem(converters._CONVERTERS, "toy", fails)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"do": "toy", "source": "a"})))
    monkeypatch.setattr("logging.disable", lambda level: None)
    assert converters.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "ValueError: no rule"


def test_openvino_is_imported_without_its_telemetry() -> None:
    pytest.importorskip("openvino")
    code = (
        "import sys; from secost.meters.backends.converters import import_openvino\n"
        "import_openvino(); print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry')))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

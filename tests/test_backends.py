"""What runs a forward pass, and the state of the process while it is measured."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from torch import nn

from secost.errors import BadSpecError, UnknownNameError
from secost.meters import backends
from secost.meters.backends import BACKENDS, get_backend, measuring, steady_allocator


@pytest.mark.parametrize("name", BACKENDS.names())
def test_a_backend_runs_the_network_it_was_given(name: str) -> None:
    backend = BACKENDS.get(name)
    net, x = nn.Linear(3, 2).eval(), torch.ones(1, 3)
    run = backend.prepare(net, (x,))
    with measuring(1):
        result = run()
    assert isinstance(result, torch.Tensor)
    torch.testing.assert_close(result, net(x), check_stride=False)
    assert backend.name == name
    assert backend.summary
    assert "fp32" in backend.precisions
    assert "cpu" in backend.devices


def test_a_backend_sees_attention_that_is_switched_after_it_was_prepared() -> None:
    net = nn.Sequential(nn.Identity())
    run = get_backend("eager", "fp32", "cpu").prepare(net, (torch.ones(1),))
    handle = net[0].register_forward_hook(lambda module, args, output: output * 3)
    assert run() == torch.tensor([3.0])
    handle.remove()
    assert run() == torch.tensor([1.0])


def test_an_unknown_backend_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="eager"):
        get_backend("eagre", "fp32", "cpu")


@pytest.mark.parametrize(("precision", "device"), [("int8", "cpu"), ("fp32", "abacus")])
def test_what_a_backend_lacks_is_refused_with_what_it_has(precision: str, device: str) -> None:
    with pytest.raises(BadSpecError, match=r"backend 'eager' has no (precision|device) .* expected one of "):
        get_backend("eager", precision, device)


def test_threads_are_set_while_measuring_and_given_back() -> None:
    before = torch.get_num_threads()
    with measuring(before + 1):
        assert torch.get_num_threads() == before + 1
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"), measuring(before + 1):
        raise RuntimeError("broken")
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_without_glibc_the_allocator_is_left_alone(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: object) -> Any:
        raise error("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert steady_allocator() is False
    with measuring(1):
        pass


def test_the_allocator_keeps_what_it_has_where_it_is_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    assert steady_allocator() is True
    assert sorted(calls) == [(-3, backends._KEEP_BYTES), (-1, backends._KEEP_BYTES)]

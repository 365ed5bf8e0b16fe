"""A copy of a network as it runs now: same outputs, shared weights, and nothing of the original changed by it."""

from __future__ import annotations

import nets
import pytest
import small_nets
import torch
from torch import Tensor, nn

from secost.errors import SecostError
from secost.networks import attended, surgery
from secost.networks.attended import standalone
from secost.networks.surgery import Switch, build_placed
from secost.networks.tracing import eval_mode
from secost.plan.trials import BASELINE

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def switched() -> tuple[nn.Module, Switch]:
    with surgery.seeded(0):
        net = small_nets.residual().eval()
        switch = Switch(net, [])
        found = surgery.sites(net, resolution=32)
        switch.add("se", build_placed(net, found, "se", 4))
        switch.add("eca", build_placed(net, found, "eca", None))
    return net, switch


def storages(net: nn.Module) -> set[int]:
    return {item.untyped_storage().data_ptr() for item in (*net.parameters(), *net.buffers()) if item.numel()}


def test_it_is_the_variant_that_is_selected_and_stays_it() -> None:
    net, switch = switched()
    copies: dict[str, nn.Module] = {}
    expected: dict[str, Tensor] = {}
    with torch.no_grad():
        for label in ("none", "se", "eca"):
            expected[label] = switch.select(label)(X)
            copies[label] = standalone(net)
        for label, copied in copies.items():
            assert torch.equal(copied(X), expected[label])
        assert torch.equal(switch.select("se")(X), expected["se"])
    assert not torch.equal(expected["se"], expected["none"])


def test_copies_share_every_weight_with_the_original_and_each_other() -> None:
    net, switch = switched()
    own = storages(net)
    assert storages(standalone(switch.select("none"))) == own
    first, second = standalone(switch.select("se")), standalone(switch.select("se"))
    assert own < storages(first) == storages(second)
    assert all(first.get_parameter(name) is not item for name, item in net.named_parameters())


@pytest.mark.parametrize("change", [
    lambda copied: copied.to(torch.bfloat16), lambda copied: copied.to(memory_format=torch.channels_last),
    lambda copied: copied.to("meta"), lambda copied: copied.train(), lambda copied: surgery.strip(copied, 32),
])
def test_casting_moving_or_stripping_the_copy_leaves_the_original_as_it_was(change: object) -> None:
    net, switch = switched()
    with torch.no_grad():
        before = switch.select("se")(X)
        change(standalone(net))  # type: ignore[operator]
        assert torch.equal(net(X), before)
        assert torch.equal(switch.select("se")(X), before)
    assert all(item.dtype == torch.float32 and item.is_contiguous() for item in net.parameters())


def test_selected_attention_is_in_the_copys_tree_so_that_it_is_cast_with_it() -> None:
    net, switch = switched()
    copied = standalone(switch.select("se"))
    assert len(attended.attached_paths(copied)) == 2
    assert list(copied.state_dict()) == list(net.state_dict())
    assert not attended.attached_paths(switch.select(BASELINE))
    with torch.no_grad():
        assert copied.to(torch.bfloat16)(X.to(torch.bfloat16)).dtype == torch.bfloat16


def test_attention_that_was_attached_stays_registered_once() -> None:
    net = surgery.attach(small_nets.residual().eval(), "se", 4, resolution=32)
    assert list(standalone(net).state_dict()) == list(net.state_dict())


@pytest.mark.parametrize("integration", ["pre", "post", "identity"])
def test_every_integration_is_copied(integration: str) -> None:
    with surgery.seeded(0):
        net = surgery.attach(small_nets.residual().eval(), "se", 4, integration=integration, resolution=32)
    with torch.no_grad():
        assert torch.equal(standalone(net)(X), net(X))


@pytest.mark.parametrize("kind", [nets.TiedWeights, nets.Parametrized, nets.UserHooks, nets.NativeSE, nets.InPlace])
def test_odd_networks_are_copied_as_they_run(kind: type[nn.Module]) -> None:
    with surgery.seeded(0):
        net = kind().eval()
    copied = standalone(net)
    with torch.no_grad():
        torch.testing.assert_close(copied(X), net(X))
    assert sum(item.numel() for item in copied.parameters()) == sum(item.numel() for item in net.parameters())


def test_tied_weights_stay_tied() -> None:
    copied = standalone(nets.TiedWeights())
    assert copied.first.weight is copied.second.weight  # type: ignore[union-attr]


def test_a_copy_made_in_inference_mode_can_still_be_trained_and_exported() -> None:
    net = small_nets.residual()
    with torch.inference_mode():
        copied = standalone(net)
    assert not any(item.is_inference() for item in (*copied.parameters(), *copied.buffers()))
    copied(X).sum().backward()
    assert next(copied.parameters()).grad is not None
    assert next(net.parameters()).grad is None


def test_frozen_weights_stay_frozen() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    net[0].requires_grad_(False)
    assert [item.requires_grad for item in standalone(net).parameters()] == [False, False, True, True]


def test_the_mode_is_kept() -> None:
    net = small_nets.residual().train()
    assert standalone(net).training
    with eval_mode(net):
        assert not any(module.training for module in standalone(net).modules())


class Uncopyable(nn.Module):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("cannot pickle\na lock")


def test_a_network_that_cant_be_copied_is_one_line() -> None:
    message = r"^Sequential can't be copied for a backend: TypeError: cannot pickle a lock$"
    with pytest.raises(SecostError, match=message):
        standalone(nn.Sequential(Uncopyable()))

"""Tracing: the graph of one forward pass, on the meta device where it can be, and nothing left behind."""

from __future__ import annotations

import warnings

import nets
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secost.errors import BadSpecError
from secost.networks import tracing
from secost.networks.tracing import CONSTANT, ForwardError, Graph, attention_macs, eval_mode, trace, trace_image

X = (torch.zeros(1, 3, 16, 16),)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


class Function(nn.Module):
    """A network that is one function."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> object:
        return self.function(*args)  # type: ignore[operator]


def test_each_operation_has_its_operands_shape_and_module() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), X)
    image, conv, relu = graph.nodes
    assert (image.op, conv.op, relu.op) == ("input", "convolution", "relu")
    assert (conv.inputs, conv.path) == ([0, CONSTANT, CONSTANT], "0")
    assert (conv.shape, conv.weight_shape) == ([1, 4, 14, 14], [4, 3, 3, 3])
    assert (relu.inputs, relu.path, graph.outputs) == ([1], "1", [2])
    assert conv.flop_macs == 4 * 14 * 14 * 3 * 9


def test_a_call_tells_what_went_into_a_module_and_what_came_out() -> None:
    graph = trace(nets.NativeSE(by_name=True), X)
    call = next(call for call in graph.calls if call.path == "1.se")
    assert call.inputs == [] and len(call.keywords) == 1 and len(call.outputs) == 1
    assert call.start <= call.outputs[0] < call.end


def test_a_network_runs_on_the_meta_device_where_it_can_and_on_real_tensors_otherwise() -> None:
    assert trace(nets.TinyResNet(), X).on_meta
    assert not trace(nets.DataDependent(), (torch.ones(1, 3, 16, 16),)).on_meta


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "model output", "dataclass"])
def test_outputs_are_found_in_any_container(kind: str) -> None:
    graph = trace(nets.OddOutputs(kind), X)
    assert [graph.nodes[index].shape for index in graph.outputs] == [[1, 10], [1, 16, 16, 16]]


def test_what_does_not_depend_on_the_input_is_constant() -> None:
    graph = trace(Function(lambda x: x + torch.ones(3, 1, 1, device=x.device)), X)
    assert graph.nodes[graph.outputs[0]].inputs == [0, CONSTANT]


def test_a_write_into_a_slice_reaches_the_whole() -> None:
    def partial(x: Tensor) -> Tensor:
        whole = x.clone()
        whole[:, :1] = torch.sigmoid(whole[:, :1])
        return whole * 1

    graph = trace(Function(partial), X)
    sigmoid = ops(graph).index("sigmoid")
    assert graph.ancestors[graph.outputs[0]] >> sigmoid & 1


def test_parts_of_a_split_are_values_of_their_own() -> None:
    graph = trace(Function(lambda x: x.split(1, 1)[2]), X)
    assert graph.nodes[graph.outputs[0]].dims == [2]


def test_attention_kernels_are_counted_by_their_shapes() -> None:
    query = torch.zeros(2, 4, 10, 8)
    graph = trace(Function(lambda q: F.scaled_dot_product_attention(q, q, q)), (query,))
    assert sum(node.flop_macs for node in graph.nodes) == attention_macs([2, 4, 10, 8], [2, 4, 10, 8], [2, 4, 10, 8])
    assert attention_macs([2, 4, 10, 8], [2, 4, 10, 8], [2, 4, 10, 8]) == 2 * 4 * 10 * 10 * 16


def test_a_graph_comes_back_from_plain_values() -> None:
    graph = trace(nets.SharedBlock(), X)
    assert Graph.from_dict(graph.to_dict()) == graph


def test_an_error_that_the_network_catches_does_not_mix_up_its_modules() -> None:
    class Fallible(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong, self.right = nn.Conv2d(5, 5, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(x) + 1

    graph = trace(Fallible(), X)
    assert [call.path for call in graph.calls if call.outputs] == ["", "right"]
    assert graph.nodes[graph.outputs[0]].path == ""


def test_the_reason_of_a_failure_is_one_line() -> None:
    with pytest.raises(ForwardError) as caught:
        trace(nets.Broken(), X)
    assert str(caught.value) == "RuntimeError: this network never works"


def test_a_failure_names_a_larger_resolution_only_where_that_helps() -> None:
    with pytest.raises(ForwardError):
        trace_image(nets.Broken(), X[0])
    with pytest.raises(BadSpecError, match="64 does, give --resolution"):
        trace_image(nn.Sequential(nn.AvgPool2d(32), nn.Conv2d(3, 4, 1)), X[0])


def test_eval_mode_gives_each_module_its_own_flag_back() -> None:
    net = nets.TinyResNet().train()
    net.layer1.bn1.eval()
    flags = [module.training for module in net.modules()]
    with pytest.raises(ZeroDivisionError), eval_mode(net):
        assert not any(module.training for module in net.modules())
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == flags


def test_shapes_that_are_known_already_give_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def net(*args: Tensor) -> Tensor:
        x = F.conv2d(args[0], torch.ones(4, 3, 3, 3, device=args[0].device))
        gate = x.mean((2, 3), keepdim=True).sigmoid().expand_as(x)
        return F.batch_norm(x * gate + gate.double() * 2, x.new_ones(4), x.new_ones(4)).flatten(1) @ x.new_ones(784, 2)

    monkeypatch.setattr(tracing, "_known_shapes", {})
    first = trace(Function(net), X)
    assert first.on_meta and tracing._known_shapes
    by_heart = trace(Function(net), X)
    monkeypatch.setattr(tracing, "_run", lambda func, args, kwargs: func(*args, **kwargs))
    assert first.to_dict() == by_heart.to_dict() == trace(Function(net), X).to_dict()


@pytest.mark.parametrize("on_cpu", [False, True], ids=["on meta", "on real tensors"])
def test_what_a_forward_keeps_is_put_back(on_cpu: bool) -> None:
    net = nets.ChangesBuffers(on_cpu)
    graph = trace(net, X)
    assert graph.on_meta != on_cpu
    assert net.grid is None and net.seen == [] and net.steps.item() == 0
    net(torch.zeros(1, 3, 16, 16))  # and it still runs


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_weight_norm_survives_being_traced() -> None:
    net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)))
    net(X[0])
    trace(net, X)
    assert net[0].weight.device.type == "cpu"


def test_random_operations_take_nothing_from_torchs_generator() -> None:
    state = torch.get_rng_state()
    trace(Function(lambda x: x + torch.rand(1, 3, 16, 16)), X)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_networks_warnings_stay_inside() -> None:
    def warn(x: Tensor) -> Tensor:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return x + 1

    trace(Function(warn), X)


def test_no_global_hook_is_left_behind() -> None:
    trace(nets.TinyResNet(), X)
    with pytest.raises(ForwardError):
        trace(nets.Broken(), X)
    left = {name: value for name, value in vars(nn.modules.module).items() if name.startswith("_global_") and value}
    assert left == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_is_traced_through() -> None:
    scripted = torch.jit.trace(nn.Conv2d(3, 4, 1), X[0])
    assert "convolution" in " ".join(ops(trace(nn.Sequential(scripted, nn.ReLU()), X)))

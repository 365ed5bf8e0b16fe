"""What operations cost: MACs of layers, by fvcore on real tensors under handles set here, and all that is no MAC.

fvcore traces with TorchScript, where a composite operation keeps its name (`matmul`, `einsum`, `lstm`), and leaves
out what no output needs; `networks.tracing` sees the kernels that run. Two ways to one number, which `counts`
holds against each other. fvcore's own table charges norms and pooling modules too, and depends on spelling. A block
that is in the graph what an earlier one is, operation for operation, of the same class and settings, has its count.

Elementary operations that are no MACs (`other_ops`), for each class of operation:

- element by element (additions, products that are no gate, activations, sigmoids, comparisons): one for each element
  put out, however many instructions an exponential takes;
- norms: two for each element put out, a multiplication and an addition, as inference runs a norm whose statistics
  are folded or known (in train mode too: counting is always done in eval mode);
- reductions and pooling (means, sums, maxima, softmax, pooling, folding, resizing): one for each element of the
  larger side, read or put out; an element that lies in several windows counts once;
- copies (concatenation, padding, indexing, type conversion) and allocations: none, they only move memory;
- views: none, and they are not launched either.

An operation that is in no class is not guessed at: it is named in `Cost.unsupported_ops`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from secost.errors import CountError
from secost.kept import read_kept, write_kept
from secost.networks.cache import content_file
from secost.networks.tracing import Graph, Node, attention_macs, attributes_kept, buffers_kept, eval_mode

if TYPE_CHECKING:
    from fvcore.nn.jit_analysis import JitModelAnalysis

# fvcore calls a handle with TorchScript values of an operation's operands and results.
Handle = Callable[[Sequence[Any], Sequence[Any]], int]
_CACHE_VERSION = 3  # rises with every change of a handle
_FVCORE_LOGGERS = ("fvcore", "fvcore.nn.jit_analysis")
_ELEMENTWISE = """
    add sub rsub mul div neg abs exp expm1 exp2 log log1p log2 sqrt rsqrt pow square reciprocal sign sin cos atan2 floor
    ceil round trunc fmod remainder floor_divide sigmoid tanh relu relu6 silu gelu hardswish hardsigmoid hardtanh
    leaky_relu elu celu selu mish softplus softshrink hardshrink rrelu rrelu_with_noise _prelu_kernel prelu clamp
    clamp_min clamp_max maximum minimum addcmul addcdiv erf where lerp masked_fill threshold log_sigmoid_forward glu
    bitwise_not bitwise_and bitwise_or logical_not logical_and logical_or eq ne lt le gt ge isnan nan_to_num
"""
_REDUCTIONS = """
    mean sum amax amin aminmax max min any all var std var_mean std_mean _softmax _log_softmax _safe_softmax softmax
    logsumexp prod norm linalg_vector_norm cumsum argmax argmin topk sort avg_pool1d avg_pool2d avg_pool3d max_pool2d
    max_pool2d_with_indices max_pool3d_with_indices _adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d adaptive_max_pool3d col2im
"""
_COPIES = """
    clone copy _to_copy cat stack constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d contiguous fill
    zero zeros ones full zeros_like ones_like full_like arange index index_put gather scatter roll flip repeat
    repeat_interleave new_zeros new_ones new_full scalar_tensor lift_fresh_copy native_dropout slice_scatter
    select_scatter embedding index_select unfold im2col pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle linspace tril triu eye masked_select _unsafe_index _unsafe_masked_index meshgrid
    bernoulli uniform normal rand randn rand_like randn_like exponential unsafe_split split_copy
    split_with_sizes_copy
"""
# Views that change their tensor's own shape: torch marks them as writing, though they move nothing.
_VIEWS_IN_PLACE = frozenset("as_strided_ squeeze_ unsqueeze_ transpose_ t_ swapaxes_ resize_ set_".split())
_CLASSES = {
    **dict.fromkeys(_ELEMENTWISE.split(), "elementwise"),
    **dict.fromkeys(_REDUCTIONS.split(), "reduction"),
    **dict.fromkeys(_COPIES.split(), "copy"),
}
_NORM_MARKS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
_RESIZES = ("upsample", "_upsample")


def fvcore_macs(net: nn.Module, inputs: tuple[Tensor, ...], graph: Graph | None = None) -> int:
    """MACs of convolutions, linear layers, recurrent layers, matrix products and einsum.

    `graph`, the trace of this very network, tells whether a steady pass is the second, and which blocks are alike.
    Raises CountError inside a torch dispatch mode, where fvcore gives a wrong total without a word.
    """
    if graph is None:
        return fvcore_macs_by_module(net, inputs)[""]
    alike = _alike(net, graph) if graph.on_meta else {}
    with attributes_kept(net):
        for path, (_, shape) in alike.items():
            net.get_submodule(path).forward = _stand_in(shape)
        counts = fvcore_macs_by_module(net, inputs, graph.second)

    def whole(path: str) -> int:
        inside = [twin for stub, (twin, _) in alike.items() if not path or stub.startswith(f"{path}.")]
        return counts[path] + sum(map(whole, inside))

    return whole("")


def _stand_in(shape: Sequence[int]) -> Callable[..., Tensor]:
    """Puts out what hangs on its inputs and has the shape: without work, and what leads here is still needed."""
    def forward(*inputs: Any, **named: Any) -> Tensor:
        firsts = [item.flatten()[:1] for item in inputs if isinstance(item, Tensor)]
        return torch.stack(firsts).sum(0).expand(*shape).contiguous()

    return forward


def _alike(net: nn.Module, graph: Graph) -> dict[str, tuple[str, list[int]]]:
    """Modules that are in the graph what an earlier one is: by path the earlier one's path, and the output's shape."""
    names = Counter(id(module) for _, module in net.named_modules(remove_duplicate=False))
    earlier: dict[Any, str] = {}
    alike: dict[str, tuple[str, list[int]]] = {}
    end = 0
    for call in graph.calls:  # outermost first
        module = net.get_submodule(call.path)
        # What hooks do is told by the graph as outside the call, by fvcore as inside.
        own = all(names[id(part)] == 1 and not isinstance(part, torch.jit.ScriptModule)
                  and not part._forward_hooks and not part._forward_pre_hooks for part in module.modules())
        if call.start >= end and call.path and own and (content := graph.content(call)):
            twin = earlier.setdefault((type(module), repr(module), content), call.path)
            if twin != call.path:
                alike[call.path], end = (twin, graph.nodes[call.outputs[0]].shape), call.end
    return alike


def fvcore_macs_by_module(net: nn.Module, inputs: tuple[Tensor, ...], second: bool = False) -> Counter[str]:
    """The same for every module by its path, what it contains included; `""` is the whole network."""
    if _get_current_dispatch_mode() is not None:
        raise CountError("fvcore miscounts inside a torch dispatch mode: leave the mode before counting")
    with _tracing_quietly(net):
        from fvcore.nn.jit_analysis import JitModelAnalysis

        if second:
            net(*inputs)
        analysis = _quiet(JitModelAnalysis(_PlainOutputs(net), inputs).set_op_handle(**_handles()))
        counts = analysis.by_module()
    prefix = f"{_PlainOutputs.CHILD}."
    inside = {name.removeprefix(prefix): int(count) for name, count in counts.items() if name.startswith(prefix)}
    return Counter({"": int(counts[""]), **inside})


def cached_fvcore_macs(net: nn.Module, inputs: tuple[Tensor, ...], graph: Graph | None = None) -> int:
    """`fvcore_macs`, kept on disk under the network's content, as `networks.cache` keeps traces."""
    path = content_file("macs", net, inputs, str(_CACHE_VERSION), version("fvcore"))
    macs = read_kept(path, int)
    if macs is None:
        macs = fvcore_macs(net, inputs, graph)
        write_kept(path, macs)
    return macs


def fvcore_total(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """What fvcore itself says, with its own table: norms and adaptive pooling too."""
    with _tracing_quietly(net):
        from fvcore.nn import FlopCountAnalysis

        return int(_quiet(FlopCountAnalysis(net, inputs)).total())


def _quiet(analysis: JitModelAnalysis) -> JitModelAnalysis:
    """An analysis that tells its result and nothing else: what was not counted is in `Cost.unsupported_ops`."""
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return analysis


@contextlib.contextmanager
def _tracing_quietly(net: nn.Module) -> Iterator[None]:
    """Eval mode, no warnings, and afterwards the network and torch's globals as they were, also where it raises."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    hooks = [(table, dict(table)) for module in net.modules()
             for table in (module._forward_hooks, module._forward_pre_hooks)]
    levels = [(logger, logger.level) for logger in map(logging.getLogger, _FVCORE_LOGGERS)]
    with (
        eval_mode(net), buffers_kept(net), attributes_kept(net), torch.no_grad(), torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for logger, _ in levels:
            logger.setLevel(logging.ERROR)
        # Fused in one operation, an attention layer's products could not be told.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            for logger, level in levels:
                logger.setLevel(level)
            for table, content in hooks:  # fvcore leaves its own on a network that raises
                if list(table) != list(content):
                    table.clear()
                    table.update(content)


class _PlainOutputs(nn.Module):
    """The network with its outputs as a plain tuple of tensors, which a jit trace can take."""

    CHILD = "net"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.add_module(self.CHILD, net)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_flat_tensors(self.get_submodule(self.CHILD)(*inputs)))


def _flat_tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict | list | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _flat_tensors(value)


def _handles() -> dict[str, Handle]:
    from fvcore.nn.jit_handles import conv_flop_jit, linear_flop_jit

    def added_product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        return _product(inputs[1:], outputs)

    return {
        "aten::_convolution": conv_flop_jit, "aten::_convolution_mode": _convolution_by_mode,
        "aten::linear": linear_flop_jit,
        "aten::mm": _product, "aten::bmm": _product, "aten::matmul": _product, "aten::mv": _product,
        "aten::dot": _product, "aten::vdot": _product, "aten::inner": _inner, "aten::tensordot": _tensordot,
        "aten::addmm": added_product, "aten::baddbmm": added_product,
        "aten::einsum": _einsum, "aten::scaled_dot_product_attention": _attention,
        **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), _recurrent),
    }


def _shape(value: Any) -> list[int]:
    from fvcore.nn.jit_handles import get_shape

    return list(get_shape(value))


def _listed(value: Any) -> list[Any]:
    return list(value.node().inputs())  # the members of a TorchScript list


def _convolution_by_mode(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    # `padding="same"` and `"valid"`, which TorchScript has as an operation of its own
    return math.prod(_shape(outputs[0])) * math.prod(_shape(inputs[1])[1:])


def _product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def _inner(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    left, right = _shape(inputs[0]), _shape(inputs[1])
    return math.prod(_shape(outputs[0])) * left[-1] if left and right else 0


def _tensordot(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    left, dims = _shape(inputs[0]), [dim.toIValue() for dim in _listed(inputs[2])]
    contracted: int = math.prod(left[dim] for dim in dims)
    return math.prod(_shape(outputs[0])) * contracted


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return attention_macs(*(_shape(value) for value in inputs[:3]))


def _recurrent(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Each weight matrix is applied once a step and sample; the input is (steps, samples, width) or the like."""
    weights = (_shape(value) for value in _listed(inputs[2]))
    return math.prod(_shape(inputs[0])[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def _einsum(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    path = inputs[2].toIValue() if len(inputs) > 2 else None
    return einsum_macs(inputs[0].toIValue(), [_shape(value) for value in _listed(inputs[1])], path)


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] | None = None) -> int:
    """MACs of an einsum as torch carries it out: two operands at a time, from the left or along `path`.

    Letters that only one operand has and nobody needs are summed up first. A pair without a letter to sum over is
    a plain product, no MAC; sizes of 1 are no letters (they broadcast).
    """
    terms, output = _einsum_labels(equation, [len(shape) for shape in shapes])
    operands = [
        {label: size for label, size in zip(term, shape, strict=True) if size != 1}
        for term, shape in zip(terms, shapes, strict=True)
    ]
    macs, steps = 0, list(path or ())
    while len(operands) > 1:
        first, second = (steps.pop(0), steps.pop(0)) if steps else (0, 1)
        a, b = operands[first], operands[second]
        operands = [item for index, item in enumerate(operands) if index not in (first, second)]
        needed = set(output).union(*operands)
        both = {**a, **b}
        kept = {label: size for label, size in both.items() if label in needed or (label in a and label in b)}
        if kept.keys() - needed:
            macs += math.prod(kept.values())
        result = {label: size for label, size in kept.items() if label in needed}
        operands = [*operands, result] if path else [result, *operands]
    return macs


def _einsum_labels(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """Each operand's labels and the output's; an ellipsis stands for `.1`, `.2`, ... counted from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    labels = [_expand(term, count) for term, count in zip(terms, hidden, strict=True)]
    if arrow:
        return labels, _expand(right, max(hidden))
    counts = Counter(left.replace("...", "").replace(",", ""))
    return labels, _expand("...", max(hidden)) + sorted(label for label, count in counts.items() if count == 1)


def _expand(term: str, hidden: int) -> list[str]:
    before, dots, after = term.partition("...")
    return [*before, *(f".{index}" for index in range(hidden, 0, -1) if dots), *after]


# --- operations that are no MACs ------------------------------------------------------------------------------------


def is_view(node: Node) -> bool:
    """Whether an operation moves no data, and so is not launched."""
    return node.view or node.op in _VIEWS_IN_PLACE


def other_ops(node: Node) -> int | None:
    """Elementary operations of a node that is no MAC; None where it is not known what it does."""
    by_class = {
        "norm": 2 * node.numel, "reduction": max(node.in_numel, node.numel), "elementwise": node.numel, "copy": 0,
    }
    return by_class.get(operation_class(node.op) or "")


def operation_class(op: str) -> str | None:
    """`elementwise`, `norm`, `reduction` or `copy`; None for an operation that is not known."""
    op = op.removesuffix("_")
    if any(mark in op for mark in _NORM_MARKS):
        return "norm"
    if op.startswith(_RESIZES):
        return "reduction"
    return _CLASSES.get(op)

"""Elementary operations that are no MACs (`other_ops`): what one is, for each class of operation.

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

from secost.networks.tracing import Node

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


def is_view(node: Node) -> bool:
    """Whether an operation moves no data, and so is not launched."""
    return node.view or node.op in _VIEWS_IN_PLACE


def other_ops(node: Node) -> int | None:
    """Elementary operations of a node that is no MAC; None where it is not known what it does."""
    match operation_class(node.op):
        case "norm":
            return 2 * node.numel
        case "reduction":
            return max(node.in_numel, node.numel)
        case "elementwise":
            return node.numel
        case "copy":
            return 0
    return None


def operation_class(op: str) -> str | None:
    """`elementwise`, `norm`, `reduction` or `copy`; None for an operation that is not known."""
    op = op.removesuffix("_")
    if any(mark in op for mark in _NORM_MARKS):
        return "norm"
    if op.startswith(_RESIZES):
        return "reduction"
    return _CLASSES.get(op)

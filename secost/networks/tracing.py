"""One forward pass seen from below: every operation, which tensors it read and made, and in which module.

A dispatch mode over the meta device gives the graph without weights or arithmetic; where a network can't run
there, the same pass runs on real tensors. `sites` and `recognition` read the graph, the meters sum it up, and
`cache` keeps it on disk. Nothing here knows what attention is. Long, as what a pass does to a network and what is
read of it belong together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import operator
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, reduce
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from secost.errors import BadSpecError, SecostError, one_line
from secost.networks.attended import kind_of, plain_names

CONSTANT = -1  # an operand that does not depend on the network's input: a parameter, a buffer, a made tensor
_ALLOCATIONS = ("_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "detach", "lift_fresh", "alias")
_LIKE = ("new_", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like")
SPLITTERS = ("split", "split_with_sizes", "chunk", "unbind", "tensor_split")
_CONTAINERS = (list, dict, set, OrderedDict)
_MOST_SHAPES = 10_000  # remembered
_TRIED_RESOLUTIONS = (64, 128, 224, 256, 299, 384)


class ForwardError(SecostError):
    """The network's own forward failed; the message is one line."""


@dataclass
class Node:
    """One operation and the tensor it made.

    `inputs` are node indices in the order of the tensor operands, CONSTANT for what does not depend on the input;
    `shape` is the output's; `path` is the innermost module it ran in. `view` operations move no data. `bytes` is what
    it read and wrote, `flop_macs` the MACs that torch's own counter gives it, `weight_shape` a convolution's kernel.
    """

    op: str
    inputs: list[int]
    shape: list[int]
    path: str
    view: bool = False
    bytes: int = 0
    in_numel: int = 0
    flop_macs: int = 0
    weight_shape: list[int] | None = None
    stride: int = 1
    groups: int = 1
    dims: list[int] | None = None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass
class Call:
    """One call of one module: which values went in and came out, and the range of nodes run meanwhile.

    `inputs` are the tensors among the positional arguments, `keywords` those given by name. `one_tensor` tells that it
    was called with one tensor and nothing else, and gave one.
    """

    path: str
    kind: str
    inputs: list[int]
    outputs: list[int]
    start: int
    end: int
    keywords: list[int] = field(default_factory=list)
    one_tensor: bool = False


@dataclass
class Graph:
    """All operations and module calls of one forward pass, in the order they ran. Node 0.. are the inputs."""

    nodes: list[Node] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    inputs: int = 0
    on_meta: bool = True
    second: bool = False  # the pass after the first, which kept something for it

    @cached_property
    def ancestors(self) -> list[int]:
        """For each node a bit mask of all nodes it depends on, itself included."""
        masks: list[int] = []
        for index, node in enumerate(self.nodes):
            of_inputs = (masks[source] for source in node.inputs if source != CONSTANT)
            masks.append(reduce(operator.or_, of_inputs, 1 << index))
        return masks

    @cached_property
    def needed(self) -> int:
        """A bit mask of the nodes that some output depends on: a TorchScript trace leaves out the others."""
        return reduce(operator.or_, (self.ancestors[output] for output in self.outputs), 0)

    def last_common(self, first: int, second: int) -> int:
        """The last node that both depend on; -1 where there is none."""
        return (self.ancestors[first] & self.ancestors[second]).bit_length() - 1

    @cached_property
    def consumers(self) -> list[list[int]]:
        """For each node the nodes that read it."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in dict.fromkeys(node.inputs):
                if source != CONSTANT:
                    readers[source].append(index)
        return readers

    @cached_property
    def depends(self) -> list[bool]:
        """For each node whether it depends on the network's input at all."""
        return [index < self.inputs or any(s != CONSTANT for s in node.inputs) for index, node in enumerate(self.nodes)]

    def between(self, source: int, target: int) -> Iterator[int]:
        """The nodes on any way from `source` to `target`, both ends left out."""
        for index in range(source + 1, target):
            if self.ancestors[target] >> index & 1 and self.ancestors[index] >> source & 1:
                yield index

    def content(self, call: Call) -> str | None:
        """All operations of a call, told without where in the graph they stand; None where no output needs its layers,
        values go in and out elsewhere than by its inputs and its one output, or its modules run elsewhere too."""
        inside, within = range(call.start, call.end), f"{call.path}."
        outside = {source for index in inside for source in self.nodes[index].inputs} - {CONSTANT, *inside}
        leaves = {index for index in inside
                  if index in self.outputs or max(self.consumers[index], default=0) >= call.end}
        through = outside <= {*call.inputs} and leaves <= {*call.outputs} <= {*inside} and len(call.outputs) == 1
        apart = all(f"{self.nodes[index].path}.".startswith(within) for index in inside) and all(
            call.start <= other.start and other.end <= call.end for other in self.calls if other is call
            or f"{other.path}.".startswith(within))
        layers = [index for index in inside if self.nodes[index].flop_macs]
        needed = bool(layers) and all(self.needed >> index & 1 for index in layers)
        if not (through and apart and needed and call.inputs and not call.keywords):
            return None
        places = {**{source: f"in{place}" for place, source in enumerate(call.inputs)},
                  **{index: str(index - call.start) for index in inside}, CONSTANT: ""}
        rows = [(replace(node, inputs=[], path=node.path[len(call.path):]), [places[source] for source in node.inputs])
                for node in self.nodes[call.start:call.end]]
        return repr((places[call.outputs[0]], rows))

    def to_dict(self) -> dict[str, Any]:
        return {
            "nodes": [list(asdict(node).values()) for node in self.nodes],
            "calls": [list(asdict(call).values()) for call in self.calls],
            "outputs": self.outputs, "inputs": self.inputs, "on_meta": self.on_meta, "second": self.second,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Graph:
        nodes, calls = [Node(*row) for row in values["nodes"]], [Call(*row) for row in values["calls"]]
        return cls(nodes, calls, values["outputs"], values["inputs"], values["on_meta"], values["second"])


def trace(net: nn.Module, inputs: tuple[torch.Tensor, ...], dtype: torch.dtype | None = None) -> Graph:
    """The graph of a steady forward pass in eval mode, as if network and inputs had been cast to `dtype` where one is
    given. The network is left as it was.

    Raises ForwardError with the network's own reason where it can't run.
    """
    try:
        return _trace_on(net, inputs, True, dtype)
    except Exception:  # many networks make tensors of their own on the CPU: then the real pass decides
        try:
            return _trace_on(net, inputs, False, dtype)
        except Exception as error:
            raise ForwardError(one_line(error)) from error


def trace_image(net: nn.Module, image: torch.Tensor, dtype: torch.dtype | None = None) -> Graph:
    """`trace` with one square image; tells a resolution that is too small from a network that is broken."""
    try:
        return trace(net, (image,), dtype)
    except ForwardError as error:
        resolution = image.shape[-1]
        for larger in (size for size in _TRIED_RESOLUTIONS if size > resolution):
            with contextlib.suppress(ForwardError):
                trace(net, (image.new_zeros(*image.shape[:2], larger, larger),), dtype)
                raise BadSpecError(
                    f"resolution {resolution} does not fit this network ({error}): {larger} does, give --resolution"
                ) from None
        raise


@contextlib.contextmanager
def eval_mode(net: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each module's own train/eval flag comes back after it."""
    flags = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _trace_on(net: nn.Module, inputs: tuple[torch.Tensor, ...], meta: bool, dtype: torch.dtype | None) -> Graph:
    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to("meta" if meta else tensor.device, dtype if tensor.is_floating_point() else None)

    def recorded() -> Graph:
        recorder = _Recorder(net)
        with recorder.watching_modules():
            return recorder.run(forward, images, on_meta=meta)

    with contextlib.ExitStack() as stack:
        # In inference mode operations come undivided (conv2d, batch_norm), which is another graph.
        for guard in (eval_mode(net), torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]),
                      warnings.catch_warnings(), contextlib.nullcontext() if meta else buffers_kept(net)):
            stack.enter_context(guard)
        warnings.simplefilter("ignore")
        changed = stack.enter_context(attributes_kept(net))
        forward: Callable[..., Any] = net
        if meta or dtype is not None:
            state = {name: moved(tensor) for name, tensor in (*net.named_parameters(), *net.named_buffers())}
            forward = lambda *given: torch.func.functional_call(net, state, given)  # noqa: E731
        images = tuple(map(moved, inputs))
        graph = recorded()
        # What a first pass makes and keeps, a steady one finds there.
        return replace(recorded(), second=True) if changed() else graph


@contextlib.contextmanager
def attributes_kept(net: nn.Module) -> Iterator[Callable[[], bool]]:
    """Put back what a forward keeps on its modules: a grid made once, a weight that a hook computes, a counter. Gives
    a test whether there is any such thing.

    Made on the meta device it has no data, and the network would be broken by having been looked at.
    """
    tables = [module.__dict__ for module in net.modules() if not isinstance(module, torch.jit.ScriptModule)]
    held = [value for table in tables for value in table.values() if type(value) in _CONTAINERS]
    kept = [(container, container.copy()) for container in (*tables, *held)]
    try:
        yield lambda: not all(_same(*pair) for pair in kept)
    finally:
        for container, content in kept:
            if not _same(container, content):
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)


def _same(one: Any, other: Any) -> bool:
    """Whether two lists, dicts or sets hold the very same objects in the same order."""
    alike = len(one) == len(other) and all(map(operator.is_, one, other))
    return alike and not (isinstance(one, dict) and any(map(operator.is_not, one.values(), other.values())))


@contextlib.contextmanager
def buffers_kept(net: nn.Module) -> Iterator[None]:
    """Undo what a forward does to its buffers: a step counter, a running mean kept by hand."""
    kept = [(module, name, buffer, buffer.detach().clone()) for module in net.modules()
            for name, buffer in module._buffers.items() if buffer is not None]
    try:
        yield
    finally:
        for module, name, buffer, before in kept:
            with torch.no_grad():
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
            module._buffers[name] = buffer


class _OpenCall(NamedTuple):
    """A module call that has begun: the inputs as they came in, before the module's own pre-hooks."""

    path: str
    start: int
    inputs: list[int]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes each operation down as it is dispatched, with the module that is running."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self._names = {id(module): name for name, module in reversed(plain_names(net).items())}
        self._known: Any = WeakTensorKeyDictionary()
        self._bases: Any = WeakTensorKeyDictionary()
        self._open = [_OpenCall("", 0, [])]

    def run(self, forward: Callable[..., Any], inputs: tuple[torch.Tensor, ...], on_meta: bool) -> Graph:
        self.graph.on_meta, self.graph.inputs = on_meta, len(inputs)
        for item in inputs:
            self._add(Node("input", [], list(item.shape), ""), item)
        with self:
            result = forward(*inputs)
        self.graph.outputs = self._indices(result)
        self.graph.calls.sort(key=lambda call: (call.start, -call.end))
        return self.graph

    @contextlib.contextmanager
    def watching_modules(self) -> Iterator[None]:
        # Global hooks leave the network's own hooks untouched, and run before them; a call whose error the network
        # catches ends too.
        before = nn.modules.module.register_module_forward_pre_hook(self._enter)
        after = nn.modules.module.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()
            nn.modules.module._global_forward_hooks_with_kwargs.pop(after.id, None)  # torch forgets this entry

    def _enter(self, module: nn.Module, args: Any) -> None:
        name = self._names.get(id(module), self._open[-1].path)
        inputs = self._indices([item for item in args if isinstance(item, torch.Tensor)])
        self._open.append(_OpenCall(name, len(self.graph.nodes), inputs))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        call = self._open.pop()
        if id(module) in self._names:
            kind, end = kind_of(module), len(self.graph.nodes)
            outputs, keywords = self._indices(output), self._indices(kwargs)
            alone = len(args) == 1 and not kwargs and all(isinstance(item, torch.Tensor) for item in (*args, output))
            self.graph.calls.append(Call(call.path, kind, call.inputs, outputs, call.start, end, keywords, alone))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = _tensors((args, kwargs))
        sources = [self._known.get(operand, CONSTANT) for operand in operands]
        output = _run(func, args, kwargs) if self.graph.on_meta else func(*args, **kwargs)
        results = _tensors(output)
        if results:
            self._record(func, args, kwargs, operands, sources, results)
        if _is_alias(func._schema.arguments, written=True) and operands and operands[0] in self._bases:
            self._write_through(operands[0])
        return output

    def _write_through(self, part: torch.Tensor) -> None:
        """A write into a slice (x[:, :8] = y) makes a new value of the whole as well."""
        whole = self._bases[part]
        if part.numel() == whole.numel():
            return
        sources = [self._known.get(whole, CONSTANT), self._known.get(part, CONSTANT)]
        self._add(Node("slice_scatter", sources, list(whole.shape), self._open[-1].path, view=True), whole)

    def _record(self, func: Any, args: Any, kwargs: Any, operands: list[torch.Tensor], sources: list[int],
                results: list[torch.Tensor]) -> None:
        op = func._schema.name.removeprefix("aten::")
        if op.startswith(_LIKE):  # made in the shape or type of a tensor, not of its values
            sources = [CONSTANT] * len(sources)
        view = op in _ALLOCATIONS or _is_alias(func._schema.returns, written=False)
        node = Node(op, sources, list(results[0].shape), self._open[-1].path, view)
        node.in_numel = operands[0].numel() if operands else 0
        if not view:
            node.bytes = sum(_bytes(item) for item in operands) + sum(_bytes(item) for item in results)
        if func.overloadpacket in flop_registry:
            count = flop_registry[func.overloadpacket](*args, **kwargs, out_val=results[0])
            node.flop_macs = int(count) // 2
        elif op.startswith("_scaled_dot_product"):  # torch's counter knows some of these kernels only
            node.flop_macs = attention_macs(*(list(item.shape) for item in operands[:3]))
        _add_details(node, args)
        self._add(node, results[0])
        if view and operands and results[0] is not operands[0]:
            self._bases[results[0]] = self._bases.get(operands[0], operands[0])
        for part, result in enumerate(results[1:], start=1):
            if op in SPLITTERS:  # parts of a split are values of their own
                self._add(Node(op, sources, list(result.shape), node.path, True, dims=[part]), result)
            else:
                self._known[result] = self._known[results[0]]

    def _add(self, node: Node, tensor: torch.Tensor) -> None:
        made_of_input = node.op == "input" or any(source != CONSTANT for source in node.inputs)
        self._known[tensor] = len(self.graph.nodes) if made_of_input else CONSTANT
        self.graph.nodes.append(node)

    def _indices(self, values: Any) -> list[int]:
        indices = [self._known.get(item, CONSTANT) for item in _tensors(values)]
        return [index for index in indices if index != CONSTANT]


_known_shapes: dict[Any, list[tuple[Any, ...]]] = {}


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation on the meta device, which gives shapes alone: those that the same one gave before are not worked
    out again, as torch does that in Python. Not of operations that give views or write."""
    schema = func._schema
    if any(part.alias_info is not None for part in (*schema.arguments, *schema.returns)):
        return func(*args, **kwargs)
    key = (func, torch.get_default_dtype(), _key(args), _key(tuple(sorted(kwargs.items()))))
    if key in _known_shapes:
        made = [torch.empty_strided(*shape, dtype=dtype, device="meta") for *shape, dtype in _known_shapes[key]]
        return made[0] if len(schema.returns) == 1 else tuple(made)
    output = func(*args, **kwargs)
    results = output if isinstance(output, tuple) else (output,)
    if len(_known_shapes) >= _MOST_SHAPES:
        _known_shapes.clear()
    if all(type(item) is torch.Tensor and item.device.type == "meta" for item in results):
        _known_shapes[key] = [(item.shape, item.stride(), item.dtype) for item in results]
    return output


def _key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return type(value), value.shape, value.stride(), value.dtype, value.device.type
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return type(value), value


def _tensors(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = [getattr(values, part.name, None) for part in dataclasses.fields(values)]
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def attention_macs(query: list[int], key: list[int], value: list[int]) -> int:
    """MACs of scaled dot-product attention: query (..., L, E) on key (..., S, E), and on value (..., S, V)."""
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _is_alias(values: Any, written: bool) -> bool:
    """Whether the first of an operation's results or arguments stands for another tensor, which it writes to or not."""
    alias = values[0].alias_info if values else None
    return alias is not None and alias.is_write == written


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes behind a tensor; an expanded one is as small as what it was expanded from."""
    distinct = math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
    return distinct * tensor.element_size()


def _add_details(node: Node, args: Any) -> None:
    if node.op in ("convolution", "_convolution") and isinstance(args[1], torch.Tensor):
        node.weight_shape = list(args[1].shape)
        node.stride = max(args[3])
        node.groups = args[8]
    elif node.op == "permute":
        node.dims = [dim % len(node.shape) for dim in args[1]]
    elif node.op == "transpose":
        node.dims = list(range(len(node.shape)))
        node.dims[args[1]], node.dims[args[2]] = node.dims[args[2]], node.dims[args[1]]
    elif node.op in ("slice", "select", "narrow", *SPLITTERS):
        dim = args[1] if node.op in ("slice", "select", "narrow") and len(args) > 1 else 0
        node.dims = [dim % max(len(node.shape), 1)]

"""The networks of alternatives: what the time of attention could be spent on, ready to be counted and timed beside it.

A rival is without attention, like the network that it stands beside, and answers the same question: as many inputs, as
many scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from secost.errors import BadSpecError, one_line
from secost.meters.counts import Cost, network_cost
from secost.networks.cache import cached_trace
from secost.networks.sources import inputs_for
from secost.networks.surgery import strip
from secost.networks.tracing import Graph, eval_mode
from secost.plan.alternatives import split_alternative
from secost.plan.trials import Setting

if TYPE_CHECKING:
    from secost.work.comparison import Networks


@dataclass(frozen=True)
class Rival:
    """A network, the inputs, of one sample, that it is run on, and its graph of these."""

    net: nn.Module
    inputs: tuple[Tensor, ...]
    graph: Graph

    def cost(self, dtype: torch.dtype | None) -> Cost:
        """For one image; bytes by the precision of `dtype`."""
        with eval_mode(self.net):
            graph = self.graph if dtype is None else cached_trace(self.net, self.inputs, dtype)
            return network_cost(self.net, self.inputs, graph)


def rival_of(name: str, setting: Setting, net: nn.Module, graph: Graph, networks: Networks) -> Rival:
    """The alternative of that name, beside a network without attention and its graph.

    Raises BadSpecError where it can't be built or run, or has other scores than the network.
    """
    model, resolution = split_alternative(name, setting.model)
    try:
        if model == setting.model:
            other, inputs = net, _resized(net, resolution, networks)
        else:
            other = networks.beside(model)
            inputs = inputs_for(other, resolution or setting.resolution, networks.example)
            strip(other, example=inputs)
        with eval_mode(other):
            rival = Rival(other, inputs, cached_trace(other, inputs))
        mine, theirs = _scores(graph), _scores(rival.graph)
    except Exception as error:  # other people's networks: building and running one may raise anything
        raise BadSpecError(f"alternative {name!r} can't stand beside {setting.model}: {one_line(error)}") from error
    if mine != theirs:
        raise BadSpecError(f"alternative {name!r} gives {theirs} scores and {setting.model} {mine}: name one that "
                           "answers the same question")
    return rival


def _resized(net: nn.Module, resolution: int | None, networks: Networks) -> tuple[Tensor, ...]:
    inputs = inputs_for(net, resolution, networks.example)
    if resolution is None or inputs[0].shape[-1] != resolution:
        raise BadSpecError("it has inputs of its own, so it is run at no other resolution")
    return inputs


def _scores(graph: Graph) -> list[int]:
    """The channels of every output: of a classifier the number of its classes."""
    shapes = [graph.nodes[output].shape for output in graph.outputs]
    return [shape[1] for shape in shapes if len(shape) > 1]

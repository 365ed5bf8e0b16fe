"""Makes the Plan of a spec, and holds the networks that it is about: what must be known of them before anything runs.

A network is loaded once for comparisons that follow one another, planning among them, and traced once for each input.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from secost.errors import BadSpecError
from secost.meters import environment
from secost.meters.backends.offered import get_backend, not_offered
from secost.networks.attention import has_reduction
from secost.networks.cache import cached_trace
from secost.networks.hooks import attached_paths
from secost.networks.inputs import Example, inputs_for
from secost.networks.sites import find_sites
from secost.networks.sources import check_name, load
from secost.networks.tracing import Graph
from secost.plan.options import DEFAULT_REDUCTIONS
from secost.plan.spec import Spec
from secost.plan.trials import BASELINE, NATIVE, Plan, Setting
from secost.plan.variants import check_spellings

_Conditions = tuple[str, str, str, str]


class Networks:
    """Networks by name, the last one kept; who gets it leaves it as it was found.

    `net` stands for every name where the user gave a module, `example` for its inputs. `classes` asks for so many
    scores.
    """

    def __init__(self, allow_download: bool = False, classes: int | None = None, net: nn.Module | None = None,
                 example: Example | None = None) -> None:
        self.allow_download, self.classes, self.example = allow_download, classes, example
        self.given = net is not None
        self._name, self._net = "", net
        self._graphs: dict[tuple[object, ...], Graph] = {}

    def get(self, model: str) -> nn.Module:
        """The network of that name."""
        if not self.given and (self._net is None or self._name != model):
            self._net = None  # gone before the next one comes: two at a time take twice the memory
            self._graphs.clear()
            self._net, self._name = load(model, self.allow_download, self.classes), model
        assert self._net is not None
        return self._net

    def trace(self, inputs: tuple[torch.Tensor, ...], state: str = NATIVE) -> Graph:
        """The graph of the network that was asked for last, in a state that the caller has put it in."""
        assert self._net is not None
        key = (state, *(item.shape for item in inputs))
        if key not in self._graphs:
            self._graphs[key] = cached_trace(self._net, inputs)
        return self._graphs[key]


def make_plan(spec: Spec, networks: Networks | None = None) -> Plan:
    """The plan of a spec. Raises UnknownNameError for a model, attention or backend that does not exist.

    With `networks` the usual reductions are those that fit the one network of the spec: what the user asked for is
    never changed, but refused where it does not fit.
    """
    if networks is None or not networks.given:
        for model in spec.models:
            check_name(model)
    notes: list[str] = []
    if networks is not None and spec.reductions == DEFAULT_REDUCTIONS and len(spec.models) == 1:
        spec = _fitting(spec, networks, notes)
    reducible = {name: has_reduction(name) for name in spec.attention if name not in (BASELINE, NATIVE)}
    _check_threads(spec)
    runnable = _runnable(spec)
    comparisons = spec.comparisons(reducible, check_spellings(spec.spelling, spec.attention))
    kept = (c for c in comparisons if _conditions_of(c.setting) in runnable)
    return Plan(spec, tuple(kept), _left_out(spec), tuple(notes))


def _fitting(spec: Spec, networks: Networks, notes: list[str]) -> Spec:
    """The spec without those usual reductions that the network's narrowest site is too narrow for."""
    try:
        if not any(has_reduction(name) for name in spec.attention if name not in (BASELINE, NATIVE)):
            return spec
        net = networks.get(spec.models[0])
        graph = networks.trace(inputs_for(net, spec.resolution[0], networks.example))
        grid = itertools.product(spec.placement, spec.integration, spec.stages)
        narrowest = min(
            (site.channels for where in grid for site in find_sites(graph, *where, attached_paths(net))), default=0
        )
    except Exception:  # whatever is wrong with the request is told where it is carried out
        return spec
    kept = [r for r in spec.reductions if r <= narrowest]
    if not kept or len(kept) == len(spec.reductions):
        return spec
    lost = ", ".join(str(r) for r in spec.reductions if r not in kept)
    notes.append(f"a site of {spec.models[0]} has {narrowest} channels: of the usual reductions, {lost} left out")
    return spec.with_changes(reductions=kept)


def _check_threads(spec: Spec) -> None:
    cores = environment.describe()["logical_cores"]
    for threads in spec.threads:
        if threads > cores:
            raise BadSpecError(
                f"threads {threads} is more than the {cores} processors of this machine: give at most {cores}"
            )


def _conditions_of(setting: Setting) -> _Conditions:
    return setting.backend, setting.precision, setting.device, setting.memory_format


def _all_conditions(spec: Spec) -> list[_Conditions]:
    return list(itertools.product(spec.backend, spec.precision, spec.device, spec.memory_format))


def _runnable(spec: Spec) -> set[_Conditions]:
    """The combinations that their backends offer, each at hand here.

    A grid of several backends and precisions asks for what there is of it. But a value that is in none of the
    combinations was asked for in vain: that raises, as does what this machine lacks.
    """
    asked = _all_conditions(spec)
    offered = [values for values in asked if not not_offered(*values)]
    for values in asked:
        if any(all(values[place] != other[place] for other in offered) for place in range(len(values))):
            get_backend(*values, spec.cuda_graphs)
    for values in offered:
        get_backend(*values, spec.cuda_graphs)
    return set(offered)


def _left_out(spec: Spec) -> tuple[str, ...]:
    """What of a grid no backend can do: `eager has no int8`."""
    lost = [f"{values[0]} has no {value}" for values in _all_conditions(spec) for value in not_offered(*values)]
    return tuple(dict.fromkeys(lost))

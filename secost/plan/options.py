"""The table of options: one row an option, from which the command line, TOML, Python and their checks are made.

`cli.options` makes each command's options and their help of it, `plan.spec` reads the keys of TOML by it and takes its
fields' defaults from it, as `api` takes its keywords' from the spec. To add one: a row here, and its use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from secost.errors import BadSpecError, UnknownNameError
from secost.plan.alternatives import AUTO, NO_ALTERNATIVES
from secost.sequential import FIRST_LOOK, MOST_PAIRS, USUAL_MOST

PLACEMENTS = ("auto", "residual", "depthwise", "depthwise-pre", "stage", "conv")
INTEGRATIONS = ("standard", "pre", "post", "identity")
PRECISIONS = ("fp32", "bf16", "int8")
MEMORY_FORMATS = ("contiguous", "channels-last")
ALLOCATORS = ("steady", "default")
PER_SITE, PER_STAGE = "site", "stage"
DEFAULT_REDUCTIONS = (2, 4, 8, 16, 32)
DEFAULT_SPELLING, ALL_SPELLINGS = "default", "all"
ALL_STAGES = "all"
# The tables of a TOML spec: its top, and what stands below a heading.
TOP, TRAIN, SEARCH = "", "train", "search"

Stages = tuple[int, ...] | None


class Kind(Enum):
    """What an option's value is; of the first four a spec holds several. On the command line a list is one text."""

    INTEGERS = "whole numbers"
    WORDS = "words"
    REPEATED = "words, an option each"
    STAGES = "stages"
    COUNT = "a whole number"
    NUMBER = "a number"
    SHARE = "a share, such as 3%"
    FLAG = "true or false"
    TEXT = "a text"


_SEVERAL = (Kind.INTEGERS, Kind.WORDS, Kind.REPEATED, Kind.STAGES)
_TYPES: Mapping[Kind, type] = {Kind.COUNT: int, Kind.NUMBER: float, Kind.SHARE: float, Kind.FLAG: bool, Kind.TEXT: str}


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words that follow `NAME VALUE is not possible: `."""

    holds: Callable[[Any], bool]
    words: str
    noun: str = ""  # in place of the field's name


def at_least(least: int, words: str = "", noun: str = "") -> Rule:
    return Rule(lambda value: value >= least, words or f"it must be {least} or more", noun)


def between(low: float, high: float, words: str) -> Rule:
    return Rule(lambda value: low < value < high, words)


@dataclass(frozen=True)
class Option:
    """One option. In `help`, `{default}` and `{choices}` stand for those.

    `commands` are those that take it, `single` those of them that take one value where a spec holds several, `own`
    tells a command's own default. `stated`: the default stands in the command line's help as click writes it. `key`
    is its name in TOML and in a spec, `keyword` in Python, where that is not `name`; `table` is where it stands in
    TOML, None for what only commands have.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    commands: str
    table: str | None = None
    flags: str = ""  # further ones, such as -r
    choices: tuple[str, ...] = ()
    rule: Rule | None = None
    key: str = ""
    keyword: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)
    single: str = ""
    stated: bool = False

    @property
    def field_name(self) -> str:
        return self.key or self.name

    @property
    def python(self) -> str:
        """The keyword of the Python functions."""
        return self.keyword or self.name

    def takes_one(self, command: str) -> bool:
        return self.kind not in _SEVERAL or command in self.single.split()

    def default_of(self, command: str) -> Any:
        return self.own.get(command, self.default)

    def help_of(self, command: str) -> str:
        return self.help.format(default=_text(self.default_of(command)), choices=", ".join(self.choices))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


_I, _W, _C, _N, _F, _T = Kind.INTEGERS, Kind.WORDS, Kind.COUNT, Kind.NUMBER, Kind.FLAG, Kind.TEXT
_SHARE = Kind.SHARE
_GRID, _STUDIED = "profile sweep", "occlusion quantization"
_RUNS = f"{_GRID} train search scaling {_STUDIED}"
_grid, _more = partial(Option, commands=_GRID, table=TOP), partial(Option, table=TOP)
_train, _search = partial(Option, commands="train", table=TRAIN), partial(Option, commands="search", table=SEARCH)
_finalist, _stated = partial(Option, commands="search", table=TRAIN, stated=True), partial(Option, stated=True)

# In the order in which a command's help lists them.
OPTIONS: tuple[Option, ...] = (
    _more("model", Kind.REPEATED, None, "A network; may be given several times.", "sweep", key="models"),
    _stated("phi", _T, "0..7", "Coefficients, such as 0..7 or 0,0.5,1.", "scaling", keyword="phis"),
    _stated("alpha", _N, 1.2, "Depth grows by alpha^phi.", "scaling"),
    _stated("beta", _N, 1.1, "Width grows by beta^phi.", "scaling"),
    _stated("gamma", _N, 1.15, "Resolution grows by gamma^phi.", "scaling"),
    _stated("bits", _I, (8, 6, 4), "Bits of weights and maps, 2 to 16.", "quantization"),
    Option("image", _T, None, "An image file, in place of a data set.", "occlusion"),
    _search("max_latency", _SHARE, None, "Most added time, such as 3% [20%].", rule=at_least(0)),
    _search("max_params", _SHARE, None, "Most added parameters, such as 5%.", rule=at_least(0)),
    _search("max_macs", _SHARE, None, "Most added MACs, such as 1%.", rule=at_least(0)),
    _more("reductions", _I, DEFAULT_REDUCTIONS, "Reduction ratios, such as 2,4,8,16,32.", f"{_GRID} train scaling",
          flags="-r", rule=at_least(1, "it divides the channels, so it must be 1 or more", "reduction"),
          own={"train": (16,), "scaling": (4, 16)}),
    _more("attention", _W, ("se",), "Attentions, such as se,eca; native is as shipped.", f"{_GRID} train scaling",
          keyword="attentions", own={"scaling": ()}),
    _more("attention", _W, ("none", "se", "eca", "spatial"), "What may sit at a site; none always may.", "search",
          keyword="attentions", stated=True),
    _more("reductions", _I, (4, 8, 16), "Reduction ratios that may be chosen.", "search", flags="-r", stated=True),
    _stated("placement", _W, ("depthwise-pre", "depthwise"), "Placements to compare, the first two as a pair.",
           "quantization", keyword="placements"),
    _stated("attention", _T, "se", "The attention.", "quantization"),
    _stated("reduction", _C, 4, "Its reduction ratio.", "quantization", flags="-r"),
    Option("dataset", _T, None, "A data set's name or folder [three-cues].", "occlusion"),
    _stated("dataset", _T, "digits", "A data set's name or folder.", "quantization"),
    Option("data", _T, "", "Folder where torchvision's data set lies.", _STUDIED),
    Option("weights", _T, None, "Your weights, .safetensors or a state dict (.pt).", "occlusion"),
    Option("attention", _T, None, "Attention to attach [the network's own].", "occlusion"),
    Option("reduction", _C, None, "Its reduction ratio.", "occlusion", flags="-r"),
    _more("placement", _W, ("auto",), "{choices}.", f"{_GRID} sites train search occlusion", choices=PLACEMENTS,
          single="sites search occlusion"),
    _more("integration", _W, ("standard",), "{choices} (SENet 6.5).", f"{_GRID} sites train", choices=INTEGRATIONS,
          single="sites"),
    _more("stages", Kind.STAGES, (None,), "Stages that carry attention, such as 3,4 [all].", f"{_GRID} sites train"),
    _search("per", _T, PER_SITE, "What chooses by itself: site or stage.", choices=(PER_SITE, PER_STAGE), stated=True),
    _train("dataset", _T, "digits", "A data set's name, or a folder of images [{default}]."),
    _finalist("dataset", _T, "digits", "A data set's name, or a folder of images."),
    _train("fraction", _N, None, "Train on a part of the training set, such as 0.1 [all].",
           rule=Rule(lambda value: 0 < value <= 1, "it is a part of the training set, such as 0.1")),
    _train("train_images", _C, None, "The same as a number of images, drawn by class [all].", rule=at_least(1)),
    _train("data", _T, "", "Folder where torchvision's data set lies.", commands="train search"),
    _search("trials", _C, 200, "Networks that the sampler may have judged.", rule=at_least(1), stated=True),
    _search("sampler", _T, "nsga2", "Optuna's, by name: nsga2, nsga3, tpe, random, ...", stated=True),
    _search("population", _C, 8, "Networks asked for at a time: a generation.", rule=at_least(2), stated=True),
    _search("oneshot_epochs", _C, 60, "Epochs of the network that holds all options.", rule=at_least(1), key="epochs",
            stated=True),
    _search("calibrate", _C, 16, "Whole networks that correct the table of latencies.", rule=at_least(3), stated=True),
    _search("check", _C, 20, "Random networks that test the table.", rule=at_least(0), stated=True),
    _search("finalists", _C, 4, "Networks measured whole and trained alone.", rule=at_least(1), stated=True),
    _search("exhaustive", _C, 1500, "Judge all points where they are no more than this.", rule=at_least(0),
            stated=True),
    _stated("resolution", _C, 224, "Height and width of --image in pixels.", "occlusion"),
    Option("occluder", _C, None, "Side of the occluder in pixels [a seventh].", "occlusion"),
    Option("stride", _C, None, "Pixels from place to place [half the occluder].", "occlusion"),
    _train("seeds", _C, 5, "Trainings of each variant, from paired seeds [{default}].", rule=at_least(1)),
    _train("until", _N, None, "Add seeds until each gain is told from none, or known to so many points.",
           rule=Rule(lambda value: 0 < value <= 100, "it is in points of accuracy, such as 0.3")),
    _train("max_seeds", _C, None, f"Most seeds, with --until [{USUAL_MOST}].",
           rule=Rule(lambda value: FIRST_LOOK <= value <= MOST_PAIRS, f"give {FIRST_LOOK} to {MOST_PAIRS}")),
    _finalist("seeds", _C, 5, "Trainings of each finalist, from paired seeds."),
    _stated("seeds", _C, 5, "Trainings, where weights lack.", _STUDIED),
    _train("epochs", _C, 20, "Passes over the training set [{default}].", rule=at_least(1)),
    _finalist("epochs", _C, 40, "Passes over the training set, for finalists."),
    _stated("epochs", _C, 20, "Passes over the training set.", _STUDIED, own={"occlusion": 8}),
    _stated("qat_epochs", _C, 2, "Epochs of training at each precision; 0 for none.", "quantization"),
    _train("batch_size", _C, 64, "Images in a training step [{default}].", rule=at_least(1)),
    _train("learning_rate", _N, 0.05, "At its highest [{default}].", rule=between(0, 100, "it must be more than 0")),
    _finalist("learning_rate", _N, 0.05, "At its highest."),
    _stated("learning_rate", _N, 0.05, "At its highest.", _STUDIED),
    _train("augment", _F, True, "Shift images, and mirror photographs."),
    _finalist("augment", _F, False, "Shift images, and mirror photographs."),
    _train("deterministic", _F, False, "Only algorithms equal to the bit."),
    _train("train_device", _T, None, "Device of the trainings, where it is not that of the times."),
    _train("amp", _F, None, "Train in bfloat16 where torch allows it [on cuda]."),
    _stated("backend", _W, ("onnxruntime", "openvino"), "Backends whose real int8 is run; an empty text for none.",
           "quantization", keyword="backends"),
    Option("jobs", _C, None, "Trainings at a time [2, where it can].", f"train search {_STUDIED}", flags="--workers"),
    _more("resolution", _I, (224,), "Height and width of the image in pixels [{default}].", f"{_GRID} sites",
          rule=at_least(1)),
    Option("example", _T, None, "path.py:function that returns the example inputs.", "profile sites"),
    _grid("batch", _I, (1,), "Images in one forward pass of the latency rounds [{default}].", rule=at_least(1)),
    _more("backend", _W, ("eager",), "What runs the network [{default}].", f"{_GRID} search", single="search"),
    _grid("precision", _W, ("fp32",), "Precision of latency and memory traffic [{default}].", choices=PRECISIONS),
    _more("device", _W, ("cpu",), "Device of the latency rounds [{default}].", f"{_GRID} train"),
    _more("threads", _I, (1,), "Threads of the latency rounds [{default}].", f"{_GRID} search", rule=at_least(1),
          single="search"),
    _more("memory_format", _W, ("contiguous",), "{choices} [{default}].", f"{_GRID} train", choices=MEMORY_FORMATS),
    _grid("spelling", _W, (DEFAULT_SPELLING,), "Ways to write the same attention: all, or names [{default}]."),
    _more("alternatives", _W, (NO_ALTERNATIVES,), "What else the same time buys: auto, none, or names such as "
          "resnet101,resnet50@288 [{default}].", f"{_GRID} train", own={"profile": (AUTO,)}),
    _more("latency", _F, True, "Measure latency, or count only.", f"{_GRID} train scaling quantization"),
    _more("seconds", _N, 20.0, "Time limit of one network's latency rounds [{default}].",
          f"{_GRID} train search scaling quantization", own={"search": 60.0, "quantization": 10.0},
          rule=between(0, math.inf, "it must be more than 0, and an end")),
    _grid("target", _N, 0.01, "Half-width at which rounds end earlier [{default} = 1 %].",
          rule=between(0, 1, "it is a fraction, 0.01 for 1 %")),
    _grid("processes", _C, 0, "Processes that share the rounds [by the time].",
          rule=at_least(0, "give 1 or more, or 0 to have it chosen")),
    _grid("allocator", _T, "steady", "steady keeps freed memory; default [{default}].", choices=ALLOCATORS),
    _grid("calibration", _T, "", "Folder of images, or path.py:function, that int8 is fitted to."),
    _grid("cuda_graphs", _F, False, "Replay one captured graph (cuda only)."),
    _more("seed", _C, 0, "Seed of weights and of the order in each round [{default}].", f"{_GRID} search scaling"),
    _more("allow_download", _F, False, "Let transformers fetch a config from its hub.", f"{_GRID} sites train"),
    Option("reconcile", _F, False, "Show every tool's count of this network.", "profile"),
    _stated("executor", _T, "local", "Where trials run: local processes, or dask's workers.", "sweep train search"),
    Option("address", _T, None, "A dask scheduler of yours, such as tcp://host:8786.", "sweep train search"),
    Option("workers", _C, None, "Processes on this machine that share the trials [1].", "sweep"),
    Option("benefit", _T, None, "Where gains come from: auto, published, trained, file, none [auto].",
           f"{_GRID} report budget"),
    Option("accuracy", _T, None, "CSV of your own: model,attention,reduction,placement,top1[,seed].",
           f"{_GRID} report budget benefit"),
    Option("price", _SHARE, None, "Most time that a point of accuracy may cost, such as 5%.", f"{_GRID} report",
           rule=at_least(0)),
    _stated("format", _T, "table", "What goes to stdout: {choices}.", f"{_RUNS} budget compare benefit doctor sites",
            choices=("table", "json", "csv", "md", "html")),
    Option("output", _T, None, "Folder for the run and its report.", f"{_RUNS} budget benefit", flags="-o"),
    Option("output", _T, None, "File to write instead of stdout.", "sites", flags="-o"),
    Option("quiet", _F, False, "No progress and no notes on stderr.", f"{_RUNS} compare doctor", flags="-q"),
    Option("dry_run", _F, False, "Show what would run, what is done and how long it takes.", f"{_GRID} train"),
    Option("retry_failed", _F, False, "Run failed trials of a run again.", "sweep train"),
)
# Where a command's help has some of its options in another order: these, in the places that they have together.
_ORDERS: Mapping[str, tuple[str, ...]] = {
    "scaling": ("attention", "reductions"),
    "train": ("format", "executor", "address"),
    "search": ("backend", "threads", "seconds", "seed", "jobs"),
    "quantization": ("latency", "seconds", "jobs"),
}


@functools.cache
def options_of(command: str) -> tuple[Option, ...]:
    """The options that a command takes, in the order of its help."""
    found = [option for option in OPTIONS if command in option.commands.split()]
    order = iter(_ORDERS.get(command, ()))
    named = {option.name: option for option in found}
    return tuple(named[next(order)] if option.name in _ORDERS.get(command, ()) else option for option in found)


def option_of(command: str, name: str) -> Option:
    return next(option for option in options_of(command) if option.name == name)


@functools.cache
def fields_of(table: str) -> Mapping[str, Option]:
    """The fields of a spec's table by name: of several rows the first says what the field is."""
    found: dict[str, Option] = {}
    for option in OPTIONS:
        if option.table == table:
            found.setdefault(option.field_name, option)
    return found


def usual(table: str, name: str) -> Any:
    """The default of a spec's field."""
    return fields_of(table)[name].default


# --- values -----------------------------------------------------------------------------------------------------------


def read(option: Option, value: Any, name: str) -> Any:
    """A field's value from a plain one, of TOML or JSON; a single value is taken for a list of one.

    Raises BadSpecError for a value of the wrong kind, calling it by `name`.
    """
    if option.kind is Kind.STAGES:
        return _stages(value)
    if option.kind not in _SEVERAL:
        return _single(option.kind, value, name)
    items = list(value) if isinstance(value, list | tuple) else [value]
    for item in items:
        if option.kind is not Kind.INTEGERS and not isinstance(item, str):
            raise BadSpecError(f"{name} = {item!r} is not a text: write it in quotes")
        if option.kind is Kind.INTEGERS and not _is_whole(item) and not (item is None and name == "resolution"):
            raise BadSpecError(f"{name} {item!r} is not a whole number")
    return tuple(items)


def _single(kind: Kind, value: Any, name: str) -> Any:
    wanted = _TYPES[kind]
    if wanted is float and _is_whole(value):
        value = float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise BadSpecError(f"{name} = {value!r} is not {kind.value if wanted in (bool, str) else 'a number'}")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _stages(value: Any) -> tuple[Stages, ...]:
    """`"all"`, `[3, 4]` (one selection) or `[[4], [3, 4], "all"]` (several)."""
    if value is None or value == ALL_STAGES:
        return (None,)
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, list | tuple):
        raise BadSpecError(f"stages = {value!r}: expected a list such as [3, 4] or \"all\"")
    if value and all(map(_is_whole, value)):
        return (tuple(sorted(set(value))),)
    wrong = next((item for item in value if not (item is None or isinstance(item, str | list | tuple))), None)
    if wrong is not None:
        raise BadSpecError(f"stages: {wrong!r} is not a whole number, a list of them or \"all\"")
    return tuple(selection for item in value for selection in _stages(item))


def check(table: str, values: Mapping[str, Any]) -> None:
    """Raise BadSpecError for an empty list, a value that is none of the choices, and one that a rule forbids."""
    for name, value in values.items():
        if isinstance(value, tuple) and not value:
            raise BadSpecError(f"{name} is an empty list: give at least one value")
    known = fields_of(table)
    each = [(known[name], name, item) for name, value in values.items()
            for item in (value if isinstance(value, tuple) else (value,))]
    for option, name, item in each:
        if option.choices and item not in option.choices:
            raise UnknownNameError(name, item, option.choices)
    for option, name, item in each:
        check_value(option, name, item)


def check_value(option: Option, name: str, value: Any) -> None:
    """Raise BadSpecError for a value that the option's rule forbids."""
    if option.rule is not None and value is not None and not option.rule.holds(value):
        raise BadSpecError(f"{option.rule.noun or name} {value} is not possible: {option.rule.words}")

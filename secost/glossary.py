"""What each word of a table means, and what each code asks for: one source for help, pages and docs.

Fields, placements and the checks of `secost doctor` have their words in `data/glossary.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from typing import Self

_WORDS = json.loads(resources.files("secost").joinpath("data", "glossary.json").read_text(encoding="utf-8"))
FIELDS: Mapping[str, str] = _WORDS["fields"]
PLACEMENTS: Mapping[str, str] = _WORDS["placements"]
# What `secost doctor` looks at: what it is, or what goes wrong where it is not as it should be; and what to do then.
CHECKS: Mapping[str, tuple[str, str]] = {name: (what, step) for name, (what, step) in _WORDS["checks"].items()}


class Code(StrEnum):
    """A code with its words: what it means, and what to do about it. A record holds it as the text that it is."""

    meaning: str
    next_step: str

    def __new__(cls, code: str, meaning: str, next_step: str) -> Self:
        member = str.__new__(cls, code)
        member._value_, member.meaning, member.next_step = code, meaning, next_step
        return member


class Caution(Code):
    """A reason to trust a record's figures less."""

    CONTROL_FAILED = ("control-failed",
                      "a second copy of the baseline came out as different from it, so no difference of this size can "
                      "be believed",
                      "close other programs and measure again")
    CONTENTION = ("contention",
                  "the process waited for a processor during much of the rounds",
                  "stop other work on this machine, or measure with one thread")
    DRIFT = ("drift",
             "the machine became slower or faster while measuring; paired rounds allow for it, absolute times do not",
             "trust the overheads more than the milliseconds")
    PREEMPTION = ("preemption",
                  "in more than one pass of twenty something else had the processor for half as long as the pass "
                  "itself",
                  "stop other work on this machine, or leave a processor free; the overheads come from processor time")
    THROTTLING = ("throttling",
                  "the system held the process back while measuring, by its quota of processor time or for heat",
                  "raise the quota, let the machine cool, and measure again")
    SPINNING_THREADS = ("spinning-threads",
                        "threads that wait for one another keep their processors busy, which makes small networks "
                        "many times slower",
                        "set OMP_WAIT_POLICY=passive before Python starts (the command line does so), or measure with "
                        "one thread")
    ONE_PROCESS = ("one-process",
                   "all rounds ran in one process, so the interval does not cover what differs from process to process",
                   "repeat the measurement and see whether the intervals agree")
    TOO_FEW_ROUNDS = ("too-few-rounds",
                      "too few rounds for an interval of the target width",
                      "give it more time with --seconds, in a new folder")
    TARGET_MISSED = ("target-missed",
                     "the time was up before every interval was as narrow as asked",
                     "give it more time with --seconds, or ask for less with --target, in a new folder")
    ATTENTION_LEFT = ("attention-left",
                      "attention computed inside a larger module's own forward could not be taken out of the baseline",
                      "read none as 'the network as far as it could be stripped'")
    RANDOM_CALIBRATION = ("random-calibration",
                          "int8 was fitted to random images, for lack of others: the latency is right, the accuracy "
                          "would not be",
                          "give --calibration with a folder of images, where int8's outputs matter")
    GRAPH_BREAKS = ("graph-breaks",
                    "torch.compile could not take the network in one piece, so parts of it run as eager and are slower",
                    "see TORCH_LOGS=graph_breaks for the places, or compare on another backend")
    NOT_CONVERGED = ("not-converged",
                     "the accuracy still rose at the end of the training, and the training set was not learned yet: a "
                     "gain of so short a training says little of a whole one",
                     "train longer with --epochs, in a new folder, before you add seeds")
    NEAR_CHANCE = ("near-chance",
                   "the accuracy is hardly better than guessing, so there is nothing yet that attention could improve",
                   "train longer with --epochs, or with another --learning-rate, in a new folder")
    UNCOUNTED_OPS = ("uncounted-ops",
                     "some operations were not counted at all (see unsupported_ops)",
                     "treat macs and memory_bytes as lower bounds")
    MEMORY_UNKNOWN = ("memory-unknown",
                      "what this precision moves through memory is not known: the backend chooses what it casts and "
                      "what it fuses, and eager has no such pass",
                      "compare memory traffic in fp32")


class Note(Code):
    """A reason to read with care what changed from one run to another."""

    # The caution's code: of a change it tells what the interval allows for.
    ONE_PROCESS = ("one-process",
                   "the rounds of a run come from one process, which can't tell what another would bring: the "
                   "interval allows for a standard deviation of 1 % between processes",
                   "share the rounds with --processes, and the interval is had from what differs between them")
    BASELINE_MOVED = ("baseline-moved",
                      "the network without attention changed in the same direction, and two runs made at different "
                      "times may differ so by the machine's doing alone",
                      "judge attention by its overhead, in which what both share cancels, or measure both runs again "
                      "in turns")
    OTHER_MACHINE = ("other-machine",
                     "the runs were measured on different machines, or one did not record its own",
                     "read the change as one of the machine and the network together")
    OTHER_CLOCK = ("other-clock",
                   "one run has processor time and the other wall time, so the wall times of both are compared",
                   "measure both with the same number of threads and the same device")
    OTHER_ALLOCATOR = ("other-allocator",
                       "the runs kept freed memory in different ways, which changes how long a pass takes",
                       "measure both with the same --allocator")
    NO_ROUNDS = ("no-rounds",
                 "a run holds no rounds or no interval, so nothing tells how far the change is noise",
                 "compare run folders or JSON documents that were measured with latency, for some seconds more")
    OTHER_PLACEMENT = ("other-placement",
                       "what was asked for by the same words was put at other sites",
                       "compare the two with secost sites")
    OTHER_CONVENTION = ("other-convention",
                        "the runs count MACs by different rules (see mac_convention)",
                        "count the old network again with this version")


CAUTIONS = {str(code): code for code in Caution}
# What is told again wherever something is chosen by the figures.
SERIOUS = frozenset({
    Caution.CONTROL_FAILED, Caution.CONTENTION, Caution.THROTTLING, Caution.TARGET_MISSED, Caution.ONE_PROCESS,
    Caution.ATTENTION_LEFT, Caution.NOT_CONVERGED, Caution.NEAR_CHANCE,
})
NOTES = {str(code): code for code in Note}

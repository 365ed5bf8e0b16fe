"""What each word of a table means, and what each code asks for: one source for help, pages and docs."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

FIELDS = {
    "model": "the network, by the name it was asked for",
    "attention": "what was put at the sites; none is the network without attention, native as it ships",
    "reduction": "r: the attention's hidden width is max(1, C // r) for C channels",
    "placement": "which sites: residual, depthwise, depthwise-pre, stage or conv",
    "integration": "where in a residual block the attention sits (SENet, section 6.5)",
    "sites": "how many places carry the attention",
    "params": "learnable parameters of the whole network",
    "macs": "multiply-accumulates for one image: convolutions, linear layers, matrix products and gating products",
    "other_ops": "elementary operations that are no MACs: pooling, norms, activations, additions, sigmoids",
    "activations": "elements put out by convolutions, linear layers and matrix products, for one image",
    "memory_bytes": "bytes read and written by all operations as eager PyTorch runs them, for one image",
    "kernels": "operations launched in one forward pass",
    "attention_params": "parameters of the attention alone",
    "attention_macs": "MACs of the attention alone, gating products included",
    "params_overhead": "(variant - baseline) / baseline of params",
    "macs_overhead": "(variant - baseline) / baseline of macs",
    "memory_overhead": "(variant - baseline) / baseline of memory_bytes",
    "kernels_overhead": "(variant - baseline) / baseline of kernels",
    "latency_ms": "median time of one forward pass of the whole batch",
    "latency_overhead": (
        "median over rounds of (variant / baseline - 1), all timed in the same round, the baseline twice"
    ),
    "latency_overhead_low": (
        "lower end of the 95 % confidence interval of latency_overhead, over the rounds and the processes they ran in"
    ),
    "latency_overhead_high": (
        "upper end of the 95 % confidence interval of latency_overhead, over the rounds and the processes they ran in"
    ),
    "latency_direct_ms": "time spent inside the attention modules during one forward pass",
    "rounds": "rounds measured; each ran every variant once, in random order",
    "cautions": "reasons to trust the latency less, each with its next step",
    "mac_convention": "the named rule by which macs were counted",
    "unsupported_ops": "operations that were not counted at all, and how often they ran",
    "memory_format": "how a map lies in memory: contiguous (NCHW) or channels-last (NHWC)",
    "spelling": "how the attention is written, where it is not as secost writes it",
    "processes": "processes that shared the rounds; the interval covers what differs between them",
    "images_per_s": "images a second: batch / latency",
    "convert_s": "seconds the backend took to convert the network, once; not part of the latency",
    "latency_floor_ms": "least time that the attention's own memory traffic and MACs need on this machine",
    "dataset": "what the variant was trained on, in a record of its accuracy",
    "seed": "the seed it was trained from; variants of one seed share data order and initial weights",
    "epochs": "passes over the training set",
    "top1": "test accuracy in percent after the last epoch",
}


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

    CONTROL_FAILED = (
        "control-failed",
        "a second copy of the baseline came out as different from it, so no difference of this size can be believed",
        "close other programs and measure again",
    )
    CONTENTION = (
        "contention",
        "the process waited for a processor during much of the rounds",
        "stop other work on this machine, or measure with one thread",
    )
    DRIFT = (
        "drift",
        "the machine became slower or faster while measuring; paired rounds allow for it, absolute times do not",
        "trust the overheads more than the milliseconds",
    )
    PREEMPTION = (
        "preemption",
        "in more than one pass of twenty something else had the processor for half as long as the pass itself",
        "stop other work on this machine, or leave a processor free; the overheads come from processor time",
    )
    THROTTLING = (
        "throttling",
        "the system held the process back while measuring, by its quota of processor time or for heat",
        "raise the quota, let the machine cool, and measure again",
    )
    SPINNING_THREADS = (
        "spinning-threads",
        "threads that wait for one another keep their processors busy, which makes small networks many times slower",
        "set OMP_WAIT_POLICY=passive before Python starts (the command line does so), or measure with one thread",
    )
    ONE_PROCESS = (
        "one-process",
        "all rounds ran in one process, so the interval does not cover what differs from process to process",
        "repeat the measurement and see whether the intervals agree",
    )
    TOO_FEW_ROUNDS = (
        "too-few-rounds",
        "too few rounds for an interval of the target width",
        "give it more time with --seconds, in a new folder",
    )
    TARGET_MISSED = (
        "target-missed",
        "the time was up before every interval was as narrow as asked",
        "give it more time with --seconds, or ask for less with --target, in a new folder",
    )
    ATTENTION_LEFT = (
        "attention-left",
        "attention computed inside a larger module's own forward could not be taken out of the baseline",
        "read none as 'the network as far as it could be stripped'",
    )
    RANDOM_CALIBRATION = (
        "random-calibration",
        "int8 was fitted to random images, for lack of others: the latency is right, the accuracy would not be",
        "give --calibration with a folder of images, where int8's outputs matter",
    )
    GRAPH_BREAKS = (
        "graph-breaks",
        "torch.compile could not take the network in one piece, so parts of it run as eager and are slower",
        "see TORCH_LOGS=graph_breaks for the places, or compare on another backend",
    )
    UNCOUNTED_OPS = (
        "uncounted-ops",
        "some operations were not counted at all (see unsupported_ops)",
        "treat macs and memory_bytes as lower bounds",
    )


class Note(Code):
    """A reason to read with care what changed from one run to another."""

    # The caution's code: of a change it tells what the interval allows for.
    ONE_PROCESS = (
        "one-process",
        "the rounds of a run come from one process, which can't tell what another would bring: the interval allows "
        "for a standard deviation of 1 % between processes",
        "share the rounds with --processes, and the interval is had from what differs between them",
    )
    BASELINE_MOVED = (
        "baseline-moved",
        "the network without attention changed in the same direction, and two runs made at different times may differ "
        "so by the machine's doing alone",
        "judge attention by its overhead, in which what both share cancels, or measure both runs again in turns",
    )
    OTHER_MACHINE = (
        "other-machine",
        "the runs were measured on different machines, or one did not record its own",
        "read the change as one of the machine and the network together",
    )
    OTHER_CLOCK = (
        "other-clock",
        "one run has processor time and the other wall time, so the wall times of both are compared",
        "measure both with the same number of threads and the same device",
    )
    OTHER_ALLOCATOR = (
        "other-allocator",
        "the runs kept freed memory in different ways, which changes how long a pass takes",
        "measure both with the same --allocator",
    )
    NO_ROUNDS = (
        "no-rounds",
        "a run holds no rounds or no interval, so nothing tells how far the change is noise",
        "compare run folders or JSON documents that were measured with latency, for some seconds more",
    )
    OTHER_PLACEMENT = (
        "other-placement",
        "what was asked for by the same words was put at other sites",
        "compare the two with secost sites",
    )
    OTHER_CONVENTION = (
        "other-convention",
        "the runs count MACs by different rules (see mac_convention)",
        "count the old network again with this version",
    )


CAUTIONS = {str(code): code for code in Caution}
# What is told again wherever something is chosen by the figures.
SERIOUS = frozenset({
    Caution.CONTROL_FAILED, Caution.CONTENTION, Caution.THROTTLING, Caution.TARGET_MISSED, Caution.ONE_PROCESS,
    Caution.ATTENTION_LEFT,
})
NOTES = {str(code): code for code in Note}

PLACEMENTS = {
    "auto": "what the field does for this kind of network: depthwise, else residual, else conv",
    "residual": "the end of each residual branch, before the addition (SE-ResNet)",
    "depthwise": "after each depthwise convolution's norm and activation (MBConv)",
    "depthwise-pre": "before each depthwise convolution",
    "stage": "the end of each stage",
    "conv": "after each convolution-norm-activation unit, the stem left out (SE-VGG, SE-MobileNet)",
}

# What `secost doctor` looks at: what it is, or what goes wrong where it is not as it should be; and what to do then.
CHECKS = {
    "load": (
        "in the last minute programs, secost's own runs among them, wanted the processors: if they still do, passes "
        "wait, lose their caches and run slower",
        "stop other work, or measure when the machine is idle",
    ),
    "other work": (
        "other programs ran meanwhile: they take processors, caches and memory bandwidth",
        "stop other work, or measure when the machine is idle",
    ),
    "processors": (
        "the threads asked for have to take turns on the processors that this process may use",
        "ask for fewer --threads, or allow the process more processors (taskset, cpuset)",
    ),
    "quota": (
        "a control group stops the process for the rest of each period in which it has used its share up",
        "ask for fewer --threads, or raise the container's processor limit",
    ),
    "throttled": (
        "the control group's quota was used up and the process was stopped",
        "raise the container's processor limit, or ask for fewer --threads",
    ),
    "cpu pressure": (
        "programs waited for a processor during much of the last 10 s",
        "stop other work, or measure when the machine is idle",
    ),
    "memory pressure": (
        "programs waited for memory during the last 10 s, and pages are read back in the middle of passes",
        "close programs that use much memory",
    ),
    "io pressure": (
        "programs waited for a disk during much of the last 10 s; what wakes them interrupts passes",
        "wait for copying, indexing or updates to end",
    ),
    "steal": (
        "the host gave this machine's processors to others; part of that is counted as the passes' own time",
        "use a machine with dedicated processors, or measure at another time",
    ),
    "shared cores": (
        "two processors are one core, and two threads on it slow each other down",
        "ask for fewer --threads, or start with taskset on one processor of each core",
    ),
    "governor": (
        "the clock rate follows the load, so that a pass is slower after a pause",
        "set the governor to performance for the time of the run (cpupower frequency-set -g performance)",
    ),
    "turbo": (
        "the clock rate depends on heat and on what else runs; rounds allow for it, absolute times do not",
        "switch turbo off for absolute times, or trust the overheads more than the milliseconds",
    ),
    "clock": (
        "the wall clock is too coarse or too slow to read for passes of a few milliseconds",
        "measure on a system with a finer clock, or with a larger --batch",
    ),
    "thread clock": (
        "the processor-time clock is too coarse or too slow to read for passes of a few milliseconds",
        "measure on a system with a finer clock, or with a larger --batch",
    ),
    "clock source": (
        "the kernel reads time from a slow device, mostly because it distrusts the processor's counter",
        "find out in the kernel's log why tsc was given up",
    ),
    "allocator": (
        "secost can tell only glibc to keep freed memory; without that, passes may fault pages in again",
        "run without the other allocator (LD_PRELOAD), or on glibc",
    ),
    "spinning": (
        "threads that wait keep a processor busy; with other work beside them that slows small networks many times",
        "set OMP_WAIT_POLICY=passive before the start",
    ),
    "memory": (
        "little memory is left, so that the run may swap or be ended",
        "close programs that use much memory",
    ),
    "swapping": (
        "pages went to or from the swap file meanwhile",
        "close programs that use much memory",
    ),
    "virtual machine": (
        "neighbours on the same host can't be seen from here and share its caches and memory bandwidth",
        "run longer, and repeat at another time before believing a small difference",
    ),
    "battery": (
        "on battery the system lowers clock rates as it likes",
        "plug the power supply in",
    ),
    "heat": (
        "the processor is close to the temperature at which it is slowed down",
        "let it cool down, or clean its fans",
    ),
    "heat throttling": (
        "the processor was slowed down by heat meanwhile",
        "let it cool down, or clean its fans; switch turbo off",
    ),
    "a/a run": (
        "a network measured against itself must come out as equal",
        "close other programs and try again; until it holds, believe no difference of this size",
    ),
    "spread": (
        "times scatter so much that an overhead of 1 % can't be told from none in half a minute",
        "stop other work, or give a run more --seconds",
    ),
}

"""What each word of a table means, and what each caution asks for: one source for help, pages and docs."""

from __future__ import annotations

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
    "latency_overhead": "median over rounds of (variant / baseline - 1), both timed in the same round",
    "latency_overhead_low": (
        "lower end of the 95 % confidence interval of latency_overhead, over the rounds of one process"
    ),
    "latency_overhead_high": (
        "upper end of the 95 % confidence interval of latency_overhead, over the rounds of one process"
    ),
    "latency_direct_ms": "time spent inside the attention modules during one forward pass",
    "rounds": "rounds measured; each ran every variant once, in random order",
    "cautions": "reasons to trust the latency less, each with its next step",
    "mac_convention": "the named rule by which macs were counted",
    "unsupported_ops": "operations that were not counted at all, and how often they ran",
}

CAUTIONS = {
    "control-failed": (
        "a second copy of the baseline came out as different from it, so no difference of this size can be believed",
        "close other programs and measure again",
    ),
    "contention": (
        "the process waited for a processor during much of the rounds",
        "stop other work on this machine, or measure with one thread",
    ),
    "drift": (
        "the machine became slower or faster while measuring; paired rounds allow for it, absolute times do not",
        "trust the overheads more than the milliseconds",
    ),
    "too-few-rounds": (
        "too few rounds for an interval of the target width",
        "give it more time with --seconds, in a new folder",
    ),
    "target-missed": (
        "the time was up before every interval was as narrow as asked",
        "give it more time with --seconds, or ask for less with --target, in a new folder",
    ),
    "attention-left": (
        "attention computed inside a larger module's own forward could not be taken out of the baseline",
        "read none as 'the network as far as it could be stripped'",
    ),
    "uncounted-ops": (
        "some operations were not counted at all (see unsupported_ops)",
        "treat macs and memory_bytes as lower bounds",
    ),
}

PLACEMENTS = {
    "auto": "what the field does for this kind of network: depthwise, else residual, else conv",
    "residual": "the end of each residual branch, before the addition (SE-ResNet)",
    "depthwise": "after each depthwise convolution's norm and activation (MBConv)",
    "depthwise-pre": "before each depthwise convolution",
    "stage": "the end of each stage",
    "conv": "after each convolution-norm-activation unit, the stem left out (SE-VGG, SE-MobileNet)",
}

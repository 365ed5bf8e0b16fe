"""Speed and memory against the peers: scripts that print and assert nothing about time.

    python -m tests.benchmarks.counting      none + 5 ratios of ResNet-50 against fvcore and every peer
    python -m tests.benchmarks.processes     whole commands against the imports they can't do without
    python -m tests.benchmarks.memory        peak memory of fresh processes

All compare by processor time, in interleaved rounds. Run them from the repository's root, on a quiet machine.
"""

"""A busy neighbour: another process that multiplies matrices, switching on and off at random."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_WORK = """
import random, time
import torch
torch.set_num_threads(1)
a = torch.randn(700, 700)
source = random.Random(0)
while True:
    end = time.monotonic() + source.uniform(0.3, 3.0)
    while time.monotonic() < end:
        a @ a
    time.sleep(source.uniform(0.3, 3.0))
"""


@contextlib.contextmanager
def neighbour(processes: int) -> Iterator[None]:
    """So many busy processes for as long as the block lasts, on for 0.3 to 3 s and off for as long."""
    started = [subprocess.Popen([sys.executable, "-c", _WORK]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()

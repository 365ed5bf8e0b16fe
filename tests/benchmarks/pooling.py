"""How often the intervals of pooled gains hold the truth, in made studies with a known one.

    python -m tests.benchmarks.pooling            a table for reports/protocol: coverage of both intervals
"""

from __future__ import annotations

import math

import numpy as np

from secost.pooling import pooled

STUDIES, BETWEEN = (3, 5, 10, 20), (0.0, 0.1, 0.2, 0.3, 0.5)


def held(between: float, studies: int, runs: int = 20_000) -> tuple[float, float]:
    """How often the mean's interval and that of one study more hold the truth, studies having 0.16 points of luck each.

    Where all variances are equal a half-width hangs on the studies' standard deviation alone: it is tabulated, so that
    many runs can be drawn.
    """
    luck, draw = 0.16, np.random.default_rng(studies)
    true = draw.normal(0.8, between, (runs, studies + 1))
    seen = true[:, :studies] + draw.normal(0, luck, (runs, studies))
    spreads = np.geomspace(0.02 * luck, 8 * math.hypot(luck, between), 40)
    shape = np.linspace(-1, 1, studies)
    shape = shape / shape.std(ddof=1)
    table = [pooled((shape * spread).tolist(), [luck**2] * studies) for spread in spreads]
    away = np.abs(true[:, studies] - seen.mean(axis=1)), np.abs(0.8 - seen.mean(axis=1))
    halves = ([(one.next_high or 0) - (one.next_low or 0) for one in table], [one.high - one.low for one in table])
    at = np.log(seen.std(axis=1, ddof=1))
    one_more, mean = (float(np.mean(distance <= np.interp(at, np.log(spreads), np.array(half) / 2)))
                      for distance, half in zip(away, halves, strict=True))
    return mean, one_more


def main() -> None:
    print("| between studies | " + " | ".join(f"{studies} studies" for studies in STUDIES) + " |")
    print("|---:|" + "---:|" * len(STUDIES))
    for between in BETWEEN:
        cells = [held(between, studies) for studies in STUDIES]
        print(f"| {between:.1f} points | " + " | ".join(f"{mean:.1%} / {one_more:.1%}" for mean, one_more in cells)
              + " |", flush=True)


if __name__ == "__main__":
    main()

"""From rounds to a record: latency, overhead and direct cost with their intervals, and what to be careful about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from secost.glossary import Caution
from secost.meters.latency import Rounds, cautions
from secost.plan.spec import BASELINE, Spec
from secost.runs.records import Record
from secost.statistics import Interval
from secost.work.timing import CONTROL, Timing

_THROTTLED_SHARE = 0.01
_SPARE, _STEAL = 0.2, 0.02  # processors
_OPENMP = ("eager", "compile")  # the others have threads of their own, told not to spin


def add_floors(record: Record, floors: Sequence[float | None]) -> None:
    """The least time of each site and stage, and of all, in milliseconds; None where one is not known."""
    for row, floor in zip(record.by_site, floors, strict=True):
        row["floor_ms"] = floor
    for row in record.by_stage:
        row["floor_ms"] = _sum(site["floor_ms"] for site in record.by_site if site["stage"] == row["stage"])
    record.latency_floor_ms = _sum(floors)


def add_latency(record: Record, label: str, timing: Timing, spec: Spec) -> None:
    """What the rounds say about one variant. A baseline has no overhead of its own."""
    rounds = timing.rounds
    record.latency_ms, record.rounds, record.processes = rounds.latency_ms(label), rounds.count, rounds.processes
    record.images_per_s = 1e3 * record.batch / record.latency_ms
    record.convert_s = timing.convert_s.get(label)
    compared = timing.labels if label == BASELINE else [BASELINE, CONTROL, label]
    found = [*cautions(rounds, compared, spec.target), *machine_cautions(rounds, record),
             *timing.cautions.get(label, ())]
    record.cautions += [word for word in found if word not in record.cautions]
    record.samples = _samples(label, rounds, spec)
    if label == BASELINE:
        return
    interval = rounds.overhead(label, BASELINE, CONTROL)
    record.latency_overhead = interval.estimate
    record.latency_overhead_low, record.latency_overhead_high = interval.low, interval.high
    if label in rounds.direct_s:
        _add_direct(record, label, rounds)


def machine_cautions(rounds: Rounds, record: Record) -> list[str]:
    """What the system counted while the rounds ran, where it spoils them."""
    found: list[str] = []
    wall_s = sum(note["seconds"] or 0 for note in rounds.notes)
    stopped_s = sum(note["throttled_s"] or 0 for note in rounds.notes)
    if stopped_s > _THROTTLED_SHARE * wall_s or any(note["heat_throttles"] for note in rounds.notes):
        found.append(Caution.THROTTLING)
    if record.threads > 1 and record.device == "cpu":  # of one thread the processor's own clock tells
        wanted = _mean(rounds, "other_processors") + record.threads
        if wanted > (os.cpu_count() or 1) + _SPARE or _mean(rounds, "steal_processors") > _STEAL:
            found.append(Caution.CONTENTION)
        if record.backend in _OPENMP and os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
            found.append(Caution.SPINNING_THREADS)
    return found


def _mean(rounds: Rounds, name: str) -> float:
    """A figure of the processes' notes, by how long each ran; 0 where the system does not tell."""
    known = [(note["seconds"] or 0.0, note[name]) for note in rounds.notes if note.get(name) is not None]
    seconds = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / seconds if seconds else 0.0


def _samples(label: str, rounds: Rounds, spec: Spec) -> dict[str, Any]:
    control = rounds.control(BASELINE, CONTROL)
    return {
        "clock": rounds.clock, "repeats": rounds.repeats, "allocator": spec.allocator, "process": rounds.process,
        "baseline_s": rounds.times_s(BASELINE), "variant_s": rounds.times_s(label),
        "control_s": rounds.times_s(CONTROL), "control_overhead": control.estimate, "control_low": control.low,
        "control_high": control.high, "wall_s": rounds.wall_s[label], "page_faults_per_pass": _faults(rounds),
    }


def _faults(rounds: Rounds) -> float | None:
    """Page faults of one forward pass, on average over all."""
    counted = [note["minor_faults"] for note in rounds.notes]
    passes = rounds.count * len(rounds.wall_s) * rounds.repeats
    return None if not counted or None in counted else sum(counted) / passes


def _add_direct(record: Record, label: str, rounds: Rounds) -> None:
    """Time inside the attention, by site and stage, and what the whole network takes beyond that."""
    stages = [site["stage"] for site in record.by_site]
    for number, row in enumerate(record.by_site):
        _put(row, "latency", rounds.direct_ms(label, [number]))
    for row in record.by_stage:
        _put(row, "latency", rounds.direct_ms(label, [n for n, stage in enumerate(stages) if stage == row["stage"]]))
    direct, added = rounds.direct_ms(label), rounds.added_ms(label, BASELINE, CONTROL)
    record.latency_direct_ms = direct.estimate
    assert record.samples is not None
    _put(record.samples, "direct", direct)
    _put(record.samples, "beyond", _difference(added, direct))


def _put(row: dict[str, Any], name: str, interval: Interval) -> None:
    row[f"{name}_ms"], row[f"{name}_low_ms"], row[f"{name}_high_ms"] = interval.estimate, interval.low, interval.high


def _difference(first: Interval, second: Interval) -> Interval:
    """first - second, their half-widths added in quadrature: they come from different passes."""
    estimate = first.estimate - second.estimate
    if first.low is None or second.low is None:
        return Interval(estimate, None, None)
    width = (first.half_width**2 + second.half_width**2) ** 0.5
    return Interval(estimate, estimate - width, estimate + width)


def _sum(values: Any) -> float | None:
    known = list(values)
    return None if None in known else sum(known)

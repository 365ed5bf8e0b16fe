"""The page of `secost doctor`: whether this machine is fit to measure on, each check, and a network against itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from secost.pages.page import Column, Kind, Line, Page, Row, Section, Table, Tone
from secost.runs.records import SCHEMA

if TYPE_CHECKING:
    from secost.meters.aa_run import AARun
    from secost.meters.fitness import Check

# In the order of a page: what needs care comes first. What the system does not tell is no row.
_TONES = {"bad": Tone.ALARM, "caution": Tone.CAUTION, "ok": Tone.NONE}


def doctor_page(
    fit: str, because: Sequence[str], checks: Sequence[Check], run: AARun | None,
    environment: Callable[[], Mapping[str, Any]],
) -> Page:
    """All checks, and the A/A run where there was one; `environment` describes the machine, for JSON."""
    answer = f"{fit.capitalize()}: {', '.join(because)}" if because else fit.capitalize()
    return Page(
        "doctor", "Is this machine fit to measure on?", answer, tuple(_sections(checks, run)),
        tuple(asdict(check) for check in checks), lambda: {
            "schema": SCHEMA, "environment": environment(), "verdict": {"fit": fit, "because": list(because)},
            "checks": [asdict(check) for check in checks], "aa": None if run is None else asdict(run),
        }, verdict=True,
    )


def _sections(checks: Sequence[Check], run: AARun | None) -> Iterator[Section]:
    unknown = [check.name for check in checks if check.status not in _TONES]
    aside = Line(f"Not told by this system: {', '.join(unknown)}.", Kind.TEXT, tone=Tone.ASIDE)
    yield Section("checks", "", (), (_checks(checks),), after=(aside,) if unknown else ())
    if run is not None:
        yield from _against_itself(run)


def _checks(checks: Sequence[Check]) -> Table:
    told = sorted((check for check in checks if check.status in _TONES),
                  key=lambda check: list(_TONES).index(check.status))
    rows = [Row.of((check.name, check.status, check.value,
                    f"{check.meaning}; {check.next_step}." if check.next_step else ""), _TONES[check.status])
            for check in told]
    heads = ("Check", "Status", "Found", Column("What it means, and what to do", note=True))
    return Table.of("What was looked at", heads, rows, left=3, heading="", least_width=0)


def _against_itself(run: AARun) -> Iterator[Section]:
    """What was run, what came out, and what could be told apart at which time."""
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    lines = [
        f"{run.model} at {run.resolution} px against itself, {threads}, {run.seconds:g} s:",
        f"{run.rounds} rounds in {run.processes} processes, {run.latency_ms:.3g} ms a pass, by {run.clock} time.",
    ]
    rows = [(f"{row['seconds'] or 0.0:.0f}", f"± {100 * half_width:.2f} %", f"from {100 * least:.2f} % on")
            for row in run.at if (half_width := row["half_width"]) is not None and (least := row["found"]) is not None]
    if len(rows) < len(run.at):
        rows = []
        lines.append("Too few rounds to tell what could be told apart: give it more --seconds.")
    yield Section("aa", "", tuple(Line(line, Kind.TEXT) for line in lines))
    if rows:
        heads = ("--seconds", "interval", "found in 9 of 10 runs")
        table = Table.of("What could be told from none", heads, rows, left=0, heading="", least_width=0)
        before = Line("An overhead of one variant of it could be told from none:", Kind.TEXT)
        after = Line("At best: what differs between a variant and its baseline from process to process comes on top.",
                     Kind.TEXT)
        yield Section("told-apart", "", (before,), (table,), after=(after,))

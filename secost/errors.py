"""Every error secost raises on purpose. The core raises, only the command line prints and exits.

    SecostError
    |-- BadSpecError        a request that can't be carried out as it stands
    |   `-- UnknownNameError    a name that no registry holds, with the nearest ones
    |-- ModelLoadError      a network that can't be had from the name given
    |-- NoSiteError         a network with no place for the attention asked for
    |-- CountError          two independent counts of one network disagree
    |-- RunError            a run directory that can't be read, written or gone on with
    `-- MissingExtraError   an optional dependency that is not installed

A message is one line: what was given, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SecostError(Exception):
    """Base of every error whose one-line message is meant for the user."""


class BadSpecError(SecostError):
    """The request is wrong: a value out of range, an unknown key, a contradiction."""


class UnknownNameError(BadSpecError):
    """A name that is not in the list of names; the message holds the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = nearest(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known[:20])}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")
        self.name, self.near = name, near


class ModelLoadError(SecostError):
    """The network can't be built from the name given."""


class NoSiteError(SecostError):
    """The network has no site for the placement, stages or integration asked for."""


class CountError(SecostError):
    """fvcore and the independent cross-check disagree, so neither may be printed."""


class RunError(SecostError):
    """A run directory that can't be read, written or gone on with."""


class MissingExtraError(SecostError):
    """An optional dependency is missing; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: run pip install 'secost[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The three known names most like `name`, best first; empty when none is alike."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception as one line of text: its type where it is not ours, and its message's first words."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, SecostError):
        text = f"{type(error).__name__}: {text}" if str(error) else text
    return text if len(text) <= limit else text[: limit - 1] + "…"

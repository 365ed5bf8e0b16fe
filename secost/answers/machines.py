"""Whether two environments are the same machine, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Facts that make it another machine. The others (kernel, versions, governor, settings) may be the very change that is
# looked at, so they are shown and not refused.
MACHINE = (
    "cpu", "gpu", "logical_cores", "physical_cores", "usable_cores", "cpu_quota", "caches", "memory_gib", "hypervisor",
    "machine", "os",
)
_MEMORY_SLACK = 0.125  # the memory that a kernel reports varies a little with its version


def machine_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first fact that makes two environments different machines, with both values; None for the same machine.

    A fact that one of them does not have (an earlier version recorded fewer) tells nothing.
    """
    if not old or not new:
        return "the environment of one of them was not recorded"
    for name in MACHINE:
        mine, theirs = old.get(name), new.get(name)
        if mine is not None and theirs is not None and not _same_fact(name, mine, theirs):
            return f"{name} was {mine!r} and is {theirs!r}"
    return None


def environment_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every fact that both have and that is not the same in both, with both values."""
    return [(name, value, new[name]) for name, value in old.items() if name in new and new[name] != value]


def unshared_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The facts that only one of the two has, as when another version wrote it."""
    return sorted(old.keys() ^ new.keys())


def _same_fact(name: str, old: Any, new: Any) -> bool:
    if name == "memory_gib" and isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) <= _MEMORY_SLACK * max(old, new)
    if name == "os":  # the kernel's release is software; the system is not
        return str(old).split(" ")[0] == str(new).split(" ")[0]
    return bool(old == new)

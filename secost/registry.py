"""Names to things: one registry a plug-in point, filled by secost itself and by third parties.

A third party either calls `register` or declares an entry point in the group `secost.plugins`, a
callable that does so when it is called. Entry points are loaded only when a name is not found or the
names are listed; a broken one is a warning, never a crash. `SECOST_NO_PLUGINS=1` leaves them alone.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from secost.errors import BadSpecError, UnknownNameError, one_line

Entry = TypeVar("Entry")
_loaded_plugins: set[str] = set()


class Registry(Generic[Entry]):
    """A table of named entries that says what it holds when asked for something it does not."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry) -> Entry:
        """Add an entry. A name already taken is an error, so that no plug-in replaces another unseen."""
        if name in self._entries:
            raise BadSpecError(f"{self.kind} {name!r} is registered already: choose another name")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownNameError with the nearest names."""
        if name not in self._entries:
            load_plugins()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, in the order they were registered."""
        load_plugins()
        return list(self._entries)


def load_plugins() -> None:
    """Call every entry point of the group `secost.plugins` once."""
    if os.environ.get("SECOST_NO_PLUGINS"):
        return
    for point in entry_points(group="secost.plugins"):
        identity = f"{point.name}={point.value}"
        if identity in _loaded_plugins:
            continue
        _loaded_plugins.add(identity)
        try:
            point.load()()
        except Exception as error:  # a third party's code: anything may come out of it
            warnings.warn(f"plug-in {point.name!r} was left out: {one_line(error)}", stacklevel=2)

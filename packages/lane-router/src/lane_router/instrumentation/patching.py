"""Methods of other libraries, replaced and put back."""

from __future__ import annotations

import functools
from collections.abc import Callable

__all__ = ("Patch", "Patches")

# A function of any signature: what it is given is handed on as it came.
Function = Callable[..., object]


class Patch:
    """One attribute that is replaced by what `make` makes of it.

    It is put back only when nobody replaced it again since: theirs calls ours, and ours, once
    undone, does nothing of its own. So `make` has to look at `active.egress` in each call.
    """

    def __init__(self, owner: object, name: str, make: Callable[[Function], Function]) -> None:
        self._owner = owner
        self._name = name
        self._make = make
        self._ours: Function | None = None
        self._theirs: Function | None = None

    def apply(self) -> None:
        """Replace it, unless that was done and holds."""
        if self._ours is not None:
            return
        self._theirs = getattr(self._owner, self._name)
        self._ours = functools.wraps(self._theirs)(self._make(self._theirs))
        self._ours.__dict__["lane_router_original"] = self._theirs
        setattr(self._owner, self._name, self._ours)

    def undo(self) -> None:
        """Put it back, if it is still ours to do so."""
        if self._ours is not None and getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._theirs)
            self._ours = self._theirs = None


class Patches:
    """All of one library."""

    def __init__(self, *patches: Patch) -> None:
        self._patches = patches

    def apply(self) -> None:
        """Replace all."""
        for patch in self._patches:
            patch.apply()

    def undo(self) -> None:
        """Put all back."""
        for patch in self._patches:
            patch.undo()

"""Methods of other libraries, replaced and restored, and the egress that the replacements use."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lane_router.routing.egress import Egress

__all__ = ("Function", "Patch", "Patches", "active_egress", "original_of")

# Of the last `instrument`; None = not instrumented. Read as `patching.active_egress` in each call,
# so that instrumenting again reaches clients that were patched before.
active_egress: Egress | None = None

# A function of any signature: its arguments are passed on as they are.
Function = Callable[..., object]


class Patch:
    """One attribute that is replaced by `make(original)`.

    It is restored only if no other library has replaced it since: that library's replacement calls
    this one, which then has to pass the call on. So the result of `make` has to look at
    `active_egress` in each call and call the original when it is None.
    """

    def __init__(self, owner: object, name: str, make: Callable[[Function], Function]) -> None:
        self._owner = owner
        self._name = name
        self._make = make
        self._replacement: Function | None = None
        self._original: Function | None = None

    def apply(self) -> None:
        """Replace the attribute, unless this patch is applied already."""
        if self._replacement is not None:
            return
        self._original = getattr(self._owner, self._name)
        self._replacement = functools.wraps(self._original)(self._make(self._original))
        # For those that need the library's own function, see `original_of`.
        self._replacement.__dict__["lane_router_original"] = self._original
        setattr(self._owner, self._name, self._replacement)

    def undo(self) -> None:
        """Restore the attribute, if it still is this patch's replacement."""
        replacement = self._replacement
        if replacement is not None and getattr(self._owner, self._name) is replacement:
            setattr(self._owner, self._name, self._original)
            self._replacement = self._original = None


def original_of(function: Function) -> Function:
    """The function as it was before it was patched; itself if it was not."""
    original: Function = getattr(function, "lane_router_original", function)
    return original


class Patches:
    """All patches of one library."""

    def __init__(self, *patches: Patch) -> None:
        self._patches = patches

    def apply(self) -> None:
        """Apply each."""
        for patch in self._patches:
            patch.apply()

    def undo(self) -> None:
        """Undo each."""
        for patch in self._patches:
            patch.undo()

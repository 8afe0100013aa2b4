"""Which services changed between the last versions of the route table."""

from __future__ import annotations

from collections import deque

from .routes import NO_ROUTES, RouteTable

__all__ = ("RouteDeltas",)


class RouteDeltas:
    """The last changes, so that a client that knows a recent version gets the difference only.

    Args:
        max_versions: the most changes that are kept.
        max_services: the most changed services that are kept, all changes together.
    """

    def __init__(self, *, max_versions: int = 64, max_services: int = 4096) -> None:
        self._max_versions = max_versions
        self._max_services = max_services
        self._changes: deque[tuple[str, frozenset[str]]] = deque()
        self._count = 0

    def record(self, before: RouteTable, after: RouteTable) -> None:
        """Keep which services differ between the two tables."""
        if before is NO_ROUTES:
            return
        names = before.versions.keys() | after.versions.keys()
        changed = frozenset(
            name for name in names if before.versions.get(name) != after.versions.get(name)
        )
        self._changes.append((before.version, changed))
        self._count += len(changed)
        while len(self._changes) > self._max_versions or self._count > self._max_services:
            self._count -= len(self._changes.popleft()[1])

    def find_changed(self, since: str) -> frozenset[str] | None:
        """The services that changed after that version; None when it is too old, or unknown."""
        changed: frozenset[str] = frozenset()
        for version, names in reversed(self._changes):
            changed |= names
            if version == since:
                return changed
        return None

"""What changed lately, for the status page: bounded in number and in time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from .published import rfc3339
from .routes import Route

__all__ = ("History", "route_changes")

HOUR = 3600.0


class History:
    """The last changes, at most `most` and at most an hour old."""

    def __init__(self, *, most: int = 200, wall_clock: Callable[[], float] = time.time) -> None:
        self._entries: deque[tuple[float, str, str]] = deque(maxlen=most)
        self._wall_clock = wall_clock

    def add(self, service: str, changes: Iterable[str]) -> None:
        """Remember what happened to the service."""
        now = self._wall_clock()
        self._entries.extend((now, service, what) for what in changes)

    def document(self) -> list[dict[str, str]]:
        """The wire form, newest first."""
        oldest = self._wall_clock() - HOUR
        return [
            {"at": rfc3339(at), "service": service, "what": what}
            for at, service, what in reversed(self._entries)
            if at >= oldest
        ]


def route_changes(before: Mapping[str, Route], after: Mapping[str, Route], name: str) -> list[str]:
    """What is different for one service, in words."""
    old, new = before.get(name), after.get(name)
    if old is None or new is None:
        return ["route added" if old is None else "route removed"]
    lanes_before = {lane for lane, target in old.lanes.items() if target.available}
    lanes_after = {lane for lane, target in new.lanes.items() if target.available}
    told = [f"lane {lane} added" for lane in sorted(lanes_after - lanes_before)]
    told += [f"lane {lane} removed" for lane in sorted(lanes_before - lanes_after)]
    return told or ["endpoints or ports changed"]

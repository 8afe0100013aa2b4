"""The changes of the last hour, for the status page: bounded in number and in time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from .published_routes import format_rfc3339
from .routes import Route

__all__ = ("ChangeHistory", "describe_changes")

_MAX_AGE_SECONDS = 3600.0


class ChangeHistory:
    """The last changes, at most `max_entries` and at most an hour old."""

    def __init__(
        self, *, max_entries: int = 200, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._entries: deque[tuple[float, str, str]] = deque(maxlen=max_entries)
        self._wall_clock = wall_clock
        self._added = 0

    def add(self, service: str, changes: Iterable[str]) -> None:
        """Record changes of the service, each described in words."""
        now = self._wall_clock()
        for change in changes:
            self._entries.append((now, service, change))
            self._added += 1

    def count_entries(self) -> tuple[int, int]:
        """How many entries were added so far, and how many `to_documents` has now.

        Together they say whether `to_documents` has changed, which it does with time alone, too.
        """
        oldest = self._wall_clock() - _MAX_AGE_SECONDS
        return self._added, sum(changed_at >= oldest for changed_at, _, _ in self._entries)

    def to_documents(self) -> list[dict[str, str]]:
        """The entries as `/v1/status` lists them, newest first."""
        oldest = self._wall_clock() - _MAX_AGE_SECONDS
        return [
            {"at": format_rfc3339(changed_at), "service": service, "what": change}
            for changed_at, service, change in reversed(self._entries)
            if changed_at >= oldest
        ]


def describe_changes(
    before: Mapping[str, Route], after: Mapping[str, Route], name: str
) -> list[str]:
    """The differences of one service's route, in words."""
    old, new = before.get(name), after.get(name)
    if old is None or new is None:
        return ["route added" if old is None else "route removed"]
    lanes_before = {lane for lane, target in old.lanes.items() if target.available}
    lanes_after = {lane for lane, target in new.lanes.items() if target.available}
    changes = [f"lane {lane} added" for lane in sorted(lanes_after - lanes_before)]
    changes += [f"lane {lane} removed" for lane in sorted(lanes_before - lanes_after)]
    return changes or ["endpoints or ports changed"]

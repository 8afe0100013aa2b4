"""Lanes whose name did not resolve, or that refused: absent for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ("FIRST_SECONDS", "UnreachableLanes")

FIRST_SECONDS = 0.5
_MOST = 1024
_NEVER = float("inf")

Key = tuple[str, str]


class Mark(NamedTuple):
    """How long one lane of one service counts as absent."""

    until: float
    seconds: float


class UnreachableLanes:
    """Marks that end on their own: after half a second, and twice as long each time it goes on.

    A lane is told before the cluster's DNS and proxies know it, so the first refusals say little;
    one that goes on refusing is soon asked as rarely as `longest_seconds`.

    Reading takes no lock. Of two marks at once one may be lost: the next refusal sets it again.
    """

    __slots__ = ("_clock", "_longest", "_marks")

    def __init__(self, longest_seconds: float, clock: Callable[[], float]) -> None:
        self._longest = longest_seconds
        self._clock = clock
        self._marks: dict[Key, Mark] = {}

    def mark(self, service: str, lane: str) -> None:
        """It refused. Requests that were refused together count once."""
        now = self._clock()
        before = self._marks.get((service, lane))
        if before is not None and now < before.until:
            return
        # What has not refused for as long as a mark can last begins anew.
        marks = {key: mark for key, mark in self._marks.items() if now < mark.until + self._longest}
        going_on = marks.pop((service, lane), None)
        seconds = 2 * going_on.seconds if going_on else FIRST_SECONDS
        seconds = min(seconds, self._longest)
        if len(marks) >= _MOST:
            marks.pop(next(iter(marks)))
        marks[service, lane] = Mark(now + seconds, seconds)
        self._marks = marks

    def forget(self) -> None:
        """The routes changed: whatever refused may be there now."""
        self._marks = {}

    def now(self) -> frozenset[Key]:
        """Service and lane of all that count as absent."""
        now = self._clock()
        return frozenset(key for key, mark in self._marks.items() if now < mark.until)

    def next_end(self) -> float:
        """When the first of them counts again."""
        now = self._clock()
        return min(
            (mark.until for mark in self._marks.values() if now < mark.until), default=_NEVER
        )

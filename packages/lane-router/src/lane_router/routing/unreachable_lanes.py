"""Lanes whose host name did not resolve or that refused a connection: absent for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ("FIRST_SECONDS", "UnreachableLanes")

FIRST_SECONDS = 0.5
_MOST = 1024
_NEVER = float("inf")

# A service and its lane.
Key = tuple[str, str]


class Mark(NamedTuple):
    """How long one lane of one service counts as absent.

    Attributes:
        until: monotonic seconds.
        seconds: the length of this mark; the next one is twice as long.
    """

    until: float
    seconds: float


class UnreachableLanes:
    """Marks that expire by themselves: after half a second, and twice as long each next time.

    The registry publishes a lane before the DNS and the proxies of the cluster know it, so first
    refusals prove little; a lane that keeps refusing is tried every `longest_seconds` only.

    Reading takes no lock. Of two concurrent marks one may be lost: the next refusal sets it again.
    """

    __slots__ = ("_clock", "_longest", "_marks")

    def __init__(self, longest_seconds: float, clock: Callable[[], float]) -> None:
        self._longest = longest_seconds
        self._clock = clock
        self._marks: dict[Key, Mark] = {}

    def mark(self, service: str, lane: str) -> None:
        """Count the lane as absent; requests that were refused at the same time count once."""
        now = self._clock()
        before = self._marks.get((service, lane))
        if before is not None and now < before.until:
            return
        # An expired mark is remembered for as long as a mark can last: a lane that refuses within
        # that time is absent twice as long, one that did not starts again at the first duration.
        marks = {key: mark for key, mark in self._marks.items() if now < mark.until + self._longest}
        recent = marks.pop((service, lane), None)
        seconds = min(2 * recent.seconds if recent else FIRST_SECONDS, self._longest)
        if len(marks) >= _MOST:
            marks.pop(next(iter(marks)))
        marks[service, lane] = Mark(now + seconds, seconds)
        self._marks = marks

    def clear(self) -> None:
        """Remove all marks: the routes changed, so any lane may be reachable again."""
        self._marks = {}

    def snapshot(self) -> frozenset[Key]:
        """(service, lane) of all lanes that count as absent now."""
        now = self._clock()
        return frozenset(key for key, mark in self._marks.items() if now < mark.until)

    def next_expiry(self) -> float:
        """When the first of them counts as present again, in monotonic seconds; infinity = never."""
        now = self._clock()
        return min(
            (mark.until for mark in self._marks.values() if now < mark.until), default=_NEVER
        )

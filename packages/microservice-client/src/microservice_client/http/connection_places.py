"""Places for connections to one instance: whoever sends a request takes one, in order of arrival.

A connection layer counts the wait for a connection of its own pool as part of connecting, so that a
burst of calls looks like an instance that does not respond. Places are waited for before the layer
is asked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

__all__ = ("ConnectionPlaces",)


class ConnectionPlaces:
    """A fixed number of places for the connections to one instance.

    Args:
        limit: most places in use at the same time.

    Attributes:
        limit: as given.
        in_use: places taken.
    """

    __slots__ = ("_waiting", "in_use", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a place."""
        return len(self._waiting)

    def try_take(self) -> bool:
        """Take a place without a wait; return whether there was one, and no other waits for it."""
        if self.in_use >= self.limit or self._waiting:
            return False
        self.in_use += 1
        return True

    async def take(self) -> bool:
        """Wait for a place and take it; return False if `close` ended the wait."""
        if self.try_take():
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            return await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.result():
                self.give_back()  # it was handed over in the moment of the cancellation
            raise

    def give_back(self) -> None:
        """Return a place; it passes to the one that waits longest."""
        if self._waiting and not _runs_here(loop := next(iter(self._waiting)).get_loop()):
            # The collector ends a response that was dropped in whatever thread it runs.
            loop.call_soon_threadsafe(self._pass_on)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if _end_wait(turn, has_place=True):
                return
        self.in_use -= 1

    def close(self) -> None:
        """End every wait without a place."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            _end_wait(turn, has_place=False)


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _end_wait(turn: asyncio.Future[bool], *, has_place: bool) -> bool:
    """End the wait, unless it has been cancelled; return whether it was ended."""
    if turn.done():
        return False
    turn.set_result(has_place)
    return True

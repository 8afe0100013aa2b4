"""Bulkhead: at most so many calls at once, and a bounded line of callers who wait their turn.

The terms are Resilience4j's; first come first served is ours. The free places are a list whose
`pop` and `append` are atomic, so that entering and leaving need no lock while nobody waits.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import CoroutineType, TracebackType
from typing import Annotated, ParamSpec, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from microservice_core import InvalidValueError
from microservice_governance.errors import BulkheadFullError
from microservice_governance.policy import Policy, refuse_coroutine
from microservice_governance.timeouts.deadline import deadline

from .waiters import TaskTurn, ThreadTurn, Turn

__all__ = ("Bulkhead", "BulkheadConfig")

P = ParamSpec("P")
R = TypeVar("R")


class BulkheadConfig(BaseModel):
    """The settings of one bulkhead.

    Attributes:
        limit: calls at once.
        queue: callers who may wait for a place; all others are refused.
        max_wait_seconds: how long they wait at most; None = as long as the deadline allows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100_000)]
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_wait_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None


class Bulkhead(Policy):
    """Let at most `limit` calls run at once; up to `queue` more wait, first come first served.

    One line for threads and tasks of any event loop. A place goes straight to the next in line.
    Also a context manager, plain and async.

    Args:
        max_wait_seconds: how long a caller waits at most; the `deadline` in force counts as well.
        name: for messages and events.

    Raises:
        InvalidValueError: a number outside its range.
    """

    kind = "bulkhead"

    def __init__(
        self,
        limit: int,
        *,
        queue: int = 0,
        max_wait_seconds: float | None = None,
        name: str = "bulkhead",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(limit, queue, max_wait_seconds)
        self.name = name
        self.limit = limit
        self.queue = queue
        self.max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._free: list[None] = [None] * limit
        self._owed = 0
        self._line: deque[Turn] = deque()
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        """Calls running now."""
        return self.limit - len(self._free) + self._owed

    @property
    def waiting(self) -> int:
        """Callers in line now."""
        return len(self._line)

    @property
    def load(self) -> float:
        """Share of the places that are taken; above 1 while callers wait."""
        return (self.in_flight + self.waiting) / self.limit

    def reconfigure(self, config: BulkheadConfig) -> None:
        """Take other limits; calls in flight above a smaller limit run to their end."""
        with self._lock:
            self._resize(config.limit)
            self.queue = config.queue
            self.max_wait_seconds = config.max_wait_seconds
        self._serve()

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` once there is a place.

        Raises:
            BulkheadFullError: there is none, and no room or time to wait.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        with self:
            result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` once there is a place.

        Raises:
            BulkheadFullError: there is none, and no room or time to wait.
        """
        if self._line or not self._try_enter():
            await self._wait()
        try:
            return await fn(*args, **kwargs)
        finally:
            self._leave()

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """`fn` under the bulkhead, with the way in and out written out."""
        line, enter, free = self._line, self._free.pop, self._free.append

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if line:
                await self._wait()
            else:
                try:
                    enter()
                except IndexError:
                    await self._wait()
            try:
                return await fn(*args, **kwargs)
            finally:
                if self._owed:
                    self._pay_back()
                else:
                    free(None)
                if line:
                    self._serve()

        return guarded

    def snapshot(self) -> dict[str, object]:
        """How full it is."""
        return {
            **super().snapshot(),
            "limit": self.limit,
            "queue": self.queue,
            "in_flight": self.in_flight,
            "waiting": self.waiting,
        }

    def __enter__(self) -> Self:
        if self._line or not self._try_enter():
            turn = ThreadTurn()
            if self._stand_in_line(turn):
                self._await_in_thread(turn)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        if self._line or not self._try_enter():
            await self._wait()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave()

    def __repr__(self) -> str:
        return f"Bulkhead({self.name!r}, {self.in_flight} of {self.limit}, {self.waiting} waiting)"

    def _try_enter(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def _leave(self) -> None:
        if self._owed:
            self._pay_back()
        else:
            self._free.append(None)
        # Asked after the place is free again: who stood in line meanwhile saw none, or is seen.
        if self._line:
            self._serve()

    def _serve(self) -> None:
        """Hand free places to those in line, so that no newcomer overtakes."""
        with self._lock:
            while self._line and self._try_enter():
                if not self._line.popleft().grant():
                    self._free.append(None)

    def _stand_in_line(self, turn: Turn) -> bool:
        """False: a place came free meanwhile and is the caller's."""
        with self._lock:
            room = len(self._line) < self.queue
            if room:
                self._line.append(turn)
            elif not self._line and self._try_enter():
                return False
        if not room:
            raise self._rejected(BulkheadFullError(self.name, self.limit))
        self._serve()
        return True

    async def _wait(self) -> None:
        turn = TaskTurn()
        if not self._stand_in_line(turn):
            return
        patience = self._patience()
        try:
            async with asyncio.timeout(patience):
                await turn.future
        except TimeoutError:
            if not self._step_out(turn):
                return  # the place came in the same moment
            raise self._rejected(BulkheadFullError(self.name, self.limit, patience)) from None
        except BaseException:
            if not self._step_out(turn):
                self._leave()
            raise

    def _await_in_thread(self, turn: ThreadTurn) -> None:
        patience = self._patience()
        try:
            came = turn.event.wait(patience)
        except BaseException:
            if not self._step_out(turn):
                self._leave()
            raise
        if not came and self._step_out(turn):
            raise self._rejected(BulkheadFullError(self.name, self.limit, patience))

    def _step_out(self, turn: Turn) -> bool:
        """Leave the line; False when a place was handed over already."""
        with self._lock:
            if not turn.granted:
                with suppress(ValueError):  # its loop was closed, and it was passed over
                    self._line.remove(turn)
            return not turn.granted

    def _patience(self) -> float | None:
        left = deadline.remaining(self._clock)
        limits = [limit for limit in (self.max_wait_seconds, left) if limit is not None]
        return max(0.0, min(limits)) if limits else None

    def _resize(self, limit: int) -> None:
        more, self.limit = limit - self.limit, limit
        paid = min(max(more, 0), self._owed)
        self._owed -= paid
        self._free.extend([None] * (more - paid))
        for _ in range(-more):
            if not self._try_enter():
                self._owed += 1

    def _pay_back(self) -> None:
        """A call of before the limit shrank ends: its place is no more."""
        with self._lock:
            if self._owed:
                self._owed -= 1
            else:
                self._free.append(None)


def _check(limit: int, queue: int, max_wait_seconds: float | None) -> None:
    if not 1 <= limit <= 100_000:
        raise InvalidValueError("limit", limit, "a whole number from 1 to 100000")
    if not 0 <= queue <= 1_000_000:
        raise InvalidValueError("queue", queue, "a whole number from 0 to 1000000")
    if max_wait_seconds is not None and not 0 < max_wait_seconds <= 86_400:
        raise InvalidValueError("max_wait_seconds", max_wait_seconds, "above 0, at most 86400")

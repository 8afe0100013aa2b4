"""The block form of a retry: a loop whose body is tried until it succeeds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .retry import Retry

__all__ = ("Attempt", "RetryBlock")


class Attempt:
    """One try of the block: `with attempt:`.

    Attributes:
        number: which one it is, from 1.
        wait_seconds: the wait before the next one; None when there is none.
    """

    def __init__(self, retry: Retry, number: int, waited: float) -> None:
        self._retry = retry
        self._config = retry.config
        self._waited = waited
        self.number = number
        self.wait_seconds: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        # What is to be tried again is kept in; everything else comes out.
        if isinstance(exc, self._config.on) and self._config.may_repeat(exc, (), {}):
            self.wait_seconds = self._retry.wait_after(
                exc, self.number, self._waited, config=self._config
            )
        return self.wait_seconds is not None


class RetryBlock:
    """Tries of one block, one after the other; ends with the first that is not to be repeated."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry

    def __iter__(self) -> Iterator[Attempt]:
        attempt = self._first()
        yield attempt
        while attempt.wait_seconds is not None:
            self._retry.pause(attempt.wait_seconds)
            attempt = self._next(attempt)
            yield attempt

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        attempt = self._first()
        yield attempt
        while attempt.wait_seconds is not None:
            await self._retry.async_pause(attempt.wait_seconds)
            attempt = self._next(attempt)
            yield attempt

    def _first(self) -> Attempt:
        if self._retry.budget is not None:
            self._retry.budget.record_call()
        return Attempt(self._retry, 1, 0.0)

    def _next(self, before: Attempt) -> Attempt:
        return Attempt(self._retry, before.number + 1, before.wait_seconds or 0.0)

"""Rate limits shared through Redis, for redis-py's asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from microservice_core import InvalidValueError
from microservice_governance import _steps
from microservice_governance._redis import AsyncClient, describe_failure, make_async_client
from microservice_governance.testing_mode import async_sleep, is_testing

from .async_commands import AsyncCommands
from .config import Decision, LimitConfig
from .keys import LimitKey, encode_key
from .local_view import FailurePolicy
from .shared_limit import SharedLimit

__all__ = ("AsyncRedisRateLimiter",)


class AsyncRedisRateLimiter(SharedLimit):
    """As `RedisRateLimiter`, for an asyncio client; simultaneous decisions share a round trip.

    Belongs to the event loop of its client. A stalled event loop is no failure of Redis: the time in
    which it did not run does not count.

    Args:
        client: of `redis.asyncio`, for one server or a cluster; RESP 2 or 3, with
            `decode_responses` or without. It stays open. Make it with
            `retry=Retry(NoBackoff(), 0)`, or use `from_url`.
        timeout_seconds: how long Redis may take to respond.
        connect_timeout_seconds: how long connecting may take. A call waits `timeout_seconds` for it
            at most, and is decided without Redis then.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        client: AsyncClient,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
        connect_timeout_seconds: float = 1.0,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = async_sleep,
        server_time: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            limits,
            name=name,
            on_failure=on_failure,
            replicas=replicas,
            lease=lease,
            max_keys=max_keys,
            clock=clock,
            server_time=server_time,
        )
        _validate_seconds("timeout_seconds", timeout_seconds)
        _validate_seconds("connect_timeout_seconds", connect_timeout_seconds)
        self._client = client
        self._owns_client = False
        self._sleep = sleep
        self._commands = AsyncCommands(
            client,
            timeout_seconds=timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
            on_failure=lambda error: self._local.record_failure(None, describe_failure(error)),
        )
        self._waiting_lines: dict[str, _WaitingLine] = {}
        self._warn_of_retries(client)

    @classmethod
    def from_url(
        cls,
        url: str,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
        connect_timeout_seconds: float = 1.0,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
    ) -> Self:
        """A limiter that owns its client; `aclose` closes it."""
        limiter = cls(
            make_async_client(url),
            limits,
            name=name,
            timeout_seconds=timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
            on_failure=on_failure,
            replicas=replicas,
            lease=lease,
        )
        limiter._owns_client = True
        return limiter

    async def try_acquire(self, key: LimitKey, cost: int = 1) -> Decision:
        """Take `cost` units of the key's limits if they are free now.

        Args:
            key: a text, a whole number, bytes, or a tuple of these.
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative or not a whole number, or `key` of another type.
        """
        name = encode_key(key)
        decision = self._local.decide(name, cost)
        if decision is not None:
            return decision
        return await _steps.run_async(self._decide_by_redis(name, cost), self._commands.send)

    async def acquire(self, key: LimitKey, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them.

        Callers of this process that wait for the same key are served first come, first served.

        Args:
            timeout: longest wait in seconds; the current `deadline` can make it shorter.

        Raises:
            RateLimitedError: the wait would be too long; raised at once, without waiting.
            InvalidValueError: as of `try_acquire`, or `cost` is above the burst and so never free.
        """
        ends_at = self._wait_until(cost, timeout)
        async with self._wait_in_line(encode_key(key), ends_at):
            while not (decision := await self.try_acquire(key, cost)).allowed and not is_testing():
                await self._sleep(self._seconds_to_retry(decision, ends_at))

    def snapshot(self) -> dict[str, object]:
        """As of `RedisRateLimiter`, and the number of keys that callers wait for."""
        snapshot = super().snapshot()
        if self._commands.is_connecting:
            snapshot["shared"] = False
        return {**snapshot, "waiting_keys": len(self._waiting_lines)}

    async def aclose(self) -> None:
        """Cancel the commands under way; close the client that `from_url` made."""
        await self._commands.aclose()
        if self._owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _wait_in_line(self, key: str, ends_at: float) -> AsyncIterator[None]:
        """The caller's turn among those that wait for `key`; only the first of them polls Redis.

        Raises:
            RateLimitedError: the turn did not come before `ends_at`.
        """
        line = self._waiting_lines.setdefault(key, _WaitingLine())
        line.callers += 1
        try:
            seconds = ends_at - self._clock()
            try:
                async with asyncio.timeout(None if seconds == float("inf") else seconds):
                    await line.turn.acquire()
            except TimeoutError:
                raise self._rate_limited(None) from None
            try:
                yield
            finally:
                line.turn.release()
        finally:
            line.callers -= 1
            if not line.callers:
                self._waiting_lines.pop(key, None)


class _WaitingLine:
    """The callers that wait for one key; asyncio's lock is first come, first served."""

    __slots__ = ("callers", "turn")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.callers = 0


def _validate_seconds(field: str, seconds: float) -> None:
    if not 0 < seconds <= 60:
        raise InvalidValueError(field, seconds, "above 0, at most 60")

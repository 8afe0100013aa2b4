"""Rate limits shared through Redis, for redis-py's asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, cast

from microservice_core import InvalidValueError
from microservice_governance import _steps
from microservice_governance._redis import AsyncClient, AsyncRedis, AsyncRedisCluster
from microservice_governance.testing_mode import async_sleep, is_testing

from .config import Decision, LimitConfig
from .local_view import FailurePolicy
from .shared_limit import SharedLimit

__all__ = ("AsyncRedisRateLimiter",)

_MAX_BATCH = 128

_QueuedCommand = tuple[_steps.Command, "asyncio.Future[object]"]


class AsyncRedisRateLimiter(SharedLimit):
    """As `RedisRateLimiter`, for an asyncio client; simultaneous decisions share a round trip.

    Belongs to the event loop of its client.

    Args:
        client: of `redis.asyncio`, for one server or a cluster; RESP 2 or 3, with
            `decode_responses` or without.
        timeout_seconds: how long Redis may take to respond.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        client: AsyncClient,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
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
        if not 0 < timeout_seconds <= 60:
            raise InvalidValueError("timeout_seconds", timeout_seconds, "above 0, at most 60")
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        # A pipeline of a cluster client cannot carry scripts.
        self._can_batch = not isinstance(client, AsyncRedisCluster)
        self._unbatched = 0
        self._queue: list[_QueuedCommand] = []
        self._batches: set[asyncio.Task[None]] = set()
        self._waiting_lines: dict[str, _WaitingLine] = {}

    @classmethod
    def from_url(
        cls,
        url: str,
        limits: LimitConfig | Sequence[LimitConfig],
        *,
        name: str,
        timeout_seconds: float = 0.05,
        on_failure: FailurePolicy = "local",
        replicas: int = 1,
        lease: int = 1,
    ) -> Self:
        """A limiter that owns its client; `aclose` closes it."""
        return cls(
            AsyncRedis.from_url(url),
            limits,
            name=name,
            timeout_seconds=timeout_seconds,
            on_failure=on_failure,
            replicas=replicas,
            lease=lease,
        )

    async def try_acquire(self, key: str, cost: int = 1) -> Decision:
        """Take `cost` units of the key's limits if they are free now.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative.
        """
        decision = self._local.decide(key, cost)
        if decision is not None:
            return decision
        return await _steps.run_async(self._decide_by_redis(key, cost), self._send)

    async def acquire(self, key: str, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them.

        Callers of this process that wait for the same key are served first come, first served.

        Args:
            timeout: longest wait in seconds; the current `deadline` can make it shorter.

        Raises:
            RateLimitedError: the wait would be too long; raised at once, without waiting.
            InvalidValueError: `cost` is negative, or above the burst and so never free.
        """
        ends_at = self._wait_until(cost, timeout)
        async with self._wait_in_line(key, ends_at):
            while not (decision := await self.try_acquire(key, cost)).allowed and not is_testing():
                await self._sleep(self._seconds_to_retry(decision, ends_at))

    def snapshot(self) -> dict[str, object]:
        """The limits, whether Redis is reachable, and the number of keys that callers wait for."""
        return {**super().snapshot(), "waiting_keys": len(self._waiting_lines)}

    async def aclose(self) -> None:
        """Cancel the commands under way and close the client."""
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
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

    async def _send(self, command: _steps.Command) -> object:
        """Send one command: alone if no other is under way, in a batch otherwise."""
        if self._unbatched and self._can_batch:
            return await self._enqueue(command)
        self._unbatched += 1
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return cast("object", await self._client.execute_command(*command))
        finally:
            self._unbatched -= 1

    def _enqueue(self, command: _steps.Command) -> asyncio.Future[object]:
        """Queue a command; those of the same iteration of the event loop go out together."""
        loop = asyncio.get_running_loop()
        response: asyncio.Future[object] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._send_queue)
        self._queue.append((command, response))
        return response

    def _send_queue(self) -> None:
        queue, self._queue = self._queue, []
        for start in range(0, len(queue), _MAX_BATCH):
            # Not supervised: a batch ends by itself, and its failure goes to its callers.
            batch = asyncio.ensure_future(self._send_batch(queue[start : start + _MAX_BATCH]))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _send_batch(self, batch: list[_QueuedCommand]) -> None:
        try:
            responses = await self._execute_pipeline([command for command, _ in batch])
        except BaseException as error:
            for _, future in batch:
                _complete(future, _error_for_callers(error))
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), response in zip(batch, responses, strict=True):
            _complete(future, response)

    async def _execute_pipeline(self, commands: Sequence[_steps.Command]) -> list[object]:
        client = cast("AsyncRedis", self._client)
        async with asyncio.timeout(self._timeout_seconds):
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))


class _WaitingLine:
    """The callers that wait for one key; asyncio's lock is first come, first served."""

    __slots__ = ("callers", "turn")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.callers = 0


def _error_for_callers(error: BaseException) -> BaseException:
    """The error of a batch as its callers see it: a cancelled batch does not cancel them."""
    if isinstance(error, asyncio.CancelledError):
        return TimeoutError("the limiter was closed")
    return error


def _complete(future: asyncio.Future[object], response: object) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(response, BaseException):
        future.set_exception(response)
    else:
        future.set_result(response)

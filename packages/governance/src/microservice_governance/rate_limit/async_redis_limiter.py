"""Limits shared through Redis, for redis-py's asyncio client: decisions that meet go together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, cast

from microservice_core import InvalidValueError
from microservice_governance._redis import (
    FAILURES,
    AsyncClient,
    AsyncRedis,
    AsyncRedisCluster,
    NoScriptError,
)
from microservice_governance.testing_mode import async_sleep, is_testing

from .config import Decision, LimitConfig
from .distributed_limit import FailurePolicy
from .redis_limiter import Answer, Arguments, SharedLimit
from .redis_script import read_grant

__all__ = ("AsyncRedisRateLimiter",)

_LARGEST_BATCH = 128


class AsyncRedisRateLimiter(SharedLimit):
    """As `RedisRateLimiter`, for an asyncio client; decisions that meet share one round trip.

    Belongs to the event loop of its client.

    Args:
        client: of `redis.asyncio`, for one server or a cluster; RESP 2 or 3, `decode_responses`
            or not.
        timeout_seconds: how long Redis may take to answer.
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
        # In a cluster a pipeline cannot carry scripts.
        self._alone = isinstance(client, AsyncRedisCluster)
        self._asking = 0
        self._queue: list[tuple[Arguments, asyncio.Future[Answer]]] = []
        self._lines: dict[str, _Line] = {}
        self._batches: set[asyncio.Task[None]] = set()

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
        """A limiter with a client of its own, which `aclose` closes."""
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
        known = self._limit.known(key, cost)
        if known is not None:
            return known
        permit = self._limit.permit()
        if permit is None:
            return self._limit.without_redis(key, cost)
        with permit:
            try:
                granted = read_grant(await self._ask(self._arguments(key, cost)))
            except FAILURES as error:
                permit.release(error)
                return self._limit.without_redis(key, cost)
        return self._limit.learned(key, cost, granted)

    async def acquire(self, key: str, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them.

        Those of this process who wait for the same key go first come first served.

        Args:
            timeout: seconds to wait at most; the `deadline` in force counts as well.

        Raises:
            RateLimitedError: the wait would be longer than allowed; told at once.
            InvalidValueError: `cost` is negative, or above the burst and so never free.
        """
        ends_at = self._ends_at(cost, timeout)
        async with self._turn(key, ends_at):
            while not (decision := await self.try_acquire(key, cost)).allowed and not is_testing():
                await self._sleep(self._wait_after(decision, ends_at))

    @asynccontextmanager
    async def _turn(self, key: str, ends_at: float) -> AsyncIterator[None]:
        """The caller's turn among those who wait for that key; only the first of them asks."""
        line = self._lines.setdefault(key, _Line())
        line.waiting += 1
        try:
            left = ends_at - self._clock()
            try:
                async with asyncio.timeout(None if left == float("inf") else left):
                    await line.turn.acquire()
            except TimeoutError:
                raise self._refusal(None) from None
            try:
                yield
            finally:
                line.turn.release()
        finally:
            line.waiting -= 1
            if not line.waiting:
                self._lines.pop(key, None)

    async def aclose(self) -> None:
        """End what is under way and close the client."""
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

    async def _ask(self, arguments: Arguments) -> Answer:
        if self._asking and not self._alone:
            return await self._enqueue(arguments)
        self._asking += 1
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._ask_alone(arguments)
        finally:
            self._asking -= 1

    async def _ask_alone(self, arguments: Arguments) -> Answer:
        client = self._client
        try:
            answer = await client.execute_command("EVALSHA", self._rules.sha, *arguments)
        except NoScriptError:
            answer = await client.execute_command("EVAL", self._rules.script, *arguments)
        return cast("Answer", answer)

    def _enqueue(self, arguments: Arguments) -> asyncio.Future[Answer]:
        """Those who ask in the same turn of the loop as somebody else go together."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._send_queue)
        self._queue.append((arguments, answer))
        return answer

    def _send_queue(self) -> None:
        queue, self._queue = self._queue, []
        for first in range(0, len(queue), _LARGEST_BATCH):
            batch = asyncio.ensure_future(self._ask_together(queue[first : first + _LARGEST_BATCH]))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _ask_together(self, batch: list[tuple[Arguments, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._pipelined(batch)
        except BaseException as error:
            for _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(_told(error))
            if not isinstance(error, Exception):
                raise
            return
        for (arguments, waiting), answer in zip(batch, answers, strict=True):
            lost = isinstance(answer, NoScriptError)
            _settle(waiting, await self._loaded(arguments) if lost else answer)

    async def _pipelined(
        self, batch: list[tuple[Arguments, asyncio.Future[Answer]]]
    ) -> list[object]:
        client = cast("AsyncRedis", self._client)
        async with asyncio.timeout(self._timeout_seconds):
            pipe = client.pipeline(transaction=False)
            for arguments, _ in batch:
                pipe.execute_command("EVALSHA", self._rules.sha, *arguments)
            return list(await pipe.execute(raise_on_error=False))

    async def _loaded(self, arguments: Arguments) -> object:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._ask_alone(arguments)
        except FAILURES as error:
            return error


class _Line:
    """Those who wait for one key; asyncio's lock is fair."""

    __slots__ = ("turn", "waiting")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0


def _told(error: BaseException) -> BaseException:
    """Those who wait were not cancelled themselves when what they wait for was."""
    if isinstance(error, asyncio.CancelledError):
        return TimeoutError("the limiter was closed")
    return error


def _settle(waiting: asyncio.Future[Answer], answer: object) -> None:
    if waiting.done():
        return
    if isinstance(answer, BaseException):
        waiting.set_exception(answer)
    else:
        waiting.set_result(cast("Answer", answer))

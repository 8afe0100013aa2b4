"""Sends commands to Redis from an event loop: connected in time, together where they meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from microservice_governance import _steps
from microservice_governance._redis import (
    REDIS_FAILURES,
    AsyncClient,
    AsyncRedis,
    AsyncRedisCluster,
    CountedFailureError,
    ResponseError,
)

from .response_timer import ResponseTimer

__all__ = ("AsyncCommands",)

_MAX_BATCH = 128

_QueuedCommand = tuple[_steps.Command, "asyncio.Future[object]"]


class AsyncCommands:
    """Sends each command alone if no other is under way, in a batch with its neighbours otherwise.

    Connecting takes several round trips and has a time limit of its own. No caller waits for it longer
    than for a response; it goes on without them.

    Args:
        client: the client that is sent through.
        timeout_seconds: how long Redis may take to respond.
        connect_timeout_seconds: how long connecting may take.
        on_failure: called with the error when connecting fails after all callers have left.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        timeout_seconds: float,
        connect_timeout_seconds: float,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = connect_timeout_seconds
        self._on_failure = on_failure
        # A cluster client connects to each node by itself, and its pipeline cannot carry scripts.
        self._is_cluster = isinstance(client, AsyncRedisCluster)
        # Untyped in redis-py; a cluster has one for each node.
        self._pool: Any = None if self._is_cluster else cast("AsyncRedis", client).connection_pool
        # Exchanges under way, and how many can be without another connection, as far as is known.
        self._under_way = 0
        self._connections = 0
        self._attempt: _ConnectionAttempt | None = None
        self._queue: list[_QueuedCommand] = []
        self._batches: set[asyncio.Task[None]] = set()

    @property
    def is_connecting(self) -> bool:
        """Whether a connection is being made, so that there may be none."""
        return self._attempt is not None and not self._connections

    async def send(self, command: _steps.Command) -> object:
        """Send one command and return its response.

        Raises:
            CountedFailureError: there is no connection yet, or a neighbour reports the failure.
        """
        if self._under_way and not self._is_cluster:
            return await self._enqueue(command)
        self._under_way += 1
        try:
            seconds = await self._connected(self._under_way)
            async with ResponseTimer(seconds):
                response = cast("object", await self._client.execute_command(*command))
        except BaseException as error:
            self._note_lost_connection(error)
            raise
        finally:
            self._under_way -= 1
        self._connections = self._connections or 1  # of a cluster
        return response

    async def aclose(self) -> None:
        """Cancel the commands and the connection attempt under way."""
        attempt = self._attempt
        tasks = [*self._batches, *([] if attempt is None else [attempt.task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
        self._under_way += 1
        try:
            responses = await self._execute_pipeline([command for command, _ in batch])
        except BaseException as error:
            self._note_lost_connection(error)
            _fail_batch([future for _, future in batch], error)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            self._under_way -= 1
        for (_, future), response in zip(batch, responses, strict=True):
            _complete(future, response)

    async def _execute_pipeline(self, commands: Sequence[_steps.Command]) -> list[object]:
        client = cast("AsyncRedis", self._client)
        seconds = await self._connected(self._under_way)
        async with ResponseTimer(seconds):
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))

    def _note_lost_connection(self, error: BaseException) -> None:
        """Anything but a response ends a connection: the next exchange makes sure that it has one."""
        if not isinstance(error, (ResponseError, CountedFailureError)):
            self._connections = 0

    async def _connected(self, needed: int) -> float:
        """Wait until there are `needed` connections; seconds that the exchange may take then."""
        if self._is_cluster:
            return self._timeout_seconds if self._connections else self._connect_timeout_seconds
        while self._connections < needed:
            if self._attempt is None:
                task = asyncio.create_task(self._connect(needed))
                self._attempt = _ConnectionAttempt(task, self._timeout_seconds)
            await self._attempt.wait()
        return self._timeout_seconds

    async def _connect(self, needed: int) -> Exception | None:
        """Have the client's pool make a connection; why it failed, for the callers that wait."""
        attempt = self._attempt
        try:
            async with ResponseTimer(self._connect_timeout_seconds):
                await self._pool.release(await self._pool.get_connection())
        except REDIS_FAILURES as error:
            if attempt is None or not attempt.waiting:
                self._on_failure(error)
            return error
        finally:
            self._attempt = None
        self._connections = max(self._connections, needed)
        return None


class _ConnectionAttempt:
    """A connection that is being made, and the callers that wait for it."""

    __slots__ = ("_is_reported", "_waits_end_at", "task", "waiting")

    def __init__(self, task: asyncio.Task[Exception | None], seconds: float) -> None:
        self.task = task
        self.waiting = 0
        self._is_reported = False
        self._waits_end_at = asyncio.get_running_loop().time() + seconds

    async def wait(self) -> None:
        """Wait until the attempt ends, or is older than a response may take.

        Raises:
            CountedFailureError: it has not ended, or another caller reports how.
            ConnectionError: it failed.
        """
        seconds = self._waits_end_at - asyncio.get_running_loop().time()
        if seconds > 0:
            self.waiting += 1
            try:
                with suppress(TimeoutError):
                    async with ResponseTimer(seconds):
                        await asyncio.wait({self.task})  # does not cancel it
            finally:
                self.waiting -= 1
        if not self.task.done():
            raise CountedFailureError("the connection to Redis is still being made")
        if self.task.cancelled():
            raise CountedFailureError("the limiter was closed")
        error = self.task.result()
        if error is not None:
            if self._is_reported:
                raise CountedFailureError("the connection to Redis failed")
            self._is_reported = True
            raise error


def _fail_batch(futures: Sequence[asyncio.Future[object]], error: BaseException) -> None:
    """Fail the callers of a batch; the first reports the error: one exchange is one failure."""
    if isinstance(error, asyncio.CancelledError):  # a cancelled batch does not cancel its callers
        error = CountedFailureError("the limiter was closed")
    for future in futures:
        if not future.done():
            future.set_exception(error)
            error = CountedFailureError("the exchange with Redis failed")


def _complete(future: asyncio.Future[object], response: object) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(response, BaseException):
        future.set_exception(response)
    else:
        future.set_result(response)

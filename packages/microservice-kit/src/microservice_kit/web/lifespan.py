"""The wrapped application's own lifespan, run inside ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Self

__all__ = ("InnerLifespan",)

logger = logging.getLogger(__name__)

Message = MutableMapping[str, object]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class InnerLifespan:
    """Start-up on entering, shutdown on leaving; an application that knows no lifespan is fine.

    (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)
    """

    def __init__(self, app: App, scope: Message) -> None:
        self._app = app
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._run())
        answer = await self._exchange("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            self._task.cancel()
            raise RuntimeError(str(answer.get("message") or "the application failed to start"))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._exchange("lifespan.shutdown")
        if self._task is not None:
            await asyncio.wait([self._task], timeout=1.0)
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._inbox.get, self._outbox.put)
        except Exception as error:  # noqa: BLE001 - the specification: it knows no lifespan
            logger.debug("the application knows no lifespan: %r", error)

    async def _exchange(self, kind: str) -> Message | None:
        """What it answers; None when it has ended, as one does that knows no lifespan."""
        assert self._task is not None  # noqa: S101 - entered
        if self._task.done():
            return None
        await self._inbox.put({"type": kind})
        answer = asyncio.ensure_future(self._outbox.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None

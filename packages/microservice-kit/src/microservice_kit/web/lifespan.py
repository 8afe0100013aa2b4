"""The wrapped application's own lifespan, run inside the module's."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

from microservice_kit.asgi_types import App, Message

__all__ = ("InnerLifespan",)

logger = logging.getLogger(__name__)


class InnerLifespan:
    """Start-up on entering, shutdown on leaving; an application without a lifespan is fine.

    (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)
    """

    _task: asyncio.Task[None]

    def __init__(self, app: App, scope: Message) -> None:
        self._app = app
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        # Its end is seen in `_exchange`, and its errors in `_run`.
        self._task = asyncio.ensure_future(self._run())
        reply = await self._exchange("lifespan.startup")
        if reply is not None and reply["type"] == "lifespan.startup.failed":
            self._task.cancel()
            raise RuntimeError(str(reply.get("message") or "the application failed to start"))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._exchange("lifespan.shutdown")
        await asyncio.wait([self._task], timeout=1.0)
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._inbox.get, self._outbox.put)
        except Exception as error:  # noqa: BLE001 - the specification: it supports no lifespan
            logger.debug("the application supports no lifespan: %r", error)

    async def _exchange(self, event: str) -> Message | None:
        """Send an event and return the reply; None when the application has ended.

        It ends at once when it supports no lifespan.
        """
        if self._task.done():
            return None
        await self._inbox.put({"type": event})
        reply = asyncio.ensure_future(self._outbox.get())
        await asyncio.wait({reply, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if reply.done():
            return reply.result()
        reply.cancel()
        return None

"""The service client, which start-up does not wait for: importing it costs more than all the rest."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from microservice_core import Unsubscribe

if TYPE_CHECKING:
    from microservice_client import AsyncServiceClient

__all__ = ("LazyServiceClient",)

# A process forked in the midst of an import could never import the same: its locks stay taken. So a
# fork waits for the import to be over.
_importing = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_importing.acquire,
        after_in_parent=_importing.release,
        after_in_child=_importing.release,
    )


class LazyServiceClient:
    """Opened by whoever asks first, or by the module, soon after it has started.

    Args:
        make: imports what is needed and makes the client; runs in any thread.
        opened: told of the open client, in the loop; what it returns is called before the client
            is closed.
    """

    def __init__(
        self,
        make: Callable[[], AsyncServiceClient],
        opened: Callable[[AsyncServiceClient], Unsubscribe],
    ) -> None:
        self._make = make
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._made: AsyncServiceClient | None = None
        self._open: AsyncServiceClient | None = None
        self._ending: Unsubscribe = _nothing
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether somebody asked for it, or it was prepared."""
        return self._open is not None

    def client(self) -> AsyncServiceClient:
        """The open client; from another thread than the loop's it is waited for."""
        if self._closed:
            return self._made_once()  # and refuses every call
        if self._open is None and _running_loop() is not self._loop:
            return asyncio.run_coroutine_threadsafe(self.prepare(), self._loop).result()
        return self._open or self._open_now()

    async def prepare(self) -> AsyncServiceClient:
        """The open client, its imports made in a thread, so that the loop goes on."""
        if self._open is None:
            with ThreadPoolExecutor(1) as thread:  # which is over then, unlike the loop's own ones
                await self._loop.run_in_executor(thread, self._made_once)
        return self.client()

    async def aclose(self) -> None:
        """Close the client if it was opened."""
        self._closed = True
        self._ending()
        if self._open is not None:
            await self._open.aclose()

    def _open_now(self) -> AsyncServiceClient:
        client = self._open = self._made_once().open()
        self._ending = self._opened(client)
        return client

    def _made_once(self) -> AsyncServiceClient:
        with _importing:
            if self._made is None:
                self._made = self._make()
            return self._made


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _nothing() -> None:
    pass

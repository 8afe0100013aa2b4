"""The service client, opened lazily: importing it costs more than the rest of the start-up."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydantic import BaseModel

from microservice_core import ServiceRegistry, Unsubscribe
from microservice_kit.config.service import ConfigService

if TYPE_CHECKING:
    import httpx

    from microservice_client import AsyncServiceClient, ClientOptions

    Transport = httpx.AsyncBaseTransport

__all__ = ("LazyServiceClient",)

# A process forked in the middle of an import inherits the import locks of a thread that it does not
# have, and can never import the same module. So a fork waits until this import has ended.
_import_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_import_lock.acquire,
        after_in_parent=_import_lock.release,
        after_in_child=_import_lock.release,
    )


class LazyServiceClient:
    """A service client that is opened by its first user, or by the module soon after its start.

    Args:
        config: its key `calls` says how services are called, see `CallPolicies`.
        options: of the client; its policies apply while the configuration has no `calls`.
    """

    def __init__(
        self,
        registry: ServiceRegistry,
        config: ConfigService[BaseModel],
        options: ClientOptions,
    ) -> None:
        self._registry = registry
        self._config = config
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._client: AsyncServiceClient | None = None
        self._open_client: AsyncServiceClient | None = None
        self._unfollow: Unsubscribe | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether the client was used or prepared."""
        return self._open_client is not None

    def get(self) -> AsyncServiceClient:
        """Return the open client; a thread other than the loop's blocks until it is open.

        After `aclose` it is a client that refuses every call.
        """
        if self._closed:
            return self._create_once()
        if self._open_client is None and _running_loop() is not self._loop:
            return asyncio.run_coroutine_threadsafe(self.prepare(), self._loop).result()
        return self._open_client or self._open()

    async def prepare(self) -> AsyncServiceClient:
        """Open the client, importing it in a thread, so that the loop is not blocked."""
        if self._open_client is None:
            # Its own pool: the loop's default executor would keep a thread for good.
            with ThreadPoolExecutor(1) as executor:
                await self._loop.run_in_executor(executor, self._create_once)
        return self.get()

    async def aclose(self) -> None:
        """Close the client if it was opened."""
        self._closed = True
        if self._unfollow is not None:
            self._unfollow()
        if self._open_client is not None:
            await self._open_client.aclose()

    def _create_once(self) -> AsyncServiceClient:
        """Import and create the client, in any thread."""
        with _import_lock:
            if self._client is None:
                from microservice_client import AsyncServiceClient

                # Not needed before `_open`, which runs in the loop: imported here, off the loop.
                from . import call_policies  # noqa: F401

                self._client = AsyncServiceClient(self._registry, **self._options)
            return self._client

    def _open(self) -> AsyncServiceClient:
        from .call_policies import CallPolicies

        client = self._open_client = self._create_once().open()
        policies = CallPolicies(
            client,
            self._config,
            by_service=self._options.get("policies"),
            default=self._options.get("default_policy"),
        )
        policies.refresh()
        self._unfollow = self._config.follow(policies.refresh)
        return client


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

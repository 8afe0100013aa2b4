"""The server: owns the listener, the source of routes and the store of leases."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import random
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from .api import Api, LeaseStore
from .changes import Changes
from .errors import AddressInUseError, SettingsError
from .file_source import StaticRoutes
from .http import HttpListener, Limits
from .memory_store import MemoryStore
from .published import PublishedRoutes
from .tokens import Tokens

__all__ = ("LiteRegistryServer", "RouteSource")

logger = logging.getLogger(__name__)


class RouteSource(Protocol):
    """Where lane routes come from."""

    def start(self, published: PublishedRoutes) -> None:
        """Publish what can be had at once; a wrong setting is a `SettingsError`."""
        ...

    async def run(self, published: PublishedRoutes) -> None:
        """Keep publishing until cancelled."""
        ...


class LiteRegistryServer:
    """A registry that listens while its `async with` block runs.

        async with LiteRegistryServer(port=0) as server:
            print(server.url)

    Args:
        host: where to listen; anything but loopback needs a token or `insecure`.
        port: 0 = any free one; `port` and `url` say which it became.
        source: where lane routes come from; none by default.
        store: where leases are kept; in memory by default.
        tokens: bearer tokens that allow writing; several during a rotation.
        insecure: listen on other addresses than loopback without a token.
        drain_seconds: how long an answer under way may take at the end.

    Raises:
        SettingsError: not loopback, no token, not `insecure`; or a short token.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        port: int = 8080,
        source: RouteSource | None = None,
        store: LeaseStore | None = None,
        tokens: Tokens | Iterable[str] = (),
        insecure: bool = False,
        limits: Limits | None = None,
        drain_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._source = source or StaticRoutes()
        self._store = store if store is not None else MemoryStore(clock=clock)
        self._drain_seconds = drain_seconds
        tokens = tokens if isinstance(tokens, Tokens) else Tokens(tokens)
        if not tokens and not insecure and not _is_loopback(host):
            raise SettingsError(
                f"listening on {host!r} lets everybody write: give a --token-file, "
                "or say --insecure if that is meant"
            )
        self._changes = Changes()
        self._published = PublishedRoutes(wall_clock=wall_clock)
        self._api = Api(
            self._published, self._store, self._changes, tokens, wall_clock=wall_clock, rng=rng
        )
        self._listener = HttpListener(
            self._api.handle, limits=limits, clock=clock, wall_clock=wall_clock
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where it answers, e.g. `http://127.0.0.1:8080`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._source.start(self._published)
        try:
            self.port = await self._listener.listen(self.host, self.port)
        except OSError as error:
            raise _cannot_listen(self.host, self.port, error) from error
        for work in (self._source.run(self._published), self._store.run()):
            self._tasks.append(asyncio.get_running_loop().create_task(work))
        logger.info("listening on %s", self.url)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Answer those who wait, finish what is under way, stop; twice is fine."""
        self._api.draining = True
        self._changes.close()
        await self._listener.close(self._drain_seconds)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cannot_listen(host: str, port: int, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(host, port)
    return SettingsError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --host")

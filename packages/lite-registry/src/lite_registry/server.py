"""The server: owns the listener, the source of routes, the store of leases and the snapshot."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import time
from typing import TYPE_CHECKING, Protocol, Self, cast

from .api import Api, LeaseStore
from .changes import Changes
from .errors import AddressInUseError, SettingsError
from .file_source import StaticRoutes
from .listener import HttpListener
from .memory_store import MemoryStore
from .metrics import Metrics
from .no_store import NoStore
from .published import PublishedRoutes
from .routes import parse_routes
from .snapshot import SnapshotFile
from .tokens import Tokens

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from .http import Limits
    from .metrics import Series
    from .tokens import TokenSource

__all__ = ("LiteRegistryServer", "RouteSource")

logger = logging.getLogger(__name__)


class RouteSource(Protocol):
    """Where lane routes come from."""

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Publish what can be had at once; a wrong setting is a `SettingsError`."""
        ...

    async def run(self) -> None:
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
        snapshot: a file that what is served is kept in, and taken from after a restart.
        settle_seconds: after a start with nothing, how long those who were registered before get
            to come back; until then, lists say `settled: false`.
        linger_seconds: at the end, how long `/readyz` says 503 before the door is closed.
        drain_seconds: at the end, how long an answer under way may take.

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
        tokens: TokenSource | Iterable[str] = (),
        insecure: bool = False,
        limits: Limits | None = None,
        snapshot: Path | None = None,
        settle_seconds: float = 20.0,
        linger_seconds: float = 0.0,
        drain_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.metrics = Metrics()
        self._source = source or StaticRoutes()
        self._store = store if store is not None else MemoryStore(clock=clock)
        self._settle_seconds = settle_seconds
        self._linger_seconds = linger_seconds
        self._drain_seconds = drain_seconds
        self._sleep = sleep
        if not hasattr(tokens, "check"):
            tokens = Tokens(tokens)
        tokens = cast("TokenSource", tokens)
        writable = not isinstance(self._store, NoStore)
        if writable and not tokens and not insecure and not _is_loopback(host):
            raise SettingsError(
                f"listening on {host!r} lets everybody write: give a --token-file, "
                "or say --insecure if that is meant"
            )
        self._snapshot = snapshot and SnapshotFile(
            snapshot,
            wall_clock=wall_clock,
            sleep=sleep,
            on_failure=lambda: self.metrics.count("snapshot_failures"),
        )
        self._unsaved = asyncio.Event()
        self._changes = Changes()
        self._published = PublishedRoutes(wall_clock=wall_clock)
        self._api = Api(
            self._published,
            self._store,
            self._changes,
            tokens,
            self.metrics,
            settle_seconds=settle_seconds,
            on_change=self._unsaved.set,
            wall_clock=wall_clock,
            rng=rng,
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
        if self._snapshot:
            self._restore(self._snapshot.load())
        self._source.start(self._published, self.metrics)
        self._add_gauges()
        try:
            self.port = await self._listener.listen(self.host, self.port)
        except OSError as error:
            raise _cannot_listen(self.host, self.port, error) from error
        work = [self._source.run(), self._store.run(), self._settle()]
        if self._snapshot:
            work.append(self._snapshot.run(self._sections, self._unsaved))
        self._tasks = [asyncio.get_running_loop().create_task(one) for one in work]
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
        """Say that it ends, answer those who wait, finish what is under way; twice is fine."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        self._api.draining = True
        await self._sleep(self._linger_seconds)
        self._changes.close()
        await self._listener.close(self._drain_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._snapshot:
            await asyncio.to_thread(self._snapshot.write, self._sections())

    async def _settle(self) -> None:
        await self._sleep(self._settle_seconds)
        self._api.announce_settled()

    def _sections(self) -> dict[str, object]:
        updated_at, synced_at = self._published.times
        sections: dict[str, object] = {}
        if self._published.ready and self._published.ages:
            sections["routes"] = {
                "services": self._published.table.documents,
                "updated_at": updated_at,
                "synced_at": synced_at,
            }
        if isinstance(self._store, MemoryStore):
            sections["leases"] = self._store.dump()
        return sections

    def _restore(self, sections: dict[str, object]) -> None:
        try:
            if routes := cast("dict[str, object]", sections.get("routes")):
                times = float(str(routes["updated_at"])), float(str(routes["synced_at"]))
                self._published.restore(parse_routes(routes), *times)
            if (leases := sections.get("leases")) and isinstance(self._store, MemoryStore):
                self._store.restore(cast("dict[str, object]", leases))
                self._api.settle()
        except (SettingsError, KeyError, TypeError, ValueError) as error:
            logger.warning("part of the snapshot is not used: %r", error)

    def _add_gauges(self) -> None:
        published, store = self._published, self._store
        single: dict[str, Callable[[], float]] = {
            "http_connections": lambda: self._listener.connections,
            "watchers": lambda: self._changes.waiting,
            "sync_age_seconds": lambda: published.age_seconds,
            "stale": lambda: published.stale,
            "instances": lambda: len(store),
            "self_preservation": lambda: store.preserving,
        }
        for name, read in single.items():
            self.metrics.gauge(name, lambda read=read: [({}, float(read()))])  # type: ignore[misc]
        self.metrics.gauge("routes", self._route_series)
        self.metrics.gauge("routes_version", lambda: [({"version": published.table.version}, 1.0)])

    def _route_series(self) -> Series:
        for name, route in self._published.table.routes.items():
            if route.base is not None:
                yield {"service": name, "lane": ""}, float(route.base.ready or 0)
            for lane, target in sorted(route.lanes.items()):
                yield {"service": name, "lane": lane}, float(target.ready or 0)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cannot_listen(host: str, port: int, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(host, port)
    return SettingsError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --host")

"""The server: owns the listener, the source of routes, the store of leases and the snapshot."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast

from ._supervision import TaskSupervisor
from .api import Api
from .change_notifier import ChangeNotifier
from .errors import AddressInUseError, LiteRegistryError, SettingsError
from .file_source import StaticRoutes
from .http_listener import HttpListener
from .http_reader import Limits
from .lease_store import LeaseStore
from .memory_store import MemoryStore
from .metrics import Metrics, Series
from .no_store import NoStore
from .published_routes import PublishedRoutes
from .routes import parse_routes
from .snapshot import SnapshotFile
from .tokens import Tokens, TokenSource

__all__ = ("LiteRegistryServer", "RouteSource")

logger = logging.getLogger(__name__)

_TASK_CLOSE_SECONDS = 3.0
_MAX_SECONDS_SINCE_1970 = 1e11

# What reading a part of a damaged snapshot can end in: the server starts without that part.
_DAMAGE = (
    *(LiteRegistryError, AttributeError, LookupError, TypeError),
    *(ValueError, OverflowError, RecursionError),
)


class RouteSource(Protocol):
    """Where lane routes come from."""

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Publish the routes that are known at once.

        Raises:
            SettingsError: a setting of the source is wrong.
        """
        ...

    async def run(self) -> None:
        """Keep publishing until cancelled; called again after it failed."""
        ...


class LiteRegistryServer:
    """A registry that listens while its `async with` block runs.

        async with LiteRegistryServer(port=0) as server:
            print(server.url)

    Args:
        host: where to listen; any address but loopback needs a token or `insecure`.
        port: 0 = any free one; `port` and `url` show which it is.
        source: where lane routes come from; none by default.
        store: where leases are kept; in memory by default.
        tokens: bearer tokens that allow writing; several during a rotation.
        insecure: listen on other addresses than loopback without a token, and serve requests for
            names of the public DNS on loopback.
        snapshot: a file that keeps the served content, for a restart.
        settle_seconds: after a start, how long the clients of an earlier server have to register
            again; until then, lists have `settled: false`.
        linger_seconds: before shutting down, how long `/readyz` responds 503.
        drain_seconds: while shutting down, how long a pending response may take.

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
        if not hasattr(tokens, "authorize"):
            tokens = Tokens(tokens)
        tokens = cast("TokenSource", tokens)
        is_open = not isinstance(self._store, NoStore) and not tokens
        if is_open and not insecure and not _is_loopback(host):
            raise _build_open_access(host)
        self._snapshot = snapshot and SnapshotFile(
            snapshot,
            wall_clock=wall_clock,
            sleep=sleep,
            on_failure=lambda: self.metrics.count("snapshot_failures"),
        )
        self._unsaved = asyncio.Event()
        self._changes = ChangeNotifier()
        self._published = PublishedRoutes(clock=clock, wall_clock=wall_clock)
        self._tasks = TaskSupervisor(
            "lite-registry", close_seconds=_TASK_CLOSE_SECONDS, clock=clock, sleep=sleep
        )
        self._api = Api(
            self._published,
            self._store,
            self._changes,
            tokens,
            self.metrics,
            refuse_foreign_hosts=_is_loopback(host) and is_open and not insecure,
            get_down_tasks=lambda: self._tasks.down,
            on_change=self._unsaved.set,
            wall_clock=wall_clock,
            rng=rng,
        )
        self._listener = HttpListener(
            self._api.handle, limits=limits, clock=clock, wall_clock=wall_clock
        )
        self._open = False

    @property
    def url(self) -> str:
        """The address of the server, for example `http://127.0.0.1:8080`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def watchers(self) -> int:
        """The number of requests that wait for a change."""
        return self._changes.waiters

    async def __aenter__(self) -> Self:
        if self._snapshot:
            self._restore(self._snapshot.read())
        self._source.start(self._published, self.metrics)
        self._add_gauges()
        try:
            self.port = await self._listener.listen(self.host, self.port)
        except OSError as error:
            raise _to_listen_error(self.host, self.port, error) from error
        self._open = True
        self._tasks.start("route source", self._source.run)
        self._tasks.start("lease store", self._store.run)
        self._tasks.start("settling", self._settle)
        if self._snapshot:
            write_changes = partial(self._snapshot.run, self._build_sections, self._unsaved)
            self._tasks.start("snapshot", write_changes)
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
        """Report not ready, respond to waiting requests, finish pending ones; twice is fine."""
        if not self._open:
            return
        self._open = False
        self._api.start_draining()
        await self._sleep(self._linger_seconds)
        self._changes.close()
        await self._listener.aclose(self._drain_seconds)
        await self._tasks.aclose()
        if self._snapshot:
            await asyncio.to_thread(self._snapshot.write, self._build_sections())

    async def _settle(self) -> None:
        await self._sleep(self._settle_seconds)
        self._api.instances.settle()

    def _build_sections(self) -> dict[str, object]:
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
                times = _parse_time(routes["updated_at"]), _parse_time(routes["synced_at"])
                self._published.restore(parse_routes(routes), *times)
        except _DAMAGE as error:
            logger.warning("the routes of the snapshot are not used: %r", error)
        try:
            if (leases := sections.get("leases")) and isinstance(self._store, MemoryStore):
                self._store.restore(cast("dict[str, object]", leases))
        except _DAMAGE as error:
            logger.warning("leases of the snapshot are not used: %r", error)

    def _add_gauges(self) -> None:
        published, store = self._published, self._store
        readers: dict[str, Callable[[], float]] = {
            "http_connections": lambda: self._listener.connections,
            "watchers": lambda: self._changes.waiters,
            "sync_age_seconds": lambda: published.age_seconds,
            "stale": lambda: published.stale,
            "instances": lambda: len(store),
            "self_preservation": lambda: store.preserving,
            "tasks_down": lambda: len(self._tasks.down),
        }
        for name, read in readers.items():
            self.metrics.add_gauge(name, lambda read=read: [({}, float(read()))])  # type: ignore[misc]
        self.metrics.add_gauge("routes", self._iterate_route_series)
        self.metrics.add_gauge(
            "routes_version", lambda: [({"version": published.table.version}, 1.0)]
        )

    def _iterate_route_series(self) -> Series:
        for name, route in self._published.table.routes.items():
            if route.base is not None:
                yield {"service": name, "lane": ""}, float(route.base.ready or 0)
            for lane, target in sorted(route.lanes.items()):
                yield {"service": name, "lane": lane}, float(target.ready or 0)


def _parse_time(value: object) -> float:
    seconds = float(str(value))
    if not 0.0 <= seconds <= _MAX_SECONDS_SINCE_1970:
        raise ValueError("a time of the snapshot is none")
    return seconds


def _build_open_access(host: str) -> SettingsError:
    return SettingsError(
        f"listening on {host!r} lets every client write: give a --token-file, "
        "or say --insecure if that is intended"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _to_listen_error(host: str, port: int, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(host, port)
    return SettingsError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --host")

"""LaneRouter and AsyncLaneRouter: services by name and lane, from a table that is kept fresh."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode
from lane_router.resolution import Resolution
from lane_router.route_table.poller import RoutePoller, TableState
from lane_router.route_table.registry_client import check_url
from lane_router.route_table.table import EMPTY_TABLE, RouteTable, parse_table
from lane_router.route_table.table_file import TableFile

from .routing import Routing

if TYPE_CHECKING:
    import random
    from types import TracebackType

    from lane_router.fetching import Fetched
    from lane_router.observer import LaneObserver

__all__ = ("AsyncLaneRouter", "LaneRouter")

PollerKey = tuple[str, str, float, float, float, float]

# Whoever names the same registry in one process shares its poller.
_shared: weakref.WeakValueDictionary[PollerKey, RoutePoller] = weakref.WeakValueDictionary()


class PolledRouting(Routing):
    """What both routers have in common: the routing, and the poller behind it.

    Nothing is asked before the first `resolve`, `start` or `with`.

    Args:
        url: of the registry. None = there is none: only the static services are known.
        services: ports by service, for the time before the registry was ever seen and for
            services it does not name.
        mode: what happens when the lane has nobody: `permissive` = base, `strict` = an error.
        classes: lanes that have a mode of their own, and which there may be.
        snapshot: a file for the last good table, for a start while the registry is down.
        namespaces: for which `svc.ns` means a service; by default the pod's own.
        stale_after_seconds: from which age on a table's outcomes are called stale.
        unreachable_seconds: how long a lane that refused counts as absent, at most. The first time
            it is half a second, since a new lane is told before DNS and proxies know it, and twice
            as long each time it goes on.
        poll_seconds: between two questions when the registry offers no long-poll, +- 20 %.
        watch_seconds: how long a long-poll may wait.
        timeout_seconds: for each answer.
        confirm_seconds: until a table that lost half of itself is asked for again.

    Raises:
        InvalidValueError: naming the argument.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        services: Mapping[str, int] | None = None,
        mode: Mode = "permissive",
        classes: LaneClasses = ANY_LANE,
        snapshot: str | Path | None = None,
        namespaces: Collection[str] | None = None,
        cluster_domain: str = "cluster.local",
        stale_after_seconds: float = 180.0,
        unreachable_seconds: float = 30.0,
        poll_seconds: float = 30.0,
        watch_seconds: float = 55.0,
        timeout_seconds: float = 10.0,
        confirm_seconds: float = 10.0,
        observer: LaneObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            services=services,
            mode=mode,
            classes=classes,
            namespaces=namespaces,
            cluster_domain=cluster_domain,
            stale_after_seconds=stale_after_seconds,
            unreachable_seconds=unreachable_seconds,
            observer=observer,
            clock=clock,
        )
        self._closed = False
        self._listeners: list[Callable[[RouteTable], None]] = []
        self._poller: RoutePoller | None = None
        if url is None:
            return
        address = check_url(url)

        def make() -> RoutePoller:
            return RoutePoller(
                address,
                file=TableFile(Path(snapshot)) if snapshot else None,
                poll_seconds=poll_seconds,
                watch_seconds=watch_seconds,
                timeout_seconds=timeout_seconds,
                confirm_seconds=confirm_seconds,
                clock=clock,
                wall_clock=wall_clock,
                rng=rng,
            )

        if clock is not time.monotonic or wall_clock is not time.time or rng is not None:
            self._poller = make()
            return
        key = (
            address,
            str(snapshot or ""),
            poll_seconds,
            watch_seconds,
            timeout_seconds,
            confirm_seconds,
        )
        self._poller = _shared.get(key) or _shared.setdefault(key, make())

    @classmethod
    def from_document(
        cls,
        document: Mapping[str, object],
        *,
        age_seconds: float = 0.0,
        services: Mapping[str, int] | None = None,
        mode: Mode = "permissive",
        classes: LaneClasses = ANY_LANE,
        observer: LaneObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """A router without a registry that knows this table, for tests and for static meshes.

        Raises:
            RouteTableError: the document is not in the wire form of `/v1/routes`.
        """
        router = cls(services=services, mode=mode, classes=classes, observer=observer, clock=clock)
        router.update(TableState(parse_table(document), clock() - age_seconds))
        return router

    @property
    def problem(self) -> str:
        """Why the registry cannot be used now; empty when it can, or when there is none."""
        return self._poller.state.problem if self._poller else ""

    @property
    def table(self) -> RouteTable:
        """The last good table; an empty one when none was ever seen."""
        return self.view.known.table or EMPTY_TABLE

    def on_change(self, listener: Callable[[RouteTable], None]) -> None:
        """Tell it of every table that says something else, in the poller's thread.

        It must not block or raise. It is told until the router is closed.
        """
        self._listeners.append(listener)

    @property
    def polling(self) -> bool:
        """Whether the poller's thread runs in this process."""
        return self._poller is not None and self._poller.alive

    def update(self, state: TableState) -> None:
        """Take a new state, and tell the listeners what changed."""
        before = self.table
        super().update(state)
        if self._listeners and self.table.services != before.services:
            for listener in tuple(self._listeners):
                listener(self.table)

    def start(self) -> None:
        """Read the snapshot and start polling; a second call does nothing, nor does one too late."""
        poller = self._poller
        if poller is None or self._closed or (poller.alive and poller.tells(self.update)):
            return
        poller.subscribe(self.update)
        poller.start()
        self.update(poller.state)

    def _decided(self, service: str, lane: str | None, port: int) -> Resolution:
        self.start()
        return super()._decided(service, lane, port)

    def _join(self) -> None:
        self._closed = False
        self.start()

    def _leave(self) -> None:
        self._closed = True
        self._listeners.clear()
        if self._poller is not None:
            self._poller.unsubscribe(self.update)

    def _has_table(self, within_seconds: float) -> bool:
        self.start()
        return self._poller is not None and self._poller.wait_for_table(within_seconds)


class LaneRouter(PolledRouting):
    """Where is `orders` for this lane? Answers from memory, in microseconds or less.

        with LaneRouter("http://lite-registry:8080", services={"orders": 8000}) as router:
            router.resolve("orders").url

    One for the whole process. It survives a fork and the restart of an event loop, and is safe to
    use from any thread.
    """

    def __enter__(self) -> Self:
        self._join()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop polling, unless others share the poller; what is known stays. Twice is fine."""
        self._leave()

    def wait_ready(self, within_seconds: float = 10.0) -> bool:
        """Wait for the first table, from the registry or the snapshot; whether there is one."""
        return self._has_table(within_seconds)

    def fetch(
        self,
        service: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        lane: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> Fetched:
        """Ask the service once, in the lane; for scripts that have no HTTP client.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
            OSError: no connection, or no answer in time.
        """
        from lane_router.fetching import fetch

        return fetch(
            self,
            service,
            path,
            method=method,
            headers=headers,
            body=body,
            lane=lane,
            timeout_seconds=timeout_seconds,
        )


class AsyncLaneRouter(PolledRouting):
    """`LaneRouter` for asyncio; the poller stays in its own thread, so `resolve` is not awaited."""

    async def __aenter__(self) -> Self:
        self._join()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop polling, unless others share the poller; what is known stays. Twice is fine."""
        import asyncio

        await asyncio.to_thread(self._leave)

    async def wait_ready(self, within_seconds: float = 10.0) -> bool:
        """Wait for the first table, from the registry or the snapshot; whether there is one."""
        import asyncio

        return await asyncio.to_thread(self._has_table, within_seconds)

    async def fetch(
        self,
        service: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        lane: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> Fetched:
        """Ask the service once, in the lane; for scripts that have no HTTP client.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
            OSError: no connection, or no answer in time.
        """
        import asyncio

        from lane_router.fetching import fetch

        return await asyncio.to_thread(
            fetch,
            self,
            service,
            path,
            method=method,
            headers=headers,
            body=body,
            lane=lane,
            timeout_seconds=timeout_seconds,
        )

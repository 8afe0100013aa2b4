"""The common part of LaneRouter and AsyncLaneRouter: a resolver, and the poller that feeds it."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode
from lane_router.context.lane_context import CURRENT, UNSET, current_lane
from lane_router.context.process_lane import process_lane
from lane_router.resolution import Decision, Resolution
from lane_router.route_table.poller import (
    START_RETRY_SECONDS,
    PollOptions,
    RoutePoller,
    TableState,
)
from lane_router.route_table.registry_client import check_url
from lane_router.route_table.table import RouteTable, parse_table
from lane_router.route_table.table_file import TableFile

from .resolver import Resolver, RoutingOptions

if TYPE_CHECKING:
    import random

    from lane_router.observer import LaneObserver
    from microservice_core import Unsubscribe

__all__ = ("BaseRouter", "RouterStats")

logger = logging.getLogger(__name__)

TableListener = Callable[[RouteTable], None]

# Routers of the same registry in one process share its poller.
_shared_pollers: weakref.WeakValueDictionary[tuple[object, ...], RoutePoller] = (
    weakref.WeakValueDictionary()
)


@dataclass(frozen=True, slots=True)
class RouterStats:
    """What a router holds in memory at one moment, for an operator.

    Attributes:
        cached_resolutions: resolutions in the cache, at most 8192.
        unreachable_lanes: (service, lane) that count as absent because they refused, at most 1024.
        confirming: a table that shrank by half or more waits for a second response to confirm it.
        polling: the poller's thread runs in this process.
        problem: why the registry cannot be used now; empty when it can, or when there is none.
        unforeseen_errors: how often polling ended by an error of this process and was restarted.
    """

    cached_resolutions: int
    unreachable_lanes: frozenset[tuple[str, str]]
    confirming: bool
    polling: bool
    problem: str
    unforeseen_errors: int


class BaseRouter:
    """Where a service is reached for a lane, from a table that is kept current.

    A `Resolver` answers from memory and a `RoutePoller` feeds it; the first lookup that is not in
    the cache starts the poller. No I/O happens before the first `resolve`, `start` or `with`.

    Args:
        url: of the registry. None = no registry: only the static services are known.
        services: ports by service, for the time before the first table and for services that the
            table does not name.
        mode: when the lane has no ready instance: `permissive` = base, `strict` = an error.
        classes: lanes with a mode of their own, and which lanes are allowed.
        snapshot: a file for the last valid table, for a start while the registry is down.
        namespaces: those for which `svc.ns` means a service; by default the pod's own.
        cluster_domain: what may follow `svc.ns.svc`.
        stale_after_seconds: the age from which outcomes of a table are marked stale.
        unreachable_seconds: the longest time for which a lane that refused counts as absent. The
            first time it is half a second, since a new lane is published before DNS and proxies
            know it, and twice as long each next time.
        poll_seconds: between two requests if the registry offers no long-poll, +- 20 %.
        watch_seconds: how long the registry may hold a long-poll.
        timeout_seconds: for each response.
        confirm_seconds: until a table that shrank by half or more is requested again.
        observer: notified of each resolution.
        share: use one poller for all routers of this process that name the same registry, snapshot
            and polling options; False = a poller for this router alone.
        clock: monotonic seconds.
        wall_clock: seconds since 1970, for the age of the snapshot.
        rng: the source of jitter; None = a new one.

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
        share: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._resolver = Resolver(
            RoutingOptions(
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
        )
        polling = PollOptions(
            poll_seconds=poll_seconds,
            watch_seconds=watch_seconds,
            timeout_seconds=timeout_seconds,
            confirm_seconds=confirm_seconds,
            clock=clock,
            wall_clock=wall_clock,
            rng=rng,
        )
        self._closed = False
        self._listeners: list[TableListener] = []
        self._poller = None if url is None else _get_poller(url, snapshot, polling, share)

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

        Args:
            document: a table in the wire form of `/v1/routes`.
            age_seconds: how long ago it was confirmed.

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
        """The last valid table; an empty one if none was ever received."""
        return self._resolver.table

    @property
    def polling(self) -> bool:
        """Whether the poller's thread runs in this process."""
        return self._poller is not None and self._poller.is_running

    def stats(self) -> RouterStats:
        """Sizes of what is held in memory, and what the poller is waiting for."""
        poller = self._poller
        return RouterStats(
            cached_resolutions=len(self._resolver.cache.entries),
            unreachable_lanes=self._resolver.unreachable_lanes(),
            confirming=poller is not None and poller.is_confirming,
            polling=self.polling,
            problem=self.problem,
            unforeseen_errors=poller.unforeseen_errors if poller else 0,
        )

    def resolve(
        self, service: str, lane: str | None = None, *, port: int = 0, scheme: str = "http"
    ) -> Resolution:
        """Where the service is reached for this lane; None = the current lane.

        Never waits for the network. Equal lookups return the same `Resolution`.

        Args:
            service: a plain name, or a host name such as `orders.shop.svc`.
            port: a port other than the one that the scheme chooses; 0 = that one.
            scheme: of the URL. `http` and `ws` choose the service's main port; `https` and `wss` a
                port that is published for it, by its name or its `app_protocols`, else 443.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
            InvalidLaneError: not a valid lane name, or a lane of no allowed class.
        """
        # The hot path of every outgoing request: no call but the clock's and the context
        # variable's, `current_lane` written out included.
        if lane is None:
            lane = CURRENT.get()
            if lane == UNSET:
                lane = process_lane()
        resolver = self._resolver
        cache = resolver.cache
        resolution = cache.entries.get((service, lane, port, scheme))
        if resolution is None or resolver.clock() >= cache.expires_at:
            self.start()
            resolution = resolver.resolve_uncached(service, lane, port, scheme)
        if resolver.observer is not None:
            resolver.observer.on_resolution(resolution.service, lane, resolution.outcome)
        return resolution

    def base_url(self, service: str, lane: str | None = None, *, scheme: str = "http") -> str:
        """`http://host:port` of the service for this lane; see `resolve`."""
        return self.resolve(service, lane, scheme=scheme).url

    def explain(
        self, service: str, lane: str | None = None, *, port: int = 0, scheme: str = "http"
    ) -> Decision:
        """The decision with its reason; a strict miss is returned, not raised.

        Raises:
            InvalidLaneError: not a valid lane name, or a lane of no allowed class.
        """
        return self._resolver.explain(service, lane or current_lane(), port, scheme)

    def lanes(self, service: str) -> tuple[str, ...]:
        """The lanes of the service that have a ready instance, sorted, by the last valid table."""
        return self._resolver.ready_lanes(service)

    def is_mesh_host(self, host: str) -> bool:
        """Whether a base or lane of a service is published under this host name."""
        return self._resolver.is_mesh_host(host)

    def mark_unreachable(self, service: str, lane: str) -> None:
        """Count a lane that refused as absent, for a while or until the routes change."""
        self._resolver.mark_unreachable(service, lane)

    def subscribe(self, listener: TableListener) -> Unsubscribe:
        """Call `listener` with each table whose routes changed, in the poller's thread.

        It must not block. It is called until it is unsubscribed or the router is closed.

        Returns:
            a function that unsubscribes; calling it twice is fine.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def update(self, state: TableState) -> None:
        """Use a new state of the table, and notify the listeners if its routes changed."""
        before = self.table
        self._resolver.update(state)
        if self._listeners and self.table.services != before.services:
            for listener in tuple(self._listeners):
                try:
                    listener(self.table)
                except Exception:
                    logger.exception("a listener of the route table failed")

    def start(self) -> None:
        """Read the snapshot and start polling; without effect when it runs or after closing."""
        poller = self._poller
        if poller is None or self._closed:
            return
        if poller.is_running and poller.has_listener(self.update):
            return
        poller.subscribe(self.update)
        poller.start()
        self._resolver.expect_poller(None if poller.is_running else START_RETRY_SECONDS)
        self.update(poller.state)

    def _open(self) -> None:
        self._closed = False
        self.start()

    def _close(self) -> None:
        self._closed = True
        self._listeners.clear()
        if self._poller is not None:
            self._poller.unsubscribe(self.update)

    def _wait_for_table(self, within_seconds: float) -> bool:
        self.start()
        return self._poller is not None and self._poller.wait_for_table(within_seconds)


def _get_poller(
    url: str, snapshot: str | Path | None, options: PollOptions, share: bool
) -> RoutePoller:
    address = check_url(url)
    key = (address, str(snapshot or ""), *options.sharing_key())
    poller = _shared_pollers.get(key) if share else None
    if poller is None:
        file = TableFile(Path(snapshot)) if snapshot else None
        poller = RoutePoller(address, options, file=file)
        if share:
            # setdefault: another thread may have made one in the meantime, and that one is used.
            poller = _shared_pollers.setdefault(key, poller)
    return poller

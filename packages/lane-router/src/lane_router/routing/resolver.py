"""Resolutions from memory: a table state in, resolutions out, no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from lane_router.context.lane_name import PROD, is_lane
from lane_router.errors import InvalidLaneError, LaneUnavailableError
from lane_router.observer import LaneObserver
from lane_router.resolution import Decision, Resolution
from lane_router.route_table.poller import INITIAL_STATE, TableState
from lane_router.route_table.table import DEFAULT_PORTS, EMPTY_TABLE, RouteTable, is_port
from microservice_core import InvalidValueError

from .lane_fallback import Lookup, RoutingSnapshot, decide
from .service_names import ServiceNames
from .unreachable_lanes import UnreachableLanes

__all__ = ("ResolutionCache", "Resolver", "RoutingOptions")

_MOST_CACHED = 8192
_NEVER = float("inf")

# The service or host, its lane, the port that the caller named, and the scheme.
Key = tuple[str, str | None, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingOptions:
    """How a route table is turned into resolutions.

    Attributes:
        services: ports by service, for the time before the first table and for services that the
            table does not name.
        mode: when the lane has no ready instance: `permissive` = base, `strict` = an error.
        classes: lanes with a mode of their own, and which lanes are allowed.
        namespaces: those for which `svc.ns` means a service; None = the pod's own.
        cluster_domain: what may follow `svc.ns.svc`.
        stale_after_seconds: the age from which outcomes of a table are marked stale.
        unreachable_seconds: the longest time for which a lane that refused counts as absent.
        observer: notified of each resolution.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: naming the option.
    """

    services: Mapping[str, int] | None = None
    mode: Mode = "permissive"
    classes: LaneClasses = ANY_LANE
    namespaces: Collection[str] | None = None
    cluster_domain: str = "cluster.local"
    stale_after_seconds: float = 180.0
    unreachable_seconds: float = 30.0
    observer: LaneObserver | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        check_mode(self.mode)
        for name, port in (self.services or {}).items():
            if not ServiceNames(()).split(name) or "." in name:
                rule = "the plain name of a service in lower case"
                raise InvalidValueError("services", name, rule)
            if not is_port(port):
                raise InvalidValueError(f"services[{name!r}]", port, "a port from 1 to 65535")
        for field, seconds in (
            ("stale_after_seconds", self.stale_after_seconds),
            ("unreachable_seconds", self.unreachable_seconds),
        ):
            if not 0 < seconds < _NEVER:
                raise InvalidValueError(field, seconds, "a number of seconds above 0")


class ResolutionCache:
    """The resolutions made from one snapshot; replaced as a whole, only `entries` grows.

    Attributes:
        snapshot: what the resolutions are made from.
        synced_at: when the registry last confirmed its table, in monotonic seconds; None = never.
        expires_at: when the snapshot has to be made again, because its table becomes stale or an
            unreachable lane counts as present again.
        entries: the resolutions so far.
    """

    __slots__ = ("entries", "expires_at", "snapshot", "synced_at")

    def __init__(
        self, snapshot: RoutingSnapshot, synced_at: float | None, expires_at: float
    ) -> None:
        self.snapshot = snapshot
        self.synced_at = synced_at
        self.expires_at = expires_at
        self.entries: dict[Key, Resolution] = {}


class Resolver:
    """The part of the routers that does no I/O.

    Reading takes no lock: a change builds a new `ResolutionCache` and swaps it in by one assignment.
    The fast path, a lookup in `cache.entries`, is in `BaseRouter.resolve`.
    """

    def __init__(self, options: RoutingOptions) -> None:
        self.observer = options.observer
        self.clock = options.clock
        self._names = ServiceNames(options.namespaces, options.cluster_domain)
        self._mode = options.mode
        self._classes = options.classes
        services = options.services or {}
        self._static_ports = {name.lower(): port for name, port in services.items()}
        self._stale_after = options.stale_after_seconds
        self._state = INITIAL_STATE
        self._unreachable = UnreachableLanes(options.unreachable_seconds, options.clock)
        self._poller_due_at = _NEVER
        self.cache = ResolutionCache(RoutingSnapshot(static_ports=self._static_ports), None, _NEVER)

    @property
    def table(self) -> RouteTable:
        """The last valid table; an empty one if none was ever received."""
        return self.cache.snapshot.table or EMPTY_TABLE

    def update(self, state: TableState) -> None:
        """Use a new state of the table.

        A change of the routes clears the marks of unreachable lanes.
        """
        before, self._state = self._state, state
        old, new = before.table, state.table
        if old is None or new is None or old.services != new.services:
            self._unreachable.clear()
        self._rebuild()

    def expect_poller(self, within_seconds: float | None) -> None:
        """Let the cache expire then, so that a lookup starts the poller; None = it runs."""
        self._poller_due_at = _NEVER if within_seconds is None else self.clock() + within_seconds
        self._rebuild()

    def mark_unreachable(self, service: str, lane: str) -> None:
        """Count a lane that refused as absent, for a while or until the routes change."""
        self._unreachable.mark(service, lane)
        self._rebuild()

    def resolve_uncached(
        self, service: str, lane: str | None, port: int, scheme: str
    ) -> Resolution:
        """Decide where this service is reached for this lane, and cache the resolution.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
            InvalidLaneError: not a valid lane name, or a lane of no allowed class.
        """
        cache = self._current_cache()
        decision = self._decide(cache.snapshot, service, lane, port, scheme)
        if decision.outcome == "strict_miss":
            if self.observer is not None:
                self.observer.on_resolution(decision.service, lane, "strict_miss")
            raise LaneUnavailableError(decision.service, str(lane))
        resolution = self._make_resolution(decision, cache, scheme)
        if len(cache.entries) >= _MOST_CACHED:
            cache.entries.clear()
        cache.entries[service, lane, port, scheme] = resolution
        return resolution

    def explain(self, service: str, lane: str | None, port: int, scheme: str) -> Decision:
        """The decision with its reason; a strict miss is returned, not raised.

        Raises:
            InvalidLaneError: not a valid lane name, or a lane of no allowed class.
        """
        return self._decide(self._current_cache().snapshot, service, lane, port, scheme)

    def ready_lanes(self, service: str) -> tuple[str, ...]:
        """The lanes of the service that have a ready instance, sorted, by the last valid table."""
        snapshot = self._current_cache().snapshot
        route = snapshot.table.services.get(service) if snapshot.table else None
        if route is None:
            return ()
        return tuple(
            sorted(
                lane
                for lane, target in route.lanes.items()
                if target.ready and (service, lane) not in snapshot.unreachable
            )
        )

    def unreachable_lanes(self) -> frozenset[tuple[str, str]]:
        """(service, lane) of the lanes that count as absent because they refused."""
        return self._current_cache().snapshot.unreachable

    def is_mesh_host(self, host: str) -> bool:
        """Whether a base or lane of a service is published under this host name."""
        table = self.cache.snapshot.table
        if table is None:
            return False
        if host.lower() in table.hosts:
            return True
        parts = self._names.split(host)
        return parts is not None and parts[0] in table.hosts

    def _decide(
        self, snapshot: RoutingSnapshot, host: str, lane: str | None, port: int, scheme: str
    ) -> Decision:
        mode = self._mode
        if lane is not None and lane != PROD:
            if not is_lane(lane):
                raise InvalidLaneError(lane)
            class_mode = self._classes.mode_of(lane, self._mode)
            if class_mode is None:
                raise InvalidLaneError(lane, "a lane of one of the classes")
            mode = class_mode
        parts = self._names.split(host)
        if parts is None:
            return Decision("foreign", host, host, port, None, "not the name of a service")
        service, suffix = parts
        return decide(Lookup(service, suffix, port, lane, mode, scheme), snapshot)

    def _make_resolution(
        self, decision: Decision, cache: ResolutionCache, scheme: str
    ) -> Resolution:
        port = decision.port or DEFAULT_PORTS.get(scheme, 80)
        # A foreign "host" may be a whole URL, which is returned unchanged.
        url = f"{scheme}://{decision.host}:{port}" if "/" not in decision.host else decision.host
        return Resolution(
            url=url,
            host=decision.host,
            port=port,
            lane=decision.lane,
            outcome=decision.outcome,
            service=decision.service,
            synced_at=cache.synced_at,
            clock=self.clock,
        )

    def _current_cache(self) -> ResolutionCache:
        if self.clock() >= self.cache.expires_at:
            self._rebuild()
        return self.cache

    def _rebuild(self) -> None:
        now, state = self.clock(), self._state
        stale_at = _NEVER if state.synced_at is None else state.synced_at + self._stale_after
        stale = now >= stale_at
        unreachable = self._unreachable.snapshot()
        snapshot = RoutingSnapshot(state.table, stale, self._static_ports, unreachable)
        expires_at = min(
            _NEVER if stale else stale_at, self._unreachable.next_expiry(), self._poller_due_at
        )
        self.cache = ResolutionCache(snapshot, state.synced_at, expires_at)

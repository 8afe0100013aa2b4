"""Answers from memory: the view of the table that resolutions are cached in."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from lane_router.context.lane_context import CURRENT, UNSAID, current_lane
from lane_router.context.lane_name import PROD, is_lane
from lane_router.context.process_lane import process_lane
from lane_router.errors import InvalidLaneError, LaneUnavailableError
from lane_router.observer import LaneObserver
from lane_router.resolution import Decision, Resolution
from lane_router.route_table.poller import NOTHING_YET, TableState
from lane_router.route_table.table import is_port
from microservice_core import InvalidValueError

from .lane_fallback import Knowledge, Question, decide
from .service_names import ServiceNames
from .unreachable_lanes import UnreachableLanes

__all__ = ("Routing", "View")

_MOST_CACHED = 8192
_NEVER = float("inf")

Key = tuple[str, str | None, int]


class View:
    """What is known until `expires_at`; replaced as a whole, only its cache grows."""

    __slots__ = ("cache", "expires_at", "known", "synced_at")

    def __init__(self, known: Knowledge, synced_at: float | None, expires_at: float) -> None:
        self.known = known
        self.synced_at = synced_at
        self.expires_at = expires_at
        self.cache: dict[Key, Resolution] = {}


class Routing:
    """The part of the routers that does no I/O: table state in, resolutions out.

    Reading takes no lock. Whoever changes something builds a new view and swaps it in.
    """

    def __init__(
        self,
        *,
        services: Mapping[str, int] | None = None,
        mode: Mode = "permissive",
        classes: LaneClasses = ANY_LANE,
        namespaces: Collection[str] | None = None,
        cluster_domain: str = "cluster.local",
        stale_after_seconds: float = 180.0,
        unreachable_seconds: float = 30.0,
        observer: LaneObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.observer = observer
        self.names = ServiceNames(namespaces, cluster_domain)
        self._mode = check_mode(mode)
        self._classes = classes
        self._static = _checked_services(services or {})
        self._stale_after = _positive("stale_after_seconds", stale_after_seconds)
        longest = _positive("unreachable_seconds", unreachable_seconds)
        self._clock = clock
        self._state = NOTHING_YET
        self._unreachable = UnreachableLanes(longest, clock)
        self.view = View(Knowledge(static=self._static), None, _NEVER)

    def start(self) -> None:
        """Begin to keep the table fresh, where there is something to ask."""

    def update(self, state: TableState) -> None:
        """A new state of the table: marks of a lane that refused go with the routes they are of."""
        before, self._state = self._state, state
        old, new = before.table, state.table
        if old is None or new is None or old.services != new.services:
            self._unreachable.forget()
        self._rebuild()

    def mark_unreachable(self, service: str, lane: str) -> None:
        """Its name does not resolve, or it refuses: absent for a while or until the routes change."""
        self._unreachable.mark(service, lane)
        self._rebuild()

    def resolve(self, service: str, lane: str | None = None, *, port: int = 0) -> Resolution:
        """Where the service is reached for this lane; None = the lane of what runs now.

        Never waits for the network. The same `Resolution` is given to all who ask the same.

        Args:
            service: a plain name, or a host name such as `orders.shop.svc`.
            port: when the caller wants another port than the service's own.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
            InvalidLaneError: no lane can have this name, or it belongs to no class.
        """
        if lane is None:
            lane = CURRENT.get()
            if lane == UNSAID:
                lane = process_lane()
        view = self.view
        found = view.cache.get((service, lane, port))
        if found is None or self._clock() >= view.expires_at:
            found = self._decided(service, lane, port)
        if self.observer is not None:
            self.observer.resolved(found.service, lane, found.outcome)
        return found

    def base_url(self, service: str, lane: str | None = None) -> str:
        """`http://host:port` of the service for this lane; see `resolve`."""
        return self.resolve(service, lane).url

    def lanes(self, service: str) -> tuple[str, ...]:
        """The lanes of the service in which somebody is ready, by the last good table."""
        known = self._good_view().known
        route = known.table.services.get(service) if known.table else None
        if route is None:
            return ()
        return tuple(
            sorted(
                lane
                for lane, target in route.lanes.items()
                if target.ready and (service, lane) not in known.unreachable
            )
        )

    def is_mesh_host(self, host: str) -> bool:
        """Whether the name is one that base or lane of a service is published under."""
        table = self.view.known.table
        if table is None:
            return False
        if host.lower() in table.hosts:
            return True
        parts = self.names.split(host)
        return parts is not None and parts[0] in table.hosts

    def explain(self, service: str, lane: str | None = None, *, port: int = 0) -> Decision:
        """The decision with its reason; one that strict mode refuses is told, not raised.

        Raises:
            InvalidLaneError: no lane can have this name, or it belongs to no class.
        """
        return self._decide(self._good_view(), service, lane or current_lane(), port)

    def _decided(self, service: str, lane: str | None, port: int) -> Resolution:
        view = self._good_view()
        decision = self._decide(view, service, lane, port)
        if decision.outcome == "strict_miss":
            if self.observer is not None:
                self.observer.resolved(decision.service, lane, "strict_miss")
            raise LaneUnavailableError(decision.service, str(lane))
        resolution = self._resolution(decision, view)
        if len(view.cache) >= _MOST_CACHED:
            view.cache.clear()
        view.cache[service, lane, port] = resolution
        return resolution

    def _decide(self, view: View, host: str, lane: str | None, port: int) -> Decision:
        mode = self._mode
        if lane is not None and lane != PROD:
            if not is_lane(lane):
                raise InvalidLaneError(lane)
            classified = self._classes.mode_of(lane, self._mode)
            if classified is None:
                raise InvalidLaneError(lane, "a lane of one of the classes")
            mode = classified
        parts = self.names.split(host)
        if parts is None:
            return Decision("foreign", host, host, port, None, "no name of a service")
        service, suffix = parts
        return decide(Question(service, suffix, port, lane, mode), view.known)

    def _resolution(self, decision: Decision, view: View) -> Resolution:
        port = decision.port or 80
        url = f"http://{decision.host}:{port}" if "/" not in decision.host else decision.host
        return Resolution(
            url=url,
            host=decision.host,
            port=port,
            lane=decision.lane,
            outcome=decision.outcome,
            service=decision.service,
            synced_at=view.synced_at,
            clock=self._clock,
        )

    def _good_view(self) -> View:
        if self._clock() >= self.view.expires_at:
            self._rebuild()
        return self.view

    def _rebuild(self) -> None:
        now, state = self._clock(), self._state
        stale_at = _NEVER if state.synced_at is None else state.synced_at + self._stale_after
        stale = now >= stale_at
        known = Knowledge(state.table, stale, self._static, self._unreachable.now())
        expires_at = min(_NEVER if stale else stale_at, self._unreachable.next_end())
        self.view = View(known, state.synced_at, expires_at)


def _checked_services(services: Mapping[str, int]) -> dict[str, int]:
    for name, port in services.items():
        if not ServiceNames(()).split(name) or "." in name:
            raise InvalidValueError("services", name, "the plain name of a service in lower case")
        if not is_port(port):
            raise InvalidValueError(f"services[{name!r}]", port, "a port from 1 to 65535")
    return {name.lower(): port for name, port in services.items()}


def _positive(name: str, seconds: float) -> float:
    if not 0 < seconds < _NEVER:
        raise InvalidValueError(name, seconds, "a number of seconds above 0")
    return seconds

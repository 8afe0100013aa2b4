"""Lane routes from a Kubernetes cluster, published shortly after each change."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar, cast

from lite_registry.metrics import Metrics
from lite_registry.published_routes import PublishedRoutes
from lite_registry.routes import RouteTable

from .access import ApiServer
from .lanes import KubeEndpoints, KubeService, LaneRules, build_routes, project_endpoints
from .reflector import SILENCE_SECONDS, Reflector

__all__ = ("KubernetesRoutes",)

ProjectionT = TypeVar("ProjectionT", KubeService, KubeEndpoints)

_SHRINK_SHARE = 0.15
_MIN_SHRINK = 3


class ObjectMirror(Generic[ProjectionT]):
    """All objects of one kind as the cluster has them; the `ObjectStore` of one reflector.

    Attributes:
        behind: changes were missed, and the list that brings them is still to come.
        stale: the cluster cannot be seen.
        between_watches: a watch has ended, and the next one has not begun.
        seen_at: when the cluster was last seen, in seconds since 1970.
    """

    def __init__(
        self,
        project: Callable[[Mapping[str, object]], ProjectionT | None],
        *,
        on_change: Callable[[], None],
        on_return: Callable[[], None],
        on_health: Callable[[], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self.objects: dict[str, ProjectionT] = {}
        self.behind = True
        self.stale = False
        self.between_watches = False
        self.seen_at = 0.0
        self._project: Callable[[Mapping[str, object]], ProjectionT | None] = project
        self._on_change = on_change
        self._on_return = on_return
        self._on_health = on_health
        self._wall_clock = wall_clock

    @property
    def in_step(self) -> bool:
        """Whether the objects are those of this moment, as far as it can be known."""
        return not (self.behind or self.stale or self.between_watches)

    def project(self, item: dict[str, object]) -> ProjectionT | None:
        """The part of the object to hold; None when it is of no interest."""
        return self._project(item)

    def would_shrink(self, objects: dict[str, object]) -> bool:
        """Whether more than a few of the objects, and more than a share, are missing in these."""
        missing = len(self.objects.keys() - objects.keys())
        return missing >= _MIN_SHRINK and missing > _SHRINK_SHARE * len(self.objects)

    def replace(self, objects: dict[str, object]) -> None:
        """Hold these objects and no others."""
        self.objects = cast("dict[str, ProjectionT]", objects)
        was_behind, self.behind = self.behind, False
        (self._on_return if was_behind else self._on_change)()

    def put(self, key: str, projection: object) -> None:
        """Add the object, or replace it."""
        if self.objects.get(key) != projection:
            self.objects[key] = cast("ProjectionT", projection)
            self._on_change()

    def remove(self, key: str, uid: str) -> None:
        """Remove the object, unless another one has its name by now."""
        present = self.objects.get(key)
        if present is not None and present.uid == uid:
            del self.objects[key]
            self._on_change()

    def mark_fresh(self) -> None:
        """Record that the cluster was seen just now."""
        self.seen_at = self._wall_clock()
        if self.stale or self.between_watches:
            self.stale = self.between_watches = False
            self._on_return()
        self._on_health()

    def mark_watch_ended(self) -> None:
        """Record that a watch ended as it should; the next one brings the changes in between."""
        self.between_watches = True

    def mark_behind(self) -> None:
        """Record that changes were missed, until the next list."""
        self.behind = True

    def mark_stale(self, reason: str) -> None:
        """Record that the cluster cannot be seen."""
        self.stale = True
        self._on_health()


class _Endpoints(NamedTuple):
    """An `EndpointView` of one moment; all keys begin with namespace and name of the Service."""

    ready: Mapping[Hashable, int]
    lost_at: Mapping[Hashable, float]
    ports: Mapping[Hashable, Counter[int]]

    def count_ready(self, service: KubeService) -> int:
        return self.ready.get((service.namespace, service.name), 0)

    def is_available(self, service: KubeService) -> bool:
        key = (service.namespace, service.name)
        return bool(self.ready.get(key)) or key in self.lost_at

    def find_port(self, service: KubeService, port_name: str) -> int:
        counts = self.ports.get((service.namespace, service.name, port_name))
        # The smallest of those that are as frequent, so that all replicas say the same.
        return max(counts, key=lambda port: (counts[port], -port)) if counts else 0


class KubernetesRoutes:
    """The routes of a cluster: Services with an `app` label, and a `lane` label for their lanes.

    A lane is available while one of its endpoints is ready, and for `grace_seconds` after the last
    one was. In the home namespace (the first given, else the one of this process) a service is
    published under its `app`; elsewhere as `app.namespace`.

    Args:
        namespaces: the watched ones; none = all.
        grace_seconds: how long a lane outlives its last ready endpoint.
        debounce_seconds: changes this close together are published as one.
        settle_seconds: how long nothing is published after a lost connection is back. The missed
            changes come after the head of the response, on two streams that are independent of
            each other.
        silence_seconds: after how many seconds without a byte a stream counts as dead.
    """

    def __init__(
        self,
        api: ApiServer,
        *,
        namespaces: tuple[str, ...] = (),
        app_label: str = "app",
        lane_label: str = "lane",
        grace_seconds: float = 10.0,
        debounce_seconds: float = 0.1,
        settle_seconds: float = 0.5,
        silence_seconds: float = SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        home = namespaces[0] if namespaces else api.namespace
        self._api = api
        self._namespaces = namespaces
        self._rules = LaneRules(home, app_label, lane_label)
        self._grace_seconds = grace_seconds
        self._debounce_seconds = debounce_seconds
        self._settle_seconds = settle_seconds
        self._settled_at = 0.0
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._rng = rng
        self._services: list[ObjectMirror[KubeService]] = []
        self._endpoints: list[ObjectMirror[KubeEndpoints]] = []
        self._lost_at: dict[Hashable, float] = {}
        self._ready: dict[Hashable, int] = {}
        self._rejected: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def known_objects(self) -> tuple[int, int]:
        """The numbers of known Services and EndpointSlices."""
        return (
            sum(len(mirror.objects) for mirror in self._services),
            sum(len(mirror.objects) for mirror in self._endpoints),
        )

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Publish nothing yet: `run` does so once it has listed the cluster."""
        self._published = published
        self._metrics = metrics
        metrics.add_gauge("rejected_services", self._count_rejected)

    async def run(self) -> None:
        """Follow the cluster until cancelled; a new run begins with new lists."""
        self._services.clear()
        self._endpoints.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                for reflector in self._create_reflectors():
                    tasks.create_task(reflector.run())
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _create_reflectors(self) -> list[Reflector]:
        reflectors = []
        for namespace in self._namespaces or ("",):
            scope = f"/namespaces/{namespace}" if namespace else ""
            services = self._create_mirror(self._rules.project)
            endpoints = self._create_mirror(project_endpoints)
            self._services.append(services)
            self._endpoints.append(endpoints)
            path = f"/api/v1{scope}/services"
            reflectors.append(self._create_reflector(path, services, self._rules.app_label))
            path = f"/apis/discovery.k8s.io/v1{scope}/endpointslices"
            reflectors.append(self._create_reflector(path, endpoints, "kubernetes.io/service-name"))
        return reflectors

    def _create_mirror(
        self, project: Callable[[Mapping[str, object]], ProjectionT | None]
    ) -> ObjectMirror[ProjectionT]:
        return ObjectMirror(
            project,
            on_change=lambda: self._publish_in(self._debounce_seconds),
            on_return=self._publish_settled,
            on_health=self._publish_health,
            wall_clock=self._wall_clock,
        )

    def _create_reflector(
        self, path: str, mirror: ObjectMirror[KubeService] | ObjectMirror[KubeEndpoints], label: str
    ) -> Reflector:
        return Reflector(
            self._api,
            path,
            mirror,
            selector=label,
            silence_seconds=self._silence_seconds,
            clock=self._clock,
            sleep=self._sleep,
            rng=self._rng,
            count=lambda name, reason: self._metrics.count(name, reason=reason),
        )

    def _count_rejected(self) -> list[tuple[dict[str, str], float]]:
        return [({"reason": reason}, count) for reason, count in sorted(self._rejected.items())]

    def _get_mirrors(self) -> list[ObjectMirror[KubeService] | ObjectMirror[KubeEndpoints]]:
        return [*self._services, *self._endpoints]

    def _publish_health(self) -> None:
        if any(mirror.stale for mirror in self._get_mirrors()):
            self._published.mark_stale()
        elif self._published.live and self._is_in_step() and self._has_settled():
            self._published.mark_fresh(min(mirror.seen_at for mirror in self._get_mirrors()))

    def _has_settled(self) -> bool:
        return asyncio.get_running_loop().time() >= self._settled_at

    def _is_in_step(self) -> bool:
        """Whether services and endpoints are those of one moment, as far as it can be known."""
        return all(mirror.in_step for mirror in self._get_mirrors())

    def _is_first_complete(self) -> bool:
        """Whether all was listed and nothing published yet: then no watch needs to stand."""
        has_lists = not any(mirror.behind for mirror in self._get_mirrors())
        return has_lists and not self._published.live

    def _publish_settled(self) -> None:
        if self._published.live:
            self._settled_at = asyncio.get_running_loop().time() + self._settle_seconds
        self._publish_in(self._debounce_seconds)

    def _publish_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = max(loop.time() + seconds, self._settled_at)
        if self._timer is not None:
            # An earlier timer serves this change as well, unless it fires before all has settled.
            if self._settled_at <= self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._publish)

    def _publish(self) -> None:
        self._timer = None
        if not (self._is_in_step() or self._is_first_complete()):
            # New services with old endpoints would be a state that never was: the last one is
            # kept until all are in step again, which comes back here.
            return
        ready, now = self._count_ready(), self._clock()
        self._record_lost(ready, now)
        self._rejected.clear()
        routes = build_routes(
            (service for mirror in self._services for service in mirror.objects.values()),
            _Endpoints(ready, self._lost_at, self._count_ports()),
            self._rules,
            self._reject,
        )
        self._published.publish(RouteTable(routes, self._published.table))
        self._publish_health()
        if self._lost_at:
            self._publish_in(max(0.0, min(self._lost_at.values()) + self._grace_seconds - now))

    def _reject(self, reason: str) -> None:
        self._rejected[reason] += 1

    def _count_ready(self) -> dict[Hashable, int]:
        """The number of ready endpoints by `(namespace, service)`, for services with any."""
        endpoints: dict[Hashable, frozenset[str]] = {}
        for mirror in self._endpoints:
            for part in mirror.objects.values():
                if part.ready:
                    key = (part.namespace, part.service)
                    endpoints[key] = endpoints[key] | part.ready if key in endpoints else part.ready
        return {key: len(ready) for key, ready in endpoints.items()}

    def _count_ports(self) -> dict[Hashable, Counter[int]]:
        """How many endpoints have which port, by `(namespace, service, name of the port)`."""
        ports: dict[Hashable, Counter[int]] = {}
        for mirror in self._endpoints:
            for part in mirror.objects.values():
                for name, number in part.ports:
                    key = (part.namespace, part.service, name)
                    # A slice without ready endpoints still says which port it is.
                    ports.setdefault(key, Counter())[number] += len(part.ready) or 1
        return ports

    def _record_lost(self, ready: dict[Hashable, int], now: float) -> None:
        """Record when services lost their last ready endpoint, for the grace period."""
        for key in self._ready.keys() - ready.keys():
            self._lost_at.setdefault(key, now)
        self._lost_at = {
            key: lost_at
            for key, lost_at in self._lost_at.items()
            if key not in ready and now - lost_at < self._grace_seconds
        }
        self._ready = ready

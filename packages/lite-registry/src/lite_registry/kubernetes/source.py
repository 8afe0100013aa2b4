"""Lane routes from a Kubernetes cluster, published shortly after each change."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from lite_registry.routes import RouteTable

from .lanes import KubeEndpoints, KubeService, LaneRules, project_endpoints, routes_of
from .reflector import SILENCE_SECONDS, Reflector

if TYPE_CHECKING:
    import random

    from lite_registry.metrics import Metrics
    from lite_registry.published import PublishedRoutes

    from .access import ApiServer

__all__ = ("KubernetesRoutes",)

ProjectionT = TypeVar("ProjectionT", KubeService, KubeEndpoints)

SHRINK_SHARE = 0.15
SHRINK_LEAST = 3


class Mirror(Generic[ProjectionT]):
    """All objects of one kind as the cluster has them; the `View` of one reflector."""

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
        self.lagging = True
        self.doubted = False
        self.paused = False
        self.seen_at = 0.0
        self._project: Callable[[Mapping[str, object]], ProjectionT | None] = project
        self._on_change = on_change
        self._on_return = on_return
        self._on_health = on_health
        self._wall_clock = wall_clock

    def project(self, item: dict[str, object]) -> ProjectionT | None:
        """What is kept of the object."""
        return self._project(item)

    def shrinks(self, objects: dict[str, object]) -> bool:
        """Whether more than a few and more than a share of them would vanish."""
        gone = len(self.objects.keys() - objects.keys())
        return gone >= SHRINK_LEAST and gone > SHRINK_SHARE * len(self.objects)

    def replace(self, objects: dict[str, object]) -> None:
        """These are all."""
        self.objects = cast("dict[str, ProjectionT]", objects)
        lagged, self.lagging = self.lagging, False
        (self._on_return if lagged else self._on_change)()

    def put(self, key: str, projection: object) -> None:
        """The object is so now."""
        if self.objects.get(key) != projection:
            self.objects[key] = cast("ProjectionT", projection)
            self._on_change()

    def remove(self, key: str, uid: str) -> None:
        """The object is gone, unless another one has taken its name since."""
        present = self.objects.get(key)
        if present is not None and present.uid == uid:
            del self.objects[key]
            self._on_change()

    def confirm(self) -> None:
        """The cluster was seen just now."""
        self.seen_at = self._wall_clock()
        if self.doubted or self.paused:
            self.doubted = self.paused = False
            self._on_return()
        self._on_health()

    def pause(self) -> None:
        """A stream came to its end; the next one tells what happens in between."""
        self.paused = True

    def lag(self) -> None:
        """Changes were missed; a list will tell."""
        self.lagging = True

    def doubt(self, reason: str) -> None:
        """The cluster cannot be seen."""
        self.doubted = True
        self._on_health()


class KubernetesRoutes:
    """Services with an `app` label are routes; those with a `lane` label too are lanes of them.

    A lane is there as long as one endpoint is ready, and for `grace_seconds` after the last one
    was. In the home namespace (the first given, else the one we live in) a service is published
    under its `app`; elsewhere as `app.namespace`.

    Args:
        namespaces: those to watch; none = all.
        grace_seconds: how long a lane outlives its last ready endpoint.
        debounce_seconds: changes this close together are published as one.
        settle_seconds: after a connection was lost and is back, how long nothing is published. What
            was missed comes after the head of an answer, on two streams that know nothing of each
            other.
        silence_seconds: after how long without a byte a stream counts as dead.
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
        self._services: list[Mirror[KubeService]] = []
        self._endpoints: list[Mirror[KubeEndpoints]] = []
        self._lost_at: dict[Hashable, float] = {}
        self._ready: dict[Hashable, int] = {}
        self._rejected: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, published: PublishedRoutes, metrics: Metrics) -> None:
        """Nothing can be had at once; `published` shows a snapshot until `run` has listed."""
        self._published = published
        self._metrics = metrics
        metrics.gauge("rejected_services", self._count_rejected)

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for reflector in self._reflectors():
                    tasks.create_task(reflector.run())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _reflectors(self) -> list[Reflector]:
        made = []
        for namespace in self._namespaces or ("",):
            scope = f"/namespaces/{namespace}" if namespace else ""
            services = self._mirror(self._rules.project)
            endpoints = self._mirror(project_endpoints)
            self._services.append(services)
            self._endpoints.append(endpoints)
            slices = f"/apis/discovery.k8s.io/v1{scope}/endpointslices"
            made.append(
                self._reflector(f"/api/v1{scope}/services", services, self._rules.app_label)
            )
            made.append(self._reflector(slices, endpoints, "kubernetes.io/service-name"))
        return made

    def _mirror(
        self, project: Callable[[Mapping[str, object]], ProjectionT | None]
    ) -> Mirror[ProjectionT]:
        return Mirror(
            project,
            on_change=lambda: self._publish_in(self._debounce_seconds),
            on_return=self._settle,
            on_health=self._tell_health,
            wall_clock=self._wall_clock,
        )

    def _reflector(
        self, path: str, view: Mirror[KubeService] | Mirror[KubeEndpoints], selector: str
    ) -> Reflector:
        return Reflector(
            self._api,
            path,
            view,
            selector=selector,
            silence_seconds=self._silence_seconds,
            clock=self._clock,
            sleep=self._sleep,
            rng=self._rng,
            count=lambda name, reason: self._metrics.count(name, reason=reason),
        )

    def _count_rejected(self) -> list[tuple[dict[str, str], float]]:
        return [({"reason": reason}, count) for reason, count in sorted(self._rejected.items())]

    def _mirrors(self) -> list[Mirror[KubeService] | Mirror[KubeEndpoints]]:
        return [*self._services, *self._endpoints]

    def _tell_health(self) -> None:
        if any(mirror.doubted for mirror in self._mirrors()):
            self._published.doubt()
        elif self._published.live and self._in_step() and self._settled():
            self._published.confirm(min(mirror.seen_at for mirror in self._mirrors()))

    def _settled(self) -> bool:
        return asyncio.get_running_loop().time() >= self._settled_at

    def _in_step(self) -> bool:
        """Whether services and endpoints are of one moment, as far as can be known."""
        mirrors = self._mirrors()
        return not any(mirror.lagging or mirror.doubted or mirror.paused for mirror in mirrors)

    def _settle(self) -> None:
        if self._published.live:
            self._settled_at = asyncio.get_running_loop().time() + self._settle_seconds
        self._publish_in(self._debounce_seconds)

    def _publish_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = max(loop.time() + seconds, self._settled_at)
        if self._timer is not None:
            if self._settled_at <= self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._publish)

    def _publish(self) -> None:
        self._timer = None
        if not self._in_step():
            # Services of now with endpoints of before would be a state that never was: the last
            # one stays until all are seen again, which comes back here.
            return
        ready, now = self._count_ready(), self._clock()
        self._note_lost(ready, now)
        self._rejected.clear()
        routes = routes_of(
            (service for mirror in self._services for service in mirror.objects.values()),
            lambda service: ready.get(service[1:3], 0),
            lambda service: bool(ready.get(service[1:3])) or service[1:3] in self._lost_at,
            self._rules,
            self._reject,
        )
        self._published.publish(RouteTable(routes, self._published.table))
        self._tell_health()
        if self._lost_at:
            self._publish_in(max(0.0, min(self._lost_at.values()) + self._grace_seconds - now))

    def _reject(self, reason: str) -> None:
        self._rejected[reason] += 1

    def _count_ready(self) -> dict[Hashable, int]:
        """How many endpoints are ready, by `(namespace, service)`; none = not in it."""
        found: dict[Hashable, frozenset[str]] = {}
        for mirror in self._endpoints:
            for part in mirror.objects.values():
                if part.ready:
                    key = (part.namespace, part.service)
                    found[key] = found[key] | part.ready if key in found else part.ready
        return {key: len(ready) for key, ready in found.items()}

    def _note_lost(self, ready: dict[Hashable, int], now: float) -> None:
        for key in self._ready.keys() - ready.keys():
            self._lost_at.setdefault(key, now)
        self._lost_at = {
            key: lost_at
            for key, lost_at in self._lost_at.items()
            if key not in ready and now - lost_at < self._grace_seconds
        }
        self._ready = ready

"""From Services and EndpointSlices to lanes: what is kept of each object, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

from lite_registry.routes import Route, Target, is_dns_label

__all__ = ("KubeEndpoints", "KubeService", "LaneRules", "project_endpoints", "routes_of")

KubeObject = Mapping[str, object]


class KubeService(NamedTuple):
    """What is kept of a Service."""

    uid: str
    namespace: str
    name: str
    app: str
    lane: str
    ports: tuple[tuple[str, int], ...]


class KubeEndpoints(NamedTuple):
    """What is kept of an EndpointSlice: who is ready, of which Service."""

    uid: str
    namespace: str
    service: str
    ready: frozenset[str]


class LaneRules(NamedTuple):
    """Which labels mean what, and where `app` needs no namespace behind it."""

    home: str
    app_label: str = "app"
    lane_label: str = "lane"

    def project(self, item: KubeObject) -> KubeService | None:
        """What is kept of a Service; None when it carries no `app` label or no port."""
        meta = cast("Mapping[str, object]", item.get("metadata") or {})
        labels = cast("Mapping[str, str]", meta.get("labels") or {})
        spec = cast("Mapping[str, object]", item.get("spec") or {})
        ports = cast("list[Mapping[str, object]]", spec.get("ports") or [])
        if self.app_label not in labels or not ports:
            return None
        return KubeService(
            uid=str(meta.get("uid", "")),
            namespace=str(meta.get("namespace", "")),
            name=str(meta.get("name", "")),
            app=labels[self.app_label],
            lane=labels.get(self.lane_label, ""),
            ports=tuple(
                (str(port.get("name") or ""), int(str(port.get("port") or 0))) for port in ports
            ),
        )


def project_endpoints(item: KubeObject) -> KubeEndpoints | None:
    """What is kept of an EndpointSlice; None when it belongs to no Service.

    `conditions.ready` missing means ready. An endpoint that stands in two slices (dual stack, a
    slice being split) is one: it is known by its pod when there is one.
    """
    meta = cast("Mapping[str, object]", item.get("metadata") or {})
    labels = cast("Mapping[str, str]", meta.get("labels") or {})
    service = labels.get("kubernetes.io/service-name")
    if not service:
        return None
    ready: set[str] = set()
    for endpoint in cast("list[Mapping[str, object]]", item.get("endpoints") or []):
        conditions = cast("Mapping[str, object]", endpoint.get("conditions") or {})
        if conditions.get("ready") is not False:
            ready.update(_identities(endpoint))
    return KubeEndpoints(
        str(meta.get("uid", "")), str(meta.get("namespace", "")), service, frozenset(ready)
    )


def _identities(endpoint: Mapping[str, object]) -> Iterable[str]:
    reference = cast("Mapping[str, str]", endpoint.get("targetRef") or {})
    if reference.get("name"):
        return [reference["name"]]
    return cast("list[str]", endpoint.get("addresses") or [])


def routes_of(
    services: Iterable[KubeService],
    ready: Callable[[KubeService], int],
    exists: Callable[[KubeService], bool],
    rules: LaneRules,
    reject: Callable[[str], None],
) -> dict[str, Route]:
    """The routes that these Services make.

    Args:
        services: all that carry the `app` label.
        ready: how many endpoints of a Service can answer.
        exists: whether a lane counts as there.
        rules: labels and home namespace.
        reject: told the reason for each Service that makes no route: `label` or `collision`.
    """
    good = []
    for service in services:
        if _has_usable_labels(service):
            good.append(service)
        else:
            reject("label")
    names = {(service.namespace, service.name) for service in good}
    bases: dict[str, KubeService] = {}
    lanes: dict[str, dict[str, KubeService]] = {}
    for service in sorted(good, key=_preference):
        published = (
            service.app
            if service.namespace == rules.home
            else (f"{service.app}.{service.namespace}")
        )
        if not service.lane:
            if bases.setdefault(published, service) is not service:
                reject("collision")
        elif (
            _derived(service) != service.name and (service.namespace, _derived(service)) in names
        ) or lanes.setdefault(published, {}).setdefault(service.lane, service) is not service:
            reject("collision")
    return {
        published: Route(
            base=_target(bases[published], ready, rules) if published in bases else None,
            lanes={
                lane: _target(service, ready, rules, available=exists(service))
                for lane, service in lanes.get(published, {}).items()
            },
        )
        for published in sorted({*bases, *lanes})
    }


def _has_usable_labels(service: KubeService) -> bool:
    return is_dns_label(service.app) and (
        not service.lane or (is_dns_label(service.lane) and is_dns_label(_derived(service)))
    )


def _derived(service: KubeService) -> str:
    """The name that clients which know only app and lane would try."""
    return f"{service.app}-{service.lane}" if service.lane else service.app


def _preference(service: KubeService) -> tuple[bool, str, str]:
    """Of two Services for the same lane: the one named by convention, then the first by name."""
    return service.name != _derived(service), service.namespace, service.name


def _target(
    service: KubeService,
    ready: Callable[[KubeService], int],
    rules: LaneRules,
    *,
    available: bool = True,
) -> Target:
    at_home = service.namespace == rules.home
    ports = dict(service.ports)
    return Target(
        name=service.name if at_home else f"{service.name}.{service.namespace}",
        port=ports.get("http", service.ports[0][1]),
        ports={name: port for name, port in ports.items() if name},
        ready=ready(service),
        available=available,
    )

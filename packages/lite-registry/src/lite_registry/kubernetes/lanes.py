"""Lanes from Services and EndpointSlices: the part of each object that counts, and the routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

from lite_registry.routes import Route, Target, is_dns_label

__all__ = ("KubeEndpoints", "KubeService", "LaneRules", "build_routes", "project_endpoints")

KubeObject = Mapping[str, object]


class KubeService(NamedTuple):
    """The part of a Service that matters for routes."""

    uid: str
    namespace: str
    name: str
    app: str
    lane: str
    ports: tuple[tuple[str, int], ...]


class KubeEndpoints(NamedTuple):
    """The part of an EndpointSlice that matters for routes: its Service and ready endpoints."""

    uid: str
    namespace: str
    service: str
    ready: frozenset[str]


class LaneRules(NamedTuple):
    """The labels that name service and lane, and the namespace whose services need no suffix."""

    home: str
    app_label: str = "app"
    lane_label: str = "lane"

    def project(self, item: KubeObject) -> KubeService | None:
        """The part of a Service that matters; None when it has no `app` label or no port."""
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
    """The part of an EndpointSlice that matters; None when it belongs to no Service.

    An endpoint without `conditions.ready` is ready. One that is in two slices (dual stack, a slice
    being split) counts once: it is identified by its pod, if it has one.
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
            ready.update(_get_identities(endpoint))
    return KubeEndpoints(
        str(meta.get("uid", "")), str(meta.get("namespace", "")), service, frozenset(ready)
    )


def _get_identities(endpoint: Mapping[str, object]) -> Iterable[str]:
    reference = cast("Mapping[str, str]", endpoint.get("targetRef") or {})
    if reference.get("name"):
        return [reference["name"]]
    return cast("list[str]", endpoint.get("addresses") or [])


def build_routes(
    services: Iterable[KubeService],
    ready: Callable[[KubeService], int],
    is_available: Callable[[KubeService], bool],
    rules: LaneRules,
    reject: Callable[[str], None],
) -> dict[str, Route]:
    """The routes of these Services.

    Args:
        services: all with the `app` label.
        ready: returns the number of ready endpoints of a Service.
        is_available: whether the lane of a Service can be used now.
        rules: labels and home namespace.
        reject: called with the reason for each Service without a route: `label` or `collision`.
    """
    usable = []
    for service in services:
        if _has_usable_labels(service):
            usable.append(service)
        else:
            reject("label")
    bases, lanes = _group_by_lane(usable, rules, reject)
    return {
        published: Route(
            base=_build_target(bases[published], ready, rules) if published in bases else None,
            lanes={
                lane: _build_target(service, ready, rules, available=is_available(service))
                for lane, service in lanes.get(published, {}).items()
            },
        )
        for published in sorted({*bases, *lanes})
    }


def _group_by_lane(
    services: Iterable[KubeService], rules: LaneRules, reject: Callable[[str], None]
) -> tuple[dict[str, KubeService], dict[str, dict[str, KubeService]]]:
    """The base of each service by its published name, and its lanes by that name and their own."""
    ordered = sorted(services, key=_compute_preference)
    names = {(service.namespace, service.name) for service in ordered}
    bases: dict[str, KubeService] = {}
    lanes: dict[str, dict[str, KubeService]] = {}
    for service in ordered:
        is_home = service.namespace == rules.home
        published = service.app if is_home else f"{service.app}.{service.namespace}"
        conventional = _derive_name(service)
        if not service.lane:
            is_first = bases.setdefault(published, service) is service
        elif conventional != service.name and (service.namespace, conventional) in names:
            # Clients that derive the name would reach that other Service.
            is_first = False
        else:
            is_first = lanes.setdefault(published, {}).setdefault(service.lane, service) is service
        if not is_first:
            reject("collision")
    return bases, lanes


def _has_usable_labels(service: KubeService) -> bool:
    return is_dns_label(service.app) and (
        not service.lane or (is_dns_label(service.lane) and is_dns_label(_derive_name(service)))
    )


def _derive_name(service: KubeService) -> str:
    """The conventional name, used by clients that know only app and lane."""
    return f"{service.app}-{service.lane}" if service.lane else service.app


def _compute_preference(service: KubeService) -> tuple[bool, str, str]:
    """A sort key: of two Services for one lane, the conventionally named, then the first by name."""
    return service.name != _derive_name(service), service.namespace, service.name


def _build_target(
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

"""Lanes from Services and EndpointSlices: the part of each object that counts, and the routes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, cast

from lite_registry.routes import Route, Target, is_dns_label

__all__ = (
    "EndpointView",
    "KubeEndpoints",
    "KubePort",
    "KubeService",
    "LaneRules",
    "ServiceKind",
    "build_routes",
    "project_endpoints",
)

KubeObject = Mapping[str, object]


class EndpointView(Protocol):
    """What `build_routes` asks about the endpoints of a Service."""

    def count_ready(self, service: KubeService) -> int:
        """The number of ready endpoints."""
        ...

    def is_available(self, service: KubeService) -> bool:
        """Whether its lane can be used now."""
        ...

    def find_port(self, service: KubeService, port_name: str) -> int:
        """The port of most of its endpoints for that port of the Service; 0 when it has none."""
        ...


class KubePort(NamedTuple):
    """A TCP port of a Service.

    Attributes:
        target: the port of the endpoints, when the Service gives it as a number; else 0.
        app_protocol: what is spoken there; empty when the Service does not say.
    """

    name: str
    port: int
    target: int = 0
    app_protocol: str = ""


class ServiceKind(enum.Enum):
    """How the name of a Service is resolved.

    Attributes:
        CLUSTER: to an address of the cluster, which listens on the Service's ports.
        HEADLESS: to the addresses of its endpoints, which listen on their own ports.
        EXTERNAL: to a host outside of the cluster (`ExternalName`), without endpoints.
    """

    CLUSTER = enum.auto()
    HEADLESS = enum.auto()
    EXTERNAL = enum.auto()


class KubeService(NamedTuple):
    """The part of a Service that matters for routes."""

    uid: str
    namespace: str
    name: str
    app: str
    lane: str
    kind: ServiceKind
    ports: tuple[KubePort, ...]


class KubeEndpoints(NamedTuple):
    """The part of an EndpointSlice that matters for routes: its Service and ready endpoints.

    Attributes:
        ports: the TCP ports of the endpoints, by the name of the Service's port.
    """

    uid: str
    namespace: str
    service: str
    ready: frozenset[str]
    ports: tuple[tuple[str, int], ...] = ()


class LaneRules(NamedTuple):
    """The labels that name service and lane, and the namespace whose services need no suffix."""

    home: str
    app_label: str = "app"
    lane_label: str = "lane"

    def project(self, item: KubeObject) -> KubeService | None:
        """The part of a Service that matters; None when it has no `app` label."""
        meta = cast("Mapping[str, object]", item.get("metadata") or {})
        labels = cast("Mapping[str, str]", meta.get("labels") or {})
        spec = cast("Mapping[str, object]", item.get("spec") or {})
        if self.app_label not in labels:
            return None
        return KubeService(
            uid=str(meta.get("uid", "")),
            namespace=str(meta.get("namespace", "")),
            name=str(meta.get("name", "")),
            app=labels[self.app_label],
            lane=labels.get(self.lane_label, ""),
            kind=_get_kind(spec),
            ports=tuple(_project_ports(spec)),
        )


def _get_kind(spec: Mapping[str, object]) -> ServiceKind:
    if spec.get("type") == "ExternalName":
        return ServiceKind.EXTERNAL
    return ServiceKind.HEADLESS if spec.get("clusterIP") == "None" else ServiceKind.CLUSTER


def _project_ports(spec: Mapping[str, object]) -> Iterable[KubePort]:
    for port in cast("list[Mapping[str, object]]", spec.get("ports") or []):
        target = port.get("targetPort")
        if _is_tcp(port):
            yield KubePort(
                name=str(port.get("name") or ""),
                port=int(str(port.get("port") or 0)),
                target=target if isinstance(target, int) else 0,
                app_protocol=str(port.get("appProtocol") or ""),
            )


def _is_tcp(port: Mapping[str, object]) -> bool:
    return (port.get("protocol") or "TCP") == "TCP"


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
    ports = cast("list[Mapping[str, object]]", item.get("ports") or [])
    return KubeEndpoints(
        str(meta.get("uid", "")),
        str(meta.get("namespace", "")),
        service,
        frozenset(ready),
        tuple(
            (str(port.get("name") or ""), int(str(port["port"])))
            for port in ports
            if _is_tcp(port) and port.get("port")
        ),
    )


def _get_identities(endpoint: Mapping[str, object]) -> Iterable[str]:
    reference = cast("Mapping[str, str]", endpoint.get("targetRef") or {})
    if reference.get("name"):
        return [reference["name"]]
    return cast("list[str]", endpoint.get("addresses") or [])


def build_routes(
    services: Iterable[KubeService],
    endpoints: EndpointView,
    rules: LaneRules,
    reject: Callable[[str], None],
) -> dict[str, Route]:
    """The routes of these Services.

    Args:
        services: all with the `app` label.
        endpoints: what is known of their endpoints.
        rules: labels and home namespace.
        reject: called with the reason for each Service without a route: `label`, `port` (it has no
            TCP port) or `collision`.
    """
    usable = []
    for service in services:
        if not _has_usable_labels(service):
            reject("label")
        elif not service.ports:
            reject("port")
        else:
            usable.append(service)
    bases, lanes = _group_by_lane(usable, rules, reject)
    return {
        published: Route(
            base=_build_target(bases[published], endpoints, rules) if published in bases else None,
            lanes={
                lane: _build_target(service, endpoints, rules)
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


def _build_target(service: KubeService, endpoints: EndpointView, rules: LaneRules) -> Target:
    at_home = service.namespace == rules.home
    is_external = service.kind is ServiceKind.EXTERNAL
    numbers = [_find_number(service, port, endpoints) for port in service.ports]
    ports = {port.name: number for port, number in zip(service.ports, numbers, strict=True)}
    return Target(
        name=service.name if at_home else f"{service.name}.{service.namespace}",
        port=ports.get("http", numbers[0]),
        ports={name: port for name, port in ports.items() if name},
        ready=None if is_external else endpoints.count_ready(service),
        available=is_external or endpoints.is_available(service),
        app_protocols={
            port.name: port.app_protocol
            for port in service.ports
            if port.name and port.app_protocol
        },
    )


def _find_number(service: KubeService, port: KubePort, endpoints: EndpointView) -> int:
    """The port to connect to.

    The name of a headless Service resolves to its endpoints, so that it is their port.
    """
    if service.kind is not ServiceKind.HEADLESS:
        return port.port
    return endpoints.find_port(service, port.name) or port.target or port.port

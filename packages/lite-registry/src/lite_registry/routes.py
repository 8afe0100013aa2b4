"""The route table: the lanes of each service, and where to reach them."""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .errors import SettingsError
from .response import encode_json

__all__ = ("NO_ROUTES", "Route", "RouteTable", "Target", "is_dns_label", "parse_routes")

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# A host name, or an address of IPv4 or IPv6.
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_MAX_READY = 1_000_000_000

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def is_dns_label(value: object) -> bool:
    """Whether the value can be one label of a host name (RFC 1123)."""
    return isinstance(value, str) and _DNS_LABEL.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Target:
    """The address of one lane of a service, or of its base.

    Attributes:
        name: the host name.
        ports: every named port.
        app_protocols: what is spoken on a named port, where the source says so.
        ready: the number of endpoints that are ready; None when the source does not know.
        available: whether the lane can be used now.
    """

    name: str
    port: int
    ports: Mapping[str, int] = field(default_factory=dict)
    ready: int | None = None
    available: bool = True
    app_protocols: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, object]:
        """The target in the JSON of `/v1/routes`."""
        protocols = {"app_protocols": dict(self.app_protocols)} if self.app_protocols else {}
        return {
            "name": self.name,
            "port": self.port,
            "ports": dict(self.ports),
            "ready": self.ready,
            **protocols,
        }


@dataclass(frozen=True, slots=True)
class Route:
    """One service: its base, if there is one, and its lanes by name."""

    base: Target | None
    lanes: Mapping[str, Target]

    def to_document(self) -> dict[str, object]:
        """The route in the JSON of `/v1/routes`.

        `lanes` and `port` are its oldest fields, and all that some clients read.
        """
        targets = [self.base] if self.base else [self.lanes[lane] for lane in sorted(self.lanes)]
        return {
            "lanes": sorted(lane for lane, target in self.lanes.items() if target.available),
            "port": targets[0].port if targets else 0,
            "base": self.base.to_document() if self.base else None,
            "lane": {lane: target.to_document() for lane, target in self.lanes.items()},
        }


class RouteTable:
    """The routes of all services at one moment; tables of equal content have equal versions.

    How many endpoints are ready is no part of a version, only whether any is: a version that moved
    with each endpoint of each service would send the whole table to every client all day.

    Unchanged routes are taken from `previous` with their document and version.
    """

    __slots__ = ("documents", "json", "routes", "version", "versions")

    def __init__(self, routes: Mapping[str, Route], previous: RouteTable | None = None) -> None:
        self.routes = routes
        self.documents: dict[str, dict[str, object]] = {}
        self.versions: dict[str, str] = {}
        for name in sorted(routes):
            if previous is not None and previous.routes.get(name) == routes[name]:
                self.documents[name] = previous.documents[name]
                self.versions[name] = previous.versions[name]
            else:
                self.documents[name] = routes[name].to_document()
                self.versions[name] = _compute_version(routes[name])
        self.version = compute_fingerprint(self.versions)
        self.json: bytes | None = None

    def encode_services(self) -> bytes:
        """All documents by service as JSON, serialised once."""
        if self.json is None:
            self.json = encode_json(self.documents)
        return self.json


def _compute_version(route: Route) -> str:
    return compute_fingerprint(_without_counts(route).to_document())


def _without_counts(route: Route) -> Route:
    def strip(target: Target) -> Target:
        return replace(target, ready=1) if target.ready else target

    base = strip(route.base) if route.base else None
    return Route(base, {lane: strip(target) for lane, target in route.lanes.items()})


def compute_fingerprint(document: object) -> str:
    """A hash of the content, 16 hex digits, the same on every replica."""
    return hashlib.sha256(encode_json(document)).hexdigest()[:16]


NO_ROUTES = RouteTable({})


def parse_routes(document: object) -> RouteTable:
    """The table from a route file, which has the form of `/v1/routes`.

    `{"services": {"orders": {"lanes": ["dev"], "port": 8000}}}` is enough: the base is then named
    `orders`, the lane `orders-dev`, unless `base` and `lane` give other names.

    Raises:
        SettingsError: with the service, the value and the rule it breaks.
    """
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise SettingsError("a route file is an object with an object `services`; write one")
    return RouteTable(
        {_validate_service(name): _parse_route(name, part) for name, part in services.items()}
    )


def _validate_service(name: object) -> str:
    if not is_dns_label(name):
        raise _build_error("services", "name", name, "a DNS label: a-z, 0-9 and -, at most 63")
    return str(name)


def _parse_route(name: str, part: object) -> Route:
    if not isinstance(part, dict):
        raise _build_error(name, "route", part, "an object with `lanes` and `port`")
    lanes = part.get("lanes", [])
    if not isinstance(lanes, list):
        raise _build_error(name, "lanes", lanes, "a list of lane names")
    port = part.get("port")
    lane_parts = part.get("lane", {})
    if not isinstance(lane_parts, dict):
        raise _build_error(name, "lane", lane_parts, "an object of lane names")
    listed = lanes if "lanes" in part else list(lane_parts)
    base = part.get("base", {})
    return Route(
        base=None if base is None else _parse_target(name, base, name, port),
        lanes={
            _validate_lane(name, lane): _parse_target(
                name,
                lane_parts.get(lane, {}),
                f"{name}-{lane}",
                port,
                available=lane in listed,
            )
            for lane in [*listed, *(lane for lane in lane_parts if lane not in listed)]
        },
    )


def _validate_lane(service: str, lane: object) -> str:
    if not is_dns_label(lane) or not is_dns_label(f"{service}-{lane}"):
        rule = f"a DNS label, and `{service}-<lane>` at most 63 characters"
        raise _build_error(service, "lane", lane, rule)
    return str(lane)


def _parse_target(
    service: str, part: object, name: str, port: object, *, available: bool = True
) -> Target:
    if not isinstance(part, dict):
        raise _build_error(service, "base or lane", part, "an object with `name` and `port`")
    ports = part.get("ports", {})
    if not isinstance(ports, dict):
        raise _build_error(service, "ports", ports, "an object of port numbers")
    protocols = part.get("app_protocols", {})
    if not isinstance(protocols, dict) or not all(isinstance(p, str) for p in protocols.values()):
        raise _build_error(service, "app_protocols", protocols, "an object of protocol names")
    return Target(
        name=_validate_host(service, part.get("name", name)),
        port=_validate_port(service, part.get("port", port)),
        ports={str(key): _validate_port(service, value) for key, value in ports.items()},
        ready=_parse_ready(service, part.get("ready")),
        available=available,
        app_protocols={str(key): value for key, value in protocols.items()},
    )


def _validate_port(service: str, port: object) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise _build_error(service, "port", port, "a whole number from 1 to 65535")
    return port


def _validate_host(service: str, name: object) -> str:
    if not isinstance(name, str) or not _HOST.fullmatch(name):
        raise _build_error(service, "name", name, "a host name or an address")
    return name


def _parse_ready(service: str, ready: object) -> int | None:
    if ready is None:
        return None
    if not isinstance(ready, int) or isinstance(ready, bool) or not 0 <= ready <= _MAX_READY:
        raise _build_error(service, "ready", ready, "a number of endpoints, or null")
    return ready


def _build_error(service: str, field_name: str, value: object, rule: str) -> SettingsError:
    return SettingsError(
        f"service {service!r}: {field_name} must be {rule}, not {_SHORT.repr(value)}; "
        "correct the route file"
    )

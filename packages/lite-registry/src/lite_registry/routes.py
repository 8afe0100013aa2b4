"""The route table: which lanes a service has, and where each of them is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from .errors import SettingsError
from .response import json_bytes

__all__ = ("NO_ROUTES", "Route", "RouteTable", "Target", "is_dns_label", "parse_routes")

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_dns_label(value: object) -> bool:
    """Whether the value can be one label of a host name (RFC 1123)."""
    return isinstance(value, str) and _DNS_LABEL.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Target:
    """Where one lane of a service, or its base, is reached.

    Attributes:
        name: the host name, as published by who owns it.
        ports: every port by name.
        ready: how many endpoints can answer; None when the source does not know.
        available: whether a lane counts as there.
    """

    name: str
    port: int
    ports: Mapping[str, int] = field(default_factory=dict)
    ready: int | None = None
    available: bool = True

    def document(self) -> dict[str, object]:
        """The wire form."""
        return {
            "name": self.name,
            "port": self.port,
            "ports": dict(self.ports),
            "ready": self.ready,
        }


@dataclass(frozen=True, slots=True)
class Route:
    """One service: its base, if there is one, and its lanes by name."""

    base: Target | None
    lanes: Mapping[str, Target]

    def document(self) -> dict[str, object]:
        """The wire form: `lanes` and `port` as published from the beginning, more beside them."""
        targets = [self.base] if self.base else [self.lanes[lane] for lane in sorted(self.lanes)]
        return {
            "lanes": sorted(lane for lane, target in self.lanes.items() if target.available),
            "port": targets[0].port if targets else 0,
            "base": self.base.document() if self.base else None,
            "lane": {lane: target.document() for lane, target in self.lanes.items()},
        }


class RouteTable:
    """Every service at one moment; two tables of equal content have equal versions.

    What has not changed since `previous` is taken over from it, ready-made.
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
                self.documents[name] = routes[name].document()
                self.versions[name] = fingerprint(self.documents[name])
        self.version = fingerprint(self.versions)
        self.json: bytes | None = None

    def services_json(self) -> bytes:
        """All documents by name, serialised once."""
        if self.json is None:
            self.json = json_bytes(self.documents)
        return self.json


def fingerprint(document: object) -> str:
    """16 hex digits that stand for the content, on every replica the same."""
    return hashlib.sha256(json_bytes(document)).hexdigest()[:16]


NO_ROUTES = RouteTable({})


def parse_routes(document: object) -> RouteTable:
    """The table that a route file describes, in the wire form of `/v1/routes`.

    `{"services": {"orders": {"lanes": ["dev"], "port": 8000}}}` is enough: the base is then called
    `orders`, the lane `orders-dev`. `base` and `lane` say otherwise.

    Raises:
        SettingsError: naming the service, the value and the rule it breaks.
    """
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise SettingsError("a route file is an object with an object `services`; write one")
    return RouteTable({_service_name(name): _route(name, part) for name, part in services.items()})


def _service_name(name: object) -> str:
    if not is_dns_label(name):
        raise _wrong("services", "name", name, "a DNS label: a-z, 0-9 and -, at most 63")
    return str(name)


def _route(name: str, part: object) -> Route:
    if not isinstance(part, dict):
        raise _wrong(name, "route", part, "an object with `lanes` and `port`")
    lanes = part.get("lanes", [])
    if not isinstance(lanes, list):
        raise _wrong(name, "lanes", lanes, "a list of lane names")
    port = part.get("port")
    described = part.get("lane", {})
    if not isinstance(described, dict):
        raise _wrong(name, "lane", described, "an object of lane names")
    listed = lanes if "lanes" in part else list(described)
    base = part.get("base", {})
    return Route(
        base=None if base is None else _target(name, base, name, port),
        lanes={
            _lane_name(name, lane): _target(
                name,
                described.get(lane, {}),
                f"{name}-{lane}",
                port,
                available=lane in listed,
            )
            for lane in [*listed, *(lane for lane in described if lane not in listed)]
        },
    )


def _lane_name(service: str, lane: object) -> str:
    if not is_dns_label(lane) or not is_dns_label(f"{service}-{lane}"):
        rule = f"a DNS label, and `{service}-<lane>` at most 63 characters"
        raise _wrong(service, "lane", lane, rule)
    return str(lane)


def _target(
    service: str, part: object, name: str, port: object, *, available: bool = True
) -> Target:
    if not isinstance(part, dict):
        raise _wrong(service, "base or lane", part, "an object with `name` and `port`")
    ports = part.get("ports", {})
    if not isinstance(ports, dict):
        raise _wrong(service, "ports", ports, "an object of port numbers")
    return Target(
        name=str(part.get("name", name)),
        port=_port(service, part.get("port", port)),
        ports={str(key): _port(service, value) for key, value in ports.items()},
        ready=cast("int | None", part.get("ready")),
        available=available,
    )


def _port(service: str, port: object) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise _wrong(service, "port", port, "a whole number from 1 to 65535")
    return port


def _wrong(service: str, field_name: str, value: object, rule: str) -> SettingsError:
    return SettingsError(
        f"service {service!r}: {field_name} must be {rule}, not {value!r}; correct the route file"
    )

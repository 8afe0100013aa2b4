"""The route table as lite-registry publishes it: the lanes of each service, and their addresses.

The wire format is `GET /v1/routes` of lite-registry; the short form of its predecessor, without
`base` and `lane`, is understood as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lane_router.context.lane_name import PROD, is_lane
from lane_router.errors import RouteTableError

__all__ = (
    "DEFAULT_PORTS",
    "EMPTY_TABLE",
    "Route",
    "RouteTable",
    "Target",
    "is_port",
    "parse_table",
    "read_table",
)

_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Of labels that every resolver takes. ASCII: with IGNORECASE alone `k` is the Kelvin sign as well.
_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.IGNORECASE | re.ASCII)
_MOST_OF_VERSION = 256

# What a URL without a port means; every other scheme means the main port of the service.
DEFAULT_PORTS: Mapping[str, int] = {"https": 443, "wss": 443, "grpcs": 443}
# The protocols under which a port for these schemes may be published, the most exact first.
_PUBLISHED_AS = {"https": ("https",), "wss": ("wss", "https"), "grpcs": ("grpcs", "https")}


@dataclass(frozen=True, slots=True)
class Target:
    """The address of one lane of a service, or of its base.

    Attributes:
        name: the host name, as published.
        port: its main port.
        ports: every port by name.
        app_protocols: what is spoken on a port, by the port's name; a port need not be in it.
        ready: whether an instance can answer there.
    """

    name: str
    port: int
    ports: Mapping[str, int] = field(default_factory=dict)
    app_protocols: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True

    def port_for(self, scheme: str) -> int:
        """The port for a URL of this scheme that names none.

        Without TLS it is the main port; if that one speaks TLS, a port that is published for
        `http`, if there is one. With TLS it is a port that is published for it, else the default.
        """
        secure_port = DEFAULT_PORTS.get(scheme)
        if secure_port is None:
            if self.port in self._ports_for("https"):
                return next(iter(self._ports_for("http")), self.port)
            return self.port
        for protocol in _PUBLISHED_AS[scheme]:
            if ports := self._ports_for(protocol):
                return ports[0]
        return secure_port

    def publishes(self, port: int) -> bool:
        """Whether this port is among those that are published."""
        return port == self.port or port in self.ports.values()

    def _ports_for(self, protocol: str) -> list[int]:
        """The ports that speak it, by their `app_protocols` or else by their names; best first."""
        names = [name for name in self.ports if self._protocol_of(name) == protocol]
        names.sort(key=lambda name: (name != protocol, self.ports[name] != self.port))
        return [self.ports[name] for name in names]

    def _protocol_of(self, port_name: str) -> str:
        # A name such as `https-web` names its protocol as well, as service meshes read it.
        declared = self.app_protocols.get(port_name) or port_name.partition("-")[0]
        return declared.lower().removeprefix("kubernetes.io/")


@dataclass(frozen=True, slots=True)
class Route:
    """One service: its base, if it has one, and its lanes by name."""

    base: Target | None
    lanes: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All services at one moment.

    Attributes:
        services: the routes by service.
        hosts: the names under which bases and lanes are published; they belong to the mesh as well.
        version: the registry's version of the table; empty if it has none.
        skipped: names of invalid entries, which are not in the table.
    """

    services: Mapping[str, Route]
    hosts: frozenset[str] = frozenset()
    version: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of services and lanes together, by which a shrinking table is measured."""
        return len(self.services) + sum(len(route.lanes) for route in self.services.values())


EMPTY_TABLE = RouteTable({})


def read_table(body: bytes) -> RouteTable:
    """The table in a response body or file.

    Raises:
        RouteTableError: it is not JSON, or not a route table.
    """
    return parse_table(read_document(body))


def read_document(body: bytes) -> Mapping[str, object]:
    """The JSON object of a response body; empty if it is something else.

    Raises:
        RouteTableError: it is not JSON.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RouteTableError(
            f"the route table is not JSON: {error}; check the registry's address"
        ) from error
    return document if isinstance(document, Mapping) else {}


def parse_table(document: object) -> RouteTable:
    """The table that a document in the wire form of `/v1/routes` describes.

    An invalid entry is left out and named in `skipped`, so that a mistake of one team does not
    take away the routes of the others.

    Raises:
        RouteTableError: not an object with an object `services`, or all of its entries are invalid.
    """
    document = document if isinstance(document, Mapping) else {}
    services = document.get("services")
    if not isinstance(services, Mapping):
        raise RouteTableError(
            "a route table is an object with an object `services`; check the registry's address"
        )
    routes: dict[str, Route] = {}
    skipped: list[str] = []
    for name, entry in services.items():
        if isinstance(name, str) and _SERVICE.fullmatch(name) and isinstance(entry, Mapping):
            routes[name] = _parse_route(name, entry, services, skipped)
        else:
            skipped.append(str(name)[:64])
    if skipped and not routes:
        raise RouteTableError(
            "all entries of the route table are invalid; check the registry's address"
        )
    version = _parse_version(document.get("version"))
    return RouteTable(routes, _published_hosts(routes), version, tuple(skipped))


def _parse_version(version: object) -> str:
    """The version as it is sent back in a long-poll; empty if it cannot be one."""
    if isinstance(version, bool) or not isinstance(version, str | int):
        return ""
    text = str(version)
    fits = text.isascii() and text.isprintable() and len(text) <= _MOST_OF_VERSION
    return text if fits else ""


def _published_hosts(routes: Mapping[str, Route]) -> frozenset[str]:
    return frozenset(
        target.name.lower()
        for route in routes.values()
        for target in [*([route.base] if route.base else []), *route.lanes.values()]
    )


def _parse_route(
    name: str, entry: Mapping[str, object], services: Mapping[str, object], skipped: list[str]
) -> Route:
    port = entry.get("port")
    described = entry.get("lane")
    described = described if isinstance(described, Mapping) else {}
    listed = entry.get("lanes")
    listed = listed if isinstance(listed, list) else []
    lanes: dict[str, Target] = {}
    for lane in dict.fromkeys([*map(str, listed), *map(str, described)]):
        target = None
        if is_lane(lane) and (lane in described or _is_derivable(f"{name}-{lane}", services)):
            target = _parse_target(described.get(lane, {}), f"{name}-{lane}", port, lane in listed)
        if target is None:
            skipped.append(f"{name}/{lane[:64]}")
        elif lane != PROD:
            lanes[lane] = target
    base = entry.get("base", {})
    return Route(None if base is None else _parse_target(base, name, port), lanes)


def _is_derivable(name: str, services: Mapping[str, object]) -> bool:
    # Lane b of service a and the base of service a-b would share one derived name, so that only
    # published names tell them apart.
    return name not in services and _SERVICE.fullmatch(name) is not None


def _parse_target(entry: object, name: str, port: object, listed: bool = True) -> Target | None:
    if not isinstance(entry, Mapping):
        return None
    published, port = entry.get("name", name), entry.get("port", port)
    if not isinstance(published, str) or not _HOST.fullmatch(published) or not is_port(port):
        return None
    ports = entry.get("ports")
    ports = ports if isinstance(ports, Mapping) else {}
    protocols = entry.get("app_protocols")
    protocols = protocols if isinstance(protocols, Mapping) else {}
    return Target(
        name=published,
        port=int(str(port)),
        ports={str(key): value for key, value in ports.items() if is_port(value)},
        app_protocols={
            str(key): value for key, value in protocols.items() if isinstance(value, str)
        },
        ready=listed and entry.get("ready") != 0,
    )


def is_port(value: object) -> bool:
    """Whether the value is an integer from 1 to 65535."""
    # bool is a subclass of int, and JSON's `true` is no port.
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535

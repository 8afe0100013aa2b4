"""The route table as lite-registry publishes it: which lanes a service has, and where they are.

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

__all__ = ("EMPTY_TABLE", "Route", "RouteTable", "Target", "is_port", "parse_table", "read_table")

_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[a-z0-9_]([-a-z0-9_.]{0,251}[a-z0-9_])?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """Where one lane of a service, or its base, is reached.

    Attributes:
        name: the host name, as published.
        port: its main port.
        ports: every port by name.
        ready: whether anybody can answer there.
    """

    name: str
    port: int
    ports: Mapping[str, int] = field(default_factory=dict)
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """One service: its base, if it has one, and its lanes by name."""

    base: Target | None
    lanes: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Every service at one moment.

    Attributes:
        services: the routes by service.
        hosts: the names under which base and lanes are published: they belong to the mesh too.
        version: the registry's; empty when it has none.
        skipped: entries that break a rule and are not in the table.
    """

    services: Mapping[str, Route]
    hosts: frozenset[str] = frozenset()
    version: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Services and lanes together: what a shrinking table is measured by."""
        return len(self.services) + sum(len(route.lanes) for route in self.services.values())


EMPTY_TABLE = RouteTable({})


def read_table(body: bytes) -> RouteTable:
    """The table in a response body or file.

    Raises:
        RouteTableError: it is no JSON or no route table.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RouteTableError(f"the route table is no JSON: {error}; ask who serves it") from error
    return parse_table(document)


def parse_table(document: object) -> RouteTable:
    """The table that a document in the wire form of `/v1/routes` describes.

    An entry that breaks a rule is left out and named in `skipped`: one team's mistake takes the
    routes from nobody else.

    Raises:
        RouteTableError: no object with an object `services`, or no entry of many is any good.
    """
    services = document.get("services") if isinstance(document, Mapping) else None
    if not isinstance(services, Mapping):
        raise RouteTableError(
            "a route table is an object with an object `services`; check the registry's address"
        )
    routes: dict[str, Route] = {}
    skipped: list[str] = []
    for name, part in services.items():
        if isinstance(name, str) and _SERVICE.fullmatch(name) and isinstance(part, Mapping):
            routes[name] = _route(name, part, services, skipped)
        else:
            skipped.append(str(name)[:64])
    if skipped and not routes:
        raise RouteTableError("no entry of the route table is a route; ask who serves it")
    version = document.get("version", "") if isinstance(document, Mapping) else ""
    return RouteTable(routes, _hosts(routes), str(version), tuple(skipped))


def _hosts(routes: Mapping[str, Route]) -> frozenset[str]:
    return frozenset(
        target.name.lower()
        for route in routes.values()
        for target in [*([route.base] if route.base else []), *route.lanes.values()]
    )


def _route(
    name: str, part: Mapping[str, object], services: Mapping[str, object], skipped: list[str]
) -> Route:
    port = part.get("port")
    described = part.get("lane")
    described = described if isinstance(described, Mapping) else {}
    listed = part.get("lanes")
    listed = listed if isinstance(listed, list) else []
    lanes: dict[str, Target] = {}
    for lane in dict.fromkeys([*map(str, listed), *map(str, described)]):
        target = None
        if is_lane(lane) and (lane in described or _may_derive(f"{name}-{lane}", services)):
            target = _target(described.get(lane, {}), f"{name}-{lane}", port, lane in listed)
        if target is None:
            skipped.append(f"{name}/{lane[:64]}")
        elif lane != PROD:
            lanes[lane] = target
    base = part.get("base", {})
    return Route(None if base is None else _target(base, name, port), lanes)


def _may_derive(name: str, services: Mapping[str, object]) -> bool:
    # Lane b of a and the base of a-b would share one name: only a published name tells them apart.
    return name not in services and _SERVICE.fullmatch(name) is not None


def _target(part: object, name: str, port: object, listed: bool = True) -> Target | None:
    if not isinstance(part, Mapping):
        return None
    published, port = part.get("name", name), part.get("port", port)
    if not isinstance(published, str) or not _HOST.fullmatch(published) or not is_port(port):
        return None
    ports = part.get("ports")
    ports = ports if isinstance(ports, Mapping) else {}
    return Target(
        name=published,
        port=int(str(port)),
        ports={str(key): value for key, value in ports.items() if is_port(value)},
        ready=listed and part.get("ready") != 0,
    )


def is_port(value: object) -> bool:
    """Whether it is a whole number from 1 to 65535."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535

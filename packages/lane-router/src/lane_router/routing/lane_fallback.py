"""The fallback table: whether a call goes to its lane or to the base, or is refused; no state.

| lane        | route table            | mode       | decision                                      |
|-------------|------------------------|------------|-----------------------------------------------|
| none, prod  | any                    | any        | base; no lane is passed on                    |
| dev         | fresh, lane ready      | any        | lane, at the name and port published          |
| dev         | fresh, lane not there  | permissive | base_fallback; the lane is still passed on    |
| dev         | any, lane not there    | strict     | strict_miss: nothing is sent                  |
| dev         | stale                  | any        | lane_stale or base_stale, by the last table   |
| dev         | never received         | permissive | base_no_table, port from the static defaults  |
| dev         | service unknown        | any        | foreign: host unchanged, no lane passed on    |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lane_router.context.lane_classes import Mode
from lane_router.context.lane_name import PROD
from lane_router.resolution import Decision, Outcome
from lane_router.route_table.table import DEFAULT_PORTS, Route, RouteTable, Target

__all__ = ("Lookup", "RoutingSnapshot", "decide")


@dataclass(frozen=True, slots=True)
class RoutingSnapshot:
    """All that decisions are made from, at one moment.

    Attributes:
        table: the last valid table; None = none was ever received.
        stale: the table is older than allowed.
        static_ports: port by service, for services that the table does not name.
        unreachable: (service, lane) of lanes that refused recently.
    """

    table: RouteTable | None = None
    stale: bool = False
    static_ports: Mapping[str, int] = field(default_factory=dict)
    unreachable: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Lookup:
    """One request for the address of a service, for a lane.

    Attributes:
        service: its plain name.
        suffix: the rest of the host name after the service, e.g. `.shop.svc`.
        port: the port that the caller named; 0 = the service's own.
        lane: None = no lane.
        mode: the lane's mode.
        scheme: of the URL, which chooses the port when the caller names none.
    """

    service: str
    suffix: str = ""
    port: int = 0
    lane: str | None = None
    mode: Mode = "permissive"
    scheme: str = "http"


def decide(lookup: Lookup, snapshot: RoutingSnapshot) -> Decision:
    """Apply the fallback table to one lookup."""
    service, lane = lookup.service, lookup.lane
    route = snapshot.table.services.get(service) if snapshot.table else None
    base = _find_base(service, route, snapshot)
    if base is None and not (route and route.lanes):
        host = service + lookup.suffix
        return Decision("foreign", service, host, lookup.port, None, "not a service of the mesh")
    if lane is None or lane == PROD:
        return _decision(
            "base", lookup, base or Target(service, lookup.port or 80), None, "no lane"
        )
    target = route.lanes.get(lane) if route else None
    if target is None or not target.ready or (service, lane) in snapshot.unreachable:
        return _decide_without_lane(lookup, lane, base, snapshot)
    if _lacks_secure_port(lookup, target, base):
        return _decide_without_lane(lookup, lane, base, snapshot)
    if snapshot.stale:
        reason = "the lane was ready in the last table, which is stale"
        return _decision("lane_stale", lookup, target, base, reason)
    return _decision("lane", lookup, target, base, "the lane is ready")


def _find_base(service: str, route: Route | None, snapshot: RoutingSnapshot) -> Target | None:
    if route is not None and route.base is not None:
        return route.base
    port = snapshot.static_ports.get(service)
    return None if port is None else Target(service, port)


def _decision(
    outcome: Outcome, lookup: Lookup, target: Target, base: Target | None, reason: str
) -> Decision:
    lane = None if outcome == "base" else lookup.lane
    host = target.name if "." in target.name else target.name + lookup.suffix
    port = _map_port(lookup, target, base)
    return Decision(outcome, lookup.service, host, port, lane, reason)


def _decide_without_lane(
    lookup: Lookup, lane: str, base: Target | None, snapshot: RoutingSnapshot
) -> Decision:
    target = base or Target(lookup.service, lookup.port or 80)
    reason = _explain_absence(lookup.service, lane, snapshot)
    if lookup.mode == "strict" or base is None:
        reason += ", and the mode is strict" if base else ", and there is no base"
        return _decision("strict_miss", lookup, target, None, reason)
    if snapshot.table is None:
        return _decision("base_no_table", lookup, target, None, reason)
    outcome: Outcome = "base_stale" if snapshot.stale else "base_fallback"
    return _decision(outcome, lookup, target, None, reason)


def _lacks_secure_port(lookup: Lookup, target: Target, base: Target | None) -> bool:
    """Whether the base publishes a port for TLS and the lane publishes others, but none for it.

    Nothing listens for TLS in such a lane: a connection would be refused, and the lane would count
    as absent for plain HTTP as well, or would run into its time-out.
    """
    if lookup.port or lookup.scheme not in DEFAULT_PORTS or base is None or not target.ports:
        return False
    scheme = lookup.scheme
    return base.publishes(base.port_for(scheme)) and not target.publishes(target.port_for(scheme))


def _explain_absence(service: str, lane: str, snapshot: RoutingSnapshot) -> str:
    if snapshot.table is None:
        return "no route table was received yet"
    route = snapshot.table.services.get(service)
    if route is None:
        return "the table does not name the service"
    if lane not in route.lanes:
        return "the service has no such lane"
    if not route.lanes[lane].ready:
        return "no instance is ready in the lane"
    if (service, lane) in snapshot.unreachable:
        return "the lane refused connections recently"
    return "the lane publishes no port for TLS, and the base does"


def _map_port(lookup: Lookup, target: Target, base: Target | None) -> int:
    """The target's port with the same name as the port of the base that the caller named.

    By name, not by number: lane and base may listen on different numbers. A port that the base
    does not publish is left as the caller named it.
    """
    port = lookup.port
    if port == 0:
        return target.port_for(lookup.scheme)
    published = base.ports.items() if base else ()
    for name, number in published:
        if number == port and name in target.ports:
            return target.ports[name]
    return target.port if base and port == base.port else port

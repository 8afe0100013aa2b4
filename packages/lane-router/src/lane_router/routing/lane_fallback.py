"""The truth table of lane routing, as one function without any state.

| lane        | table                  | class      | decision                                      |
|-------------|------------------------|------------|-----------------------------------------------|
| none, prod  | any                    | any        | base; nobody is told a lane                   |
| dev         | fresh, lane ready      | any        | lane, under the name and port published       |
| dev         | fresh, lane not there  | permissive | base_fallback; the lane is still told         |
| dev         | any, lane not there    | strict     | strict_miss: nothing is sent                  |
| dev         | stale                  | any        | lane_stale or base_stale: the last good one   |
| dev         | never seen             | permissive | base_no_table, port from the static defaults  |
| dev         | service not known      | any        | foreign: as given, and no lane is told        |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lane_router.context.lane_classes import Mode
from lane_router.context.lane_name import PROD
from lane_router.resolution import Decision, Outcome
from lane_router.route_table.table import Route, RouteTable, Target

__all__ = ("Knowledge", "Question", "decide")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known at the moment of the decision.

    Attributes:
        table: the last good table; None = never seen.
        stale: it is older than it may be.
        static: port by service, for those the table does not name.
        unreachable: (service, lane) that refused lately.
    """

    table: RouteTable | None = None
    stale: bool = False
    static: Mapping[str, int] = field(default_factory=dict)
    unreachable: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Question:
    """Where is this service, for this lane?

    Attributes:
        service: its plain name.
        suffix: what stood behind it in the host name, e.g. `.shop.svc`.
        port: what the caller named; 0 = the service's own.
        lane: None = none.
        mode: the lane's.
    """

    service: str
    suffix: str = ""
    port: int = 0
    lane: str | None = None
    mode: Mode = "permissive"


def decide(asked: Question, known: Knowledge) -> Decision:
    """Apply the table to one question."""
    service, lane = asked.service, asked.lane
    route = known.table.services.get(service) if known.table else None
    base = _base(service, route, known)
    if base is None and not (route and route.lanes):
        host = service + asked.suffix
        return Decision("foreign", service, host, asked.port, None, "no service of the mesh")
    if lane is None or lane == PROD:
        return _decision("base", asked, base or Target(service, asked.port or 80), None, "no lane")
    target = route.lanes.get(lane) if route else None
    if target is None or not target.ready or (service, lane) in known.unreachable:
        return _without_lane(asked, lane, base, known)
    if known.stale:
        reason = "the lane was there when the registry was last seen"
        return _decision("lane_stale", asked, target, base, reason)
    return _decision("lane", asked, target, base, "the lane is there")


def _base(service: str, route: Route | None, known: Knowledge) -> Target | None:
    if route is not None and route.base is not None:
        return route.base
    return Target(service, known.static[service]) if service in known.static else None


def _decision(
    outcome: Outcome, asked: Question, target: Target, base: Target | None, reason: str
) -> Decision:
    lane = None if outcome == "base" else asked.lane
    host = target.name if "." in target.name else target.name + asked.suffix
    return Decision(outcome, asked.service, host, _port(asked.port, target, base), lane, reason)


def _without_lane(asked: Question, lane: str, base: Target | None, known: Knowledge) -> Decision:
    where = base or Target(asked.service, asked.port or 80)
    why = _why_not(asked.service, lane, known)
    if asked.mode == "strict" or base is None:
        why += ", and the mode is strict" if base else ", and there is no base"
        return _decision("strict_miss", asked, where, None, why)
    if known.table is None:
        return _decision("base_no_table", asked, where, None, why)
    return _decision("base_stale" if known.stale else "base_fallback", asked, where, None, why)


def _why_not(service: str, lane: str, known: Knowledge) -> str:
    if known.table is None:
        return "the registry was never seen"
    route = known.table.services.get(service)
    if route is None:
        return "the table does not name the service"
    if lane not in route.lanes:
        return "the service has no such lane"
    if not route.lanes[lane].ready:
        return "nobody is ready in the lane"
    return "the lane refused connections lately"


def _port(asked: int, target: Target, base: Target | None) -> int:
    """The lane's port that corresponds to the one asked for: of the same name, not the same number.

    A port that the base does not publish is the caller's own business.
    """
    if asked == 0:
        return target.port
    published = base.ports.items() if base else ()
    for name, number in published:
        if number == asked and name in target.ports:
            return target.ports[name]
    return target.port if base and asked == base.port else asked

"""The decision about each outgoing request: where it goes, and whether it carries the lane."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from lane_router.context.lane_context import current_lane
from lane_router.context.lane_name import HEADER, PROD, is_lane
from lane_router.propagation.carriers import Carriers
from lane_router.propagation.otel_baggage import BaggageScope, is_loaded
from lane_router.resolution import Resolution

from .mesh_hosts import MeshHosts

if TYPE_CHECKING:
    from .base_router import BaseRouter

__all__ = ("Egress", "Plan", "make_egress")

_NO_SCOPE = nullcontext()


class Plan(NamedTuple):
    """What happens to one request.

    Attributes:
        host: where it goes.
        port: 0 = the port that the caller named.
        lane: the lane it carries; None = none, and a lane in its headers is removed.
        in_mesh: whether the host may receive a lane at all.
        resolution: the router's; None without a router, or for a host the router does not know.
        requested: the host, port and scheme of the caller's URL, if the router resolved them.
    """

    host: str
    port: int
    lane: str | None
    in_mesh: bool
    resolution: Resolution | None = None
    requested: tuple[str, int, str] = ("", 0, "")

    @property
    def in_lane(self) -> bool:
        """Whether it goes to the lane's own copy, so that a refusal means an absent lane."""
        return self.resolution is not None and self.resolution.in_lane


class Egress:
    """Decides for each hop of each request, and writes the decision into the request's headers.

    Every instrumented client goes through these states; a redirect is a new hop and starts again:

        plan(host, port, ...)        the caller's own lane header wins over the current lane
          |-- host outside of the mesh: both carriers are removed from the headers
          |-- mode strict, no ready instance: LaneUnavailableError, nothing is sent
          |
        Plan                         both carriers hold the lane: `x-lane` and `baggage`
          |
        send, inside of baggage_scope(plan)
          |-- a response, or an error after a byte was sent: that is the result
          |
        refused before a byte was sent, and plan.in_lane
          |
        fall_back(plan)              the lane counts as absent for a while
          |-- mode strict: LaneUnavailableError
          |
        Plan for the base            write_lane(plan, a fresh copy of the caller's headers)
          |
        send once more, inside of baggage_scope(plan): that is the result

    `plan` is `choose` (decide, touch no headers) and `write_lane` in one call.
    """

    def __init__(
        self, router: BaseRouter | None, hosts: MeshHosts, carriers: Carriers | None = None
    ) -> None:
        self._router = router
        self._hosts = hosts
        self.carriers = carriers or Carriers()

    def plan(self, host: str, port: int, headers: MutableMapping[str, str], scheme: str) -> Plan:
        """Decide where a request goes, and write its lane into the headers or remove it.

        A lane header that the caller set wins over the current lane.

        Args:
            port: 0 when the caller named none.
            scheme: of the request's URL: it chooses the port when the caller named none.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict; nothing
                was sent.
        """
        plan = self.choose(host, port, self._read_explicit_lane(headers), scheme)
        self.write_lane(plan, headers)
        return plan

    def choose(
        self, host: str, port: int, explicit_lane: str | None = None, scheme: str = "http"
    ) -> Plan:
        """The plan for a request, with the lane that its caller set or the current one."""
        lane = explicit_lane or current_lane()
        if self._router is not None:
            resolution = self._router.resolve(host, lane, port=port, scheme=scheme)
            if resolution.in_mesh:
                return _plan_resolved(resolution, (host, port, scheme))
            if self._router.is_mesh_host(host):
                return Plan(host, port, _lane_to_send(lane), True)
        if host in self._hosts:
            return Plan(host, port, _lane_to_send(lane), True)
        return Plan(host, port, None, False)

    def write_lane(self, plan: Plan, headers: MutableMapping[str, str]) -> None:
        """Write the plan's lane into both carriers, or remove what is there."""
        if plan.lane is not None:
            self.carriers.write(headers, plan.lane)
        elif not plan.in_mesh or self.carriers.header not in headers:
            # Without a lane both carriers are empty, whatever a propagator put into the baggage.
            # A caller's own `x-lane: prod` stays: it is valid in the mesh.
            self.carriers.strip(headers)

    def fall_back(self, plan: Plan) -> Plan:
        """The plan for the base after the lane refused; the lane counts as absent for a while.

        Only for a name that did not resolve, or a connection that was refused before a byte was
        sent. A plan that is not in a lane is returned unchanged.

        Raises:
            LaneUnavailableError: the lane's mode is strict.
        """
        resolution = plan.resolution
        if self._router is None or resolution is None or resolution.lane is None:
            return plan
        self._router.mark_unreachable(resolution.service, resolution.lane)
        host, port, scheme = plan.requested
        resolution = self._router.resolve(host, resolution.lane, port=port, scheme=scheme)
        return _plan_resolved(resolution, plan.requested)

    def mark_unreachable(self, plan: Plan) -> None:
        """Count the plan's lane as absent for a while, where its request cannot be sent again."""
        resolution = plan.resolution
        if self._router is not None and resolution is not None and resolution.lane is not None:
            self._router.mark_unreachable(resolution.service, resolution.lane)

    def baggage_scope(self, plan: Plan) -> AbstractContextManager[None]:
        """A block in which OpenTelemetry's baggage holds the plan's lane, or no lane."""
        return BaggageScope(self.carriers.baggage_key, plan.lane) if is_loaded() else _NO_SCOPE

    def _read_explicit_lane(self, headers: MutableMapping[str, str]) -> str | None:
        """The caller's own lane; an invalid one is removed, as the next hop would not accept it."""
        value = headers.get(self.carriers.header)
        if value is None or is_lane(value):
            return value
        del headers[self.carriers.header]
        return None


def _plan_resolved(resolution: Resolution, requested: tuple[str, int, str]) -> Plan:
    return Plan(resolution.host, resolution.port, resolution.lane, True, resolution, requested)


def _lane_to_send(lane: str | None) -> str | None:
    return None if lane == PROD else lane


def make_egress(
    router: BaseRouter | None, mesh_hosts: Iterable[str], header: str = HEADER
) -> Egress:
    """The egress of one client that is given a router or hosts of its own.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is not a host name, or an invalid header name.
    """
    return Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))

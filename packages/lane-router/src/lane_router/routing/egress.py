"""The one decision each outgoing request meets: where it goes, and whether it tells the lane."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from lane_router.context.lane_context import current_lane
from lane_router.context.lane_name import PROD, is_lane
from lane_router.propagation.carriers import Carriers
from lane_router.propagation.otel_baggage import BaggageLane, loaded

from .mesh_hosts import MeshHosts

if TYPE_CHECKING:
    from lane_router.resolution import Resolution

    from .routing import Routing

__all__ = ("Egress", "Plan")

_NOTHING = nullcontext()


class Plan(NamedTuple):
    """What happens to one request.

    Attributes:
        host: where it goes.
        port: 0 = as the caller said.
        lane: what is told; None = nothing, and what is there is taken out.
        mesh: whether the host may hear of lanes at all.
        resolution: what the router said; None when it was not asked or knows nothing of the host.
        asked: the host and port that the caller named, where the router was asked.
    """

    host: str
    port: int
    lane: str | None
    mesh: bool
    resolution: Resolution | None = None
    asked: tuple[str, int] = ("", 0)

    @property
    def in_lane(self) -> bool:
        """Whether it goes to a lane's own copy, which a refusal says something about."""
        return self.resolution is not None and self.resolution.in_lane


class Egress:
    """Routes by the router when there is one; tells the lane to the mesh, and to nobody else."""

    def __init__(
        self, router: Routing | None, hosts: MeshHosts, carriers: Carriers | None = None
    ) -> None:
        self._router = router
        self._hosts = hosts
        self.carriers = carriers or Carriers()

    def plan(self, host: str, port: int, headers: MutableMapping[str, str]) -> Plan:
        """Decide, and make the headers say so.

        A lane header that the caller set himself goes before the lane of the context.

        Args:
            port: 0 when the caller named none.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict; nothing was sent.
        """
        plan = self.decide(host, port, self._explicit(headers))
        self.mark(plan, headers)
        return plan

    def decide(self, host: str, port: int, explicit: str | None = None) -> Plan:
        """The plan for a request whose caller set this lane himself, or none."""
        lane = explicit or current_lane()
        if self._router is not None:
            found = self._router.resolve(host, lane, port=port)
            if found.in_mesh:
                return _routed(found, host, port)
            if self._router.is_mesh_host(host):
                return Plan(host, port, _told(lane), True)
        if host in self._hosts:
            return Plan(host, port, _told(lane), True)
        return Plan(host, port, None, False)

    def mark(self, plan: Plan, headers: MutableMapping[str, str]) -> None:
        """Make the headers say what the plan says."""
        if plan.lane is not None:
            self.carriers.write(headers, plan.lane)
        elif not plan.mesh or self.carriers.header not in headers:
            # No lane is no lane in both carriers, whatever a propagator put into the baggage.
            self.carriers.strip(headers)

    def refused(self, plan: Plan) -> Plan:
        """The lane did not resolve or refused before a byte was sent: the plan for the base.

        Raises:
            LaneUnavailableError: the lane's mode is strict.
        """
        resolution = plan.resolution
        if self._router is None or resolution is None or resolution.lane is None:
            return plan
        self._router.mark_unreachable(resolution.service, resolution.lane)
        host, port = plan.asked
        return _routed(self._router.resolve(host, resolution.lane, port=port), host, port)

    def ambient(self, plan: Plan) -> AbstractContextManager[None]:
        """OpenTelemetry's baggage as this request may carry it, while it is sent."""
        return BaggageLane(self.carriers.baggage_key, plan.lane) if loaded() else _NOTHING

    def _explicit(self, headers: MutableMapping[str, str]) -> str | None:
        value = headers.get(self.carriers.header)
        if value is None or is_lane(value):
            return value
        del headers[self.carriers.header]  # the next hop would not believe it
        return None


def _routed(found: Resolution, host: str, port: int) -> Plan:
    return Plan(found.host, found.port, found.lane, True, found, (host, port))


def _told(lane: str | None) -> str | None:
    return None if lane == PROD else lane

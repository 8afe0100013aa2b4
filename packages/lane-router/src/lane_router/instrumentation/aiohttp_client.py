"""aiohttp: every session's every hop, before its connector looks into the pool."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import Carriers
from lane_router.routing.egress import Egress, Plan
from lane_router.routing.mesh_hosts import MeshHosts
from lane_router.routing.routing import Routing

from . import active
from .patching import Function, Patch, Patches
from .unsent import is_unsent

__all__ = ("PATCHES", "LaneConnector")


def _instrumented(original: Function) -> Function:
    async def connect(
        connector: aiohttp.BaseConnector, request: ClientRequest, *arguments: Any, **options: Any
    ) -> object:
        egress = active.egress
        go: Any = original
        if egress is None or isinstance(connector, LaneConnector):
            return await go(connector, request, *arguments, **options)

        async def connected() -> object:
            return await go(connector, request, *arguments, **options)

        return await _hop(egress, request, connected)

    return connect


async def _hop(egress: Egress, request: ClientRequest, connected: Any) -> Any:
    asked = request.url
    explicit = request.headers.copy()
    plan = egress.plan(asked.host or "", _named_port(request), request.headers)
    try:
        _redirect(request, plan)
        try:
            return await connected()
        except aiohttp.ClientConnectorError as error:
            if not plan.in_lane or not is_unsent(error):
                raise
        request.headers.clear()
        request.headers.extend(explicit)
        base = egress.refused(plan)
        egress.mark(base, request.headers)
        _redirect(request, base)
        return await connected()
    finally:
        # The response shows the address that was asked for, and cookies belong to it. A proxy is
        # told the whole address, so there it has to be the one routed to.
        if request.proxy is None:
            request.url = asked


def _named_port(request: ClientRequest) -> int:
    return request.url.explicit_port or 0


def _redirect(request: ClientRequest, plan: Plan) -> None:
    if plan.resolution is None:
        return
    before = request.url
    request.url = before.with_host(plan.host).with_port(plan.port)
    if request.headers.get("Host") == before.host_port_subcomponent:
        request.headers["Host"] = str(request.url.host_port_subcomponent)


PATCHES = Patches(Patch(aiohttp.BaseConnector, "connect", _instrumented))


class LaneConnector(aiohttp.TCPConnector):
    """`ClientSession(connector=LaneConnector(router))`: routes and tells the lane, alone."""

    def __init__(
        self,
        router: Routing | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
    ) -> None:
        super().__init__()
        self._egress = Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))

    async def connect(self, req: ClientRequest, *arguments: Any, **options: Any) -> Any:
        """A connection for one hop.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        parent = super().connect

        async def connected() -> object:
            return await parent(req, *arguments, **options)

        return await _hop(self._egress, req, connected)

"""aiohttp: the lane on every hop of every session, before its connector looks into the pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest

from lane_router.context.lane_name import HEADER
from lane_router.routing.base_router import BaseRouter
from lane_router.routing.egress import Egress, Plan, make_egress

from . import patching
from .http_hops import is_unsent
from .patching import Function, Patch, Patches

__all__ = ("LaneConnector",)

Connect = Callable[[], Awaitable[Any]]


def _wrap_connect(original: Function) -> Function:
    async def connect(
        connector: aiohttp.BaseConnector, request: ClientRequest, *arguments: Any, **options: Any
    ) -> object:
        send: Any = original
        egress = patching.active_egress
        if egress is None or isinstance(connector, LaneConnector):
            return await send(connector, request, *arguments, **options)
        return await _connect_routed(
            egress, request, lambda: send(connector, request, *arguments, **options)
        )

    return connect


async def _connect_routed(egress: Egress, request: ClientRequest, connect: Connect) -> Any:
    url = request.url
    headers = request.headers.copy()
    plan = egress.plan(url.host or "", url.explicit_port or 0, request.headers, url.scheme)
    try:
        _address(request, plan)
        try:
            return await connect()
        except aiohttp.ClientConnectorError as error:
            if not plan.in_lane or not is_unsent(error):
                raise
        request.headers.clear()
        request.headers.extend(headers)
        plan = egress.fall_back(plan)
        egress.write_lane(plan, request.headers)
        _address(request, plan)
        return await connect()
    finally:
        # The connection is made; from here on the URL is what the response shows and cookies belong
        # to, so it is the caller's again. A proxy is sent the whole URL in the request line, so
        # there it has to stay the one that was routed to.
        if request.proxy is None:
            request.url = url


def _address(request: ClientRequest, plan: Plan) -> None:
    """Change the request's URL, and its Host header unless the caller set another, to the plan's."""
    if plan.resolution is None:
        return
    before = request.url
    request.url = before.with_host(plan.host).with_port(plan.port)
    if request.headers.get("Host") == before.host_port_subcomponent:
        request.headers["Host"] = str(request.url.host_port_subcomponent)


PATCHES = Patches(Patch(aiohttp.BaseConnector, "connect", _wrap_connect))


class LaneConnector(aiohttp.TCPConnector):
    """`ClientSession(connector=LaneConnector(router))`: routes, and passes the lane on.

    Works without `instrument`.

    Args:
        router: a `LaneRouter` or `AsyncLaneRouter`; None = requests go where they are addressed.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own header.
        options: of the library's `TCPConnector`, for example `ssl=`.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is not a host name, or an invalid header name.
    """

    def __init__(
        self,
        router: BaseRouter | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._egress = make_egress(router, mesh_hosts, header)

    async def connect(self, req: ClientRequest, *arguments: Any, **options: Any) -> Any:
        """A connection for one hop.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        connect = super().connect
        return await _connect_routed(self._egress, req, lambda: connect(req, *arguments, **options))

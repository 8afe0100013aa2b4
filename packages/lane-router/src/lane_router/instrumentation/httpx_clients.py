"""httpx: every client's every hop; and transports for those who prefer to name them."""

from __future__ import annotations

import httpx

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import Carriers
from lane_router.routing.egress import Egress
from lane_router.routing.mesh_hosts import MeshHosts
from lane_router.routing.routing import Routing

from .httpx_hop import AsyncHop, Hop, patches_of

__all__ = ("PATCHES", "AsyncLaneTransport", "LaneTransport")

PATCHES = patches_of(httpx)


class LaneTransport(httpx.BaseTransport):
    """`httpx.Client(transport=LaneTransport(router))`: routes and tells the lane, alone."""

    def __init__(
        self,
        router: Routing | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        inner: httpx.BaseTransport | None = None,
    ) -> None:
        inner = inner or httpx.HTTPTransport()
        egress = Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))
        self._hop = Hop(egress, inner.handle_request, inner.close, httpx.ConnectError)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One hop.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        response: httpx.Response = self._hop.handle_request(request)
        return response

    def close(self) -> None:
        """Close what is behind."""
        self._hop.close()


class AsyncLaneTransport(httpx.AsyncBaseTransport):
    """`httpx.AsyncClient(transport=AsyncLaneTransport(router))`."""

    def __init__(
        self,
        router: Routing | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        inner = inner or httpx.AsyncHTTPTransport()
        egress = Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))
        self._hop = AsyncHop(egress, inner.handle_async_request, inner.aclose, httpx.ConnectError)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One hop.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        response: httpx.Response = await self._hop.handle_async_request(request)
        return response

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._hop.aclose()

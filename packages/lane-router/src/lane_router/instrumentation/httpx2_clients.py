# Copied from packages/lane-router/src/lane_router/instrumentation/httpx_clients.py by scripts/copy_shared.py: change it there.
"""httpx2: the lane on every hop of every client, and transports to name it explicitly.

How the lane header gets onto a request: see `httpx_transport.py`, `RoutingTransport`.
"""

from __future__ import annotations

import httpx2

from lane_router.context.lane_name import HEADER
from lane_router.routing.base_router import BaseRouter
from lane_router.routing.egress import make_egress

from .httpx_transport import AsyncRoutingTransport, HttpxLibrary, RoutingTransport

__all__ = ("AsyncLaneTransport", "LaneTransport")

_LIBRARY = HttpxLibrary(httpx2)
PATCHES = _LIBRARY.patches()


class LaneTransport(httpx2.BaseTransport):
    """`httpx2.Client(transport=LaneTransport(router))`: routes, and passes the lane on.

    Works without `instrument`.

    Args:
        router: a `LaneRouter` or `AsyncLaneRouter`; None = requests go where they are addressed.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own header.
        inner: the transport that sends; by default a new one of the library.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is not a host name, or an invalid header name.
    """

    def __init__(
        self,
        router: BaseRouter | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        inner: httpx2.BaseTransport | None = None,
    ) -> None:
        inner = inner or httpx2.HTTPTransport()
        egress = make_egress(router, mesh_hosts, header)
        self._routing = RoutingTransport(egress, _LIBRARY, inner.handle_request, inner.close)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        response: httpx2.Response = self._routing.handle_request(request)
        return response

    def close(self) -> None:
        """Close the inner transport."""
        self._routing.close()


class AsyncLaneTransport(httpx2.AsyncBaseTransport):
    """`httpx2.AsyncClient(transport=AsyncLaneTransport(router))`; arguments as `LaneTransport`."""

    def __init__(
        self,
        router: BaseRouter | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        inner: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        inner = inner or httpx2.AsyncHTTPTransport()
        egress = make_egress(router, mesh_hosts, header)
        self._routing = AsyncRoutingTransport(
            egress, _LIBRARY, inner.handle_async_request, inner.aclose
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        response: httpx2.Response = await self._routing.handle_async_request(request)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._routing.aclose()

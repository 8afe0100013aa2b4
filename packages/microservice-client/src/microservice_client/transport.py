"""httpx transports: `http://orders/v1/...` works in any httpx client."""

from __future__ import annotations

import httpx

from .client import AsyncServiceClient
from .sync_client import ServiceClient

__all__ = ("AsyncServiceTransport", "ServiceTransport")


class AsyncServiceTransport(httpx.AsyncBaseTransport):
    """`httpx.AsyncClient(transport=AsyncServiceTransport(client))`: the host is a service's name.

    Base URLs, auth, hooks and `raise_for_status` work as usual. httpx lower-cases hosts, so the
    service's name has to be lower case. Closing the httpx client does not close `client`.
    """

    def __init__(self, client: AsyncServiceClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to an instance of the service that its host names.

        Raises:
            ServiceCallError: the call failed; it is an `httpx.TransportError`, too.
        """
        return await self._client.call(_service_name(request), request)


class ServiceTransport(httpx.BaseTransport):
    """`httpx.Client(transport=ServiceTransport(client))`: the host is a service's name."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to an instance of the service that its host names.

        Raises:
            ServiceCallError: the call failed; it is an `httpx.TransportError`, too.
        """
        return self._client.call(_service_name(request), request)


def _service_name(request: httpx.Request) -> str:
    return str(request.extensions.get("service_name") or request.url.host)

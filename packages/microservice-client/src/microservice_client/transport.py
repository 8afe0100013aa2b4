"""httpx transports: `http://orders/v1/...` works in any httpx client."""

from __future__ import annotations

import httpx

from .client import AsyncServiceClient
from .sync_client import ServiceClient

__all__ = ("AsyncServiceTransport", "ServiceTransport")


class AsyncServiceTransport(httpx.AsyncBaseTransport):
    """`httpx.AsyncClient(transport=AsyncServiceTransport(client))`: the host is a service's name.

    Base URLs, auth, hooks, redirects and `raise_for_status` work as usual; a redirect that names the
    instance leads to its service. httpx lower-cases hosts, so the
    service's name has to be lower case. Closing the httpx client does not close `client`.
    """

    def __init__(self, client: AsyncServiceClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to an instance of the service that its host names.

        Raises:
            ServiceCallError: the call failed; it is an `httpx.TransportError`, too.
        """
        response = await self._client.call(_service_name(request), request)
        _name_service_in_redirect(request, response)
        return response


class ServiceTransport(httpx.BaseTransport):
    """`httpx.Client(transport=ServiceTransport(client))`: the host is a service's name."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to an instance of the service that its host names.

        Raises:
            ServiceCallError: the call failed; it is an `httpx.TransportError`, too.
        """
        response = self._client.call(_service_name(request), request)
        _name_service_in_redirect(request, response)
        return response


def _service_name(request: httpx.Request) -> str:
    return str(request.extensions.get("service_name") or request.url.host)


def _name_service_in_redirect(request: httpx.Request, response: httpx.Response) -> None:
    """Put the service in place of the instance in `Location`: an instance knows no other name.

    Frameworks redirect to the host that they were called by, e.g. for a slash at the end.
    """
    host, location = response.extensions.get("instance_host"), response.headers.get("location")
    if not host or not location:
        return
    try:
        target = httpx.URL(location)
    except httpx.InvalidURL:
        return  # httpx says so when it follows the redirect
    if target.netloc.decode("ascii") == host:
        url = request.url
        target = target.copy_with(scheme=url.scheme, host=url.host, port=url.port)
        response.headers["location"] = str(target)

# ruff: noqa: SLF001
"""httpx: every client's every hop.

The patched method is the one place that each hop of each client goes through, redirects and custom
transports included; an event hook would have to be added to each client by its owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from lane_router.context import lane_headers

if TYPE_CHECKING:
    from lane_router.mesh import MeshHosts

_send = httpx.Client._send_single_request
_send_async = httpx.AsyncClient._send_single_request


def patch(hosts: MeshHosts, header: str) -> None:
    """Let every client tell the lane to these hosts."""

    def mark(request: httpx.Request) -> None:
        if request.url.host not in hosts:
            request.headers.pop(header, None)
        elif header not in request.headers:
            request.headers.update(lane_headers(header=header))

    def send(client: httpx.Client, request: httpx.Request) -> httpx.Response:
        mark(request)
        return _send(client, request)

    async def send_async(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        mark(request)
        return await _send_async(client, request)

    httpx.Client._send_single_request = send  # type: ignore[assignment,method-assign]
    httpx.AsyncClient._send_single_request = send_async  # type: ignore[assignment,method-assign]


def unpatch() -> None:
    """Let every client be as it was."""
    httpx.Client._send_single_request = _send  # type: ignore[method-assign]
    httpx.AsyncClient._send_single_request = _send_async  # type: ignore[method-assign]

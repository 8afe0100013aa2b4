"""One HTTP request to a service of the mesh with the standard library, in the lane."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from .base_router import BaseRouter
from .egress import Egress, Plan
from .mesh_hosts import MeshHosts

__all__ = ("FetchResponse", "fetch")


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """The response of `LaneRouter.fetch`.

    Attributes:
        headers: names in lower case; of several with one name, the last.
        body: the whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    router: BaseRouter,
    service: str,
    path: str,
    *,
    method: str,
    headers: Mapping[str, str] | None,
    body: bytes | None,
    lane: str | None,
    timeout_seconds: float,
) -> FetchResponse:
    """Send one request to the lane, or to the base if the lane refuses before a byte was sent.

    Raises:
        LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        OSError: no connection, a time-out, or a response that is not HTTP.
    """
    egress = Egress(router, MeshHosts(()))
    plan = egress.choose(service, 0, lane)
    connection = _open_connection(plan, timeout_seconds)
    try:
        try:
            connection.connect()
        except (ConnectionRefusedError, socket.gaierror):
            if not plan.in_lane:
                raise
            plan = egress.fall_back(plan)
            connection = _open_connection(plan, timeout_seconds)
        fields = {name.lower(): value for name, value in (headers or {}).items()}
        egress.write_lane(plan, fields)
        connection.request(method, path, body=body, headers=fields)
        return _read_response(connection)
    finally:
        connection.close()


def _open_connection(plan: Plan, timeout_seconds: float) -> HTTPConnection:
    return HTTPConnection(plan.host, plan.port or 80, timeout=timeout_seconds)


def _read_response(connection: HTTPConnection) -> FetchResponse:
    try:
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return FetchResponse(response.status, fields, response.read())
    except (HTTPException, ValueError) as error:  # ValueError: the size of a chunk
        raise ConnectionError(f"the response is not HTTP: {error!r}") from error

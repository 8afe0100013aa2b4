"""One HTTP request to a service of the mesh with the standard library, in the lane."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from .routing.egress import Egress, Plan
from .routing.mesh_hosts import MeshHosts

if TYPE_CHECKING:
    from .routing.routing import Routing

__all__ = ("Fetched", "fetch")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer.

    Attributes:
        headers: names in lower case; of several with one name, the last.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    router: Routing,
    service: str,
    path: str,
    *,
    method: str,
    headers: Mapping[str, str] | None,
    body: bytes | None,
    lane: str | None,
    timeout_seconds: float,
) -> Fetched:
    """Ask the lane, or the base when the lane refuses before anything was sent."""
    egress = Egress(router, MeshHosts(()))
    plan = egress.decide(service, 0, lane)
    connection = _connection(plan, timeout_seconds)
    try:
        try:
            connection.connect()
        except (ConnectionRefusedError, socket.gaierror):
            if not plan.in_lane:
                raise
            plan = egress.refused(plan)
            connection = _connection(plan, timeout_seconds)
        told = {name.lower(): value for name, value in (headers or {}).items()}
        egress.mark(plan, told)
        connection.request(method, path, body=body, headers=told)
        return _answer(connection)
    finally:
        connection.close()


def _connection(plan: Plan, timeout_seconds: float) -> HTTPConnection:
    return HTTPConnection(plan.host, plan.port or 80, timeout=timeout_seconds)


def _answer(connection: HTTPConnection) -> Fetched:
    response = connection.getresponse()
    fields = {name.lower(): value for name, value in response.getheaders()}
    return Fetched(response.status, fields, response.read())

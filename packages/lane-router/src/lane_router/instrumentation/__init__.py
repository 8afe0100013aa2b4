"""Egress without touching call sites: each HTTP client that is installed learns to tell the lane."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from lane_router.context import HEADER
from lane_router.mesh import MeshHosts
from lane_router.middleware import check_header

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("instrument", "uninstrument")


def instrument(*, mesh_hosts: Iterable[str], header: str = HEADER) -> tuple[str, ...]:
    """From now on every httpx client tells the lane to hosts of the mesh, and to nobody else.

    A lane header is taken off any request to another host, also when a redirect leads there. One
    that the caller set himself stays on its way into the mesh. Calling it again replaces the hosts.

    Returns:
        the libraries that were found.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is no host name, or no such header name.
    """
    hosts, header = MeshHosts(mesh_hosts), check_header(header)
    if find_spec("httpx") is None:
        return ()
    from . import httpx_clients

    httpx_clients.patch(hosts, header)
    return ("httpx",)


def uninstrument() -> None:
    """Undo `instrument`; without it, nothing happens."""
    if find_spec("httpx") is None:
        return
    from . import httpx_clients

    httpx_clients.unpatch()

"""Egress without touching call sites: each client library that is installed learns to tell the lane."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import BAGGAGE_KEY, Carriers
from lane_router.routing.egress import Egress
from lane_router.routing.mesh_hosts import MeshHosts
from microservice_core import InvalidValueError

from . import active

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lane_router.routing.routing import Routing

__all__ = ("LIBRARIES", "instrument", "uninstrument")

LIBRARIES = {
    "httpx": "httpx_clients",
    "httpx2": "httpx2_clients",
    "aiohttp": "aiohttp_client",
    "requests": "requests_client",
    "urllib3": "urllib3_client",
    "grpc": "grpc_client",
}


def instrument(
    router: Routing | None = None,
    *,
    mesh_hosts: Iterable[str] = (),
    header: str = HEADER,
    baggage_key: str | None = BAGGAGE_KEY,
    libraries: Collection[str] = tuple(LIBRARIES),
) -> tuple[str, ...]:
    """From now on every client goes where the router says, and tells the mesh the lane.

    The mesh are the services the router knows and `mesh_hosts`. The lane is taken off any request
    to another host, also when a redirect leads there. A lane header that the caller set himself
    stays on its way into the mesh, and routes. Calling it again replaces what was said before.

    gRPC channels are reached when they are opened, so call it before that; all others at any time.

    Args:
        router: a `LaneRouter` or `AsyncLaneRouter`, which starts polling now; None = requests go
            where they went before.
        mesh_hosts: more hosts that may hear of the lane; see `MeshHosts`.
        libraries: those to reach, of those that are installed.

    Returns:
        the libraries that were reached.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is no host name, no such header or library.
    """
    unknown = [name for name in libraries if name not in LIBRARIES]
    if unknown:
        raise InvalidValueError("libraries", unknown[0], f"one of {', '.join(LIBRARIES)}")
    carriers = Carriers(header=header, baggage_key=baggage_key)
    egress = Egress(router, MeshHosts(mesh_hosts), carriers)
    _undo(name for name in LIBRARIES if name not in libraries)
    found = tuple(name for name in libraries if find_spec(name) is not None)
    for name in found:
        import_module(f".{LIBRARIES[name]}", __name__).PATCHES.apply()
    active.egress = egress
    if router is not None:
        router.start()
    return found


def uninstrument() -> None:
    """Undo `instrument`; without it, nothing happens."""
    active.egress = None
    _undo(LIBRARIES)


def _undo(names: Iterable[str]) -> None:
    import sys

    for name in names:
        module = sys.modules.get(f"{__name__}.{LIBRARIES[name]}")
        if module is not None:
            module.PATCHES.undo()

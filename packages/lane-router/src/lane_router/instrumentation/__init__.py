"""The lane on outgoing requests without touching call sites: `instrument` patches the clients."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import BAGGAGE_KEY, Carriers
from lane_router.routing.egress import Egress
from lane_router.routing.mesh_hosts import MeshHosts
from microservice_core import InvalidValueError

from . import patching

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lane_router.routing.base_router import BaseRouter

__all__ = ("LIBRARIES", "instrument", "uninstrument")

# Library and module here. A module is imported when its library is instrumented, because it imports
# the library.
LIBRARIES = {
    "httpx": "httpx_clients",
    "httpx2": "httpx2_clients",
    "aiohttp": "aiohttp_client",
    "requests": "requests_client",
    "urllib3": "urllib3_client",
    "grpc": "grpc_client",
}


def instrument(
    router: BaseRouter | None = None,
    *,
    mesh_hosts: Iterable[str] = (),
    header: str = HEADER,
    baggage_key: str | None = BAGGAGE_KEY,
    libraries: Collection[str] = tuple(LIBRARIES),
) -> tuple[str, ...]:
    """Make every client send its requests where the router says, and pass the lane on in the mesh.

    The mesh is the services that the router knows, and `mesh_hosts`. The lane is removed from any
    request to another host, also after a redirect. A lane header that the caller set itself routes
    the request and stays on its way into the mesh. Calling it again replaces the earlier call.

    gRPC channels are reached when they are opened, so call it before that; all other clients at any
    time.

    Args:
        router: a `LaneRouter` or `AsyncLaneRouter`, which starts polling now; None = requests go
            where they are addressed.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own header.
        baggage_key: the member of `baggage`; None = only the header is used.
        libraries: those to patch, if they are installed.

    Returns:
        the libraries that were patched.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is not a host name, or an invalid header name or
            unknown library.
    """
    unknown = [name for name in libraries if name not in LIBRARIES]
    if unknown:
        raise InvalidValueError("libraries", unknown[0], f"one of {', '.join(LIBRARIES)}")
    carriers = Carriers(header=header, baggage_key=baggage_key)
    egress = Egress(router, MeshHosts(mesh_hosts), carriers)
    _undo_patches(name for name in LIBRARIES if name not in libraries)
    installed = tuple(name for name in libraries if find_spec(name) is not None)
    for name in installed:
        import_module(f".{LIBRARIES[name]}", __name__).PATCHES.apply()
    patching.active_egress = egress
    if router is not None:
        router.start()
    return installed


def uninstrument() -> None:
    """Undo `instrument`; without effect if nothing is instrumented."""
    patching.active_egress = None
    _undo_patches(LIBRARIES)


def _undo_patches(names: Iterable[str]) -> None:
    for name in names:
        # From sys.modules: a module that was not imported has patched nothing, and importing it
        # here would import its library.
        module = sys.modules.get(f"{__name__}.{LIBRARIES[name]}")
        if module is not None:
            module.PATCHES.undo()

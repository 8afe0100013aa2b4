"""urllib3: every hop of every pool manager; a connection pool that is used alone is not reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import Carriers
from lane_router.routing.egress import Egress
from lane_router.routing.mesh_hosts import MeshHosts
from lane_router.routing.routing import Routing

from . import active
from .patching import Function, Patch, Patches
from .unsent import is_unsent
from .urls import moved

__all__ = ("PATCHES", "LanePoolManager")


def _instrumented(original: Function) -> Function:
    def urlopen(
        manager: urllib3.PoolManager,
        method: str,
        url: str,
        redirect: bool = True,
        **options: Any,
    ) -> object:
        egress = active.egress
        if egress is None or isinstance(manager, LanePoolManager):
            return original(manager, method, url, redirect, **options)
        return _hop(
            egress,
            url,
            options.pop("headers", None) or manager.headers,
            lambda to, headers: original(manager, method, to, redirect, headers=headers, **options),
        )

    return urlopen


Go = Callable[[str, "urllib3.HTTPHeaderDict"], object]


def _hop(egress: Egress, url: str, given: Mapping[str, str], go: Go) -> object:
    parts = urllib3.util.parse_url(url)
    headers = urllib3.HTTPHeaderDict(given)
    plan = egress.plan(parts.host or "", parts.port or 0, headers)
    to = moved(url, plan.host, plan.port) if plan.resolution else url
    try:
        with egress.ambient(plan):
            return go(to, headers)
    except HTTPError as error:
        if not plan.in_lane or not _refused(error, plan.host):
            raise
    base = egress.refused(plan)
    headers = urllib3.HTTPHeaderDict(given)
    egress.mark(base, headers)
    with egress.ambient(base):
        return go(moved(url, base.host, base.port), headers)


def _refused(error: HTTPError, host: str) -> bool:
    """Whether it was this hop's host: what a redirect led to is another hop's business."""
    reason = error.reason if isinstance(error, MaxRetryError) else error
    if not isinstance(reason, NewConnectionError) or not is_unsent(error):
        return False
    return getattr(reason.conn, "host", "") == host


PATCHES = Patches(Patch(urllib3.PoolManager, "urlopen", _instrumented))


class LanePoolManager(urllib3.PoolManager):
    """A pool manager that routes and tells the lane, alone."""

    def __init__(
        self,
        router: Routing | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
    ) -> None:
        super().__init__()
        self._egress = Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))

    def urlopen(  # type: ignore[override]
        self,
        method: str,
        url: str,
        redirect: bool = True,
        **options: Any,
    ) -> urllib3.BaseHTTPResponse:
        """One hop and those it leads to.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        parent = super().urlopen
        given = options.pop("headers", None) or self.headers
        response = _hop(
            self._egress,
            url,
            given,
            lambda to, headers: parent(method, to, redirect, headers=headers, **options),
        )
        return cast(urllib3.BaseHTTPResponse, response)

"""requests: every session's every hop, at the adapter, with the pool behind it."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import Carriers
from lane_router.routing.egress import Egress, Plan
from lane_router.routing.mesh_hosts import MeshHosts
from lane_router.routing.routing import Routing

from . import active
from .patching import Function, Patch, Patches
from .unsent import is_unsent
from .urls import moved

__all__ = ("PATCHES", "LaneAdapter")


Headers = CaseInsensitiveDict[str]


def _instrumented(original: Function) -> Function:
    def send(
        adapter: HTTPAdapter,
        request: requests.PreparedRequest,
        *arguments: object,
        **options: object,
    ) -> object:
        egress = active.egress
        if egress is None or isinstance(adapter, LaneAdapter):
            return original(adapter, request, *arguments, **options)

        def go(routed: requests.PreparedRequest) -> requests.Response:
            return cast(requests.Response, original(adapter, routed, *arguments, **options))

        return _hop(egress, request, go)

    return send


def _hop(egress: Egress, request: requests.PreparedRequest, go: Any) -> requests.Response:
    parts = urlsplit(str(request.url))
    headers = _headers(request)
    plan = egress.plan(parts.hostname or "", parts.port or 0, headers)
    try:
        with egress.ambient(plan):
            return _as_asked(go(_routed(request, plan, headers)), request)
    except requests.exceptions.ConnectionError as error:
        if not plan.in_lane or not _refused(error):
            raise
    base = egress.refused(plan)
    headers = _headers(request)
    egress.mark(base, headers)
    with egress.ambient(base):
        return _as_asked(go(_routed(request, base, headers)), request)


def _headers(request: requests.PreparedRequest) -> Headers:
    return cast(Headers, request.headers.copy())


def _routed(
    request: requests.PreparedRequest,
    plan: Plan,
    headers: Headers,
) -> requests.PreparedRequest:
    routed = request.copy()
    routed.headers = cast(Any, headers)
    if plan.resolution is not None:
        routed.url = moved(str(request.url), plan.host, plan.port)
    return routed


def _as_asked(response: requests.Response, request: requests.PreparedRequest) -> requests.Response:
    response.request = request
    response.url = str(request.url)
    return response


def _refused(error: requests.exceptions.ConnectionError) -> bool:
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else None
    return isinstance(reason, NewConnectionError) and is_unsent(error)


PATCHES = Patches(Patch(HTTPAdapter, "send", _instrumented))


class LaneAdapter(HTTPAdapter):
    """`session.mount("http://", LaneAdapter(router))`: routes and tells the lane, alone."""

    def __init__(
        self,
        router: Routing | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
    ) -> None:
        super().__init__()
        self._egress = Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))

    def send(
        self, request: requests.PreparedRequest, *arguments: Any, **options: Any
    ) -> requests.Response:
        """One hop.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        parent = super().send
        return _hop(self._egress, request, lambda routed: parent(routed, *arguments, **options))

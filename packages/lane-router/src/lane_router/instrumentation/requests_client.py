"""requests: the lane on every hop of every session, at the adapter, before the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from lane_router.context.lane_name import HEADER
from lane_router.routing.base_router import BaseRouter
from lane_router.routing.egress import Egress, Plan, make_egress

from . import patching
from .http_hops import is_unsent, replace_host
from .patching import Function, Patch, Patches

__all__ = ("LaneAdapter",)

Headers = CaseInsensitiveDict[str]
Send = Callable[[requests.PreparedRequest], requests.Response]


def _wrap_send(original: Function) -> Function:
    def send(
        adapter: HTTPAdapter,
        request: requests.PreparedRequest,
        *arguments: object,
        **options: object,
    ) -> object:
        egress = patching.active_egress
        if egress is None or isinstance(adapter, LaneAdapter):
            return original(adapter, request, *arguments, **options)

        def send_routed(routed: requests.PreparedRequest) -> requests.Response:
            return cast(requests.Response, original(adapter, routed, *arguments, **options))

        return _route(egress, request, send_routed)

    return send


def _route(egress: Egress, request: requests.PreparedRequest, send: Send) -> requests.Response:
    parts = urlsplit(str(request.url))
    headers = _copy_headers(request)
    plan = egress.plan(parts.hostname or "", parts.port or 0, headers, parts.scheme)
    try:
        with egress.baggage_scope(plan):
            return _restore_request(send(_copy_request(request, plan, headers)), request)
    except requests.exceptions.ConnectionError as error:
        if not plan.in_lane or not _is_refusal(error):
            raise
    plan = egress.fall_back(plan)
    headers = _copy_headers(request)
    egress.write_lane(plan, headers)
    with egress.baggage_scope(plan):
        return _restore_request(send(_copy_request(request, plan, headers)), request)


def _copy_headers(request: requests.PreparedRequest) -> Headers:
    return cast(Headers, request.headers.copy())


def _copy_request(
    request: requests.PreparedRequest, plan: Plan, headers: Headers
) -> requests.PreparedRequest:
    """A copy with these headers, to the host of the plan."""
    routed = request.copy()
    routed.headers = cast(Any, headers)
    if plan.resolution is not None:
        routed.url = replace_host(str(request.url), plan.host, plan.port)
    return routed


def _restore_request(
    response: requests.Response, request: requests.PreparedRequest
) -> requests.Response:
    """The response with the caller's own request and URL, which redirects and cookies go by."""
    response.request = request
    response.url = str(request.url)
    return response


def _is_refusal(error: requests.exceptions.ConnectionError) -> bool:
    """Whether no connection was made; requests wraps urllib3's error, retries in between."""
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else None
    return isinstance(reason, NewConnectionError) and is_unsent(error)


PATCHES = Patches(Patch(HTTPAdapter, "send", _wrap_send))


class LaneAdapter(HTTPAdapter):
    """`session.mount("http://", LaneAdapter(router))`: routes, and passes the lane on.

    Works without `instrument`. Mount it for `https://` as well if services are called over TLS.

    Args:
        router: a `LaneRouter` or `AsyncLaneRouter`; None = requests go where they are addressed.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own header.
        options: of the library's `HTTPAdapter`, for example `pool_maxsize=`.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is not a host name, or an invalid header name.
    """

    def __init__(
        self,
        router: BaseRouter | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._egress = make_egress(router, mesh_hosts, header)

    def send(
        self, request: requests.PreparedRequest, *arguments: Any, **options: Any
    ) -> requests.Response:
        """Send one request.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        send = super().send
        return _route(self._egress, request, lambda routed: send(routed, *arguments, **options))

"""urllib3: the lane on every hop of every pool manager; connection pools alone are not reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError

from lane_router.context.lane_name import HEADER
from lane_router.routing.base_router import BaseRouter
from lane_router.routing.egress import Egress, make_egress

from . import patching
from .http_hops import is_unsent, replace_host
from .patching import Function, Patch, Patches

__all__ = ("LanePoolManager",)

# Sends to this URL with these headers.
Send = Callable[[str, "urllib3.HTTPHeaderDict"], object]


def _wrap_urlopen(original: Function) -> Function:
    def urlopen(
        manager: urllib3.PoolManager,
        method: str,
        url: str,
        redirect: bool = True,
        **options: Any,
    ) -> object:
        egress = patching.active_egress
        if egress is None or isinstance(manager, LanePoolManager):
            return original(manager, method, url, redirect, **options)
        return _route(
            egress,
            url,
            options.pop("headers", None) or manager.headers,
            lambda to, headers: original(manager, method, to, redirect, headers=headers, **options),
        )

    return urlopen


def _route(egress: Egress, url: str, headers: Mapping[str, str], send: Send) -> object:
    parts = urllib3.util.parse_url(url)
    fields = urllib3.HTTPHeaderDict(headers)
    plan = egress.plan(parts.host or "", parts.port or 0, fields, parts.scheme or "http")
    routed_url = replace_host(url, plan.host, plan.port) if plan.resolution else url
    try:
        with egress.baggage_scope(plan):
            return send(routed_url, fields)
    except HTTPError as error:
        if not plan.in_lane or not _is_refusal(error, plan.host):
            raise
    plan = egress.fall_back(plan)
    fields = urllib3.HTTPHeaderDict(headers)
    egress.write_lane(plan, fields)
    with egress.baggage_scope(plan):
        return send(replace_host(url, plan.host, plan.port), fields)


def _is_refusal(error: HTTPError, host: str) -> bool:
    """Whether no connection to this host was made."""
    reason = error.reason if isinstance(error, MaxRetryError) else error
    if not isinstance(reason, NewConnectionError) or not is_unsent(error):
        return False
    # A pool manager follows redirects inside of `urlopen`: the error may be that of a later hop.
    return getattr(reason.conn, "host", "") == host


PATCHES = Patches(Patch(urllib3.PoolManager, "urlopen", _wrap_urlopen))


class LanePoolManager(urllib3.PoolManager):
    """A pool manager that routes, and passes the lane on; works without `instrument`.

    Args:
        router: a `LaneRouter` or `AsyncLaneRouter`; None = requests go where they are addressed.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own header.
        options: of the library's `PoolManager`, for example `ca_certs=`.

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

    def urlopen(  # type: ignore[override]  # urllib3 types its keywords one by one
        self,
        method: str,
        url: str,
        redirect: bool = True,
        **options: Any,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and those it is redirected to.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        urlopen = super().urlopen
        headers = options.pop("headers", None) or self.headers
        response = _route(
            self._egress,
            url,
            headers,
            lambda to, fields: urlopen(method, to, redirect, headers=fields, **options),
        )
        return cast(urllib3.BaseHTTPResponse, response)

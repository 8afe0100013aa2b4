"""What httpx and httpx2 have in common: one hop of one request, redirects being hops of their own.

A transport is where each hop of each client passes, with the pool behind it; an event hook runs on
foreign hops as well and would have to be added to each client by its owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from lane_router.egress import Egress, Plan

from . import active
from .patching import Function, Patch, Patches
from .unsent import is_unsent

__all__ = ("AsyncHop", "Hop", "patches_of")

# httpx's and httpx2's own types, of which only one may be installed.
Request = Any
Response = Any


class Hop:
    """Sends one request through `inner`: to the lane, to the base when that refuses."""

    __slots__ = ("_close", "_egress", "_refused", "_send")

    def __init__(
        self,
        egress: Egress,
        send: Callable[[Request], Response],
        close: Callable[[], None],
        refused: type[Exception],
    ) -> None:
        self._egress = egress
        self._send = send
        self._close = close
        self._refused = refused

    def handle_request(self, request: Request) -> Response:
        """One hop.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        plan, routed = _routed(self._egress, request)
        try:
            with self._egress.ambient(plan):
                return self._send(routed)
        except self._refused as error:
            if not plan.in_lane or not is_unsent(error):
                raise
        plan, routed = _to_base(self._egress, plan, request)
        with self._egress.ambient(plan):
            return self._send(routed)

    def close(self) -> None:
        """Close what is behind."""
        self._close()


class AsyncHop:
    """The same for an async client."""

    __slots__ = ("_close", "_egress", "_refused", "_send")

    def __init__(
        self,
        egress: Egress,
        send: Callable[[Request], Awaitable[Response]],
        close: Callable[[], Awaitable[None]],
        refused: type[Exception],
    ) -> None:
        self._egress = egress
        self._send = send
        self._close = close
        self._refused = refused

    async def handle_async_request(self, request: Request) -> Response:
        """One hop.

        Raises:
            LaneUnavailableError: the lane has nobody, and its mode is strict.
        """
        plan, routed = _routed(self._egress, request)
        try:
            with self._egress.ambient(plan):
                return await self._send(routed)
        except self._refused as error:
            if not plan.in_lane or not is_unsent(error):
                raise
        plan, routed = _to_base(self._egress, plan, request)
        with self._egress.ambient(plan):
            return await self._send(routed)

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._close()


def _routed(egress: Egress, request: Request) -> tuple[Plan, Request]:
    routed = _copied(request)
    plan = egress.plan(request.url.host, request.url.port or 0, routed.headers)
    _redirect(routed, plan)
    return plan, routed


def _to_base(egress: Egress, plan: Plan, request: Request) -> tuple[Plan, Request]:
    base, routed = egress.refused(plan), _copied(request)
    egress.mark(base, routed.headers)
    _redirect(routed, base)
    return base, routed


def _copied(request: Request) -> Request:
    """The caller may send the same request again in another lane, so it stays as it is.

    copy.copy leaves the body behind: the request's pickled form has none.
    """
    copied = object.__new__(type(request))
    copied.__dict__.update(request.__dict__)
    copied.headers = request.headers.copy()
    return copied


def _redirect(request: Request, plan: Plan) -> None:
    if plan.resolution is None:
        return
    before = request.url
    if before.host == plan.host and before.port == plan.port:
        return
    request.url = before.copy_with(host=plan.host, port=plan.port)
    if request.headers.get("host") == before.netloc.decode("ascii"):
        request.headers["host"] = request.url.netloc.decode("ascii")


def patches_of(module: ModuleType) -> Patches:
    """Every client of the library, however it was made and whatever its transport."""

    def sync_transport(original: Function) -> Function:
        def transport_for(client: Any, url: Any) -> Any:
            inner: Any = original(client, url)
            egress = active.egress
            if egress is None:
                return inner
            return Hop(egress, inner.handle_request, inner.close, module.ConnectError)

        return transport_for

    def async_transport(original: Function) -> Function:
        def transport_for(client: Any, url: Any) -> Any:
            inner: Any = original(client, url)
            egress = active.egress
            if egress is None:
                return inner
            return AsyncHop(egress, inner.handle_async_request, inner.aclose, module.ConnectError)

        return transport_for

    return Patches(
        Patch(module.Client, "_transport_for_url", sync_transport),
        Patch(module.AsyncClient, "_transport_for_url", async_transport),
    )

# ruff: noqa: SLF001
"""What httpx and httpx2 have in common: one hop of one request, redirects being hops of their own.

A transport is where each hop of each client passes, with the pool behind it; an event hook runs on
foreign hops as well and would have to be added to each client by its owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from lane_router.propagation.carriers import BAGGAGE
from lane_router.propagation.otel_baggage import loaded
from lane_router.routing.egress import Egress, Plan

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
            if not loaded():
                return self._send(routed)
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
            if not loaded():
                return await self._send(routed)
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
    parts, carried = request.url._uri_reference, _carried(egress, request)
    if not carried:
        plan = egress.decide(parts.host, parts.port or 0)
        return plan, _moved(request, plan, egress, None)
    plan = egress.plan(parts.host, parts.port or 0, carried)
    return plan, _moved(request, plan, egress, carried)


def _to_base(egress: Egress, plan: Plan, request: Request) -> tuple[Plan, Request]:
    base, carried = egress.refused(plan), _carried(egress, request)
    egress.mark(base, carried)
    return base, _moved(request, base, egress, carried)


def _carried(egress: Egress, request: Request) -> dict[str, str]:
    """The two carriers as the caller set them."""
    header, carried = egress.carriers.raw_header, {}
    for _, name, value in request.headers._list:
        if name == header:
            carried[egress.carriers.header] = value.decode("latin-1")
        elif name == b"baggage":
            before = carried.get(BAGGAGE)
            told = value.decode("latin-1")
            carried[BAGGAGE] = told if before is None else f"{before},{told}"
    return carried


def _moved(request: Request, plan: Plan, egress: Egress, carried: dict[str, str] | None) -> Request:
    """A copy with these carriers, to the plan's host: the caller may send his own again.

    None = the caller set none, so those of the plan's lane are added.

    It is put together from the parts that the library's own copying would take apart and check
    anew for each request; copy.copy would leave the body behind.
    """
    copied = object.__new__(type(request))
    copied.__dict__.update(request.__dict__)
    copied.headers = headers = object.__new__(type(request.headers))
    headers._encoding = request.headers._encoding
    if carried is not None:
        header = egress.carriers.raw_header
        fields = [one for one in request.headers._list if one[1] not in {header, b"baggage"}]
        fields += egress.carriers.raw_fields(carried)
    else:
        fields = [*request.headers._list, *egress.carriers.raw_fields_of(plan.lane)]
    headers._list = fields
    if plan.resolution is not None:
        _redirect(copied, plan, fields)
    return copied


def _redirect(request: Request, plan: Plan, fields: list[tuple[bytes, bytes, bytes]]) -> None:
    parts = request.url._uri_reference
    scheme, userinfo, host, port, path, query, fragment = parts
    to = None if plan.port == _DEFAULT_PORTS.get(scheme) else plan.port
    if host == plan.host and port == to:
        return
    moved = object.__new__(type(request.url))
    moved._uri_reference = parts._make((scheme, userinfo, plan.host, to, path, query, fragment))
    request.url = moved
    for number, (raw, name, value) in enumerate(fields):
        if name == b"host":
            if value == _netloc(host, port):  # else it is one of the caller's own
                fields[number] = (raw, name, _netloc(plan.host, to))
            return


def _netloc(host: str, port: int | None) -> bytes:
    return (host if port is None else f"{host}:{port}").encode("ascii")


_DEFAULT_PORTS = {"http": 80, "https": 443}


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

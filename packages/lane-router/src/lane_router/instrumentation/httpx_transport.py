"""The lane header on requests of httpx and httpx2: a transport that routes each of them.

Each hop of each client passes its transport, redirects included, before the connection pool. An
event hook would have to be added to each client by its owner and does not choose the connection.

`RoutingTransport` asks `routing.egress.Egress` where the request goes, and sends a copy that has
`x-lane` and `baggage` in its header fields (`propagation.carriers.Carriers` knows their form).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from lane_router.propagation.carriers import BAGGAGE, encode_headers
from lane_router.propagation.otel_baggage import is_loaded
from lane_router.routing.egress import Egress, Plan

from . import patching
from .http_hops import is_unsent
from .httpx_internals import Fields, Request, request_parts
from .patching import Function, Patch, Patches

__all__ = ("AsyncRoutingTransport", "HttpxLibrary", "RoutingTransport")

Response = Any

_DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpxLibrary:
    """httpx or httpx2: what routing needs of the module.

    Attributes:
        parts: how requests are read and copied.
        connect_error: the exception for a connection that was not made.
    """

    def __init__(self, library: ModuleType) -> None:
        self._library = library
        self.parts = request_parts(library)
        self.connect_error: type[Exception] = library.ConnectError

    def patches(self) -> Patches:
        """Patches that reach every client, however it was made and whatever its transport."""
        library = self._library
        if all(hasattr(c, "_transport_for_url") for c in (library.Client, library.AsyncClient)):
            return Patches(
                Patch(library.Client, "_transport_for_url", self._wrap_transport_choice),
                Patch(library.AsyncClient, "_transport_for_url", self._wrap_async_transport_choice),
            )
        # That name is private. Without it the library's own transports are patched: that reaches
        # all clients but those with a transport of another make.
        return Patches(
            Patch(library.HTTPTransport, "handle_request", self._wrap_transport),
            Patch(library.AsyncHTTPTransport, "handle_async_request", self._wrap_async_transport),
        )

    def _wrap_transport_choice(self, original: Function) -> Function:
        def transport_for_url(client: Any, url: Any) -> Any:
            inner: Any = original(client, url)
            egress = patching.active_egress
            if egress is None:
                return inner
            return RoutingTransport(egress, self, inner.handle_request, inner.close)

        return transport_for_url

    def _wrap_async_transport_choice(self, original: Function) -> Function:
        def transport_for_url(client: Any, url: Any) -> Any:
            inner: Any = original(client, url)
            egress = patching.active_egress
            if egress is None:
                return inner
            return AsyncRoutingTransport(egress, self, inner.handle_async_request, inner.aclose)

        return transport_for_url

    def _wrap_transport(self, original: Function) -> Function:
        def handle_request(transport: Any, request: Request) -> Any:
            egress = patching.active_egress
            if egress is None:
                return original(transport, request)
            send = partial(original, transport)
            return RoutingTransport(egress, self, send, transport.close).handle_request(request)

        return handle_request

    def _wrap_async_transport(self, original: Function) -> Function:
        async def handle_async_request(transport: Any, request: Request) -> Any:
            send: Any = partial(original, transport)
            egress = patching.active_egress
            if egress is None:
                return await send(request)
            routing = AsyncRoutingTransport(egress, self, send, transport.aclose)
            return await routing.handle_async_request(request)

        return handle_async_request


class _Routing:
    """The part of both transports without I/O: which request is sent for the caller's.

    Args:
        send: sends a request, as the transport's `handle_request` or `handle_async_request`.
        close: closes what is behind.
    """

    __slots__ = ("_close", "_connect_error", "_egress", "_parts", "_send")

    # The one constructor of both transports: an object is made for each hop, so it has to be cheap.
    def __init__(
        self,
        egress: Egress,
        library: HttpxLibrary,
        send: Callable[[Request], Any],
        close: Callable[[], Any],
    ) -> None:
        self._egress = egress
        self._parts = library.parts
        self._connect_error = library.connect_error
        self._send = send
        self._close = close

    def _route(self, request: Request) -> tuple[Plan, Request]:
        """The plan for the caller's request, and the request to send."""
        scheme, host, port, fields = self._parts.read(request)
        headers = self._read_carriers(fields)
        if not headers:
            # Nearly every request: its caller set no carrier, so the lane's are added as they are.
            plan = self._egress.choose(host, port or 0, None, scheme)
            fields = [*fields, *self._egress.carriers.raw_headers_for(plan.lane)]
        else:
            plan = self._egress.plan(host, port or 0, headers, scheme)
            fields = self._replace_carriers(fields, headers)
        return plan, self._copy(request, plan, fields, (scheme, host, port))

    def _route_to_base(self, request: Request, plan: Plan) -> tuple[Plan, Request]:
        """The plan after the lane refused the caller's request, and the request to send."""
        plan = self._egress.fall_back(plan)
        scheme, host, port, fields = self._parts.read(request)
        headers = self._read_carriers(fields)
        self._egress.write_lane(plan, headers)
        fields = self._replace_carriers(fields, headers)
        return plan, self._copy(request, plan, fields, (scheme, host, port))

    def _read_carriers(self, fields: Fields) -> dict[str, str]:
        """The two carriers as the caller set them; empty if it set none."""
        carriers = self._egress.carriers
        lane_header, headers = carriers.raw_header, {}
        for _, name, raw_value in fields:
            if name == lane_header:
                headers[carriers.header] = raw_value.decode("latin-1")
            elif name == b"baggage":
                value = raw_value.decode("latin-1")
                headers[BAGGAGE] = f"{headers[BAGGAGE]},{value}" if BAGGAGE in headers else value
        return headers

    def _replace_carriers(self, fields: Fields, headers: dict[str, str]) -> Fields:
        names = {self._egress.carriers.raw_header, b"baggage"}
        return [*(field for field in fields if field[1] not in names), *encode_headers(headers)]

    def _copy(
        self, request: Request, plan: Plan, fields: Fields, address: tuple[str, str, int | None]
    ) -> Request:
        """A copy with these fields, which are changed, to the host of the plan."""
        scheme, host, port = address
        plan_port = None if plan.port == _DEFAULT_PORTS.get(scheme) else plan.port
        if plan.resolution is None or (host == plan.host and port == plan_port):
            return self._parts.copy(request, fields)
        for index, (raw_name, name, value) in enumerate(fields):
            if name == b"host":
                if value == _netloc(host, port):  # else the caller's own, which stays
                    fields[index] = (raw_name, name, _netloc(plan.host, plan_port))
                break
        return self._parts.copy(request, fields, plan.host, plan_port)


class RoutingTransport(_Routing):
    """Sends each request to its lane, or to the base if the lane refuses.

    Works as a transport of httpx and of httpx2, but inherits from neither: only one of them may be
    installed.
    """

    __slots__ = ()

    def handle_request(self, request: Request) -> Response:
        """Send one request.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        plan, routed = self._route(request)
        try:
            if not is_loaded():  # saves the scope's block, which would be empty
                return self._send(routed)
            with self._egress.baggage_scope(plan):
                return self._send(routed)
        except self._connect_error as error:
            if not plan.in_lane or not is_unsent(error):
                raise
        plan, routed = self._route_to_base(request, plan)
        with self._egress.baggage_scope(plan):
            return self._send(routed)

    def close(self) -> None:
        """Close what is behind."""
        self._close()


class AsyncRoutingTransport(_Routing):
    """`RoutingTransport` for async clients."""

    __slots__ = ()

    async def handle_async_request(self, request: Request) -> Response:
        """Send one request.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        plan, routed = self._route(request)
        try:
            if not is_loaded():
                return await self._send(routed)
            with self._egress.baggage_scope(plan):
                return await self._send(routed)
        except self._connect_error as error:
            if not plan.in_lane or not is_unsent(error):
                raise
        plan, routed = self._route_to_base(request, plan)
        with self._egress.baggage_scope(plan):
            return await self._send(routed)

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._close()


def _netloc(host: str, port: int | None) -> bytes:
    return (host if port is None else f"{host}:{port}").encode("ascii")

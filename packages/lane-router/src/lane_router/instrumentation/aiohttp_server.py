"""aiohttp.web ingress: each request runs in the lane its headers name."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode
from lane_router.context.lane_context import lane_scope
from lane_router.context.lane_name import HEADER
from lane_router.ingress.lane_ingress import REFUSAL, DropPolicy
from lane_router.observer import LaneObserver
from lane_router.propagation.carriers import BAGGAGE, BAGGAGE_KEY, Carriers, Preference

__all__ = ("lane_middleware",)


def lane_middleware(
    *,
    header: str = HEADER,
    mode: Mode = "permissive",
    baggage_key: str | None = BAGGAGE_KEY,
    prefer: Preference | None = None,
    classes: LaneClasses = ANY_LANE,
    observer: LaneObserver | None = None,
) -> Middleware:
    """`web.Application(middlewares=[lane_middleware()])`; the arguments are those of `LaneMiddleware`.

    Handlers, streamed responses and WebSockets run in the lane. An async generator that is handed
    to a response as its body is read after the handler, so decorate it with `lane_generator`. A
    refused request is answered 400.

    Raises:
        InvalidValueError: an invalid header name, key, preference or mode.
    """
    carriers = Carriers(header=header, baggage_key=baggage_key, prefer=prefer, classes=classes)
    drop_policy = DropPolicy(mode, observer)

    @web.middleware
    async def run_in_lane(request: web.Request, handler: Handler) -> web.StreamResponse:
        fields = request.headers
        reading = carriers.read(fields.getall(header, []), fields.getall(BAGGAGE, []))
        if drop_policy.refuses(reading):
            return web.Response(status=400, body=REFUSAL, content_type="text/plain")
        with lane_scope(reading.lane):
            return await handler(request)

    return run_in_lane

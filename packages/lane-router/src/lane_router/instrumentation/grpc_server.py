"""gRPC ingress: each RPC runs in the lane its metadata names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio

from lane_router.context.generators import confined, confined_async
from lane_router.context.lane_classes import Mode, check_mode
from lane_router.context.lane_context import lane_scope
from lane_router.observer import LaneObserver
from lane_router.propagation.carriers import Carriers, Reading

from .grpc_metadata import read

__all__ = ("AsyncLaneServerInterceptor", "LaneServerInterceptor")

Details = grpc.HandlerCallDetails
_REFUSAL = "the lane must be exactly one lane name; send a valid one or none"
_WRAPPERS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class _Ingress:
    def __init__(
        self,
        *,
        mode: Mode = "permissive",
        carriers: Carriers | None = None,
        observer: LaneObserver | None = None,
    ) -> None:
        self._strict = check_mode(mode) == "strict"
        self._carriers = carriers or Carriers()
        self._observer = observer

    def _read(self, details: Details) -> Reading:
        reading = self._carriers.read(*read(self._carriers, details.invocation_metadata or ()))
        if reading.problem and self._observer is not None:
            self._observer.dropped(reading.problem)
        return reading

    def _refuses(self, reading: Reading) -> bool:
        return self._strict and reading.problem is not None


class LaneServerInterceptor(_Ingress, grpc.ServerInterceptor):
    """`grpc.server(pool, interceptors=[LaneServerInterceptor()])`.

    What the metadata says that cannot be believed counts as nothing in mode `permissive`, and is
    answered INVALID_ARGUMENT in mode `strict`.
    """

    def intercept_service(
        self, continuation: Callable[[Details], Any], handler_call_details: Details
    ) -> Any:
        handler = continuation(handler_call_details)
        reading = self._read(handler_call_details)
        if handler is None:
            return None
        if self._refuses(reading):
            return _rebuilt(handler, lambda _: _refuse)
        return _rebuilt(handler, lambda behaviour: _in_lane(handler, behaviour, reading.lane))


class AsyncLaneServerInterceptor(_Ingress, grpc.aio.ServerInterceptor):
    """The same for `grpc.aio.server`."""

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        handler = await continuation(handler_call_details)
        reading = self._read(handler_call_details)
        if handler is None:
            return None
        if self._refuses(reading):
            return _rebuilt(handler, lambda _: _refuse_async)
        return _rebuilt(handler, lambda behaviour: _in_lane_async(handler, behaviour, reading.lane))


def _rebuilt(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    name, make = _WRAPPERS[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(
        wrap(getattr(handler, name)),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _in_lane(handler: Any, behaviour: Any, lane: str | None) -> Any:
    def unary(request: Any, context: Any) -> Any:
        with lane_scope(lane):
            return behaviour(request, context)

    def stream(request: Any, context: Any) -> Iterator[Any]:
        with lane_scope(lane):
            answers = confined(behaviour(request, context))
        yield from answers

    return stream if handler.response_streaming else unary


def _in_lane_async(handler: Any, behaviour: Any, lane: str | None) -> Any:
    async def unary(request: Any, context: Any) -> Any:
        with lane_scope(lane):
            return await behaviour(request, context)

    async def written(request: Any, context: Any) -> None:
        with lane_scope(lane):
            await behaviour(request, context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        with lane_scope(lane):
            answers = confined_async(behaviour(request, context))
        async for answer in answers:
            yield answer

    if not handler.response_streaming:
        return unary
    import inspect

    return stream if inspect.isasyncgenfunction(behaviour) else written


def _refuse(_: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)


async def _refuse_async(_: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)

"""gRPC ingress: each RPC runs in the lane its metadata names."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio

from lane_router.context.generators import confine_async_lane, confine_lane
from lane_router.context.lane_classes import Mode
from lane_router.context.lane_context import lane_scope
from lane_router.ingress.lane_ingress import DropPolicy
from lane_router.observer import LaneObserver
from lane_router.propagation.carriers import Carriers, Reading

from .grpc_metadata import read_carriers

__all__ = ("AsyncLaneServerInterceptor", "LaneServerInterceptor")

Details = grpc.HandlerCallDetails
_REFUSAL = "the lane must be exactly one lane name; send a valid one or none"
# (request streams, response streams): the handler's attribute, and what makes such a handler.
_HANDLER_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class _LaneInterceptor:
    """The common part of both interceptors."""

    def __init__(
        self,
        *,
        mode: Mode = "permissive",
        carriers: Carriers | None = None,
        observer: LaneObserver | None = None,
    ) -> None:
        self._carriers = carriers or Carriers()
        self._drop_policy = DropPolicy(mode, observer)

    def _read(self, details: Details) -> Reading:
        metadata = details.invocation_metadata or ()
        return self._carriers.read(*read_carriers(self._carriers, metadata))


class LaneServerInterceptor(_LaneInterceptor, grpc.ServerInterceptor):
    """`grpc.server(pool, interceptors=[LaneServerInterceptor()])`.

    A lane in the metadata that is not accepted counts as none in mode `permissive`; in mode
    `strict` the RPC is answered INVALID_ARGUMENT.

    Args:
        mode: `permissive` or `strict`.
        carriers: the metadata keys, and which lanes are accepted.
        observer: notified of each lane that is not accepted.

    Raises:
        InvalidValueError: an unknown mode.
    """

    def intercept_service(
        self, continuation: Callable[[Details], Any], handler_call_details: Details
    ) -> Any:
        handler = continuation(handler_call_details)
        reading = self._read(handler_call_details)
        refused = self._drop_policy.refuses(reading)
        if handler is None:  # an unknown method, which the server answers
            return None
        if refused:
            return _wrap_handler(handler, lambda _: _refuse)
        return _wrap_handler(handler, lambda behaviour: _in_lane(handler, behaviour, reading.lane))


class AsyncLaneServerInterceptor(_LaneInterceptor, grpc.aio.ServerInterceptor):
    """`LaneServerInterceptor` for `grpc.aio.server`, with the same arguments."""

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        handler = await continuation(handler_call_details)
        reading = self._read(handler_call_details)
        refused = self._drop_policy.refuses(reading)
        if handler is None:
            return None
        if refused:
            return _wrap_handler(handler, lambda _: _refuse_async)
        return _wrap_handler(
            handler, lambda behaviour: _in_lane_async(handler, behaviour, reading.lane)
        )


def _wrap_handler(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    name, make = _HANDLER_KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
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
            responses = confine_lane(behaviour(request, context))
        yield from responses

    return stream if handler.response_streaming else unary


def _in_lane_async(handler: Any, behaviour: Any, lane: str | None) -> Any:
    async def unary(request: Any, context: Any) -> Any:
        with lane_scope(lane):
            return await behaviour(request, context)

    async def write_stream(request: Any, context: Any) -> None:
        with lane_scope(lane):
            await behaviour(request, context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        with lane_scope(lane):
            responses = confine_async_lane(behaviour(request, context))
        async for response in responses:
            yield response

    if not handler.response_streaming:
        return unary
    # A streaming behaviour of grpc.aio either yields responses or writes them to the context; gRPC
    # tells them apart by the kind of function, so the wrapper has to be of the same kind.
    return stream if inspect.isasyncgenfunction(behaviour) else write_stream


def _refuse(_: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)


async def _refuse_async(_: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)

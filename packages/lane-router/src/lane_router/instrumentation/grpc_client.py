"""gRPC: a channel that routes each RPC on its own, and passes the lane on in its metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import grpc

from lane_router.context.lane_name import HEADER
from lane_router.routing.base_router import BaseRouter
from lane_router.routing.egress import Egress, Plan, make_egress

from .grpc_aio_client import AIO_PATCHES
from .grpc_channel import ChannelRouter, RoutedMethod, is_unsent_rpc, wrap_channel_function
from .patching import Patch, Patches, original_of

__all__ = ("LaneChannel",)

Open = Callable[[str], grpc.Channel]


class LaneChannel(grpc.Channel):
    """A channel to a service; each RPC goes to its lane, or to the base.

    A unary RPC that cannot connect to the lane is sent to the base. An RPC that streams its
    request or response is not repeated, but the next one goes to the base.

    Args:
        target: `host:port` or `dns:///host:port`.
        router: a `LaneRouter` or `AsyncLaneRouter`; None = RPCs go to the target.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own metadata key.
        open_channel: opens a channel to a target; by default `grpc.insecure_channel`.
        egress: instead of router, mesh hosts and header.
        secure: whether `open_channel` opens channels over TLS: a target without a port then means
            a port that is published for `grpcs` or `https`, else 443.

    Raises:
        InvalidValueError: an entry of `mesh_hosts` is not a host name, or an invalid key.
    """

    def __init__(
        self,
        target: str,
        router: BaseRouter | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        open_channel: Open | None = None,
        egress: Egress | None = None,
        secure: bool = False,
    ) -> None:
        # The library's own function: a channel behind this one must not route again.
        plain: Any = original_of(grpc.insecure_channel)
        self._router = ChannelRouter[grpc.Channel](
            target, egress or make_egress(router, mesh_hosts, header), open_channel or plain, secure
        )

    @property
    def lane_targets(self) -> tuple[str, ...]:
        """The addresses that have a channel beside the target's own, at most 64."""
        return self._router.targets

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Subscribe to the state of the base's channel."""
        self._router.base.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        """Unsubscribe from the state of the base's channel."""
        self._router.base.unsubscribe(callback)

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _LaneMethod(self._router, "unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _LaneMethod(self._router, "unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _LaneMethod(self._router, "stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _LaneMethod(self._router, "stream_stream", method, args, options)

    def close(self) -> None:
        """Close the base's channel and those of the lanes."""
        for channel in self._router.channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _LaneMethod(RoutedMethod[grpc.Channel]):
    """A routed method with the three ways to call it that gRPC has."""

    def __call__(
        self, request: Any, timeout: Any = None, metadata: Any = None, **options: Any
    ) -> Any:
        return self._invoke("__call__", request, timeout, metadata, options)

    def with_call(
        self, request: Any, timeout: Any = None, metadata: Any = None, **options: Any
    ) -> Any:
        return self._invoke("with_call", request, timeout, metadata, options)

    def future(
        self, request: Any, timeout: Any = None, metadata: Any = None, **options: Any
    ) -> Any:
        return self._invoke("future", request, timeout, metadata, options)

    def _invoke(self, name: str, request: Any, timeout: Any, metadata: Any, options: Any) -> Any:
        plan, pairs = self._router.plan(metadata)
        invoke = getattr(self._callable_for(plan), name)
        if not plan.in_lane:
            return invoke(request, timeout, pairs, **options)
        try:
            result = invoke(request, timeout, pairs, **options)
        except grpc.RpcError as error:
            if not _is_unsent(error):
                raise
            base, pairs = self._router.fall_back(plan, metadata)
            if self._kind != "unary_unary":  # the iterator of requests may be used up
                raise
        else:
            if hasattr(result, "add_done_callback"):  # a future or a stream, not a response
                result.add_done_callback(lambda call: self._mark_if_unsent(plan, call))
            return result
        return getattr(self._callable_for(base), name)(request, timeout, pairs, **options)

    def _mark_if_unsent(self, plan: Plan, call: Any) -> None:
        if _is_unsent(call):
            self._router.mark_unreachable(plan)


def _is_unsent(call: Any) -> bool:
    # A response may be passed here as well as a call: only a call has a status.
    return hasattr(call, "code") and is_unsent_rpc(call.code(), call.details())


def _make_channel(target: str, egress: Egress, open_channel: Open, secure: bool) -> LaneChannel:
    return LaneChannel(target, egress=egress, open_channel=open_channel, secure=secure)


PATCHES = Patches(
    Patch(grpc, "insecure_channel", wrap_channel_function(_make_channel, secure=False)),
    Patch(grpc, "secure_channel", wrap_channel_function(_make_channel, secure=True)),
    *AIO_PATCHES,
)

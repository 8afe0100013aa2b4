"""gRPC for asyncio: the channel of `grpc_client`, with calls that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio

from lane_router.context.lane_name import HEADER
from lane_router.routing.base_router import BaseRouter
from lane_router.routing.egress import Egress, Plan, make_egress

from .grpc_channel import ChannelRouter, RoutedMethod, is_unsent_rpc, wrap_channel_function
from .patching import Patch, original_of

__all__ = ("AsyncLaneChannel",)

Open = Callable[[str, Sequence[grpc.aio.ClientInterceptor]], grpc.aio.Channel]


class AsyncLaneChannel(grpc.aio.Channel):
    """A channel to a service; each RPC goes to its lane, or to the base.

    A unary RPC that cannot connect to the lane is sent to the base. An RPC that streams its
    request or response is not repeated, but the next one goes to the base.

    Args:
        target: `host:port` or `dns:///host:port`.
        router: a `LaneRouter` or `AsyncLaneRouter`; None = RPCs go to the target.
        mesh_hosts: more hosts that may receive the lane; see `MeshHosts`.
        header: the lane's own metadata key.
        open_channel: opens a channel to a target with these interceptors; by default
            `grpc.aio.insecure_channel`.
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
        open_with = open_channel or _open_plain
        self._router = ChannelRouter[grpc.aio.Channel](
            target,
            egress or make_egress(router, mesh_hosts, header),
            lambda to: open_with(to, ()),
            secure,
        )

    @property
    def lane_targets(self) -> tuple[str, ...]:
        """The addresses that have a channel beside the target's own, at most 64."""
        return self._router.targets

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _AsyncLaneMethod(self._router, "unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _AsyncLaneMethod(self._router, "unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _AsyncLaneMethod(self._router, "stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _AsyncLaneMethod(self._router, "stream_stream", method, args, options)

    async def close(self, grace: float | None = None) -> None:
        """Close the base's channel and those of the lanes; `grace` in seconds, for each."""
        for channel in self._router.channels:
            await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the base's channel."""
        return self._router.base.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state of the base's channel is another one."""
        await self._router.base.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the base's channel is ready."""
        await self._router.base.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _AsyncLaneMethod(RoutedMethod[grpc.aio.Channel]):
    def __call__(self, request: Any = None, **options: Any) -> Any:
        metadata = options.pop("metadata", None)
        requests = () if request is None else (request,)
        plan, pairs = self._router.plan(metadata)

        def invoke(chosen: Plan, fields: Any) -> Any:
            call = self._callable_for(chosen)
            return call(*requests, metadata=grpc.aio.Metadata(*fields), **options)

        call = invoke(plan, pairs)
        if not plan.in_lane:
            return call
        if self._kind == "unary_unary":
            return _FallbackCall(call, lambda: invoke(*self._router.fall_back(plan, metadata)))
        call.add_done_callback(lambda _: _mark_when_unsent(self._router, plan, call))
        return call


class _FallbackCall:
    """A unary call to a lane that becomes one to the base if the lane does not connect.

    gRPC's call is returned before it connects, so the second one can be made only when the caller
    awaits the result. Everything else is that of the present call.
    """

    def __init__(self, call: Any, invoke_base: Callable[[], Any]) -> None:
        self._call = call
        self._invoke_base: Callable[[], Any] | None = invoke_base

    def __await__(self) -> Any:
        return self._get_response().__await__()

    async def _get_response(self) -> Any:
        try:
            return await self._call
        except grpc.aio.AioRpcError as error:
            invoke_base, self._invoke_base = self._invoke_base, None
            if invoke_base is None or not is_unsent_rpc(error.code(), error.details()):
                raise
            self._call = invoke_base()
        return await self._call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


# Tasks that read the status of a call that has ended. The event loop holds tasks by weak references
# only; each of these ends by itself at its next turn, so they have no other owner.
_status_readers: set[asyncio.Task[None]] = set()


def _mark_when_unsent(router: ChannelRouter[grpc.aio.Channel], plan: Plan, call: Any) -> None:
    async def read_status() -> None:
        if is_unsent_rpc(await call.code(), await call.details()):
            router.mark_unreachable(plan)

    task = asyncio.ensure_future(read_status())
    _status_readers.add(task)
    task.add_done_callback(_status_readers.discard)


def _open_plain(
    target: str, interceptors: Sequence[grpc.aio.ClientInterceptor]
) -> grpc.aio.Channel:
    # The library's own function: a channel behind ours must not route again.
    open_channel: Any = original_of(grpc.aio.insecure_channel)
    channel: grpc.aio.Channel = open_channel(target, interceptors=interceptors)
    return channel


def _make_channel(
    target: str, egress: Egress, open_channel: Callable[[str], grpc.aio.Channel], secure: bool
) -> AsyncLaneChannel:
    return AsyncLaneChannel(
        target, egress=egress, open_channel=lambda to, _: open_channel(to), secure=secure
    )


AIO_PATCHES = (
    Patch(grpc.aio, "insecure_channel", wrap_channel_function(_make_channel, secure=False)),
    Patch(grpc.aio, "secure_channel", wrap_channel_function(_make_channel, secure=True)),
)

"""gRPC for asyncio: the channel of `grpc_client`, with calls that are awaited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import Carriers
from lane_router.routing.egress import Egress, Plan
from lane_router.routing.mesh_hosts import MeshHosts
from lane_router.routing.routing import Routing

from . import active
from .grpc_metadata import host_and_port, marked, planned
from .patching import Function, Patch

__all__ = ("AIO_PATCHES", "AsyncLaneChannel")

_MOST_CHANNELS = 64

Open = Callable[[str, Sequence[grpc.aio.ClientInterceptor]], grpc.aio.Channel]


class AsyncLaneChannel(grpc.aio.Channel):
    """A channel to a service; each RPC goes to its lane, or to the base.

    Args:
        target: `host:port` or `dns:///host:port`.
        open_channel: opens a channel to a target with these interceptors; by default
            `grpc.aio.insecure_channel`.
    """

    def __init__(
        self,
        target: str,
        router: Routing | None = None,
        *,
        mesh_hosts: tuple[str, ...] = (),
        header: str = HEADER,
        open_channel: Open | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._egress = egress or Egress(router, MeshHosts(mesh_hosts), Carriers(header=header))
        self._open: Open = open_channel or _plain
        self._host, self._port = host_and_port(target)
        self._base = self._open(target, ())
        self._others: dict[str, grpc.aio.Channel] = {}

    def channel_for(self, plan: Plan) -> grpc.aio.Channel:
        """The channel to where the plan says; the one of the target when it leads there anyway."""
        if plan.resolution is None or (plan.host, plan.port) == (self._host, self._port):
            return self._base
        target = f"{plan.host}:{plan.port}"
        channel = self._others.get(target)
        if channel is None:
            while len(self._others) >= _MOST_CHANNELS:
                del self._others[next(iter(self._others))]  # ends with its last RPC
            channel = self._others[target] = self._open(target, ())
        return channel

    def plan(self, metadata: Any) -> tuple[Plan, Any]:
        """The plan for one RPC, and its metadata."""
        return planned(self._egress, self._host, self._port, metadata)

    def to_base(self, plan: Plan, metadata: Any) -> tuple[Plan, Any]:
        """The plan after the lane refused, and its metadata."""
        base = self._egress.refused(plan)
        return base, marked(self._egress, base, metadata)

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "stream_stream", method, args, options)

    async def close(self, grace: float | None = None) -> None:
        """Close all channels behind."""
        for channel in (self._base, *self._others.values()):
            await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Of the base's channel."""
        return self._base.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Of the base's channel."""
        await self._base.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Of the base's channel."""
        await self._base.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Callable:
    """One method of a stub, on whichever channel the RPC belongs to."""

    def __init__(
        self, owner: AsyncLaneChannel, kind: str, method: str, args: Any, options: Any
    ) -> None:
        self._owner = owner
        self._kind = kind
        self._made_of = (method, *args), options
        self._known: dict[grpc.aio.Channel, Any] = {}

    def __call__(self, request: Any = None, **options: Any) -> Any:
        metadata = options.pop("metadata", None)
        given = () if request is None else (request,)
        plan, told = self._owner.plan(metadata)
        call = self._on(plan)(*given, metadata=_tuple(told), **options)
        if not plan.in_lane:
            return call
        if self._kind == "unary_unary":
            return _CallWithBase(call, lambda: self._again(plan, metadata, given, options))
        call.add_done_callback(lambda _: _mark(self._owner, plan, call))
        return call

    def _again(self, plan: Plan, metadata: Any, given: Any, options: Any) -> Any:
        base, told = self._owner.to_base(plan, metadata)
        return self._on(base)(*given, metadata=_tuple(told), **options)

    def _on(self, plan: Plan) -> Any:
        channel = self._owner.channel_for(plan)
        found = self._known.get(channel)
        if found is None:
            if len(self._known) > _MOST_CHANNELS:
                self._known.clear()
            args, options = self._made_of
            found = self._known[channel] = getattr(channel, self._kind)(*args, **options)
        return found


class _CallWithBase:
    """A call to a lane that becomes one to the base when the lane is not there."""

    def __init__(self, call: Any, again: Callable[[], Any]) -> None:
        self._call = call
        self._again: Callable[[], Any] | None = again

    def __await__(self) -> Any:
        return self._settle().__await__()

    async def _settle(self) -> Any:
        try:
            return await self._call
        except grpc.aio.AioRpcError as error:
            again, self._again = self._again, None
            if again is None or not _not_sent(error.code(), error.details()):
                raise
            self._call = again()
        return await self._call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _mark(owner: AsyncLaneChannel, plan: Plan, call: Any) -> None:
    import asyncio

    async def look() -> None:
        if _not_sent(await call.code(), await call.details()):
            owner.to_base(plan, None)

    task = asyncio.ensure_future(look())
    _looking.add(task)
    task.add_done_callback(_looking.discard)


_looking: set[Any] = set()


def _not_sent(code: grpc.StatusCode, details: str | None) -> bool:
    told = str(details or "")
    return code is grpc.StatusCode.UNAVAILABLE and (
        "failed to connect" in told or "resolution failed" in told
    )


def _tuple(metadata: Any) -> Any:
    return grpc.aio.Metadata(*metadata)


def _plain(target: str, interceptors: Sequence[grpc.aio.ClientInterceptor]) -> grpc.aio.Channel:
    function: Any = getattr(
        grpc.aio.insecure_channel, "lane_router_original", grpc.aio.insecure_channel
    )
    channel: grpc.aio.Channel = function(target, interceptors=interceptors)
    return channel


def _instrumented(original: Function) -> Function:
    def open_channel(target: str, *arguments: Any, **options: Any) -> Any:
        go: Any = original
        egress = active.egress
        if egress is None or not host_and_port(target)[0]:
            return go(target, *arguments, **options)
        return AsyncLaneChannel(
            target,
            egress=egress,
            open_channel=lambda to, _: go(to, *arguments, **options),
        )

    return open_channel


AIO_PATCHES = (
    Patch(grpc.aio, "insecure_channel", _instrumented),
    Patch(grpc.aio, "secure_channel", _instrumented),
)

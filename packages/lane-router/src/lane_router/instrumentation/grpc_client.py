"""gRPC: a channel that decides for each RPC where it goes.

A channel belongs to one target, so a lane has one of its own behind it, opened at its first RPC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import grpc

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import Carriers
from lane_router.routing.egress import Egress, Plan
from lane_router.routing.mesh_hosts import MeshHosts
from lane_router.routing.routing import Routing

from . import active
from .grpc_aio_client import AIO_PATCHES
from .grpc_metadata import host_and_port, marked, planned
from .patching import Function, Patch, Patches

__all__ = ("PATCHES", "LaneChannel", "was_not_sent")

_MOST_CHANNELS = 64

Open = Callable[[str], grpc.Channel]


class LaneChannel(grpc.Channel):
    """A channel to a service; each RPC goes to its lane, or to the base.

    Args:
        target: `host:port` or `dns:///host:port`.
        open_channel: opens a channel to a target; by default `grpc.insecure_channel`.
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
        self._open: Open = open_channel or _untouched(grpc.insecure_channel)
        self._host, self._port = host_and_port(target)
        self._base = self._open(target)
        self._others: dict[str, grpc.Channel] = {}

    def channel_for(self, plan: Plan) -> grpc.Channel:
        """The channel to where the plan says; the one of the target when it leads there anyway."""
        if plan.resolution is None or (plan.host, plan.port) == (self._host, self._port):
            return self._base
        target = f"{plan.host}:{plan.port}"
        channel = self._others.get(target)
        if channel is None:
            while len(self._others) >= _MOST_CHANNELS:
                del self._others[next(iter(self._others))]  # ends with its last RPC
            channel = self._others.setdefault(target, self._open(target))
        return channel

    def plan(self, metadata: Any) -> tuple[Plan, Any]:
        """The plan for one RPC, and its metadata."""
        return planned(self._egress, self._host, self._port, metadata)

    def to_base(self, plan: Plan, metadata: Any) -> tuple[Plan, Any]:
        """The plan after the lane refused, and its metadata."""
        base = self._egress.refused(plan)
        return base, marked(self._egress, base, metadata)

    def mark_unreachable(self, plan: Plan) -> None:
        """The lane refused; who asks next goes elsewhere."""
        self._egress.refused(plan)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """To the state of the base's channel."""
        self._base.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        """From the state of the base's channel."""
        self._base.unsubscribe(callback)

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _Callable(self, "stream_stream", method, args, options)

    def close(self) -> None:
        """Close all channels behind."""
        for channel in (self._base, *self._others.values()):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Callable:
    """One method of a stub, on whichever channel the RPC belongs to."""

    def __init__(self, owner: LaneChannel, kind: str, method: str, args: Any, options: Any) -> None:
        self._owner = owner
        self._kind = kind
        self._made_of = (method, *args), options
        self._known: dict[grpc.Channel, Any] = {}

    def __call__(
        self, request: Any, timeout: Any = None, metadata: Any = None, **options: Any
    ) -> Any:
        return self._go("__call__", request, timeout, metadata, options)

    def with_call(
        self, request: Any, timeout: Any = None, metadata: Any = None, **options: Any
    ) -> Any:
        return self._go("with_call", request, timeout, metadata, options)

    def future(
        self, request: Any, timeout: Any = None, metadata: Any = None, **options: Any
    ) -> Any:
        return self._go("future", request, timeout, metadata, options)

    def _go(self, way: str, request: Any, timeout: Any, metadata: Any, options: Any) -> Any:
        plan, told = self._owner.plan(metadata)
        call = getattr(self._on(plan), way)
        if not plan.in_lane:
            return call(request, timeout, told, **options)
        try:
            answer = call(request, timeout, told, **options)
        except grpc.RpcError as error:
            if not was_not_sent(error):
                raise
            if self._kind != "unary_unary":  # what was to be streamed may be used up
                self._owner.mark_unreachable(plan)
                raise
        else:
            if hasattr(answer, "add_done_callback"):
                answer.add_done_callback(self._look(plan))
            return answer
        base, told = self._owner.to_base(plan, metadata)
        return getattr(self._on(base), way)(request, timeout, told, **options)

    def _on(self, plan: Plan) -> Any:
        channel = self._owner.channel_for(plan)
        found = self._known.get(channel)
        if found is None:
            if len(self._known) > _MOST_CHANNELS:
                self._known.clear()
            args, options = self._made_of
            found = self._known[channel] = getattr(channel, self._kind)(*args, **options)
        return found

    def _look(self, plan: Plan) -> Callable[[Any], None]:
        def look(call: Any) -> None:
            if was_not_sent(call):
                self._owner.mark_unreachable(plan)

        return look


def was_not_sent(call: Any) -> bool:
    """Whether an RPC failed because nobody is there: no connection, or a name that is none."""
    if not hasattr(call, "code") or call.code() is not grpc.StatusCode.UNAVAILABLE:
        return False
    details = str(call.details() or "")
    return "failed to connect" in details or "resolution failed" in details


def _untouched(function: Any) -> Any:
    """The function as it was before it was instrumented."""
    return getattr(function, "lane_router_original", function)


def _instrumented(original: Function) -> Function:
    def open_channel(target: str, *arguments: Any, **options: Any) -> Any:
        go: Any = original
        egress = active.egress
        if egress is None or not host_and_port(target)[0]:
            return go(target, *arguments, **options)
        return LaneChannel(
            target,
            egress=egress,
            open_channel=lambda to: go(to, *arguments, **options),
        )

    return open_channel


PATCHES = Patches(
    Patch(grpc, "insecure_channel", _instrumented),
    Patch(grpc, "secure_channel", _instrumented),
    *AIO_PATCHES,
)

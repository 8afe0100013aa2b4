"""The common part of both gRPC channels: one channel per address behind the one the user has.

A channel of gRPC belongs to one target, so each address that an RPC is routed to gets a channel of
its own, opened by the first RPC that goes there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from lane_router.routing.egress import Egress, Plan

from . import patching
from .grpc_metadata import Metadata, parse_target, plan_rpc, write_lane
from .patching import Function

__all__ = ("ChannelRouter", "RoutedMethod", "is_unsent_rpc", "wrap_channel_function")

ChannelT = TypeVar("ChannelT")

MOST_CHANNELS = 64


class ChannelRouter(Generic[ChannelT]):
    """Chooses the channel and the metadata for each RPC; does no I/O itself.

    Args:
        target: `host:port` or `dns:///host:port`.
        open_channel: opens a channel to a target.
        secure: whether that channel is over TLS, which chooses the port of a target without one.
    """

    def __init__(
        self, target: str, egress: Egress, open_channel: Callable[[str], ChannelT], secure: bool
    ) -> None:
        self._egress = egress
        self._scheme = "grpcs" if secure else "grpc"
        self._open_channel = open_channel
        self._host, self._port = parse_target(target)
        self.base = open_channel(target)
        self._lane_channels: dict[str, ChannelT] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """The addresses that have a channel beside the base's, at most 64."""
        return tuple(self._lane_channels)

    @property
    def channels(self) -> tuple[ChannelT, ...]:
        """All open channels, the base's first."""
        return self.base, *self._lane_channels.values()

    def channel_for(self, plan: Plan) -> ChannelT:
        """The channel to the plan's address: the base's own if it leads there."""
        if plan.resolution is None or (plan.host, plan.port) == (self._host, self._port):
            return self.base
        target = f"{plan.host}:{plan.port}"
        channel = self._lane_channels.get(target)
        if channel is None:
            while len(self._lane_channels) >= MOST_CHANNELS:
                # Not closed: RPCs may be running on it, and it ends with the last of them.
                del self._lane_channels[next(iter(self._lane_channels))]
            # setdefault: another thread may have opened one in the meantime.
            channel = self._lane_channels.setdefault(target, self._open_channel(target))
        return channel

    def plan(self, metadata: Any) -> tuple[Plan, Metadata]:
        """The plan for one RPC, and the metadata to send.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
        """
        return plan_rpc(self._egress, (self._host, self._port, self._scheme), metadata)

    def fall_back(self, plan: Plan, metadata: Any) -> tuple[Plan, Metadata]:
        """The plan after the lane refused, and the metadata to send.

        Raises:
            LaneUnavailableError: the lane's mode is strict.
        """
        plan = self._egress.fall_back(plan)
        return plan, write_lane(self._egress, plan, metadata)

    def mark_unreachable(self, plan: Plan) -> None:
        """Count the lane as absent for a while, after an RPC that cannot be sent again."""
        self._egress.mark_unreachable(plan)


class RoutedMethod(Generic[ChannelT]):
    """One method of a stub, on whichever channel its RPC goes to.

    Args:
        kind: the channel's method that makes the callable, e.g. `unary_unary`.
        method: the name of the RPC, e.g. `/orders.Orders/Get`.
        args: further arguments for the callable, e.g. the serialisers; `options` are its keywords.
    """

    def __init__(
        self, router: ChannelRouter[ChannelT], kind: str, method: str, args: Any, options: Any
    ) -> None:
        self._router = router
        self._kind = kind
        self._arguments = (method, *args), options
        self._callables: dict[ChannelT, Any] = {}

    @property
    def cached_callables(self) -> int:
        """For how many channels a callable is cached, at most 65."""
        return len(self._callables)

    def _callable_for(self, plan: Plan) -> Any:
        channel = self._router.channel_for(plan)
        call = self._callables.get(channel)
        if call is None:
            if len(self._callables) > MOST_CHANNELS:
                self._callables.clear()
            args, options = self._arguments
            call = self._callables[channel] = getattr(channel, self._kind)(*args, **options)
        return call


def is_unsent_rpc(code: object, details: str | None) -> bool:
    """Whether an RPC with this status failed before anything was sent: the host is absent.

    Servers and proxies answer UNAVAILABLE as well. Only these texts of gRPC's core mean that no
    connection was made, or that the name did not resolve.
    """
    text = str(details or "")
    return code is grpc.StatusCode.UNAVAILABLE and (
        "failed to connect" in text or "resolution failed" in text
    )


def wrap_channel_function(
    make_channel: Callable[[str, Egress, Callable[[str], Any], bool], Any],
    *,
    secure: bool,
) -> Callable[[Function], Function]:
    """A patch for `insecure_channel` and the like, which returns `make_channel(...)` instead.

    Args:
        make_channel: called with the target, the egress, what opens a channel of the library, and
            `secure`.
        secure: whether the function that is patched opens channels over TLS.
    """

    def wrap(original: Function) -> Function:
        def open_channel(target: str, *arguments: Any, **options: Any) -> Any:
            egress = patching.active_egress
            if egress is None or not parse_target(target)[0]:
                return original(target, *arguments, **options)
            return make_channel(
                target, egress, lambda to: original(to, *arguments, **options), secure
            )

        return open_channel

    return wrap

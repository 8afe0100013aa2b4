"""The Protocols that connect balancers, policies, lane router and client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .registry import ServiceInstance

__all__ = ("Endpoint", "InstanceFilter", "OutcomeObserver", "RequestContext")


class Endpoint(Protocol):
    """Anything a balancer can choose: `ServiceInstance` is one."""

    @property
    def instance_id(self) -> str:
        """Unique among the endpoints of one balancer."""
        ...

    @property
    def weight(self) -> float:
        """Share of the traffic relative to the other endpoints; with 0 it gets no new calls."""
        ...


class RequestContext(Protocol):
    """The part of a call that an `InstanceFilter` can use."""

    @property
    def service_name(self) -> str:
        """Name of the service that is called."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the request."""
        ...


class InstanceFilter(Protocol):
    """Restricts the instances that a call may use; lane-router has one, the client applies it."""

    def __call__(
        self, instances: Sequence[ServiceInstance], context: RequestContext
    ) -> Sequence[ServiceInstance]:
        """The instances that may serve this call; `instances` itself if all may."""
        ...


class OutcomeObserver(Protocol):
    """Receives the outcome of each attempt: breaker, balancer and outlier stage are observers."""

    def on_outcome(
        self, endpoint: Endpoint, duration_seconds: float, error: BaseException | None
    ) -> None:
        """Receive the outcome of one attempt.

        Args:
            endpoint: where the attempt was made.
            duration_seconds: time it took.
            error: why it failed; None if it succeeded.
        """
        ...

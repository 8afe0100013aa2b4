"""The small Protocols through which balancers, policies, lanes and the client meet."""

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
        """Share of the traffic relative to its siblings; 0 takes no new calls."""
        ...


class RequestContext(Protocol):
    """What a filter may know of the call that needs an instance."""

    @property
    def service_name(self) -> str:
        """The service that is called."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        ...


class InstanceFilter(Protocol):
    """Narrows the instances a call may go to; lane-router has one, the client applies it."""

    def __call__(
        self, instances: Sequence[ServiceInstance], context: RequestContext
    ) -> Sequence[ServiceInstance]:
        """Those that may answer this call; the given sequence itself when all may."""
        ...


class OutcomeObserver(Protocol):
    """Is told how each attempt ended: breaker, balancer and outlier stage are such."""

    def on_outcome(
        self, endpoint: Endpoint, duration_seconds: float, error: BaseException | None
    ) -> None:
        """One attempt on `endpoint` ended after that time, with an error or without."""
        ...

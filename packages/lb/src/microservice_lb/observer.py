"""Observers of balancers: picks, ejections and panics, at no cost where none is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from microservice_core import Endpoint, MissingDependencyError

from .balancer import Balancer, Key
from .node import E
from .stage import Stage

if TYPE_CHECKING:
    from collections.abc import Collection

    from opentelemetry.metrics import Meter

    from .lease import Lease

__all__ = ("BalancerObserver", "ObservedBalancer", "OtelObserver")


class BalancerObserver(Protocol):
    """Called in the thread where the event happens; it must be quick and must not raise."""

    def on_pick(self, endpoint: Endpoint) -> None:
        """`pick` or `acquire` chose this endpoint."""
        ...

    def on_eject(self, endpoint: Endpoint, reason: str) -> None:
        """The endpoint was ejected: it gets no calls for a while.

        Args:
            endpoint: the ejected endpoint.
            reason: `consecutive_errors`, `success_rate` or `failure_percentage`.
        """
        ...

    def on_return(self, endpoint: Endpoint) -> None:
        """The ejection of this endpoint is over."""
        ...

    def on_panic(self, panicking: bool) -> None:
        """A panic began or ended.

        Args:
            panicking: True when too few endpoints are healthy and health is ignored from now on.
        """
        ...


class ObservedBalancer(Stage[E]):
    """A stage that reports every pick of the inner balancer to an observer."""

    __slots__ = ("_observer",)

    def __init__(self, inner: Balancer[E], *, observer: BalancerObserver) -> None:
        super().__init__(inner)
        self._observer = observer

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        endpoint = self._inner.pick(key, exclude)
        self._observer.on_pick(endpoint)
        return endpoint

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        lease = self._inner.acquire(key, exclude)
        self._observer.on_pick(lease.endpoint)
        return lease


class OtelObserver:
    """Counts in OpenTelemetry: `lb.picks`, `lb.ejections` (by reason), `lb.ejected`, `lb.panics`.

    Each carries the attribute `lb.service`; none names an endpoint, whose number is not bounded.

    Args:
        service: the service's name, the value of `lb.service`.
        meter: creates the instruments; by default a meter of the global provider.

    Raises:
        MissingDependencyError: the extra `otel` is not installed.
    """

    def __init__(self, service: str, *, meter: Meter | None = None) -> None:
        try:
            from opentelemetry import metrics
        except ImportError:
            raise MissingDependencyError("OtelObserver", "microservice-lb[otel]") from None
        meter = meter or metrics.get_meter("microservice_lb")
        self._service = {"lb.service": service}
        self._picks = meter.create_counter("lb.picks", unit="{pick}")
        self._ejections = meter.create_counter("lb.ejections", unit="{ejection}")
        self._ejected = meter.create_up_down_counter("lb.ejected", unit="{endpoint}")
        self._panics = meter.create_counter("lb.panics", unit="{panic}")

    def on_pick(self, endpoint: Endpoint) -> None:
        self._picks.add(1, self._service)

    def on_eject(self, endpoint: Endpoint, reason: str) -> None:
        self._ejections.add(1, {**self._service, "lb.reason": reason})
        self._ejected.add(1, self._service)

    def on_return(self, endpoint: Endpoint) -> None:
        self._ejected.add(-1, self._service)

    def on_panic(self, panicking: bool) -> None:
        if panicking:
            self._panics.add(1, self._service)

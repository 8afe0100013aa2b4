"""Being told what balancers do: picks, ejections, panics. Costs nothing where nobody asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from microservice_core import Endpoint, MissingDependencyError

from .balancer import Balancer, E, Key
from .stage import Stage

if TYPE_CHECKING:
    from collections.abc import Collection

    from opentelemetry.metrics import Meter

    from .lease import Lease

__all__ = ("BalancerObserver", "Observed", "OtelObserver")


class BalancerObserver(Protocol):
    """Hears of it in the thread where it happens; it has to be quick, and must not raise."""

    def picked(self, endpoint: Endpoint) -> None:
        """`pick` or `acquire` chose it."""
        ...

    def ejected(self, endpoint: Endpoint, reason: str) -> None:
        """It takes no calls for a while.

        Args:
            endpoint: which.
            reason: `consecutive_errors`, `success_rate` or `failure_percentage`.
        """
        ...

    def returned(self, endpoint: Endpoint) -> None:
        """Its time of ejection is over."""
        ...

    def panicked(self, on: bool) -> None:
        """So few are healthy that health is ignored from now on, or no longer."""
        ...


class Observed(Stage[E]):
    """Tell the observer of every pick that passes."""

    __slots__ = ("_observer",)

    def __init__(self, inner: Balancer[E], *, observer: BalancerObserver) -> None:
        super().__init__(inner)
        self._observer = observer

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        endpoint = self._inner.pick(key, exclude)
        self._observer.picked(endpoint)
        return endpoint

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        lease = self._inner.acquire(key, exclude)
        self._observer.picked(lease.endpoint)
        return lease


class OtelObserver:
    """Counts into OpenTelemetry: `lb.picks`, `lb.ejections` (by reason), `lb.ejected`, `lb.panics`.

    Each carries the attribute `lb.service`; none names an endpoint, of which there is no end.

    Args:
        service: the service's name.
        meter: where to count; by default the global provider's.

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

    def picked(self, endpoint: Endpoint) -> None:
        self._picks.add(1, self._service)

    def ejected(self, endpoint: Endpoint, reason: str) -> None:
        self._ejections.add(1, {**self._service, "lb.reason": reason})
        self._ejected.add(1, self._service)

    def returned(self, endpoint: Endpoint) -> None:
        self._ejected.add(-1, self._service)

    def panicked(self, on: bool) -> None:
        if on:
            self._panics.add(1, self._service)

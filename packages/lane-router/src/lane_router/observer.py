"""Counting resolutions and dropped lanes; free of cost where no observer is passed in."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, Protocol

from microservice_core import MissingDependencyError

from .resolution import Outcome

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ("DropReason", "LaneCounts", "LaneObserver", "OtelLaneObserver")

DropReason = Literal["invalid", "duplicate", "conflict", "refused"]

_MOST = 200


class LaneObserver(Protocol):
    """Called in the thread that routes or receives the request: must be quick and not raise."""

    def on_resolution(self, service: str, lane: str | None, outcome: Outcome) -> None:
        """A service was resolved for this lane; None = for no lane."""
        ...

    def on_drop(self, reason: DropReason) -> None:
        """The lane of an incoming request was not accepted."""
        ...


class _BoundedLabel:
    """Keeps the first `most` values and replaces others by `other`: clients can send anything."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._values:
            return value
        if len(self._values) >= self._most:
            return "other"
        self._values.add(value)
        return value


class LaneCounts:
    """Counts in memory, for a status page or a test.

    Services and lanes beyond the first `most` of each are counted as `other`.

    Attributes:
        resolutions: how often each (service, lane or "", outcome) occurred; hosts outside the mesh
            are counted as service `foreign`.
        drops: how often each drop reason occurred.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        self.resolutions: Counter[tuple[str, str, Outcome]] = Counter()
        self.drops: Counter[DropReason] = Counter()
        self._service, self._lane = _BoundedLabel(most), _BoundedLabel(most)

    def on_resolution(self, service: str, lane: str | None, outcome: Outcome) -> None:
        """Count a resolution."""
        service = "foreign" if outcome == "foreign" else self._service(service)
        self.resolutions[service, self._lane(lane or ""), outcome] += 1

    def on_drop(self, reason: DropReason) -> None:
        """Count a dropped lane."""
        self.drops[reason] += 1


class OtelLaneObserver:
    """Counts into OpenTelemetry: `lane.resolve` by service, lane and outcome; `lane.dropped`.

    Services and lanes beyond the first `most` of each are counted as `other`.

    Args:
        meter: where to count; by default a meter of the global provider.

    Raises:
        MissingDependencyError: the extra `otel` is not installed.
    """

    def __init__(self, *, meter: Meter | None = None, most: int = _MOST) -> None:
        try:
            from opentelemetry import metrics
        except ImportError:
            raise MissingDependencyError("OtelLaneObserver", "lane-router[otel]") from None
        meter = meter or metrics.get_meter("lane_router")
        self._resolutions = meter.create_counter("lane.resolve", unit="{resolution}")
        self._drops = meter.create_counter("lane.dropped", unit="{request}")
        self._service, self._lane = _BoundedLabel(most), _BoundedLabel(most)

    def on_resolution(self, service: str, lane: str | None, outcome: Outcome) -> None:
        """Count a resolution."""
        attributes = {
            "lane.service": "foreign" if outcome == "foreign" else self._service(service),
            "lane.name": self._lane(lane or ""),
            "lane.outcome": outcome,
        }
        self._resolutions.add(1, attributes)

    def on_drop(self, reason: DropReason) -> None:
        """Count a dropped lane."""
        self._drops.add(1, {"lane.reason": reason})

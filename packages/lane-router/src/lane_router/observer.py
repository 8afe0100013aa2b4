"""Being told how lanes were resolved and what was dropped. Costs nothing where nobody asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, Protocol

from microservice_core import MissingDependencyError

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from .resolution import Outcome

__all__ = ("Dropped", "LaneCounts", "LaneObserver", "OtelLaneObserver")

Dropped = Literal["invalid", "duplicate", "conflict", "refused"]

_MOST = 200


class LaneObserver(Protocol):
    """Hears of it in the thread where it happens; it has to be quick, and must not raise."""

    def resolved(self, service: str, lane: str | None, outcome: Outcome) -> None:
        """A service was looked for, by a lane or without one."""
        ...

    def dropped(self, reason: Dropped) -> None:
        """What an incoming request said about its lane was not believed."""
        ...


class _Bounded:
    """The first `most` values as they are, `other` for the rest: what clients send has no end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return "other"
        self._seen.add(value)
        return value


class LaneCounts:
    """Counts in memory, for a page of one's own or a test.

    Attributes:
        resolved_by: how often, by (service, lane or "", outcome); strangers are `foreign`.
        dropped_by: how often, by reason.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        self.resolved_by: Counter[tuple[str, str, Outcome]] = Counter()
        self.dropped_by: Counter[Dropped] = Counter()
        self._service, self._lane = _Bounded(most), _Bounded(most)

    def resolved(self, service: str, lane: str | None, outcome: Outcome) -> None:
        """Count it."""
        service = "foreign" if outcome == "foreign" else self._service(service)
        self.resolved_by[service, self._lane(lane or ""), outcome] += 1

    def dropped(self, reason: Dropped) -> None:
        """Count it."""
        self.dropped_by[reason] += 1


class OtelLaneObserver:
    """Counts into OpenTelemetry: `lane.resolve` by service, lane and outcome; `lane.dropped`.

    Services and lanes beyond the first `most` of each are counted as `other`.

    Args:
        meter: where to count; by default the global provider's.

    Raises:
        MissingDependencyError: the extra `otel` is not installed.
    """

    def __init__(self, *, meter: Meter | None = None, most: int = _MOST) -> None:
        try:
            from opentelemetry import metrics
        except ImportError:
            raise MissingDependencyError("OtelLaneObserver", "lane-router[otel]") from None
        meter = meter or metrics.get_meter("lane_router")
        self._resolve = meter.create_counter("lane.resolve", unit="{resolution}")
        self._dropped = meter.create_counter("lane.dropped", unit="{request}")
        self._service, self._lane = _Bounded(most), _Bounded(most)

    def resolved(self, service: str, lane: str | None, outcome: Outcome) -> None:
        """Count it."""
        attributes = {
            "lane.service": "foreign" if outcome == "foreign" else self._service(service),
            "lane.name": self._lane(lane or ""),
            "lane.outcome": outcome,
        }
        self._resolve.add(1, attributes)

    def dropped(self, reason: Dropped) -> None:
        """Count it."""
        self._dropped.add(1, {"lane.reason": reason})

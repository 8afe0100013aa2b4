"""Where a service is reached for a lane, and how that was decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ("Decision", "Outcome", "Resolution")

# Each is a row of the table in `routing/lane_fallback.py`.
Outcome = Literal[
    "base",
    "lane",
    "base_fallback",
    "lane_stale",
    "base_stale",
    "base_no_table",
    "strict_miss",
    "foreign",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """The row of the fallback table that applies to one lookup, and why.

    Attributes:
        outcome: the row.
        service: the service's name; for a foreign host, the host as passed in.
        host: the host to connect to.
        port: 0 = the port that the caller named.
        lane: the lane to pass on to the next hop; None = no lane.
        reason: why this row applies, as text for an operator.
    """

    outcome: Outcome
    service: str
    host: str
    port: int
    lane: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where to send a request; equal lookups share one object.

    Attributes:
        url: `http://host:port`, without a slash at the end; its scheme is the one asked for.
        host: the host name as published; for a foreign host, as passed in.
        port: the port on that host; lane and base may differ in it.
        lane: the lane to pass on to the next hop; None = no lane.
        outcome: the row of the fallback table that applied.
        service: the service's name.
        synced_at: when the registry last confirmed the table, on the router's monotonic clock in
            seconds; None = never.
    """

    url: str
    host: str
    port: int
    lane: str | None
    outcome: Outcome
    service: str
    synced_at: float | None
    clock: Callable[[], float] = field(repr=False, compare=False)

    @property
    def age_seconds(self) -> float:
        """Seconds since the registry last confirmed the table; infinite without a table."""
        return float("inf") if self.synced_at is None else max(0.0, self.clock() - self.synced_at)

    @property
    def in_mesh(self) -> bool:
        """Whether the host belongs to the mesh, so that the lane may be passed on to it."""
        return self.outcome != "foreign"

    @property
    def in_lane(self) -> bool:
        """Whether the lane's own copy of the service is reached."""
        return self.outcome in {"lane", "lane_stale"}

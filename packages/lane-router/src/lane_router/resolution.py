"""Where a service is reached for a lane, and how that was decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ("Decision", "Outcome", "Resolution")

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
    """One row of the truth table, applied.

    Attributes:
        outcome: the row.
        service: the service's name; the host as given for a stranger.
        host: where to go.
        port: 0 = as the caller said.
        lane: the lane to tell the next hop; None = tell it nothing.
        reason: why, for people.
    """

    outcome: Outcome
    service: str
    host: str
    port: int
    lane: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where to go; shared by all who ask the same.

    Attributes:
        url: `http://host:port`, without a slash at the end.
        host: the name as published; for a stranger, as given.
        port: of that host; lane and base may differ in it.
        lane: what the next hop has to be told; None = nothing.
        outcome: which row of the truth table it was.
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
        """How long ago the table was last known to be right; infinite without one."""
        return float("inf") if self.synced_at is None else max(0.0, self.clock() - self.synced_at)

    @property
    def in_mesh(self) -> bool:
        """Whether the host may be told the lane."""
        return self.outcome != "foreign"

    @property
    def in_lane(self) -> bool:
        """Whether it is the lane's own copy that is reached."""
        return self.outcome in {"lane", "lane_stale"}

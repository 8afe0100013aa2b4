"""What a client holds for a service, for status pages, alerts and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ("ServiceStats",)


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """What a client holds for one service at one moment.

    Bounded by the number of the service's instances. Mappings have instance ids as keys.

    Attributes:
        active_calls: attempts in flight on each instance, streamed bodies included.
        breaker_states: state of the circuit breaker of each instance that was called.
        cooling_seconds: remaining time in which an instance asked for no calls (`Retry-After`).
        connection_pools: base URLs of the instances with an open pool of connections.
        cached_policies: retries and hedges kept for the policies of single calls; 128 at most.
    """

    active_calls: Mapping[str, int]
    breaker_states: Mapping[str, str]
    cooling_seconds: Mapping[str, float]
    connection_pools: tuple[str, ...]
    cached_policies: int

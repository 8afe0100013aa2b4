"""Policies by name for an application's own functions."""

from __future__ import annotations

import threading

from microservice_governance import BreakerConfig, CircuitBreaker

__all__ = ("circuit_breaker",)

_breakers: dict[str, CircuitBreaker] = {}
_lock = threading.Lock()


def circuit_breaker(name: str, config: BreakerConfig | None = None) -> CircuitBreaker:
    """The breaker of that name, one per process: `@circuit_breaker("payments")`.

    Functions that share a name share a breaker. `config` counts where the name is used first.
    """
    with _lock:
        found = _breakers.get(name)
        if found is None:
            found = _breakers[name] = CircuitBreaker(name, config)
        return found

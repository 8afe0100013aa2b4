"""The circuit breakers of `@circuit_breaker`, by name.

Apart from `decorators`, so that the status page can list them in an application that has none
without importing the policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microservice_governance import CircuitBreaker

__all__ = ("add_breaker", "breaker_states")

_breakers: dict[str, CircuitBreaker] = {}


def add_breaker(name: str, breaker: CircuitBreaker) -> None:
    """Declare a breaker; the caller bounds how many there are."""
    _breakers[name] = breaker


def breaker_states() -> dict[str, str]:
    """Return the state of each declared breaker, by name."""
    return {name: str(breaker.current_state) for name, breaker in tuple(_breakers.items())}

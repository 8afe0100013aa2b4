"""Policies and configuration by name for an application's own functions and classes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from microservice_governance import BreakerConfig, CircuitBreaker

__all__ = ("circuit_breaker", "config_properties")

PartT = TypeVar("PartT", bound=BaseModel)

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


def config_properties(prefix: str) -> Callable[[type[PartT]], type[PartT]]:
    """Say under which key of the configuration a model's fields lie.

    `@config_properties(prefix="db")` on a model; `services.config.properties(Db)` is then that part
    of the configuration, validated, and of now each time it is asked for.
    """

    def mark(model: type[PartT]) -> type[PartT]:
        model.__config_prefix__ = prefix  # type: ignore[attr-defined] # read by ConfigService
        return model

    return mark

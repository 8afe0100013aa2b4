"""The application side of the microservice toolkit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .asgi import Microservice
from .config_service import ConfigService
from .errors import InvalidConfigError, NotEnabledError
from .module import MicroserviceModule
from .services import Services
from .settings import MicroserviceSettings

if TYPE_CHECKING:
    from .decorators import circuit_breaker
    from .tracing import TracingMiddleware

__all__ = (
    "ConfigService",
    "InvalidConfigError",
    "Microservice",
    "MicroserviceModule",
    "MicroserviceSettings",
    "NotEnabledError",
    "Services",
    "TracingMiddleware",
    "circuit_breaker",
)

# What is not used is not imported.
_LAZY = {"TracingMiddleware": ".tracing", "circuit_breaker": ".decorators"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The application side of the microservice toolkit."""

from __future__ import annotations

from .asgi import Microservice
from .config_service import ConfigService
from .errors import InvalidConfigError, NotEnabledError
from .module import MicroserviceModule
from .services import Services
from .settings import MicroserviceSettings

__all__ = (
    "ConfigService",
    "InvalidConfigError",
    "Microservice",
    "MicroserviceModule",
    "MicroserviceSettings",
    "NotEnabledError",
    "Services",
)

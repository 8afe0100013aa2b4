"""The application side of the microservice toolkit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .asgi import Microservice
from .config_service import ConfigService
from .config_version import ConfigChange, ConfigVersion, KeyChange
from .declared_services import service_registry
from .errors import ConfigRestoreError, InvalidConfigError, NotEnabledError
from .health import Health
from .module import MicroserviceModule
from .open_modules import current_services
from .services import Services
from .settings import MicroserviceSettings

if TYPE_CHECKING:
    from .config_value import ConfigCenterValue, NacosValue
    from .decorators import circuit_breaker, config_properties
    from .encryption import ConfigEncryption, DecryptionError
    from .log_lines import JsonFormatter, json_logs
    from .settings_source import config_center_source
    from .telemetry_setup import Telemetry, setup_telemetry
    from .tracing import TracingMiddleware

__all__ = (
    "ConfigCenterValue",
    "ConfigChange",
    "ConfigEncryption",
    "ConfigRestoreError",
    "ConfigService",
    "ConfigVersion",
    "DecryptionError",
    "Health",
    "InvalidConfigError",
    "JsonFormatter",
    "KeyChange",
    "Microservice",
    "MicroserviceModule",
    "MicroserviceSettings",
    "NacosValue",
    "NotEnabledError",
    "Services",
    "Telemetry",
    "TracingMiddleware",
    "circuit_breaker",
    "config_center_source",
    "config_properties",
    "current_services",
    "json_logs",
    "service_registry",
    "setup_telemetry",
)

# What is not used is not imported.
_LAZY = {
    "ConfigCenterValue": ".config_value",
    "ConfigEncryption": ".encryption",
    "DecryptionError": ".encryption",
    "JsonFormatter": ".log_lines",
    "NacosValue": ".config_value",
    "Telemetry": ".telemetry_setup",
    "TracingMiddleware": ".tracing",
    "circuit_breaker": ".decorators",
    "config_center_source": ".settings_source",
    "config_properties": ".decorators",
    "json_logs": ".log_lines",
    "setup_telemetry": ".telemetry_setup",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

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
from .part_modules import ConfigCenterModule, ServiceRegistryModule
from .services import Services
from .settings import MicroserviceSettings
from .sync_services import SyncServices

if TYPE_CHECKING:
    from .config_value import ConfigCenterValue, NacosValue
    from .decorators import circuit_breaker, config_properties, governed, rate_limited, retry
    from .encryption import ConfigEncryption, DecryptionError
    from .log_lines import JsonFormatter, json_logs
    from .service_discovery import ServiceDiscovery
    from .settings_source import config_center_source
    from .telemetry_setup import Telemetry, setup_telemetry
    from .tracing import TracingMiddleware

__all__ = (
    "ConfigCenterModule",
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
    "ServiceDiscovery",
    "ServiceRegistryModule",
    "Services",
    "SyncServices",
    "Telemetry",
    "TracingMiddleware",
    "circuit_breaker",
    "config_center_source",
    "config_properties",
    "current_services",
    "governed",
    "json_logs",
    "rate_limited",
    "retry",
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
    "ServiceDiscovery": ".service_discovery",
    "Telemetry": ".telemetry_setup",
    "TracingMiddleware": ".tracing",
    "circuit_breaker": ".decorators",
    "config_center_source": ".settings_source",
    "config_properties": ".decorators",
    "governed": ".decorators",
    "json_logs": ".log_lines",
    "rate_limited": ".decorators",
    "retry": ".decorators",
    "setup_telemetry": ".telemetry_setup",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

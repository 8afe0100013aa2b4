"""The application side of the microservice toolkit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .config.service import ConfigService
from .config.versions import ConfigChange, ConfigVersion, KeyChange
from .current import current_services
from .errors import ConfigRestoreError, InvalidConfigError, NotEnabledError
from .health.checks import Health
from .module import MicroserviceModule
from .part_modules import ConfigCenterModule, ServiceRegistryModule
from .registration.declared_services import service_registry
from .services import Services
from .settings import MicroserviceSettings
from .sync_services import SyncServices
from .web.asgi import Microservice

if TYPE_CHECKING:
    from .calls.service_discovery import ServiceDiscovery
    from .config.encryption import ConfigEncryption, DecryptionError
    from .config.settings_source import config_center_source
    from .config.values import ConfigCenterValue, NacosValue
    from .decorators import circuit_breaker, config_properties, governed, rate_limited, retry
    from .telemetry.json_logs import JsonFormatter, json_logs
    from .telemetry.setup import Telemetry, setup_telemetry
    from .telemetry.tracing import TracingMiddleware

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
    "ConfigCenterValue": ".config.values",
    "ConfigEncryption": ".config.encryption",
    "DecryptionError": ".config.encryption",
    "JsonFormatter": ".telemetry.json_logs",
    "NacosValue": ".config.values",
    "ServiceDiscovery": ".calls.service_discovery",
    "Telemetry": ".telemetry.setup",
    "TracingMiddleware": ".telemetry.tracing",
    "circuit_breaker": ".decorators",
    "config_center_source": ".config.settings_source",
    "config_properties": ".decorators",
    "governed": ".decorators",
    "json_logs": ".telemetry.json_logs",
    "rate_limited": ".decorators",
    "retry": ".decorators",
    "setup_telemetry": ".telemetry.setup",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

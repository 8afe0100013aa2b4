"""The application side of the toolkit: configuration, registration, calls, health, ASGI."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .config.service import ConfigService
from .config.versions import ConfigChange, ConfigVersion, KeyChange
from .context.current import current_module, use_module
from .errors import ConfigRestoreError, InvalidConfigError, NotEnabledError
from .health.checks import Health
from .module import MicroserviceModule
from .open_module import OpenModule
from .part_modules import ConfigCenterModule, ServiceRegistryModule
from .registration.declared_services import service_registry
from .settings import MicroserviceSettings
from .sync_open_module import SyncOpenModule
from .web.asgi import Microservice

if TYPE_CHECKING:
    from .config.encryption import ConfigEncryption, DecryptionError
    from .context.decorators import (
        circuit_breaker,
        config_properties,
        governed,
        rate_limited,
        retry,
    )
    from .context.service_discovery import ServiceDiscovery
    from .context.settings_source import config_center_source
    from .context.shared_limits import RequestLimitedError, redis_rate_limited
    from .context.values import ConfigCenterValue, NacosValue
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
    "OpenModule",
    "RequestLimitedError",
    "ServiceDiscovery",
    "ServiceRegistryModule",
    "SyncOpenModule",
    "Telemetry",
    "TracingMiddleware",
    "circuit_breaker",
    "config_center_source",
    "config_properties",
    "current_module",
    "governed",
    "json_logs",
    "rate_limited",
    "redis_rate_limited",
    "retry",
    "service_registry",
    "setup_telemetry",
    "use_module",
)

# Imported when first used: an application pays only for what it uses.
_LAZY = {
    "ConfigCenterValue": ".context.values",
    "ConfigEncryption": ".config.encryption",
    "DecryptionError": ".config.encryption",
    "JsonFormatter": ".telemetry.json_logs",
    "NacosValue": ".context.values",
    "RequestLimitedError": ".context.shared_limits",
    "ServiceDiscovery": ".context.service_discovery",
    "Telemetry": ".telemetry.setup",
    "TracingMiddleware": ".telemetry.tracing",
    "circuit_breaker": ".context.decorators",
    "config_center_source": ".context.settings_source",
    "config_properties": ".context.decorators",
    "governed": ".context.decorators",
    "json_logs": ".telemetry.json_logs",
    "rate_limited": ".context.decorators",
    "redis_rate_limited": ".context.shared_limits",
    "retry": ".context.decorators",
    "setup_telemetry": ".telemetry.setup",
}


if not TYPE_CHECKING:
    # Hidden from type checkers, which would take any misspelt name for an `object`.
    def __getattr__(name: str) -> object:
        if name in _LAZY:
            return getattr(import_module(_LAZY[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

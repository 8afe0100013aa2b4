"""Ports, value types, errors and provider look-up of the microservice toolkit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .config import (
    ConfigCenter,
    ConfigDeleted,
    ConfigHistory,
    ConfigListener,
    ConfigPublisher,
    ConfigResult,
    ConfigVersion,
    content_type_of,
    md5_of,
)
from .errors import (
    ConfigCenterAccessDeniedError,
    ConfigCenterError,
    ConfigCenterUnavailableError,
    ConfigConflictError,
    ConfigNotFoundError,
    InstanceNotFoundError,
    InvalidValueError,
    MicroserviceError,
    MissingDependencyError,
    NoInstanceAvailableError,
    ProviderError,
    ProviderNotFoundError,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryError,
    ServiceRegistryUnavailableError,
)
from .metadata import Metadata
from .registry import (
    InstanceQuery,
    InstancesListener,
    RegistrationHandover,
    ServerAddressed,
    ServiceCatalog,
    ServiceInstance,
    ServiceRegistry,
    Unsubscribe,
)
from .selection import Endpoint, InstanceFilter, OutcomeObserver, RequestContext

if TYPE_CHECKING:
    from .delivery import Delivery
    from .file import FileConfigCenter
    from .loop_thread import LoopThread, LoopThreadError
    from .memory import InMemoryConfigCenter, InMemoryServiceRegistry
    from .providers import (
        ConfigCenterProvider,
        ServiceRegistryProvider,
        find_provider,
        open_config_center,
        open_service_registry,
    )

__all__ = (
    "ConfigCenter",
    "ConfigCenterAccessDeniedError",
    "ConfigCenterError",
    "ConfigCenterProvider",
    "ConfigCenterUnavailableError",
    "ConfigConflictError",
    "ConfigDeleted",
    "ConfigHistory",
    "ConfigListener",
    "ConfigNotFoundError",
    "ConfigPublisher",
    "ConfigResult",
    "ConfigVersion",
    "Delivery",
    "Endpoint",
    "FileConfigCenter",
    "InMemoryConfigCenter",
    "InMemoryServiceRegistry",
    "InstanceFilter",
    "InstanceNotFoundError",
    "InstanceQuery",
    "InstancesListener",
    "InvalidValueError",
    "LoopThread",
    "LoopThreadError",
    "Metadata",
    "MicroserviceError",
    "MissingDependencyError",
    "NoInstanceAvailableError",
    "OutcomeObserver",
    "ProviderError",
    "ProviderNotFoundError",
    "RegistrationHandover",
    "RequestContext",
    "ServerAddressed",
    "ServiceCatalog",
    "ServiceInstance",
    "ServiceRegistry",
    "ServiceRegistryAccessDeniedError",
    "ServiceRegistryError",
    "ServiceRegistryProvider",
    "ServiceRegistryUnavailableError",
    "Unsubscribe",
    "content_type_of",
    "find_provider",
    "md5_of",
    "open_config_center",
    "open_service_registry",
)

# Loaded when first used: importing the ports costs a reader nothing but the ports.
_LAZY = {
    "Delivery": ".delivery",
    "FileConfigCenter": ".file",
    "LoopThread": ".loop_thread",
    "LoopThreadError": ".loop_thread",
    "InMemoryConfigCenter": ".memory",
    "InMemoryServiceRegistry": ".memory",
    "ConfigCenterProvider": ".providers",
    "ServiceRegistryProvider": ".providers",
    "find_provider": ".providers",
    "open_config_center": ".providers",
    "open_service_registry": ".providers",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

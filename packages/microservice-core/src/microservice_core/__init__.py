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
    DocumentError,
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
    from ._after_fork import call_after_fork, reseed_after_fork, run_after_fork
    from ._backoff import Jitter, backoff_seconds, jittered
    from ._documents import DocumentFormat, parse_document
    from ._loop_wind_up import cancel_all_tasks
    from ._retry_after import parse_retry_after
    from ._supervision import TaskSupervisor
    from .delivery import Delivery, Watchers
    from .file import FileConfigCenter
    from .loop_thread import LoopThread, LoopThreadError
    from .memory import InMemoryConfigCenter, InMemoryServiceRegistry
    from .providers import (
        ConfigCenterProvider,
        ServiceRegistryProvider,
        find_provider,
        open_config_center,
        open_service_registry,
        refuse_unknown_settings,
    )
    from .spelling import find_nearest_name, warn_about_unknown_variables

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
    "DocumentError",
    "DocumentFormat",
    "Endpoint",
    "FileConfigCenter",
    "InMemoryConfigCenter",
    "InMemoryServiceRegistry",
    "InstanceFilter",
    "InstanceNotFoundError",
    "InstanceQuery",
    "InstancesListener",
    "InvalidValueError",
    "Jitter",
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
    "TaskSupervisor",
    "Unsubscribe",
    "Watchers",
    "backoff_seconds",
    "call_after_fork",
    "cancel_all_tasks",
    "content_type_of",
    "find_nearest_name",
    "find_provider",
    "jittered",
    "md5_of",
    "open_config_center",
    "open_service_registry",
    "parse_document",
    "parse_retry_after",
    "refuse_unknown_settings",
    "reseed_after_fork",
    "run_after_fork",
    "warn_about_unknown_variables",
)

# Loaded when first used: importing the ports costs a reader nothing but the ports.
_LAZY = {
    "call_after_fork": "._after_fork",
    "reseed_after_fork": "._after_fork",
    "run_after_fork": "._after_fork",
    "Jitter": "._backoff",
    "backoff_seconds": "._backoff",
    "jittered": "._backoff",
    "DocumentFormat": "._documents",
    "parse_document": "._documents",
    "cancel_all_tasks": "._loop_wind_up",
    "parse_retry_after": "._retry_after",
    "TaskSupervisor": "._supervision",
    "Delivery": ".delivery",
    "Watchers": ".delivery",
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
    "refuse_unknown_settings": ".providers",
    "find_nearest_name": ".spelling",
    "warn_about_unknown_variables": ".spelling",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""nacos-client's errors in the words of the ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from microservice_core import (
    ConfigCenterAccessDeniedError,
    ConfigCenterError,
    ConfigCenterUnavailableError,
    ConfigConflictError,
    ConfigNotFoundError,
    InstanceNotFoundError,
    InvalidValueError,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryError,
    ServiceRegistryUnavailableError,
)
from nacos_client import (
    AuthenticationError,
    ConfigNotFound,
    ConflictError,
    InstanceNotFound,
    InvalidArgumentError,
    NacosError,
    PermissionDeniedError,
    ServerError,
    ServerUnavailableError,
)

__all__ = ("as_config_errors", "as_invalid_values", "as_registry_errors")

PROVIDER = "nacos"

_CONFIG: tuple[tuple[type[NacosError], type[ConfigCenterError]], ...] = (
    (ConfigNotFound, ConfigNotFoundError),
    (ConflictError, ConfigConflictError),
    (AuthenticationError, ConfigCenterAccessDeniedError),
    (PermissionDeniedError, ConfigCenterAccessDeniedError),
    (ServerUnavailableError, ConfigCenterUnavailableError),
    (ServerError, ConfigCenterUnavailableError),
    (NacosError, ConfigCenterError),
)
_REGISTRY: tuple[tuple[type[NacosError], type[ServiceRegistryError]], ...] = (
    (InstanceNotFound, InstanceNotFoundError),
    (AuthenticationError, ServiceRegistryAccessDeniedError),
    (PermissionDeniedError, ServiceRegistryAccessDeniedError),
    (ServerUnavailableError, ServiceRegistryUnavailableError),
    (ServerError, ServiceRegistryUnavailableError),
    (NacosError, ServiceRegistryError),
)


@contextmanager
def as_invalid_values() -> Iterator[None]:
    """A value nacos-client refuses is one of the toolkit's `InvalidValueError`s."""
    try:
        yield
    except InvalidArgumentError as error:
        raise InvalidValueError(error.field, error.value, error.rule) from error


@contextmanager
def as_config_errors(operation: str, target: str) -> Iterator[None]:
    """Raise what nacos-client raises as a `ConfigCenterError`, the cause chained."""
    try:
        with as_invalid_values():
            yield
    except NacosError as error:
        kind = next(ours for theirs, ours in _CONFIG if isinstance(error, theirs))
        raise kind(
            str(error),
            provider=PROVIDER,
            operation=operation,
            target=target,
            retryable=error.retryable,
        ) from error


@contextmanager
def as_registry_errors(operation: str, target: str) -> Iterator[None]:
    """Raise what nacos-client raises as a `ServiceRegistryError`, the cause chained."""
    try:
        with as_invalid_values():
            yield
    except NacosError as error:
        kind = next(ours for theirs, ours in _REGISTRY if isinstance(error, theirs))
        raise kind(
            str(error),
            provider=PROVIDER,
            operation=operation,
            target=target,
            retryable=error.retryable,
        ) from error

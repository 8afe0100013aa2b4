"""Translates nacos-client's errors into those of the ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from microservice_core import (
    ConfigCenterAccessDeniedError,
    ConfigCenterError,
    ConfigCenterUnavailableError,
    ConfigConflictError,
    ConfigNotFoundError,
    InstanceNotFoundError,
    InvalidValueError,
    ProviderError,
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

__all__ = ("translate_config_errors", "translate_invalid_values", "translate_registry_errors")

_PROVIDER = "nacos"

ErrorTable = Sequence[tuple[type[NacosError], type[ProviderError]]]

# The first match counts: subclasses stand before their bases.
_CONFIG_ERRORS: ErrorTable = (
    (ConfigNotFound, ConfigNotFoundError),
    (ConflictError, ConfigConflictError),
    (AuthenticationError, ConfigCenterAccessDeniedError),
    (PermissionDeniedError, ConfigCenterAccessDeniedError),
    (ServerUnavailableError, ConfigCenterUnavailableError),
    (ServerError, ConfigCenterUnavailableError),
    (NacosError, ConfigCenterError),
)
_REGISTRY_ERRORS: ErrorTable = (
    (InstanceNotFound, InstanceNotFoundError),
    (AuthenticationError, ServiceRegistryAccessDeniedError),
    (PermissionDeniedError, ServiceRegistryAccessDeniedError),
    (ServerUnavailableError, ServiceRegistryUnavailableError),
    (ServerError, ServiceRegistryUnavailableError),
    (NacosError, ServiceRegistryError),
)


@contextmanager
def translate_invalid_values() -> Iterator[None]:
    """Raise a value that nacos-client refuses as the toolkit's `InvalidValueError`."""
    try:
        yield
    except InvalidArgumentError as error:
        raise InvalidValueError(error.field, error.value, error.rule) from error


def translate_config_errors(operation: str, target: str) -> AbstractContextManager[None]:
    """Raise an error of nacos-client as a `ConfigCenterError`, with its cause."""
    return _translate(_CONFIG_ERRORS, operation, target)


def translate_registry_errors(operation: str, target: str) -> AbstractContextManager[None]:
    """Raise an error of nacos-client as a `ServiceRegistryError`, with its cause."""
    return _translate(_REGISTRY_ERRORS, operation, target)


@contextmanager
def _translate(table: ErrorTable, operation: str, target: str) -> Iterator[None]:
    try:
        with translate_invalid_values():
            yield
    except NacosError as error:
        port_error = next(
            core_type for nacos_type, core_type in table if isinstance(error, nacos_type)
        )
        raise port_error(
            str(error),
            provider=_PROVIDER,
            operation=operation,
            target=target,
            retryable=error.retryable,
        ) from error

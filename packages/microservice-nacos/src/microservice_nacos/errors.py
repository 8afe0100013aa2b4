"""nacos-client's errors in the words of the ports."""

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

__all__ = ("as_config_errors", "as_invalid_values", "as_registry_errors")

PROVIDER = "nacos"

Kinds = Sequence[tuple[type[NacosError], type[ProviderError]]]

# The first that fits counts: the special before the general.
_CONFIG: Kinds = (
    (ConfigNotFound, ConfigNotFoundError),
    (ConflictError, ConfigConflictError),
    (AuthenticationError, ConfigCenterAccessDeniedError),
    (PermissionDeniedError, ConfigCenterAccessDeniedError),
    (ServerUnavailableError, ConfigCenterUnavailableError),
    (ServerError, ConfigCenterUnavailableError),
    (NacosError, ConfigCenterError),
)
_REGISTRY: Kinds = (
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


def as_config_errors(operation: str, target: str) -> AbstractContextManager[None]:
    """Raise what nacos-client raises as a `ConfigCenterError`, the cause chained."""
    return _translated(_CONFIG, operation, target)


def as_registry_errors(operation: str, target: str) -> AbstractContextManager[None]:
    """Raise what nacos-client raises as a `ServiceRegistryError`, the cause chained."""
    return _translated(_REGISTRY, operation, target)


@contextmanager
def _translated(kinds: Kinds, operation: str, target: str) -> Iterator[None]:
    try:
        with as_invalid_values():
            yield
    except NacosError as error:
        kind = next(ours for theirs, ours in kinds if isinstance(error, theirs))
        raise kind(
            str(error),
            provider=PROVIDER,
            operation=operation,
            target=target,
            retryable=error.retryable,
        ) from error

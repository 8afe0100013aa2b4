"""Translates the engine's exceptions. REPLACE `OSError` by what your engine raises.

What matters to users: `retryable` errors are retried by policy (`on_registry_unavailable`), the
others end the start-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from microservice_core import (
    InstanceNotFoundError,
    ServiceInstance,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryUnavailableError,
)

__all__ = (
    "PROVIDER",
    "create_not_registered_error",
    "describe_instance",
    "translate_engine_errors",
)

PROVIDER = "json-folder"


@contextmanager
def translate_engine_errors(operation: str, target: str) -> Iterator[None]:
    """Translate what the engine raises inside the block."""
    try:
        yield
    except PermissionError as error:
        raise ServiceRegistryAccessDeniedError(
            f"the folder may not be used ({error.strerror}); give this process access to it",
            provider=PROVIDER,
            operation=operation,
            target=target,
        ) from error
    except OSError as error:
        raise ServiceRegistryUnavailableError(
            f"the folder cannot be used ({error}); mount it, or check the setting `folder`",
            provider=PROVIDER,
            operation=operation,
            target=target,
            retryable=True,
        ) from error


def create_not_registered_error(instance: ServiceInstance) -> InstanceNotFoundError:
    """Create the error for renewing an instance that is not registered."""
    return InstanceNotFoundError(
        "the instance is not registered (any more); register it again",
        provider=PROVIDER,
        operation="renew",
        target=describe_instance(instance),
    )


def describe_instance(instance: ServiceInstance) -> str:
    """Name an instance in an error."""
    return f"{instance.service_name} {instance.instance_id}"

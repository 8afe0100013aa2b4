"""The engine's exceptions as the toolkit's. REPLACE `OSError` by what your engine raises.

What matters to users: `retryable` errors are tried again by policy (`on_registry_unavailable`), the
others end the start.
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

__all__ = ("PROVIDER", "as_registry_errors", "not_registered", "target_of")

PROVIDER = "json-folder"


@contextmanager
def as_registry_errors(operation: str, target: str) -> Iterator[None]:
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


def not_registered(instance: ServiceInstance) -> InstanceNotFoundError:
    """The answer to a renewal of what nobody registered."""
    return InstanceNotFoundError(
        "the instance is not registered (any more); register it again",
        provider=PROVIDER,
        operation="renew",
        target=target_of(instance),
    )


def target_of(instance: ServiceInstance) -> str:
    """How errors name an instance."""
    return f"{instance.service_name} {instance.instance_id}"

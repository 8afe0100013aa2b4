"""The error tree every package of the toolkit hangs its own errors on.

```
MicroserviceError
├── InvalidValueError (ValueError)          an argument or setting breaks a rule
├── MissingDependencyError (ImportError)    an optional package is not installed
├── ProviderNotFoundError (LookupError)     no provider of that name is installed
├── ProviderError                           a provider could not do what was asked
│   ├── ConfigCenterError
│   │   ├── ConfigNotFoundError
│   │   ├── ConfigConflictError             a compare-and-set was lost
│   │   ├── ConfigCenterAccessDeniedError
│   │   └── ConfigCenterUnavailableError
│   └── ServiceRegistryError
│       ├── InstanceNotFoundError
│       ├── ServiceRegistryAccessDeniedError
│       └── ServiceRegistryUnavailableError
└── NoInstanceAvailableError                nobody can answer for a service now
```

Every message ends with what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "ConfigCenterAccessDeniedError",
    "ConfigCenterError",
    "ConfigCenterUnavailableError",
    "ConfigConflictError",
    "ConfigNotFoundError",
    "InstanceNotFoundError",
    "InvalidValueError",
    "MicroserviceError",
    "MissingDependencyError",
    "NoInstanceAvailableError",
    "ProviderError",
    "ProviderNotFoundError",
    "ServiceRegistryAccessDeniedError",
    "ServiceRegistryError",
    "ServiceRegistryUnavailableError",
)


class MicroserviceError(Exception):
    """Root of every error the toolkit raises on purpose."""


class InvalidValueError(MicroserviceError, ValueError):
    """An argument or setting breaks a rule; nothing was changed.

    Attributes:
        field: the argument's or setting's name.
        value: what was given.
        rule: what would have been accepted.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field} must be {rule}, not {value!r}")
        self.field = field
        self.value = value
        self.rule = rule

    def __reduce__(self) -> tuple[type[InvalidValueError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.rule)


class MissingDependencyError(MicroserviceError, ImportError):
    """An optional package is needed and not installed.

    Attributes:
        install: the requirement to hand to pip, e.g. `microservice-kit[yaml]`.
    """

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f'{what} needs an optional package: pip install "{install}"')
        self.what = what
        self.install = install

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, str]]:
        return type(self), (self.what, self.install)


class ProviderNotFoundError(MicroserviceError, LookupError):
    """No installed package offers a provider of that name.

    Attributes:
        port: `config_center` or `service_registry`.
        name: the name asked for.
        installed: the names that would have worked.
    """

    KNOWN: ClassVar[dict[str, str]] = {
        "nacos": "microservice-nacos",
        "lite": "lite-registry[provider]",
    }

    def __init__(self, port: str, name: str, installed: Sequence[str]) -> None:
        there = ", ".join(sorted(installed)) or "none"
        known = self.KNOWN.get(name)
        if known is None or (port, name) == ("config_center", "lite"):
            advice = "use one of these or install the package that offers it"
        else:
            advice = f'pip install "{known}"'
        super().__init__(f"no {port} provider named {name!r} (installed: {there}); {advice}")
        self.port = port
        self.name = name
        self.installed = tuple(sorted(installed))

    def __reduce__(self) -> tuple[type[ProviderNotFoundError], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.port, self.name, self.installed)


class ProviderError(MicroserviceError):
    """A provider could not do what was asked.

    Attributes:
        provider: the provider's name, e.g. `nacos`.
        operation: what was asked of it, e.g. `get_config`.
        target: of what, e.g. a data id or a service name.
        retryable: whether the same call may succeed later without any change.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        operation: str,
        target: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.operation = operation
        self.target = target
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        kept = {
            "provider": self.provider,
            "operation": self.operation,
            "target": self.target,
            "retryable": self.retryable,
        }
        return _rebuild, (type(self), self.args[0], kept)

    def __str__(self) -> str:
        subject = f" {self.target!r}" if self.target else ""
        return f"{self.provider} {self.operation}{subject}: {self.args[0]}"


def _rebuild(kind: type[ProviderError], message: str, kept: dict[str, object]) -> ProviderError:
    error = kind.__new__(kind, message)
    error.__dict__.update(kept)
    return error


class ConfigCenterError(ProviderError):
    """A configuration center could not do what was asked."""


class ConfigNotFoundError(ConfigCenterError):
    """The document does not exist; publish it or check data id, group and namespace."""


class ConfigConflictError(ConfigCenterError):
    """The document changed since it was read; read it again and publish on top of that."""


class ConfigCenterAccessDeniedError(ConfigCenterError):
    """Credentials are missing, wrong or not allowed to do this."""


class ConfigCenterUnavailableError(ConfigCenterError):
    """The configuration center did not answer, or not in time."""


class ServiceRegistryError(ProviderError):
    """A service registry could not do what was asked."""


class InstanceNotFoundError(ServiceRegistryError):
    """The registry does not know the instance (any more); register it."""


class ServiceRegistryAccessDeniedError(ServiceRegistryError):
    """Credentials are missing, wrong or not allowed to do this."""


class ServiceRegistryUnavailableError(ServiceRegistryError):
    """The service registry did not answer, or not in time."""


class NoInstanceAvailableError(MicroserviceError):
    """Nobody can answer for the service now.

    Attributes:
        service_name: the service that was asked for.
        reason: why there is nobody, e.g. "none is registered".
    """

    def __init__(self, service_name: str, reason: str) -> None:
        super().__init__(
            f"no instance of {service_name!r} is available: {reason}; "
            "start one, or check the service name, its health and the filters in force"
        )
        self.service_name = service_name
        self.reason = reason

    def __reduce__(self) -> tuple[type[NoInstanceAvailableError], tuple[str, str]]:
        return type(self), (self.service_name, self.reason)

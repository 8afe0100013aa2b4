"""The root of all errors of the toolkit, and the errors that its packages share.

```
MicroserviceError
├── InvalidValueError (ValueError)          an argument or setting breaks a rule
├── DocumentError (ValueError)              a document that somebody wrote cannot be read
├── MissingDependencyError (ImportError)    an optional package is not installed
├── ProviderNotFoundError (LookupError)     no provider of that name is installed
├── ProviderError                           an operation of a provider failed
│   ├── ConfigCenterError
│   │   ├── ConfigNotFoundError
│   │   ├── ConfigConflictError             the document has changed meanwhile
│   │   ├── ConfigCenterAccessDeniedError
│   │   └── ConfigCenterUnavailableError
│   └── ServiceRegistryError
│       ├── InstanceNotFoundError
│       ├── ServiceRegistryAccessDeniedError
│       └── ServiceRegistryUnavailableError
└── NoInstanceAvailableError                no instance of a service can take a call
```

Every message ends with what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "ConfigCenterAccessDeniedError",
    "ConfigCenterError",
    "ConfigCenterUnavailableError",
    "ConfigConflictError",
    "ConfigNotFoundError",
    "DocumentError",
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
    """Root of every error that the toolkit raises."""


class InvalidValueError(MicroserviceError, ValueError):
    """An argument or setting breaks a rule; nothing has changed.

    Attributes:
        field: name of the argument or setting.
        value: the value that was refused.
        rule: what the value must be.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field} must be {rule}, not {value!r}")
        self.field = field
        self.value = value
        self.rule = rule

    def __reduce__(self) -> tuple[type[InvalidValueError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.rule)


class DocumentError(MicroserviceError, ValueError):
    """A document that somebody wrote is not of its format, or exceeds a bound.

    Attributes:
        document: its name, such as the path of a file.
        rule: what it must be, or have; nothing that it holds is quoted.
        line: the number of the line, from 1; None = it is not known.
    """

    def __init__(self, document: str, rule: str, line: int | None = None) -> None:
        place = document if line is None else f"{document}, line {line}"
        super().__init__(f"{place}: it {rule}; correct the document")
        self.document = document
        self.rule = rule
        self.line = line

    def __reduce__(self) -> tuple[type[DocumentError], tuple[str, str, int | None]]:
        return type(self), (self.document, self.rule, self.line)


class MissingDependencyError(MicroserviceError, ImportError):
    """An optional package is needed and not installed.

    Attributes:
        what: the feature that needs it.
        install: the requirement to install with pip, e.g. `microservice-kit[yaml]`.
    """

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f'{what} needs an optional package: pip install "{install}"')
        self.what = what
        self.install = install

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, str]]:
        return type(self), (self.what, self.install)


# The toolkit's own providers, by port and name: what to install for each.
_REQUIREMENTS = {
    ("config_center", "nacos"): "microservice-nacos",
    ("service_registry", "nacos"): "microservice-nacos",
    ("service_registry", "lite"): "lite-registry[provider]",
}


class ProviderNotFoundError(MicroserviceError, LookupError):
    """No installed package offers a provider of that name.

    Attributes:
        port: `config_center` or `service_registry`.
        name: the name that was requested.
        installed: the names of the installed providers of this port.
    """

    def __init__(self, port: str, name: str, installed: Sequence[str]) -> None:
        names = ", ".join(sorted(installed)) or "none"
        requirement = _REQUIREMENTS.get((port, name))
        if requirement is None:
            advice = "use one of these or install the package that offers it"
        else:
            advice = f'pip install "{requirement}"'
        super().__init__(f"no {port} provider named {name!r} (installed: {names}); {advice}")
        self.port = port
        self.name = name
        self.installed = tuple(sorted(installed))

    def __reduce__(self) -> tuple[type[ProviderNotFoundError], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.port, self.name, self.installed)


class ProviderError(MicroserviceError):
    """An operation of a provider failed.

    Attributes:
        provider: name of the provider, e.g. `nacos`.
        operation: the operation that failed, e.g. `get_config`.
        target: what it was applied to, e.g. a data id or a service name.
        retryable: whether the same operation may succeed later without any change.
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
        attributes = {
            "provider": self.provider,
            "operation": self.operation,
            "target": self.target,
            "retryable": self.retryable,
        }
        return _restore_error, (type(self), self.args[0], attributes)

    def __str__(self) -> str:
        subject = f" {self.target!r}" if self.target else ""
        return f"{self.provider} {self.operation}{subject}: {self.args[0]}"


def _restore_error(
    kind: type[ProviderError], message: str, attributes: dict[str, object]
) -> ProviderError:
    """Unpickle an error without its constructor, whose signature a subclass may change."""
    error = kind.__new__(kind, message)
    error.__dict__.update(attributes)
    return error


class ConfigCenterError(ProviderError):
    """An operation of a configuration center failed."""


class ConfigNotFoundError(ConfigCenterError):
    """The document does not exist; publish it, or check data id, group and namespace."""


class ConfigConflictError(ConfigCenterError):
    """The document has changed since it was read; read it again, then publish."""


class ConfigCenterAccessDeniedError(ConfigCenterError):
    """The credentials are missing, wrong, or lack the permission for this operation."""


class ConfigCenterUnavailableError(ConfigCenterError):
    """The configuration center did not respond, or not in time."""


class ServiceRegistryError(ProviderError):
    """An operation of a service registry failed."""


class InstanceNotFoundError(ServiceRegistryError):
    """The instance is not registered, or no longer; register it."""


class ServiceRegistryAccessDeniedError(ServiceRegistryError):
    """The credentials are missing, wrong, or lack the permission for this operation."""


class ServiceRegistryUnavailableError(ServiceRegistryError):
    """The service registry did not respond, or not in time."""


class NoInstanceAvailableError(MicroserviceError):
    """No instance of a service can take a call now.

    Attributes:
        service_name: name of the service.
        reason: why there is none, e.g. "no instances registered".
    """

    def __init__(self, service_name: str, reason: str) -> None:
        super().__init__(
            f"no instance of {service_name!r} is available: {reason}; "
            "start one, or check the service name, the health of its instances and the filters"
        )
        self.service_name = service_name
        self.reason = reason

    def __reduce__(self) -> tuple[type[NoInstanceAvailableError], tuple[str, str]]:
        return type(self), (self.service_name, self.reason)

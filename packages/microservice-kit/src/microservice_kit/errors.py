"""The errors of an application's start and of its configuration."""

from __future__ import annotations

from microservice_core import MicroserviceError

__all__ = ("ConfigRestoreError", "InvalidConfigError", "NotEnabledError")


class InvalidConfigError(MicroserviceError, ValueError):
    """A document cannot be parsed, or its content does not fit the application's model.

    Attributes:
        document: the data id, or the names of all documents that were merged; `environment` when
            only variables are wrong.
        problem: what is wrong and where; never a value, which may be a secret.
    """

    def __init__(self, document: str, problem: str, advice: str = "correct and publish it") -> None:
        super().__init__(f"configuration {document!r} is invalid: {problem}; {advice}")
        self.document = document
        self.problem = problem


class ConfigRestoreError(MicroserviceError):
    """An earlier version cannot be published again: the configuration center is read-only or absent.

    Attributes:
        version: the id of the version that was to be published.
    """

    def __init__(self, version: int) -> None:
        super().__init__(
            f"version {version} cannot be published: no writable configuration center is open; "
            "roll back here only, with rollback()"
        )
        self.version = version


class NotEnabledError(MicroserviceError, AttributeError):
    """A part of a module was used that is not enabled, or no module is open."""

    def __init__(self, name: str, advice: str) -> None:
        super().__init__(f"{name} is not enabled; {advice}")

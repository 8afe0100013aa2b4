"""What can go wrong while an application starts or reads its configuration."""

from __future__ import annotations

from microservice_core import MicroserviceError

__all__ = ("ConfigRestoreError", "InvalidConfigError", "NotEnabledError")


class InvalidConfigError(MicroserviceError, ValueError):
    """A document cannot be parsed, or what it says does not fit the application's model.

    Attributes:
        document: the data id, or the names of all that were merged.
        problem: what is wrong and where; never a value, it may be a secret.
    """

    def __init__(self, document: str, problem: str) -> None:
        super().__init__(
            f"configuration {document!r} is invalid: {problem}; correct and publish it"
        )
        self.document = document
        self.problem = problem


class ConfigRestoreError(MicroserviceError):
    """The configuration center cannot be written to, so a version cannot be published again."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"version {version} cannot be published: there is no configuration center that takes "
            "documents; roll back here only, with rollback()"
        )
        self.version = version


class NotEnabledError(MicroserviceError, AttributeError):
    """Something was asked for that the module was not told to open."""

    def __init__(self, name: str, advice: str) -> None:
        super().__init__(f"{name} is not enabled; {advice}")

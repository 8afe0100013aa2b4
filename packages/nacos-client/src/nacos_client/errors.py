"""The errors of this package, named after what the caller can do about them.

NacosError
├── InvalidArgumentError (ValueError)   refused before the network; names field, value and rule
├── ClientClosedError                   the client was closed, or belongs to another process
├── MissingDependencyError (ImportError)
├── ServerUnavailableError              no server responded; `.attempts` says what happened at each
│   └── DeadlineExceededError (TimeoutError)
├── AnswerError                         a server responded with an error
│   ├── ServerError                     5xx, an empty 200, a code 30000: worth a retry
│   ├── UnexpectedAnswerError           not a Nacos response: wrong port, context path, a proxy
│   ├── RequestRejectedError            the server refuses a parameter
│   ├── AuthenticationError             credentials or token refused
│   ├── PermissionDeniedError           the user lacks the permission
│   ├── ConflictError                   compare-and-set lost
│   └── NotFoundError
│       ├── ConfigNotFound
│       └── InstanceNotFound
├── SnapshotError                       a local copy cannot be trusted
└── CipherError                         content cannot be encrypted or decrypted
"""

from __future__ import annotations

__all__ = (
    "AnswerError",
    "AuthenticationError",
    "CipherError",
    "ClientClosedError",
    "ConfigNotFound",
    "ConflictError",
    "DeadlineExceededError",
    "InstanceNotFound",
    "InvalidArgumentError",
    "MissingDependencyError",
    "NacosError",
    "NoInstanceError",
    "NotFoundError",
    "PermissionDeniedError",
    "RequestRejectedError",
    "ServerError",
    "ServerUnavailableError",
    "SnapshotError",
    "UnexpectedAnswerError",
)

_MAX_DETAIL_CHARACTERS = 300


class NacosError(Exception):
    """The root of all errors of this package."""

    retryable: bool = False


class InvalidArgumentError(NacosError, ValueError):
    """An argument was refused before anything was sent or changed.

    Attributes:
        field: the argument's name.
        value: the refused value.
        rule: what is allowed.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field} must be {rule}, not {_shorten(repr(value))}")
        self.field = field
        self.value = value
        self.rule = rule


class ClientClosedError(NacosError):
    """The client is closed, or belongs to another process: make a new one."""


class MissingDependencyError(NacosError, ImportError):
    """An optional dependency is not installed; the message names the install line."""


class ServerUnavailableError(NacosError):
    """No server responded.

    Attributes:
        attempts: one line per attempt: the server, and what happened.
    """

    retryable = True

    def __init__(self, operation: str, attempts: tuple[str, ...], reason: str = "") -> None:
        details = "; ".join(attempts) or "no attempt was made"
        super().__init__(
            f"{operation}: {reason or 'no Nacos server responded'} ({details}); "
            "check the address and that the server is up"
        )
        self.operation = operation
        self.attempts = attempts


class DeadlineExceededError(ServerUnavailableError, TimeoutError):
    """The operation's time was used up before a server responded."""

    def __init__(self, operation: str, attempts: tuple[str, ...], seconds: float) -> None:
        super().__init__(operation, attempts, f"no response within {seconds:g} s")


class AnswerError(NacosError):
    """A server responded with an error.

    Attributes:
        operation: the request, as `METHOD path`.
        status: the HTTP status.
        code: Nacos' own code, or None where the response carries none.
        detail: the server's message, shortened.
        server: the base URL of the server.
    """

    advice = "see the server's log"

    def __init__(
        self,
        operation: str,
        *,
        status: int,
        code: int | None = None,
        detail: str = "",
        server: str = "",
    ) -> None:
        self.operation = operation
        self.status = status
        self.code = code
        self.detail: str = _shorten(detail)
        self.server = server
        origin = f" from {server}" if server else ""
        numbers = f"HTTP {status}" + ("" if code is None else f", code {code}")
        message = f": {self.detail}" if self.detail else ""
        super().__init__(f"{operation} failed with {numbers}{origin}{message}; {self.advice}")


class ServerError(AnswerError):
    """The server failed; the same request may succeed later or on another server."""

    retryable = True
    advice = "try again, or see the server's log"


class UnexpectedAnswerError(AnswerError):
    """The response is none of the Nacos 3 HTTP API: wrong port, wrong path, or a proxy."""

    advice = (
        "check host, port and context path (Nacos 3 serves its API on 8848 under /nacos), "
        "and whether a proxy stands in between"
    )


class RequestRejectedError(AnswerError):
    """The server refuses the request as it is."""

    advice = "correct the request"


class AuthenticationError(AnswerError):
    """The server refuses the user name, the password or the token."""

    advice = (
        "check username and password, that all servers share one token secret key, and that the "
        "port is the server's (8848), not the console's"
    )


class PermissionDeniedError(AnswerError):
    """The user lacks the permission for this operation."""

    advice = "grant the user's role a permission for this resource"


class ConflictError(AnswerError):
    """The document was changed meanwhile: read it again, then repeat."""

    advice = "read the current version and repeat with its md5"


class NotFoundError(AnswerError):
    """The server has no such document, service, instance or namespace."""

    advice = "check the name, the group and the namespace id"


class ConfigNotFound(NotFoundError):  # noqa: N818 - the published name
    """The server has no such configuration document."""


class InstanceNotFound(NotFoundError):  # noqa: N818 - the published name
    """The server does not know the instance, or no longer."""

    advice = "register it again"


class NoInstanceError(NacosError):
    """The service has no instance that is healthy, enabled and of a weight above 0."""


class SnapshotError(NacosError):
    """A local copy is damaged or belongs to another document; it is not used."""


class CipherError(NacosError):
    """Content cannot be encrypted or decrypted with the given keys."""


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= _MAX_DETAIL_CHARACTERS:
        return text
    return text[: _MAX_DETAIL_CHARACTERS - 1] + "…"

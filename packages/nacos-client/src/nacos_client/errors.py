"""What can go wrong, named after what the caller can do about it.

NacosError
├── InvalidArgumentError (ValueError)   refused before the network; names field, value and rule
├── ClientClosedError                   the client was closed, or belongs to another process
├── MissingDependencyError (ImportError)
├── ServerUnavailableError              no server answered; `.attempts` says what each one did
│   └── DeadlineExceededError (TimeoutError)
├── AnswerError                         a server answered, and the answer is an error
│   ├── ServerError                     5xx, an empty 200, a code 30000: worth another try
│   ├── UnexpectedAnswerError           not a Nacos answer: wrong port, context path, a proxy
│   ├── RequestRejectedError            the server refuses a parameter
│   ├── AuthenticationError             credentials or token refused
│   ├── PermissionDeniedError           known user, no permission
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

LONGEST_DETAIL = 300


class NacosError(Exception):
    """Root of everything this package raises."""

    retryable: bool = False


class InvalidArgumentError(NacosError, ValueError):
    """A value was refused before anything was sent or changed.

    Attributes:
        field: the argument's name.
        value: what was given.
        rule: what is allowed.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field} must be {rule}, not {_shortened(repr(value))}")
        self.field = field
        self.value = value
        self.rule = rule


class ClientClosedError(NacosError):
    """The client can no longer be used: make a new one."""


class MissingDependencyError(NacosError, ImportError):
    """An optional dependency is needed; the message names the install line."""


class ServerUnavailableError(NacosError):
    """No server answered.

    Attributes:
        attempts: one line per try: which server, what happened.
    """

    retryable = True

    def __init__(self, operation: str, attempts: tuple[str, ...], why: str = "") -> None:
        tried = "; ".join(attempts) or "nothing was tried"
        super().__init__(
            f"{operation}: {why or 'no Nacos server answered'} ({tried}); "
            "check the address and that the server is up"
        )
        self.operation = operation
        self.attempts = attempts


class DeadlineExceededError(ServerUnavailableError, TimeoutError):
    """The operation's time was used up before a server answered."""

    def __init__(self, operation: str, attempts: tuple[str, ...], seconds: float) -> None:
        super().__init__(operation, attempts, f"no answer within {seconds:g} s")


class AnswerError(NacosError):
    """A server answered with an error.

    Attributes:
        operation: what was asked, as `METHOD path`.
        status: the HTTP status.
        code: Nacos' own code, or None where the answer carried none.
        detail: the server's words.
        server: who answered.
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
        self.detail: str = _shortened(detail)
        self.server = server
        where = f" by {server}" if server else ""
        numbers = f"HTTP {status}" + ("" if code is None else f", code {code}")
        said = f": {self.detail}" if self.detail else ""
        super().__init__(f"{operation} answered{where} with {numbers}{said}; {self.advice}")


class ServerError(AnswerError):
    """The server failed; the same request may succeed later or on another server."""

    retryable = True
    advice = "try again, or see the server's log"


class UnexpectedAnswerError(AnswerError):
    """Whoever answered does not speak the Nacos 3 HTTP API."""

    advice = (
        "check host, port and context path (Nacos 3 serves its API on 8848 under /nacos), "
        "and whether a proxy stands in between"
    )


class RequestRejectedError(AnswerError):
    """The server refuses the request as it is."""

    advice = "correct the request"


class AuthenticationError(AnswerError):
    """User name, password or token were refused."""

    advice = "check username and password, and that all servers share one token secret key"


class PermissionDeniedError(AnswerError):
    """The user is known and may not do this."""

    advice = "grant the user's role a permission for this resource"


class ConflictError(AnswerError):
    """Someone else changed it first: read it again, then repeat."""

    advice = "read the current version and repeat with its md5"


class NotFoundError(AnswerError):
    """There is no such thing on the server."""

    advice = "check the name, the group and the namespace id"


class ConfigNotFound(NotFoundError):  # noqa: N818 - the published name
    """There is no such configuration document."""


class InstanceNotFound(NotFoundError):  # noqa: N818 - the published name
    """The server does not know the instance (any more)."""

    advice = "register it again"


class NoInstanceError(NacosError):
    """A service has no instance that should get traffic."""


class SnapshotError(NacosError):
    """A local copy is damaged or belongs to something else; it is not used."""


class CipherError(NacosError):
    """Content cannot be encrypted or decrypted with the keys at hand."""


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"

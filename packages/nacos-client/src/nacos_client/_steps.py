"""The vocabulary between operations and the runners that perform them.

An operation is a generator that does no I/O: it yields what it needs done (send a request, sleep,
wait for a future) and receives the outcome. The same operation is thus run by the sync client, by
the async client, and by a test that scripts the responses.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

__all__ = (
    "CLOSED_DURING_CALL",
    "Clock",
    "NoResponse",
    "Operation",
    "Request",
    "Response",
    "Send",
    "Sleep",
    "Step",
    "Wait",
    "encode_parameters",
    "list_parameters",
)

T = TypeVar("T")

CLOSED_DURING_CALL = "the Nacos client was closed while this call was under way"

Clock = Callable[[], float]
Method = Literal["GET", "POST", "PUT", "DELETE"]
RetryRule = Literal["always", "unanswered", "unsent"]


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the Nacos API, before a server is chosen.

    Attributes:
        path: below the context path, for example `/v3/client/cs/config`.
        query, form: parameters; those that are None are left out.
        retry: when the request may be sent again, perhaps to another server: `always` (doing it
            twice does no harm), `unanswered` (an error response is final) or `unsent` (only while
            it cannot have reached a server).
        anonymous: sent without credentials.
    """

    method: Method
    path: str
    query: Mapping[str, object] = field(default_factory=dict, repr=False)
    form: Mapping[str, object] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    retry: RetryRule = "always"
    anonymous: bool = False

    @property
    def operation(self) -> str:
        """`METHOD path`: the name used in errors, logs and spans."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response of whatever status, read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class NoResponse(Exception):  # noqa: N818 - an outcome of a step, never seen by users
    """The server could not be reached, or went away before it had responded.

    Attributes:
        reason: one line without secrets.
        sent: the request may have reached the server.
        local: it never left this process, for want of a free connection; not the server's fault.
    """

    def __init__(self, reason: str, *, sent: bool, local: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.local = local


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to one server; the outcome is a Response.

    Attributes:
        timeout_seconds: from the moment a connection is free.
        patience_seconds: for everything, waiting for a free connection included.
    """

    server: str
    request: Request
    headers: Mapping[str, str] = field(repr=False)
    timeout_seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a future of another thread or task; never cancels it. The outcome is its result.

    A timeout raises TimeoutError into the operation. A future that is cancelled, as the background
    thread does with all its work when the client is closed, ends the operation in
    ClientClosedError.
    """

    future: Future[Any]
    timeout_seconds: float | None = None


Step = Send | Sleep | Wait
Operation = Generator[Step, Any, T]


def encode_parameters(parameters: Mapping[str, object]) -> str:
    """A query or a form; parameters that are None are left out."""
    return urlencode(list_parameters(parameters))


def list_parameters(parameters: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values as they are sent; parameters that are None are left out."""
    return [(name, _to_text(value)) for name, value in parameters.items() if value is not None]


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

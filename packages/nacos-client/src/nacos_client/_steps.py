"""The vocabulary between operations and those who run them.

An operation is a generator that does no I/O: it yields what it needs done (send a request, sleep,
wait for someone else) and is handed the outcome. The same operation is thus run by the sync
client, by the async client, and by a test that scripts the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ("Answer", "Clock", "NoAnswer", "Operation", "Request", "Send", "Sleep", "Step", "Wait")

T = TypeVar("T")

Clock = Callable[[], float]
Method = Literal["GET", "POST", "PUT", "DELETE"]
Repeat = Literal["always", "unanswered", "unsent"]


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the Nacos API, before a server is chosen.

    Attributes:
        path: below the context path, for example `/v3/client/cs/config`.
        query, form: parameters; those that are None are left out.
        repeat: when it may be tried again, perhaps elsewhere: `always` (doing it twice does no
            harm), `unanswered` (an error answer is final) or `unsent` (only while it cannot have
            reached a server).
        anonymous: sent without credentials.
    """

    method: Method
    path: str
    query: Mapping[str, object] = field(default_factory=dict, repr=False)
    form: Mapping[str, object] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    repeat: Repeat = "always"
    anonymous: bool = False

    @property
    def operation(self) -> str:
        """`METHOD path`: what errors, logs and spans call it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: whatever the status, read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class NoAnswer(Exception):  # noqa: N818 - an outcome of a step, never seen by users
    """The server could not be reached, or went away before it had answered.

    Attributes:
        reason: one line without secrets.
        sent: the request may have reached the server.
        ours: it never left this process, for want of a free connection: no fault of the server.
    """

    def __init__(self, reason: str, *, sent: bool, ours: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.ours = ours


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to one server; the outcome is an Answer.

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

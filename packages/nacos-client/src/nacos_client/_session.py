"""One operation from request to data: credentials, server choice, failover, one deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._answers import data_of, document_of
from ._steps import Answer, Clock, NoAnswer, Operation, Request, Send, Sleep
from .credentials import CredentialProvider, SignableRequest
from .errors import (
    AnswerError,
    AuthenticationError,
    DeadlineExceededError,
    NacosError,
    ServerUnavailableError,
)

if TYPE_CHECKING:
    import random

    from ._address_server import AddressServer
    from ._login import Login, Token
    from ._servers import Servers
    from ._telemetry import Telemetry

__all__ = ("Session",)

FEWEST_ATTEMPTS = 3
FIRST_PAUSE = 0.1

Read = Callable[[Request, Answer, str], Any]


@dataclass(slots=True)
class _Call:
    """One call on its way: what was tried, and what became of it."""

    request: Request
    token: Token | None
    deadline: float
    seconds: float
    read: Read
    tried: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def note(self, server: str, reason: str) -> None:
        self.tried.append(server)
        self.story.append(f"{server}: {reason}")


class Session:
    """Sends requests as operations without I/O; used from several threads and event loops.

    Args:
        timeout_seconds: for a whole operation, retries and login included.
        attempt_seconds: for one attempt on one server.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        clock: Clock,
        rng: random.Random,
        timeout_seconds: float,
        attempt_seconds: float,
        headers: Mapping[str, str],
    ) -> None:
        self.servers = servers
        self.login: Login | None = None
        self.address_server: AddressServer | None = None
        self.telemetry: Telemetry | None = None
        self.provider: CredentialProvider | None = None
        self._clock = clock
        self._rng = rng
        self._timeout_seconds = timeout_seconds
        self._attempt_seconds = attempt_seconds
        self._headers = dict(headers)

    def call(
        self, request: Request, *, timeout_seconds: float | None = None, read: Read = data_of
    ) -> Operation[Any]:
        """Send, retry elsewhere where that is safe, and read the answer's `data`.

        Raises:
            ServerUnavailableError: no server answered; DeadlineExceededError when time ran out.
            AnswerError: the answer is an error; see its subclasses.
        """
        seconds = timeout_seconds or self._timeout_seconds
        operation = self._authenticated(request, seconds, read)
        if self.telemetry is not None:
            operation = self.telemetry.observed(request, operation)
        return (yield from operation)

    def _authenticated(self, request: Request, seconds: float, read: Read) -> Operation[Any]:
        deadline = self._clock() + seconds
        if self.address_server is not None:
            yield from self.address_server.refresh()
        token = yield from self._token(request, deadline)
        try:
            return (yield from self._attempts(_Call(request, token, deadline, seconds, read)))
        except AuthenticationError:
            if token is None or self.login is None or not self.login.rejected(token):
                raise
        token = yield from self._token(request, deadline)
        return (yield from self._attempts(_Call(request, token, deadline, seconds, read)))

    def anonymous(self, request: Request, deadline: float) -> Operation[Any]:
        """Send without credentials; the outcome is the whole JSON document."""
        seconds = max(deadline - self._clock(), 0.0)
        call = _Call(request, None, deadline, seconds, document_of)
        return (yield from self._attempts(call))

    def _token(self, request: Request, deadline: float) -> Operation[Token | None]:
        if self.login is None or request.anonymous:
            return None
        return (yield from self.login.token(deadline))

    def _attempts(self, call: _Call) -> Operation[Any]:
        while True:
            server = self.servers.pick(call.tried)
            try:
                return (yield from self._attempt(call, server))
            except NoAnswer as silence:
                failure = self._silent(call, server, silence)
            except AnswerError as error:
                failure = self._faulty(call, server, error)
            yield from self._before_the_next(call, failure)

    def _attempt(self, call: _Call, server: str) -> Operation[Any]:
        remaining = max(call.deadline - self._clock(), 0.001)
        others = len(set(self.servers.addresses) - {*call.tried, server})
        # A silent server must leave time for another one.
        limit = min(self._attempt_seconds, remaining / 2 if others else remaining)
        headers = self._headers_for(call.request, call.token)
        answer = yield Send(server, call.request, headers, limit, remaining)
        data = call.read(call.request, answer, server)
        self.servers.answered(server)
        return data

    def _silent(self, call: _Call, server: str, silence: NoAnswer) -> NacosError:
        """Note a server that did not answer; raise where trying again could do harm."""
        if not silence.ours:
            self.servers.failed(server, silence.reason)
        call.note(server, silence.reason)
        failure = ServerUnavailableError(call.request.operation, tuple(call.story))
        if silence.sent and call.request.repeat == "unsent":
            raise failure
        return failure

    def _faulty(self, call: _Call, server: str, error: AnswerError) -> NacosError:
        """Note a server that answered with a fault of its own; raise every other answer."""
        if not error.retryable:
            self.servers.answered(server)
            raise error
        if call.request.repeat != "always":
            raise error
        reason = f"HTTP {error.status} {error.detail}".rstrip()
        self.servers.failed(server, reason)
        call.note(server, reason)
        return error

    def _before_the_next(self, call: _Call, failure: NacosError) -> Operation[None]:
        """Wait if every server had its turn; raise when attempts or time are used up."""
        servers = max(len(self.servers.addresses), 1)
        if len(call.tried) >= max(FEWEST_ATTEMPTS, servers):
            raise failure
        rounds, within_round = divmod(len(call.tried), servers)
        pause = 0.0
        if not within_round:
            pause = FIRST_PAUSE * 2.0 ** (rounds - 1) * self._rng.uniform(0.5, 1.5)
        if self._clock() + pause >= call.deadline:
            if isinstance(failure, AnswerError):
                raise failure
            raise DeadlineExceededError(call.request.operation, tuple(call.story), call.seconds)
        if pause:
            yield Sleep(pause)

    def _headers_for(self, request: Request, token: Token | None) -> dict[str, str]:
        headers = {**self._headers, **request.headers}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.text}"
        if self.provider is not None and not request.anonymous:
            headers.update(self.provider.headers(_signable(request)))
        return headers


def _signable(request: Request) -> SignableRequest:
    parameters = {**request.query, **(request.form or {})}
    area = request.path.split("/")[2:4]
    kind = "naming" if "ns" in area else "config" if "cs" in area else "admin"
    name = parameters.get("serviceName") or parameters.get("dataId") or ""
    return SignableRequest(
        method=request.method,
        path=request.path,
        kind=kind,
        namespace=str(parameters.get("namespaceId") or ""),
        group=str(parameters.get("groupName") or ""),
        name=str(name),
    )

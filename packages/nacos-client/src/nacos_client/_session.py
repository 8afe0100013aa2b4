"""One operation from request to data: address server, credentials, spans, one deadline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ._address_server import AddressServer
from ._failover import Failover, ReadResponse
from ._login import Login, Token
from ._responses import read_data
from ._servers import Servers
from ._steps import Clock, Operation, Request
from ._telemetry import Telemetry
from .credentials import CredentialProvider, SignableRequest
from .errors import AnswerError, AuthenticationError, NotFoundError, PermissionDeniedError

__all__ = ("Session",)


CreateLogin = Callable[[str, str], Login]


class Session:
    """Sends requests as operations without I/O; used from several threads and event loops.

    Args:
        timeout_seconds: for a whole operation, retries and login included.
        create_login: makes what provides the token of a user name and password.
        username: logs in with these from the beginning; empty for calls without a token.
        provider: signs each attempt.
    """

    def __init__(
        self,
        servers: Servers,
        failover: Failover,
        *,
        clock: Clock,
        timeout_seconds: float,
        address_server: AddressServer | None = None,
        create_login: CreateLogin,
        username: str = "",
        password: str = "",
        provider: CredentialProvider | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.servers = servers
        self._failover = failover
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._address_server = address_server
        self._create_login = create_login
        self._login = create_login(username, password) if username else None
        self._provider = provider
        self._telemetry = telemetry

    def call(
        self,
        request: Request,
        *,
        timeout_seconds: float | None = None,
        read: ReadResponse = read_data,
    ) -> Operation[Any]:
        """Send the request, retry elsewhere where that is safe, and read the response's `data`.

        Raises:
            ServerUnavailableError: no server responded; DeadlineExceededError when time ran out.
            AnswerError: the response is an error; see its subclasses.
        """
        seconds = timeout_seconds or self._timeout_seconds
        operation = self._call(request, seconds, read)
        if self._telemetry is not None:
            operation = self._telemetry.instrument(request, operation)
        return (yield from operation)

    def log_in(self, username: str, password: str) -> Operation[None]:
        """Log in with these from now on; the former credentials stay where they are refused.

        Raises:
            AuthenticationError: they are refused.
            ServerUnavailableError: no server responded.
        """
        deadline = self._clock() + self._timeout_seconds
        if self._address_server is not None:
            yield from self._address_server.refresh()
        login = self._create_login(username, password)
        yield from login.get_token(deadline)
        self._login = login

    def after_fork(self) -> None:
        """Make the locks usable in a forked child: threads of the parent may have held them."""
        self.servers.after_fork()
        if self._address_server is not None:
            self._address_server.after_fork()
        if self._login is not None:
            self._login.after_fork()

    def _call(self, request: Request, seconds: float, read: ReadResponse) -> Operation[Any]:
        deadline = self._clock() + seconds
        if self._address_server is not None:
            yield from self._address_server.refresh()
        send = partial(self._failover.call, request, deadline=deadline, seconds=seconds, read=read)
        login = None if request.anonymous else self._login
        if login is None:
            return (yield from send(build_headers=partial(self._build_headers, request, None)))
        return (yield from self._call_with_token(request, login, send, deadline))

    def _call_with_token(
        self, request: Request, login: Login, send: Callable[..., Operation[Any]], deadline: float
    ) -> Operation[Any]:
        def send_with(token: Token | None) -> Operation[Any]:
            return send(build_headers=partial(self._build_headers, request, token))

        token: Token | None = None
        try:
            if not login.auth_is_off:
                token = yield from login.get_token(deadline)
        except AuthenticationError as refusal:
            return (yield from _call_without_token(login, send_with, refusal))
        try:
            return (yield from send_with(token))
        except (AuthenticationError, PermissionDeniedError) as error:
            if token is None:
                login.expect_auth()
            elif not (isinstance(error, AuthenticationError) and login.reject_token(token)):
                raise
        return (yield from send_with((yield from login.get_token(deadline))))

    def _build_headers(self, request: Request, token: Token | None) -> dict[str, str]:
        headers: dict[str, str] = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.text}"
        if self._provider is not None and not request.anonymous:
            headers.update(self._provider.headers(_to_signable(request)))
        return headers


def _call_without_token(
    login: Login,
    send_with: Callable[[Token | None], Operation[Any]],
    refusal: AuthenticationError,
) -> Operation[Any]:
    """Send once without a token: a server whose authentication is off refuses every login."""
    try:
        data = yield from send_with(None)
    except AnswerError as error:
        if isinstance(error, NotFoundError):
            login.record_auth_off()
            raise
        raise refusal from None
    login.record_auth_off()
    return data


def _to_signable(request: Request) -> SignableRequest:
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

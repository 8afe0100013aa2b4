"""One operation from request to data: address server, credentials, spans, one deadline."""

from __future__ import annotations

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
from .errors import AuthenticationError

__all__ = ("Session",)


class Session:
    """Sends requests as operations without I/O; used from several threads and event loops.

    Args:
        timeout_seconds: for a whole operation, retries and login included.
        login: provides the token of a user name and password.
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
        login: Login | None = None,
        provider: CredentialProvider | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.servers = servers
        self._failover = failover
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._address_server = address_server
        self._login = login
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
        token = yield from self._get_token(request, deadline)
        try:
            return (yield from send(build_headers=partial(self._build_headers, request, token)))
        except AuthenticationError:
            if token is None or self._login is None or not self._login.reject_token(token):
                raise
        token = yield from self._get_token(request, deadline)
        return (yield from send(build_headers=partial(self._build_headers, request, token)))

    def _get_token(self, request: Request, deadline: float) -> Operation[Token | None]:
        if self._login is None or request.anonymous:
            return None
        return (yield from self._login.get_token(deadline))

    def _build_headers(self, request: Request, token: Token | None) -> dict[str, str]:
        headers: dict[str, str] = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.text}"
        if self._provider is not None and not request.anonymous:
            headers.update(self._provider.headers(_to_signable(request)))
        return headers


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

"""The fake server itself: routes, authentication, faults on demand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from ._admin_api import AdminRoutes
from ._config_admin_api import ConfigAdminRoutes
from ._config_api import ConfigRoutes
from ._documents import Documents
from ._http_server import HttpServer
from ._instances import Instances
from ._naming_api import NamingRoutes
from ._users import LOGIN_PATHS, FakeUser, Users
from ._wire import (
    FakeRequest,
    FakeResponse,
    Refusal,
    build_failure,
    build_spring_error,
    build_success,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from types import TracebackType

__all__ = ("FakeNacosServer", "Fault", "ManualClock")

FaultKind = Literal[
    "drop", "delay", "error", "forbidden", "token", "empty", "garbage", "html", "not_found"
]
_MAX_REQUESTS_KEPT = 10_000
_STATE_PATHS = frozenset(
    {"/v3/admin/core/state", "/v3/admin/core/state/liveness", "/v3/admin/core/state/readiness"}
)


class ManualClock:
    """A clock that a test advances; it starts at 1000 seconds."""

    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward by so many seconds."""
        self._now += seconds


@dataclass(slots=True)
class Fault:
    """A fault that the server injects instead of its usual response.

    Attributes:
        kind: `drop` the connection, `delay` the response by `seconds`, or respond with an `error`
            500, a `forbidden` 403 (no permission), a refused `token` 403, an `empty` 200,
            `garbage` that is not JSON, a proxy's `html` page, or a `not_found` 200/20004.
        path: only requests whose path contains this.
        times: the number of requests it still hits.
    """

    kind: FaultKind
    path: str = ""
    times: int = 1
    seconds: float = 0.0


class FakeNacosServer:
    """A Nacos 3.1 server in this process: `with FakeNacosServer() as server: server.address`.

    It is also an ASGI application (lifespan is not needed), for clients with an ASGI transport.

    Args:
        username: the administrator's name.
        password: the administrator's password.
        auth: whether calls need a token.
        clock: monotonic seconds, for instance expiry, tokens and publish delay.
        publish_delay_seconds: until clients see a published document.
        token_seconds: the lifetime of a token.
    """

    def __init__(
        self,
        *,
        username: str = "nacos",
        password: str = "nacos",  # noqa: S107 - a test server's
        auth: bool = True,
        clock: Callable[[], float] = time.monotonic,
        publish_delay_seconds: float = 0.05,
        token_seconds: int = 18000,
    ) -> None:
        self.username = username
        self.password = password
        self.requests: deque[tuple[str, str]] = deque(maxlen=_MAX_REQUESTS_KEPT)
        self._clock = clock
        self._lock = threading.Lock()
        self._documents = Documents(clock, publish_delay_seconds)
        self._instances = Instances(clock)
        self._users = Users(clock, token_seconds)
        self._users.enabled = auth
        self._users.accounts[username] = FakeUser(password, admin=True)
        self._faults: list[Fault] = []
        self._routes: dict[tuple[str, str], Callable[[FakeRequest], FakeResponse]] = {
            **ConfigRoutes(self._documents).build_routes(),
            **ConfigAdminRoutes(self._documents).build_routes(),
            **NamingRoutes(self._instances, clock).build_routes(),
            **AdminRoutes(self._documents, self._instances, self._users).build_routes(),
            **{("POST", path): self._users.login for path in LOGIN_PATHS},
            ("GET", "/v3/admin/core/state/readiness"): _handle_readiness,
            ("GET", "/v3/admin/core/state/liveness"): _handle_readiness,
        }
        self._http_server: HttpServer | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """`127.0.0.1:port`; the port stays the same over stop and start."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen on loopback, on the port of the previous start if there was one."""
        if self._http_server is None:
            http_server = HttpServer(self._handle)
            http_server.start(self._port)
            self._http_server, self._port = http_server, http_server.port

    def stop(self) -> None:
        """Close the port and every connection, as a crash would; the data is kept."""
        http_server, self._http_server = self._http_server, None
        if http_server is not None:
            http_server.close()

    def restart(self) -> None:
        """Stop and start; ephemeral instances and tokens are forgotten, as the real server does."""
        self.stop()
        with self._lock:
            self._instances.forget_ephemeral()
        self.start()

    def forget_instances(self) -> None:
        """Remove all ephemeral instances."""
        with self._lock:
            self._instances.forget_ephemeral()

    def forget_tokens(self) -> None:
        """Invalidate all tokens, as a new secret key does."""
        with self._lock:
            self._users.forget_tokens()

    def add_user(
        self, name: str, password: str, permissions: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Add a user without admin rights; permissions are (resource, action), `*` matches any text.

        A resource is `namespace:group:config/dataId` or `namespace:group:naming/service`.
        """
        with self._lock:
            self._users.accounts[name] = FakeUser(password, admin=False)
            self._users.roles.add((name, name))
            self._users.permissions |= {(name, *permission) for permission in permissions}

    def inject(
        self, kind: FaultKind, path: str = "", *, times: int = 1, seconds: float = 0
    ) -> Fault:
        """Inject a fault into the next `times` requests whose path contains `path`."""
        fault = Fault(kind, path, times, seconds)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all injected faults."""
        with self._lock:
            self._faults.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Handle one HTTP request by ASGI; a dropped connection raises ConnectionResetError."""
        if scope["type"] != "http":
            raise ValueError(f"FakeNacosServer handles http requests, not {scope['type']}")
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode()
        response = await self._handle(
            FakeRequest.parse(scope["method"], scope["path"], query, headers, body)
        )
        if response is None:
            raise ConnectionResetError("the fake server dropped the connection")
        headers_sent = [(name.encode(), value.encode()) for name, value in response.headers.items()]
        await send(
            {"type": "http.response.start", "status": response.status, "headers": headers_sent}
        )
        await send({"type": "http.response.body", "body": response.body})

    async def _handle(self, request: FakeRequest) -> FakeResponse | None:
        with self._lock:
            self.requests.append((request.method, request.path.removeprefix("/nacos")))
            fault = self._take_fault(request)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault is not None:
            return _FAULT_RESPONSES[fault.kind](request.path)
        with self._lock:
            try:
                return self._route(request)
            except Refusal as refusal:
                return refusal.response

    def _take_fault(self, request: FakeRequest) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.path in request.path:
                fault.times -= 1
                return fault
        return None

    def _route(self, request: FakeRequest) -> FakeResponse:
        path = request.path.removeprefix("/nacos")
        if request.too_large:
            return FakeResponse(413)
        handler = self._routes.get((request.method, path))
        if handler is None or not request.path.startswith("/nacos/"):
            message = f"No endpoint {request.method} {request.path}."
            return build_spring_error(404, "Not Found", message, request.path)
        if path not in LOGIN_PATHS and path not in _STATE_PATHS:
            self._users.authorize(request, *_find_required_permission(request, path))
        return handler(request)


def _find_required_permission(request: FakeRequest, path: str) -> tuple[str, str]:
    """The resource and the action that a request needs a permission for."""
    area = path.split("/")[3]
    action = "r" if request.method == "GET" else "w"
    if path.startswith("/v3/auth") or area not in {"cs", "ns"}:
        return ("console", action)
    kind, name = ("config", "dataId") if area == "cs" else ("naming", "serviceName")
    group = request.get("groupName", "DEFAULT_GROUP" if area == "ns" else "")
    return (f"{request.get('namespaceId', 'public')}:{group}:{kind}/{request.get(name)}", action)


def _handle_readiness(_: FakeRequest) -> FakeResponse:
    return build_success("ok")


def _drop(_: str) -> None:
    """No response: the connection is closed."""


def _build_denial(message: str) -> Callable[[str], FakeResponse]:
    return lambda path: build_spring_error(403, "Forbidden", message, path)


_FAULT_RESPONSES: dict[FaultKind, Callable[[str], FakeResponse | None]] = {
    "drop": _drop,
    "error": lambda _: build_failure(500, 30000, "server error", "injected"),
    "forbidden": _build_denial("Code: 403, Message: authorization failed!."),
    "token": _build_denial("Code: 401, Message: token expired!."),
    "empty": lambda _: FakeResponse(200),
    "garbage": lambda _: FakeResponse(
        200, b'{"code": 0, "da', {"content-type": "application/json"}
    ),
    "html": lambda _: FakeResponse(
        502, b"<!DOCTYPE html><html><body>Bad Gateway</body></html>", {"content-type": "text/html"}
    ),
    "not_found": lambda _: build_failure(200, 20004, "resource not found"),
}

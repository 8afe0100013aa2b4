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
from ._instances import Instances
from ._listener import Listener
from ._naming_api import NamingRoutes
from ._users import LOGIN_PATHS, User, Users
from ._wire import Call, Refusal, Reply, failure, spring_error, success

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from types import TracebackType

__all__ = ("FakeNacosServer", "Fault", "ManualClock")

FaultKind = Literal[
    "drop", "delay", "error", "forbidden", "token", "empty", "garbage", "html", "not_found"
]
MOST_REQUESTS_KEPT = 10_000
READINESS = frozenset(
    {"/v3/admin/core/state", "/v3/admin/core/state/liveness", "/v3/admin/core/state/readiness"}
)


class ManualClock:
    """A clock that a test moves; starts at 1000 seconds."""

    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


@dataclass(slots=True)
class Fault:
    """What the server does instead of answering.

    Attributes:
        kind: `drop` the connection, `delay` the answer by `seconds`, or answer with an `error`
            500, a `forbidden` 403 (no permission), a refused `token` 403, an `empty` 200,
            `garbage` that is not JSON, a proxy's `html` page, or a `not_found` 200/20004.
        path: only requests whose path contains this.
        times: how many requests it hits.
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
        clock: moves instance expiry, tokens and publish delay; seconds, monotonic.
        publish_delay_seconds: until a published document is seen by clients.
        token_seconds: how long a token lives.
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
        self.requests: deque[tuple[str, str]] = deque(maxlen=MOST_REQUESTS_KEPT)
        self._clock = clock
        self._lock = threading.Lock()
        self._documents = Documents(clock, publish_delay_seconds)
        self._instances = Instances(clock)
        self._users = Users(clock, token_seconds)
        self._users.enabled = auth
        self._users.known[username] = User(password, admin=True)
        self._faults: list[Fault] = []
        self._routes: dict[tuple[str, str], Callable[[Call], Reply]] = {
            **ConfigRoutes(self._documents).table(),
            **ConfigAdminRoutes(self._documents).table(),
            **NamingRoutes(self._instances, clock).table(),
            **AdminRoutes(self._documents, self._instances, self._users).table(),
            **{("POST", path): self._users.login for path in LOGIN_PATHS},
            ("GET", "/v3/admin/core/state/readiness"): _ready,
            ("GET", "/v3/admin/core/state/liveness"): _ready,
        }
        self._listener: Listener | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """`127.0.0.1:port`; the port stays the same over stop and start."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen on loopback, on the port it had before if there was one."""
        if self._listener is None:
            listener = Listener(self._answer)
            listener.start(self._port)
            self._listener, self._port = listener, listener.port

    def stop(self) -> None:
        """Close the port and every connection, as a crash would; the data stays."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def restart(self) -> None:
        """Stop and start; ephemeral instances and tokens are forgotten, as the real server does."""
        self.stop()
        with self._lock:
            self._instances.forget_ephemeral()
        self.start()

    def forget_instances(self) -> None:
        """Lose all ephemeral instances."""
        with self._lock:
            self._instances.forget_ephemeral()

    def forget_tokens(self) -> None:
        """Accept no token given out so far, as after a new secret key."""
        with self._lock:
            self._users.forget_tokens()

    def add_user(
        self, name: str, password: str, permissions: Iterable[tuple[str, str]] = ()
    ) -> None:
        """A user without admin rights; permissions are (resource, action), `*` matches anything.

        A resource is `namespace:group:config/dataId` or `namespace:group:naming/service`.
        """
        with self._lock:
            self._users.known[name] = User(password, admin=False)
            self._users.roles.add((name, name))
            self._users.permissions |= {(name, *permission) for permission in permissions}

    def inject(
        self, kind: FaultKind, path: str = "", *, times: int = 1, seconds: float = 0
    ) -> Fault:
        """Let the next `times` requests whose path contains `path` go wrong."""
        fault = Fault(kind, path, times, seconds)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Answer well again."""
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
        """ASGI: answer one HTTP request; a dropped connection raises ConnectionResetError."""
        if scope["type"] != "http":
            raise ValueError(f"FakeNacosServer answers http requests, not {scope['type']}")
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode()
        reply = await self._answer(Call.of(scope["method"], scope["path"], query, headers, body))
        if reply is None:
            raise ConnectionResetError("the fake server dropped the connection")
        sent = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": sent})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, call: Call) -> Reply | None:
        with self._lock:
            self.requests.append((call.method, call.path.removeprefix("/nacos")))
            fault = self._take_fault(call)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault is not None:
            return _FAULTY[fault.kind](call.path)
        with self._lock:
            try:
                return self._route(call)
            except Refusal as refusal:
                return refusal.reply

    def _take_fault(self, call: Call) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.path in call.path:
                fault.times -= 1
                return fault
        return None

    def _route(self, call: Call) -> Reply:
        path = call.path.removeprefix("/nacos")
        handler = self._routes.get((call.method, path))
        if handler is None or not call.path.startswith("/nacos/"):
            words = f"No endpoint {call.method} {call.path}."
            return spring_error(404, "Not Found", words, call.path)
        if path not in LOGIN_PATHS and path not in READINESS:
            self._users.check(call, *_permission(call, path))
        return handler(call)


def _permission(call: Call, path: str) -> tuple[str, str]:
    """Resource and action that a call needs."""
    area = path.split("/")[3]
    action = "r" if call.method == "GET" else "w"
    if path.startswith("/v3/auth") or area not in {"cs", "ns"}:
        return ("console", action)
    kind, name = ("config", "dataId") if area == "cs" else ("naming", "serviceName")
    group = call.get("groupName", "DEFAULT_GROUP" if area == "ns" else "")
    return (f"{call.get('namespaceId', 'public')}:{group}:{kind}/{call.get(name)}", action)


def _ready(_: Call) -> Reply:
    return success("ok")


def _drop(_: str) -> None:
    """No answer at all."""


def _denied(words: str) -> Callable[[str], Reply]:
    return lambda path: spring_error(403, "Forbidden", words, path)


_FAULTY: dict[FaultKind, Callable[[str], Reply | None]] = {
    "drop": _drop,
    "error": lambda _: failure(500, 30000, "server error", "injected"),
    "forbidden": _denied("Code: 403, Message: authorization failed!."),
    "token": _denied("Code: 401, Message: token expired!."),
    "empty": lambda _: Reply(200),
    "garbage": lambda _: Reply(200, b'{"code": 0, "da', {"content-type": "application/json"}),
    "html": lambda _: Reply(
        502, b"<!DOCTYPE html><html><body>Bad Gateway</body></html>", {"content-type": "text/html"}
    ),
    "not_found": lambda _: failure(200, 20004, "resource not found"),
}

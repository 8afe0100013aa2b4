"""What operators ask a process: `/health` and below, `/metrics`; a small ASGI application."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict

from .health import Health

__all__ = ("ManagementApp",)

PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ManagementApp:
    """Answers health probes; details only to who shows the token.

    Args:
        token: what `Authorization: Bearer` has to carry for details; empty shows them to nobody.
        metrics: gives the text of `/metrics`; without it there is none.
    """

    def __init__(
        self, health: Health, *, token: str = "", metrics: Callable[[], bytes] | None = None
    ) -> None:
        self._health = health
        self._token = token
        self._metrics = metrics

    def answers(self, path: str) -> bool:
        """Whether this path is one of its own."""
        return path in _PATHS or (path == "/metrics" and self._metrics is not None)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path = str(scope["path"]).rstrip("/")
        if scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, 405, {"error": "use GET"})
        elif path.endswith("/metrics") and self._metrics is not None:
            await _send(send, 200, self._metrics(), PROMETHEUS_TEXT)
        elif path.endswith("/live"):
            await _answer(send, 200, {"status": "up"})
        elif path.endswith("/ready"):
            ready = await self._health.ready()
            await _answer(send, 200 if ready else 503, {"status": self._word(ready)})
        else:
            await self._details(scope, send)

    async def _details(self, scope: Message, send: Send) -> None:
        ready = await self._health.ready()
        body: dict[str, object] = {"status": self._word(ready)}
        if self._trusted(scope):
            results = await self._health.check()
            body["checks"] = {name: asdict(result) for name, result in results.items()}
        await _answer(send, 200 if ready else 503, body)

    def _word(self, ready: bool) -> str:
        if ready:
            return "up"
        return "out_of_service" if self._health.draining or not self._health.started else "down"

    def _trusted(self, scope: Message) -> bool:
        given = b""
        headers = scope["headers"]
        assert isinstance(headers, list | tuple)  # noqa: S101 - ASGI says so
        for name, value in headers:
            if name == b"authorization":
                given = bytes(value)
        expected = f"Bearer {self._token}".encode()
        return bool(self._token) and hmac.compare_digest(given, expected)


_PATHS = frozenset({"/health", "/health/", "/health/live", "/health/ready"})


async def _answer(send: Send, status: int, body: Mapping[str, object]) -> None:
    await _send(send, status, json.dumps(body).encode(), b"application/json")


async def _send(send: Send, status: int, content: bytes, kind: bytes) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})

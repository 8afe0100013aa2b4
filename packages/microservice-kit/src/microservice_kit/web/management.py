"""Health probes and metrics: `/health` and below, `/metrics`; a small ASGI application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from microservice_kit.asgi_types import Message, Receive, Send
from microservice_kit.health.checks import Health

from .responses import has_token, send_json, send_response

__all__ = ("ManagementApp",)

_HEALTH_PATHS = ("/health", "/health/live", "/health/ready")
_PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class ManagementApp:
    """Answers health probes; details only to requests that carry the token.

    Args:
        token: what `Authorization: Bearer` has to carry for details; empty shows them to no one.
        metrics: returns the text of `/metrics`; without it there is no such path.
    """

    def __init__(
        self, health: Health, *, token: str = "", metrics: Callable[[], bytes] | None = None
    ) -> None:
        self._health = health
        self._token = token
        self._metrics = metrics

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths it serves."""
        return (*_HEALTH_PATHS, "/metrics") if self._metrics is not None else _HEALTH_PATHS

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        path = str(scope["path"]).rstrip("/")
        if scope["method"] not in {"GET", "HEAD"}:
            await send_json(send, 405, {"error": "use GET"})
        elif path.endswith("/metrics") and self._metrics is not None:
            await send_response(send, 200, self._metrics(), _PROMETHEUS_TEXT)
        elif path.endswith("/live"):
            await send_json(send, 200, {"status": "up"})
        elif path.endswith("/ready"):
            status = await self._health.status()
            await send_json(send, 200 if status == "up" else 503, {"status": status})
        else:
            await self._send_details(scope, send)

    async def _send_details(self, scope: Message, send: Send) -> None:
        status = await self._health.status()
        body: dict[str, object] = {"status": status}
        if has_token(scope, self._token):
            results = await self._health.check()
            body["checks"] = {name: asdict(result) for name, result in results.items()}
        await send_json(send, 200 if status == "up" else 503, body)

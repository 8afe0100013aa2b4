"""What operators ask a process: `/health` and below, `/metrics`; a small ASGI application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from microservice_kit.health.checks import Health

from .responses import Message, Receive, Send, answer, answer_json, carries_token

__all__ = ("ManagementApp",)

PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


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

    @property
    def paths(self) -> tuple[str, ...]:
        """Its own paths."""
        return (*_PATHS, "/metrics") if self._metrics is not None else _PATHS

    def answers(self, path: str) -> bool:
        """Whether this path is one of its own."""
        return path in self.paths or path == "/health/"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path = str(scope["path"]).rstrip("/")
        if scope["method"] not in {"GET", "HEAD"}:
            await answer_json(send, 405, {"error": "use GET"})
        elif path.endswith("/metrics") and self._metrics is not None:
            await answer(send, 200, self._metrics(), PROMETHEUS_TEXT)
        elif path.endswith("/live"):
            await answer_json(send, 200, {"status": "up"})
        elif path.endswith("/ready"):
            status = await self._health.status()
            await answer_json(send, 200 if status == "up" else 503, {"status": status})
        else:
            await self._details(scope, send)

    async def _details(self, scope: Message, send: Send) -> None:
        status = await self._health.status()
        body: dict[str, object] = {"status": status}
        if carries_token(scope, self._token):
            results = await self._health.check()
            body["checks"] = {name: asdict(result) for name, result in results.items()}
        await answer_json(send, 200 if status == "up" else 503, body)


_PATHS = ("/health", "/health/live", "/health/ready")

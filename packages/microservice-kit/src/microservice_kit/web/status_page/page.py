"""The page `/microservice`: what one process knows, for people, behind the management token."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs

from microservice_core import InvalidValueError
from microservice_kit.web.responses import (
    Message,
    Receive,
    Send,
    answer,
    answer_json,
    carries_token,
    header_of,
    path_within,
)

from .state import differences, state_of

if TYPE_CHECKING:
    from microservice_kit.services import AnyServices

__all__ = ("ROOT", "StatusPage")

logger = logging.getLogger(__name__)

ROOT = "/microservice"
LARGEST_BODY = 4096
REFUSALS_LOGGED_EVERY_SECONDS = 60.0
CLOCK_JUMP = timedelta(seconds=1)  # less is drift: the times of calls do not tremble with it

Handler = Callable[[Message, Receive], Awaitable[Mapping[str, object]]]


class ProblemError(Exception):
    """Answered as `application/problem+json`.

    (https://www.rfc-editor.org/rfc/rfc9457)
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"title": title, "status": status, "detail": detail}


class StatusPage:
    """A page without data, and the data for who sends the token.

    `GET /microservice` is the page; it asks for the token and keeps it for its tab. With
    `Authorization: Bearer <token>`: `GET /microservice/api/state`, `GET /microservice/api/diff`
    with `old` and `new`, `POST /microservice/api/rollback` with `{"version": 3}`, and
    `POST /microservice/api/resume` with `{}`. A `process` in a posted document has to be that of
    the state: another process behind the same address is told nothing by mistake.

    Args:
        token: not empty.
        name: the title of the page.
        clock: the one the service client goes by, monotonic seconds.
        wall_clock: UTC.
    """

    def __init__(
        self,
        services: AnyServices,
        *,
        token: str,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._services = services
        self._token = token
        self._process = {
            "id": secrets.token_hex(8),
            "service": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._clock = clock
        self._wall_clock = wall_clock
        self._zero = self._when_clock_said_zero()
        self._page = files(__package__).joinpath("status_page.html").read_bytes()
        self._page_headers = _page_headers(self._page.decode())
        self._refusals = _Refusals(clock)
        self._handlers: dict[str, tuple[str, Handler]] = {
            "/api/state": ("GET", self._state),
            "/api/diff": ("GET", self._diff),
            "/api/rollback": ("POST", self._rollback),
            "/api/resume": ("POST", self._resume),
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """Its own paths."""
        return (ROOT, f"{ROOT}/", *(f"{ROOT}{path}" for path in self._handlers))

    def answers(self, path: str) -> bool:
        """Whether this path is one of its own."""
        return path.startswith(ROOT) and path in self.paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            await self._answer(scope, receive, send)
        except ProblemError as problem:
            extra = _WHAT_TO_SEND.get(problem.status, ())
            await answer_json(
                send, problem.status, problem.body, b"application/problem+json", [*extra, *_PLAIN]
            )

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        path = path_within(scope).removeprefix(ROOT).rstrip("/")
        if path:
            await answer_json(send, 200, await self._told(path, scope, receive), headers=_PLAIN)
            return
        _allow(scope, "GET")
        await answer(send, 200, self._page, b"text/html; charset=utf-8", self._page_headers)

    async def _told(self, path: str, scope: Message, receive: Receive) -> Mapping[str, object]:
        if not carries_token(scope, self._token):
            self._refusals.note(scope)
            raise ProblemError(401, "Who are you?", "send Authorization: Bearer <management_token>")
        if path not in self._handlers:
            raise ProblemError(404, "No such page", f"there are: {', '.join(self._handlers)}")
        method, handler = self._handlers[path]
        _allow(scope, method)
        try:
            return await handler(scope, receive)
        except InvalidValueError as error:
            raise ProblemError(404, "No such version", str(error)) from error

    async def _state(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        zero = self._when_clock_said_zero()
        if abs(zero - self._zero) > CLOCK_JUMP:
            self._zero = zero
        return {"process": self._process, **await state_of(self._services, zero=self._zero)}

    def _when_clock_said_zero(self) -> datetime:
        return self._wall_clock() - timedelta(seconds=self._clock())

    async def _diff(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        asked = parse_qs(cast("bytes", scope["query_string"]).decode("latin-1"))
        old, new = (_version(asked.get(name, [""])[-1], name) for name in ("old", "new"))
        return differences(self._services.config, old, new)

    async def _rollback(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        wanted = await self._posted(scope, receive)
        version = _version(wanted.get("version"), "version")
        made = self._services.config.rollback(version)
        logger.warning("rolled back to version %d on the status page by %s", version, _who(scope))
        return {"version": made.id, "pinned": version}

    async def _resume(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        await self._posted(scope, receive)
        made = self._services.config.resume()
        logger.warning("a rollback was ended on the status page by %s", _who(scope))
        return {"version": made.id, "pinned": None}

    async def _posted(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        """The document sent, meant for this process."""
        if header_of(scope, b"content-type").partition(b";")[0].strip() != b"application/json":
            raise ProblemError(415, "Not JSON", "send Content-Type: application/json")
        try:
            document = json.loads(await _body(receive))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise ProblemError(400, "Not JSON", 'send a JSON object such as {"version": 3}')
        if document.get("process", self._process["id"]) != self._process["id"]:
            raise ProblemError(
                409, "Another process", "this is not the process that was looked at; look again"
            )
        return document


class _Refusals:
    """Logs wrong tokens, a line a minute at most: who guesses must not fill the disk."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count = 0
        self._due_at = float("-inf")

    def note(self, scope: Message) -> None:
        """One more."""
        self._count += 1
        now = self._clock()
        if now >= self._due_at:
            logger.warning(
                "%d requests to the status page without the management token, the last from %s",
                self._count,
                _who(scope),
            )
            self._count, self._due_at = 0, now + REFUSALS_LOGGED_EVERY_SECONDS


_PLAIN = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_WHAT_TO_SEND = {401: ((b"www-authenticate", b'Bearer realm="microservice"'),)}


def _allow(scope: Message, method: str) -> None:
    given = scope["method"]
    if given != method and not (method == "GET" and given == "HEAD"):
        raise ProblemError(405, "Wrong method", f"use {method}")


def _version(given: object, name: str) -> int:
    """The id of a version, as a number or its digits."""
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = int(given[:18])
    if type(given) is not int:
        raise ProblemError(400, "No version", f"{name} must be the id of a version, a whole number")
    return given


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += cast("bytes", message.get("body", b""))
        if len(body) > LARGEST_BODY:
            raise ProblemError(413, "Too large", f"send at most {LARGEST_BODY} bytes")
        if not message.get("more_body"):
            return body


def _who(scope: Message) -> str:
    client = scope.get("client")
    return str(client[0]) if isinstance(client, list | tuple) and client else "somebody"


def _page_headers(page: str) -> list[tuple[bytes, bytes]]:
    """The page's own script and style may run, and nothing else; no text becomes markup."""
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hash_of('script', page)}; "
        f"style-src {_hash_of('style', page)}; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-opener-policy", b"same-origin"),
        *_PLAIN,
    ]


def _hash_of(tag: str, page: str) -> str:
    """What allows an inline element to a policy: the hash of its text.

    (https://www.w3.org/TR/CSP3/#grammardef-hash-source)
    """
    found = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    assert found is not None  # noqa: S101 - the page is ours
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

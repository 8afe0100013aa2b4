"""The page `/microservice`: the state of one process, for people, behind the management token."""

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
from typing import cast
from urllib.parse import parse_qs

from pydantic import BaseModel

from microservice_core import InvalidValueError
from microservice_kit.asgi_types import Message, Receive, Send
from microservice_kit.open_module import OpenModule
from microservice_kit.web.responses import (
    has_token,
    read_header,
    send_json,
    send_response,
    strip_root_path,
)

from .state import build_differences, build_state

__all__ = ("ROOT", "StatusPage")

logger = logging.getLogger(__name__)

ROOT = "/microservice"
LARGEST_BODY = 4096
_REFUSALS_LOGGED_EVERY_SECONDS = 60.0
# The two clocks drift apart slowly; correcting that would make the shown times of calls flicker.
_CLOCK_JUMP = timedelta(seconds=1)

Handler = Callable[[Message, Receive], Awaitable[Mapping[str, object]]]


class ProblemError(Exception):
    """Sent as `application/problem+json`.

    (https://www.rfc-editor.org/rfc/rfc9457)
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"title": title, "status": status, "detail": detail}


class StatusPage:
    """A page without data, and the data for requests that carry the token.

    `GET /microservice` is the page; it asks for the token and keeps it for its tab. With
    `Authorization: Bearer <token>`: `GET /microservice/api/state`, `GET /microservice/api/diff`
    with `old` and `new`, `POST /microservice/api/rollback` with `{"version": 3}`, and
    `POST /microservice/api/resume` with `{}`. A `process` in a posted document has to be that of
    the state: another process behind the same address refuses it.

    Args:
        token: not empty.
        name: the title of the page.
        clock: the clock of the service client, monotonic seconds.
        wall_clock: UTC.
    """

    def __init__(
        self,
        module: OpenModule[BaseModel],
        *,
        token: str,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._module = module
        self._token = token
        self._process = {
            "id": secrets.token_hex(8),
            "service": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._clock = clock
        self._wall_clock = wall_clock
        self._clock_start = self._compute_clock_start()
        self._page = files(__package__).joinpath("status_page.html").read_bytes()
        self._page_headers = _build_page_headers(self._page.decode())
        self._refusals = _RefusalLog(clock)
        self._handlers: dict[str, tuple[str, Handler]] = {
            "/api/state": ("GET", self._get_state),
            "/api/diff": ("GET", self._get_differences),
            "/api/rollback": ("POST", self._roll_back),
            "/api/resume": ("POST", self._resume),
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths it serves."""
        return (ROOT, f"{ROOT}/", *(f"{ROOT}{path}" for path in self._handlers))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            await self._serve(scope, receive, send)
        except ProblemError as problem:
            headers = [*_HEADERS_OF_STATUS.get(problem.status, ()), *_COMMON_HEADERS]
            await send_json(
                send, problem.status, problem.body, b"application/problem+json", headers
            )

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        path = strip_root_path(scope).removeprefix(ROOT).rstrip("/")
        if path:
            body = await self._call_handler(path, scope, receive)
            await send_json(send, 200, body, headers=_COMMON_HEADERS)
            return
        _require_method(scope, "GET")
        await send_response(send, 200, self._page, b"text/html; charset=utf-8", self._page_headers)

    async def _call_handler(
        self, path: str, scope: Message, receive: Receive
    ) -> Mapping[str, object]:
        if not has_token(scope, self._token):
            self._refusals.add(scope)
            raise ProblemError(401, "Unauthorized", "send Authorization: Bearer <management_token>")
        if path not in self._handlers:
            raise ProblemError(404, "No such page", f"there are: {', '.join(self._handlers)}")
        method, handler = self._handlers[path]
        _require_method(scope, method)
        try:
            return await handler(scope, receive)
        except InvalidValueError as error:
            raise ProblemError(404, "No such version", str(error)) from error

    async def _get_state(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        clock_start = self._compute_clock_start()
        if abs(clock_start - self._clock_start) > _CLOCK_JUMP:
            self._clock_start = clock_start
        state = await build_state(self._module, clock_start=self._clock_start)
        return {"process": self._process, **state}

    def _compute_clock_start(self) -> datetime:
        """Return the time of day at which the monotonic clock was 0."""
        return self._wall_clock() - timedelta(seconds=self._clock())

    async def _get_differences(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        query = parse_qs(cast("bytes", scope["query_string"]).decode("latin-1"))
        old, new = (_parse_version_id(query.get(name, [""])[-1], name) for name in ("old", "new"))
        return build_differences(self._module.config, old, new)

    async def _roll_back(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        document = await self._read_document(scope, receive)
        version_id = _parse_version_id(document.get("version"), "version")
        version = self._module.config.rollback(version_id)
        logger.warning(
            "rolled back to version %d on the status page by %s", version_id, _client_host(scope)
        )
        return {"version": version.id, "pinned": version_id}

    async def _resume(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        await self._read_document(scope, receive)
        version = self._module.config.resume()
        logger.warning("a rollback was ended on the status page by %s", _client_host(scope))
        return {"version": version.id, "pinned": None}

    async def _read_document(self, scope: Message, receive: Receive) -> Mapping[str, object]:
        """Read the posted document; it must be meant for this process."""
        content_type = read_header(scope, b"content-type").partition(b";")[0].strip()
        # A form of another site can post text, but no JSON without the browser's preflight.
        if content_type != b"application/json":
            raise ProblemError(415, "Not JSON", "send Content-Type: application/json")
        try:
            document = json.loads(await _read_body(receive))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise ProblemError(400, "Not JSON", 'send a JSON object such as {"version": 3}')
        if document.get("process", self._process["id"]) != self._process["id"]:
            raise ProblemError(
                409, "Another process", "the state came from another process; load it again"
            )
        return document


class _RefusalLog:
    """Logs wrong tokens, at most one line a minute: guessing must not fill the disk."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count = 0
        self._due_at = float("-inf")

    def add(self, scope: Message) -> None:
        """Count a refused request."""
        self._count += 1
        now = self._clock()
        if now >= self._due_at:
            logger.warning(
                "%d requests to the status page without the management token, the last from %s",
                self._count,
                _client_host(scope),
            )
            self._count, self._due_at = 0, now + _REFUSALS_LOGGED_EVERY_SECONDS


_COMMON_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HEADERS_OF_STATUS = {401: ((b"www-authenticate", b'Bearer realm="microservice"'),)}


def _require_method(scope: Message, method: str) -> None:
    request_method = scope["method"]
    if request_method != method and not (method == "GET" and request_method == "HEAD"):
        raise ProblemError(405, "Wrong method", f"use {method}")


def _parse_version_id(value: object, name: str) -> int:
    """Return the id of a version, given as a number or its digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:18])  # the conversion of a longer text is slow, and no id is that large
    # Not isinstance: True is an int, too.
    if type(value) is not int:
        raise ProblemError(400, "No version", f"{name} must be the id of a version, a whole number")
    return value


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += cast("bytes", message.get("body", b""))
        if len(body) > LARGEST_BODY:
            raise ProblemError(413, "Too large", f"send at most {LARGEST_BODY} bytes")
        if not message.get("more_body"):
            return body


def _client_host(scope: Message) -> str:
    client = scope.get("client")
    return str(client[0]) if isinstance(client, list | tuple) and client else "an unknown client"


def _build_page_headers(page: str) -> list[tuple[bytes, bytes]]:
    """Allow the page's own script and style, and nothing else; no text becomes markup."""
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hash_element('script', page)}; "
        f"style-src {_hash_element('style', page)}; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-opener-policy", b"same-origin"),
        *_COMMON_HEADERS,
    ]


def _hash_element(tag: str, page: str) -> str:
    """Return the hash by which a policy allows the page's one inline element of this tag.

    (https://www.w3.org/TR/CSP3/#grammardef-hash-source)
    """
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

"""What the kit's own small ASGI applications have in common: a token, an answer, a path."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import cast

__all__ = ("Message", "Receive", "Send", "answer", "answer_json", "carries_token", "path_within")

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]


def path_within(scope: Mapping[str, object]) -> str:
    """The path below where the application is mounted.

    Servers and frameworks disagree on whether `path` repeats `root_path`.
    """
    path, root = str(scope["path"]), scope.get("root_path")
    if not root:
        return path
    below = path.removeprefix(str(root))
    return below if below.startswith("/") or not below else path


def header_of(scope: Mapping[str, object], name: bytes) -> bytes:
    """A request header, the last one of that name; empty where there is none."""
    found = b""
    for given, value in cast(RawHeaders, scope["headers"]):
        if given == name:
            found = bytes(value)
    return found


def carries_token(scope: Mapping[str, object], token: str) -> bool:
    """Whether the request's `Authorization: Bearer` is this token; never for an empty one."""
    expected = f"Bearer {token}".encode()
    return bool(token) and hmac.compare_digest(header_of(scope, b"authorization"), expected)


async def answer_json(
    send: Send,
    status: int,
    body: Mapping[str, object],
    kind: bytes = b"application/json",
    headers: RawHeaders = (),
) -> None:
    """A JSON document."""
    await answer(send, status, json.dumps(body).encode(), kind, headers)


async def answer(
    send: Send, status: int, content: bytes, kind: bytes, headers: RawHeaders = ()
) -> None:
    """Content that nobody stores on the way."""
    own = [
        (b"content-type", kind),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": content})

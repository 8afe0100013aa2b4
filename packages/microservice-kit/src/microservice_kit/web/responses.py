"""What the kit's own small ASGI applications share: a path, a token, a response."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import cast

from microservice_kit.asgi_types import RawHeaders, Send

__all__ = ("has_token", "read_header", "send_json", "send_response", "strip_root_path")


def strip_root_path(scope: Mapping[str, object]) -> str:
    """Return the path below where the application is mounted.

    Servers and frameworks disagree on whether `path` repeats `root_path`.
    """
    path, root = str(scope["path"]), scope.get("root_path")
    if not root:
        return path
    below = path.removeprefix(str(root))
    return below if below.startswith("/") or not below else path


def read_header(scope: Mapping[str, object], name: bytes) -> bytes:
    """Return a request header, the last one of that name; empty when it is absent."""
    last = b""
    for header_name, value in cast(RawHeaders, scope["headers"]):
        if header_name == name:
            last = bytes(value)
    return last


def has_token(scope: Mapping[str, object], token: str) -> bool:
    """Whether the request's `Authorization: Bearer` is this token; never for an empty one."""
    expected = f"Bearer {token}".encode()
    return bool(token) and hmac.compare_digest(read_header(scope, b"authorization"), expected)


async def send_json(
    send: Send,
    status: int,
    body: Mapping[str, object],
    content_type: bytes = b"application/json",
    headers: RawHeaders = (),
) -> None:
    """Send a JSON document as the response."""
    await send_response(send, status, json.dumps(body).encode(), content_type, headers)


async def send_response(
    send: Send, status: int, content: bytes, content_type: bytes, headers: RawHeaders = ()
) -> None:
    """Send a whole response that no cache may store."""
    common = [
        (b"content-type", content_type),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*common, *headers]})
    await send({"type": "http.response.body", "body": content})

"""Responses: serialised once, when they are made; JSON and problem documents among them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

from .errors import Problem

__all__ = (
    "AnyResponse",
    "Headers",
    "Response",
    "StreamResponse",
    "build_json_response",
    "build_problem_response",
    "encode_json",
    "format_http_date",
)

Headers = tuple[tuple[str, str], ...]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_STATUSES_WITHOUT_BODY = (204, 304)


class Response:
    """A status, header fields and a body; `head` lacks only the date and the blank line."""

    __slots__ = ("body", "head", "status")

    def __init__(
        self, status: int, body: bytes = b"", content_type: str = "", headers: Headers = ()
    ) -> None:
        self.status = status
        self.body = body
        fields = list(headers)
        if content_type:
            fields.append(("content-type", content_type))
        if status not in _STATUSES_WITHOUT_BODY:
            fields.append(("content-length", str(len(body))))
        self.head = _encode_head(status, fields)


class StreamResponse:
    """A response whose body is sent in chunks, each as soon as it is available."""

    __slots__ = ("chunks", "head", "status")

    def __init__(
        self, chunks: AsyncIterator[bytes], content_type: str, headers: Headers = ()
    ) -> None:
        self.status = 200
        self.chunks = chunks
        self.head = _encode_head(200, [*headers, ("content-type", content_type)])


AnyResponse = Response | StreamResponse


def _encode_head(status: int, fields: list[tuple[str, str]]) -> bytes:
    lines = [_STATUS_LINES[status], *(f"{name}: {value}\r\n" for name, value in fields)]
    return "".join(lines).encode("latin-1")


def encode_json(document: object) -> bytes:
    """Compact JSON with sorted keys, so that equal content is equal bytes."""
    return json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    ).encode()


def build_json_response(status: int, document: object, headers: Headers = ()) -> Response:
    """A response with the document as `application/json`."""
    return Response(status, encode_json(document), "application/json", headers)


def build_problem_response(problem: Problem) -> Response:
    """A response with the problem as `application/problem+json` (RFC 9457)."""
    document = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.extra,
    }
    body = encode_json(document)
    return Response(problem.status, body, "application/problem+json", problem.headers)


def format_http_date(seconds: float) -> str:
    """Seconds since 1970 as RFC 9110's IMF-fixdate, whatever the locale."""
    t = time.gmtime(seconds)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
    )

"""Responses: serialised once, when they are made."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

__all__ = ("Response", "StreamResponse", "http_date", "json_bytes", "json_response")

Headers = tuple[tuple[str, str], ...]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_BODILESS = (204, 304)


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
        if status not in _BODILESS:
            fields.append(("content-length", str(len(body))))
        self.head = _head(status, fields)


class StreamResponse:
    """A body that is sent piece by piece, each as soon as it is there."""

    __slots__ = ("chunks", "head", "status")

    def __init__(
        self, chunks: AsyncIterator[bytes], content_type: str, headers: Headers = ()
    ) -> None:
        self.status = 200
        self.chunks = chunks
        self.head = _head(200, [*headers, ("content-type", content_type)])


def _head(status: int, fields: list[tuple[str, str]]) -> bytes:
    lines = [_STATUS_LINES[status], *(f"{name}: {value}\r\n" for name, value in fields)]
    return "".join(lines).encode("latin-1")


def json_bytes(document: object) -> bytes:
    """Compact JSON with sorted keys, so that equal content is equal bytes."""
    return json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    ).encode()


def json_response(status: int, document: object, headers: Headers = ()) -> Response:
    """The document as `application/json`."""
    return Response(status, json_bytes(document), "application/json", headers)


def http_date(seconds: float) -> str:
    """Seconds since the epoch as RFC 9110's IMF-fixdate, whatever the locale."""
    t = time.gmtime(seconds)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
    )

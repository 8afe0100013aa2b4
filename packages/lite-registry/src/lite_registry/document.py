"""One version of something served: its bytes in every form a client may ask for."""

from __future__ import annotations

import gzip

from .http import Request
from .response import Headers, Response

__all__ = ("Document",)

WORTH_COMPRESSING = 1024


class Document:
    """JSON bytes with a version; validators are weak, as `age` and the like may differ.

    Made once per change, so that answering is picking ready-made bytes.
    """

    __slots__ = ("_compressed", "_fields", "_not_modified", "_plain", "body", "version")

    def __init__(self, version: str, body: bytes, headers: Headers = ()) -> None:
        self.version = version
        self._fields: Headers = (
            *headers,
            ("etag", f'W/"{version}"'),
            ("cache-control", "no-cache"),
            ("vary", "accept-encoding"),
        )
        self.body = body
        self._plain = Response(200, body, "application/json", self._fields)
        self._compressed: Response | None = None
        self._not_modified: Response | None = None

    def answer(self, request: Request) -> Response:
        """The document, or 304 when the client has it (RFC 9110, section 13.1.2)."""
        headers = request.headers
        if b"if-none-match" in headers and self._is_known(request.header(b"if-none-match")):
            return self.not_modified()
        if b"accept-encoding" in headers and _accepts_gzip(request.header(b"accept-encoding")):
            return self._gzipped()
        return self._plain

    def not_modified(self) -> Response:
        """304 with the validators."""
        if self._not_modified is None:
            self._not_modified = Response(304, headers=self._fields)
        return self._not_modified

    def _is_known(self, if_none_match: str) -> bool:
        return "*" in (tags := entity_tags(if_none_match)) or self.version in tags

    def _gzipped(self) -> Response:
        if self._compressed is None:
            self._compressed = self._plain
            if len(self.body) >= WORTH_COMPRESSING:
                body = gzip.compress(self.body, compresslevel=5, mtime=0)
                fields = (*self._fields, ("content-encoding", "gzip"))
                self._compressed = Response(200, body, "application/json", fields)
        return self._compressed


def entity_tags(field_value: str) -> tuple[str, ...]:
    """The tags of an `If-Match` or `If-None-Match` field without quotes and weakness."""
    parts = (part.strip() for part in field_value.split(","))
    return tuple(part.removeprefix("W/").strip('"') for part in parts if part)


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return parameters.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False

"""One version of a document: its 200, gzip and 304 responses, and the tags that choose one."""

from __future__ import annotations

import gzip

from .request import Request
from .response import Headers, Response

__all__ = ("VersionedDocument", "parse_entity_tags")

_MIN_COMPRESSED_BYTES = 1024


class VersionedDocument:
    """JSON bytes with a version, and the conditional responses made of them (ETag, 304).

    Made once per change, so that a request only picks a ready response. Validators are weak, since
    `age` and the like may differ.
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

    def respond(self, request: Request) -> Response:
        """The document, or 304 when the client has this version (RFC 9110, section 13.1.2)."""
        headers = request.headers
        if b"if-none-match" in headers and self._matches(request.get_header(b"if-none-match")):
            return self.respond_not_modified()
        if b"accept-encoding" in headers and _accepts_gzip(request.get_header(b"accept-encoding")):
            return self._get_compressed()
        return self._plain

    def respond_not_modified(self) -> Response:
        """304 with the validators."""
        if self._not_modified is None:
            self._not_modified = Response(304, headers=self._fields)
        return self._not_modified

    def _matches(self, if_none_match: str) -> bool:
        return "*" in (tags := parse_entity_tags(if_none_match)) or self.version in tags

    def _get_compressed(self) -> Response:
        if self._compressed is None:
            self._compressed = self._plain
            if len(self.body) >= _MIN_COMPRESSED_BYTES:
                body = gzip.compress(self.body, compresslevel=5, mtime=0)
                fields = (*self._fields, ("content-encoding", "gzip"))
                self._compressed = Response(200, body, "application/json", fields)
        return self._compressed


def parse_entity_tags(field_value: str) -> tuple[str, ...]:
    """The tags of an `If-Match` or `If-None-Match` field, without quotes and `W/`."""
    parts = (part.strip() for part in field_value.split(","))
    return tuple(part.removeprefix("W/").strip('"') for part in parts if part)


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return parameters.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False

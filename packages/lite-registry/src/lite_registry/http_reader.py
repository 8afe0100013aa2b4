"""Parse the requests of one connection with httptools, within limits.

Parsing is llhttp's (strict). What is wrong with the input becomes a `Problem`, once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from .errors import Problem
from .host_header import is_valid_host
from .request import Request

__all__ = ("Limits", "Reading", "RequestReader")

_MAX_LENGTH_DIGITS = 18
_VERSIONS = ("1.1", "1.0")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may take.

    Attributes:
        target_bytes: the longest request target.
        header_bytes: the largest head, all fields together, trailer fields included.
        headers: the most header fields.
        body_bytes: the largest body.
        connections: open connections; one beyond them takes a reserved place.
        connections_per_client: open connections of one client address (IPv6: of one /64 network);
            None for seven eighths of `connections`, so that no client takes every place.
        reserved_connections: further places, for probes and metrics only: every other request
            there gets 503.
        pipelined: requests accepted ahead of their turn on one connection.
        request_seconds: how long a client may take to send one request.
        idle_seconds: how long a connection may be silent between requests.
        write_seconds: how long a client may leave a response unread.
    """

    target_bytes: int = 4096
    header_bytes: int = 16_384
    headers: int = 64
    body_bytes: int = 65_536
    connections: int = 16_384
    connections_per_client: int | None = None
    reserved_connections: int = 64
    pipelined: int = 64
    request_seconds: float = 10.0
    idle_seconds: float = 90.0
    write_seconds: float = 20.0

    @property
    def largest_share(self) -> int:
        """The most open connections of one client address."""
        if self.connections_per_client is not None:
            return self.connections_per_client
        return max(1, self.connections * 7 // 8)


class Reading(enum.Enum):
    """What the parser is in the middle of."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class RequestReader:
    """Turns the bytes of one connection into requests.

    Args:
        on_begin: called when a request begins.
        on_request: called with each complete request.

    Attributes:
        refusal: what is wrong with the input; nothing after it is read.
        tunnelled: a CONNECT came: what follows is not HTTP.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_head_bytes",
        "_headers",
        "_is_repeating",
        "_limits",
        "_on_begin",
        "_on_request",
        "_parser",
        "_target",
        "_waits_for_continue",
        "reading",
        "refusal",
        "tunnelled",
    )

    def __init__(
        self, limits: Limits, *, on_begin: Callable[[], None], on_request: Callable[[Request], None]
    ) -> None:
        self._limits = limits
        self._on_begin = on_begin
        self._on_request = on_request
        self._parser = httptools.HttpRequestParser(self)
        self._is_repeating = False
        self.reading = Reading.NOTHING
        self.refusal: Problem | None = None
        self.tunnelled = False
        self._reset_message()

    def _reset_message(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._waits_for_continue = False

    def feed(self, data: bytes) -> None:
        """Parse what came; calls `on_request`, or sets `refusal`."""
        was_in_head = self.reading is Reading.HEAD
        rest = memoryview(data)
        try:
            # A loop: as many offers to upgrade may come at once as fit into what came.
            while rest and self.refusal is None and not self.tunnelled:
                rest = self._parse(rest)
        except httptools.HttpParserError as error:
            if self.refusal is None:
                self.refusal = Problem(400, "Malformed request", f"{error}; send HTTP/1.1")
        if was_in_head and self.reading is Reading.HEAD:
            # No callback came: a field without end, which the parser keeps, is counted here.
            self._head_bytes += len(data)
            self._check_head()

    def _parse(self, data: memoryview) -> memoryview:
        """Parse up to the end, or to an offer to upgrade; returns what is left."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            return data[upgrade.args[0] :]
        return data[len(data) :]

    def _decline_upgrade(self) -> None:
        """Read on as if the request had not offered an upgrade (RFC 9110, section 7.8).

        The parser skips the body of such a request, so that another parser reads it: from the same
        framing without the offer.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self.tunnelled = True
            return
        head = b"%b / HTTP/%b\r\n" % (method, self._parser.get_http_version().encode())
        framing = (b"host", b"transfer-encoding", b"content-length")
        for name in framing:
            if name in self._headers:
                head += b"%b: %b\r\n" % (name, self._headers[name])
        options = self._headers.get(b"connection", b"").split(b",")
        remaining_options = [option for option in options if option.strip().lower() != b"upgrade"]
        head += b"connection: %b\r\n\r\n" % b",".join(remaining_options)
        self._parser = httptools.HttpRequestParser(self)
        self._is_repeating = True
        self._parser.feed_data(head)
        self._is_repeating = False

    def take_expectation(self) -> bool:
        """Whether the client waits for `100 Continue` now; true once for each request."""
        is_in_body = self.reading is Reading.BODY and not self._body_bytes
        waits = self._waits_for_continue and is_in_body and self.refusal is None
        self._waits_for_continue = False
        return waits

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._is_repeating:
            return
        self._reset_message()
        self.reading = Reading.HEAD
        self._on_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_repeating:
            return
        self._target += url
        limit = self._limits.target_bytes
        if len(self._target) > limit:
            self._reject(414, "Target too long", f"send at most {limit} bytes of path and query")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.refusal is not None or self._is_repeating:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self.reading is not Reading.BODY:
            self._add_field(name.lower(), value.strip(b" \t"))
        # else a trailer field, which must not be merged (RFC 9110, section 6.5.1): a proxy has
        # checked the head, and nothing after it.
        self._check_head()

    def _add_field(self, name: bytes, value: bytes) -> None:
        if name in self._headers:
            if name == b"host":
                self._reject(400, "Malformed request", "send exactly one Host header")
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._is_repeating:
            return
        self.reading = Reading.BODY
        if self.refusal is not None:
            return
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            self._reject(505, "HTTP version not supported", "send HTTP/1.1")
        is_current = version == "1.1"
        self._check_fields(is_current=is_current)
        self._waits_for_continue = (
            is_current
            and self._headers.get(b"expect", b"").lower() == b"100-continue"
            and self._announces_body()
        )

    def _check_fields(self, *, is_current: bool) -> None:
        host = self._headers.get(b"host")
        if host is None and is_current:
            self._reject(400, "Malformed request", "send exactly one Host header")
        if host is not None and not is_valid_host(host):
            self._reject(400, "Malformed request", "Host must be one host, perhaps with a port")
        coding = self._headers.get(b"transfer-encoding")
        if coding is not None and not is_current:
            detail = "HTTP/1.0 has no Transfer-Encoding; send HTTP/1.1 or a Content-Length"
            self._reject(400, "Malformed request", detail)
        elif coding is not None and coding.strip().lower() != b"chunked":
            self._reject(501, "Transfer coding not supported", "send it chunked and nothing else")
        if self._announces_too_much():
            self._reject_body()

    def on_body(self, body: bytes) -> None:
        if self.refusal is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._reject_body()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            return  # the parser stops here, and `_decline_upgrade` goes on
        self.reading = Reading.NOTHING
        if self.refusal is not None:
            return
        method = self._parser.get_method().decode("ascii")
        request = Request(method, self._target, self._headers, b"".join(self._body))
        request.version = self._parser.get_http_version()
        request.keep_alive = (
            request.version == "1.1" and method != "CONNECT" and self._parser.should_keep_alive()
        )
        self._on_request(request)

    def _check_head(self) -> None:
        limits = self._limits
        if self._head_bytes > limits.header_bytes or len(self._headers) > limits.headers:
            self._reject(
                431,
                "Header too large",
                f"send at most {limits.headers} fields and {limits.header_bytes} bytes",
            )

    def _announces_body(self) -> bool:
        length = self._headers.get(b"content-length", b"0")
        return b"transfer-encoding" in self._headers or length.strip(b"0") != b""

    def _announces_too_much(self) -> bool:
        length = self._headers.get(b"content-length", b"0")
        if not length.isdigit():
            return False
        return len(length) > _MAX_LENGTH_DIGITS or int(length) > self._limits.body_bytes

    def _reject_body(self) -> None:
        limit = self._limits.body_bytes
        self._reject(413, "Body too large", f"send at most {limit} bytes")

    def _reject(self, status: int, title: str, detail: str) -> None:
        if self.refusal is None:
            self.refusal = Problem(status, title, detail)

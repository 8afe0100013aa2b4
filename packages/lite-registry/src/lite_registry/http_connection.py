"""One HTTP/1.1 connection over asyncio and httptools: requests in, responses out, all bounded.

Parsing is llhttp's (strict). This module adds limits, the order of pipelined responses, time
limits, streams and an orderly end. A handler returns a `Response` at once, or an awaitable of one
when it has to wait; only then a task is made.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from .errors import Problem
from .request import Handler, Request
from .response import AnyResponse, Response, StreamResponse, build_problem_response

__all__ = ("Connection", "ConnectionOwner", "Limits")

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
_MAX_LENGTH_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may take.

    Attributes:
        target_bytes: the longest request target.
        header_bytes: the largest head, all fields together.
        headers: the most header fields.
        body_bytes: the largest body.
        connections: open connections; the response to a further one is 503.
        pipelined: requests accepted ahead of their turn on one connection.
        request_seconds: how long a client may take to send one request.
        idle_seconds: how long a connection may be silent between requests.
        write_seconds: how long a client may leave a response unread.
    """

    target_bytes: int = 4096
    header_bytes: int = 16_384
    headers: int = 64
    body_bytes: int = 65_536
    connections: int = 4096
    pipelined: int = 64
    request_seconds: float = 10.0
    idle_seconds: float = 90.0
    write_seconds: float = 20.0


class ConnectionOwner(Protocol):
    """What a connection needs of the listener that accepted it."""

    @property
    def limits(self) -> Limits: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def handler(self) -> Handler: ...
    @property
    def closing(self) -> bool: ...
    def admit(self, connection: Connection) -> bool: ...
    def remove(self, connection: Connection) -> None: ...
    def get_keep_alive_tail(self) -> bytes: ...
    def get_close_tail(self) -> bytes: ...


class _Reading(enum.Enum):
    """What the parser is in the middle of."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class _Stage(enum.IntEnum):
    """How far a connection is from its end; it only ever moves forward.

    Attributes:
        OPEN: further requests are welcome.
        LAST: no request after the accepted ones gets a response.
        HALF_CLOSED: nor does the client send any: it closed its side.
        ENDED: all responses are written, the server closed its side and ignores what comes.
    """

    OPEN = enum.auto()
    LAST = enum.auto()
    HALF_CLOSED = enum.auto()
    ENDED = enum.auto()


class _Phase(enum.Enum):
    """What a connection waits for, which decides how long it may."""

    UNREAD = enum.auto()
    ENDED = enum.auto()
    HANDLING_HALF_CLOSED = enum.auto()
    HANDLING = enum.auto()
    RECEIVING = enum.auto()
    IDLE = enum.auto()


class Connection(asyncio.Protocol):
    """One client: parses requests, responds in order, never holds more than the limits."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_head_bytes",
        "_headers",
        "_owner",
        "_parser",
        "_pending",
        "_reading",
        "_refusal",
        "_stage",
        "_target",
        "_task",
        "_transport",
        "_waiting_since",
        "_writable",
    )

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._parser = httptools.HttpRequestParser(self)
        self._pending: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reading = _Reading.NOTHING
        self._stage = _Stage.OPEN
        # What is wrong with the input; sent once the requests before it have their responses.
        self._refusal: Problem | None = None
        self._waiting_since = owner.clock()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reset_message()

    def _reset_message(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._owner.closing:
            self.abort()
        elif not self._owner.admit(self):
            # No time is spent on it: a flood of these must not cost what admitted ones cost.
            self._refuse(Problem(503, "Too many connections", "every place is taken; retry later"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.remove(self)
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._stage is _Stage.ENDED:
            return
        was_in_head = self._reading is _Reading.HEAD
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No upgrade is offered: the complete request gets its response, then the connection
            # ends.
            self._advance(_Stage.LAST)
            if not self.busy:
                self._end()
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = Problem(400, "Malformed request", f"{error}; send HTTP/1.1")
        if was_in_head and self._reading is _Reading.HEAD:
            # No callback came: a field without end, which the parser keeps, is counted here.
            self._head_bytes += len(data)
            self._check_head()
        if self._refusal is not None and not self._pending and self._task is None:
            self._refuse(self._refusal)

    def eof_received(self) -> bool:
        # A client that half-closes after its last request still gets a response that comes soon;
        # one that closed while it waited for a change looks the same and is dropped after that.
        self._advance(_Stage.HALF_CLOSED)
        self._waiting_since = self._owner.clock()
        return self.busy

    def pause_writing(self) -> None:
        self._waiting_since = self._owner.clock()
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        if self._pending and self._task is None:
            self._handle_pending()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._reset_message()
        self._reading = _Reading.HEAD
        self._waiting_since = self._owner.clock()

    def on_url(self, url: bytes) -> None:
        self._target += url
        limit = self._owner.limits.target_bytes
        if len(self._target) > limit:
            self._reject(414, "Target too long", f"send at most {limit} bytes of path and query")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._refusal is not None:
            return
        self._head_bytes += len(name) + len(value) + 4
        name = name.lower()
        if name in self._headers:
            if name == b"host":
                self._reject(400, "Malformed request", "send exactly one Host header")
            value = self._headers[name] + b", " + value
        self._headers[name] = value
        self._check_head()

    def on_headers_complete(self) -> None:
        self._reading = _Reading.BODY
        if self._refusal is not None:
            return
        if b"host" not in self._headers and self._parser.get_http_version() == "1.1":
            self._reject(400, "Malformed request", "send exactly one Host header")
        if self._announces_too_much():
            self._reject_body()
        elif (
            self._headers.get(b"expect", b"").lower() == b"100-continue"
            and self._stage is _Stage.OPEN
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refusal is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._owner.limits.body_bytes:
            self._reject_body()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._reading = _Reading.NOTHING
        if self._refusal is not None or self._stage is not _Stage.OPEN:
            return
        method = self._parser.get_method().decode("ascii")
        request = Request(method, self._target, self._headers, b"".join(self._body))
        request.version = self._parser.get_http_version()
        request.keep_alive = request.version == "1.1" and self._parser.should_keep_alive()
        self._accept(request)

    def _check_head(self) -> None:
        limits = self._owner.limits
        if self._head_bytes > limits.header_bytes or len(self._headers) > limits.headers:
            self._reject(
                431,
                "Header too large",
                f"send at most {limits.headers} fields and {limits.header_bytes} bytes",
            )

    def _announces_too_much(self) -> bool:
        length = self._headers.get(b"content-length", b"0")
        if not length.isdigit():
            return False
        return len(length) > _MAX_LENGTH_DIGITS or int(length) > self._owner.limits.body_bytes

    def _reject_body(self) -> None:
        limit = self._owner.limits.body_bytes
        self._reject(413, "Body too large", f"send at most {limit} bytes")

    def _reject(self, status: int, title: str, detail: str) -> None:
        if self._refusal is None:
            self._refusal = Problem(status, title, detail)

    # responses

    def _accept(self, request: Request) -> None:
        if self._task is None and not self._pending and self._writable is None:
            self._handle(request)
            return
        self._pending.append(request)
        if len(self._pending) >= self._owner.limits.pipelined:
            # Later requests get no response; a client repeats those on a new connection.
            self._advance(_Stage.LAST)
            self._pending[-1].keep_alive = False
        self._transport.pause_reading()  # does nothing when it is paused already

    def _handle_pending(self) -> None:
        while self._pending and self._task is None and self._writable is None:
            self._handle(self._pending.popleft())
        if not self._pending and self._task is None:
            self._continue_reading()

    def _continue_reading(self) -> None:
        if self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self._transport.resume_reading()  # does nothing when it is closing or reads already

    def _handle(self, request: Request) -> None:
        try:
            outcome = self._owner.handler(request)
        except Exception:
            logger.exception("a handler failed; this is a defect of lite-registry")
            outcome = _build_internal_error()
        if isinstance(outcome, Response):
            self._write(request, outcome)
        else:
            # No supervisor: `_respond` ends with its request, and handles whatever is raised.
            self._task = asyncio.get_running_loop().create_task(self._respond(request, outcome))

    async def _respond(
        self, request: Request, outcome: Awaitable[AnyResponse] | StreamResponse
    ) -> None:
        try:
            response = outcome if isinstance(outcome, StreamResponse) else await outcome
            if isinstance(response, StreamResponse):
                await self._stream(request, response)
            else:
                self._write(request, response)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception:
            logger.exception("a handler failed; this is a defect of lite-registry")
            self._write(request, _build_internal_error())
        finally:
            self._task = None
            if not self._transport.is_closing():
                self._handle_pending()

    def _write(self, request: Request, response: Response) -> None:
        self._waiting_since = self._owner.clock()
        is_last = self._stage is not _Stage.OPEN and not self._pending
        keep_alive = request.keep_alive and not is_last and not self._owner.closing
        tail = self._owner.get_keep_alive_tail() if keep_alive else self._owner.get_close_tail()
        body = b"" if request.method == "HEAD" else response.body
        self._transport.write(b"".join((response.head, tail, body)))
        if not keep_alive:
            self._pending.clear()
            self._end()

    async def _stream(self, request: Request, response: StreamResponse) -> None:
        chunked = request.version == "1.1"
        field = b"transfer-encoding: chunked\r\n" if chunked else b""
        self._transport.write(response.head + field + self._owner.get_close_tail())
        self._pending.clear()
        if request.method != "HEAD":
            try:
                await self._send_chunks(response.chunks, chunked=chunked)
            except Exception:
                logger.exception("a stream failed; this is a defect of lite-registry")
                self._transport.abort()
                return
        self._end()

    async def _send_chunks(self, chunks: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for chunk in chunks:
            self._waiting_since = self._owner.clock()
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if self._writable is not None:
                await self._writable
        if chunked:
            self._transport.write(b"0\r\n\r\n")

    def _refuse(self, problem: Problem) -> None:
        if self._stage is _Stage.ENDED:
            return
        response = build_problem_response(problem)
        self._transport.write(response.head + self._owner.get_close_tail() + response.body)
        self._end()

    def _end(self) -> None:
        """Close this side, and give the client time to read the last response.

        Closing a socket with unread input resets the connection, and the response would be lost:
        so the input is read on, and ignored.
        """
        self._advance(_Stage.ENDED)
        self._waiting_since = self._owner.clock()
        self._transport.resume_reading()
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the client is gone already
                self._transport.abort()

    def _advance(self, stage: _Stage) -> None:
        self._stage = max(self._stage, stage)

    # time limits and the end, called by the owner

    @property
    def busy(self) -> bool:
        """Whether a response is to come, or is not read yet."""
        return self._task is not None or bool(self._pending) or self._writable is not None

    def enforce_time_limit(self, now: float) -> None:
        """End the connection when the client was too slow, or silent for too long."""
        phase, limits = self._find_phase(), self._owner.limits
        longest, end = {
            _Phase.UNREAD: (limits.write_seconds, self.abort),
            _Phase.ENDED: (_GRACE_SECONDS, self.abort),
            _Phase.HANDLING_HALF_CLOSED: (_GRACE_SECONDS, self.abort),
            _Phase.HANDLING: (float("inf"), self.abort),
            _Phase.RECEIVING: (limits.request_seconds, self._refuse_slow_request),
            _Phase.IDLE: (limits.idle_seconds, self._transport.close),
        }[phase]
        if now - self._waiting_since > longest:
            end()

    def _find_phase(self) -> _Phase:
        if self._writable is not None:
            return _Phase.UNREAD
        if self._stage is _Stage.ENDED:
            return _Phase.ENDED
        if self._task is not None:
            is_half_closed = self._stage is _Stage.HALF_CLOSED
            return _Phase.HANDLING_HALF_CLOSED if is_half_closed else _Phase.HANDLING
        return _Phase.IDLE if self._reading is _Reading.NOTHING else _Phase.RECEIVING

    def _refuse_slow_request(self) -> None:
        self._refuse(Problem(408, "Request too slow", "send a request without pauses"))

    def close_when_idle(self) -> None:
        """Close now when idle; a busy connection closes after its response."""
        if not self.busy and self._stage is not _Stage.ENDED:
            self._transport.close()

    def abort(self) -> None:
        """Close now, and drop what is not sent yet."""
        self._transport.abort()


def _build_internal_error() -> Response:
    title = HTTPStatus.INTERNAL_SERVER_ERROR.phrase
    return build_problem_response(Problem(500, title, "see the server's log and report the defect"))

"""One HTTP/1.1 connection over asyncio and httptools: requests in, responses out, all bounded.

Parsing is llhttp's (strict). What is ours: limits, order of pipelined answers, time limits,
streams and an orderly end. A handler answers at once with a `Response`, or with an awaitable of
one when it has to wait; only then a task is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import httptools

from .errors import Problem
from .problem import problem_response
from .response import Response, StreamResponse

if TYPE_CHECKING:
    from .listener import HttpListener

__all__ = ("Answer", "Connection", "Handler", "Limits", "Request")

logger = logging.getLogger(__name__)

GRACE_SECONDS = 1.0

Answer = Response | StreamResponse
Handler = Callable[["Request"], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may take.

    Attributes:
        target_bytes: the longest request target.
        header_bytes: the largest head, all fields together.
        headers: the most header fields.
        body_bytes: the largest body.
        connections: open connections; one more is answered 503.
        pipelined: requests taken ahead of their turn on one connection.
        request_seconds: how long a client may take to send one request.
        idle_seconds: how long a connection may be silent between requests.
        write_seconds: how long a client may leave an answer unread.
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


class Request:
    """One complete request; header names are lower case.

    Attributes:
        template: the path with its variable parts named, for metrics; set by the handler.
    """

    __slots__ = ("body", "headers", "keep_alive", "method", "target", "template", "version")

    def __init__(
        self, method: str, target: bytes, headers: dict[bytes, bytes], body: bytes = b""
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.version = "1.1"
        self.template = "other"

    def header(self, name: bytes) -> str:
        """The field's value, or empty."""
        return self.headers.get(name, b"").decode("latin-1")


class Connection(asyncio.Protocol):
    """One client: parses what it sends, answers in order, never holds more than the limits."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_discarding",
        "_half_closed",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_in_message",
        "_last",
        "_listener",
        "_parser",
        "_pending",
        "_reading_paused",
        "_refusal",
        "_since",
        "_target",
        "_task",
        "_transport",
        "_writable",
    )

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._pending: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._refusal: Problem | None = None
        self._last = False
        self._discarding = False
        self._half_closed = False
        self._in_head = False
        self._in_message = False
        self._reading_paused = False
        self._since = listener.clock()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._listener.closing:
            self.abort()
        elif not self._listener.admit(self):
            # No time is spent on it: a flood of these must not cost what admitted ones cost.
            self._refuse(Problem(503, "Too many connections", "every place is taken; retry later"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        began_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No upgrade is offered: the request itself was complete and is answered, then the end.
            self._last = True
            if not self.busy:
                self._end()
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = Problem(400, "Malformed request", f"{error}; send HTTP/1.1")
        if began_in_head and self._in_head:
            self._head_bytes += len(data)
            self._check_head()
        if self._refusal is not None and not self._pending and self._task is None:
            self._refuse(self._refusal)

    def eof_received(self) -> bool:
        # A client that half-closes after its last request still gets an answer that comes soon;
        # one that closed while it waited for a change looks the same and is let go after that.
        self._last = True
        self._half_closed = True
        self._since = self._listener.clock()
        return self.busy

    def pause_writing(self) -> None:
        self._since = self._listener.clock()
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        if self._pending and self._task is None:
            self._answer_pending()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._reset()
        self._in_head = True
        self._in_message = True
        self._since = self._listener.clock()

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._listener.limits.target_bytes:
            limit = self._listener.limits.target_bytes
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
        self._in_head = False
        if self._refusal is not None:
            return
        if b"host" not in self._headers and self._parser.get_http_version() == "1.1":
            self._reject(400, "Malformed request", "send exactly one Host header")
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._listener.limits.body_bytes:
            self._reject_body()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._last:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refusal is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._listener.limits.body_bytes:
            self._reject_body()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._refusal is not None or self._last:
            return
        method = self._parser.get_method().decode("ascii")
        request = Request(method, self._target, self._headers, b"".join(self._body))
        request.version = self._parser.get_http_version()
        request.keep_alive = request.version == "1.1" and self._parser.should_keep_alive()
        self._take(request)

    def _check_head(self) -> None:
        limits = self._listener.limits
        if self._head_bytes > limits.header_bytes or len(self._headers) > limits.headers:
            self._reject(
                431,
                "Header too large",
                f"send at most {limits.headers} fields and {limits.header_bytes} bytes",
            )

    def _reject_body(self) -> None:
        limit = self._listener.limits.body_bytes
        self._reject(413, "Body too large", f"send at most {limit} bytes")

    def _reject(self, status: int, title: str, detail: str) -> None:
        if self._refusal is None:
            self._refusal = Problem(status, title, detail)

    # answering

    def _take(self, request: Request) -> None:
        if self._task is None and not self._pending and self._writable is None:
            self._answer(request)
            return
        self._pending.append(request)
        if len(self._pending) >= self._listener.limits.pipelined:
            # What comes after is not answered; a client repeats that on a new connection.
            self._last = True
            self._pending[-1].keep_alive = False
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _answer_pending(self) -> None:
        while self._pending and self._task is None and self._writable is None:
            self._answer(self._pending.popleft())
        if not self._pending and self._task is None:
            self._caught_up()

    def _caught_up(self) -> None:
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _answer(self, request: Request) -> None:
        try:
            outcome = self._listener.handler(request)
        except Exception:
            logger.exception("a handler failed; this is a defect of lite-registry")
            outcome = _internal_error()
        if isinstance(outcome, Response):
            self._write(request, outcome)
        else:
            self._task = asyncio.get_running_loop().create_task(self._finish(request, outcome))

    async def _finish(self, request: Request, outcome: Awaitable[Answer] | StreamResponse) -> None:
        try:
            answer = outcome if isinstance(outcome, StreamResponse) else await outcome
            if isinstance(answer, StreamResponse):
                await self._stream(request, answer)
            else:
                self._write(request, answer)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception:
            logger.exception("a handler failed; this is a defect of lite-registry")
            self._write(request, _internal_error())
        finally:
            self._task = None
            if not self._transport.is_closing():
                self._answer_pending()

    def _write(self, request: Request, response: Response) -> None:
        self._since = self._listener.clock()
        last = self._last and not self._pending
        keep_alive = request.keep_alive and not last and not self._listener.closing
        tail = self._listener.keep_alive_tail() if keep_alive else self._listener.close_tail()
        body = b"" if request.method == "HEAD" else response.body
        self._transport.write(b"".join((response.head, tail, body)))
        if not keep_alive:
            self._pending.clear()
            self._end()

    async def _stream(self, request: Request, response: StreamResponse) -> None:
        chunked = request.version == "1.1"
        field = b"transfer-encoding: chunked\r\n" if chunked else b""
        self._transport.write(response.head + field + self._listener.close_tail())
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
            self._since = self._listener.clock()
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if self._writable is not None:
                await self._writable
        if chunked:
            self._transport.write(b"0\r\n\r\n")

    def _refuse(self, problem: Problem) -> None:
        if self._discarding:  # the end was said already; what came after it does not count
            return
        self._transport.write(
            problem_response(problem).head
            + self._listener.close_tail()
            + problem_response(problem).body
        )
        self._end()

    def _end(self) -> None:
        """Say that nothing follows, and leave the client time to read it.

        Closing with unread input resets the connection, and the answer would be lost.
        """
        self._discarding = True
        self._last = True
        self._since = self._listener.clock()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the client is gone already
                self._transport.abort()

    # time limits and the end, called by the listener

    @property
    def busy(self) -> bool:
        """Whether an answer is owed or unread."""
        return self._task is not None or bool(self._pending) or self._writable is not None

    def sweep(self, now: float) -> None:
        """Close what has been silent, slow or deaf for too long."""
        limits, quiet = self._listener.limits, now - self._since
        if self._discarding or self._writable is not None:
            if quiet > (limits.write_seconds if self._writable is not None else GRACE_SECONDS):
                self._transport.abort()
        elif self._task is not None:
            if self._half_closed and quiet > GRACE_SECONDS:
                self._transport.abort()
        elif self._in_message:
            if quiet > limits.request_seconds:
                self._refuse(Problem(408, "Request too slow", "send a request without pauses"))
        elif quiet > limits.idle_seconds:
            self._transport.close()

    def finish(self) -> None:
        """Close now when idle, after the answer when busy."""
        if not self.busy and not self._discarding:
            self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        self._transport.abort()


def _internal_error() -> Response:
    title = HTTPStatus.INTERNAL_SERVER_ERROR.phrase
    return problem_response(Problem(500, title, "see the server's log and report the defect"))

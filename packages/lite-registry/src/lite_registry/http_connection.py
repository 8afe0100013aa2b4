"""One HTTP/1.1 connection over asyncio: requests in, responses out, all bounded.

`RequestReader` parses. This module adds the order of pipelined responses, time limits, streams and
an orderly end. A handler returns a `Response` at once, or an awaitable of one
when it has to wait; only then a task is made.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Protocol, cast

from .errors import Problem
from .http_reader import Limits, Reading, RequestReader
from .request import Handler, Outcome, Request
from .response import AnyResponse, Response, StreamResponse, build_problem_response

__all__ = ("Connection", "ConnectionOwner", "Place")

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
_RESERVED_PLACE_SECONDS = 2.0
_PATHS_OF_RESERVED_PLACES = frozenset({b"/healthz", b"/readyz", b"/metrics"})


class Place(enum.Enum):
    """What a listener gives to a connection that it accepted.

    Attributes:
        OPEN: it may send every request.
        RESERVED: it may ask for health, readiness and metrics; other requests get 503.
        NONE: it gets 503 at once.
    """

    OPEN = enum.auto()
    RESERVED = enum.auto()
    NONE = enum.auto()


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
    def admit(self, connection: Connection) -> Place: ...
    def remove(self, connection: Connection) -> None: ...
    def get_keep_alive_tail(self) -> bytes: ...
    def get_close_tail(self) -> bytes: ...


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
    RESERVED = enum.auto()
    RECEIVING = enum.auto()
    IDLE = enum.auto()


class Connection(asyncio.Protocol):
    """One client: parses requests, responds in order, never holds more than the limits."""

    __slots__ = (
        "_owner",
        "_pending",
        "_place",
        "_reader",
        "_stage",
        "_task",
        "_transport",
        "_waiting_since",
        "_writable",
        "client",
    )

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        # Its refusal is sent once the requests before it have their responses.
        self._reader = RequestReader(
            owner.limits, on_begin=self._handle_begin, on_request=self._accept
        )
        self._pending: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._stage = _Stage.OPEN
        self._place = Place.OPEN
        self._waiting_since = owner.clock()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.client = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        if self._owner.closing:
            self.abort()
            return
        self._place = self._owner.admit(self)
        if self._place is Place.NONE:
            # No time is spent on it: a flood of these must not cost what admitted ones cost.
            self._refuse(_build_full_house())
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
        self._reader.feed(data)
        if self._reader.tunnelled:
            # No tunnel is offered: CONNECT gets its response, then the connection ends.
            self._advance(_Stage.LAST)
            if not self.busy:
                self._end()
        if self._reader.refusal is not None and not self._pending and self._task is None:
            self._refuse(self._reader.refusal)
        elif not self.busy:
            self._send_continue()

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

    def _handle_begin(self) -> None:
        self._waiting_since = self._owner.clock()

    def _send_continue(self) -> None:
        if self._stage is _Stage.OPEN and self._reader.take_expectation():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # responses

    def _accept(self, request: Request) -> None:
        if self._stage is not _Stage.OPEN:
            return
        if self._place is Place.RESERVED:
            request.keep_alive = False
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
        if self._reader.refusal is not None:
            self._refuse(self._reader.refusal)
        else:
            self._send_continue()
            self._transport.resume_reading()  # does nothing when it is closing or reads already

    def _handle(self, request: Request) -> None:
        outcome = self._call_handler(request)
        if isinstance(outcome, Response):
            self._write(request, outcome)
        else:
            # No supervisor: `_respond` ends with its request, and handles whatever is raised.
            self._task = asyncio.get_running_loop().create_task(self._respond(request, outcome))

    def _call_handler(self, request: Request) -> Outcome:
        if self._place is Place.RESERVED and request.target not in _PATHS_OF_RESERVED_PLACES:
            return build_problem_response(_build_full_house())
        try:
            return self._owner.handler(request)
        except Exception:
            logger.exception("a handler failed; this is a defect of lite-registry")
            return _build_internal_error()

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
            _Phase.RESERVED: (_RESERVED_PLACE_SECONDS, self.abort),
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
        if self._place is Place.RESERVED:
            return _Phase.RESERVED
        return _Phase.IDLE if self._reader.reading is Reading.NOTHING else _Phase.RECEIVING

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


def _build_full_house() -> Problem:
    detail = "every place is taken; retry later, or raise --max-connections"
    return Problem(503, "Too many connections", detail, headers=(("retry-after", "1"),))

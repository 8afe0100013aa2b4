"""Streams of messages in a response's body: server-sent events and JSON, one document per line."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx

from microservice_core import MicroserviceError

__all__ = ("MessageTooLongError", "ServerSentEvent", "aiter_events", "aiter_json_lines")

# Characters (bytes, for lines) of one message: a body without line ends must not fill the memory.
_MAX_MESSAGE = 1_048_576
# What is parsed at once: other tasks run between two such pieces of a chunk that was compressed.
_PIECE = 65_536
# A line end, and the blank lines after it.
_LINE_ENDS = re.compile(r"(\r\n|\n|\r)([\r\n]*)")


class MessageTooLongError(MicroserviceError, ValueError):
    """A message of a stream is longer than 1 MiB."""

    def __init__(self) -> None:
        super().__init__(
            f"a message of the stream is longer than {_MAX_MESSAGE} characters; "
            "read such a body with `aiter_bytes`"
        )


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One server-sent event.

    Attributes:
        event: the event's type; `message` by default.
        data: the lines of data, joined by newlines.
        id: the last id in the stream so far.
        retry_seconds: how long to wait before a reconnection; None if the server did not say.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry_seconds: float | None = None

    def json(self) -> object:
        """Parse the data as JSON.

        Raises:
            ValueError: the data is not valid JSON.
        """
        return _parse_json(self.data)


class EventDecoder:
    """Parses events from text that arrives in pieces.

    Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
    """

    def __init__(self) -> None:
        self._line: list[str] = []
        self._line_size = 0
        self._ended_in_cr = False
        self._at_start = True
        self._last_id = ""
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._retry: float | None = None

    def feed(self, text: str) -> Iterator[ServerSentEvent]:
        """Yield the events that this piece completes, in time that grows with its length only.

        Raises:
            MessageTooLongError: an event or a line is too long.
        """
        text = self._strip_start(text)
        start = 0
        for match in _LINE_ENDS.finditer(text):
            line, start = self._complete_line(text[start : match.start()]), match.end()
            event = self._parse_line(line)
            if event is None and match[2]:  # a blank line follows, or many, which mean the same
                event = self._dispatch()
            if event is not None:
                yield event
            if self._size > _MAX_MESSAGE:
                raise MessageTooLongError
        self._keep_rest(text[start:])

    def _strip_start(self, text: str) -> str:
        """Remove a byte order mark, and the LF of a CR LF of which the CR was in the last piece."""
        if not text:
            return text
        if self._at_start:
            text, self._at_start = text.removeprefix("\ufeff"), False
        if self._ended_in_cr:
            text = text.removeprefix("\n")
        self._ended_in_cr = text.endswith("\r")
        return text

    def _complete_line(self, end: str) -> str:
        """Return the line whose earlier pieces were kept."""
        if not self._line:
            line = end
        else:
            line = "".join([*self._line, end])
            self._line, self._line_size = [], 0
        if len(line) > _MAX_MESSAGE:
            raise MessageTooLongError
        return line

    def _keep_rest(self, rest: str) -> None:
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
        if self._line_size + self._size > _MAX_MESSAGE:
            raise MessageTooLongError

    def _parse_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
                self._size += len(line) + 1  # as it was sent: an empty one takes room as well
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self._retry = int(value[:12]) / 1000
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, event, retry = self._data, self._event, self._retry
        self._reset()
        if not data:
            return None
        return ServerSentEvent(event or "message", "\n".join(data), self._last_id, retry)

    def _reset(self) -> None:
        self._data, self._size, self._event, self._retry = [], 0, "", None


async def aiter_events(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """Iterate over the events of a response as they arrive; an unfinished last one is dropped.

    Raises:
        MessageTooLongError: an event is longer than 1 MiB.
    """
    response.encoding = "utf-8"
    decoder = EventDecoder()
    async for text in response.aiter_text():
        for start in range(0, len(text), _PIECE):
            if start:
                await asyncio.sleep(0)
            for event in decoder.feed(text[start : start + _PIECE]):
                yield event


async def aiter_json_lines(response: httpx.Response) -> AsyncIterator[object]:
    """Iterate over the documents of an NDJSON response as they arrive; blank lines are skipped.

    Raises:
        MessageTooLongError: a line is longer than 1 MiB.
        ValueError: a line is not valid JSON.
    """
    async for line in aiter_lines(response):
        yield _parse_json(line)


async def aiter_lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Iterate over the lines of a body that are not blank, ended by LF or CR LF.

    Raises:
        MessageTooLongError: a line is longer than 1 MiB.
    """
    splitter = _LineSplitter()
    async for chunk in response.aiter_bytes():
        for start in range(0, len(chunk), _PIECE):
            if start:
                await asyncio.sleep(0)
            for line in splitter.feed(chunk[start : start + _PIECE]):
                yield line
    if splitter.rest.strip():
        yield bytes(splitter.rest)


class _LineSplitter:
    """Splits a body that arrives in pieces into lines.

    Attributes:
        rest: what follows the last line end.
    """

    def __init__(self) -> None:
        self.rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the lines that this piece completes, without the blank ones.

        Raises:
            MessageTooLongError: a line is too long.
        """
        *lines, last = piece.split(b"\n")
        if lines and self.rest:
            lines[0], self.rest = bytes(self.rest + lines[0]), bytearray()
        for line in lines:
            if len(line) > _MAX_MESSAGE:
                raise MessageTooLongError
            if line.strip():
                yield line
        self.rest += last
        if len(self.rest) > _MAX_MESSAGE:
            raise MessageTooLongError


def _parse_json(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None

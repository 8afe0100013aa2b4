"""Streams of messages in a response's body: server-sent events and JSON, one document per line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx

from microservice_core import MicroserviceError

__all__ = ("MessageTooLongError", "ServerSentEvent", "aiter_events", "aiter_json_lines")

# Characters (bytes, for lines) of one message: a body without line ends must not fill the memory.
_MAX_MESSAGE = 1_048_576


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
        return json.loads(self.data)


class EventDecoder:
    """Parses events from text that arrives in pieces.

    Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._at_start = True
        self._last_id = ""
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._retry: float | None = None

    def feed(self, text: str) -> Iterator[ServerSentEvent]:
        """Yield the events that this piece completes.

        Raises:
            MessageTooLongError: an event or a line is too long.
        """
        if self._at_start and text:
            text, self._at_start = text.removeprefix("\ufeff"), False
        self._buffer += text
        while (line := self._take_line()) is not None:
            event = self._parse_line(line)
            if event is not None:
                yield event
        if len(self._buffer) + self._size > _MAX_MESSAGE:
            raise MessageTooLongError

    def _take_line(self) -> str | None:
        """Take the next line, ended by CR, LF or CR LF; None if there is no complete line."""
        rest = self._buffer
        ends = [index for index in (rest.find("\n"), rest.find("\r")) if index >= 0]
        if not ends:
            return None
        end = min(ends)
        if rest[end] == "\r":
            if end + 1 == len(rest):
                return None  # the next piece may begin with the LF that belongs to this CR
            next_start = end + (2 if rest[end + 1] == "\n" else 1)
        else:
            next_start = end + 1
        self._buffer = rest[next_start:]
        return rest[:end]

    def _parse_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
                self._size += len(value)
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
        for event in decoder.feed(text):
            yield event


async def aiter_json_lines(response: httpx.Response) -> AsyncIterator[object]:
    """Iterate over the documents of an NDJSON response as they arrive; blank lines are skipped.

    Raises:
        MessageTooLongError: a line is longer than 1 MiB.
        ValueError: a line is not valid JSON.
    """
    async for line in aiter_lines(response):
        yield json.loads(line)


async def aiter_lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Iterate over the lines of a body that are not blank, ended by LF or CR LF.

    Raises:
        MessageTooLongError: a line is longer than 1 MiB.
    """
    rest = bytearray()
    async for chunk in response.aiter_bytes():
        rest += chunk
        if b"\n" in chunk:
            *lines, last = rest.split(b"\n")
            rest = bytearray(last)
            for line in lines:
                if line.strip():
                    yield bytes(line)
        if len(rest) > _MAX_MESSAGE:
            raise MessageTooLongError
    if rest.strip():
        yield bytes(rest)

"""Streams of messages in a response's body: server-sent events and JSON, one document per line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx

from microservice_core import MicroserviceError

__all__ = ("MessageTooLongError", "ServerSentEvent", "aiter_events", "aiter_json_lines")

_LONGEST = 1_048_576  # characters of one message; a body without line ends must not fill the memory


class MessageTooLongError(MicroserviceError, ValueError):
    """One message of a stream is longer than 1 MiB."""

    def __init__(self) -> None:
        super().__init__(
            f"a message of the stream is longer than {_LONGEST} characters; "
            "read such a body with `aiter_bytes`"
        )


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event.

    Attributes:
        event: its type, `message` when the server gave none.
        data: the lines of its data, joined by newlines.
        id: the last id the stream has given so far.
        retry_seconds: how long the server asks to wait before a reconnection.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry_seconds: float | None = None

    def json(self) -> object:
        """The data as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.data)


class EventDecoder:
    """Reads events from text that comes in pieces.

    Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
    """

    def __init__(self) -> None:
        self._rest = ""
        self._first = True
        self._last_id = ""
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._retry: float | None = None

    def feed(self, text: str) -> Iterator[ServerSentEvent]:
        """The events that are complete with this piece.

        Raises:
            MessageTooLongError: an event, or a line, that is too long.
        """
        if self._first and text:
            text, self._first = text.removeprefix("\ufeff"), False
        self._rest += text
        while (line := self._next_line()) is not None:
            event = self._take(line)
            if event is not None:
                yield event
        if len(self._rest) + self._size > _LONGEST:
            raise MessageTooLongError

    def _next_line(self) -> str | None:
        """The next line, ended by CR, LF or both; a CR at the very end may be half of both."""
        rest = self._rest
        ends = [at for at in (rest.find("\n"), rest.find("\r")) if at >= 0]
        if not ends:
            return None
        at = min(ends)
        if rest[at] == "\r":
            if at + 1 == len(rest):
                return None
            after = at + (2 if rest[at + 1] == "\n" else 1)
        else:
            after = at + 1
        self._rest = rest[after:]
        return rest[:at]

    def _take(self, line: str) -> ServerSentEvent | None:
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
    """The events of a response, as they come; an unfinished one at the end is dropped.

    Raises:
        MessageTooLongError: an event above 1 MiB.
    """
    response.encoding = "utf-8"
    decoder = EventDecoder()
    async for text in response.aiter_text():
        for event in decoder.feed(text):
            yield event


async def aiter_json_lines(response: httpx.Response) -> AsyncIterator[object]:
    """The documents of an NDJSON response, as they come; empty lines are skipped.

    Raises:
        MessageTooLongError: a line above 1 MiB.
        ValueError: a line is no JSON.
    """
    async for line in aiter_lines(response):
        yield json.loads(line)


async def aiter_lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of a body that are not blank, ended by LF or CR LF.

    Raises:
        MessageTooLongError: a line above 1 MiB.
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
        if len(rest) > _LONGEST:
            raise MessageTooLongError
    if rest.strip():
        yield bytes(rest)

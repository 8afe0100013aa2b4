"""What a declared method makes of the response: a model, text, bytes, the response, or a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import get_args, get_origin

import httpx
from pydantic import TypeAdapter, ValidationError

from microservice_client.errors import AnswerFormatError
from microservice_client.http.event_streams import ServerSentEvent, aiter_events, aiter_lines

from .parameters import adapter_of

__all__ = ("async_stream", "decoder", "item_of", "name_of", "stream_reader")

_ASYNC_STREAMS = (AsyncIterator, AsyncGenerator)
_SYNC_STREAMS = (Iterator, Generator)


def async_stream(result: object) -> bool:
    """Whether the result is to be iterated asynchronously."""
    return get_origin(result) in _ASYNC_STREAMS


def sync_stream(result: object) -> bool:
    """Whether the result is to be iterated."""
    return get_origin(result) in _SYNC_STREAMS


def item_of(result: object) -> object:
    """The type of a stream's items."""
    return get_args(result)[0]


def decoder(service: str, result: object) -> Callable[[httpx.Response], object]:
    """What turns a response that was read into that type."""
    if result is httpx.Response:
        return _response
    if result is bytes:
        return _content
    if result is str:
        return _text
    if result is None or result is type(None):
        return _nothing
    adapter = adapter_of(result)
    expected = name_of(result)

    def decode(response: httpx.Response) -> object:
        return validated(service, expected, adapter, response.content or b"null")

    return decode


def stream_reader(service: str, item: object) -> Callable[[httpx.Response], AsyncIterator[object]]:
    """What reads a response's body as items: events, chunks of bytes, or JSON lines of that type."""
    if item is ServerSentEvent:
        return aiter_events
    if item is bytes:
        return _chunks
    adapter = adapter_of(item)
    expected = name_of(item)

    async def documents(response: httpx.Response) -> AsyncIterator[object]:
        async for line in aiter_lines(response):
            yield validated(service, expected, adapter, line)

    return documents


def accepted(result: object) -> str:
    """The media type that a method asks for."""
    if async_stream(result) or sync_stream(result):
        item = item_of(result)
        if item is ServerSentEvent:
            return "text/event-stream"
        return "*/*" if item is bytes else "application/x-ndjson"
    plain = (httpx.Response, bytes, str, None, type(None))
    return "*/*" if result in plain else "application/json"


def validated(service: str, expected: str, adapter: TypeAdapter[object], content: bytes) -> object:
    """The content as that type.

    Raises:
        AnswerFormatError: it is none; the message names places and rules, never content.
    """
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        raise AnswerFormatError(service, expected, _why(error)) from None


def name_of(kind: object) -> str:
    """The type as a person writes it."""
    return getattr(kind, "__name__", None) or str(kind)


def _why(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['type'].replace('_', ' ')}{more}"


async def _chunks(response: httpx.Response) -> AsyncIterator[object]:
    async for chunk in response.aiter_bytes():
        yield chunk


def _response(response: httpx.Response) -> object:
    return response


def _content(response: httpx.Response) -> object:
    return response.content


def _text(response: httpx.Response) -> object:
    return response.text


def _nothing(_: httpx.Response) -> object:
    return None

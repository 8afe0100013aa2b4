"""The result of a declared method: a model, text, bytes, the response itself, or a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import get_args, get_origin

import httpx
from pydantic import TypeAdapter, ValidationError

from microservice_client.errors import ResponseFormatError
from microservice_client.http.event_streams import ServerSentEvent, aiter_events, aiter_lines

from .parameters import make_adapter

__all__ = (
    "accept_header",
    "is_async_stream",
    "is_sync_stream",
    "make_decoder",
    "make_stream_reader",
    "stream_item_type",
)

_ASYNC_STREAMS = (AsyncIterator, AsyncGenerator)
_SYNC_STREAMS = (Iterator, Generator)


def is_async_stream(result: object) -> bool:
    """Whether the return type is an async iterator."""
    return get_origin(result) in _ASYNC_STREAMS


def is_sync_stream(result: object) -> bool:
    """Whether the return type is an iterator."""
    return get_origin(result) in _SYNC_STREAMS


def stream_item_type(result: object) -> object:
    """Return the type of a stream's items."""
    return get_args(result)[0]


def make_decoder(service: str, result: object) -> Callable[[httpx.Response], object]:
    """Make the function that decodes a response, its body read, to the return type."""
    if result is httpx.Response:
        return lambda response: response
    if result is bytes:
        return lambda response: response.content
    if result is str:
        return lambda response: response.text
    if result is None or result is type(None):
        return lambda response: None  # noqa: ARG005 - whatever the response is
    adapter = make_adapter(result)
    expected = _type_name(result)

    def decode(response: httpx.Response) -> object:
        return _validate(service, expected, adapter, response.content or b"null")

    return decode


def make_stream_reader(
    service: str, item: object
) -> Callable[[httpx.Response], AsyncIterator[object]]:
    """Make the function that iterates over a body: events, chunks of bytes, or JSON lines."""
    if item is ServerSentEvent:
        return aiter_events
    if item is bytes:
        return _iterate_chunks
    adapter = make_adapter(item)
    expected = _type_name(item)

    async def iterate_documents(response: httpx.Response) -> AsyncIterator[object]:
        async for line in aiter_lines(response):
            yield _validate(service, expected, adapter, line)

    return iterate_documents


def accept_header(result: object) -> str:
    """Return the media type to request for a return type."""
    if is_async_stream(result) or is_sync_stream(result):
        item = stream_item_type(result)
        if item is ServerSentEvent:
            return "text/event-stream"
        return "*/*" if item is bytes else "application/x-ndjson"
    any_type = (httpx.Response, bytes, str, None, type(None))
    return "*/*" if result in any_type else "application/json"


def _validate(service: str, expected: str, adapter: TypeAdapter[object], content: bytes) -> object:
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        # Not chained: pydantic's message quotes the content.
        raise ResponseFormatError(service, expected, _describe_error(error)) from None


def _type_name(kind: object) -> str:
    return getattr(kind, "__name__", None) or str(kind)


def _describe_error(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['type'].replace('_', ' ')}{more}"


async def _iterate_chunks(response: httpx.Response) -> AsyncIterator[object]:
    async for chunk in response.aiter_bytes():
        yield chunk

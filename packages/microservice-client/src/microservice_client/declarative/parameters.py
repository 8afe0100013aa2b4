"""The parameters of a declared method: sent in the path, query, headers or body."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast, get_args, get_origin, is_typeddict
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from microservice_core import InvalidValueError

__all__ = ("Body", "Header", "Parameter", "Path", "Query", "choose_kind")


@dataclass(frozen=True, slots=True)
class Path:
    """Mark a parameter as part of the path: it replaces `{name}`, by default its own name."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """Mark a query parameter, with another name if one is given. None is not sent."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """Mark a header; `x_user_id` is sent as `x-user-id` unless a name is given. None is not sent."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """Mark the body: bytes and streams are sent as they are, text as text, all else as JSON."""

    content_type: str = ""


Kind: TypeAlias = Path | Query | Header | Body
_PLAIN_TYPES = (str, int, float)
_STREAMS = (AsyncIterable, AsyncIterator, AsyncGenerator)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a declared method.

    Attributes:
        name: in Python.
        kind: where it is sent.
        wire_name: its name there.
        encode: converts a value for the path, the query or a header.
    """

    name: str
    kind: Kind
    wire_name: str
    encode: Callable[[object], object]


def choose_kind(name: str, annotation: object, placeholders: frozenset[str]) -> Kind:
    """Choose where a parameter is sent: by its annotation, or else by its name and type."""
    if get_origin(annotation) is Annotated:
        for mark in get_args(annotation)[1:]:
            if isinstance(mark, Path | Query | Header | Body):
                return mark
            if mark in (Path, Query, Header, Body):
                return cast("Kind", mark())
    if name in placeholders:
        return Path()
    return Body() if _is_body_type(strip_annotated(annotation)) else Query()


def strip_annotated(annotation: object) -> object:
    """Return the type inside `Annotated`, or the type itself."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def make_value_encoder(annotation: object) -> Callable[[object], object]:
    """Make the function that converts values of a type to text, numbers, or lists of these."""
    kind = strip_annotated(annotation)
    if kind in _PLAIN_TYPES:
        return _keep
    if kind is bool:
        return _encode_bool
    adapter = make_adapter(annotation)
    return lambda value: _encode_by_pydantic(adapter, value)


def make_adapter(annotation: object) -> TypeAdapter[object]:
    """Make pydantic's adapter of a type.

    Raises:
        PydanticUserError: pydantic does not support the type.
    """
    return TypeAdapter(cast("type[object]", annotation))


def encode_path_segment(name: str, value: object) -> str:
    """Encode a value as one segment of a path.

    Raises:
        InvalidValueError: the value is empty, `.` or `..`, which would lead to another path.
    """
    text = str(value)
    if text in {"", ".", ".."}:
        raise InvalidValueError(
            name, text, "something that makes a path segment, not '', '.', '..'"
        )
    return quote(text, safe="")


def make_body_encoder(
    annotation: object, mark: Body
) -> Callable[[object], tuple[str, str | bytes | AsyncIterable[bytes]]]:
    """Make the function that returns the content type and the body for a value of a type."""
    kind = strip_annotated(annotation)
    if kind is bytes or get_origin(kind) in _STREAMS or kind in _STREAMS:
        media_type = mark.content_type or "application/octet-stream"
        return lambda value: (media_type, cast("bytes | AsyncIterable[bytes]", value))
    if kind is str:
        media_type = mark.content_type or "text/plain; charset=utf-8"
        return lambda value: (media_type, cast("str", value))
    media_type = mark.content_type or "application/json"
    adapter = make_adapter(annotation)
    return lambda value: (media_type, adapter.dump_json(value, by_alias=True))


def _is_body_type(kind: object) -> bool:
    if kind is bytes or get_origin(kind) in _STREAMS or kind in _STREAMS:
        return True
    if get_origin(kind) in (dict, Mapping) or kind is dict:
        return True
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) or is_typeddict(kind)
    )


def _keep(value: object) -> object:
    return value


def _encode_bool(value: object) -> object:
    return "true" if value else "false"


def _encode_by_pydantic(adapter: TypeAdapter[object], value: object) -> object:
    dumped = adapter.dump_python(value, mode="json")
    if isinstance(dumped, bool):
        return _encode_bool(dumped)
    if isinstance(dumped, list):
        return [_encode_bool(item) if isinstance(item, bool) else item for item in dumped]
    return dumped

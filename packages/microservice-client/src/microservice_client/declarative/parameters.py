"""Where the parameters of a declared method go: path, query, headers or body."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast, get_args, get_origin, is_typeddict
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from microservice_core import InvalidValueError

__all__ = ("Body", "Header", "Parameter", "Path", "Query", "kind_of")


@dataclass(frozen=True, slots=True)
class Path:
    """It fills `{name}` in the path; that is so anyway for a parameter of that name."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """It is a query parameter, of that name if one is given. None leaves it out."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """It is a header; `x_user_id` becomes `x-user-id` unless a name is given. None leaves it out."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """It is the body: bytes and streams as they are, text as text, all else as JSON."""

    content_type: str = ""


Kind: TypeAlias = Path | Query | Header | Body
_PLAIN = (str, int, float)
_STREAMS = (AsyncIterable, AsyncIterator, AsyncGenerator)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a declared method.

    Attributes:
        name: in Python.
        kind: where it goes.
        sent_as: its name there.
        plain: what it becomes in a path, query or header.
    """

    name: str
    kind: Kind
    sent_as: str
    plain: Callable[[object], object]


def kind_of(name: str, annotation: object, placeholders: frozenset[str]) -> Kind:
    """Where a parameter goes: as its annotation says, else by its name and type."""
    if get_origin(annotation) is Annotated:
        for mark in get_args(annotation)[1:]:
            if isinstance(mark, Path | Query | Header | Body):
                return mark
            if mark in (Path, Query, Header, Body):
                return cast("Kind", mark())
    if name in placeholders:
        return Path()
    return Body() if _is_of_a_body(bare(annotation)) else Query()


def bare(annotation: object) -> object:
    """The type without what `Annotated` adds."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def plain_of(annotation: object) -> Callable[[object], object]:
    """What turns a value of that type into text, a number, or a list of these."""
    kind = bare(annotation)
    if kind in _PLAIN:
        return _same
    if kind is bool:
        return _bool
    adapter = adapter_of(annotation)
    return lambda value: _json_value(adapter, value)


def adapter_of(annotation: object) -> TypeAdapter[object]:
    """What pydantic makes of the type.

    Raises:
        PydanticUserError: nothing.
    """
    return TypeAdapter(cast("type[object]", annotation))


def path_segment(name: str, value: object) -> str:
    """The value as one segment of a path.

    Raises:
        InvalidValueError: it is empty, `.` or `..`, which would lead to another path.
    """
    text = str(value)
    if text in {"", ".", ".."}:
        raise InvalidValueError(
            name, text, "something that makes a path segment, not '', '.', '..'"
        )
    return quote(text, safe="")


def body_encoder(
    annotation: object, mark: Body
) -> Callable[[object], tuple[str, str | bytes | AsyncIterable[bytes]]]:
    """What turns a value of that type into a content type and a body."""
    kind = bare(annotation)
    if kind is bytes or get_origin(kind) in _STREAMS or kind in _STREAMS:
        media_type = mark.content_type or "application/octet-stream"
        return lambda value: (media_type, cast("bytes | AsyncIterable[bytes]", value))
    if kind is str:
        media_type = mark.content_type or "text/plain; charset=utf-8"
        return lambda value: (media_type, cast("str", value))
    media_type = mark.content_type or "application/json"
    adapter = adapter_of(annotation)
    return lambda value: (media_type, adapter.dump_json(value, by_alias=True))


def _is_of_a_body(kind: object) -> bool:
    if kind is bytes or get_origin(kind) in _STREAMS or kind in _STREAMS:
        return True
    if get_origin(kind) in (dict, Mapping) or kind is dict:
        return True
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) or is_typeddict(kind)
    )


def _same(value: object) -> object:
    return value


def _bool(value: object) -> object:
    return "true" if value else "false"


def _json_value(adapter: TypeAdapter[object], value: object) -> object:
    dumped = adapter.dump_python(value, mode="json")
    if isinstance(dumped, bool):
        return _bool(dumped)
    if isinstance(dumped, list):
        return [_bool(item) if isinstance(item, bool) else item for item in dumped]
    return dumped

"""From a method's signature to a plan of its calls; everything that can be wrong is told here."""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_type_hints

import httpx
from pydantic.errors import PydanticUserError

from microservice_client.errors import DeclarationError
from microservice_client.http.requests import RequestOptions
from microservice_client.policy import RaiseOn

from .parameters import (
    Body,
    Header,
    Parameter,
    Path,
    Query,
    body_encoder,
    kind_of,
    path_segment,
    plain_of,
)
from .response_decoding import accepted, async_stream, decoder, item_of, stream_reader, sync_stream

__all__ = ("Plan", "plan_of")

_TOKEN = re.compile(r"[A-Z]+")
_WITHOUT_BODY = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class Plan:
    """How one declared method calls.

    Attributes:
        names: its parameters' names in order, without `self`.
        defaults: what those get that are left out.
        returns: the method's return type.
        result: what decodes a response, or reads its stream.
        options: what every call carries.
    """

    where: str
    method: str
    path: str
    names: tuple[str, ...]
    keyword_only: frozenset[str]
    defaults: Mapping[str, object]
    in_path: tuple[Parameter, ...]
    in_query: tuple[Parameter, ...]
    in_headers: tuple[Parameter, ...]
    body: Parameter | None
    encode_body: Callable[[object], tuple[str, object]] | None
    returns: object
    result: object
    options: RequestOptions = field(default_factory=RequestOptions)

    def bound(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """The arguments by name.

        Raises:
            TypeError: as calling the method itself would.
        """
        values = dict(zip(self.names, args, strict=False))
        given = len(values) + len(kwargs)
        values.update(kwargs)
        if (
            len(args) > len(self.names) - len(self.keyword_only)
            or len(values) != given
            or not values.keys() <= set(self.names)
        ):
            raise self._misfit(args, kwargs)
        if given < len(self.names):
            values = {**self.defaults, **values}
            if len(values) < len(self.names):
                raise self._misfit(args, kwargs)
        return values

    def target(self, values: dict[str, object]) -> str:
        """The path with its placeholders filled.

        Raises:
            InvalidValueError: a value makes no path segment.
        """
        if not self.in_path:
            return self.path
        segments = {
            one.sent_as: path_segment(one.name, one.plain(values[one.name])) for one in self.in_path
        }
        return self.path.format_map(segments)

    def request_options(self, values: dict[str, object]) -> RequestOptions:
        """What the request carries."""
        options = self.options.copy()
        if self.in_query:
            params = {
                one.sent_as: one.plain(value)
                for one in self.in_query
                if (value := values[one.name]) is not None
            }
            if params:
                options["params"] = params  # type: ignore[typeddict-item] # `plain` made them so
        if self.in_headers or self.body is not None:
            options["headers"] = {**options.get("headers", {}), **self._headers(values, options)}
        return options

    def _headers(self, values: dict[str, object], options: RequestOptions) -> dict[str, str]:
        headers = {
            one.sent_as: str(one.plain(value))
            for one in self.in_headers
            if (value := values[one.name]) is not None
        }
        if self.body is not None and self.encode_body is not None:
            content_type, content = self.encode_body(values[self.body.name])
            options["content"] = content  # type: ignore[typeddict-item] # the encoder's business
            headers.setdefault("content-type", content_type)
        return headers

    def _misfit(self, args: tuple[object, ...], kwargs: dict[str, object]) -> TypeError:
        given = [*(f"#{at + 1}" for at in range(len(args))), *kwargs]
        return TypeError(f"{self.where} takes ({', '.join(self.names)}), not ({', '.join(given)})")


def plan_of(
    where: str, service: str, function: Callable[..., object], method: str, path: str
) -> Plan:
    """Read the signature.

    Raises:
        DeclarationError: it breaks a rule; the message says which.
    """
    if not _TOKEN.fullmatch(method):
        raise DeclarationError(where, f"{method!r} is no HTTP method; write it in capitals")
    hints = _hints(where, function)
    if "return" not in hints:
        raise DeclarationError(where, "say what it returns: `-> Order`, `-> httpx.Response`, ...")
    placeholders = _placeholders(where, path)
    parameters, keyword_only, defaults = _parameters(where, function, hints, placeholders)
    _check_path(where, placeholders, parameters)
    body = _body_of(where, method, parameters)
    try:
        return Plan(
            where=where,
            method=method,
            path=path,
            names=tuple(one.name for one in parameters),
            keyword_only=keyword_only,
            defaults=defaults,
            in_path=tuple(one for one in parameters if isinstance(one.kind, Path)),
            in_query=tuple(one for one in parameters if isinstance(one.kind, Query)),
            in_headers=tuple(one for one in parameters if isinstance(one.kind, Header)),
            body=body,
            encode_body=_encoder(body, hints),
            returns=hints["return"],
            result=_result(where, service, function, hints["return"]),
            options={"headers": {"accept": accepted(hints["return"])}, "raise_on": _raises(hints)},
        )
    except PydanticUserError as error:
        raise DeclarationError(
            where, f"a type is none pydantic can read: {error.message}"
        ) from error


def _hints(where: str, function: Callable[..., object]) -> dict[str, object]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise DeclarationError(
            where, f"its annotations cannot be resolved ({error}); import the types at run time"
        ) from error


def _placeholders(where: str, path: str) -> frozenset[str]:
    if not path.startswith("/"):
        raise DeclarationError(where, f"the path {path!r} has to begin with '/'")
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(path) if name is not None]
    except ValueError as error:
        raise DeclarationError(where, f"the path {path!r} cannot be read: {error}") from error
    for name in fields:
        if not name.isidentifier():
            raise DeclarationError(where, f"{{{name}}} in the path names no parameter")
    return frozenset(fields)


def _parameters(
    where: str,
    function: Callable[..., object],
    hints: dict[str, object],
    placeholders: frozenset[str],
) -> tuple[list[Parameter], frozenset[str], dict[str, object]]:
    _, *declared = inspect.signature(function).parameters.values()
    parameters = []
    for one in declared:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise DeclarationError(where, f"*{one.name} says nothing of what is sent")
        if one.name not in hints:
            raise DeclarationError(where, f"the parameter {one.name!r} has no type")
        parameters.append(_parameter(where, one.name, hints[one.name], placeholders))
    keyword_only = frozenset(one.name for one in declared if one.kind is one.KEYWORD_ONLY)
    empty = inspect.Parameter.empty
    return (
        parameters,
        keyword_only,
        {one.name: one.default for one in declared if one.default is not empty},
    )


def _parameter(
    where: str, name: str, annotation: object, placeholders: frozenset[str]
) -> Parameter:
    kind = kind_of(name, annotation, placeholders)
    if isinstance(kind, Body):
        return Parameter(name, kind, name, lambda value: value)
    sent_as = kind.name or (name.replace("_", "-") if isinstance(kind, Header) else name)
    try:
        return Parameter(name, kind, sent_as, plain_of(annotation))
    except PydanticUserError as error:
        problem = f"{name!r} is of a type pydantic cannot read: {error.message}"
        raise DeclarationError(where, problem) from error


def _check_path(where: str, placeholders: frozenset[str], parameters: list[Parameter]) -> None:
    filled = {one.sent_as for one in parameters if isinstance(one.kind, Path)}
    if missing := placeholders - filled:
        raise DeclarationError(where, f"no parameter fills {_listed(missing)} of the path")
    if superfluous := filled - placeholders:
        raise DeclarationError(where, f"the path has no {_listed(superfluous)}")


def _listed(names: frozenset[str] | set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _body_of(where: str, method: str, parameters: list[Parameter]) -> Parameter | None:
    bodies = [one for one in parameters if isinstance(one.kind, Body)]
    if not bodies:
        return None
    names = ", ".join(one.name for one in bodies)
    if len(bodies) > 1:
        raise DeclarationError(where, f"a request has one body, not {names}; mark the others")
    if method in _WITHOUT_BODY:
        raise DeclarationError(where, f"{method} has no body for {names}; mark it `Query()`")
    return bodies[0]


def _encoder(
    body: Parameter | None, hints: dict[str, object]
) -> Callable[[object], tuple[str, object]] | None:
    if body is None:
        return None
    assert isinstance(body.kind, Body)  # noqa: S101 - `_body_of` chose it
    return body_encoder(hints[body.name], body.kind)


def _result(where: str, service: str, function: Callable[..., object], result: object) -> object:
    asynchronous = inspect.iscoroutinefunction(function)
    if async_stream(result) or sync_stream(result):
        if asynchronous:
            problem = "a stream is returned at once: write `def`, not `async def`"
            raise DeclarationError(where, problem)
        return stream_reader(service, item_of(result))
    return decoder(service, result)


def _raises(hints: dict[str, object]) -> RaiseOn:
    # Whoever asks for the response looks at its status; a model cannot be made of an error page.
    return "never" if hints["return"] is httpx.Response else "errors"

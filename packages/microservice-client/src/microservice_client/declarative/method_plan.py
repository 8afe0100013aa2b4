"""The plan of a declared method's calls, from its signature; its mistakes are raised here."""

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
    choose_kind,
    encode_path_segment,
    make_body_encoder,
    make_value_encoder,
)
from .response_decoding import (
    accept_header,
    is_async_stream,
    is_sync_stream,
    make_decoder,
    make_stream_reader,
    stream_item_type,
)

__all__ = ("MethodPlan", "build_plan")

_METHOD = re.compile(r"[A-Z]+")
_METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class MethodPlan:
    """How one declared method makes its calls.

    Attributes:
        where: the method's name, for messages.
        method: of HTTP.
        path: with placeholders.
        names: the parameters' names in order, without `self`.
        keyword_only: those that cannot be passed by position.
        defaults: values of parameters that may be omitted.
        in_path, in_query, in_headers: the parameters by where they are sent.
        body: the parameter that is the body.
        encode_body: returns content type and content of the body's value.
        returns: the method's return type.
        decode: decodes a response, or iterates over its stream.
        options: options of every call.
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
    decode: object
    options: RequestOptions = field(default_factory=RequestOptions)

    def bind_arguments(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> dict[str, object]:
        """Return the arguments by name; several times faster than `inspect.Signature.bind`.

        Raises:
            TypeError: as from calling the method itself.
        """
        values = dict(zip(self.names, args, strict=False))
        count = len(values) + len(kwargs)
        values.update(kwargs)
        if (
            len(args) > len(self.names) - len(self.keyword_only)
            or len(values) != count  # an argument by position and by name
            or not values.keys() <= set(self.names)
        ):
            raise self._argument_error(args, kwargs)
        if count < len(self.names):
            values = {**self.defaults, **values}
            if len(values) < len(self.names):
                raise self._argument_error(args, kwargs)
        return values

    def fill_path(self, values: dict[str, object]) -> str:
        """Return the path with its placeholders replaced.

        Raises:
            InvalidValueError: a value cannot be a path segment.
        """
        if not self.in_path:
            return self.path
        segments = {
            parameter.wire_name: encode_path_segment(
                parameter.name, parameter.encode(values[parameter.name])
            )
            for parameter in self.in_path
        }
        return self.path.format_map(segments)

    def build_options(self, values: dict[str, object]) -> RequestOptions:
        """Return the options of a request with these arguments."""
        options = self.options.copy()
        if self.in_query:
            params = {
                parameter.wire_name: parameter.encode(value)
                for parameter in self.in_query
                if (value := values[parameter.name]) is not None
            }
            if params:
                options["params"] = params  # type: ignore[typeddict-item] # `encode` made them so
        headers = self._build_headers(values) if self.in_headers else {}
        if self.body is not None and self.encode_body is not None:
            content_type, content = self.encode_body(values[self.body.name])
            options["content"] = content  # type: ignore[typeddict-item] # the encoder made it so
            headers.setdefault("content-type", content_type)
        if headers:
            options["headers"] = {**options.get("headers", {}), **headers}
        return options

    def _build_headers(self, values: dict[str, object]) -> dict[str, str]:
        return {
            parameter.wire_name: str(parameter.encode(value))
            for parameter in self.in_headers
            if (value := values[parameter.name]) is not None
        }

    def _argument_error(self, args: tuple[object, ...], kwargs: dict[str, object]) -> TypeError:
        arguments = [*(f"#{index + 1}" for index in range(len(args))), *kwargs]
        return TypeError(
            f"{self.where} takes ({', '.join(self.names)}), not ({', '.join(arguments)})"
        )


def build_plan(
    where: str, service: str, function: Callable[..., object], method: str, path: str
) -> MethodPlan:
    """Build the plan of a method from its signature.

    Args:
        where: the method's name, for messages.
        service: the service's name.
        function: the declared method.
        method: of HTTP.
        path: with placeholders.

    Raises:
        DeclarationError: the declaration breaks a rule; the message says which.
    """
    if not _METHOD.fullmatch(method):
        raise DeclarationError(where, f"{method!r} is no HTTP method; write it in capitals")
    hints = _resolve_hints(where, function)
    if "return" not in hints:
        raise DeclarationError(where, "add a return type: `-> Order`, `-> httpx.Response`, ...")
    placeholders = _parse_placeholders(where, path)
    parameters, keyword_only, defaults = _build_parameters(where, function, hints, placeholders)
    _check_path(where, placeholders, parameters)
    body = _find_body(where, method, parameters)
    try:
        return MethodPlan(
            where=where,
            method=method,
            path=path,
            names=tuple(parameter.name for parameter in parameters),
            keyword_only=keyword_only,
            defaults=defaults,
            in_path=_select(parameters, Path),
            in_query=_select(parameters, Query),
            in_headers=_select(parameters, Header),
            body=body,
            encode_body=_choose_body_encoder(body, hints),
            returns=hints["return"],
            decode=_choose_decoder(where, service, function, hints["return"]),
            options={
                "headers": {"accept": accept_header(hints["return"])},
                "raise_on": _default_raise_on(hints),
            },
        )
    except PydanticUserError as error:
        raise DeclarationError(where, f"pydantic cannot read a type: {error.message}") from error


def _select(parameters: list[Parameter], kind: type) -> tuple[Parameter, ...]:
    return tuple(parameter for parameter in parameters if isinstance(parameter.kind, kind))


def _resolve_hints(where: str, function: Callable[..., object]) -> dict[str, object]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise DeclarationError(
            where, f"its annotations cannot be resolved ({error}); import the types at run time"
        ) from error


def _parse_placeholders(where: str, path: str) -> frozenset[str]:
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


def _build_parameters(
    where: str,
    function: Callable[..., object],
    hints: dict[str, object],
    placeholders: frozenset[str],
) -> tuple[list[Parameter], frozenset[str], dict[str, object]]:
    _, *declared = inspect.signature(function).parameters.values()
    parameters = []
    for item in declared:
        if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD):
            raise DeclarationError(where, f"*{item.name} does not define what is sent")
        if item.name not in hints:
            raise DeclarationError(where, f"the parameter {item.name!r} has no type")
        parameters.append(_build_parameter(where, item.name, hints[item.name], placeholders))
    keyword_only = frozenset(item.name for item in declared if item.kind is item.KEYWORD_ONLY)
    empty = inspect.Parameter.empty
    return (
        parameters,
        keyword_only,
        {item.name: item.default for item in declared if item.default is not empty},
    )


def _build_parameter(
    where: str, name: str, annotation: object, placeholders: frozenset[str]
) -> Parameter:
    kind = choose_kind(name, annotation, placeholders)
    if isinstance(kind, Body):
        return Parameter(name, kind, name, lambda value: value)
    wire_name = kind.name or (name.replace("_", "-") if isinstance(kind, Header) else name)
    try:
        return Parameter(name, kind, wire_name, make_value_encoder(annotation))
    except PydanticUserError as error:
        problem = f"{name!r} is of a type pydantic cannot read: {error.message}"
        raise DeclarationError(where, problem) from error


def _check_path(where: str, placeholders: frozenset[str], parameters: list[Parameter]) -> None:
    names = {parameter.wire_name for parameter in _select(parameters, Path)}
    if missing := placeholders - names:
        raise DeclarationError(
            where, f"no parameter for {_format_placeholders(missing)} in the path"
        )
    if superfluous := names - placeholders:
        raise DeclarationError(where, f"the path has no {_format_placeholders(superfluous)}")


def _format_placeholders(names: frozenset[str] | set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _find_body(where: str, method: str, parameters: list[Parameter]) -> Parameter | None:
    bodies = _select(parameters, Body)
    if not bodies:
        return None
    names = ", ".join(parameter.name for parameter in bodies)
    if len(bodies) > 1:
        raise DeclarationError(where, f"a request has one body, not {names}; mark the others")
    if method in _METHODS_WITHOUT_BODY:
        raise DeclarationError(where, f"{method} has no body for {names}; mark it `Query()`")
    return bodies[0]


def _choose_body_encoder(
    body: Parameter | None, hints: dict[str, object]
) -> Callable[[object], tuple[str, object]] | None:
    if body is None or not isinstance(body.kind, Body):
        return None
    return make_body_encoder(hints[body.name], body.kind)


def _choose_decoder(
    where: str, service: str, function: Callable[..., object], result: object
) -> object:
    if is_async_stream(result) or is_sync_stream(result):
        if inspect.iscoroutinefunction(function):
            problem = "a stream is returned without waiting: write `def`, not `async def`"
            raise DeclarationError(where, problem)
        return make_stream_reader(service, stream_item_type(result))
    return make_decoder(service, result)


def _default_raise_on(hints: dict[str, object]) -> RaiseOn:
    # A caller that gets the response checks its status; no model can be decoded from an error.
    return "never" if hints["return"] is httpx.Response else "errors"

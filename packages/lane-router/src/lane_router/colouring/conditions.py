"""Conditions of colouring rules: header, cookie, query, path, method; with all, any and not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, cast
from urllib.parse import parse_qsl

from lane_router.errors import RulesError

from .linear_pattern import LinearPattern
from .shown_value import show_value

__all__ = ("Condition", "GatewayRequest", "Subject", "parse_condition", "parse_subject")

# Clients choose the values that are matched: a longer value matches no expression.
LONGEST_VALUE = 4096
_DEEPEST = 8
_NAMED_SUBJECTS = ("header", "cookie", "query")

Condition = Callable[["GatewayRequest"], bool]
# Reads the value that a condition tests; None = the request does not have it.
Subject = Callable[["GatewayRequest"], str | None]


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """The parts of a request that rules can test.

    Attributes:
        headers: names in lower case; of several with one name, the first.
        query: decoded; of several with one name, the first.
    """

    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> GatewayRequest:
        """The request that an ASGI scope describes."""
        headers: dict[str, str] = {}
        for name, value in scope.get("headers", ()):
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        query: dict[str, str] = {}
        raw = bytes(scope.get("query_string", b""))[:LONGEST_VALUE].decode("latin-1")
        for name, value in parse_qsl(raw, keep_blank_values=True):
            query.setdefault(name, value)
        cookies = _parse_cookies(headers.get("cookie", ""))
        method, path = str(scope.get("method", "GET")), str(scope.get("path", "/"))
        return cls(method, path, headers, query, cookies)


def _parse_cookies(header: str) -> dict[str, str]:
    jar = SimpleCookie()
    try:
        jar.load(header[:LONGEST_VALUE])
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def parse_subject(text: object, where: str) -> Subject:
    """The subject that a text names: `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `method`.

    Raises:
        RulesError: it names none of these.
    """
    kind, _, name = str(text).partition(":")
    if kind == "path" and not name:
        return lambda request: request.path
    if kind == "method" and not name:
        return lambda request: request.method
    if kind not in _NAMED_SUBJECTS or not name:
        rule = "'header:NAME', 'cookie:NAME', 'query:NAME', 'path' or 'method'"
        raise RulesError(f"{where} must be {rule}, not {show_value(text)}; correct the rule")
    if kind == "header":
        name = name.lower()
        return lambda request: request.headers.get(name)
    if kind == "cookie":
        return lambda request: request.cookies.get(name)
    return lambda request: request.query.get(name)


def parse_condition(document: object, where: str, depth: int = 0) -> Condition:
    """The condition that a document describes.

    `{"on": "header:x-user", "equals": "7"}`, with one of `equals`, `in`, `prefix`, `suffix`,
    `matches` (a regular expression for the whole value, see `LinearPattern`) and `exists`; or `{"all": [...]}`,
    `{"any": [...]}`, `{"not": {...}}`.

    Args:
        where: the place in the document, for errors.
        depth: how many conditions enclose this one.

    Raises:
        RulesError: naming the place, the value and the rule.
    """
    if not isinstance(document, Mapping):
        raise RulesError(f"{where} must be an object, not {show_value(document)}; correct the rule")
    if depth > _DEEPEST:
        raise RulesError(f"{where} is nested deeper than {_DEEPEST}; split the rule")
    keys = set(document)
    if keys in ({"all"}, {"any"}):
        (kind,) = keys
        return _parse_combination(str(kind), document[kind], f"{where}.{kind}", depth)
    if keys == {"not"}:
        inner = parse_condition(document["not"], f"{where}.not", depth + 1)
        return lambda request: not inner(request)
    operators = keys - {"on"}
    if "on" not in keys or len(operators) != 1:
        rule = "'all', 'any', 'not', or 'on' with one operator"
        raise RulesError(
            f"{where} must have {rule}, not {show_value(sorted(map(str, keys)))}; correct it"
        )
    subject = parse_subject(document["on"], f"{where}.on")
    (operator,) = operators
    test = _parse_test(str(operator), document[operator], f"{where}.{operator}")
    return lambda request: test(subject(request))


def _parse_combination(kind: str, parts: object, where: str, depth: int) -> Condition:
    if not isinstance(parts, list) or not parts:
        raise RulesError(
            f"{where} must be a list of conditions, not {show_value(parts)}; correct the rule"
        )
    conditions = [
        parse_condition(part, f"{where}[{number}]", depth + 1) for number, part in enumerate(parts)
    ]
    if kind == "all":
        return lambda request: all(condition(request) for condition in conditions)
    return lambda request: any(condition(request) for condition in conditions)


def _parse_test(operator: str, operand: object, where: str) -> Callable[[str | None], bool]:
    if operator == "exists":
        if not isinstance(operand, bool):
            raise RulesError(
                f"{where} must be true or false, not {show_value(operand)}; correct the rule"
            )
        return lambda value: (value is not None) == operand
    if operator == "in":
        if not isinstance(operand, list) or not all(isinstance(item, str) for item in operand):
            raise RulesError(
                f"{where} must be a list of texts, not {show_value(operand)}; correct the rule"
            )
        allowed = frozenset(cast("list[str]", operand))
        return lambda value: value in allowed
    if not isinstance(operand, str):
        raise RulesError(f"{where} must be a text, not {show_value(operand)}; correct the rule")
    return _parse_text_test(operator, operand, where)


def _parse_text_test(operator: str, operand: str, where: str) -> Callable[[str | None], bool]:
    if operator == "equals":
        return lambda value: value == operand
    if operator == "prefix":
        return lambda value: value is not None and value.startswith(operand)
    if operator == "suffix":
        return lambda value: value is not None and value.endswith(operand)
    if operator != "matches":
        operators = "equals, in, prefix, suffix, matches, exists"
        raise RulesError(f"{where}: there is no such operator; use one of {operators}")
    try:
        pattern = LinearPattern(operand)
    except ValueError as error:
        raise RulesError(f"{where} must be a regular expression: {error}; correct it") from error
    return lambda value: (
        value is not None and len(value) <= LONGEST_VALUE and pattern.matches(value)
    )

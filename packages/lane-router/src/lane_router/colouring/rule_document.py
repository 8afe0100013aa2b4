"""Colouring rules as people write them: read and validated, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from lane_router.context.lane_name import is_lane
from lane_router.errors import RulesError
from microservice_core import (
    DocumentError,
    DocumentFormat,
    MissingDependencyError,
    parse_document,
)

from .conditions import Subject, parse_condition, parse_subject
from .rule import Rule, WarmUp
from .shown_value import show_value

__all__ = ("parse_rules", "read_document")

T = TypeVar("T")

_MOST_RULES = 1000
_FORMATS: dict[str, DocumentFormat] = {"toml": "toml", "yaml": "yaml"}
_FIELDS = frozenset(
    {"name", "lane", "match", "priority", "percentage", "key", "warm_up", "expires_at", "enabled"}
)


def parse_rules(document: object) -> list[Rule]:
    """The rules of `{"rules": [...]}`, in the order of the document.

    Raises:
        RulesError: naming the rule, the field, the value and what is allowed.
    """
    rules = document.get("rules") if isinstance(document, Mapping) else None
    if not isinstance(rules, list) or len(rules) > _MOST_RULES:
        raise RulesError(
            f"colouring rules are an object with a list `rules` of at most {_MOST_RULES}"
        )
    parsed = [_parse_rule(rule, number) for number, rule in enumerate(rules)]
    names: set[str] = set()
    for rule in parsed:
        if rule.name in names:
            raise RulesError(f"two rules are called {rule.name!r}; give each its own name")
        names.add(rule.name)
    return parsed


def read_document(content: bytes | str, content_type: str) -> object:
    """The document in a text of the type `json`, `toml` or `yaml`.

    Raises:
        RulesError: the text is not of that type, or too large.
        MissingDependencyError: YAML without the extra `yaml`.
    """
    try:
        return parse_document(
            content,
            document_format=_FORMATS.get(content_type, "json"),
            name="the colouring rules",
        )
    except DocumentError as error:
        raise RulesError(str(error)) from None
    except ImportError:
        raise MissingDependencyError("YAML rules", "lane-router[yaml]") from None


def _parse_rule(document: object, number: int) -> Rule:
    where = f"rules[{number}]"
    if not isinstance(document, Mapping):
        raise RulesError(f"{where} must be an object, not {show_value(document)}; correct the rule")
    unknown = sorted(str(key) for key in document.keys() - _FIELDS)
    if unknown:
        raise RulesError(f"{where}: there is no field {unknown[0]!r}; known: {sorted(_FIELDS)}")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise _field_error(where, "name", name, "a text")
    where = f"rule {name!r}"
    share, key, warm_up = _parse_share(document, where)
    return Rule(
        name=name,
        lane=_parse_lane(document.get("lane"), where),
        condition=_parse_optional(
            document, "match", lambda value: parse_condition(value, f"{where}: match")
        ),
        priority=_parse_integer(document.get("priority", 100), where, "priority"),
        share=share,
        key=key,
        warm_up=warm_up,
        expires_at=_parse_optional(
            document, "expires_at", lambda value: _parse_time(value, where, "expires_at")
        ),
        enabled=_parse_boolean(document.get("enabled", True), where, "enabled"),
    )


def _parse_share(
    document: Mapping[str, object], where: str
) -> tuple[float, Subject | None, WarmUp | None]:
    percentage = _parse_number(document.get("percentage", 100), where, "percentage", 0.0, 100.0)
    share = percentage / 100.0
    key = _parse_optional(document, "key", lambda value: parse_subject(value, f"{where}: key"))
    warm_up = _parse_optional(document, "warm_up", lambda value: _parse_warm_up(value, where))
    if key is None and (share < 1.0 or warm_up is not None):
        raise _field_error(
            where, "key", None, "'header:NAME' or similar: a share needs a stable key"
        )
    return share, key, warm_up


def _parse_optional(
    document: Mapping[str, object], name: str, parse: Callable[[object], T]
) -> T | None:
    return parse(document[name]) if name in document else None


def _parse_warm_up(document: object, where: str) -> WarmUp:
    if not isinstance(document, Mapping) or not document.keys() <= {"from", "seconds", "curvature"}:
        rule = "an object with `from`, `seconds`, `curvature`"
        raise _field_error(where, "warm_up", document, rule)
    curvature = document.get("curvature", 2.0)
    return WarmUp(
        since=_parse_time(document.get("from"), where, "warm_up.from"),
        seconds=_parse_number(document.get("seconds"), where, "warm_up.seconds", 1e-3, 1e9),
        curvature=_parse_number(curvature, where, "warm_up.curvature", 0.01, 100.0),
    )


def _parse_lane(value: object, where: str) -> str:
    if not isinstance(value, str) or not is_lane(value):
        raise _field_error(where, "lane", value, "a lane name")
    return value


def _parse_integer(value: object, where: str, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _field_error(where, name, value, "a whole number")
    return value


def _parse_boolean(value: object, where: str, name: str) -> bool:
    if not isinstance(value, bool):
        raise _field_error(where, name, value, "true or false")
    return value


def _parse_number(value: object, where: str, name: str, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _field_error(where, name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _parse_time(value: object, where: str, name: str) -> float:
    """Seconds since 1970; TOML has times of its own, JSON and YAML have text."""
    rule = "a time with its zone such as '2026-01-31T12:00:00Z'"
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise _field_error(where, name, value, rule) from None
    if moment.tzinfo is None:
        raise _field_error(where, name, value, rule)
    return moment.timestamp()


def _field_error(where: str, name: str, value: object, rule: str) -> RulesError:
    return RulesError(f"{where}: {name} must be {rule}, not {show_value(value)}; correct the rule")

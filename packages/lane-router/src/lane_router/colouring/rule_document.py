"""Colouring rules as people write them: read and checked, field by field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from lane_router.context.lane_name import is_lane
from lane_router.errors import RulesError

from .conditions import Subject, parse_condition, parse_subject
from .rules import Rule, WarmUp

__all__ = ("parse_rules", "read_document")

T = TypeVar("T")

_MOST_RULES = 1000
_FIELDS = frozenset(
    {"name", "lane", "match", "priority", "percentage", "key", "warm_up", "expires_at", "enabled"}
)


def parse_rules(document: object) -> list[Rule]:
    """The rules of `{"rules": [...]}`.

    Raises:
        RulesError: naming the rule, the field, the value and what is allowed.
    """
    rules = document.get("rules") if isinstance(document, Mapping) else None
    if not isinstance(rules, list) or len(rules) > _MOST_RULES:
        raise RulesError(
            f"colouring rules are an object with a list `rules` of at most {_MOST_RULES}"
        )
    parsed = [_rule(one, number) for number, one in enumerate(rules)]
    seen: set[str] = set()
    for rule in parsed:
        if rule.name in seen:
            raise RulesError(f"two rules are called {rule.name!r}; names tell apart, change one")
        seen.add(rule.name)
    return parsed


def read_document(text: str, content_type: str) -> object:
    """The document in a text of the type `json`, `toml` or `yaml`.

    Raises:
        RulesError: it is none.
    """
    try:
        if content_type == "toml":
            import tomllib

            return tomllib.loads(text)
        if content_type == "yaml":
            from lane_router.yaml_text import read_yaml

            return read_yaml(text)
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise RulesError(f"the colouring rules are no {content_type.upper()}: {told}") from error


def _rule(document: object, number: int) -> Rule:
    where = f"rules[{number}]"
    if not isinstance(document, Mapping):
        raise RulesError(f"{where} must be an object, not {document!r}; correct the rule")
    unknown = sorted(str(key) for key in document.keys() - _FIELDS)
    if unknown:
        raise RulesError(f"{where}: there is no field {unknown[0]!r}; known: {sorted(_FIELDS)}")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong(where, "name", name, "a text")
    where = f"rule {name!r}"
    share, key, warm_up = _share_of(document, where)
    return Rule(
        name=name,
        lane=_lane(document.get("lane"), where),
        condition=_optional(
            document, "match", lambda part: parse_condition(part, f"{where}: match")
        ),
        priority=_whole(document.get("priority", 100), where, "priority"),
        share=share,
        key=key,
        warm_up=warm_up,
        expires_at=_optional(
            document, "expires_at", lambda part: _moment(part, where, "expires_at")
        ),
        enabled=_truth(document.get("enabled", True), where),
    )


def _share_of(
    document: Mapping[str, object], where: str
) -> tuple[float, Subject | None, WarmUp | None]:
    share = _number(document.get("percentage", 100), where, "percentage", 0.0, 100.0) / 100.0
    key = _optional(document, "key", lambda part: parse_subject(part, f"{where}: key"))
    warm_up = _optional(document, "warm_up", lambda part: _warm_up(part, where))
    if key is None and (share < 1.0 or warm_up is not None):
        raise _wrong(
            where, "key", None, "'header:NAME' or the like: a share is stable by something"
        )
    return share, key, warm_up


def _optional(document: Mapping[str, object], name: str, parse: Callable[[object], T]) -> T | None:
    return parse(document[name]) if name in document else None


def _warm_up(document: object, where: str) -> WarmUp:
    if not isinstance(document, Mapping) or not document.keys() <= {"from", "seconds", "curvature"}:
        raise _wrong(where, "warm_up", document, "an object with `from`, `seconds`, `curvature`")
    return WarmUp(
        since=_moment(document.get("from"), where, "warm_up.from"),
        seconds=_number(document.get("seconds"), where, "warm_up.seconds", 1e-3, 1e9),
        curvature=_number(document.get("curvature", 2.0), where, "warm_up.curvature", 0.01, 100.0),
    )


def _lane(value: object, where: str) -> str:
    if not isinstance(value, str) or not is_lane(value):
        raise _wrong(where, "lane", value, "a lane name")
    return value


def _whole(value: object, where: str, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(where, name, value, "a whole number")
    return value


def _truth(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "enabled", value, "true or false")
    return value


def _number(value: object, where: str, name: str, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(where, name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _moment(value: object, where: str, name: str) -> float:
    rule = "a time with its zone such as '2026-01-31T12:00:00Z'"
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise _wrong(where, name, value, rule) from None
    if moment.tzinfo is None:
        raise _wrong(where, name, value, rule)
    return moment.timestamp()


def _wrong(where: str, name: str, value: object, rule: str) -> RulesError:
    return RulesError(f"{where}: {name} must be {rule}, not {value!r}; correct the rule")

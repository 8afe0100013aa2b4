"""Parse what a request carries: path, query, waiting time, preconditions."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote_to_bytes

from .conditional_response import parse_entity_tags
from .errors import Problem
from .instance import ServiceKey, validate_name
from .leases import Precondition
from .request import Request

__all__ = (
    "Query",
    "parse_path",
    "parse_precondition",
    "parse_query",
    "parse_service_key",
    "parse_wait_seconds",
    "parse_watch",
)

_MAX_WAIT_SECONDS = 600.0
_DEFAULT_WAIT_SECONDS = 55.0

# The same is written in openapi.json.
_DURATION = re.compile(
    r"(?:(?P<s>[0-5]?[0-9]?[0-9](?:\.[0-9]{1,3})?|600)s?"
    r"|(?P<ms>[0-9]{1,5}(?:\.[0-9]{1,3})?)ms"
    r"|(?P<m>[0-9](?:\.[0-9]{1,3})?|10)m)"
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_WATCH_VALUES = {"0": False, "false": False, "1": True, "true": True}

Query = dict[str, str]


def parse_path(path: bytes) -> list[str]:
    """The decoded segments of a path; an encoded slash stays inside its segment.

    Raises:
        Problem: 400 when the path is not UTF-8.
    """
    if b"://" in path[:9]:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    try:
        segments = [unquote_to_bytes(segment).decode() for segment in path.split(b"/")]
    except UnicodeDecodeError:
        raise Problem(
            400, "Malformed request", "the path is not UTF-8; encode it as such"
        ) from None
    return segments[1:]


def parse_query(query: bytes) -> Query:
    """The query as a mapping; of a repeated field the last value.

    Raises:
        Problem: 400 when it is not percent-encoded UTF-8, or has too many fields.
    """
    if not query:
        return {}
    try:
        return dict(
            parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
            )
        )
    except ValueError:
        raise Problem(
            400, "Malformed request", "the query is not percent-encoded UTF-8 with up to 32 fields"
        ) from None


def parse_service_key(service: str, query: Query) -> ServiceKey:
    """The service that path and query name.

    Raises:
        Problem: 400 when a name is illegal.
    """
    group, namespace = query.get("group", ""), query.get("namespace", "")
    return ServiceKey(
        validate_name("service", service),
        validate_name("group", group) if group else "",
        validate_name("namespace", namespace) if namespace else "",
    )


def parse_wait_seconds(text: str | None) -> float:
    """How many seconds a watch may wait, from `55s`, `500ms`, `2m`, or plain seconds.

    Raises:
        Problem: 400 when it is none of these, or too long.
    """
    if text is None:
        return _DEFAULT_WAIT_SECONDS
    parsed = _DURATION.fullmatch(text)
    if parsed is None:
        raise Problem(
            400,
            "Invalid value",
            f"timeout must be 0 to {_MAX_WAIT_SECONDS:g} seconds such as 55s, not {text[:40]!r}",
            extra={"field": "timeout"},
        )
    unit = parsed.lastgroup or "s"
    return float(parsed[unit]) * _UNITS[unit]


def parse_watch(query: Query) -> bool:
    """Whether the client waits for a change.

    Raises:
        Problem: 400 when `watch` is neither 0 nor 1, false nor true.
    """
    value = query.get("watch", "0")
    if value not in _WATCH_VALUES:
        raise Problem(
            400,
            "Invalid value",
            f"watch must be 0 or 1, not {value[:40]!r}",
            extra={"field": "watch"},
        )
    return _WATCH_VALUES[value]


def parse_precondition(request: Request) -> Precondition:
    """The condition for a write, from `If-Match` and `If-None-Match`."""
    absent = request.get_header(b"if-none-match").strip() == "*"
    return Precondition(parse_entity_tags(request.get_header(b"if-match")), absent)

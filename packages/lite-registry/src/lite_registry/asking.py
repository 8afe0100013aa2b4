"""What a request asks for, checked: path, query, waiting time, preconditions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from .document import entity_tags
from .errors import Problem
from .instance import ServiceKey, check_name
from .leases import Precondition

if TYPE_CHECKING:
    from .http import Request

__all__ = (
    "Query",
    "not_allowed",
    "only_read",
    "parse_query",
    "path_segments",
    "precondition_of",
    "service_key",
    "wait_seconds",
)

LONGEST_WAIT_SECONDS = 600.0
DEFAULT_WAIT_SECONDS = 55.0

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}

Query = dict[str, str]


def path_segments(path: bytes) -> list[str]:
    """The decoded parts of a path; an encoded slash stays inside its part."""
    if b"://" in path[:9]:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    try:
        parts = [unquote_to_bytes(part).decode() for part in path.split(b"/")]
    except UnicodeDecodeError:
        raise Problem(
            400, "Malformed request", "the path is not UTF-8; encode it as such"
        ) from None
    return parts[1:]


def parse_query(query: bytes) -> Query:
    """The query as a mapping."""
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


def service_key(service: str, query: Query) -> ServiceKey:
    """The service that path and query name."""
    group, namespace = query.get("group", ""), query.get("namespace", "")
    return ServiceKey(
        check_name("service", service),
        check_name("group", group) if group else "",
        check_name("namespace", namespace) if namespace else "",
    )


def wait_seconds(text: str | None) -> float:
    """How long a watch may wait: `55s`, `500ms`, `2m`, or seconds."""
    if text is None:
        return DEFAULT_WAIT_SECONDS
    parsed = _DURATION.fullmatch(text)
    seconds = float(parsed[1]) * _UNITS[parsed[2]] if parsed else -1.0
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise Problem(
            400,
            "Invalid value",
            f"timeout must be 0 to {LONGEST_WAIT_SECONDS:g} seconds such as 55s, not {text[:40]!r}",
            extra={"field": "timeout"},
        )
    return seconds


def precondition_of(request: Request) -> Precondition:
    """What `If-Match` and `If-None-Match` ask of a write."""
    absent = request.header(b"if-none-match").strip() == "*"
    return Precondition(entity_tags(request.header(b"if-match")), absent)


def only_read(request: Request) -> Request:
    """The request itself, or 405 when it wants to write."""
    if request.method not in {"GET", "HEAD"}:
        raise not_allowed("GET, HEAD")
    return request


def not_allowed(allowed: str) -> Problem:
    """405 with what is allowed."""
    return Problem(
        405, "Method not allowed", f"use one of {allowed}", headers=(("allow", allowed),)
    )

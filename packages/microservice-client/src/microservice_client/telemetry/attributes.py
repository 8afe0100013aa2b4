"""What spans, metrics and log lines share: attribute values from bounded sets, and buckets."""

from __future__ import annotations

import re

__all__ = (
    "DURATION_BUCKETS",
    "escape_controls",
    "method_label",
    "outcome_attributes",
    "shorten_path",
)

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bucket boundaries in seconds, those of OpenTelemetry's HTTP conventions."""

_METHODS = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "QUERY"}
)
_MAX_PATH_LENGTH = 200
# C0 and C1, line and paragraph separators, and marks that change the direction of text.
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def method_label(method: str) -> str:
    """Return the method, or `_OTHER` for one that is no HTTP method: a caller may send any text."""
    return method if method in _METHODS else "_OTHER"


def outcome_attributes(outcome: int | Exception) -> dict[str, str | int]:
    """Return the attributes of an outcome: the status, or the error's type."""
    attributes: dict[str, str | int] = {}
    if isinstance(outcome, Exception):
        attributes["error.type"] = type(outcome).__name__
    else:
        attributes["http.response.status_code"] = outcome
        if outcome >= 400:
            attributes["error.type"] = str(outcome)
    return attributes


def escape_controls(text: str) -> str:
    """Escape what would end a log line or steer a terminal."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def shorten_path(path: str) -> str:
    """Cut a URL's path to 200 characters."""
    return path if len(path) <= _MAX_PATH_LENGTH else f"{path[:_MAX_PATH_LENGTH]}..."

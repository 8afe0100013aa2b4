"""A time limit as text, in the format of gRPC's `grpc-timeout` header.

At most eight digits and a unit: H hours, M minutes, S seconds, m milliseconds, u microseconds,
n nanoseconds. Source: gRPC over HTTP2, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re

from microservice_core import InvalidValueError

__all__ = ("HEADER", "format_timeout", "parse_timeout")

HEADER = "grpc-timeout"

_PER_SECOND = {"n": 1e9, "u": 1e6, "m": 1e3, "S": 1.0, "M": 1 / 60, "H": 1 / 3600}
_FORMAT = re.compile(r"(?P<digits>[0-9]{1,8})(?P<unit>[HMSmun])")
_MAX_NUMBER = 99_999_999


def format_timeout(seconds: float) -> str:
    """The text for `seconds`: rounded down, in the finest unit that fits, at least 0.

    Raises:
        InvalidValueError: `seconds` is not a number.
    """
    if seconds != seconds:  # noqa: PLR0124 - NaN
        raise InvalidValueError("seconds", seconds, "a number")
    remaining = max(0.0, seconds)
    for unit, per_second in _PER_SECOND.items():
        if remaining * per_second < _MAX_NUMBER + 1:
            return f"{int(remaining * per_second)}{unit}"
    return f"{_MAX_NUMBER}H"


def parse_timeout(text: str) -> float:
    """The seconds that `text` stands for.

    Raises:
        InvalidValueError: it does not have the format.
    """
    match = _FORMAT.fullmatch(text.strip())
    if match is None:
        raise InvalidValueError(HEADER, text[:40], "up to 8 digits and one of H M S m u n")
    return int(match["digits"]) / _PER_SECOND[match["unit"]]

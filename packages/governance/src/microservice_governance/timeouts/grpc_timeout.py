"""A time limit as text: the form of gRPC's `grpc-timeout` header.

At most eight digits and a unit: H hours, M minutes, S seconds, m milliseconds, u microseconds,
n nanoseconds. Source: gRPC over HTTP2, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re

from microservice_core import InvalidValueError

__all__ = ("HEADER", "format_timeout", "parse_timeout")

HEADER = "grpc-timeout"

_PER_SECOND = {"n": 1e9, "u": 1e6, "m": 1e3, "S": 1.0, "M": 1 / 60, "H": 1 / 3600}
_FORM = re.compile(r"(?P<digits>[0-9]{1,8})(?P<unit>[HMSmun])")
_MOST = 99_999_999


def format_timeout(seconds: float) -> str:
    """Seconds as text, rounded down, in the finest unit that has room; never below 0.

    Raises:
        InvalidValueError: `seconds` is not a number.
    """
    if seconds != seconds:  # noqa: PLR0124 - NaN
        raise InvalidValueError("seconds", seconds, "a number")
    left = max(0.0, seconds)
    for unit, per_second in _PER_SECOND.items():
        if left * per_second < _MOST + 1:
            return f"{int(left * per_second)}{unit}"
    return f"{_MOST}H"


def parse_timeout(text: str) -> float:
    """The seconds that the text means.

    Raises:
        InvalidValueError: it is not of that form.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InvalidValueError(HEADER, text[:40], "up to 8 digits and one of H M S m u n")
    return int(found["digits"]) / _PER_SECOND[found["unit"]]

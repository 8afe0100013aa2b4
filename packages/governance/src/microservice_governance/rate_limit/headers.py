"""Rate-limit fields of HTTP: writes `RateLimit-*` and `Retry-After`, reads `Retry-After`.

Sources: draft-ietf-httpapi-ratelimit-headers-07 for the `RateLimit` fields, RFC 9110 section
10.2.3 for `Retry-After`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import time

from microservice_core import parse_retry_after

from .config import Decision, LimitConfig

__all__ = ("rate_limit_headers", "retry_after_seconds")


def rate_limit_headers(decision: Decision, config: LimitConfig) -> dict[str, str]:
    """The header fields of a response: the limit, the units that are free, the time to the reset.

    Seconds are rounded up to whole ones, so that no client comes back too early. A refusal that
    can pass later has `Retry-After` as well.
    """
    headers = {
        "RateLimit-Policy": f"{config.rate};w={math.ceil(config.per_seconds)}",
        "RateLimit-Limit": str(config.capacity),
        "RateLimit-Remaining": str(decision.remaining),
        "RateLimit-Reset": str(math.ceil(decision.reset_after)),
    }
    if not decision.allowed and decision.retry_after >= 0:
        headers["Retry-After"] = str(max(1, math.ceil(decision.retry_after)))
    return headers


def retry_after_seconds(
    headers: Mapping[str, str], *, now: Callable[[], float] = time
) -> float | None:
    """The seconds that a response's `Retry-After` asks for; None if it is absent or unreadable.

    Args:
        headers: of the response; `Retry-After` is found in any case of its letters.
        now: seconds since the epoch, for a `Retry-After` that is a date.
    """
    value = headers.get("Retry-After")
    if value is None:
        value = next(
            (text for name, text in headers.items() if name.lower() == "retry-after"), None
        )
    return (
        None if value is None else parse_retry_after(value, now=datetime.fromtimestamp(now(), UTC))
    )

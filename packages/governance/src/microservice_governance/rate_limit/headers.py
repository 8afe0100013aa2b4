"""What HTTP says about limits: `RateLimit-*` and `Retry-After`, written and read.

Sources: draft-ietf-httpapi-ratelimit-headers-07 for the `RateLimit` fields, RFC 9110 section
10.2.3 for `Retry-After`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import time

from .config import Decision, LimitConfig

__all__ = ("rate_limit_headers", "retry_after_seconds")


def rate_limit_headers(decision: Decision, config: LimitConfig) -> dict[str, str]:
    """The header fields of a response: the quota, what is left of it, when it is whole again.

    Seconds are whole and rounded up, so that nobody comes back too early. A refusal that can pass
    later has `Retry-After` too.
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
    """Seconds that `Retry-After` asks for, a number or a date; None if there is nothing to read.

    Args:
        headers: of the response; looked up as `Retry-After`, or in any case of its letters.
        now: seconds since the epoch, to read a date by.
    """
    text = headers.get("Retry-After")
    if text is None:
        text = next((v for name, v in headers.items() if name.lower() == "retry-after"), None)
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    return _until(text, now())


def _until(text: str, now: float) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now, UTC)).total_seconds())

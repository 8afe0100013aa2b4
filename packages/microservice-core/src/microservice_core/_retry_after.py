"""`Retry-After`: how many seconds a server asks its client to wait."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ("parse_retry_after",)

_MAX_SECONDS = 31_536_000.0  # a year; more is as good as never, and a sum with it stays a float
_MAX_DIGITS = 9


def parse_retry_after(
    value: str | None, *, date: str | None = None, now: datetime | None = None
) -> float | None:
    """The seconds to wait, from 0 to a year; None when the field is absent or unreadable.

    Whatever a server sends, nothing is raised.

    Source: RFC 9110, section 10.2.3.

    Args:
        value: the field's value, a number of seconds or an HTTP date.
        date: the response's own `Date`; a date in `value` is relative to it, so that the clocks
            of the two machines need not agree.
        now: the present time, when there is no `date` to read; the system clock by default.
    """
    text = (value or "").strip()
    # isdigit alone accepts characters such as a superscript two, which float refuses.
    if text.isascii() and text.isdigit():
        return (
            _MAX_SECONDS if len(text.lstrip("0")) > _MAX_DIGITS else min(float(text), _MAX_SECONDS)
        )
    until = _parse_date(text)
    if until is None:
        return None
    since = _parse_date(date or "") or now or datetime.now(UTC)
    return min(max(0.0, (until - since).total_seconds()), _MAX_SECONDS)


def _parse_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        # An HTTP date is in GMT even if it does not say so. A date without a zone cannot be compared.
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

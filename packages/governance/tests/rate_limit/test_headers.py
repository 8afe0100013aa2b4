from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_governance import (
    Decision,
    LimitConfig,
    RateLimiter,
    rate_limit_headers,
    retry_after_seconds,
)


def test_a_response_says_what_is_left_and_when_to_come_back(clock: Any) -> None:
    config = LimitConfig(rate=2, per_seconds=10)
    limiter = RateLimiter(config, clock=clock)
    assert rate_limit_headers(limiter.try_acquire(), config) == {
        "RateLimit-Policy": "2;w=10",
        "RateLimit-Limit": "2",
        "RateLimit-Remaining": "1",
        "RateLimit-Reset": "5",
    }
    limiter.try_acquire()
    clock.advance(0.1)
    refused = rate_limit_headers(limiter.try_acquire(), config)
    assert (refused["RateLimit-Remaining"], refused["Retry-After"]) == ("0", "5")


def test_what_never_can_pass_is_not_told_to_come_back() -> None:
    headers = rate_limit_headers(Decision(False, 5, -1.0, 0.0), LimitConfig(rate=5))
    assert "Retry-After" not in headers


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"retry-after": " 7 "}, 7),
        ({"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:02:00 -0000"}, 20),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "٣"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers, now=lambda: 100.0) == seconds


@given(at=st.integers(0, 4_000_000_000), now=st.integers(0, 4_000_000_000))
def test_every_date_is_read(at: int, now: int) -> None:
    text = format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
    assert retry_after_seconds({"Retry-After": text}, now=lambda: now) == min(
        max(0, at - now), 31_536_000
    )


@given(text=st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    seconds = retry_after_seconds({"Retry-After": text})
    assert seconds is None or seconds >= 0

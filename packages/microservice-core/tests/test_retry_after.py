from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import parse_retry_after

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
YEAR = 31_536_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0000000000007", 7.0),
        ("9" * 5_000, YEAR),
        ("Mon, 30 Nov 2026 12:02:00 GMT", 120.0),
        ("Mon, 30 Nov 2026 12:02:00", 120.0),
        ("Mon, 30 Nov 2026 12:02:00 -0000", 120.0),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", YEAR),
    ],
)
def test_seconds_and_dates_are_read(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "-1",
        "1.5",
        "\N{SUPERSCRIPT TWO}",
        "\N{ARABIC-INDIC DIGIT FIVE}",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 99 Nov 2026 12:02:00 GMT",
    ],
)
def test_what_cannot_be_read_is_none(value: str | None) -> None:
    assert parse_retry_after(value, now=NOW) is None


def test_a_date_counts_from_the_date_of_the_response() -> None:
    value, date = "Mon, 30 Nov 2020 12:02:00 GMT", "Mon, 30 Nov 2020 12:00:00 GMT"
    assert parse_retry_after(value, date=date, now=NOW) == 120.0
    assert parse_retry_after(value, date="yesterday", now=NOW) == 0.0


@given(seconds=st.integers(0, 10_000_000))
def test_a_written_date_is_read_back(seconds: int) -> None:
    value = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(value, now=NOW) == seconds


@given(value=st.text(max_size=60), date=st.none() | st.text(max_size=60))
def test_nothing_a_server_sends_raises(value: str, date: str | None) -> None:
    seconds = parse_retry_after(value, date=date)
    assert seconds is None or 0 <= seconds <= YEAR

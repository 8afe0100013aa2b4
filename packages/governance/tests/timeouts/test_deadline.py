import asyncio
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import microservice_governance
from microservice_core import InvalidValueError, MicroserviceError
from microservice_governance import (
    CircuitOpenError,
    DeadlineExceededError,
    IllegalTransitionError,
    deadline,
)
from microservice_governance.timeouts.grpc_timeout import format_timeout, parse_timeout


def test_the_earlier_of_two_deadlines_holds(clock: Any) -> None:
    assert deadline.remaining(clock) is None
    with deadline(5, clock=clock):
        clock.advance(1)
        with deadline(10, clock=clock):
            assert deadline.remaining(clock) == 4
        with deadline(2, clock=clock):
            assert deadline.remaining(clock) == 2
            assert deadline.current() == clock() + 2
        assert deadline.remaining(clock) == 4
    assert deadline.current() is None


def test_check_refuses_what_begins_too_late(clock: Any) -> None:
    deadline.check(clock)
    with deadline(1, clock=clock):
        deadline.check(clock)
        clock.advance(1)
        with pytest.raises(DeadlineExceededError, match="the deadline has passed"):
            deadline.check(clock)
        assert deadline.remaining(clock) == 0
    assert issubclass(DeadlineExceededError, TimeoutError)


def test_one_object_may_be_entered_again(clock: Any) -> None:
    limit = deadline(3, clock=clock)
    with limit:
        clock.advance(1)
        with limit:
            assert deadline.remaining(clock) == 2
    clock.advance(10)
    with limit:
        assert deadline.remaining(clock) == 3


async def test_a_task_inherits_the_deadline_and_cannot_change_its_parents(clock: Any) -> None:
    async def child() -> float | None:
        inherited = deadline.remaining(clock)
        with deadline(1, clock=clock):
            await asyncio.sleep(0)
        return inherited

    with deadline(5, clock=clock):
        assert list(await asyncio.gather(child(), child())) == [5, 5]
        assert deadline.remaining(clock) == 5


@pytest.mark.parametrize(
    "error", [CircuitOpenError("a", "open", 1.5), IllegalTransitionError("a", "closed", "open")]
)
def test_errors_survive_pickling(error: MicroserviceError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_exports_are_what_the_list_says() -> None:
    assert sorted(microservice_governance.__all__) == list(microservice_governance.__all__)
    assert all(hasattr(microservice_governance, n) for n in microservice_governance.__all__)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0n"),
        (-3, "0n"),
        (1.5e-9, "1n"),
        (0.05, "50000000n"),
        (0.25, "250000u"),
        (10, "10000000u"),
        (1000, "1000000m"),
        (100_000, "100000S"),
        (1e8, "1666666M"),
        (1e300, "99999999H"),
    ],
)
def test_time_left_is_sent_in_the_form_of_grpc_timeout(
    clock: Any, seconds: float, text: str
) -> None:
    assert format_timeout(seconds) == text
    assert deadline.headers(clock) == {}
    if 0 <= seconds <= 1e8:
        clock.now = 0.0  # large numbers lose what is added to them
        with deadline(seconds, clock=clock):
            assert deadline.headers(clock) == {"grpc-timeout": text}


@given(seconds=st.floats(0, 1e11))
def test_what_is_sent_is_never_more_than_is_left_and_hardly_less(seconds: float) -> None:
    text = format_timeout(seconds)
    assert len(text) <= 9
    assert seconds * (1 - 2e-5) - 1e-9 <= parse_timeout(text) <= seconds * (1 + 1e-12)


@given(digits=st.integers(0, 99_999_999), unit=st.sampled_from("HMSmun"))
def test_every_valid_text_is_read(digits: int, unit: str) -> None:
    scale = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}
    assert parse_timeout(f"{digits}{unit}") == pytest.approx(digits * scale[unit])


@given(text=st.text(max_size=20))
def test_no_other_text_is_read(text: str) -> None:
    if re.fullmatch(r"[0-9]{1,8}[HMSmun]", text.strip()):
        return
    with pytest.raises(InvalidValueError, match="grpc-timeout must be"):
        parse_timeout(text)


def test_a_caller_gives_its_deadline_and_never_more_than_allowed(clock: Any) -> None:
    headers = {"Grpc-Timeout": "1500m", "Accept": "*/*"}
    with deadline.from_headers(headers, clock=clock):
        assert deadline.remaining(clock) == 1.5
    with deadline.from_headers({"grpc-timeout": "9S"}, max_seconds=4, clock=clock):
        assert deadline.remaining(clock) == 4
    with deadline.from_headers({}, max_seconds=4, clock=clock):
        assert deadline.remaining(clock) == 4
    with deadline.from_headers({}, clock=clock):
        assert deadline.remaining(clock) is None
    with pytest.raises(InvalidValueError):
        deadline.from_headers({"grpc-timeout": "soon"})
    with pytest.raises(InvalidValueError):
        format_timeout(float("nan"))
